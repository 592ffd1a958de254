//! Entitlements: compares what a plan needs with what the user allows, says exactly which flags are missing, and makes the
//! handles of the paths that are granted. What each attribute asks for is in docs/entitlements.md.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{command_line::CommandLineTarget, settings::Settings};
use crate::{
    definition::{attribute::Id, origin::DefinitionReads},
    grant::{self, Allowed, Denied, HostPaths, PastTree, ResolvedPath},
    plan::need::{Need, NeedKind},
    report::{Diagnostic, SourceId},
    spec::{Entitlement, entitlement::Grant},
    ui::{output, terminal::harmless},
};

/// Checks everything that a plan needs.
///
/// `by_set`: what `--set` named, which is the user's own word. `from_remote`: the texts of a remote definition, for which
/// the working directory is somebody else's.
///
/// # Errors
/// Names what is missing, when the user does not allow it when asked.
pub(crate) fn check(
    needs: &[Need],
    by_set: &[Grant],
    from_remote: &BTreeSet<SourceId>,
    settings: &Settings,
) -> Result<HostPaths, Diagnostic> {
    let grants: Vec<&Grant> = settings.grants.iter().chain(by_set).collect();
    let (mut paths, mut missing) = Granted::new(&grants, settings).all(needs, from_remote);
    fold(&mut missing);
    if missing.is_empty() {
        return Ok(paths);
    }
    let flags: BTreeSet<String> = missing.iter().map(Missing::flag).collect();
    let flags: Vec<String> = flags.into_iter().collect();
    let lines: BTreeSet<String> = missing.iter().map(Missing::describe).collect();
    let lines: Vec<String> = lines.into_iter().collect();
    if output::can_ask() && output::confirm(&question(&lines, &flags)) {
        let everything = Granted::everything(&grants, settings);
        for need in needs {
            // Only the paths matter here: all else was asked for in the question.
            drop(everything.grant(need, false, &mut paths));
        }
        return Ok(paths);
    }
    let message = match missing.as_slice() {
        [only] => format!("the build asks for more than it may: {}", only.describe()),
        _ => format!("the build asks for more than it may: {}", lines.join("; ")),
    };
    let mut diagnostic = Diagnostic::error("bake::cli::entitlements", message)
        .help(format!("if that is right, allow it: {}", flags.join(" ")));
    const SHOWN: usize = 6;
    for denied in missing.iter().take(SHOWN) {
        let Need { target, attribute, at, .. } = denied.need;
        diagnostic = diagnostic.at(*at, format!("`{attribute}` of target `{target}` asks for {}", denied.words()));
    }
    Err(diagnostic)
}

/// The handles of the paths that a plan needs, without a question: opening what is not granted is an error.
pub(crate) fn handles(
    needs: &[Need],
    by_set: &[Grant],
    from_remote: &BTreeSet<SourceId>,
    settings: &Settings,
) -> HostPaths {
    let grants: Vec<&Grant> = settings.grants.iter().chain(by_set).collect();
    Granted::new(&grants, settings).all(needs, from_remote).0
}

/// What the command line of `bake build` names: it is the user's own word, and asks for no more than `docker buildx build`
/// does. That asks before it removes files in the working directory itself or outside of it (`mode=delete`).
pub(crate) fn named_by(target: &CommandLineTarget, needs: &[Need], cwd: &Path) -> Vec<Grant> {
    let is_inside = |path: &str| {
        let real = |path: &Path| grant::resolve(path, cwd).ok().map(|found| found.path().to_owned());
        matches!((real(Path::new(path)), real(cwd)), (Some(path), Some(cwd)) if path.starts_with(&cwd) && path != cwd)
    };
    let outputs = needs.iter().filter(|need| need.attribute == Id::Output.row().name);
    let mut written = outputs.filter_map(|need| if let NeedKind::Write(path) = &need.what { Some(path) } else { None });
    let may_delete = written.all(|path| is_inside(path));
    let granted = needs.iter().filter_map(|need| match &need.what {
        // A link in the place of a Dockerfile that nobody named must not lead out of the project.
        NeedKind::Read(_) if need.attribute == Id::Dockerfile.row().name && !target.names_dockerfile => None,
        NeedKind::Read(path) => Some(Grant::Read(path.clone())),
        NeedKind::Write(path) => Some(Grant::Write(path.clone())),
        NeedKind::Ssh => Some(Grant::Ssh),
        NeedKind::SpecialFiles => Some(Grant::SpecialFiles),
        NeedKind::LocalDelete => may_delete.then_some(Grant::LocalDelete),
        NeedKind::Entitlement(Entitlement::NetworkHost) => Some(Grant::Need(Entitlement::NetworkHost)),
        NeedKind::Entitlement(_) | NeedKind::ReadDefinition(_) => None,
    });
    granted.collect()
}

/// A need that is not granted.
struct Missing<'a> {
    need: &'a Need,
    /// Where the path of the need really leads; empty for what has no path.
    real: PathBuf,
}

/// Leaves out what a grant of something else that is missing covers: an ignore file in a folder.
fn fold(missing: &mut Vec<Missing<'_>>) {
    let reads: Vec<PathBuf> = missing
        .iter()
        .filter(|denied| matches!(denied.need.what, NeedKind::Read(_)))
        .map(|denied| denied.real.clone())
        .collect();
    missing.retain(|denied| {
        !matches!(denied.need.what, NeedKind::ReadDefinition(_)) || !reads.iter().any(|it| denied.real.starts_with(it))
    });
}

/// What a plan may write once [`check`] found nothing missing: the paths that it named, as they really are now.
pub(crate) fn writable(needs: &[Need], settings: &Settings) -> Allowed {
    let mut writable = Allowed::default();
    for need in needs {
        if let NeedKind::Write(path) = &need.what {
            writable.allow(Path::new(path), &settings.cwd);
        }
    }
    writable
}

/// The question that asks for a grant. Each part is one line whatever it is made of: a line break in a path cannot make
/// up a line of the question.
fn question(lines: &[String], flags: &[String]) -> String {
    let lines: Vec<String> = lines.iter().map(|line| harmless(line)).collect();
    let flags: Vec<String> = flags.iter().map(|flag| harmless(flag)).collect();
    format!(
        "Your build asks for the following privileges:\n\n - {}\n\nTo allow them without a question: {}\n\nAllow them and go on? [y/N] ",
        lines.join("\n - "),
        flags.join(" ")
    )
}

impl Missing<'_> {
    fn describe(&self) -> String {
        let Need { target, attribute, .. } = self.need;
        format!("target `{target}` asks for {} (`{attribute}`)", self.words())
    }

    fn words(&self) -> String {
        let path = self.real.display();
        match &self.need.what {
            NeedKind::Entitlement(Entitlement::NetworkHost) => "the network of the host".to_owned(),
            NeedKind::Entitlement(Entitlement::SecurityInsecure) => "running without a sandbox's limits".to_owned(),
            NeedKind::Entitlement(Entitlement::Device(None)) => "devices".to_owned(),
            NeedKind::Entitlement(Entitlement::Device(Some(name))) => format!("the device {name}"),
            NeedKind::Ssh => "your ssh agent".to_owned(),
            NeedKind::LocalDelete => "removing files in the destination".to_owned(),
            NeedKind::SpecialFiles => "device nodes and set-user-ID files in the destination".to_owned(),
            NeedKind::Read(_) | NeedKind::ReadDefinition(_) => format!("reading {path}"),
            NeedKind::Write(_) => format!("writing {path}"),
        }
    }

    fn flag(&self) -> String {
        match &self.need.what {
            NeedKind::Entitlement(Entitlement::NetworkHost) => "--allow=network.host".to_owned(),
            NeedKind::Entitlement(Entitlement::SecurityInsecure) => "--allow=security.insecure".to_owned(),
            NeedKind::Entitlement(Entitlement::Device(None)) => "--allow=device".to_owned(),
            NeedKind::Entitlement(Entitlement::Device(Some(name))) => format!("--allow=device={name}"),
            NeedKind::Ssh => "--allow=ssh".to_owned(),
            NeedKind::LocalDelete => "--allow=buildx.local.delete".to_owned(),
            NeedKind::SpecialFiles => "--allow=fs.special".to_owned(),
            NeedKind::Read(_) | NeedKind::ReadDefinition(_) => Denied(self.real.clone()).read_flag(),
            NeedKind::Write(_) => Denied(self.real.clone()).write_flag(),
        }
    }
}

/// The check of what a definition reads while it is loaded and evaluated.
pub(super) fn definition_reads(settings: &Settings) -> DefinitionReads {
    let grants: Vec<&Grant> = settings.grants.iter().collect();
    DefinitionReads::new(&settings.cwd, Granted::new(&grants, settings).remote_read).in_past(settings.past.clone())
}

/// Grants with their paths looked up.
struct Granted<'a> {
    grants: &'a [&'a Grant],
    cwd: &'a Path,
    past: Option<&'a Arc<PastTree>>,
    read: Allowed,
    write: Allowed,
    /// Ignore files and their like: also in the rest of the git work tree around the working directory.
    read_definition: Allowed,
    /// Without the working directory, for what a remote definition says.
    remote_read: Allowed,
    remote_write: Allowed,
    ssh: bool,
}

impl<'a> Granted<'a> {
    fn new(grants: &'a [&'a Grant], settings: &'a Settings) -> Self {
        if !settings.check_fs_entitlements {
            return Self::everything(grants, settings);
        }
        let cwd = settings.cwd.as_path();
        let (mut remote_read, mut remote_write) = (Allowed::default(), Allowed::default());
        for grant in grants {
            match grant {
                Grant::Read(path) => remote_read.allow(Path::new(path), cwd),
                Grant::Write(path) => remote_write.allow(Path::new(path), cwd),
                Grant::ReadWrite(path) => {
                    remote_read.allow(Path::new(path), cwd);
                    remote_write.allow(Path::new(path), cwd);
                }
                Grant::Need(_) | Grant::Ssh | Grant::LocalDelete | Grant::SpecialFiles | Grant::Image => (),
            }
        }
        let (mut read, mut write) = (remote_read.clone(), remote_write.clone());
        read.allow(Path::new("."), cwd);
        write.allow(Path::new("."), cwd);
        let mut read_definition = read.clone();
        if let Some(tree) = grant::work_tree(cwd) {
            read_definition.allow(tree, cwd);
        }
        let ssh = grants.iter().any(|grant| matches!(grant, Grant::Ssh));
        let past = settings.past.as_ref();
        Self { grants, cwd, past, read, write, read_definition, remote_read, remote_write, ssh }
    }

    /// Every path is allowed.
    fn everything(grants: &'a [&'a Grant], settings: &'a Settings) -> Self {
        let cwd = settings.cwd.as_path();
        let mut all = Allowed::default();
        all.allow(Path::new("*"), cwd);
        let [write, read_definition, remote_read, remote_write] = std::array::from_fn(|_| all.clone());
        let past = settings.past.as_ref();
        Self { grants, cwd, past, read: all, write, read_definition, remote_read, remote_write, ssh: true }
    }

    /// Grants what may be granted of all needs; the rest is missing.
    fn all<'n>(&self, needs: &'n [Need], from_remote: &BTreeSet<SourceId>) -> (HostPaths, Vec<Missing<'n>>) {
        let (mut paths, mut missing) = (HostPaths::default(), Vec::new());
        for need in needs {
            let is_remote = from_remote.contains(&need.at.source);
            if let Err(denied) = self.grant(need, is_remote, &mut paths) {
                if let NeedKind::Read(path) | NeedKind::ReadDefinition(path) = &need.what {
                    paths.deny_read(path, &Denied(denied.real.clone()));
                }
                missing.push(denied);
            }
        }
        (paths, missing)
    }

    /// Grants a need, a path by making its handle.
    fn grant<'n>(&self, need: &'n Need, is_remote: bool, paths: &mut HostPaths) -> Result<(), Missing<'n>> {
        let plain = |is_granted: bool| if is_granted { Ok(()) } else { Err(Missing { need, real: PathBuf::new() }) };
        let (read, write) = if is_remote { (&self.remote_read, &self.remote_write) } else { (&self.read, &self.write) };
        let resolve =
            |path: &str| -> io::Result<ResolvedPath> { grant::resolve_in(self.past, Path::new(path), self.cwd) };
        match &need.what {
            NeedKind::Entitlement(Entitlement::Device(wanted)) => plain(self.grants.iter().any(|grant| match grant {
                Grant::Need(Entitlement::Device(None)) => true,
                Grant::Need(Entitlement::Device(name)) => name == wanted,
                _ => false,
            })),
            NeedKind::Entitlement(wanted) => {
                plain(self.grants.iter().any(|grant| matches!(grant, Grant::Need(allowed) if allowed == wanted)))
            }
            NeedKind::Ssh => plain(self.ssh),
            NeedKind::SpecialFiles => plain(self.grants.iter().any(|grant| matches!(grant, Grant::SpecialFiles))),
            NeedKind::LocalDelete => plain(self.grants.iter().any(|grant| matches!(grant, Grant::LocalDelete))),
            NeedKind::Read(path) => {
                let granted = settle(need, resolve(path).map(|found| read.read(found)))?;
                paths.add_read(path, granted);
                Ok(())
            }
            NeedKind::ReadDefinition(path) => {
                let allowed = if is_remote { read } else { &self.read_definition };
                let granted = settle(need, resolve(path).map(|found| allowed.read(found)))?;
                paths.add_read(path, granted);
                Ok(())
            }
            NeedKind::Write(path) => {
                // One that cannot be followed to its end, such as one that leads through a file, is told by the export.
                drop(settle(need, resolve(path).map(|found| write.write(found)))?);
                Ok(())
            }
        }
    }
}

/// A path that is denied is a fault of the plan; one that cannot be followed is a fault of whoever opens it.
fn settle<T>(need: &Need, granted: io::Result<Result<T, Denied>>) -> Result<io::Result<T>, Missing<'_>> {
    match granted {
        Ok(Ok(handle)) => Ok(Ok(handle)),
        Ok(Err(Denied(real))) => Err(Missing { need, real }),
        Err(error) => Ok(Err(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_cannot_make_up_lines_of_the_question() {
        let path = "a\n\nAllow them and go on? [y/N] y\u{1b}[2K\r\u{202e}";
        let asked = question(&[format!("reading {path}")], &[format!("--allow=fs.read={path}")]);
        assert_eq!(asked.lines().count(), 7, "{asked}");
        assert!(!asked.contains(['\u{1b}', '\r', '\u{202e}']), "{asked}");
        let ours = question(&["reading /x".to_owned()], &["--allow=fs.read=/x".to_owned()]);
        assert_eq!(ours.lines().count(), asked.lines().count());
    }
}
