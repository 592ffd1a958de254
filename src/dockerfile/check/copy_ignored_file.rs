//! `CopyIgnoredFile`: COPY and ADD sources are not ignored.

use super::report::{CheckReport, CheckRule};
use crate::{
    dockerfile::instruction::Instruction,
    graph::pattern::{self, Patterns},
};

pub(crate) static RULE: CheckRule =
    CheckRule { name: "CopyIgnoredFile", code: "bake::check::copy_ignored_file", experimental: false, check: None };

/// `path` as written; `patterns` are those of the context.
pub(crate) fn check_source(report: &mut CheckReport, instruction: &Instruction, path: &str, patterns: &Patterns) {
    if patterns.is_empty() || patterns.has_exceptions() {
        return;
    }
    let clean = pattern::clean(path);
    let path = clean.strip_prefix('/').unwrap_or(&clean);
    let ignored = if matches!(path, "" | ".") { patterns.takes_all() } else { patterns.matches(path) };
    if ignored {
        let keyword = instruction.keyword.to_uppercase();
        let message = format!("{keyword} of a file that the ignore file excludes: {clean}");
        report.fire(&RULE, &instruction.comments, instruction.at, message);
    }
}
