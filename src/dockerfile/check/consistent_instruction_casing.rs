//! `ConsistentInstructionCasing`: all keywords are in the case of most of them.

use super::report::{CheckReport, CheckRule};
use crate::dockerfile::instruction::ParsedDockerfile;

pub(crate) static RULE: CheckRule = CheckRule {
    name: "ConsistentInstructionCasing",
    code: "bake::check::consistent_instruction_casing",
    page: Some("consistent-instruction-casing"),
    experimental: false,
    check: Some(check),
};

fn check(file: &ParsedDockerfile, report: &mut CheckReport) {
    let keywords = || {
        file.stages.iter().flat_map(|stage| {
            let own = std::iter::once((&stage.keyword, &stage.comments, stage.at));
            own.chain(
                stage
                    .instructions
                    .iter()
                    .map(|instruction| (&instruction.keyword, &instruction.comments, instruction.at)),
            )
        })
    };
    let (mut lower, mut upper) = (0, 0);
    for (keyword, ..) in keywords() {
        lower += usize::from(!has(keyword, char::is_uppercase));
        upper += usize::from(!has(keyword, char::is_lowercase));
    }
    let to_lower = lower > upper;
    for (keyword, comments, at) in keywords() {
        let odd = if to_lower { char::is_uppercase } else { char::is_lowercase };
        if has(keyword, odd) {
            let wanted = if to_lower { keyword.to_lowercase() } else { keyword.to_uppercase() };
            let case = if to_lower { "lower" } else { "upper" };
            let message = format!("instruction `{keyword}` should be in {case} case like most of the file: {wanted}");
            report.fire(&RULE, comments, at, message);
        }
    }
}

fn has(keyword: &str, what: impl Fn(char) -> bool) -> bool {
    keyword.chars().any(what)
}
