//! `bake`: builds a plan.

use crate::cli::{FAILED, settings::Settings};

/// Builds the plan.
pub(crate) fn run(_settings: &Settings) -> u8 {
    FAILED
}
