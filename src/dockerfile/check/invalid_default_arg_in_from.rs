//! `InvalidDefaultArgInFrom`: FROM names an image when no build argument is given.

use super::report::{CheckReport, CheckRule};
use crate::dockerfile::instruction::Stage;

pub(crate) static RULE: CheckRule = CheckRule {
    name: "InvalidDefaultArgInFrom",
    code: "bake::check::invalid_default_arg_in_from",
    page: Some("invalid-default-arg-in-from"),
    experimental: false,
    check: None,
};

/// Reports a FROM that is no image name when no build argument is given.
pub(crate) fn fire(report: &mut CheckReport, stage: &Stage) {
    let message = format!("without build arguments this is not an image name: {}", stage.image.value);
    report.fire(&RULE, &stage.comments, stage.at, message);
}
