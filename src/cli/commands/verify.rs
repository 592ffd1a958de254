//! `bake cache verify`: reads everything and compares it with its digest.

use std::path::Path;

use crate::{
    cli::{FAILED, OK},
    store::Store,
    ui::output,
};

/// Verifies the state directory. What is damaged is named and taken away, so that it is made again.
pub(crate) fn run(bake_home: &Path) -> u8 {
    let damages = match Store::open(bake_home) {
        Ok(store) => store.verify(),
        Err(error) => {
            output::words(&format!("bake: {error}\n"));
            return FAILED;
        }
    };
    for damage in &damages {
        output::words(&format!("damaged: {}: {}\n", damage.path.display(), damage.why));
    }
    if damages.is_empty() {
        output::words("everything is sound\n");
        OK
    } else {
        FAILED
    }
}
