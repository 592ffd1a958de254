//! `DuplicateStageName`: no two stages have one name.

use std::collections::HashSet;

use super::{Report, Rule};
use crate::dockerfile::Dockerfile;

pub(crate) static RULE: Rule = Rule {
    name: "DuplicateStageName",
    code: "bake::check::duplicate_stage_name",
    experimental: false,
    check: Some(check),
};

fn check(file: &Dockerfile, report: &mut Report) {
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
