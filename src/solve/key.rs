//! Cache keys: which field of an op enters the key, and why.
//!
//! A key is a sha256 over one versioned, canonical list of fields per op. What identifies the inputs comes in as digests:
//! `fast` keys take the identity of the tree that is read, `slow` keys the content of the selected paths, so that a step
//! is found again when its input was made another way but came out the same. A key of one kind never equals one of the other.
//!
//! | op | field | in the key | why |
//! |---|---|---|---|
//! | all | platform | yes | the same command gives other files elsewhere |
//! | all | name, span, progress | no | the result does not depend on them |
//! | exec | args, env (in order), cwd, user, hostname, network, security | yes | the process sees them |
//! | exec | shm size, ulimits, names of extra hosts | yes | the process sees them |
//! | exec | addresses of extra hosts, proxy variables, memory and cpu limits | no | they say where and how fast, not what |
//! | exec | mounts: target, type, writable, tmpfs size, text, mode and owner of secrets and sockets | yes | the process sees them |
//! | exec | secret ids and names of secret variables | yes | another secret is another question |
//! | exec | values of secrets | **never** | a key is written to disk and shown |
//! | exec | cache mounts: that there is one, its target | yes | |
//! | exec | cache mounts: custom id, sharing, content | no | they are a help, not an input |
//! | exec | bind mounts: content of the selected path | yes | the process may read it; where it came from does not count |
//! | exec | root | identity of the tree | never its content: hashing a whole root costs more than most steps |
//! | file | destination, owner, mode, flags, patterns, base name of the source | yes | they shape the result |
//! | file | directory part of the source | no | the same files from elsewhere are the same |
//! | file | content of the selected paths | yes | |
//! | file | tree that is changed | identity | |
//! | image | diff ids | yes | its name, tag, registry and manifest do not count |
//! | local | path | no | content counts, wherever it lies |

use crate::{
    graph::{Action, Copy, Exec, Mode, MountKind, Owner},
    oci::{Digest, Platform, digest::FieldHasher},
};

/// Whether the inputs of a key are told by the identity of their tree or by what is read of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Fast,
    Slow,
}

fn start(op: &str, kind: Kind, platform: &Platform) -> FieldHasher {
    let mut hasher = FieldHasher::new(op);
    hasher.number(u64::from(kind == Kind::Slow)).text(&platform.to_string());
    hasher
}

/// The key of a process. `root` is the identity of its root; `binds` tells, for each bind mount in order, what is read.
pub(crate) fn exec(exec: &Exec, platform: &Platform, kind: Kind, root: &Digest, binds: &[Digest]) -> Digest {
    let mut hasher = start("key/exec/1", kind, platform);
    hasher.digest(root);
    list(&mut hasher, &exec.args);
    hasher.number(exec.env.len() as u64);
    for (name, value) in &exec.env {
        hasher.text(name).text(value);
    }
    hasher.text(&exec.cwd).text(&exec.user).optional(exec.hostname.as_deref());
    hasher.number(exec.network as u64).number(exec.security as u64);
    hasher.number(exec.shm_size.map_or(0, |size| size + 1));
    list(&mut hasher, &exec.ulimits);
    hasher.number(exec.extra_hosts.len() as u64);
    for (name, _) in &exec.extra_hosts {
        hasher.text(name);
    }
    hasher.number(exec.secret_env.len() as u64);
    for secret in &exec.secret_env {
        hasher.text(&secret.name).text(&secret.id).number(u64::from(secret.required));
    }
    hasher.number(exec.mounts.len() as u64);
    let mut binds = binds.iter();
    for mount in &exec.mounts {
        hasher.text(&mount.target);
        match &mount.kind {
            MountKind::Bind { writable, .. } => {
                let content = binds.next().expect("the caller gives one digest for each bind mount");
                hasher.text("bind").number(u64::from(*writable)).digest(content);
            }
            MountKind::Cache { readonly, .. } => {
                hasher.text("cache").number(u64::from(*readonly));
            }
            MountKind::Tmpfs { size } => {
                hasher.text("tmpfs").number(size.map_or(0, |size| size + 1));
            }
            MountKind::Secret { id, mode, uid, gid, required } => {
                secret(hasher.text("secret"), id, [*mode, *uid, *gid], *required);
            }
            MountKind::Ssh { id, mode, uid, gid, required } => {
                secret(hasher.text("ssh"), id, [*mode, *uid, *gid], *required);
            }
            MountKind::Text { text, mode } => {
                hasher.text("text").text(text).number(u64::from(*mode));
            }
        }
    }
    hasher.finish()
}

fn secret(hasher: &mut FieldHasher, id: &str, ids: [u32; 3], required: bool) {
    hasher.text(id).number(u64::from(required));
    for id in ids {
        hasher.number(u64::from(id));
    }
}

/// The key of file actions. `reads` tells, for each copy action in order, what is read.
pub(crate) fn file(actions: &[Action], platform: &Platform, kind: Kind, dest: &Digest, reads: &[Digest]) -> Digest {
    let mut hasher = start("key/file/1", kind, platform);
    hasher.digest(dest).number(actions.len() as u64);
    let mut reads = reads.iter();
    for action in actions {
        match action {
            Action::Copy(copy) => {
                let read = reads.next().expect("the caller gives one digest for each copy");
                copy_action(hasher.text("copy").digest(read), copy);
            }
            Action::Mkdir { path, owner: by } => owner(hasher.text("mkdir").text(path), by.as_ref()),
            Action::Mkfile { dest, name, text, mode: bits, owner: by } => {
                hasher.text("mkfile").text(dest).text(name).text(text);
                mode(&mut hasher, bits.as_ref());
                owner(&mut hasher, by.as_ref());
            }
        }
    }
    hasher.finish()
}

fn copy_action(hasher: &mut FieldHasher, copy: &Copy) {
    // With --parents the whole path is kept in the destination; without, only the last name may be.
    let source = if copy.parents { copy.source.as_str() } else { copy.source.rsplit('/').next().unwrap_or_default() };
    hasher.text(source).text(&copy.dest);
    owner(hasher, copy.owner.as_ref());
    mode(hasher, copy.mode.as_ref());
    for flag in [copy.unpack, copy.parents, copy.optional, copy.reset_owner] {
        hasher.number(u64::from(flag));
    }
    hasher.number(copy.default_file_mode.map_or(0, |mode| u64::from(mode) + 1));
    list(hasher, &copy.exclude);
}

fn owner(hasher: &mut FieldHasher, owner: Option<&Owner>) {
    hasher.number(u64::from(owner.is_some()));
    if let Some(owner) = owner {
        hasher.text(&owner.user).optional(owner.group.as_deref()).number(u64::from(owner.at_workdir));
    }
}

fn mode(hasher: &mut FieldHasher, mode: Option<&Mode>) {
    match mode {
        None => hasher.number(0),
        Some(Mode::Octal(bits)) => hasher.number(1).number(u64::from(*bits)),
        Some(Mode::Symbolic(text)) => hasher.number(2).text(text),
    };
}

fn list(hasher: &mut FieldHasher, items: &[String]) {
    hasher.number(items.len() as u64);
    for item in items {
        hasher.text(item);
    }
}
