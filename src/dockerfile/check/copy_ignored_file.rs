//! `CopyIgnoredFile`: COPY and ADD sources are not ignored.

use super::report::{CheckReport, CheckRule};
use crate::{dockerfile::instruction::Instruction, spec::pattern::Patterns};

pub(crate) static RULE: CheckRule = CheckRule {
    name: "CopyIgnoredFile",
    code: "bake::check::copy_ignored_file",
    page: Some("copy-ignored-file"),
    experimental: false,
    check: None,
};

/// `path` as written; `patterns` are those of the context.
pub(crate) fn check_source(report: &mut CheckReport, instruction: &Instruction, path: &str, patterns: &Patterns) {
    let clean = crate::spec::path::clean(path);
    let path = clean.strip_prefix('/').unwrap_or(&clean);
    // What a wildcard matches is not known here, so an exception may bring it back.
    let is_wild = path.contains(['*', '?', '[', '\\']) && patterns.has_exceptions();
    if patterns.hide(path) && !is_wild {
        let keyword = instruction.keyword.to_uppercase();
        let message = format!("{keyword} of a file that the ignore file excludes: {clean}");
        report.fire(&RULE, &instruction.comments, instruction.at, message);
    }
}
