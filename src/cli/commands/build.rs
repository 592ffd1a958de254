//! `bake`: builds a plan.

use crate::{
    cli::{FAILED, definition::Planned, settings::Settings},
    ui::output,
};

/// Builds the plan; the definition and the entitlements have been checked.
pub(crate) fn run(_settings: &Settings, _planned: Planned) -> u8 {
    output::words("bake: building is not wired in yet\n");
    FAILED
}
