//! Destinations that two exports of one plan write. Which exports may share one is decided here, from the outputs alone;
//! whether two texts lead to one place is for the caller to know.

use std::path::Path;

use super::Export;
use crate::{
    report::Diagnostic,
    spec::{Output, local::LocalMode, output::Writes, path},
};

/// The destination of an export as its text names it, absolute and without `.` and `..`; `-` is standard output, `None`
/// means that nothing is written on this machine. Symbolic links are not followed.
pub(crate) fn by_text(export: &Export, cwd: &Path) -> Option<String> {
    match export.output.value.writes() {
        Writes::Nothing => None,
        Writes::Stdout => Some("-".to_owned()),
        Writes::File(dest) | Writes::Directory(dest) => Some(path::clean(&cwd.join(dest).to_string_lossy())),
    }
}

/// What is wrong with two exports that write to one destination: nothing for OCI layouts, which take several images, a
/// warning for folders that are merged, else an error.
pub(crate) fn conflict(earlier: &Export, later: &Export) -> Option<Diagnostic> {
    let name = match later.output.value.writes() {
        Writes::Nothing => return None,
        Writes::Stdout => "stdout",
        Writes::File(dest) | Writes::Directory(dest) => dest,
    };
    let merges =
        |export: &Export| matches!(&export.output.value, Output::Local(local) if local.mode == LocalMode::Copy);
    let is_layout = |export: &Export| {
        matches!(export.output.value.writes(), Writes::Directory(_)) && !matches!(export.output.value, Output::Local(_))
    };
    let (mine, theirs) = (&later.wanted_by[0], &earlier.wanted_by[0]);
    let described = |export: &Export| format!("`{}` writes {}", export.wanted_by[0], export.title());
    let finish = |diagnostic: Diagnostic| {
        let diagnostic = diagnostic.at(later.at, described(later));
        if earlier.at == later.at { diagnostic } else { diagnostic.at(earlier.at, described(earlier)) }
    };
    if merges(later) && merges(earlier) {
        let message = format!("targets `{theirs}` and `{mine}` write into one directory: {name}");
        return Some(finish(Diagnostic::warning("bake::plan::shared_directory", message)));
    }
    if is_layout(later) && is_layout(earlier) && later.output.exporter() == earlier.output.exporter() {
        return None;
    }
    let who = if mine == theirs {
        format!("two outputs of target `{mine}`")
    } else {
        format!("targets `{theirs}` and `{mine}`")
    };
    let message = format!("{who} write different things to: {name}");
    Some(finish(Diagnostic::error("bake::plan::same_dest", message)).help("give each its own `dest`"))
}
