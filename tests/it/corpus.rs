//! The corpus: is it what the peer does? Over a thousand cases as data, with runners that judge any bake tool; and
//! `beyond`, what only we do.
//!
//! `tests/corpus/failing/NAME.txt` lists the cases that do not pass yet. A case that fails and is not listed fails the
//! test, and so does a listed one that passes: the lists only shrink. `BAKE_UPDATE=1` takes away what passes. Cases that the
//! machine cannot run are counted apart; in CI none may lack a program that `.ci/run` installs.
#![expect(clippy::print_stderr, reason = "a case that is left out is told")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::support::skipped;

pub(crate) fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")
}

/// The verdict of a runner on a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Passed,
    Failed,
    /// It was not run; `lacks` is a program that it needs.
    Skipped {
        why: String,
        lacks: Option<String>,
    },
}

/// The verdicts of a runner on its cases, by name.
fn judge(runner: &str, cases: &str) -> Vec<(String, Verdict)> {
    judge_with(Command::new("python3"), runner, cases, env!("CARGO_BIN_EXE_bake"), &["-j", "2"])
}

/// The verdicts of a runner that `python` runs, on its cases; `bake` is a command as the runners take it.
pub(crate) fn judge_with(
    mut python: Command,
    runner: &str,
    cases: &str,
    bake: &str,
    options: &[&str],
) -> Vec<(String, Verdict)> {
    let report = tempfile::NamedTempFile::new().expect("a temporary file can be made");
    let output = python
        .arg(corpus().join(runner))
        .args(["--bake", bake])
        .args(options)
        .arg("--cases")
        .arg(corpus().join(cases))
        .arg("--json")
        .arg(report.path())
        .output()
        .expect("these tests need python3");
    let text = fs::read_to_string(report.path()).unwrap_or_default();
    let json: Value = serde_json::from_str(&text)
        .unwrap_or_else(|e| panic!("{runner} wrote no report: {e}\n{}", String::from_utf8_lossy(&output.stderr)));
    rows(&json)
}

/// The cases of a report; each runner writes its own shape.
fn rows(json: &Value) -> Vec<(String, Verdict)> {
    let list = json.get("cases").unwrap_or(json);
    let row = |name: String, row: &Value| {
        let found = ["passed", "ok", "result", "status"].iter().find_map(|key| row.get(*key));
        let text = |key: &str| row.get(key).and_then(Value::as_str).map(str::to_owned);
        let verdict = match found {
            Some(Value::Bool(true)) => Verdict::Passed,
            Some(Value::Bool(false)) => Verdict::Failed,
            Some(Value::String(it)) => match it.as_str() {
                "pass" | "passed" | "ok" | "beyond" => Verdict::Passed,
                "skip" | "skipped" => {
                    Verdict::Skipped { why: text("why").or(text("message")).unwrap_or_default(), lacks: text("lacks") }
                }
                _ => Verdict::Failed,
            },
            _ => panic!("no verdict for {name}: {row}"),
        };
        (name, verdict)
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

/// The names of what failed, and how many cases ran. Those that did not are told, and must not lack what can be installed.
pub(crate) fn failing(verdicts: &[(String, Verdict)]) -> (BTreeSet<String>, usize) {
    let mut n_run = 0;
    let mut failed = BTreeSet::new();
    for (name, verdict) in verdicts {
        n_run += usize::from(!matches!(verdict, Verdict::Skipped { .. }));
        match verdict {
            Verdict::Passed => (),
            Verdict::Failed => drop(failed.insert(name.clone())),
            Verdict::Skipped { why, lacks } => skipped(&format!("{name}: {why}"), lacks.as_deref()),
        }
    }
    if n_run < verdicts.len() {
        eprintln!("{} of {} cases were skipped", verdicts.len() - n_run, verdicts.len());
    }
    (failed, n_run)
}

/// Compares what fails with what is known to fail.
fn hold_the_line(runner: &str, cases: &str) {
    let verdicts = judge(runner, cases);
    let (failing, n_run) = failing(&verdicts);
    assert!(n_run > 100, "only {n_run} cases ran");
    let path = corpus().join(format!("failing/{cases}.txt"));
    let listed: BTreeSet<String> =
        fs::read_to_string(&path).unwrap_or_default().lines().filter(|it| !it.is_empty()).map(str::to_owned).collect();
    let worse: Vec<_> = failing.difference(&listed).collect();
    // Whether a case that was skipped would pass is not known.
    let passed = |name: &String| verdicts.iter().any(|(it, verdict)| it == name && *verdict == Verdict::Passed);
    let is_gone = |name: &String| verdicts.iter().all(|(it, _)| it != name);
    let better: Vec<_> = listed.iter().filter(|name| passed(name) || is_gone(name)).collect();
    if std::env::var_os("BAKE_UPDATE").is_some() {
        let keep: Vec<_> = listed.iter().filter(|name| !better.contains(name)).cloned().collect();
        let keep = if listed.is_empty() { failing.iter().cloned().collect() } else { keep };
        fs::create_dir_all(path.parent().expect("a folder")).expect("folders can be made");
        fs::write(&path, keep.join("\n") + "\n").expect("the list can be written");
        return;
    }
    assert!(worse.is_empty(), "{} of {n_run} {cases} cases fail that passed: {worse:#?}", worse.len());
    assert!(better.is_empty(), "these {cases} cases pass now; take them off {}: {better:#?}", path.display());
}

#[test]
fn skipped_cases_count_neither_as_passed_nor_as_failed() {
    let report = serde_json::json!({
        "a": {"status": "pass"}, "b": {"status": "fail"}, "c": {"status": "skip", "message": "needs rootful"},
    });
    let verdicts = rows(&report);
    assert_eq!(verdicts[2].1, Verdict::Skipped { why: "needs rootful".to_owned(), lacks: None });
    assert_eq!(failing(&verdicts), (BTreeSet::from(["b".to_owned()]), 2));
}

#[test]
fn bake_language_cases_hold() {
    hold_the_line("run_bake.py", "bake");
}

/// What the peer does not have. The cases are ours, so all of them pass.
#[test]
fn cases_beyond_the_peer_hold() {
    let (failing, n_run) = failing(&judge("run_bake.py", "beyond"));
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
