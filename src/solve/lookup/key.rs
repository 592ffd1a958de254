//! Cache keys: which field of an op enters the key, and why.
//!
//! Every struct is taken apart without `..`: a new field does not compile before it is decided about here.
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
//! | exec | sources of secrets and agents | where builds of the run differ in them under one id | nothing else tells such steps apart; see [`apart`] |
//! | exec | values of secrets | **never** | a key is written to disk and shown |
//! | exec | cache mounts: that there is one, its target | yes | |
//! | exec | cache mounts: namespace | yes | what a step makes of a mount that others filled is not for builds of another namespace |
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
    graph::{CopyAction, Exec, FileAction, MountOp, MountOpKind, OwnerChange, SecretEnv},
    oci::{Digest, ModeChange, Platform, digest::FieldHasher},
    spec::{ExtraHost, NetworkMode, SecurityMode},
};

/// The way in which the inputs of a step enter its cache key: by the identity of their trees (fast), or by the content
/// that is read (slow).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InputKind {
    /// By the identity of their trees.
    Fast,
    /// By the content of what is read of them.
    Slow,
}

fn start(op: &str, kind: InputKind, platform: &Platform) -> FieldHasher {
    let mut hasher = FieldHasher::new(op);
    hasher.number(u64::from(kind == InputKind::Slow)).text(&platform.to_string());
    hasher
}

/// Computes the cache key of a process. `root` is the identity of its root; `binds` has the digest of what is read, for
/// each bind mount in order.
pub(crate) fn exec(exec: &Exec, platform: &Platform, kind: InputKind, root: &Digest, binds: &[Digest]) -> Digest {
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
        proxy: _,
        secret_env,
        sources: _,
        resources: _,
    } = exec;
    let mut hasher = start("key/exec/1", kind, platform);
    hasher.digest(root);
    list(&mut hasher, args);
    hasher.number(env.len() as u64);
    for (name, value) in env {
        hasher.text(name).text(value);
    }
    hasher.text(cwd).text(user).optional(hostname.as_deref());
    hasher.number(network_number(*network)).number(security_number(*security));
    hasher.number(shm_size.map_or(0, |size| size + 1));
    list(&mut hasher, &ulimits.iter().map(ToString::to_string).collect::<Vec<_>>());
    hasher.number(extra_hosts.len() as u64);
    for ExtraHost { name, address: _ } in extra_hosts {
        hasher.text(name);
    }
    hasher.number(secret_env.len() as u64);
    for SecretEnv { name, id, required } in secret_env {
        hasher.text(name).text(id).number(u64::from(*required));
    }
    hasher.number(mounts.len() as u64);
    let mut binds = binds.iter();
    for MountOp { target, kind } in mounts {
        hasher.text(target);
        mount(&mut hasher, kind, &mut binds);
    }
    hasher.finish()
}

fn mount(hasher: &mut FieldHasher, kind: &MountOpKind, binds: &mut std::slice::Iter<'_, Digest>) {
    match kind {
        MountOpKind::Bind { input: _, source: _, writable } => {
            let content = binds.next().expect("the caller gives one digest for each bind mount");
            hasher.text("bind").number(u64::from(*writable)).digest(content);
        }
        MountOpKind::Cache { id: _, namespace, sharing: _, seed: _, mode: _, uid: _, gid: _, readonly } => {
            // Keys of the shared namespace stay what they were before there were others.
            match namespace.as_str() {
                "" => hasher.text("cache"),
                namespace => hasher.text("cache of").text(namespace),
            };
            hasher.number(u64::from(*readonly));
        }
        MountOpKind::Tmpfs { size } => {
            hasher.text("tmpfs").number(size.map_or(0, |size| size + 1));
        }
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

/// Numbers that are stored in keys; they never change.
const fn network_number(network: NetworkMode) -> u64 {
    match network {
        NetworkMode::Default => 0,
        NetworkMode::None => 1,
        NetworkMode::Host => 2,
    }
}

/// Numbers that are stored in keys; they never change.
const fn security_number(security: SecurityMode) -> u64 {
    match security {
        SecurityMode::Sandbox => 0,
        SecurityMode::Insecure => 1,
    }
}

/// Makes another key from `key`, for a process that uses a secret or an agent which builds of this run take from
/// different sources under one id.
pub(crate) fn apart(key: &Digest, exec: &Exec) -> Digest {
    let mut hasher = FieldHasher::new("key/apart/1");
    hasher.digest(key).number(exec.sources.len() as u64);
    for source in &exec.sources {
        let (id, origin) = source.key_texts();
        hasher.text(&id).text(&origin);
    }
    hasher.finish()
}

fn secret(hasher: &mut FieldHasher, id: &str, ids: [u32; 3], required: bool) {
    hasher.text(id).number(u64::from(required));
    for id in ids {
        hasher.number(u64::from(id));
    }
}

/// Computes the cache key of file actions. `dest` is the identity of the tree that is changed; `reads` has the digest
/// of what is read, for each copy action in order.
pub(crate) fn file(
    actions: &[FileAction],
    platform: &Platform,
    kind: InputKind,
    dest: &Digest,
    reads: &[Digest],
) -> Digest {
    let mut hasher = start("key/file/1", kind, platform);
    hasher.digest(dest).number(actions.len() as u64);
    let mut reads = reads.iter();
    for action in actions {
        match action {
            FileAction::Copy(copy) => {
                let read = reads.next().expect("the caller gives one digest for each copy");
                copy_action(hasher.text("copy").digest(read), copy);
            }
            FileAction::Mkdir { path, owner: by } => owner(hasher.text("mkdir").text(path), by.as_ref()),
            FileAction::Mkfile { dest, name, text, mode: bits, owner: by } => {
                hasher.text("mkfile").text(dest).text(name).text(text);
                mode(&mut hasher, bits.as_ref());
                owner(&mut hasher, by.as_ref());
            }
        }
    }
    hasher.finish()
}

fn copy_action(hasher: &mut FieldHasher, copy: &CopyAction) {
    let CopyAction {
        // What is read of the input is a digest of its own.
        input: _,
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
    } = copy;
    // With --parents the whole path is kept in the destination; without, only the last name may be.
    let source = if *parents { source.as_str() } else { source.rsplit('/').next().unwrap_or_default() };
    hasher.text(source).text(dest);
    owner(hasher, by.as_ref());
    mode(hasher, bits.as_ref());
    for flag in [*unpack, *parents, *optional, *reset_owner] {
        hasher.number(u64::from(flag));
    }
    hasher.number(default_file_mode.map_or(0, |mode| u64::from(mode) + 1));
    list(hasher, exclude);
}

fn owner(hasher: &mut FieldHasher, owner: Option<&OwnerChange>) {
    hasher.number(u64::from(owner.is_some()));
    if let Some(OwnerChange { user, group, at_workdir }) = owner {
        hasher.text(user).optional(group.as_deref()).number(u64::from(*at_workdir));
    }
}

fn mode(hasher: &mut FieldHasher, mode: Option<&ModeChange>) {
    match mode {
        None => hasher.number(0),
        Some(ModeChange::Octal(bits)) => hasher.number(1).number(u64::from(*bits)),
        Some(ModeChange::Symbolic(text)) => hasher.number(2).text(text),
    };
}

fn list(hasher: &mut FieldHasher, items: &[String]) {
    hasher.number(items.len() as u64);
    for item in items {
        hasher.text(item);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        graph::{CacheSharing, StepSource, StepSourceKind},
        spec::{ResourceLimits, SecretOrigin, Ulimit, UlimitName},
    };

    pub(crate) fn an_exec() -> Exec {
        let secret = MountOpKind::Secret { id: "id".to_owned(), mode: 0o400, uid: 0, gid: 0, required: false };
        let cache = MountOpKind::Cache {
            id: "c".to_owned(),
            namespace: String::new(),
            sharing: CacheSharing::Shared,
            seed: None,
            mode: None,
            uid: None,
            gid: None,
            readonly: false,
        };
        let bind = MountOpKind::Bind { input: 1, source: "/s".to_owned(), writable: false };
        let mount = |target: &str, kind| MountOp { target: target.to_owned(), kind };
        Exec {
            args: vec!["/bin/sh".to_owned(), "-c".to_owned(), "true".to_owned()],
            env: vec![("A".to_owned(), "1".to_owned())],
            cwd: "/".to_owned(),
            user: String::new(),
            hostname: None,
            network: NetworkMode::Default,
            security: SecurityMode::Sandbox,
            mounts: vec![mount("/secret", secret), mount("/cache", cache), mount("/bind", bind)],
            extra_hosts: vec![ExtraHost { name: "host".to_owned(), address: "1.2.3.4".to_owned() }],
            ulimits: vec![Ulimit { name: UlimitName::Nofile, soft: 1, hard: 2 }],
            shm_size: None,
            proxy: vec![("HTTP_PROXY".to_owned(), "http://proxy".to_owned())],
            secret_env: vec![SecretEnv { name: "S".to_owned(), id: "s".to_owned(), required: true }],
            sources: vec![StepSource {
                kind: StepSourceKind::Secret,
                id: "s".to_owned(),
                origin: Some(SecretOrigin::Env("S".to_owned())),
            }],
            resources: ResourceLimits::default(),
        }
    }

    fn key_of(exec: &Exec) -> Digest {
        super::exec(exec, &Platform::host(), InputKind::Fast, &Digest::of(b"root"), &[Digest::of(b"bind")])
    }

    /// Every change that the process can notice, each by itself, with a text to put in.
    pub(crate) fn changes(text: &str, number: u64) -> Vec<(&'static str, Exec)> {
        let with = |name, change: &dyn Fn(&mut Exec)| {
            let mut exec = an_exec();
            change(&mut exec);
            (name, exec)
        };
        vec![
            with("one more argument", &|it| it.args.push(text.to_owned())),
            with("another argument", &|it| it.args[2].push_str(text)),
            with("a variable", &|it| it.env.push((text.to_owned(), String::new()))),
            with("the value of a variable", &|it| it.env[0].1.push_str(text)),
            with("the name of a variable", &|it| it.env[0].0.push_str(text)),
            with("the working directory", &|it| it.cwd.push_str(text)),
            with("the user", &|it| it.user.push_str(text)),
            with("the host name", &|it| it.hostname = Some(text.to_owned())),
            with("no network", &|it| it.network = NetworkMode::None),
            with("the host's network", &|it| it.network = NetworkMode::Host),
            with("security", &|it| it.security = SecurityMode::Insecure),
            with("shared memory", &|it| it.shm_size = Some(number)),
            with("a limit", &|it| {
                it.ulimits.push(Ulimit { name: UlimitName::Core, soft: 0, hard: number.cast_signed() });
            }),
            with("the name of a host", &|it| it.extra_hosts[0].name.push_str(text)),
            with("the target of a mount", &|it| it.mounts[1].target.push_str(text)),
            with("one mount less", &|it| drop(it.mounts.remove(1))),
            with("the id of a secret", &|it| {
                let MountOpKind::Secret { id, .. } = &mut it.mounts[0].kind else { return };
                id.push_str(text);
            }),
            with("the mode of a secret", &|it| {
                let MountOpKind::Secret { mode, .. } = &mut it.mounts[0].kind else { return };
                *mode = 0o444;
            }),
            with("the id of a secret variable", &|it| it.secret_env[0].id.push_str(text)),
            with("the name of a secret variable", &|it| it.secret_env[0].name.push_str(text)),
            with("a writable bind", &|it| {
                let MountOpKind::Bind { writable, .. } = &mut it.mounts[2].kind else { return };
                *writable = true;
            }),
            with("the namespace of a cache mount", &|it| {
                let MountOpKind::Cache { namespace, .. } = &mut it.mounts[1].kind else { return };
                namespace.push_str(text);
            }),
            with("a tmpfs", &|it| it.mounts[1].kind = MountOpKind::Tmpfs { size: Some(number) }),
            with("a text", &|it| it.mounts[1].kind = MountOpKind::Text { text: text.to_owned(), mode: 0 }),
        ]
    }

    #[test]
    fn keys_of_earlier_versions_are_found_again() {
        let host = Platform::normalised("linux", "amd64", None);
        let (root, bind) = (Digest::of(b"root"), [Digest::of(b"bind")]);
        let of_exec = super::exec(&an_exec(), &host, InputKind::Slow, &root, &bind);
        assert_eq!(of_exec.hex(), "8d24e35a1c7a0583528ece0a1ce416cce9be3d62b398d8f712e0ec7b5a67a334");
        let by = OwnerChange { user: "u".to_owned(), group: Some("g".to_owned()), at_workdir: false };
        let actions = [
            FileAction::Mkdir { path: "/w".to_owned(), owner: Some(by) },
            FileAction::Mkfile {
                dest: "/f".to_owned(),
                name: "n".to_owned(),
                text: "t".to_owned(),
                mode: Some(ModeChange::Octal(0o644)),
                owner: None,
            },
        ];
        let of_file = super::file(&actions, &host, InputKind::Fast, &root, &[]);
        assert_eq!(of_file.hex(), "a001d52918abc1de06c5df4fa3409dced833db825f7cc9bd358706a947d04a82");
    }

    proptest! {
        #[test]
        fn changing_anything_that_the_process_sees_changes_the_key(text in "[ -~]{1,12}", number in 0_u64..u64::MAX - 1) {
            let mut keys = vec![("nothing", key_of(&an_exec()))];
            for (name, exec) in changes(&text, number) {
                let key = key_of(&exec);
                for (other, known) in &keys {
                    prop_assert_ne!(&key, known, "`{}` and `{}` have one key", name, other);
                }
                keys.push((name, key));
            }
        }

        #[test]
        fn what_does_not_count_is_not_in_the_key(text in "[ -~]{1,12}") {
            let plain = key_of(&an_exec());
            let mut exec = an_exec();
            exec.proxy[0].1.push_str(&text);
            exec.extra_hosts[0].address.push_str(&text);
            exec.resources.memory = Some(1 << 20);
            exec.sources[0].origin = Some(SecretOrigin::Env(text.clone()));
            let MountOpKind::Cache { id, sharing, .. } = &mut exec.mounts[1].kind else { return Ok(()) };
            id.push_str(&text);
            *sharing = CacheSharing::Locked;
            prop_assert_eq!(key_of(&exec), plain);
        }

        #[test]
        fn inputs_kinds_and_platforms_change_the_key(seed in any::<[u8; 8]>()) {
            let exec = an_exec();
            let (host, other) = (Platform::host(), Platform::normalised("linux", "s390x", None));
            let (root, bind) = (Digest::of(b"root"), [Digest::of(b"bind")]);
            let plain = super::exec(&exec, &host, InputKind::Fast, &root, &bind);
            prop_assert_ne!(super::exec(&exec, &host, InputKind::Slow, &root, &bind), plain);
            prop_assert_ne!(super::exec(&exec, &other, InputKind::Fast, &root, &bind), plain);
            prop_assert_ne!(super::exec(&exec, &host, InputKind::Fast, &Digest::of(&seed), &bind), plain);
            prop_assert_ne!(super::exec(&exec, &host, InputKind::Fast, &root, &[Digest::of(&seed)]), plain);
        }

        #[test]
        fn changing_any_field_of_a_copy_changes_the_key(text in "[a-z]{1,8}") {
            let plain = CopyAction::of_paths("/a/b", "/d");
            let key = |copy: CopyAction, read: &Digest| {
                let actions = [FileAction::Copy(Box::new(copy))];
                super::file(&actions, &Platform::host(), InputKind::Fast, &Digest::of(b"dest"), &[*read])
            };
            let read = Digest::of(b"content");
            let known = key(plain.clone(), &read);
            let owner = Some(OwnerChange { user: text.clone(), group: None, at_workdir: false });
            let changed = [
                CopyAction { source: format!("/a/{text}{text}"), ..plain.clone() },
                CopyAction { dest: format!("/d{text}"), ..plain.clone() },
                CopyAction { owner, ..plain.clone() },
                CopyAction { mode: Some(ModeChange::Symbolic(text.clone())), ..plain.clone() },
                CopyAction { mode: Some(ModeChange::Octal(0o755)), ..plain.clone() },
                CopyAction { unpack: true, ..plain.clone() },
                CopyAction { parents: true, ..plain.clone() },
                CopyAction { exclude: vec![text.clone()], ..plain.clone() },
                CopyAction { reset_owner: false, ..plain.clone() },
                CopyAction { default_file_mode: Some(0o600), ..plain.clone() },
            ];
            for copy in changed {
                prop_assert_ne!(key(copy, &read), known);
            }
            prop_assert_ne!(key(plain.clone(), &Digest::of(text.as_bytes())), known);
            // The same file from another directory is the same.
            prop_assert_eq!(key(CopyAction { source: format!("/{text}/b"), ..plain }, &read), known);
        }
    }
}
