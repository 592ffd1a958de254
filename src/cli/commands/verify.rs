//! `bake cache verify`: reads everything and compares it with its digest.

use std::path::Path;

use crate::{cli::FAILED, ui::output};

/// Verifies the state directory.
pub(crate) fn run(bake_home: &Path) -> u8 {
    output::words(&format!("bake: the state directory cannot be verified yet: {}\n", bake_home.display()));
    FAILED
}
