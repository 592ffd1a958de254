//! `bake --print`: the resolved plan as JSON.

use crate::{
    cli::{definition, settings::Settings, write},
    eval::print::PrintPlan,
};

/// Prints what would be built.
pub(crate) fn run(settings: &Settings) -> u8 {
    match definition::evaluated(settings) {
        Ok((evaluated, _)) => write(&PrintPlan::new(&evaluated).to_json()),
        Err(code) => code,
    }
}
