//! What a step is made from, in parts that have names: every field that its cache key has (`lookup/key.rs`), so that a key
//! that differs can be told in words.
//!
//! Every struct is taken apart without `..`: a new field does not compile before it is decided about here.

use serde::{Deserialize, Serialize};

use crate::{
    graph::{
        CopyAction, Exec, FileAction, MountOp, MountOpKind, Op, OwnerChange, SecretEnv, StepPlace, StepSource, Vertex,
    },
    oci::{Digest, ModeChange},
    report::url::without_credentials,
    solve::content::files::first_digits,
    spec::{ExtraHost, NetworkMode, SecurityMode},
};

/// A longer text is cut where it is kept.
const LONGEST: usize = 4096;

/// What a part is about. Stored in records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum PartKind {
    Platform,
    Secret,
    Agent,
    Mount,
    Network,
    Security,
    Workdir,
    User,
    Hostname,
    ShmSize,
    Limit,
    Host,
    Command,
    Copy,
    Argument,
    Environment,
    EnvironmentOrder,
    Files,
    /// The tree that is changed: the result of the step before, or the base image.
    Root,
}

/// One part of a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StepPart {
    pub(crate) kind: PartKind,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) name: String,
    /// The first digits of the digest of its value; `None` as long as that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) digest: Option<String>,
    /// Its value; `None` if it is not to be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) shown: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) read: Option<ReadPart>,
}

/// What a part of the kind [`PartKind::Files`] reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReadPart {
    /// The digits of the key under which the names are kept. Without `sha256:`, so that prune does not take it for the name
    /// of something that is needed.
    pub(crate) list: String,
    /// The tree, as the user knows it: `the build context`, the instruction that made it.
    pub(crate) tree: String,
    /// The patterns of the ignore file, and its name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) ignore: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ignore_file: Option<String>,
}

/// All parts of a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StepParts {
    /// The instruction as its author wrote it.
    pub(crate) text: String,
    pub(crate) parts: Vec<StepPart>,
}

/// The tree that a step changes.
pub(crate) struct RootInput {
    /// `None` as long as it is not known.
    pub(crate) id: Option<Digest>,
    /// `FROM alpine:3`, or the instruction that made it.
    pub(crate) shown: String,
}

/// What a step reads beside its root, in the order in which its key lists it.
pub(crate) struct ReadInput {
    /// The digest of what is read; `None` as long as it is not known.
    pub(crate) content: Option<Digest>,
    pub(crate) tree: String,
    pub(crate) ignore: Vec<String>,
    pub(crate) ignore_file: Option<String>,
}

/// The parts of a process or of file actions. `is_apart` as in `lookup/key.rs`: where the secrets come from counts.
pub(crate) fn parts_of(
    vertex: &Vertex,
    place: &StepPlace,
    is_apart: bool,
    root: RootInput,
    reads: Vec<ReadInput>,
) -> StepParts {
    let mut list = PartList { place, parts: Vec::new(), reads: reads.into_iter() };
    list.add(PartKind::Platform, "", &vertex.platform.to_string());
    match &vertex.op {
        Op::Exec(exec) => list.exec(exec, is_apart),
        Op::File(file) => {
            for (n, action) in file.actions.iter().enumerate() {
                list.action(action, (file.actions.len() > 1).then_some(n + 1));
            }
        }
        Op::Scratch | Op::Image(_) | Op::Local(_) | Op::Git(_) | Op::Http(_) | Op::Merge => (),
    }
    let shown = list.tellable(&root.shown);
    let digest = root.id.as_ref().map(first_digits);
    list.parts.push(StepPart { kind: PartKind::Root, name: String::new(), digest, shown, read: None });
    StepParts { text: list.tellable(&place.text).unwrap_or_default(), parts: list.parts }
}

/// The key of the record of what is read: equal for equal content that is read by the same path.
pub(crate) fn list_key(content: &Digest, path: &str) -> Digest {
    let mut hasher = crate::oci::digest::FieldHasher::new("files/1");
    hasher.digest(content).text(path);
    hasher.finish()
}

struct PartList<'a> {
    place: &'a StepPlace,
    parts: Vec<StepPart>,
    reads: std::vec::IntoIter<ReadInput>,
}

impl PartList<'_> {
    /// A text as records may hold it; `None` if it holds the value of a sensitive variable.
    fn tellable(&self, text: &str) -> Option<String> {
        if self.place.file.hidden.iter().any(|hidden| text.contains(hidden.as_str())) {
            return None;
        }
        let text = without_credentials(text);
        Some(match text.char_indices().nth(LONGEST) {
            Some((end, _)) => format!("{}…", &text[..end]),
            None => text.into_owned(),
        })
    }

    fn add(&mut self, kind: PartKind, name: &str, value: &str) {
        self.add_as(kind, name, value, value);
    }

    /// Adds a part whose value is told in other words than it is compared in.
    fn add_as(&mut self, kind: PartKind, name: &str, value: &str, shown: &str) {
        let digest = Some(first_digits(&Digest::of(value.as_bytes())));
        let (name, shown) = (self.tellable(name).unwrap_or_default(), self.tellable(shown));
        self.parts.push(StepPart { kind, name, digest, shown, read: None });
    }

    fn add_read(&mut self, name: &str, path: &str) {
        let ReadInput { content, tree, ignore, ignore_file } =
            self.reads.next().expect("the caller gives one input for each read");
        let list = content.as_ref().map(|content| list_key(content, path).hex()).unwrap_or_default();
        let tree = self.tellable(&tree).unwrap_or_default();
        let read = Some(ReadPart { list, tree, ignore, ignore_file });
        let (digest, name) = (content.as_ref().map(first_digits), self.tellable(name).unwrap_or_default());
        self.parts.push(StepPart { kind: PartKind::Files, name, digest, shown: None, read });
    }

    fn exec(&mut self, exec: &Exec, is_apart: bool) {
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
            // They are in no key.
            proxy: _,
            resources: _,
            secret_env,
            sources,
        } = exec;
        self.add_as(PartKind::Command, "", &args.join("\0"), &args.join(" "));
        for (name, value) in env {
            let is_argument = self.place.arguments.contains(name);
            self.add(if is_argument { PartKind::Argument } else { PartKind::Environment }, name, value);
        }
        let names: Vec<&str> = env.iter().map(|(name, _)| name.as_str()).collect();
        self.add(PartKind::EnvironmentOrder, "", &names.join(" "));
        self.add(PartKind::Workdir, "", cwd);
        self.add_as(PartKind::User, "", user, if user.is_empty() { "root" } else { user });
        if let Some(hostname) = hostname {
            self.add(PartKind::Hostname, "", hostname);
        }
        self.add(PartKind::Network, "", network_word(*network));
        self.add(PartKind::Security, "", security_word(*security));
        if let Some(size) = shm_size {
            self.add_as(PartKind::ShmSize, "", &size.to_string(), &format!("{size} bytes"));
        }
        if !ulimits.is_empty() {
            self.add(PartKind::Limit, "", &ulimits.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "));
        }
        if !extra_hosts.is_empty() {
            let names: Vec<&str> = extra_hosts.iter().map(|ExtraHost { name, address: _ }| name.as_str()).collect();
            self.add(PartKind::Host, "", &names.join(", "));
        }
        for SecretEnv { name, id, required } in secret_env {
            let shown = format!("{id} as the variable {name}");
            self.add_as(PartKind::Secret, id, &format!("{name}\0{required}"), &shown);
        }
        for MountOp { target, kind } in mounts {
            self.mount(target, kind);
        }
        if is_apart {
            for StepSource { kind: _, id, origin } in sources {
                let origin = origin.as_ref().map(ToString::to_string).unwrap_or_default();
                self.add(PartKind::Secret, &format!("source of {id}"), &origin);
            }
        }
    }

    fn mount(&mut self, target: &str, kind: &MountOpKind) {
        match kind {
            MountOpKind::Bind { input: _, source, writable } => {
                let shown = format!("bind of {source} at {target}{}", if *writable { ", writable" } else { "" });
                self.add(PartKind::Mount, target, &shown);
                self.add_read(target, source);
            }
            MountOpKind::Cache { id: _, namespace, sharing: _, seed: _, mode: _, uid: _, gid: _, readonly } => {
                let of = if namespace.is_empty() { String::new() } else { format!(" of namespace {namespace}") };
                let shown = format!("cache{of} at {target}{}", if *readonly { ", read-only" } else { "" });
                self.add(PartKind::Mount, target, &shown);
            }
            MountOpKind::Tmpfs { size } => {
                let size = size.map(|size| format!(" of {size} bytes")).unwrap_or_default();
                self.add(PartKind::Mount, target, &format!("tmpfs{size} at {target}"));
            }
            MountOpKind::Secret { id, mode, uid, gid, required } => {
                self.secret(PartKind::Secret, id, target, (*mode, *uid, *gid), *required);
            }
            MountOpKind::Ssh { id, mode, uid, gid, required } => {
                self.secret(PartKind::Agent, id, target, (*mode, *uid, *gid), *required);
            }
            MountOpKind::Text { text, mode } => {
                self.add_as(PartKind::Command, target, &format!("{mode}\0{text}"), text);
            }
        }
    }

    fn secret(&mut self, kind: PartKind, id: &str, target: &str, (mode, uid, gid): (u32, u32, u32), required: bool) {
        let required = if required { ", required" } else { "" };
        self.add(kind, id, &format!("{id} at {target}, mode {mode:04o}, owner {uid}:{gid}{required}"));
    }

    /// An action; `number` tells it from others of the instruction.
    fn action(&mut self, action: &FileAction, number: Option<usize>) {
        let of = |what: &str| number.map_or_else(|| what.to_owned(), |number| format!("{what} {number}"));
        match action {
            FileAction::Copy(copy) => self.copy(copy, &of),
            FileAction::Mkdir { path, owner } => {
                self.add(PartKind::Workdir, "", path);
                self.owner(PartKind::User, "", owner.as_ref());
            }
            FileAction::Mkfile { dest, name, text, mode, owner } => {
                self.add(PartKind::Copy, &of("text"), text);
                self.add(PartKind::Copy, &of("name"), name);
                self.add(PartKind::Copy, &of("destination"), dest);
                self.mode(&of("--chmod"), mode.as_ref());
                self.owner(PartKind::Copy, &of("--chown"), owner.as_ref());
            }
        }
    }

    fn copy(&mut self, copy: &CopyAction, of: &dyn Fn(&str) -> String) {
        let CopyAction {
            input: _,
            source,
            dest,
            owner,
            mode,
            unpack,
            parents,
            exclude,
            optional,
            reset_owner,
            default_file_mode,
        } = copy;
        self.add(PartKind::Copy, &of("source"), source);
        self.add(PartKind::Copy, &of("destination"), dest);
        self.owner(PartKind::Copy, &of("--chown"), owner.as_ref());
        self.mode(&of("--chmod"), mode.as_ref());
        if !exclude.is_empty() {
            self.add(PartKind::Copy, &of("--exclude"), &exclude.join(" "));
        }
        let mut flags = Vec::new();
        let all = [(unpack, "unpack"), (parents, "parents"), (optional, "optional"), (reset_owner, "owned by root")];
        flags.extend(all.into_iter().filter(|(is_set, _)| **is_set).map(|(_, name)| name.to_owned()));
        flags.extend(default_file_mode.map(|mode| format!("files of mode {mode:04o}")));
        self.add(PartKind::Copy, &of("way of copying"), &flags.join(", "));
        self.add_read(source, source);
    }

    fn owner(&mut self, kind: PartKind, name: &str, owner: Option<&OwnerChange>) {
        if let Some(OwnerChange { user, group, at_workdir: _ }) = owner {
            let group = group.as_ref().map(|group| format!(":{group}")).unwrap_or_default();
            self.add(kind, name, &format!("{user}{group}"));
        }
    }

    fn mode(&mut self, name: &str, mode: Option<&ModeChange>) {
        match mode {
            None => (),
            Some(ModeChange::Octal(bits)) => self.add(PartKind::Copy, name, &format!("{bits:04o}")),
            Some(ModeChange::Symbolic(text)) => self.add(PartKind::Copy, name, text),
        }
    }
}

const fn network_word(network: NetworkMode) -> &'static str {
    match network {
        NetworkMode::Default => "default",
        NetworkMode::None => "none",
        NetworkMode::Host => "host",
    }
}

const fn security_word(security: SecurityMode) -> &'static str {
    match security {
        SecurityMode::Sandbox => "sandbox",
        SecurityMode::Insecure => "insecure",
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, sync::Arc};

    use super::*;
    use crate::{
        graph::{File, Graph, Meta, StepFile},
        oci::Platform,
        solve::{explain::compare, lookup::key::tests},
    };

    fn of(op: Op, content: &[u8]) -> StepParts {
        let file = StepFile { id: "f".to_owned(), hidden: vec!["s3cret".to_owned()] };
        let arguments = BTreeSet::from(["A".to_owned()]);
        let text = "RUN true".to_owned();
        let place = StepPlace { file: Arc::new(file), stage: "s".into(), number: 1, text, arguments };
        let mut graph = Graph::default();
        let base = graph.add(Op::Scratch, Vec::new(), Platform::host(), Meta::default());
        let ix = graph.add(op, vec![base, base], Platform::host(), Meta::default());
        let root = RootInput { id: Some(Digest::of(b"root")), shown: "FROM base".to_owned() };
        let (tree, ignore, ignore_file) = ("the build context".to_owned(), Vec::new(), None);
        let read = ReadInput { content: Some(Digest::of(content)), tree, ignore, ignore_file };
        parts_of(graph.get(ix), &place, false, root, vec![read])
    }

    fn of_exec(exec: Exec) -> StepParts {
        of(Op::Exec(Box::new(exec)), b"content")
    }

    #[test]
    fn whatever_changes_the_key_of_a_process_is_named() {
        let plain = of_exec(tests::an_exec());
        assert_eq!(compare::explain(&plain, &of_exec(tests::an_exec()), &|_| None).differences, []);
        for (what, exec) in tests::changes("x", 7) {
            let found = compare::explain(&plain, &of_exec(exec), &|_| None);
            assert!(!found.differences.is_empty(), "{what}");
        }
        let other = of(Op::Exec(Box::new(tests::an_exec())), b"other");
        assert_eq!(
            compare::explain(&plain, &other, &|_| None).line().as_deref(),
            Some("what is read at `/bind` changed (of the build context)")
        );
    }

    #[test]
    fn what_holds_a_sensitive_value_is_told_to_have_changed_without_it() {
        let mut exec = tests::an_exec();
        exec.env[0].1 = "a s3cret".to_owned();
        let (plain, now) = (of_exec(tests::an_exec()), of_exec(exec));
        let text = serde_json::to_string(&now).expect("parts are plain data");
        assert!(!text.contains("s3cret"), "{text}");
        let found = compare::explain(&plain, &now, &|_| None);
        assert_eq!(found.line().as_deref(), Some("the argument A changed: `***`, was `1`"));
    }

    #[test]
    fn whatever_changes_the_key_of_a_copy_is_named() {
        let copy = || CopyAction::of_paths("/a/b", "/d");
        let parts = |copy| of(Op::File(File { actions: vec![FileAction::Copy(Box::new(copy))] }), b"content");
        let owner = Some(OwnerChange { user: "u".to_owned(), group: None, at_workdir: false });
        let changed = [
            (CopyAction { source: "/a/c".to_owned(), ..copy() }, "source changed: `/a/c`, was `/a/b`"),
            (CopyAction { dest: "/e".to_owned(), ..copy() }, "destination changed: `/e`, was `/d`"),
            (CopyAction { owner, ..copy() }, "--chown changed: `u` is new"),
            (CopyAction { mode: Some(ModeChange::Octal(0o755)), ..copy() }, "--chmod changed: `0755` is new"),
            (CopyAction { exclude: vec!["x".to_owned()], ..copy() }, "--exclude changed: `x` is new"),
            (
                CopyAction { unpack: true, ..copy() },
                "way of copying changed: `unpack, owned by root`, was `owned by root`",
            ),
        ];
        for (copied, told) in changed {
            let found = compare::explain(&parts(copy()), &parts(copied), &|_| None);
            assert_eq!(found.line().as_deref(), Some(told));
        }
    }
}
