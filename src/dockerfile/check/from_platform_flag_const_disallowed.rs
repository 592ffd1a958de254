//! `FromPlatformFlagConstDisallowed`: `--platform` of FROM is a variable, unless the stage is named after the platform.

use super::report::{CheckReport, CheckRule};
use crate::{dockerfile::instruction::Stage, oci::Platform};

pub(crate) static RULE: CheckRule = CheckRule {
    name: "FromPlatformFlagConstDisallowed",
    code: "bake::check::from_platform_flag_const_disallowed",
    page: Some("from-platform-flag-const-disallowed"),
    experimental: false,
    check: None,
};

/// Reports a constant `--platform` of FROM, unless the name of the stage has the os or architecture in it. `written` is
/// the value as in the file.
pub(crate) fn fire(report: &mut CheckReport, stage: &Stage, platform: &Platform, written: &str) {
    let name = stage.name.as_ref().map_or("", |it| it.value.as_str());
    if !name.contains(&platform.os) && !name.contains(&platform.arch) {
        let message = format!("`--platform` of FROM should not be a constant: {written}");
        report.fire(&RULE, &stage.comments, stage.at, message);
    }
}
