//! `bake plan`: builds and exports, and how they depend on each other.

use crate::{
    cli::{
        args::PlanFormat,
        definition::{self, Purpose},
        settings::Settings,
        write,
    },
    plan::explain,
};

/// Shows the plan.
pub(crate) fn run(settings: &Settings, format: PlanFormat) -> u8 {
    let planned = match definition::planned(settings, Purpose::Show) {
        Ok(planned) => planned,
        Err(code) => return code,
    };
    let text = match format {
        PlanFormat::Text => explain::text(&planned.plan),
        PlanFormat::Dot => explain::dot(&planned.plan),
        PlanFormat::Json => {
            serde_json::to_string_pretty(&explain::json(&planned.plan)).expect("a value of text and numbers") + "\n"
        }
    };
    definition::concluding(&planned.evaluated.unneeded_faults)(write(&text))
}
