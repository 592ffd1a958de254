//! `bake fmt`: lays out bake files in place. The names of changed files go to standard output, messages to standard error.

use std::{
    fs, io,
    io::Write as _,
    os::unix::fs::{MetadataExt as _, fchown},
    path::Path,
    sync::Arc,
};

use similar::TextDiff;

use crate::{
    cli::{FAILED, args::FmtArgs, write},
    definition::{
        format::format,
        load::{self, DEFAULT_NAMES, add_text},
    },
    report::{Diagnostic, SourceMap},
    ui::output,
};

/// One file before and after.
struct Laid {
    before: Arc<str>,
    after: String,
    /// The byte order mark of the file, which is part of neither text.
    mark: &'static str,
}

impl Laid {
    fn is_changed(&self) -> bool {
        *self.before != *self.after
    }

    /// The whole new file.
    fn text(&self) -> String {
        format!("{}{}", self.mark, self.after)
    }

    fn diff(&self, name: &str) -> String {
        TextDiff::from_lines(&*self.before, &self.after).unified_diff().header(name, name).to_string()
    }
}

/// Lays out the files; a file at fault does not stop the others.
pub(crate) fn run(args: &FmtArgs, color: bool) -> u8 {
    let mut sources = SourceMap::default();
    let mut faults = Vec::new();
    let names = wanted(args);
    if names.is_empty() {
        let tried = default_names().collect::<Vec<_>>().join(", ");
        faults.push(
            Diagnostic::error("bake::cli::fmt_nothing", "no bake file in HCL is found here")
                .help(format!("tried {tried}; give another file, as in: bake fmt ci.hcl")),
        );
    }
    let mut data = String::new();
    let mut has_changes = false;
    for name in names {
        let laid = match one(&name, &mut sources) {
            Ok(laid) => laid,
            Err(mut found) => {
                faults.append(&mut found);
                continue;
            }
        };
        has_changes |= laid.is_changed();
        let in_place = !args.check && name != "-";
        if in_place
            && laid.is_changed()
            && let Err(fault) = replace(&name, &laid.text())
        {
            faults.push(*fault);
            continue;
        }
        if args.diff {
            data.push_str(&laid.diff(&name));
        } else if name == "-" && !args.check {
            data.push_str(&laid.text());
        } else if laid.is_changed() {
            data.push_str(&name);
            data.push('\n');
        }
    }
    output::diagnostics(&faults, &sources, color);
    let written = write(&data);
    let failed = faults.iter().any(Diagnostic::is_error) || args.check && has_changes;
    if failed { FAILED } else { written }
}

/// The files that were named, each once, or those of the default names that are there.
fn wanted(args: &FmtArgs) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for name in args.files.iter().chain(&args.more) {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    if names.is_empty() {
        names.extend(default_names().filter(|it| Path::new(it).is_file()).map(str::to_owned));
    }
    names
}

fn default_names() -> impl Iterator<Item = &'static str> {
    DEFAULT_NAMES.into_iter().filter(|it| it.ends_with(".hcl"))
}

/// Reads and lays out one file.
fn one(name: &str, sources: &mut SourceMap) -> Result<Laid, Vec<Diagnostic>> {
    let bytes = if name == "-" { load::read_stdin() } else { load::read_file(name, "`bake fmt`") };
    let bytes = bytes.map_err(|fault| vec![*fault])?;
    let mut faults = Vec::new();
    let mark = if bytes.starts_with("\u{feff}".as_bytes()) { "\u{feff}" } else { "" };
    let Some((source, before)) = add_text(sources, name, bytes, &mut faults) else { return Err(faults) };
    let after = format(load::format_of(name, &before), source, &before)?;
    Ok(Laid { before, after, mark })
}

/// Replaces a file atomically. A symbolic link stays: the file that it points at is replaced and keeps its owner and mode.
fn replace(name: &str, text: &str) -> Result<(), Box<Diagnostic>> {
    let written = || -> io::Result<()> {
        let path = fs::canonicalize(name)?;
        let metadata = fs::metadata(&path)?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
        }
        let folder = path.parent().unwrap_or(Path::new("/"));
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(text.as_bytes())?;
        let own = file.as_file().metadata()?;
        if (own.uid(), own.gid()) != (metadata.uid(), metadata.gid()) {
            fchown(file.as_file(), Some(metadata.uid()), Some(metadata.gid()))?;
        }
        file.as_file().set_permissions(metadata.permissions())?;
        file.persist(&path)?;
        Ok(())
    };
    written().map_err(|error| {
        Box::new(
            Diagnostic::error("bake::cli::fmt_write", format!("the file cannot be written: {name}"))
                .cause(&error)
                .help("`bake fmt -` reads standard input and writes standard output"),
        )
    })
}
