//! The whole binary: is it wired? One test binary, by subject.

#![expect(clippy::disallowed_methods, reason = "tests start the binary, and are steered by the environment")]

mod call;
mod check;
mod corpus;
mod destinations;
mod diagnostics;
mod download;
mod errors;
mod examples;
mod export;
mod fmt;
mod language;
mod load;
mod network;
mod runtime;
mod schemas;
mod secrets;
mod support;

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
