//! `RedundantTargetPlatform`: `--platform=$TARGETPLATFORM` says nothing.

use super::report::{CheckReport, CheckRule};
use crate::dockerfile::instruction::Stage;

pub(crate) static RULE: CheckRule = CheckRule {
    name: "RedundantTargetPlatform",
    code: "bake::check::redundant_target_platform",
    page: Some("redundant-target-platform"),
    experimental: false,
    check: None,
};

/// Reports a `--platform` of FROM that is the target platform, the default. `written` is the value as in the file.
pub(crate) fn fire(report: &mut CheckReport, stage: &Stage, written: &str) {
    let message = format!("the target platform is the default, `--platform` is redundant: {written}");
    report.fire(&RULE, &stage.comments, stage.at, message);
}
