//! `MaintainerDeprecated`: MAINTAINER is deprecated.

use super::{Report, Rule};
use crate::dockerfile::{Dockerfile, instruction::Kind};

pub(crate) static RULE: Rule = Rule {
    name: "MaintainerDeprecated",
    code: "bake::check::maintainer_deprecated",
    experimental: false,
    check: Some(check),
};

fn check(file: &Dockerfile, report: &mut Report) {
    for it in file.stages.iter().flat_map(|stage| &stage.instructions) {
        if matches!(it.kind, Kind::Maintainer(_)) {
            let message = "MAINTAINER is deprecated, use `LABEL org.opencontainers.image.authors=…`".to_owned();
            report.fire(&RULE, &it.comments, it.at, message);
        }
    }
}
