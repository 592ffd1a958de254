//! `bake plan`: builds and exports, and how they depend on each other.

use crate::{
    cli::{
        args::PlanFormat,
        definition::{self, Purpose},
        exit::{write, write_json},
        settings::Settings,
    },
    plan::explain,
    report::url::without_credentials,
};

/// Shows the plan. User and password in URLs are left out: whoever reads it need not know them.
pub(crate) fn run(settings: &Settings, format: PlanFormat) -> u8 {
    let planned = match definition::planned(settings, Purpose::Show) {
        Ok(planned) => planned,
        Err(code) => return code,
    };
    let code = match format {
        PlanFormat::Text => write(&without_credentials(&explain::text(&planned.plan))),
        PlanFormat::Dot => write(&without_credentials(&explain::dot(&planned.plan))),
        PlanFormat::Json => {
            let text = serde_json::to_string_pretty(&explain::json(&planned.plan));
            write_json(&without_credentials(&(text.expect("a value of text and numbers") + "\n")))
        }
    };
    definition::concluding(&planned.evaluated.unneeded_faults)(code)
}
