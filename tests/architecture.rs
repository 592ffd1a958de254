//! The module map of `src/`, as a test.
//!
//! Order matters: a module may use only modules listed above it, so a cycle
//! cannot be written down. To add an edge, edit the table and say why in the
//! commit; to add a module, add a row.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// (module, pure, modules it may use)
const MAP: &[(&str, bool, &[&str])] = &[
    ("oci", true, &[]),
    ("report", true, &["oci"]),
    ("spec", true, &["oci", "report"]),
    ("fetch", false, &["oci"]),
    ("definition", false, &["report", "spec", "fetch"]),
    ("eval", true, &["oci", "report", "spec", "definition"]),
    ("plan", true, &["oci", "report", "spec", "eval"]),
    ("graph", true, &["oci", "report"]),
    ("dockerfile", true, &["oci", "report", "spec", "graph"]),
    ("layer", false, &["oci"]),
    ("registry", false, &["oci"]),
    ("sandbox", false, &["oci"]),
    ("store", false, &["oci"]),
    ("solve", false, &["oci", "report", "spec", "graph", "fetch", "layer", "registry", "sandbox", "store"]),
    ("export", false, &["oci", "report", "spec", "layer", "registry", "store"]),
    (
        "engine",
        false,
        &[
            "oci",
            "report",
            "spec",
            "graph",
            "dockerfile",
            "plan",
            "fetch",
            "layer",
            "registry",
            "store",
            "solve",
            "export",
        ],
    ),
    ("dispatch", false, &["oci", "report", "spec", "plan", "engine"]),
    ("ui", false, &["oci", "report"]),
    (
        "cli",
        false,
        &[
            "oci",
            "report",
            "spec",
            "definition",
            "eval",
            "plan",
            "dockerfile",
            "sandbox",
            "registry",
            "store",
            "engine",
            "dispatch",
            "ui",
        ],
    ),
];

/// Finer rules: (folder, modules it must not use although its parent may).
const NOT: &[(&str, &[&str])] = &[("engine/buildkit", &["graph", "dockerfile", "solve", "layer", "store"])];

/// What a pure module must not name.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::env",
    "std::net",
    "std::process",
    "std::thread",
    "tokio",
    "reqwest",
    "Instant::now",
    "SystemTime::now",
];

#[test]
fn modules_use_only_what_the_map_allows() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut faults = Vec::new();
    for (i, (module, _, uses)) in MAP.iter().enumerate() {
        for used in *uses {
            if !MAP[..i].iter().any(|(above, ..)| above == used) {
                faults.push(format!("map: `{module}` lists `{used}`, which is not above it"));
            }
        }
    }
    for file in rust_files(&src) {
        let rel = file.strip_prefix(&src).unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&file).unwrap();
        if !text.starts_with("//!") {
            faults.push(format!("{rel}: say in a `//!` comment what this file is for"));
        }
        let module = rel.split(['/', '.']).next().unwrap();
        if module == "lib" || module == "main" {
            continue;
        }
        let Some((_, pure, uses)) = MAP.iter().find(|(name, ..)| *name == module) else {
            faults.push(format!("{rel}: module `{module}` has no row in the map"));
            continue;
        };
        let code = without_comments(&text);
        for (line, used) in crate_uses(&code) {
            let own = used == module;
            let banned = NOT.iter().any(|(dir, not)| rel.starts_with(dir) && not.contains(&used.as_str()));
            if !own && (banned || !uses.contains(&used.as_str())) {
                faults.push(format!("{rel}:{line}: `{module}` must not use `{used}`"));
            }
        }
        if code.contains("super::super") {
            faults.push(format!("{rel}: write `crate::`, not `super::super::`"));
        }
        for word in IMPURE.iter().filter(|word| *pure && code.contains(**word)) {
            faults.push(format!("{rel}: `{module}` is pure, but names `{word}`"));
        }
    }
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

/// Every `crate::x` and every member of `crate::{a::.., b}`, with its line.
fn crate_uses(code: &str) -> BTreeSet<(usize, String)> {
    let mut found = BTreeSet::new();
    for (at, key) in code.match_indices("crate::") {
        let line = 1 + code[..at].matches('\n').count();
        let rest = &code[at + key.len()..];
        let Some(group) = rest.strip_prefix('{') else {
            found.extend(name(rest).map(|it| (line, it)));
            continue;
        };
        let (mut depth, mut start) = (1, true);
        for (i, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => start = true,
                c if start && !c.is_whitespace() => {
                    found.extend(name(&group[i..]).map(|it| (line, it)));
                    start = false;
                }
                _ => (),
            }
            if depth == 0 {
                break;
            }
        }
    }
    found
}

/// The module name at the start of a path; `None` for an item of the root.
fn name(path: &str) -> Option<String> {
    let end = path.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(path.len());
    path[end..]
        .starts_with("::")
        .then(|| path[..end].to_owned())
        .or_else(|| MAP.iter().any(|(it, ..)| *it == &path[..end]).then(|| path[..end].to_owned()))
}

fn without_comments(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}
