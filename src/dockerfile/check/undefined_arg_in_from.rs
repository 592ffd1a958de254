//! `UndefinedArgInFrom`: FROM uses declared variables.

use super::report::{CheckReport, CheckRule};
use crate::dockerfile::instruction::Stage;

pub(crate) static RULE: CheckRule = CheckRule {
    name: "UndefinedArgInFrom",
    code: "bake::check::undefined_arg_in_from",
    page: Some("undefined-arg-in-from"),
    experimental: false,
    check: None,
};

/// Reports a variable in FROM that is not declared before the first stage; `known` are those that are, for a
/// suggestion.
pub(crate) fn fire<'a>(report: &mut CheckReport, stage: &Stage, name: &str, known: impl IntoIterator<Item = &'a str>) {
    let mut message = format!("FROM uses a variable that is not declared before the first stage: ${name}");
    if let Some(near) = report.near(name, known) {
        message.extend([" (did you mean $", near, "?)"]);
    }
    report.fire(&RULE, &stage.comments, stage.at, message);
}
