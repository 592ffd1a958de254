//! The Dockerfile's part of the fuzz targets: lowers a parsed file, for which no image is asked.
//!
//! Compiled only with the feature `fuzzing`; `crate::fuzz` is the face of it.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use indexmap::IndexMap;

use super::{
    check::report::CheckFinding,
    instruction::ParsedDockerfile,
    lower::lower,
    options::{Allow, KnownImages, LowerFaults, LowerOptions, LowerOutcome, NamedContext, NoCache},
};
use crate::{
    graph::{Graph, Local},
    oci::Platform,
    report::Diagnostic,
    spec::{NetworkMode, ResourceLimits},
};

/// Lowers every stage of a file and returns all that is said about it. Images of registries are treated as empty.
pub(crate) fn fuzz_lower(file: &ParsedDockerfile) -> Vec<Diagnostic> {
    let known = KnownImages { assume: true, ..KnownImages::default() };
    match lower(file, &options(), &known, &mut Graph::default()) {
        LowerOutcome::Done(lowered) => lowered.findings.iter().map(CheckFinding::diagnostic).collect(),
        LowerOutcome::Needs(_) => Vec::new(),
        LowerOutcome::Failed(failed) => {
            let LowerFaults { findings, faults, unread, checks_failed } = *failed;
            let findings = findings.iter().map(CheckFinding::diagnostic);
            findings.chain(faults).chain(unread).chain(checks_failed).collect()
        }
    }
}

fn options() -> LowerOptions {
    let platform = Platform::normalised("linux", "arm64", None);
    let ignore = vec!["*.log".to_owned(), "!keep.log".to_owned()];
    let main = Local { folder: "/context".to_owned(), name: "context".to_owned(), ignore, ignore_file: None };
    LowerOptions {
        target: None,
        platform: platform.clone(),
        explicit_platform: false,
        build_platform: platform,
        build_args: IndexMap::from([("A".to_owned(), "value".to_owned())]),
        hidden_args: BTreeSet::new(),
        labels: IndexMap::new(),
        no_cache: NoCache::No,
        network: NetworkMode::Default,
        allow: Allow::default(),
        extra_hosts: Vec::new(),
        shm_size: None,
        ulimits: Vec::new(),
        hostname: None,
        resources: ResourceLimits::default(),
        cache_namespace: String::new(),
        secrets: HashMap::new(),
        agents: HashMap::new(),
        multi_platform: false,
        step_file: Arc::default(),
        label_prefix: "".into(),
        contexts: IndexMap::from([("named".to_owned(), NamedContext::Scratch)]),
        main: NamedContext::Local(main),
        source_date_epoch: None,
        all_stages: true,
    }
}
