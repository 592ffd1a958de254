//! Opens the state directory for the commands that maintain it.

use std::path::Path;

use super::FAILED;
use crate::{
    report::{Diagnostic, SourceMap},
    store::Store,
    ui::output,
};

/// The store of a state directory; `None` if there is no such directory yet.
///
/// # Errors
/// The exit code, when it cannot be opened; that was reported.
pub(crate) fn open_store(bake_home: &Path, color: bool) -> Result<Option<Store>, u8> {
    if !bake_home.exists() {
        return Ok(None);
    }
    Store::open(bake_home).map(Some).map_err(|error| {
        let message = format!("the state directory cannot be opened: {}", bake_home.display());
        let fault = Diagnostic::error("bake::cli::state", message).cause(&error).help("`BAKE_HOME` names it");
        output::diagnostics(&[fault], &SourceMap::default(), color);
        FAILED
    })
}
