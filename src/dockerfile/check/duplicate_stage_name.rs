//! `DuplicateStageName`: no two stages have one name.

use std::collections::HashSet;

use super::report::{CheckReport, CheckRule};
use crate::dockerfile::instruction::ParsedDockerfile;

pub(crate) static RULE: CheckRule = CheckRule {
    name: "DuplicateStageName",
    code: "bake::check::duplicate_stage_name",
    page: Some("duplicate-stage-name"),
    experimental: false,
    check: Some(check),
};

fn check(file: &ParsedDockerfile, report: &mut CheckReport) {
    let mut seen = HashSet::new();
    for stage in &file.stages {
        if let Some(name) = &stage.name
            && !seen.insert(name.value.as_str())
        {
            let message = format!("two stages have the same name: {}", name.value);
            report.fire(&RULE, &stage.comments, stage.at, message);
        }
    }
}
