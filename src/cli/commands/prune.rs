//! `bake prune`: removes what is not needed any more.

use std::path::Path;

use crate::{
    cli::{FAILED, OK, args::PruneArgs},
    report::{Diagnostic, SourceMap},
    store::{PruneOptions, Store},
    ui::{output, progress::size},
};

/// Removes what is not needed any more.
pub(crate) fn run(bake_home: &Path, args: &PruneArgs, color: bool) -> u8 {
    let options = PruneOptions { all: args.all, older_than: None };
    let pruned = Store::open(bake_home).and_then(|store| store.prune(&options));
    match pruned {
        Ok(pruned) if pruned.busy => {
            output::words("bake: a run is using the state folder; nothing was removed\n");
            FAILED
        }
        Ok(pruned) => {
            output::words(&format!("removed {} and {} records\n", size(pruned.bytes), pruned.n_records));
            OK
        }
        Err(error) => {
            let fault = Diagnostic::error("bake::store::failed", "the state folder cannot be pruned").cause(&error);
            output::diagnostics(&[fault], &SourceMap::default(), color);
            FAILED
        }
    }
}
