//! The corpus: is it what the peer does? Over a thousand cases as data, with runners that judge any bake tool; and
//! `beyond`, what only we do.
//!
//! `tests/corpus/failing/NAME.txt` lists the cases that do not pass yet. A case that fails and is not listed fails the
//! test, and so does a listed one that passes: the lists only shrink. `BAKE_UPDATE=1` takes away what passes.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")
}

/// Names of the cases that a runner found failing, and how many it ran.
fn judge(runner: &str, cases: &str) -> (BTreeSet<String>, usize) {
    let report = tempfile::NamedTempFile::new().expect("a temporary file can be made");
    let output = Command::new("python3")
        .arg(corpus().join(runner))
        .args(["--bake", env!("CARGO_BIN_EXE_bake"), "-j", "2", "--cases"])
        .arg(corpus().join(cases))
        .arg("--json")
        .arg(report.path())
        .output()
        .expect("these tests need python3");
    let text = fs::read_to_string(report.path()).unwrap_or_default();
    let json: Value = serde_json::from_str(&text)
        .unwrap_or_else(|e| panic!("{runner} wrote no report: {e}\n{}", String::from_utf8_lossy(&output.stderr)));
    let rows = rows(&json);
    let failing = rows.iter().filter(|(_, passed)| !passed).map(|(name, _)| name.clone()).collect();
    (failing, rows.len())
}

/// `(case, passed)` of a report; each runner writes its own shape.
fn rows(json: &Value) -> Vec<(String, bool)> {
    let list = json.get("cases").unwrap_or(json);
    let row = |name: String, row: &Value| {
        let passed = ["passed", "ok", "result", "status"].iter().find_map(|key| row.get(*key)).map(|it| {
            it.as_bool().unwrap_or_else(|| {
                matches!(it.as_str(), Some("pass" | "passed" | "ok" | "skip" | "skipped" | "beyond"))
            })
        });
        (name.clone(), passed.unwrap_or_else(|| panic!("no verdict for {name}: {row}")))
    };
    match list {
        Value::Array(rows) => rows
            .iter()
            .map(|it| {
                row(["name", "case"].iter().find_map(|key| it.get(*key)?.as_str()).expect("a name").to_owned(), it)
            })
            .collect(),
        Value::Object(rows) => rows.iter().map(|(name, it)| row(name.clone(), it)).collect(),
        other => panic!("not a report: {other}"),
    }
}

/// Compares what fails with what is known to fail.
fn hold_the_line(runner: &str, cases: &str) {
    let (failing, n_run) = judge(runner, cases);
    assert!(n_run > 100, "only {n_run} cases ran");
    let path = corpus().join(format!("failing/{cases}.txt"));
    let listed: BTreeSet<String> =
        fs::read_to_string(&path).unwrap_or_default().lines().filter(|it| !it.is_empty()).map(str::to_owned).collect();
    let worse: Vec<_> = failing.difference(&listed).collect();
    let better: Vec<_> = listed.difference(&failing).collect();
    if std::env::var_os("BAKE_UPDATE").is_some() {
        let keep: Vec<_> = failing.iter().filter(|it| listed.contains(*it) || listed.is_empty()).cloned().collect();
        fs::create_dir_all(path.parent().expect("a folder")).expect("folders can be made");
        fs::write(&path, keep.join("\n") + "\n").expect("the list can be written");
        return;
    }
    assert!(worse.is_empty(), "{} of {n_run} {cases} cases fail that passed: {worse:#?}", worse.len());
    assert!(better.is_empty(), "these {cases} cases pass now; take them off {}: {better:#?}", path.display());
}

#[test]
fn bake_language_cases_hold() {
    hold_the_line("run_bake.py", "bake");
}

/// What the peer does not have. The cases are ours, so all of them pass.
#[test]
fn cases_beyond_the_peer_hold() {
    let (failing, n_run) = judge("run_bake.py", "beyond");
    assert!(n_run > 50, "only {n_run} cases ran");
    assert!(failing.is_empty(), "{failing:#?}");
}

#[test]
fn build_cases_hold() {
    hold_the_line("run_build.py", "build");
}

#[test]
fn export_cases_hold() {
    hold_the_line("run_export.py", "export");
}
