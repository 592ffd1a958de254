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
    cli::{
        args::FmtArgs,
        exit::{FAILED, write},
    },
    definition::{
        format::format,
        load::format_of,
        origin::{DefinitionOrigin, DefinitionReads},
        read::{self, DEFAULT_NAMES, add_text},
    },
    grant::Allowed,
    report::{Diagnostic, SourceMap, SourceOrigin},
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
    let (names, named_by_user) = wanted(args);
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
        let laid = match one(&name, named_by_user, &mut sources) {
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

/// The files that were named, each once, and true; or those of the default names that are there, and false.
fn wanted(args: &FmtArgs) -> (Vec<String>, bool) {
    let mut names: Vec<String> = Vec::new();
    for name in args.files.iter().chain(&args.more) {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    let named_by_user = !names.is_empty();
    if !named_by_user {
        names.extend(default_names().filter(|it| Path::new(it).is_file()).map(str::to_owned));
    }
    (names, named_by_user)
}

fn default_names() -> impl Iterator<Item = &'static str> {
    DEFAULT_NAMES.into_iter().filter(|it| it.ends_with(".hcl"))
}

/// Reads and lays out one file. One that the user did not name may be a link of whoever made the project: it must not lead
/// out of the work tree.
fn one(name: &str, named_by_user: bool, sources: &mut SourceMap) -> Result<Laid, Vec<Diagnostic>> {
    const NAMED_BY: &str = "`bake fmt`";
    let bytes = match name {
        "-" => read::read_stdin(),
        _ if named_by_user => read::read_file(name, NAMED_BY),
        _ => std::env::current_dir().map_err(|error| cannot_write(name, &error)).and_then(|cwd| {
            let reads = DefinitionReads::new(&cwd, Allowed::default());
            read::read_granted(name, NAMED_BY, &reads, &DefinitionOrigin::of_file(name)).map(|read| read.bytes)
        }),
    };
    let bytes = bytes.map_err(|fault| vec![*fault])?;
    let mut faults = Vec::new();
    let mark = if bytes.starts_with("\u{feff}".as_bytes()) { "\u{feff}" } else { "" };
    let Some((source, before)) = add_text(sources, SourceOrigin::File, name, bytes, &mut faults) else {
        return Err(faults);
    };
    let after = format(format_of(name, &before), source, &before)?;
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
    written().map_err(|error| cannot_write(name, &error))
}

fn cannot_write(name: &str, error: &io::Error) -> Box<Diagnostic> {
    Box::new(
        Diagnostic::error("bake::cli::fmt_write", format!("the file cannot be written: {name}"))
            .cause(error)
            .help("`bake fmt -` reads standard input and writes standard output"),
    )
}
