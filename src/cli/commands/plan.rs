//! `bake plan`: builds and exports, and how they depend on each other.

use crate::cli::{FAILED, args::PlanFormat, settings::Settings};

/// Shows the plan.
pub(crate) fn run(_settings: &Settings, _format: PlanFormat) -> u8 {
    FAILED
}
