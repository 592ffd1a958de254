//! `MaintainerDeprecated`: MAINTAINER is deprecated.

use super::report::{CheckReport, CheckRule};
use crate::dockerfile::instruction::{InstructionKind, ParsedDockerfile};

pub(crate) static RULE: CheckRule = CheckRule {
    name: "MaintainerDeprecated",
    code: "bake::check::maintainer_deprecated",
    page: Some("maintainer-deprecated"),
    experimental: false,
    check: Some(check),
};

fn check(file: &ParsedDockerfile, report: &mut CheckReport) {
    for it in file.stages.iter().flat_map(|stage| &stage.instructions) {
        if matches!(it.kind, InstructionKind::Maintainer(_)) {
            let message = "MAINTAINER is deprecated, use `LABEL org.opencontainers.image.authors=…`".to_owned();
            report.fire(&RULE, &it.comments, it.at, message);
        }
    }
}
