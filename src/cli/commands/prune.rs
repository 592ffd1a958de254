//! `bake prune`: removes what is not needed any more.

use std::path::Path;

use crate::{
    cli::{FAILED, args::PruneArgs},
    ui::output,
};

/// Removes what is not needed any more.
pub(crate) fn run(bake_home: &Path, _args: &PruneArgs, _color: bool) -> u8 {
    output::words(&format!("bake: the state directory cannot be pruned yet: {}\n", bake_home.display()));
    FAILED
}
