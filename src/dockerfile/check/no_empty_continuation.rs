//! `NoEmptyContinuation`: no blank lines inside of a continued instruction.

use super::{Report, Rule};
use crate::dockerfile::Dockerfile;

pub(crate) static RULE: Rule = Rule {
    name: "NoEmptyContinuation",
    code: "bake::check::no_empty_continuation",
    experimental: false,
    check: Some(check),
};

fn check(file: &Dockerfile, report: &mut Report) {
    for at in &file.empty_continuations {
        report.fire(&RULE, &[], *at, "blank line inside of a continued instruction".to_owned());
    }
}
