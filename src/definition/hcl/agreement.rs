//! Compares our parser with `hcl-edit` on the same files: both accept them, with the same blocks and attributes.
//!
//! An independent second opinion. Only our parser continues after an error and knows where brackets were opened.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::report::SourceMap;

fn hcl_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the corpus is there").flatten() {
        let path = entry.path();
        if path.is_dir() {
            hcl_files(&path, found);
        } else if path.extension().is_some_and(|it| it == "hcl") {
            found.push(path);
        }
    }
}

#[test]
fn what_hcl_edit_reads_is_read_the_same() {
    let mut files = Vec::new();
    for folder in ["tests/corpus", "examples"] {
        hcl_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut files);
    }
    let mut n_compared = 0;
    for path in files {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let Ok(theirs) = text.parse::<hcl_edit::structure::Body>() else { continue };
        let source = SourceMap::default().add("file", text.as_str());
        let (ours, faults) = super::parse(source, &text);
        // Only our parser reports a repeated attribute.
        let repeated =
            |diagnostic: &crate::report::Diagnostic| diagnostic.code == "bake::definition::repeated_attribute";
        assert!(faults.iter().all(repeated), "{}: {faults:?}", path.display());
        let blocks: Vec<String> = theirs.blocks().map(|it| it.ident.to_string().trim().to_owned()).collect();
        let our_blocks: Vec<String> = ours.blocks.iter().map(|it| it.kind.value.to_string()).collect();
        assert_eq!(our_blocks, blocks, "{}", path.display());
        let attributes: Vec<String> = theirs.attributes().map(|it| it.key.to_string().trim().to_owned()).collect();
        let our_attributes: Vec<String> = ours.attributes.iter().map(|it| it.name.value.to_string()).collect();
        assert_eq!(our_attributes, attributes, "{}", path.display());
        n_compared += 1;
    }
    assert!(n_compared > 1000, "only {n_compared} files were compared");
}
