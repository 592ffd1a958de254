//! `bake --print`: the resolved plan as JSON.

use crate::{
    cli::{
        definition::{self, EvaluatedDefinition, Purpose},
        settings::Settings,
        write_json,
    },
    eval::print::plan::PrintPlan,
};

/// Prints what would be built.
pub(crate) fn run(settings: &Settings) -> u8 {
    match definition::evaluated(settings, Purpose::Show) {
        Ok(EvaluatedDefinition { evaluated, sources, .. }) => {
            if let Err(code) = definition::warn_of_builds(settings, &evaluated, &sources) {
                return code;
            }
            let code =
                definition::concluding(&evaluated.unneeded_faults)(write_json(&PrintPlan::new(&evaluated).to_json()));
            // The process ends here: to free a large plan piece by piece would only take time.
            std::mem::forget(evaluated);
            code
        }
        Err(code) => code,
    }
}
