//! Properties of the readers of bake and Compose files that hold for any text: no panic, faults that lie inside the text,
//! between characters.

use std::{collections::BTreeMap, sync::Arc};

use proptest::prelude::*;

use super::{
    compose::{self, ComposeFile},
    hcl, json,
    read::{ComposeFileReader, ReadReason},
    yaml,
};
use crate::report::{Diagnostic, SourceId, SourceMap};

/// No other files.
struct Nothing;

impl ComposeFileReader for Nothing {
    fn read(&mut self, _: &str, _: ReadReason<'_>) -> Result<Option<(SourceId, Arc<str>)>, Box<Diagnostic>> {
        Ok(None)
    }
}

fn yaml_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("services:\n"),
        Just("  web:\n"),
        Just("    build: .\n"),
        Just("    build:\n"),
        Just("      context: a\n"),
        Just("      args: "),
        Just("[\nx,\n"),
        Just("]\n"),
        Just("\"é\nü"),
        Just("a:\t"),
        Just("{A: 1}\n"),
        Just("[a, b]\n"),
        Just("      tags: [x]\n"),
        Just("- "),
        Just(": "),
        Just("&a "),
        Just("*a\n"),
        Just("<<: *a\n"),
        Just("!reset null\n"),
        Just("---\n"),
        Just("|\n"),
        Just("    x\n"),
        Just("\""),
        Just("'"),
        Just("${V:-"),
        Just("${V}"),
        Just("$"),
        Just("}"),
        Just("#"),
        Just("\t"),
        Just("é"),
        Just("    extends: {service: web}\n"),
        Just("    env_file: e\n"),
        Just("      x-bake: "),
        Just("target:\n"),
        Just("\r\n"),
        Just("? "),
        Just("\u{feff}"),
        Just("null\n"),
        Just("      secrets: [s]\nsecrets: {s: {file: f}}\n"),
    ];
    prop_oneof![proptest::collection::vec(piece, 0..25).prop_map(|pieces| pieces.concat()), ".{0,40}"]
}

/// Whether every place of a fault is a part of the text.
fn is_inside(fault: &Diagnostic, source: SourceId, text: &str) -> bool {
    let is_part = |start: u32, end: u32| text.get(start as usize..end as usize).is_some();
    fault.labels.iter().all(|label| label.at.source != source || is_part(label.at.start, label.at.end))
}

/// Inputs of the fuzz targets whose faults pointed beside or into a character.
#[test]
fn faults_at_the_end_of_a_text_point_at_whole_characters() {
    let source = SourceMap::default().add("file", "");
    for text in ["À", "a = [é", "a b é", "a = 1 +é", "a = \"${é"] {
        let faults = [hcl::parse(source, text).1, json::parse(source, text).1].concat();
        assert!(
            !faults.is_empty() && faults.iter().all(|fault| is_inside(fault, source, text)),
            "{text:?}: {faults:?}"
        );
    }
    for text in ["**\u{648}", " **\u{648}\u{648}", "a: *é", "a: **", "é: *"] {
        let fault = yaml::parse(source, text).expect_err("no anchor of that name");
        assert!(is_inside(&fault, source, text), "{text:?}: {fault:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(600) })]

    #[test]
    fn any_text_is_read_as_yaml_and_as_compose_without_panic(text in yaml_text()) {
        let mut sources = SourceMap::default();
        let source = sources.add("compose.yaml", text.as_str());
        let inside = |fault: &Diagnostic| is_inside(fault, source, &text);
        match yaml::parse(source, &text) {
            Err(fault) => prop_assert!(inside(&fault), "{text:?}: {fault:?}"),
            Ok(documents) => {
                for document in &documents {
                    let (_, faults) = yaml::body(source, &text, document);
                    prop_assert!(faults.iter().all(inside), "{text:?}: {faults:?}");
                }
                let file = ComposeFile { name: "compose.yaml".to_owned(), source, documents };
                let env = BTreeMap::from([("V".to_owned(), "v".to_owned())]);
                let faults = compose::load(&[file], &env, &BTreeMap::new(), &mut Nothing).diagnostics;
                prop_assert!(faults.iter().all(inside), "{text:?}: {faults:?}");
            }
        }
    }
}
