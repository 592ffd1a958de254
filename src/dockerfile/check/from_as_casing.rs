//! `FromAsCasing`: `AS` has the case of `FROM`.

use super::report::{CheckReport, CheckRule};
use crate::dockerfile::instruction::ParsedDockerfile;

pub(crate) static RULE: CheckRule = CheckRule {
    name: "FromAsCasing",
    code: "bake::check::from_as_casing",
    page: Some("from-as-casing"),
    experimental: false,
    check: Some(check),
};

fn check(file: &ParsedDockerfile, report: &mut CheckReport) {
    for stage in &file.stages {
        let Some(word) = &stage.written_as else { continue };
        let (lower, upper) = (stage.keyword.to_lowercase(), stage.keyword.to_uppercase());
        let odd = (stage.keyword == lower && *word != word.to_lowercase())
            || (stage.keyword == upper && *word != word.to_uppercase());
        if odd {
            let message = format!("the casing of `{word}` and `{}` does not match", stage.keyword);
            report.fire(&RULE, &stage.comments, stage.at, message);
        }
    }
}
