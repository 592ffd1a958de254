//! `NoEmptyContinuation`: no blank lines inside of a continued instruction.

use super::report::{CheckReport, CheckRule};
use crate::dockerfile::instruction::ParsedDockerfile;

pub(crate) static RULE: CheckRule = CheckRule {
    name: "NoEmptyContinuation",
    code: "bake::check::no_empty_continuation",
    page: Some("no-empty-continuation"),
    experimental: false,
    check: Some(check),
};

fn check(file: &ParsedDockerfile, report: &mut CheckReport) {
    for at in &file.empty_continuations {
        report.fire(&RULE, &[], *at, "blank line inside of a continued instruction".to_owned());
    }
}
