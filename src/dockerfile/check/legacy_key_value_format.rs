//! `LegacyKeyValueFormat`: ENV and LABEL are written with `=`.

use super::report::{CheckReport, CheckRule};
use crate::dockerfile::instruction::Instruction;

pub(crate) static RULE: CheckRule = CheckRule {
    name: "LegacyKeyValueFormat",
    code: "bake::check::legacy_key_value_format",
    page: Some("legacy-key-value-format"),
    experimental: false,
    check: None,
};

/// Reports an ENV or LABEL that is written `KEY value`.
pub(crate) fn fire(report: &mut CheckReport, instruction: &Instruction) {
    let keyword = instruction.keyword.to_uppercase();
    let message = format!("write `{keyword} key=value` instead of `{keyword} key value`");
    report.fire(&RULE, &instruction.comments, instruction.at, message);
}
