//! The whole binary: is it wired? One test binary, by subject.

#![expect(clippy::disallowed_methods, reason = "tests start the binary, and are steered by the environment")]

mod action;
mod actions_service;
mod affected;
mod affected_builds;
mod append;
mod bucket_double;
mod builders;
mod cache_buckets;
mod cache_defaults;
mod cache_faults;
mod cache_gha;
mod cache_join;
mod cache_mounts;
mod cache_s3;
mod call;
mod check;
mod ci_recipes;
mod command_line;
mod compose;
mod concurrency;
mod convert;
mod corpus;
mod debug;
mod definition_reads;
mod destinations;
mod diagnostics;
mod docker_registry;
mod dockerd;
mod documents;
mod download;
mod errors;
mod examples;
mod explain;
mod export;
mod fleet;
mod fleet_corpus;
mod fmt;
mod grants;
mod interrupt;
mod language;
mod layers;
mod load;
mod log;
mod lower_stores;
mod matrix;
mod merge;
mod network;
mod object_server;
mod options;
mod outputs;
mod plugin;
mod provenance;
mod proxies;
mod registries;
mod release;
mod remote;
mod reports;
mod runtime;
mod sbom;
mod schemas;
mod secrets;
mod shared_cache;
mod single_id;
mod small_registry;
mod ssh_keys;
mod store;
mod support;
mod terminal;
mod told;

/// A file of this folder that is not compiled in tests nothing.
#[test]
fn every_file_of_this_folder_is_compiled_in() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    let main = std::fs::read_to_string(folder.join("main.rs")).expect("this file is there");
    for entry in std::fs::read_dir(folder).expect("the folder is there") {
        let name = entry.expect("the folder can be read").file_name().to_string_lossy().into_owned();
        let module = name.trim_end_matches(".rs");
        assert!(module == "main" || main.contains(&format!("mod {module};")), "{name} is not compiled in");
    }
}
