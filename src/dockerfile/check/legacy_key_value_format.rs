//! `LegacyKeyValueFormat`: ENV and LABEL are written with `=`.

use super::{Report, Rule};
use crate::dockerfile::instruction::Instruction;

pub(crate) static RULE: Rule = Rule {
    name: "LegacyKeyValueFormat",
    code: "bake::check::legacy_key_value_format",
    experimental: false,
    check: None,
};

pub(crate) fn fire(report: &mut Report, it: &Instruction) {
    let keyword = it.keyword.to_uppercase();
    let message = format!("write `{keyword} key=value` instead of `{keyword} key value`");
    report.fire(&RULE, &it.comments, it.at, message);
}
