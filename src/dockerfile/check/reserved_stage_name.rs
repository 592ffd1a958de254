//! `ReservedStageName`: no stage is called `scratch` or `context`.

use super::report::{CheckReport, CheckRule};
use crate::dockerfile::instruction::ParsedDockerfile;

pub(crate) static RULE: CheckRule = CheckRule {
    name: "ReservedStageName",
    code: "bake::check::reserved_stage_name",
    page: Some("reserved-stage-name"),
    experimental: false,
    check: Some(check),
};

fn check(file: &ParsedDockerfile, report: &mut CheckReport) {
    for stage in &file.stages {
        if let Some(name) = stage.name.as_ref().filter(|name| matches!(name.value.as_str(), "scratch" | "context")) {
            let message =
                format!("the name has a meaning of its own and should not be that of a stage: {}", name.value);
            report.fire(&RULE, &stage.comments, stage.at, message);
        }
    }
}
