//! RUN: a process in a sandbox, whose changes to its root become a snapshot.
//!
//! Values of secrets are read here, at the last moment, and hidden in the output; they reach no key and no record.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use super::{
    agent,
    copy_into::{ArchiveUse, copy_into},
    cover,
    error::FileError,
    held::{HeldSlot, HeldStep},
    moved,
    output::StepOutput,
    single_id,
};
use crate::{
    graph::{self, Exec, MountOpKind, Vertex},
    layer::view::{EntryKind, Follow, LayerView},
    oci::{Digest, digest::FieldHasher},
    report::{
        Diagnostic, Hidden, Span,
        event::{Event, Sink, StepId},
    },
    sandbox::{self, SandboxError},
    solve::{
        blocking::blocking,
        content::{
            error::ContentError,
            local::LocalTree,
            source::{ContentSource, ContentTree},
        },
        failure::{SolveFailure, store_failure, store_fault, view_fault},
        reads::{OwnedRead, ReadPlace, layer_source},
        runner::Runner,
        world::{SecretSource, SolveScope, SolveWorld},
    },
    spec::StepLogLimits,
    store::{self, LogRetention, LoggedEnd, SnapshotId, SnapshotMeta, Store},
};

/// A larger secret is refused: it is given to the step as a file in memory.
const MAX_SECRET: u64 = 500 << 10;
const HOSTNAME: &str = "buildkitsandbox";
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs the process of a RUN step in a sandbox and commits its changes as the snapshot `result`.
///
/// `places` has the trees of the step's inputs.
///
/// # Errors
/// When a mount cannot be made, the process fails or cannot be started, or the run is cancelled; with the instruction's
/// place.
pub(crate) async fn run(
    world: &SolveWorld,
    exec: &Exec,
    vertex: &Vertex,
    scope: &Arc<SolveScope>,
    places: Vec<ReadPlace>,
    id: StepId,
    result: Digest,
) -> Result<(), SolveFailure> {
    let step = step(world, exec, vertex, scope, places, id);
    let done = blocking(move || step.run(result)).await;
    done.map_err(|failure: SolveFailure| failure.at_instruction(vertex))
}

/// Holds a step as it is before it runs; nothing of it is run.
///
/// # Errors
/// When the state directory cannot be written.
pub(crate) async fn hold(
    world: &SolveWorld,
    exec: &Exec,
    vertex: &Vertex,
    scope: &Arc<SolveScope>,
    places: Vec<ReadPlace>,
    id: StepId,
) -> Result<HeldStep, SolveFailure> {
    let step = step(world, exec, vertex, scope, places, id);
    let held = blocking(move || HeldStep::before(step)).await;
    held.map_err(|failure| failure.at_instruction(vertex))
}

fn step(
    world: &SolveWorld,
    exec: &Exec,
    vertex: &Vertex,
    scope: &Arc<SolveScope>,
    places: Vec<ReadPlace>,
    id: StepId,
) -> ExecStep {
    ExecStep {
        runner: world.runner.clone(),
        store: world.store.clone(),
        sink: world.sink.clone(),
        log: world.step_log,
        hidden: world.hidden.clone(),
        name: world.hidden.mask(&vertex.meta.name).into_owned(),
        env: world.env.clone(),
        secret_env: world.secret_env.clone(),
        cancel: world.cancel.sandbox(),
        exec: exec.clone(),
        scope: scope.clone(),
        places,
        id,
        created: (world.now)(),
        at: vertex.meta.origin.at,
        anew: vertex.meta.ignore_cache,
        held: world.held.clone(),
    }
}

pub(super) struct ExecStep {
    pub(super) runner: Arc<Runner>,
    pub(super) store: Store,
    sink: Sink,
    log: StepLogLimits,
    pub(super) hidden: Arc<Hidden>,
    /// As progress shows it.
    pub(super) name: String,
    env: Arc<std::collections::BTreeMap<String, String>>,
    secret_env: Arc<std::collections::BTreeMap<String, String>>,
    cancel: sandbox::StepCancel,
    pub(super) exec: Exec,
    scope: Arc<SolveScope>,
    places: Vec<ReadPlace>,
    id: StepId,
    created: String,
    /// The instruction.
    at: Option<Span>,
    /// Without the cache: cache mounts start empty as well.
    anew: bool,
    /// Where it is put if it fails.
    held: Option<HeldSlot>,
}

/// Why a cache mount could not be filled.
struct SeedFault(Diagnostic);

impl From<store::StoreError> for SeedFault {
    fn from(error: store::StoreError) -> Self {
        Self(store_fault(&error))
    }
}

/// What must live as long as the process.
#[derive(Default)]
pub(super) struct Held {
    cache_dirs: Vec<store::CacheDir>,
    secrets: Vec<Vec<u8>>,
}

impl ExecStep {
    fn run(mut self, result: Digest) -> Result<(), SolveFailure> {
        let (active, layers) = self.prepare()?;
        let mut held = Held::default();
        let spec = self.spec(layers, active.fs(), active.work(), &mut held)?;
        held.secrets.extend(self.hidden.parts().map(|text| text.as_bytes().to_vec()));
        let retention = LogRetention { size: self.log.kept_size, runs: self.log.kept_runs };
        let log = self.store.step_log(retention);
        let mut output = StepOutput::new(self.sink.clone(), self.id, &held.secrets, self.log, log)?;
        let (sandbox, begun) = (&self.runner.sandbox, Instant::now());
        let ended = sandbox.run(&spec, &mut |stream, bytes| output.push(stream, bytes), &self.cancel);
        if let Some(notice) = sandbox.take_network_notice() {
            (self.sink)(Event::Warning(Arc::new(host_network(notice))));
        }
        output.finish();
        for limit in ended.iter().flat_map(|exit| &exit.unkept_limits) {
            let shown = limit_not_kept(limit);
            let shown = self.at.map_or(shown.clone(), |at| shown.at(at, "this step is the first"));
            (self.sink)(Event::Warning(Arc::new(shown)));
        }
        let (end, fault) = match &ended {
            Ok(exit) if exit.code == 0 => (LoggedEnd::Done, None),
            Ok(exit) => (LoggedEnd::Failed, Some(self.failed(exit, &output))),
            Err(_) => (LoggedEnd::Stopped, None),
        };
        let took = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        if let Err(error) = output.into_log().end(&self.name, &self.created, took, end) {
            (self.sink)(Event::Warning(Arc::new(log_not_kept(&error))));
        }
        // Another step may wait for a cache mount of this one.
        drop(held);
        let fault = match ended {
            Ok(_) => fault,
            Err(SandboxError::Cancelled) => return Err(SolveFailure::Cancelled),
            Err(error) if error.is_missing_program() => Some(not_started(&error)),
            Err(error) => return Err(not_started(&error).into()),
        };
        if let Some(fault) = fault {
            if let Some(slot) = self.held.take() {
                slot.put(HeldStep::new(self, spec.layers, active));
            }
            return Err(fault.into());
        }
        moved::make_whole(&active.fs(), &spec.layers).map_err(FileError::into_diagnostic)?;
        let meta = SnapshotMeta { created: self.created.clone() };
        active.commit(&SnapshotId(result), meta).map_err(|e| store_failure(&e))
    }

    /// The directory for its changes, and the layers below, lowest first.
    pub(super) fn prepare(&self) -> Result<(store::Active, Vec<PathBuf>), SolveFailure> {
        let active = self.store.prepare().map_err(|e| store_fault(&e))?;
        let mut layers = self.layers(0)?;
        // The root directory of the result has the metadata of the layer below.
        if let Some(top) = layers.last() {
            copy_root(top, &active.fs());
            layers.insert(0, self.runner.skeleton(&self.store)?);
        }
        Ok((active, layers))
    }

    /// The same step without progress, which has ended when it is looked into; its cache mounts are kept as they are.
    pub(super) fn without_view(self) -> Self {
        Self { sink: Arc::new(|_| ()), anew: false, held: None, ..self }
    }

    fn failed(&self, exit: &sandbox::Exit, output: &StepOutput) -> Diagnostic {
        let process = self.exec.args.join(" ");
        let mut fault = Diagnostic::error(
            "bake::solve::exit_code",
            format!("process `{}` did not complete successfully: exit code: {}", first_line(&process), exit.code),
        );
        if exit.oom {
            fault.causes.push("the kernel killed one of its processes because memory ran out".to_owned());
            if let Some(limit) = self.runner.sandbox.memory_limit() {
                let help = "give them more, or run fewer at once with `--jobs`";
                fault.help = Some(format!("`--max-memory` leaves {limit} bytes to all steps together: {help}"));
            }
        } else if let Some(signal) = exit.signal {
            fault.causes.push(format!("killed by signal {signal}"));
        }
        fault.output = output.tail();
        if let Some(limit) = exit.pids_limit {
            fault.causes.push(format!("the step reached the limit of {limit} processes and threads"));
            fault.help = Some("set `BAKE_PIDS_LIMIT` to a larger number, or to `max`".to_owned());
        }
        if exit.code == 127 {
            fault.help = Some("127 means that a command was not found: install it in an earlier step".to_owned());
        }
        if fault.help.is_none() && output.is_longer_than_tail() && self.log.kept_runs > 0 {
            let step = self.name.split_once(']').map_or(&*self.name, |(place, _)| place).trim_start_matches('[');
            fault.help = Some(format!("`bake log '{step}'` shows all of its output"));
        }
        if fault.help.is_none() && self.runner.owners == sandbox::StepOwners::Recorded {
            fault.help = Some(single_id::help());
        }
        fault
    }

    /// The folders of input `input`, lowest first.
    fn layers(&self, input: usize) -> Result<Vec<PathBuf>, Diagnostic> {
        match &self.places[input] {
            ReadPlace::Layers(dirs) => Ok(dirs.clone()),
            ReadPlace::Local(tree) => Ok(vec![self.snapshot_of_local(tree, "/")?.0]),
        }
    }

    pub(super) fn spec(
        &self,
        layers: Vec<PathBuf>,
        upper: PathBuf,
        work: PathBuf,
        held: &mut Held,
    ) -> Result<sandbox::SandboxSpec, Diagnostic> {
        let exec = &self.exec;
        let mut mounts = Vec::with_capacity(exec.mounts.len());
        let mut env = exec.env.clone();
        env.extend(exec.proxy.iter().cloned());
        if !env.iter().any(|(name, _)| name == "PATH") {
            env.push(("PATH".to_owned(), PATH.to_owned()));
        }
        for secret in &exec.secret_env {
            let value = self.secret(&secret.id, secret.required)?.unwrap_or_default();
            let text = String::from_utf8_lossy(&value).into_owned();
            env.push((secret.name.clone(), text.clone()));
            held.secrets.extend([value, text.into_bytes()]);
        }
        let mut n_agents = 0;
        for mount in &exec.mounts {
            if let Some(kind) = self.mount(&mount.target, &mount.kind, held)? {
                if matches!(kind, sandbox::SandboxMountKind::Ssh { .. }) {
                    if n_agents == 0 && !env.iter().any(|(name, _)| name == "SSH_AUTH_SOCK") {
                        env.push(("SSH_AUTH_SOCK".to_owned(), mount.target.clone()));
                    }
                    n_agents += 1;
                }
                mounts.push(sandbox::SandboxMount { target: mount.target.clone(), kind });
            }
        }
        if self.runner.owners == sandbox::StepOwners::Recorded {
            mounts.extend(single_id::settings(&layers));
        }
        Ok(sandbox::SandboxSpec {
            layers,
            upper,
            work,
            stdin: sandbox::StepStdin::Closed,
            args: exec.args.clone(),
            env,
            cwd: exec.cwd.clone(),
            user: exec.user.clone(),
            hostname: exec.hostname.clone().unwrap_or_else(|| HOSTNAME.to_owned()),
            network: exec.network,
            security: exec.security,
            owners: self.runner.owners,
            mounts,
            extra_hosts: exec.extra_hosts.clone(),
            ulimits: exec.ulimits.clone(),
            shm_size: exec.shm_size,
            resources: exec.resources.clone(),
        })
    }

    /// `None` for an optional secret or agent that is not there.
    fn mount(
        &self,
        target: &str,
        kind: &MountOpKind,
        held: &mut Held,
    ) -> Result<Option<sandbox::SandboxMountKind>, Diagnostic> {
        Ok(Some(match kind {
            MountOpKind::Bind { input, source, writable } => match &self.places[*input] {
                ReadPlace::Layers(dirs) if dirs.is_empty() => {
                    return Err(Diagnostic::error(
                        "bake::solve::mount_source",
                        format!("mount source not found: {source}"),
                    ));
                }
                ReadPlace::Layers(dirs) => sandbox::SandboxMountKind::Tree {
                    layers: dirs.clone(),
                    source: source.clone(),
                    writable: *writable,
                },
                ReadPlace::Local(tree) => {
                    let (layer, source) = self.snapshot_of_local(tree, source)?;
                    sandbox::SandboxMountKind::Tree { layers: vec![layer], source, writable: *writable }
                }
            },
            MountOpKind::Cache { .. } => self.cache(target, kind, held)?,
            MountOpKind::Tmpfs { size } => sandbox::SandboxMountKind::Tmpfs { size: *size },
            MountOpKind::Secret { id, mode, uid, gid, required } => match self.secret(id, *required)? {
                Some(content) => {
                    held.secrets.push(content.clone());
                    sandbox::SandboxMountKind::Secret { content, mode: *mode, uid: *uid, gid: *gid }
                }
                None => return Ok(None),
            },
            MountOpKind::Ssh { id, mode, uid, gid, required } => match self.agent(id)? {
                Some(agent) => sandbox::SandboxMountKind::Ssh { agent, mode: *mode, uid: *uid, gid: *gid },
                None if *required => {
                    return Err(Diagnostic::error(
                        "bake::solve::no_agent",
                        format!("no SSH agent is given under the id `{id}`"),
                    )
                    .help("add `ssh = [\"default\"]` to the target and start an agent"));
                }
                None => return Ok(None),
            },
            MountOpKind::Text { text, mode } => sandbox::SandboxMountKind::Text { text: text.clone(), mode: *mode },
        }))
    }

    fn agent(&self, id: &str) -> Result<Option<sandbox::StepAgent>, Diagnostic> {
        match self.scope.ssh.get(id) {
            None => Ok(None),
            Some(paths) => agent::of(id, paths, self.env.get("SSH_AUTH_SOCK").map(String::as_str)),
        }
    }

    fn secret(&self, id: &str, required: bool) -> Result<Option<Vec<u8>>, Diagnostic> {
        let missing = || {
            Diagnostic::error("bake::solve::no_secret", format!("secret {id}: not found"))
                .help(format!("declare it in the target: `secret = [\"id={id},src=FILE\"]` or `\"id={id},env=NAME\"`"))
        };
        let value = match self.scope.secrets.get(id) {
            None => None,
            Some(SecretSource::Env(name)) => self.secret_env.get(name).map(|text| text.clone().into_bytes()),
            Some(SecretSource::File(path)) => Some(path.read(MAX_SECRET).map_err(|error| {
                Diagnostic::error(
                    "bake::solve::secret_unreadable",
                    format!("secret {id} cannot be read: {}", path.path().display()),
                )
                .cause(&error)
            })?),
        };
        if value.is_none() && required { Err(missing()) } else { Ok(value) }
    }

    fn cache(
        &self,
        target: &str,
        kind: &MountOpKind,
        held: &mut Held,
    ) -> Result<sandbox::SandboxMountKind, Diagnostic> {
        let MountOpKind::Cache { id, namespace, sharing, seed, mode, uid, gid, readonly } = kind else {
            unreachable!("only cache mounts are asked for");
        };
        let mut key = FieldHasher::new("cachemount/1");
        key.text(namespace).text(id);
        let sharing = match sharing {
            graph::CacheSharing::Shared => store::MountSharing::Shared,
            graph::CacheSharing::Private => store::MountSharing::Private,
            graph::CacheSharing::Locked => store::MountSharing::Locked,
        };
        let key = key.finish();
        if self.anew {
            self.store.forget_cache_dir(&key).map_err(|e| store_fault(&e))?;
        }
        let failed = |e: &std::io::Error| {
            Diagnostic::error("bake::solve::cache_mount", format!("the cache mount `{id}` cannot be set up")).cause(e)
        };
        let seeded = self.store.cache_dir_with(&key, sharing, |dir| match seed {
            Some((input, source)) => self.seed(dir, *input, source).map_err(SeedFault),
            None => {
                let covered = cover::covered(&self.layers(0).map_err(SeedFault)?, target, &self.exec.user);
                covered.and_then(|made| cover::dress(dir, made)).map_err(|e| SeedFault(failed(&e)))
            }
        });
        let dir = seeded.map_err(|fault| fault.0)?;
        if let Some(mode) = mode.filter(|_| dir.is_new) {
            let mode = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(&dir.path, mode).map_err(|e| failed(&e))?;
        }
        // Where there is one id, everything belongs to it already.
        let can_give = self.runner.owners == sandbox::StepOwners::Kept;
        if can_give && (uid.is_some() || gid.is_some()) {
            std::os::unix::fs::chown(&dir.path, Some(uid.unwrap_or(0)), Some(gid.unwrap_or(0))).map_err(|e| {
                Diagnostic::error("bake::solve::cache_mount", format!("the owner of cache mount `{id}` cannot be set"))
                    .cause(&e)
            })?;
        }
        let path = dir.path.clone();
        held.cache_dirs.push(dir);
        Ok(sandbox::SandboxMountKind::Dir { path, readonly: *readonly })
    }

    fn seed(&self, dir: &Path, input: usize, source: &str) -> Result<(), Diagnostic> {
        let from = match &self.places[input] {
            ReadPlace::Layers(dirs) => layer_source("the source of the cache mount", dirs)?,
            ReadPlace::Local(tree) => local_source(tree),
        };
        copy_into(dir, &from, source, "/", ArchiveUse::Copy)?;
        let ReadPlace::Layers(dirs) = &self.places[input] else { return Ok(()) };
        let dressed = cover::covered(dirs, source, "").and_then(|made| cover::dress(dir, made));
        dressed.map_err(|error| view_fault(&error))
    }

    /// A directory or file of the build context as a snapshot, less what is ignored; kept by its content.
    fn snapshot_of_local(&self, tree: &Arc<LocalTree>, path: &str) -> Result<(PathBuf, String), Diagnostic> {
        let source = local_source(tree);
        let content = OwnedRead::Path(path.to_owned()).content(&source).map_err(ContentError::into_diagnostic)?;
        let mut key = FieldHasher::new("snapshot/local/1");
        key.digest(&content).text(path.rsplit('/').next().unwrap_or_default());
        let id = SnapshotId(key.finish());
        if !self.store.usable(&id) {
            let active = self.store.prepare().map_err(|e| store_fault(&e))?;
            copy_into(&active.fs(), &source, path, "/content/", ArchiveUse::Copy)?;
            active.commit(&id, SnapshotMeta { created: self.created.clone() }).map_err(|e| store_fault(&e))?;
        }
        let dir = self.store.snapshot_fs(&id);
        // A file has its own name in `content`, the entries of a directory theirs.
        let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        let view = LayerView::plain(&dir)
            .map_err(|e| Diagnostic::error("bake::solve::view", "the build context cannot be opened").cause(&e))?;
        let inside = format!("/content/{name}");
        let is_file = !name.is_empty()
            && view.lookup(&inside, Follow::No).ok().flatten().is_some_and(|it| it.kind != EntryKind::Dir)
            && view.read_dir("/content").is_ok_and(|entries| entries.len() == 1);
        Ok((dir, if is_file { inside } else { "/content".to_owned() }))
    }
}

fn local_source(tree: &Arc<LocalTree>) -> ContentSource {
    ContentSource { name: "the build context".to_owned(), tree: ContentTree::Local(tree.clone()) }
}

/// Mode, owner and times of the root directory of the layer below.
fn copy_root(from: &Path, to: &Path) {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(meta) = std::fs::metadata(from) else { return };
    // What is not permitted (a single-id user namespace) leaves the defaults, which are as good.
    drop(std::os::unix::fs::chown(to, Some(meta.uid()), Some(meta.gid())));
    drop(std::fs::set_permissions(to, meta.permissions()));
}

/// The whole output of a step is not to be had later.
fn log_not_kept(error: &store::StoreError) -> Diagnostic {
    let message = "the output of a step is not kept for `bake log`";
    Diagnostic::warning("bake::solve::log_not_kept", message).cause(error)
}

/// Why steps share the network of the machine.
fn host_network(notice: sandbox::HostNetworkNotice) -> Diagnostic {
    let mut shown = Diagnostic::notice(
        "bake::sandbox::host_network",
        "steps share the network of this machine, and cannot use raw sockets: it cannot be kept apart here",
    );
    shown.causes.push(notice.cause);
    shown.help("install pasta (the package `passt`), or slirp4netns; `BAKE_NETWORK=host` accepts it as it is")
}

/// A limit of `resources` that does not hold.
fn limit_not_kept(limit: &sandbox::UnkeptLimit) -> Diagnostic {
    let message = format!("steps run without a limit that is asked for: {}", limit.name);
    let mut shown = Diagnostic::warning("bake::sandbox::limit_not_kept", message);
    shown.causes.push(limit.cause.clone());
    shown.help(
        "run bake as root, or where control groups are yours: `systemd-run --user --scope -p Delegate=yes bake …`",
    )
}

/// Why the process of a step could not be started.
pub(super) fn not_started(error: &SandboxError) -> Diagnostic {
    let mut fault = Diagnostic::error("bake::solve::not_started", format!("the step could not be run: {error}"));
    fault.help = error.help();
    fault
}

/// What the user is told of a process that has ended, beside its exit code.
pub(super) fn warning_of(exit: &sandbox::Exit, notice: Option<sandbox::HostNetworkNotice>) -> Vec<Diagnostic> {
    notice.map(host_network).into_iter().chain(exit.unkept_limits.iter().map(limit_not_kept)).collect()
}

fn first_line(text: &str) -> String {
    match text.split_once('\n') {
        Some((line, _)) => format!("{line} …"),
        None => text.to_owned(),
    }
}
