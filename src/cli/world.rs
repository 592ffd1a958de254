//! Checks what targets use of this machine before anything is printed or built: secrets, ssh keys, destinations of outputs.
//! Reads no secret and writes nothing. For a plan that is only shown, a secret or agent that is missing and is not named by
//! a path is only a warning.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::FileTypeExt,
};

use super::{definition::Purpose, entitlements, settings::Settings};
use crate::{
    definition::{attribute::Id, origin::DefinitionOrigin},
    eval::{evaluation::Evaluation, target::typed::Target},
    report::{Diagnostic, Severity, SourceId},
    spec::{Secret, Ssh, context::ContextSource, dockerfile::DockerfileInput, output::Writes},
    ssh::{KeyFault, SshKey},
};

/// The limit for a secret in bytes, that of BuildKit.
const MAX_SECRET: u64 = 500 * 1024;

/// What is looked at.
pub(crate) struct CheckedDefinition<'d> {
    pub(crate) evaluated: &'d Evaluation,
    /// The texts of a remote definition.
    pub(crate) from_remote: &'d BTreeSet<SourceId>,
    /// Variables for secrets that the definition gives.
    pub(crate) secret_env: &'d BTreeMap<String, String>,
}

/// Checks all targets of the plan.
pub(crate) fn check(
    CheckedDefinition { evaluated, from_remote, secret_env }: &CheckedDefinition<'_>,
    settings: &Settings,
    purpose: Purpose,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let unnamed = if purpose == Purpose::Show { Severity::Warning } else { Severity::Error };
    for target in evaluated.targets.values() {
        for (ix, secret) in target.secrets.iter().enumerate() {
            if let Some(name) = unset_variable(secret, secret_env, settings) {
                let message = format!("the variable of secret `{}` is not set: {name}", secret.id);
                let help = "a step that does not require the secret runs without it".to_owned();
                let told = fault(target, Id::Secret, ix, name, (message, help));
                diagnostics.push(Diagnostic { severity: Severity::Warning, ..told });
            }
            if let Some(found) = secret_fault(secret, settings) {
                let part = secret.src.as_deref().unwrap_or(&secret.id);
                let severity = if secret.src.is_some() { Severity::Error } else { unnamed };
                diagnostics.push(Diagnostic { severity, ..fault(target, Id::Secret, ix, part, found) });
            }
        }
        for (ix, ssh) in target.ssh.iter().enumerate() {
            let origin = match from_remote.contains(&target.at(Id::Ssh).source) {
                true => DefinitionOrigin::Remote,
                false => DefinitionOrigin::default(),
            };
            if let Some(found) = ssh_fault(ssh, &origin, settings) {
                let part = if let [path] = ssh.paths.as_slice() { path } else { &ssh.id };
                let severity = if ssh.paths.is_empty() { unnamed } else { Severity::Error };
                diagnostics.push(Diagnostic { severity, ..fault(target, Id::Ssh, ix, part, found) });
            }
        }
        if settings.remote.is_some()
            && let Some(dockerfile) = local_dockerfile(target, settings)
        {
            let message = format!(
                "`dockerfile` of target `{}`: a remote definition does not read it from this machine: {dockerfile}",
                target.name
            );
            diagnostics.push(
                Diagnostic::error("bake::cli::remote_dockerfile", message)
                    .at(target.at(Id::Dockerfile), "there is a file of this name here")
                    .help(format!("if that is meant, write `cwd://{dockerfile}`")),
            );
        }
        for (ix, output) in target.outputs.iter().enumerate() {
            let (dest, is, wanted) = match output.value.writes() {
                Writes::File(dest) if settings.cwd.join(dest).is_dir() => (dest, "directory", "file"),
                Writes::Directory(dest) if settings.cwd.join(dest).is_file() => (dest, "file", "directory"),
                _ => continue,
            };
            let help = format!("an output of type `{}` writes a {wanted}", output.exporter());
            let found = (format!("`dest` is a {is}: {dest}"), help);
            diagnostics.push(fault(target, Id::Output, ix, dest, found));
        }
    }
}

/// The Dockerfile in a local context, relative to the working directory, if it exists and was not written as `cwd://`.
fn local_dockerfile(target: &Target, settings: &Settings) -> Option<String> {
    let (ContextSource::Local(context), DockerfileInput::InContext(dockerfile)) = (&target.context, &target.dockerfile)
    else {
        return None;
    };
    if context.starts_with('/') || !ContextSource::is_local_path(dockerfile) {
        return None;
    }
    let path = crate::spec::path::clean(&format!("{context}/{dockerfile}"));
    settings.cwd.join(&path).exists().then_some(path)
}

/// A fault of one element of an attribute; `part` is the text of that element.
fn fault(target: &Target, id: Id, ix: usize, part: &str, (message, help): (String, String)) -> Diagnostic {
    Diagnostic::error("bake::cli::world", format!("`{}[{ix}]` of target `{}`: {message}", id.row().name, target.name))
        .at_part(target.at(id), part, "asked for here")
        .help(help)
        .of([target.name.0.clone()])
        .topic(format!("{}[{ix}] {part}", id.row().name))
}

/// The variable that a secret names, if it is nowhere.
fn unset_variable<'s>(secret: &'s Secret, given: &BTreeMap<String, String>, settings: &Settings) -> Option<&'s str> {
    secret.env.as_deref().filter(|name| !settings.env.contains_key(*name) && !given.contains_key(*name))
}

fn secret_fault(secret: &Secret, settings: &Settings) -> Option<(String, String)> {
    if secret.env.is_some() {
        return None;
    }
    if secret.src.is_none() && settings.env.contains_key(&secret.id) {
        return None;
    }
    let path = secret.src.as_deref().unwrap_or(&secret.id);
    match fs::metadata(settings.cwd.join(path)) {
        Ok(metadata) if metadata.is_dir() => {
            Some((format!("the file of secret `{}` is a directory: {path}", secret.id), "give a file".to_owned()))
        }
        Ok(metadata) if metadata.len() > MAX_SECRET => Some((
            format!("the file of secret `{}` is larger than {MAX_SECRET} bytes: {path}", secret.id),
            "a secret is short; bring large files in by a context".to_owned(),
        )),
        Ok(_) => None,
        Err(error) if secret.src.is_none() => Some((
            format!(
                "there is neither an environment variable nor a file of the name of the secret: {path}{}",
                if error.kind() == io::ErrorKind::NotFound { String::new() } else { why(&error) }
            ),
            format!("write id={path},src=FILE or id={path},env=NAME"),
        )),
        Err(error) => Some((
            format!("the file of secret `{}` {}: {path}{}", secret.id, cannot(&error), why(&error)),
            "give a file that exists".to_owned(),
        )),
    }
}

fn ssh_fault(ssh: &Ssh, origin: &DefinitionOrigin, settings: &Settings) -> Option<(String, String)> {
    if ssh.paths.is_empty() {
        let agent = settings.env.get("SSH_AUTH_SOCK").filter(|it| !it.is_empty());
        return match agent {
            // The user's own variable.
            Some(path) => path_fault(path, &DefinitionOrigin::default(), settings)
                .map(|(why, _)| (why, "start an ssh agent, or name a key: ID=PATH".to_owned())),
            None => {
                let id = if ssh.id.is_empty() { "default" } else { &ssh.id };
                Some((
                    format!("there is no ssh agent, `SSH_AUTH_SOCK` is not set: {id}"),
                    format!("start an ssh agent, or name a key: {id}=PATH"),
                ))
            }
        };
    }
    let is_socket = |path: &&String| fs::metadata(settings.cwd.join(path)).is_ok_and(|it| it.file_type().is_socket());
    if ssh.paths.len() > 1
        && let Some(socket) = ssh.paths.iter().find(is_socket)
    {
        let message = format!("the socket of an agent is one of several paths: {socket}");
        return Some((message, "name it alone, or only private keys".to_owned()));
    }
    ssh.paths.iter().find_map(|path| path_fault(path, origin, settings))
}

/// Says why a file cannot be used.
fn cannot(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::NotFound { "does not exist" } else { "cannot be read" }
}

/// The message of the system in parentheses.
fn why(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::NotFound {
        " (no such file or directory)".to_owned()
    } else {
        format!(" ({error})")
    }
}

/// The fault of a path that is neither an agent's socket nor a private key that can be used, and what to do about it.
fn path_fault(path: &str, origin: &DefinitionOrigin, settings: &Settings) -> Option<(String, String)> {
    const LONGEST_KEY: u64 = 100 * 1024;
    let either = "give the socket of an agent, or private keys".to_owned();
    let full = settings.cwd.join(path);
    let metadata = match fs::metadata(&full) {
        Ok(metadata) => metadata,
        Err(error) => {
            return Some((format!("the ssh agent or key {}: {path}{}", cannot(&error), why(&error)), either));
        }
    };
    if metadata.file_type().is_socket() {
        return None;
    }
    if !metadata.is_file() || metadata.len() > LONGEST_KEY {
        return Some((format!("neither an agent's socket nor a private key: {path}"), either));
    }
    // What is not granted is asked for before anybody looks into it.
    let Ok(Ok(granted)) = entitlements::definition_reads(settings).read(&full, origin) else { return None };
    match SshKey::parse(&granted.read(LONGEST_KEY).ok()?) {
        Ok(_) => None,
        Err(KeyFault::NoKey) => Some((format!("neither an agent's socket nor a private key: {path}"), either)),
        Err(fault @ KeyFault::Encrypted) => Some((
            format!("an ssh key cannot be used, {fault}: {path}"),
            format!("give the key to an agent (`ssh-add {path}`) and name no path, or name a key without a passphrase"),
        )),
        Err(fault) => Some((
            format!("an ssh key cannot be used, {fault}: {path}"),
            "use a key of type ed25519, rsa, or ecdsa (256 or 384 bits); or an agent".to_owned(),
        )),
    }
}
