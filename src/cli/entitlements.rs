//! Entitlements: compares what a plan needs with what the user allows, and says exactly which `--allow` flags are missing.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
};

use super::settings::Settings;
use crate::{
    grant::{self, Allowed},
    plan::need::{Need, NeedKind},
    report::Diagnostic,
    spec::{Entitlement, entitlement::Grant},
    ui::{output, terminal::harmless},
};

/// The diagnostic about missing grants; `None` if nothing is missing or the user allows it when asked.
pub(crate) fn check(needs: &[Need], by_set: &[Grant], settings: &Settings) -> Option<Diagnostic> {
    let grants: Vec<&Grant> = settings.grants.iter().chain(by_set).collect();
    let granted = Granted::new(&grants, &settings.cwd);
    let missing: Vec<&Need> = needs.iter().filter(|it| !granted.covers(&it.what, settings)).collect();
    if missing.is_empty() {
        return None;
    }
    let flags: BTreeSet<String> = missing.iter().map(|it| flag(&it.what, &settings.cwd)).collect();
    let flags: Vec<String> = flags.into_iter().collect();
    let lines: BTreeSet<String> = missing.iter().map(|it| describe(it, &settings.cwd)).collect();
    let lines: Vec<String> = lines.into_iter().collect();
    if output::can_ask() && output::confirm(&question(&lines, &flags)) {
        return None;
    }
    let message = match missing.as_slice() {
        [only] => format!("the build asks for more than it may: {}", describe(only, &settings.cwd)),
        _ => format!("the build asks for more than it may: {}", lines.join("; ")),
    };
    let mut diagnostic = Diagnostic::error("bake::cli::entitlements", message)
        .help(format!("if that is right, allow it: {}", flags.join(" ")));
    const SHOWN: usize = 6;
    for it in missing.iter().take(SHOWN) {
        diagnostic = diagnostic.at(
            it.at,
            format!("`{}` of target `{}` asks for {}", it.attribute, it.target, words(&it.what, &settings.cwd)),
        );
    }
    Some(diagnostic)
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

fn describe(need: &Need, cwd: &Path) -> String {
    format!("target `{}` asks for {} (`{}`)", need.target, words(&need.what, cwd), need.attribute)
}

fn words(what: &NeedKind, cwd: &Path) -> String {
    match what {
        NeedKind::Entitlement(Entitlement::NetworkHost) => "the network of the host".to_owned(),
        NeedKind::Entitlement(Entitlement::SecurityInsecure) => "running without a sandbox's limits".to_owned(),
        NeedKind::Entitlement(Entitlement::Device(None)) => "devices".to_owned(),
        NeedKind::Entitlement(Entitlement::Device(Some(name))) => format!("the device {name}"),
        NeedKind::Ssh => "your ssh agent".to_owned(),
        NeedKind::LocalDelete => "removing files in the destination".to_owned(),
        NeedKind::SpecialFiles => "device nodes and set-user-ID files in the destination".to_owned(),
        NeedKind::Read(path) => format!("reading {}", resolve(path, cwd).display()),
        NeedKind::Write(path) => format!("writing {}", resolve(path, cwd).display()),
    }
}

fn flag(what: &NeedKind, cwd: &Path) -> String {
    match what {
        NeedKind::Entitlement(Entitlement::NetworkHost) => "--allow=network.host".to_owned(),
        NeedKind::Entitlement(Entitlement::SecurityInsecure) => "--allow=security.insecure".to_owned(),
        NeedKind::Entitlement(Entitlement::Device(None)) => "--allow=device".to_owned(),
        NeedKind::Entitlement(Entitlement::Device(Some(name))) => format!("--allow=device={name}"),
        NeedKind::Ssh => "--allow=ssh".to_owned(),
        NeedKind::LocalDelete => "--allow=buildx.local.delete".to_owned(),
        NeedKind::SpecialFiles => "--allow=fs.special".to_owned(),
        NeedKind::Read(path) => format!("--allow=fs.read={}", shown(path, cwd)),
        NeedKind::Write(path) => format!("--allow=fs.write={}", shown(path, cwd)),
    }
}

/// The path quoted for a shell.
fn shown(path: &str, cwd: &Path) -> String {
    let text = resolve(path, cwd).display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// Whether an expression may read this file: it lies below the working directory, or `--allow` names it.
pub(super) fn may_read(path: &Path, settings: &Settings) -> bool {
    let grants: Vec<&Grant> = settings.grants.iter().collect();
    Granted::new(&grants, &settings.cwd).covers(&NeedKind::Read(path.to_string_lossy().into_owned()), settings)
}

/// Grants with their paths looked up.
struct Granted<'a> {
    grants: &'a [&'a Grant],
    read: Allowed,
    write: Allowed,
}

impl<'a> Granted<'a> {
    fn new(grants: &'a [&'a Grant], cwd: &Path) -> Self {
        let (mut read, mut write) = (Allowed::default(), Allowed::default());
        read.allow(Path::new("."), cwd);
        write.allow(Path::new("."), cwd);
        for grant in grants {
            match grant {
                Grant::Read(path) => read.allow(Path::new(path), cwd),
                Grant::Write(path) => write.allow(Path::new(path), cwd),
                Grant::ReadWrite(path) => {
                    read.allow(Path::new(path), cwd);
                    write.allow(Path::new(path), cwd);
                }
                Grant::Need(_) | Grant::Ssh | Grant::LocalDelete | Grant::SpecialFiles | Grant::Image => (),
            }
        }
        Self { grants, read, write }
    }

    fn covers(&self, what: &NeedKind, settings: &Settings) -> bool {
        let skip = !settings.check_fs_entitlements;
        match what {
            NeedKind::Entitlement(Entitlement::Device(wanted)) => self.grants.iter().any(|it| match it {
                Grant::Need(Entitlement::Device(None)) => true,
                Grant::Need(Entitlement::Device(name)) => name == wanted,
                _ => false,
            }),
            NeedKind::Entitlement(it) => {
                self.grants.iter().any(|grant| matches!(grant, Grant::Need(allowed) if allowed == it))
            }
            NeedKind::Ssh => skip || self.grants.iter().any(|it| matches!(it, Grant::Ssh)),
            NeedKind::SpecialFiles => self.grants.iter().any(|it| matches!(it, Grant::SpecialFiles)),
            NeedKind::LocalDelete => self.grants.iter().any(|it| matches!(it, Grant::LocalDelete)),
            NeedKind::Read(path) => skip || covers(&self.read, path, &settings.cwd),
            NeedKind::Write(path) => skip || may_write(&self.write, path, &settings.cwd),
        }
    }
}

/// Whether a path is allowed. One that cannot be followed to its end is not: only `*` allows it.
fn covers(allowed: &Allowed, path: &str, cwd: &Path) -> bool {
    grant::resolve(Path::new(path), cwd).map_or(allowed.is_everything(), |found| allowed.read(found).is_ok())
}

/// Whether a path may be written. One that leads through a file can be written by nobody: the export says so, better than a
/// question that helps nobody.
fn may_write(allowed: &Allowed, path: &str, cwd: &Path) -> bool {
    match grant::resolve(Path::new(path), cwd) {
        Ok(found) => allowed.write(found).is_ok(),
        Err(error) => error.kind() == io::ErrorKind::NotADirectory || allowed.is_everything(),
    }
}

/// Where a path really leads, for messages; what cannot be followed is shown as it is written.
fn resolve(path: &str, cwd: &Path) -> PathBuf {
    grant::resolve(Path::new(path), cwd).map_or_else(|_| cwd.join(path), |found| found.path())
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
