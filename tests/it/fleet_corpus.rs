//! The corpus through a builder: what a daemon makes for us is what the embedded engine makes, case for case.
//!
//! The answers are those that `corpus` judges the embedded engine by. The daemon is a BuildKit of its own age: what it answers
//! by itself, whoever asks, is listed here with the reason. The lists only shrink, as those of `corpus` do. Of these cases the
//! peer's own client gets the same from this daemon.

use std::{collections::BTreeSet, fs, process::Command};

use crate::{
    corpus::{Verdict, corpus, failing, judge_with},
    dockerd::{Dockerd, ImageStore},
};

const EXCLUDE: &str = "its frontend has `--exclude` in the labs channel alone";
const PARENTS: &str = "its frontend has `--parents` in the labs channel alone";
const UNPACK: &str = "its frontend does not know `ADD --unpack`";
const SAME_LINE: &str = "its frontend does not see arguments of the same instruction";
const TARGET_STAGE: &str = "its frontend sets no TARGETSTAGE";
const GIT_QUERY: &str = "its frontend reads no queries of git addresses";
const BASE_TIMES: &str = "its `rewrite-timestamp` writes the layers of the base again";
const OLD_PROVENANCE: &str = "it writes provenance of SLSA 0.2 alone";
const NO_ARTIFACT: &str = "its attestations have no artifact type";
const BASE_TIME: &str = "an image that nothing runs in keeps the time of its base, whatever SOURCE_DATE_EPOCH says";
const TRAVELS: &str = "files whose times have no fraction travel and are written again";

/// Build cases.
const BUILDS: &[(&str, &str)] = &[
    ("add-exclude", EXCLUDE),
    ("add-http-tar-unpack", UNPACK),
    ("add-tar-unpack-false", UNPACK),
    ("args-arg-same-line", SAME_LINE),
    ("args-in-copy-flags", "its frontend takes no variables in `--chmod`"),
    ("args-in-expose", "its frontend reads ranges of ports before variables"),
    ("args-multi-on-line", SAME_LINE),
    ("args-targetstage", TARGET_STAGE),
    ("args-targetstage-default", TARGET_STAGE),
    ("cache-copy-excluded-file", EXCLUDE),
    ("copy-chmod-octal", "its `COPY --chmod` leaves folders as they are"),
    ("copy-chmod-symbolic", "its frontend takes numbers alone in `--chmod`"),
    ("copy-exclude", EXCLUDE),
    ("copy-exclude-dir", EXCLUDE),
    ("copy-exclude-doublestar", EXCLUDE),
    ("copy-exclude-from-stage", EXCLUDE),
    ("copy-exclude-many", EXCLUDE),
    ("copy-exclude-parents", PARENTS),
    ("copy-exclude-wildcard-source", EXCLUDE),
    ("copy-parents", PARENTS),
    ("copy-parents-from-stage", PARENTS),
    ("copy-parents-mode", PARENTS),
    ("copy-parents-pivot", PARENTS),
    ("copy-parents-pivot-wild", PARENTS),
    ("copy-parents-wildcard", PARENTS),
    ("git-query-branch-subdir", GIT_QUERY),
    ("git-query-tag", GIT_QUERY),
    ("layer-oci-rewrite-timestamp", BASE_TIMES),
    ("mount-secret-env-and-target", "its frontend has no `env` of secrets"),
    ("run-security-sandbox", "its frontend has `--security` in the labs channel alone"),
];

/// Exporter cases.
const EXPORTS: &[(&str, &str)] = &[
    ("attest/artifact", NO_ARTIFACT),
    ("attest/artifact-false", OLD_PROVENANCE),
    ("attest/default-push", OLD_PROVENANCE),
    ("attest/max", OLD_PROVENANCE),
    ("attest/multi", OLD_PROVENANCE),
    ("attest/oci-archive", NO_ARTIFACT),
    ("attest/secret-value", OLD_PROVENANCE),
    ("local/incremental", TRAVELS),
    ("oci/level-matters", "it packs layers once, whatever the level is then"),
    ("registry/mount-from-base", "it asks for no mounts of layers of a base"),
    ("repro/base-untouched", BASE_TIMES),
    ("repro/copy-only", BASE_TIME),
    ("repro/epoch-default-arg", "its frontend takes no SOURCE_DATE_EPOCH from a default of ARG"),
    ("repro/epoch-option", BASE_TIME),
    ("repro/oci", BASE_TIMES),
];

/// A daemon that pushes does not wait as a registry asks it to: whether it tries often enough is chance.
const BY_CHANCE: &[&str] = &["registry/flaky-429-storm", "registry/flaky-429-wait"];

/// Runs cases through a daemon. Those that fetch and push do it in the network of the daemon, which has no other.
fn hold(runner: &str, cases: &str, listed: &[(&str, &str)]) {
    let Some(daemon) = Dockerd::shared(ImageStore::Containerd) else { return };
    let mut python = Command::new("nsenter");
    python.arg(format!("--net={}", daemon.network().display())).arg("python3");
    let bake = format!("env BAKE_BUILDER=docker:// DOCKER_HOST={} {}", daemon.host(), env!("CARGO_BIN_EXE_bake"));
    // All of them take as long as the rest of the tests together.
    let is_whole = std::env::var_os("BAKE_TEST_CORPUS").is_some_and(|it| it == "all");
    let filter = filter(runner, cases);
    // The daemon waits for its disk most of the time.
    let options: &[&str] = if is_whole { &["-j", "8"] } else { &["-j", "8", "--filter", &filter] };
    let mut verdicts = judge_with(python, runner, cases, &bake, options);
    verdicts.retain(|(name, _)| !BY_CHANCE.contains(&name.as_str()));
    let (failing, n_run) = failing(&verdicts);
    assert!(n_run > if is_whole { 100 } else { 20 }, "only {n_run} cases ran");
    let known: BTreeSet<String> = listed.iter().map(|(name, _)| (*name).to_owned()).collect();
    let worse: Vec<_> = failing.difference(&known).collect();
    assert!(worse.is_empty(), "{} of {n_run} {cases} cases fail through the daemon: {worse:#?}", worse.len());
    let better: Vec<_> = verdicts.iter().filter(|(name, it)| *it == Verdict::Passed && known.contains(name)).collect();
    assert!(better.is_empty(), "these {cases} cases pass now; take them off the list: {better:#?}");
    let is_gone = |name: &String| verdicts.iter().all(|(it, _)| it != name);
    let gone: Vec<_> = known.into_iter().filter(|name| is_whole && is_gone(name)).collect();
    assert!(gone.is_empty(), "there are no such {cases} cases: {gone:#?}");
}

/// Every eighth case, in the form in which a runner takes names.
fn filter(runner: &str, cases: &str) -> String {
    let is_exports = runner == "run_export.py";
    let mut names = Vec::new();
    let mut folders = vec![corpus().join(cases)];
    while let Some(folder) = folders.pop() {
        if folder.join("case.json").exists() {
            let name = folder.strip_prefix(corpus().join(cases)).expect("below it").display().to_string();
            names.push(name);
            continue;
        }
        let entries = fs::read_dir(&folder).expect("the corpus is there").map(|it| it.expect("readable").path());
        folders.extend(entries.filter(|it| it.is_dir()));
    }
    names.sort();
    let some: Vec<String> = names.into_iter().step_by(8).collect();
    if is_exports { format!("^({})$", some.join("|")) } else { some.join(",") }
}

#[test]
fn build_cases_hold_through_a_daemon() {
    hold("run_build.py", "build", BUILDS);
}

#[test]
fn export_cases_hold_through_a_daemon() {
    hold("run_export.py", "export", EXPORTS);
}
