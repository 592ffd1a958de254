//! `RedundantTargetPlatform`: `--platform=$TARGETPLATFORM` says nothing.

use super::report::{CheckReport, CheckRule};
use crate::dockerfile::instruction::Stage;

pub(crate) static RULE: CheckRule = CheckRule {
    name: "RedundantTargetPlatform",
    code: "bake::check::redundant_target_platform",
    experimental: false,
    check: None,
};

pub(crate) fn fire(report: &mut CheckReport, stage: &Stage, written: &str) {
    let message = format!("the target platform is the default, `--platform` is redundant: {written}");
    report.fire(&RULE, &stage.comments, stage.at, message);
}
