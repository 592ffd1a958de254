//! `bake plan`: builds and exports, and how they depend on each other.

use crate::{
    cli::{
        args::PlanFormat,
        definition::{self, Purpose},
        settings::Settings,
        write, write_json,
    },
    plan::explain,
};

/// Shows the plan.
pub(crate) fn run(settings: &Settings, format: PlanFormat) -> u8 {
    let planned = match definition::planned(settings, Purpose::Show) {
        Ok(planned) => planned,
        Err(code) => return code,
    };
    let code = match format {
        PlanFormat::Text => write(&explain::text(&planned.plan)),
        PlanFormat::Dot => write(&explain::dot(&planned.plan)),
        PlanFormat::Json => {
            let text = serde_json::to_string_pretty(&explain::json(&planned.plan));
            write_json(&(text.expect("a value of text and numbers") + "\n"))
        }
    };
    definition::concluding(&planned.evaluated.aside)(code)
}
