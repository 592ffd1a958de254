//! Opens the state directory for the commands that maintain it.

use super::exit::FAILED;
use crate::{
    report::{Diagnostic, SourceMap},
    store::{HomeDir, Store, StoreError},
    ui::output,
};

/// The store of a state directory; `None` if there is no such directory yet.
///
/// # Errors
/// The exit code, when it cannot be opened; that was reported.
pub(crate) fn open_store(bake_home: &HomeDir, color: bool) -> Result<Option<Store>, u8> {
    if !bake_home.path.exists() {
        return Ok(None);
    }
    match bake_home.open() {
        Ok(opened) => {
            if let Some(warning) = foreign_owner(bake_home, opened.foreign_owner) {
                output::diagnostics(&[warning], &SourceMap::default(), color);
            }
            Ok(Some(opened.store))
        }
        Err(error) => {
            let message = format!("the state directory cannot be opened: {}", bake_home.path.display());
            let fault = Diagnostic::error("bake::cli::state", message).cause(&error).help(error.help());
            output::diagnostics(&[fault], &SourceMap::default(), color);
            Err(FAILED)
        }
    }
}

/// The warning that a state directory belongs to another user, if it does.
pub(crate) fn foreign_owner(bake_home: &HomeDir, owner: Option<u32>) -> Option<Diagnostic> {
    let path = bake_home.path.display();
    let message =
        format!("the state directory belongs to the user {}, who can change what is built from it: {path}", owner?);
    let warning = Diagnostic::warning("bake::store::foreign_home", message);
    Some(warning.help("`BAKE_HOME` names another one; `chown` makes this one ours"))
}

/// The warnings that state directories of `BAKE_CACHE_FROM_DIR` are not used.
pub(crate) fn unusable(errors: &[StoreError]) -> impl Iterator<Item = Diagnostic> {
    errors.iter().map(|error| {
        let message = "a state directory of `BAKE_CACHE_FROM_DIR` is not used";
        Diagnostic::warning("bake::store::lower", message).cause(error)
    })
}
