//! `bake cache verify`: reads everything and compares it with its digest.

use std::path::Path;

use crate::{
    cli::{FAILED, OK, state::open_store},
    report::{Diagnostic, SourceMap},
    ui::output,
};

/// Verifies the state directory. Damaged entries are removed: the next build makes them again.
pub(crate) fn run(bake_home: &Path, color: bool) -> u8 {
    let damages = match open_store(bake_home, color) {
        Ok(Some(store)) => store.verify(),
        Ok(None) => return OK,
        Err(code) => return code,
    };
    let tell = |damage: &crate::store::Damage| {
        let message = format!("damaged, and taken away ({}): {}", damage.why, damage.path.display());
        Diagnostic::error("bake::store::damaged", message)
    };
    let all: Vec<Diagnostic> = damages.iter().map(tell).collect();
    output::diagnostics(&all, &SourceMap::default(), color);
    if all.is_empty() {
        output::words("all is as it should be\n");
        OK
    } else {
        FAILED
    }
}
