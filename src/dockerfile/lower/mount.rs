//! `RUN --mount`: parses and checks the options, and resolves the sources
//! (<https://docs.docker.com/reference/dockerfile/#run---mount>).

use super::{lowerer::Lowerer, meta::join, state::SourceTree, state::StageState};
use crate::{
    dockerfile::{fault::fault, instruction::Instruction, stage::NodeIx, value},
    graph::{CacheSharing, MountOp, MountOpKind, SecretEnv, VertexIx},
    report::{Diagnostic, Span, Spanned, suggest},
};

const TYPES: &[&str] = &["bind", "cache", "tmpfs", "secret", "ssh"];
const SHARING: &[&str] = &["shared", "private", "locked"];
const KEYS: &[&str] = &[
    "type",
    "from",
    "source",
    "src",
    "target",
    "dst",
    "destination",
    "readonly",
    "ro",
    "readwrite",
    "rw",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "env",
];

/// The mounts and secret variables of one RUN, with their variables expanded.
#[derive(Default)]
pub(super) struct LoweredMount {
    pub(super) mounts: Vec<MountOp>,
    pub(super) secret_env: Vec<SecretEnv>,
}

/// The options of one mount, expanded.
struct MountFields {
    kind: String,
    source: String,
    target: String,
    id: String,
    readonly: Option<bool>,
    sharing: Option<CacheSharing>,
    required: bool,
    size: Option<u64>,
    mode: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
    env: Option<String>,
    has_from: bool,
}

impl Lowerer<'_, '_> {
    /// Parses and expands the `--mount` flags of a RUN; the vertices that they read are added to `inputs`.
    ///
    /// `from` has the node of each mount, as [`InstructionSources`](crate::dockerfile::stage::InstructionSources) has
    /// it.
    ///
    /// # Errors
    /// When an option is unknown or not valid (<https://docs.docker.com/reference/dockerfile/#run---mount>).
    pub(super) fn mounts(
        &mut self,
        state: &StageState,
        instruction: &Instruction,
        mounts: &[Spanned<String>],
        from: &[Option<NodeIx>],
        inputs: &mut Vec<VertexIx>,
    ) -> Result<LoweredMount, Diagnostic> {
        let mut out = LoweredMount::default();
        let mut n_ssh = 0;
        for (i, written) in mounts.iter().enumerate() {
            let before = std::mem::replace(&mut self.is_guess, false);
            let fields = self.fields(state, instruction, written)?;
            self.guesses_sources |= self.is_guess && fields.kind == "bind";
            self.is_guess |= before;
            let node = from.get(i).copied().flatten();
            let target = match fields.kind.as_str() {
                "secret" => {
                    secret(state, &fields, written, &mut out)?;
                    continue;
                }
                "ssh" if !fields.source.is_empty() => return Err(bad("an ssh mount has no source", written)),
                "ssh" if fields.target.is_empty() => format!("/run/buildkit/ssh_agent.{n_ssh}"),
                _ => join(&state.cwd, &fields.target),
            };
            if target == "/" {
                let refused = bad("invalid mount target, give one with `target=`: /", written);
                return Err(refused.help("write `--mount=target=/path,…`"));
            }
            let kind = match fields.kind.as_str() {
                "ssh" => {
                    n_ssh += 1;
                    let id = if fields.id.is_empty() { "default".to_owned() } else { fields.id };
                    MountOpKind::Ssh {
                        id,
                        mode: fields.mode.unwrap_or(0o600),
                        uid: fields.uid.unwrap_or(0),
                        gid: fields.gid.unwrap_or(0),
                        required: fields.required,
                    }
                }
                "tmpfs" => MountOpKind::Tmpfs { size: fields.size },
                "cache" => {
                    let seed = match node {
                        Some(node) => {
                            let source = self.mount_source(state, node, written)?;
                            Some((input(inputs, source.vertex), join("/", &fields.source)))
                        }
                        None => None,
                    };
                    self.cache(fields, seed)
                }
                _ => {
                    let source = match node {
                        Some(node) => self.mount_source(state, node, written)?,
                        None => self.main_source(),
                    };
                    MountOpKind::Bind {
                        input: input(inputs, source.vertex),
                        source: join("/", &fields.source),
                        writable: fields.readonly == Some(false),
                    }
                }
            };
            out.mounts.push(MountOp { target, kind });
        }
        out.mounts.sort_by(|a, b| a.target.cmp(&b.target));
        Ok(out)
    }

    fn cache(&self, fields: MountFields, seed: Option<(usize, String)>) -> MountOpKind {
        let id = if fields.id.is_empty() { crate::spec::path::clean(&fields.target) } else { fields.id };
        let id = match self.options.build_args.get("BUILDKIT_CACHE_MOUNT_NS") {
            Some(space) if !space.is_empty() => format!("{space}/{id}"),
            _ => id,
        };
        MountOpKind::Cache {
            id,
            namespace: self.options.cache_namespace.clone(),
            sharing: fields.sharing.unwrap_or_default(),
            seed,
            mode: fields.mode,
            uid: fields.uid,
            gid: fields.gid,
            readonly: fields.readonly.unwrap_or(false),
        }
    }

    fn mount_source(&self, state: &StageState, node: NodeIx, at: &Spanned<String>) -> Result<SourceTree, Diagnostic> {
        let _ = state;
        self.source_of(node).ok_or_else(|| {
            let name = &self.nodes.list[node].label;
            let message = format!("cannot mount from a stage that comes later in the file: {name}");
            fault("bake::dockerfile::later_stage", message, at.at, "used here")
                .help("move the stage before the one that uses it")
        })
    }

    /// Reads the fields of one mount.
    fn fields(
        &mut self,
        state: &StageState,
        instruction: &Instruction,
        written: &Spanned<String>,
    ) -> Result<MountFields, Diagnostic> {
        let mut out = MountFields {
            kind: "bind".to_owned(),
            source: String::new(),
            target: String::new(),
            id: String::new(),
            readonly: None,
            sharing: None,
            required: false,
            size: None,
            mode: None,
            uid: None,
            gid: None,
            env: None,
            has_from: false,
        };
        for field in value::csv(&written.value).map_err(|why| bad(&why, written))? {
            let (key, text) = match field.split_once('=') {
                Some((key, value)) => {
                    let word = Spanned::new(value.to_owned(), written.at);
                    (key.to_ascii_lowercase(), Some(self.word(state, instruction, &word)?))
                }
                None => (field.to_ascii_lowercase(), None),
            };
            out.set(&key, text, written)?;
        }
        out.check(written)?;
        Ok(out)
    }
}

impl MountFields {
    fn set(&mut self, key: &str, text: Option<String>, at: &Spanned<String>) -> Result<(), Diagnostic> {
        let is_switch = matches!(key, "readonly" | "ro" | "readwrite" | "rw" | "required");
        if !KEYS.contains(&key) {
            let it = bad(&format!("unexpected key of a mount: {key}"), at);
            return Err(match suggest::did_you_mean(key, KEYS.iter().copied()) {
                Some(help) => it.help(help),
                None => it.help(format!("keys are {}", KEYS.join(", "))),
            });
        }
        let Some(text) = text.or_else(|| is_switch.then(|| "true".to_owned())) else {
            return Err(bad(&format!("a field of a mount must be key=value: {key}"), at));
        };
        let not = |what: &str| bad(&format!("invalid value of `{key}`, not {what}: {text}"), at);
        let switch = || value::boolean(&text).ok_or_else(|| not("true or false"));
        let id = || text.parse::<u32>().ok().filter(|_| !text.starts_with('+')).ok_or_else(|| not("a number"));
        match key {
            "type" => {
                let lower = text.to_ascii_lowercase();
                self.kind =
                    TYPES.contains(&lower.as_str()).then_some(lower).ok_or_else(|| one_of(key, &text, TYPES, at))?;
            }
            "from" => self.has_from = !text.is_empty(),
            "source" | "src" => self.source = text,
            "target" | "dst" | "destination" => self.target = text,
            "readonly" | "ro" => self.readonly = Some(switch()?),
            "readwrite" | "rw" => self.readonly = Some(!switch()?),
            "required" if matches!(self.kind.as_str(), "secret" | "ssh") => self.required = switch()?,
            "size" if self.kind == "tmpfs" => {
                self.size = Some(crate::spec::size::parse(&text).map_err(|_| not("a size"))?);
            }
            "required" | "size" => {
                return Err(bad(&format!("unexpected key for mounts of type `{}`: {key}", self.kind), at)
                    .help("`type=` must come before the keys of that type"));
            }
            "id" => self.id = text,
            "sharing" => {
                self.sharing = Some(match text.to_ascii_lowercase().as_str() {
                    "shared" => CacheSharing::Shared,
                    "private" => CacheSharing::Private,
                    "locked" => CacheSharing::Locked,
                    _ => return Err(one_of(key, &text, SHARING, at)),
                });
            }
            "mode" => {
                let digits = !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
                let mode = u32::from_str_radix(&text, 8).ok().filter(|it| digits && *it <= 0o7777);
                self.mode = Some(mode.ok_or_else(|| not("octal digits"))?);
            }
            "uid" => self.uid = Some(id()?),
            "gid" => self.gid = Some(id()?),
            _ => self.env = Some(text),
        }
        Ok(())
    }

    /// Which keys go together.
    fn check(&self, at: &Spanned<String>) -> Result<(), Diagnostic> {
        let kind = self.kind.as_str();
        let refuse = |key: &str| Err(bad(&format!("`{key}` is not allowed for mounts of type: {kind}"), at));
        if !matches!(kind, "cache" | "secret" | "ssh") {
            for (key, given) in
                [("mode", self.mode.is_some()), ("uid", self.uid.is_some()), ("gid", self.gid.is_some())]
            {
                if given {
                    return refuse(key);
                }
            }
        }
        if self.sharing.is_some() && kind != "cache" {
            return refuse("sharing");
        }
        if kind == "secret" {
            if self.has_from {
                return refuse("from");
            }
            if self.id.is_empty() && self.source.is_empty() && self.target.is_empty() {
                return Err(bad("invalid secret mount, one of id, source, target is required", at));
            }
            if !self.id.is_empty() && !self.source.is_empty() {
                return Err(bad("a secret mount has either an id or a source", at));
            }
        }
        Ok(())
    }
}

fn secret(
    state: &StageState,
    fields: &MountFields,
    at: &Spanned<String>,
    out: &mut LoweredMount,
) -> Result<(), Diagnostic> {
    let base_name = |path: &str| path.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned();
    let id = match (fields.id.as_str(), fields.source.as_str()) {
        ("", "") => base_name(&fields.target),
        ("", source) => source.to_owned(),
        (id, _) => id.to_owned(),
    };
    if id.is_empty() {
        return Err(bad("invalid secret mount, one of id, source, target is required", at));
    }
    if let Some(name) = &fields.env {
        let name = if name.is_empty() { id.clone() } else { name.clone() };
        out.secret_env.push(SecretEnv { name, id: id.clone(), required: fields.required });
        if fields.target.is_empty() {
            return Ok(());
        }
    }
    let target = match fields.target.as_str() {
        "" => format!("/run/secrets/{}", base_name(&id)),
        target => join(&state.cwd, target),
    };
    let kind = MountOpKind::Secret {
        id,
        mode: fields.mode.unwrap_or(0o400),
        uid: fields.uid.unwrap_or(0),
        gid: fields.gid.unwrap_or(0),
        required: fields.required,
    };
    out.mounts.push(MountOp { target, kind });
    Ok(())
}

/// The index of `vertex` among the inputs of a step, added if it is new. The first input is the root and never matches.
pub(super) fn input(inputs: &mut Vec<VertexIx>, vertex: VertexIx) -> usize {
    if let Some(at) = inputs.iter().skip(1).position(|it| *it == vertex) {
        return at + 1;
    }
    inputs.push(vertex);
    inputs.len() - 1
}

fn bad(message: &str, at: &Spanned<String>) -> Diagnostic {
    mount_fault(message, at.at)
}

fn mount_fault(message: &str, at: Span) -> Diagnostic {
    fault("bake::dockerfile::bad_mount", message.to_owned(), at, "this mount")
}

fn one_of(key: &str, text: &str, known: &[&str], at: &Spanned<String>) -> Diagnostic {
    let it = bad(&format!("unknown value of `{key}`, not one of {}: {text}", known.join(", ")), at);
    match suggest::did_you_mean(text, known.iter().copied()) {
        Some(help) => it.help(help),
        None => it,
    }
}
