//! `bake cache verify`: reads everything and compares it with its digest; `--repair` removes what is damaged.

use crate::{
    cli::{
        exit::{FAILED, OK},
        state::open_store,
    },
    report::{Diagnostic, SourceMap},
    store::{Damage, DamageFate, HomeDir},
    ui::output,
};

/// Verifies the state directory. With `repair` damaged entries are removed: the next build makes them again; that is a success
/// if all of them could be.
pub(crate) fn run(bake_home: &HomeDir, repair: bool, color: bool) -> u8 {
    let damages = match open_store(bake_home, color) {
        Ok(Some(store)) if repair => store.repair(),
        Ok(Some(store)) => store.verify(),
        Ok(None) => return OK,
        Err(code) => return code,
    };
    let all: Vec<Diagnostic> = damages.iter().map(diagnostic).collect();
    output::diagnostics(&all, &SourceMap::default(), color);
    if all.is_empty() {
        output::words("all is as it should be\n");
        return OK;
    }
    let n_damages = all.len();
    let n_removed = damages.iter().filter(|damage| damage.fate == DamageFate::Removed).count();
    output::words(&match repair {
        false => format!("{n_damages} damaged; `bake cache verify --repair` removes what is damaged\n"),
        true => format!("{n_damages} damaged, {n_removed} removed: a build that needs it makes it again\n"),
    });
    if n_removed == all.len() { OK } else { FAILED }
}

fn diagnostic(damage: &Damage) -> Diagnostic {
    let message = |fate: &str| format!("damaged{fate} ({}): {}", damage.why, damage.path.display());
    let error = |fate| Diagnostic::error("bake::store::damaged", message(fate));
    match damage.fate {
        DamageFate::Found => error(""),
        DamageFate::Removed => Diagnostic::warning("bake::store::damaged", message(", and taken away")),
        DamageFate::InUse => error(", and left, as a running build may use it")
            .help("run `bake cache verify --repair` again when no build is running"),
        DamageFate::Stuck => {
            error(", and cannot be removed").help("who may write to the state directory can remove it")
        }
    }
}
