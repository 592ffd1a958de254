//! Holds `docs/compared.md`, which compares us with the peer: it has a row for every attribute, flag and option that we know,
//! and for no other but those of the peer that we refuse. Only tests read it; names that are missing are added when
//! `BAKE_UPDATE=1`, what the rows say is written by hand.

use std::{collections::BTreeMap, fmt::Write as _, path::Path};

use clap::CommandFactory as _;

use super::{
    args::{Bake, WithCommand},
    plugin_args::Buildx,
};
use crate::{
    definition::attribute::{CACHE, FUNCTION, GROUP, INCLUDE, TARGET, VALIDATION, VARIABLE},
    spec::{
        CacheExport, CacheImport, Output,
        attest::{self, AttestKind},
        cache, entitlement, output, policy, resources, secret,
    },
};

const FILE: &str = "docs/compared.md";
/// The words that a row begins with.
const VERDICTS: [&str; 7] = ["same: ", "same for ", "same within ", "better: ", "ours: ", "no effect: ", "refused: "];

/// The names of one section, each with what it belongs to (empty if that goes without saying).
struct CompareSection {
    title: &'static str,
    names: BTreeMap<String, String>,
}

fn sections() -> Vec<CompareSection> {
    let plain = |title, names: Vec<String>| CompareSection {
        title,
        names: names.into_iter().map(|name| (name, String::new())).collect(),
    };
    let rows =
        |block: &str, rows: &[(&str, &str)]| rows.iter().map(|(name, _)| format!("{block}.{name}")).collect::<Vec<_>>();
    let blocks = [
        rows("group", &GROUP),
        rows("variable", &VARIABLE),
        rows("validation", &VALIDATION),
        rows("function", &FUNCTION),
        rows("include", &INCLUDE),
        rows("cache", &CACHE),
    ];
    let with_kind = |kind: &str, names: &[&str]| names.iter().map(|name| format!("{kind}.{name}")).collect::<Vec<_>>();
    let small = [
        with_kind("secret", &secret::KEYS),
        with_kind("ssh", &["id", "paths"]),
        with_kind("policy", &policy::KEYS),
        with_kind("resources", &resources::KEYS),
        with_kind("allow", &entitlement::GRANTS),
    ];
    vec![
        plain("Attributes of a target", TARGET.iter().map(|row| row.name.to_owned()).collect()),
        plain("Attributes of other blocks", blocks.concat()),
        outputs(),
        of_types("Options of `cache-from`", cache::TYPES, CacheImport::options),
        of_types("Options of `cache-to`", cache::TYPES, CacheExport::options),
        of_types("Options of `attest`", attest::TYPES, AttestKind::options),
        plain("Options of secrets, keys, policies, limits and grants", small.concat()),
        plain("Flags of `bake` and `docker buildx bake`", flags(&Bake::command())),
        plain("Flags of `bake build` and `docker buildx build`", flags(&subcommand(WithCommand::command(), "build"))),
        plain("Other commands of `docker buildx`", commands(&Buildx::command(), "")),
        plain("Variables of the environment, and build arguments with a meaning", variables()),
    ]
}

/// Options with the types that have them.
fn of_types(title: &'static str, types: &[&str], options: impl Fn(&str) -> Vec<&'static str>) -> CompareSection {
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    for kind in types {
        for option in options(kind) {
            let of = names.entry(option.to_owned()).or_default();
            let comma = if of.is_empty() { "" } else { ", " };
            write!(of, "{comma}{kind}").expect("a string takes all");
        }
    }
    CompareSection { title, names }
}

/// Those whose names hold a key of the user's are found by what they begin with, and not listed.
fn outputs() -> CompareSection {
    let mut section = of_types("Options of `output`", output::TYPES, Output::options);
    section.names.insert("annotation[-TYPE][[PLATFORM]].KEY".to_owned(), "image, registry, oci, docker".to_owned());
    section
}

fn subcommand(command: clap::Command, name: &str) -> clap::Command {
    command.find_subcommand(name).cloned().unwrap_or_else(|| panic!("no command: {name}"))
}

fn flags(command: &clap::Command) -> Vec<String> {
    let long = command.get_arguments().filter_map(clap::Arg::get_long_and_visible_aliases).flatten();
    long.filter(|flag| !matches!(*flag, "help" | "version")).map(|flag| format!("--{flag}")).collect()
}

/// The commands, with their flags, but for those that have a section of their own.
fn commands(command: &clap::Command, before: &str) -> Vec<String> {
    let mut all: Vec<String> = flags(command).into_iter().map(|flag| format!("{before}{flag}")).collect();
    for inner in command.get_subcommands().filter(|it| !matches!(it.get_name(), "bake" | "build" | "help")) {
        let name = format!("{before}{}", inner.get_name());
        all.push(name.clone());
        all.extend(commands(inner, &format!("{name} ")));
    }
    all
}

/// The names of variables of the peer and of ours that stand as texts in the source.
fn variables() -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("the folder is there").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if !path.ends_with("tests.rs") {
                let text = std::fs::read_to_string(&path).expect("sources are text");
                let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
                found.extend(variables_of(text));
            }
        }
    }
    found
}

fn variables_of(text: &str) -> Vec<String> {
    const PREFIXES: [&str; 7] =
        ["BAKE_", "BUILDX_", "BUILDKIT_", "EXPERIMENTAL_BUILDKIT_", "DOCKER_", "SOURCE_DATE_", "CONTAINERS_"];
    let is_part = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    // These steer tests.
    let is_ours_alone = |word: &str| word.starts_with("BAKE_TEST_") || word == "BAKE_UPDATE";
    let quoted = text.split('"').filter(|word| word.chars().all(is_part) && !is_ours_alone(word));
    quoted
        .filter(|word| PREFIXES.iter().any(|prefix| word.starts_with(prefix) && word.len() > prefix.len()))
        .map(str::to_owned)
        .collect()
}

/// A row of the file: what the option belongs to, and what is said of it.
type CompareRow = (String, String);

/// The text before the first section, and the rows by section and name.
fn read(text: &str) -> (String, BTreeMap<(String, String), CompareRow>) {
    let (head, rest) = text.split_once("\n## ").unwrap_or((text, ""));
    let mut rows = BTreeMap::new();
    for section in rest.split("\n## ") {
        let (title, body) = section.split_once('\n').unwrap_or((section, ""));
        for line in body.lines().filter(|line| line.starts_with("| `")) {
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
            let name = cells[0].trim_matches('`').to_owned();
            let (of, says) = match cells.as_slice() {
                [_, of, says] => (*of, *says),
                [_, says] => ("", *says),
                _ => panic!("a row has two or three cells: {line}"),
            };
            rows.insert((title.to_owned(), name), (of.to_owned(), says.trim_end_matches('|').trim().to_owned()));
        }
    }
    (head.to_owned(), rows)
}

/// The file as it must be: every name has a row; one that is not ours stays only if we refuse it.
fn made(text: &str) -> String {
    let (head, rows) = read(text);
    let mut out = head.trim_end().to_owned() + "\n";
    for CompareSection { title, names } in sections() {
        let has_types = names.values().any(|of| !of.is_empty());
        let columns = if has_types { "| Name | Of | Here |\n|---|---|---|\n" } else { "| Name | Here |\n|---|---|\n" };
        write!(out, "\n## {title}\n\n{columns}").expect("a string takes all");
        let mut all: BTreeMap<&str, (&str, &str)> = BTreeMap::new();
        for (name, of) in &names {
            let says = rows.get(&(title.to_owned(), name.clone())).map_or("", |(_, says)| says.as_str());
            all.insert(name, (of, says));
        }
        for ((section, name), (of, says)) in &rows {
            if section == title && !names.contains_key(name) && says.starts_with("refused: ") {
                all.insert(name, (of, says));
            }
        }
        for (name, (of, says)) in all {
            match has_types {
                true => writeln!(out, "| `{name}` | {of} | {says} |"),
                false => writeln!(out, "| `{name}` | {says} |"),
            }
            .expect("a string takes all");
        }
    }
    out
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test is steered by the environment")]
fn every_attribute_flag_and_option_is_compared_with_the_peer() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    let made = made(&found);
    if std::env::var_os("BAKE_UPDATE").is_some() {
        std::fs::write(&path, &made).expect("the file can be written");
    }
    let open: Vec<String> = read(&made)
        .1
        .into_iter()
        .filter(|(_, (_, says))| says != "same" && !VERDICTS.iter().any(|verdict| says.starts_with(verdict)))
        .map(|((section, name), (_, says))| format!("{section}: {name}: {says}"))
        .collect();
    assert!(open.is_empty(), "{FILE} does not say what these are (same, {}): {open:#?}", VERDICTS.join(", "));
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == made, "{FILE} lacks rows or has too many; run `BAKE_UPDATE=1 cargo test compared`");
}
