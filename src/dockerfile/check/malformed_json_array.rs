//! `MalformedJSONArray`: what looks like an array in JSON form is one. Not a rule of the peer, which takes it for shell text silently.

use super::report::{CheckReport, CheckRule};
use crate::dockerfile::instruction::{InstructionKind, ParsedDockerfile};

pub(crate) static RULE: CheckRule = CheckRule {
    name: "MalformedJSONArray",
    code: "bake::check::malformed_json_array",
    page: None,
    experimental: false,
    check: Some(check),
};

fn check(file: &ParsedDockerfile, report: &mut CheckReport) {
    for it in file.stages.iter().flat_map(|stage| &stage.instructions) {
        let why = match &it.kind {
            InstructionKind::Cmd(command) | InstructionKind::Entrypoint(command) => &command.almost_json,
            InstructionKind::Run(run) => &run.command.almost_json,
            InstructionKind::Copy(copy) => &copy.almost_json,
            InstructionKind::Healthcheck(health) => &health.almost_json,
            _ => continue,
        };
        if let Some(why) = why {
            let keyword = it.keyword.to_uppercase();
            let message =
                format!("the arguments of {keyword} look like a JSON array but are taken as plain text: {}", why.value);
            report.fire(&RULE, &it.comments, why.at, message);
        }
    }
}
