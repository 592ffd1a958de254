//! `UndefinedVar`: variables are defined where they are used.

use super::report::{CheckReport, CheckRule};
use crate::dockerfile::instruction::Instruction;

pub(crate) static RULE: CheckRule = CheckRule {
    name: "UndefinedVar",
    code: "bake::check::undefined_var",
    page: Some("undefined-var"),
    experimental: false,
    check: None,
};

/// Reports the use of a variable that is not set; `known` are those that are, for a suggestion.
pub(crate) fn fire<'a>(
    report: &mut CheckReport,
    instruction: &Instruction,
    name: &str,
    known: impl IntoIterator<Item = &'a str>,
) {
    let mut message = format!("use of an undefined variable: ${name}");
    if let Some(near) = report.near(name, known) {
        message.extend([" (did you mean $", near, "?)"]);
    }
    report.fire(&RULE, &instruction.comments, instruction.at, message);
}
