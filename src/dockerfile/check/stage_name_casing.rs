//! `StageNameCasing`: stage names are lower case.

use super::report::{CheckReport, CheckRule};
use crate::dockerfile::instruction::ParsedDockerfile;

pub(crate) static RULE: CheckRule = CheckRule {
    name: "StageNameCasing",
    code: "bake::check::stage_name_casing",
    page: Some("stage-name-casing"),
    experimental: false,
    check: Some(check),
};

fn check(file: &ParsedDockerfile, report: &mut CheckReport) {
    for stage in &file.stages {
        if let Some(name) = stage.written_name.as_deref().filter(|it| it.chars().any(char::is_uppercase)) {
            let message = format!("stage name should be lower case: {name}");
            report.fire(&RULE, &stage.comments, stage.at, message);
        }
    }
}
