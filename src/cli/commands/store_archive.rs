//! `bake cache export` and `bake cache import`: a whole store as one archive, for machines that begin with nothing.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Write as _},
    path::Path,
};

use crate::{
    cli::{
        exit::{FAILED, OK, USAGE},
        state::open_store,
    },
    report::{Diagnostic, SourceMap},
    sandbox::{self, StepOwners},
    store::{HomeDir, ImportedStore},
    ui::output,
};

use super::du::human;

/// What made the trees of a store, whose files only its like can use.
fn maker(owners: StepOwners) -> &'static str {
    match owners {
        StepOwners::Recorded => "an ordinary user with one id",
        StepOwners::Kept if sandbox::is_user_namespace() => "an ordinary user",
        StepOwners::Kept => "root",
    }
}

/// Writes the store to a file, or to standard output for `-`.
pub(crate) fn export(bake_home: &HomeDir, owners: StepOwners, file: &str, color: bool) -> u8 {
    let failed = |fault: Diagnostic| {
        output::diagnostics(&[fault], &SourceMap::default(), color);
        FAILED
    };
    if file == "-" && io::stdout().is_terminal() {
        let fault = Diagnostic::error("bake::cli::cache_archive", "refusing to write an archive to a terminal");
        output::diagnostics(&[fault.help("name a file, or redirect standard output")], &SourceMap::default(), color);
        return USAGE;
    }
    let store = match open_store(bake_home, color) {
        Ok(Some(store)) => store,
        Ok(None) => {
            let message = format!("there is no state directory yet: {}", bake_home.path.display());
            return failed(Diagnostic::error("bake::cli::cache_archive", message).help("`BAKE_HOME` names it"));
        }
        Err(code) => return code,
    };
    let unwritten = |error: &dyn std::fmt::Display| {
        let mut fault = Diagnostic::error("bake::cli::cache_archive", format!("the archive cannot be written: {file}"));
        fault.causes.push(error.to_string());
        fault
    };
    let done = if file == "-" {
        store.export_archive(io::stdout().lock(), maker(owners)).map_err(|error| unwritten(&error))
    } else {
        // It gets its name when it is whole.
        let folder = Path::new(file).parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        tempfile::NamedTempFile::new_in(folder).map_err(|error| unwritten(&error)).and_then(|mut part| {
            let done = store.export_archive(&mut part, maker(owners)).map_err(|error| unwritten(&error))?;
            part.flush().map_err(|error| unwritten(&error))?;
            part.persist(file).map_err(|error| unwritten(&error.error))?;
            Ok(done)
        })
    };
    match done {
        Ok(done) => {
            let size = std::fs::metadata(file).map_or(String::new(), |meta| format!(" ({})", human(meta.len())));
            output::words(&format!(
                "wrote {} blobs, {} snapshots, {} records to {file}{size}\n",
                done.n_blobs, done.n_snapshots, done.n_records
            ));
            OK
        }
        Err(fault) => failed(fault),
    }
}

/// Adds the archive in a file, or on standard input for `-`, to the store.
pub(crate) fn import(bake_home: &HomeDir, owners: StepOwners, file: &str, color: bool) -> u8 {
    let failed = |fault: Diagnostic| {
        output::diagnostics(&[fault], &SourceMap::default(), color);
        FAILED
    };
    let store = match bake_home.open() {
        Ok(opened) => opened.store,
        Err(error) => {
            let message = format!("the state directory cannot be opened: {}", bake_home.path.display());
            return failed(Diagnostic::error("bake::cli::state", message).cause(&error).help(error.help()));
        }
    };
    let done = if file == "-" {
        store.import_archive(io::stdin().lock(), maker(owners))
    } else {
        match File::open(file) {
            Ok(input) => store.import_archive(input, maker(owners)),
            Err(error) => {
                let message = format!("the archive cannot be read: {file}");
                return failed(Diagnostic::error("bake::cli::cache_archive", message).cause(&error));
            }
        }
    };
    let synced = store.finish_run(|program| sandbox::command(program));
    match done {
        Ok(done) => {
            if let Err(error) = synced {
                let warning = "the state directory could not be brought up to date";
                let warning = Diagnostic::warning("bake::store::failed", warning).cause(&error);
                output::diagnostics(&[warning], &SourceMap::default(), color);
            }
            told(&done, file, color)
        }
        Err(error) => {
            let mut fault = Diagnostic::error("bake::cli::cache_archive", format!("not all of it was added: {file}"));
            fault.causes.push(error.to_string());
            failed(fault.help("what was added before is whole; `bake cache export` writes such archives"))
        }
    }
}

/// Says what was added; the exit code.
fn told(done: &ImportedStore, file: &str, color: bool) -> u8 {
    let ImportedStore { n_blobs, n_snapshots, n_records, n_damaged, n_unknown } = *done;
    output::words(&format!("added {n_blobs} blobs, {n_snapshots} snapshots, {n_records} records from {file}\n"));
    let mut warnings = Vec::new();
    if n_damaged > 0 {
        let message = format!("{n_damaged} blobs and snapshots are damaged and were left out: {file}");
        warnings.push(Diagnostic::error("bake::cli::cache_archive", message).help("make the archive anew"));
    }
    if n_unknown > 0 {
        let message = format!("{n_unknown} things of another version of bake were left out: {file}");
        warnings.push(Diagnostic::warning("bake::cli::cache_archive", message));
    }
    output::diagnostics(&warnings, &SourceMap::default(), color);
    if n_damaged > 0 { FAILED } else { OK }
}
