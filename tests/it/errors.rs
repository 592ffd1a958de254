//! `docs/errors.md`: every code that a diagnostic can have, and no other. The words there are written by hand;
//! `BAKE_UPDATE=1` adds empty rows for new codes, which the test then wants filled in, and takes away dead ones.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

/// Sections of the list, in the order in which a run meets them.
const SECTIONS: &[(&str, &str)] = &[
    ("definition", "Finding, reading and parsing bake files"),
    ("compose", "Compose files"),
    ("eval", "Variables, functions, targets, groups, `--set`"),
    ("plan", "The plan of builds and exports"),
    ("affected", "Comparing with a revision: `bake affected`"),
    ("cli", "The command line and the environment"),
    ("builder", "Builders: `--builder`, `bake builders`"),
    ("fleet", "Builds on a builder: `--builder`"),
    ("dockerfile", "Dockerfiles"),
    ("check", "Checks of Dockerfiles (`bake --check`)"),
    ("engine", "Contexts, base images, caches"),
    ("dispatch", "The run as a whole"),
    ("sandbox", "Namespaces"),
    ("solve", "Steps of a build"),
    ("export", "Outputs"),
    ("release", "Releases"),
    ("store", "What is kept between runs"),
];

/// What a code means, and an example of its message.
type Row = (String, String);

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All codes in `src/`, without those of tests.
fn codes() -> BTreeSet<String> {
    fn walk(folder: &Path, codes: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).expect("the sources are there") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                walk(&path, codes);
            } else if path.extension().is_some_and(|it| it == "rs") && !path.to_string_lossy().ends_with("tests.rs") {
                let text = fs::read_to_string(&path).expect("sources are text");
                // Tests stand at the end of a file.
                let end = text.rfind("#[cfg(test)]\n").filter(|at| text[*at..].contains("mod tests {"));
                let text = &text[..end.unwrap_or(text.len())];
                codes.extend(
                    text.split("\"bake::").skip(1).filter_map(|rest| rest.split_once('"')).map(|it| it.0.to_owned()),
                );
            }
        }
    }
    let mut codes = BTreeSet::new();
    walk(&root().join("src"), &mut codes);
    // Prefixes of codes are compared with, not given.
    codes.retain(|it| !it.ends_with("::"));
    codes
}

/// The rows of the list by code.
fn listed(text: &str) -> BTreeMap<String, Row> {
    let row = |line: &str| {
        let cells = line.strip_prefix("| `bake::")?.strip_suffix(" |")?.replace("\\|", "\u{0}");
        let mut cells = cells.split(" | ").map(|it| it.trim().replace('\u{0}', "\\|"));
        let code = cells.next()?.trim_end_matches('`').to_owned();
        Some((code, (cells.next()?, cells.next()?)))
    };
    text.lines().filter_map(row).collect()
}

fn rendered(rows: &BTreeMap<String, Row>) -> String {
    let mut text = "# Errors and warnings\n\nEvery diagnostic has a code. What it means, and an example of its message; the message of a run names \
                    the place, and most say what to type instead.\n"
        .to_owned();
    for (section, title) in SECTIONS {
        write!(text, "\n## {title}\n\n| Code | Meaning | Example |\n|---|---|---|\n").expect("a string takes all");
        for (code, (meaning, example)) in rows.iter().filter(|(code, _)| code.split("::").next() == Some(section)) {
            writeln!(text, "| `bake::{code}` | {meaning} | {example} |").expect("a string takes all");
        }
    }
    text
}

#[test]
fn the_list_of_errors_has_every_code_and_no_other() {
    let path = root().join("docs/errors.md");
    let codes = codes();
    let mut text = fs::read_to_string(&path).unwrap_or_default();
    if std::env::var_os("BAKE_UPDATE").is_some() {
        let old = listed(&text);
        let rows = codes.iter().map(|it| (it.clone(), old.get(it).cloned().unwrap_or_default())).collect();
        text = rendered(&rows);
        fs::write(&path, &text).expect("the list can be written");
    }
    let rows = listed(&text);
    let known: BTreeSet<String> = rows.keys().cloned().collect();
    let again = "run this test with BAKE_UPDATE=1 and fill in the words";
    let missing: Vec<&String> = codes.difference(&known).collect();
    assert!(missing.is_empty(), "not in docs/errors.md: {missing:?}; {again}");
    let dead: Vec<&String> = known.difference(&codes).collect();
    assert!(dead.is_empty(), "in docs/errors.md, but in no source: {dead:?}; {again}");
    let empty = |(_, (meaning, example)): &(&String, &Row)| meaning.is_empty() || example.is_empty();
    let empty: Vec<&String> = rows.iter().filter(empty).map(|(code, _)| code).collect();
    assert!(empty.is_empty(), "without words in docs/errors.md: {empty:?}");
    assert!(rendered(&rows) == text, "docs/errors.md is not in order; {again}");
}
