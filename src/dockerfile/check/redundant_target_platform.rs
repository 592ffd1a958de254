//! `RedundantTargetPlatform`: `--platform=$TARGETPLATFORM` says nothing.

use super::{Report, Rule};
use crate::dockerfile::instruction::Stage;

pub(crate) static RULE: Rule = Rule {
    name: "RedundantTargetPlatform",
    code: "bake::check::redundant_target_platform",
    experimental: false,
    check: None,
};

pub(crate) fn fire(report: &mut Report, stage: &Stage, written: &str) {
    let message = format!("the target platform is the default, `--platform` is redundant: {written}");
    report.fire(&RULE, &stage.comments, stage.at, message);
}
