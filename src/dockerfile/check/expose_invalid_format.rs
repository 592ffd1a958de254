//! `ExposeInvalidFormat`: EXPOSE names ports of the container alone.

use super::{Report, Rule};
use crate::dockerfile::instruction::Instruction;

pub(crate) static RULE: Rule =
    Rule { name: "ExposeInvalidFormat", code: "bake::check::expose_invalid_format", experimental: false, check: None };

pub(crate) fn fire(report: &mut Report, it: &Instruction, port: &str) {
    report.fire(&RULE, &it.comments, it.at, format!("EXPOSE should name neither address nor port of the host: {port}"));
}
