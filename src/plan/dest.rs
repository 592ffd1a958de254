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

/// Whether an export adds its image to a destination that others may have as well: the option `append`.
pub(crate) fn appends(export: &Export) -> bool {
    export.output.value.archive().is_some_and(|archive| archive.append)
}

/// Whether two exports of one destination write it together: both append, in one form.
pub(crate) fn are_joint(earlier: &Export, later: &Export) -> bool {
    let form = |export: &Export| export.output.value.archive().map(|archive| archive.form);
    let is_alike = earlier.output.exporter() == later.output.exporter() && form(earlier) == form(later);
    appends(earlier) && appends(later) && is_alike
}

/// What is wrong with two exports that write to one destination, and not together: nothing for OCI layouts, which take several
/// images, a warning for folders that are merged, else an error.
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
    let archive = |export: &Export| export.output.value.archive().map(|archive| archive.form);
    let help = match (archive(earlier), archive(later)) {
        (Some(_), Some(_)) if are_joint(earlier, later) => "give `dest` the same text in both, or each its own",
        (Some(one), Some(other)) if one == other && earlier.output.exporter() == later.output.exporter() => {
            "give each its own `dest`, or all of them `append=true`, for one archive with all images"
        }
        _ => "give each its own `dest`",
    };
    Some(finish(Diagnostic::error("bake::plan::same_dest", message)).help(help))
}
