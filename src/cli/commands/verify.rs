//! `bake cache verify`: reads everything and compares it with its digest.

use crate::{
    cli::{
        exit::{FAILED, OK},
        state::open_store,
    },
    report::{Diagnostic, SourceMap},
    store::{Damage, DamageFate, HomeDir},
    ui::output,
};

/// Verifies the state directory. Damaged entries are removed: the next build makes them again.
pub(crate) fn run(bake_home: &HomeDir, color: bool) -> u8 {
    let damages = match open_store(bake_home, color) {
        Ok(Some(store)) => store.verify(),
        Ok(None) => return OK,
        Err(code) => return code,
    };
    let all: Vec<Diagnostic> = damages.iter().map(diagnostic).collect();
    output::diagnostics(&all, &SourceMap::default(), color);
    if all.is_empty() {
        output::words("all is as it should be\n");
        OK
    } else {
        FAILED
    }
}

fn diagnostic(damage: &Damage) -> Diagnostic {
    let fate = match damage.fate {
        DamageFate::Removed => "taken away",
        DamageFate::InUse => "left, as a running build may use it",
        DamageFate::Stuck => "cannot be removed",
    };
    let message = format!("damaged, and {fate} ({}): {}", damage.why, damage.path.display());
    let error = Diagnostic::error("bake::store::damaged", message);
    match damage.fate {
        DamageFate::Removed => error,
        DamageFate::InUse => error.help("run `bake cache verify` again when no build is running"),
        DamageFate::Stuck => error.help("who may write to the state directory can remove it"),
    }
}
