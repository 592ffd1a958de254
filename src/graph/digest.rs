//! The digest of a vertex: equal ops with equal inputs on one platform are one vertex.
//!
//! Unlike a cache key (`solve::lookup::key`) it covers every field: two builds share a vertex only if nothing about it
//! differs. Every struct is taken apart without `..`: a new field does not compile before it is decided about here.

use super::op::{
    CacheSharing, CopyAction, Exec, File, FileAction, GitOp, HttpOp, ImageOp, Local, MountOp, MountOpKind, Op,
    OwnerChange, SecretEnv, StepSource,
};
use crate::{
    oci::{Digest, LayerOrigin, ModeChange, Platform, digest::FieldHasher},
    spec::{ExtraHost, NetworkMode, ResourceLimits, SecurityMode},
};

/// Computes the digest of a vertex whose inputs have these digests.
pub(super) fn of_vertex<'a>(op: &Op, platform: &Platform, inputs: impl ExactSizeIterator<Item = &'a Digest>) -> Digest {
    let mut hasher = FieldHasher::new("vertex/2");
    match op {
        Op::Scratch => {
            hasher.text("scratch");
        }
        Op::Image(op) => image(hasher.text("image"), op),
        Op::Local(op) => local(hasher.text("local"), op),
        Op::Git(op) => git(hasher.text("git"), op),
        Op::Http(op) => http(hasher.text("http"), op),
        Op::Exec(op) => exec(hasher.text("exec"), op),
        Op::File(op) => file(hasher.text("file"), op),
        Op::Merge => {
            hasher.text("merge");
        }
    }
    hasher.text(&platform.to_string()).number(inputs.len() as u64);
    for input in inputs {
        hasher.digest(input);
    }
    hasher.finish()
}

fn image(hasher: &mut FieldHasher, op: &ImageOp) {
    // The manifest says which layers it has; the annotations of their descriptors come in no order.
    let ImageOp { reference, manifest, origin, layers: _ } = op;
    hasher.text(reference).digest(manifest);
    match origin {
        LayerOrigin::Registry { domain, path } => hasher.text("registry").text(domain).text(path),
        LayerOrigin::Layout { folder } => hasher.text("layout").text(&folder.to_string_lossy()),
        // No image is there, only shared caches.
        LayerOrigin::Objects { place, blobs } => hasher.text("objects").text(&place.to_string()).text(blobs),
    };
}

fn local(hasher: &mut FieldHasher, op: &Local) {
    let Local { folder, name, ignore, ignore_file } = op;
    texts(hasher.text(folder).text(name), ignore);
    hasher.optional(ignore_file.as_deref());
}

fn git(hasher: &mut FieldHasher, op: &GitOp) {
    let GitOp { url, reference, subdir, checksum, keep_git_dir, submodules, mtime_commit } = op;
    hasher.text(url);
    for part in [reference, subdir, checksum] {
        hasher.optional(part.as_deref());
    }
    flags(hasher, &[*keep_git_dir, *submodules, *mtime_commit]);
}

fn http(hasher: &mut FieldHasher, op: &HttpOp) {
    let HttpOp { url, checksum, filename, unpack } = op;
    hasher.text(url);
    match checksum {
        Some(checksum) => hasher.number(1).digest(checksum),
        None => hasher.number(0),
    };
    flags(hasher.text(filename), &[*unpack]);
}

fn exec(hasher: &mut FieldHasher, op: &Exec) {
    let Exec {
        args,
        env,
        cwd,
        user,
        hostname,
        network,
        security,
        mounts,
        extra_hosts,
        ulimits,
        shm_size,
        proxy,
        secret_env,
        sources,
        resources,
    } = op;
    texts(hasher, args);
    pairs(hasher, env.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    pairs(hasher, extra_hosts.iter().map(|ExtraHost { name, address }| (name.as_str(), address.as_str())));
    pairs(hasher, proxy.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    pairs(hasher, sources.iter().map(StepSource::key_texts));
    hasher.text(cwd).text(user).optional(hostname.as_deref());
    hasher.text(match network {
        NetworkMode::Default => "default",
        NetworkMode::None => "none",
        NetworkMode::Host => "host",
    });
    hasher.text(match security {
        SecurityMode::Sandbox => "sandbox",
        SecurityMode::Insecure => "insecure",
    });
    texts(hasher, &ulimits.iter().map(ToString::to_string).collect::<Vec<_>>());
    number(hasher, *shm_size);
    hasher.number(secret_env.len() as u64);
    for SecretEnv { name, id, required } in secret_env {
        flags(hasher.text(name).text(id), &[*required]);
    }
    limits(hasher, resources);
    hasher.number(mounts.len() as u64);
    for MountOp { target, kind } in mounts {
        mount(hasher.text(target), kind);
    }
}

fn limits(hasher: &mut FieldHasher, resources: &ResourceLimits) {
    let ResourceLimits { memory, memory_swap, cpu_shares, cpu_period, cpu_quota, cpuset_cpus, cpuset_mems } = resources;
    number(hasher, *memory);
    number(hasher, memory_swap.map(|swap| swap.to_number().cast_unsigned()));
    for limit in [cpuset_cpus, cpuset_mems] {
        hasher.optional(limit.as_deref());
    }
    for limit in [cpu_shares, cpu_period, cpu_quota] {
        number(hasher, limit.map(i64::cast_unsigned));
    }
}

fn mount(hasher: &mut FieldHasher, kind: &MountOpKind) {
    match kind {
        MountOpKind::Bind { input, source, writable } => {
            flags(hasher.text("bind").number(*input as u64).text(source), &[*writable]);
        }
        MountOpKind::Cache { id, namespace, sharing, seed, mode, uid, gid, readonly } => {
            hasher.text("cache").text(id).text(namespace).text(match sharing {
                CacheSharing::Shared => "shared",
                CacheSharing::Private => "private",
                CacheSharing::Locked => "locked",
            });
            match seed {
                Some((input, source)) => hasher.number(1).number(*input as u64).text(source),
                None => hasher.number(0),
            };
            for bits in [mode, uid, gid] {
                number(hasher, bits.map(u64::from));
            }
            flags(hasher, &[*readonly]);
        }
        MountOpKind::Tmpfs { size } => number(hasher.text("tmpfs"), *size),
        MountOpKind::Secret { id, mode, uid, gid, required } => {
            secret(hasher.text("secret"), id, [*mode, *uid, *gid], *required);
        }
        MountOpKind::Ssh { id, mode, uid, gid, required } => {
            secret(hasher.text("ssh"), id, [*mode, *uid, *gid], *required);
        }
        MountOpKind::Text { text, mode } => {
            hasher.text("text").text(text).number(u64::from(*mode));
        }
    }
}

fn secret(hasher: &mut FieldHasher, id: &str, mode_and_owner: [u32; 3], required: bool) {
    hasher.text(id);
    for bits in mode_and_owner {
        hasher.number(u64::from(bits));
    }
    flags(hasher, &[required]);
}

fn file(hasher: &mut FieldHasher, op: &File) {
    let File { actions } = op;
    hasher.number(actions.len() as u64);
    for action in actions {
        match action {
            FileAction::Copy(op) => copy(hasher.text("copy"), op),
            FileAction::Mkdir { path, owner: by } => owner(hasher.text("mkdir").text(path), by.as_ref()),
            FileAction::Mkfile { dest, name, text, mode: bits, owner: by } => {
                hasher.text("mkfile").text(dest).text(name).text(text);
                mode(hasher, bits.as_ref());
                owner(hasher, by.as_ref());
            }
        }
    }
}

fn copy(hasher: &mut FieldHasher, op: &CopyAction) {
    let CopyAction {
        input,
        source,
        dest,
        owner: by,
        mode: bits,
        unpack,
        parents,
        exclude,
        optional,
        reset_owner,
        default_file_mode,
    } = op;
    hasher.number(*input as u64).text(source).text(dest);
    owner(hasher, by.as_ref());
    mode(hasher, bits.as_ref());
    texts(hasher, exclude);
    flags(hasher, &[*unpack, *parents, *optional, *reset_owner]);
    number(hasher, default_file_mode.map(u64::from));
}

fn owner(hasher: &mut FieldHasher, owner: Option<&OwnerChange>) {
    match owner {
        Some(OwnerChange { user, group, at_workdir }) => {
            flags(hasher.number(1).text(user).optional(group.as_deref()), &[*at_workdir]);
        }
        None => {
            hasher.number(0);
        }
    }
}

fn mode(hasher: &mut FieldHasher, mode: Option<&ModeChange>) {
    match mode {
        Some(ModeChange::Octal(bits)) => hasher.text("octal").number(u64::from(*bits)),
        Some(ModeChange::Symbolic(text)) => hasher.text("symbolic").text(text),
        None => hasher.text("as it is"),
    };
}

fn number(hasher: &mut FieldHasher, number: Option<u64>) {
    match number {
        Some(number) => hasher.number(1).number(number),
        None => hasher.number(0),
    };
}

fn texts(hasher: &mut FieldHasher, list: &[String]) {
    hasher.number(list.len() as u64);
    for text in list {
        hasher.text(text);
    }
}

fn pairs<T: AsRef<str>>(hasher: &mut FieldHasher, list: impl ExactSizeIterator<Item = (T, T)>) {
    hasher.number(list.len() as u64);
    for (name, value) in list {
        hasher.text(name.as_ref()).text(value.as_ref());
    }
}

fn flags(hasher: &mut FieldHasher, flags: &[bool]) {
    for flag in flags {
        hasher.number(u64::from(*flag));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::{
        graph::op::StepSourceKind,
        spec::{SwapLimit, Ulimit, UlimitName},
    };

    fn digest(op: &Op) -> Digest {
        of_vertex(op, &Platform::host(), [].iter())
    }

    #[test]
    fn every_change_of_a_process_makes_another_vertex() {
        let with = |change: &dyn Fn(&mut Exec)| {
            let mut exec = Exec::of_args(&["make"]);
            change(&mut exec);
            digest(&Op::Exec(Box::new(exec)))
        };
        let pair = || ("a".to_owned(), "b".to_owned());
        let mount = |kind| MountOp { target: "/t".to_owned(), kind };
        let digests = [
            with(&|_| ()),
            with(&|exec| exec.args.push("a".to_owned())),
            with(&|exec| exec.env.push(pair())),
            with(&|exec| exec.extra_hosts.push(ExtraHost { name: "a".to_owned(), address: "b".to_owned() })),
            with(&|exec| exec.proxy.push(pair())),
            with(&|exec| {
                exec.sources.push(StepSource { kind: StepSourceKind::Secret, id: "a".to_owned(), origin: None });
            }),
            with(&|exec| exec.cwd.push('a')),
            with(&|exec| exec.user.push('a')),
            with(&|exec| exec.hostname = Some(String::new())),
            with(&|exec| exec.network = NetworkMode::Host),
            with(&|exec| exec.security = SecurityMode::Insecure),
            with(&|exec| exec.ulimits.push(Ulimit { name: UlimitName::Core, soft: 0, hard: 0 })),
            with(&|exec| exec.shm_size = Some(0)),
            with(&|exec| exec.resources.memory = Some(1)),
            with(&|exec| exec.resources.memory_swap = Some(SwapLimit::Unlimited)),
            with(&|exec| exec.resources.cpu_quota = Some(1)),
            with(&|exec| exec.resources.cpu_period = Some(1)),
            with(&|exec| exec.mounts.push(mount(MountOpKind::Tmpfs { size: None }))),
            with(&|exec| exec.mounts.push(mount(MountOpKind::Tmpfs { size: Some(0) }))),
            with(&|exec| exec.mounts.push(mount(MountOpKind::Text { text: String::new(), mode: 0 }))),
        ];
        assert_eq!(digests.iter().collect::<HashSet<_>>().len(), digests.len());
    }

    #[test]
    fn ops_platforms_and_inputs_tell_vertices_apart() {
        let (one, other) = (Digest::of(b"one"), Digest::of(b"other"));
        let host = Platform::host();
        let elsewhere = Platform::normalised("linux", "s390x", None);
        let digests = [
            of_vertex(&Op::Merge, &host, [].iter()),
            of_vertex(&Op::Scratch, &host, [].iter()),
            of_vertex(&Op::Merge, &elsewhere, [].iter()),
            of_vertex(&Op::Merge, &host, [one, other].iter()),
            of_vertex(&Op::Merge, &host, [other, one].iter()),
        ];
        assert_eq!(digests.iter().collect::<HashSet<_>>().len(), digests.len());
    }
}
