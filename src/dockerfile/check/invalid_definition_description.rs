//! `InvalidDefinitionDescription`: a comment directly above a named stage or an ARG begins with its name.

use super::report::{CheckReport, CheckRule};
use crate::dockerfile::instruction::{Instruction, InstructionKind, ParsedDockerfile};

pub(crate) static RULE: CheckRule = CheckRule {
    name: "InvalidDefinitionDescription",
    code: "bake::check::invalid_definition_description",
    page: Some("invalid-definition-description"),
    experimental: true,
    check: Some(check),
};

fn check(file: &ParsedDockerfile, report: &mut CheckReport) {
    let describes = |comments: &[String], names: &[&str]| {
        comments.last().is_none_or(|line| names.contains(&line.split(' ').next().unwrap_or_default()))
    };
    let arg = |instruction: &Instruction, report: &mut CheckReport| {
        let InstructionKind::Arg(args) = &instruction.kind else { return };
        let names: Vec<&str> = args.iter().map(|it| it.name.as_str()).collect();
        if !describes(&instruction.comments, &names) {
            let message = format!("the comment above an ARG should be `# {} its description`", names[0]);
            report.fire(&RULE, &instruction.comments, instruction.at, message);
        }
    };
    for it in &file.globals {
        arg(it, report);
    }
    for stage in &file.stages {
        if let Some(name) = stage.name.as_ref().filter(|name| !describes(&stage.comments, &[name.value.as_str()])) {
            let message = format!("the comment above a stage should be `# {} its description`", name.value);
            report.fire(&RULE, &stage.comments, stage.at, message);
        }
        for it in &stage.instructions {
            arg(it, report);
        }
    }
}
