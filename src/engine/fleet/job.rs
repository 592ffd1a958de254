//! One build on one node: solved and held at the gateway, later returned, so that its exporters run, or given up.

use std::{collections::HashMap, future::Future, pin::Pin, sync::Arc, time::Duration};

use bollard_buildkit_proto::moby::buildkit::v1::{CacheOptions, CacheOptionsEntry, Exporter, SolveRequest};
use futures_util::{FutureExt as _, future::try_join_all};
use petgraph::graph::NodeIndex;
use tokio::{task::JoinHandle, time::timeout};
use tonic::Status;

use super::{
    cache::JobCaches,
    fault::JobFault,
    job_spec::JobSpec,
    node::{FleetNode, UsedConnection},
    output::{JobOutput, ReleasedJob},
    request::{BuildRequest, MainContext, context_option, folder_input},
    services,
    world::FleetWorld,
};
use crate::buildkit::{
    daemon::{Daemon, FrontendRequest, Gateway, HeldResult},
    fault::{Blame, DaemonFault},
    llb::{self, ServedFolder},
    session::{Session, SessionIdentity},
};

/// How long the last words of a build that has ended are waited for.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How long a daemon that refused a build may take to say why.
const REASON: Duration = Duration::from_secs(1);

/// A result that is held. Dropped, its connection is cut: no step of it goes on, and no exporter runs.
pub(super) struct HeldJob {
    pub(super) node: Arc<FleetNode>,
    pub(super) id: String,
    pub(super) output: JobOutput,
    caches: JobCaches,
    gateway: Gateway,
    result: HeldResult,
    solve: Task<Result<HashMap<String, String>, Status>>,
    status: Task<()>,
    session: Session,
    _kept: services::KeptFiles,
    connection: UsedConnection,
}

/// A task that ends when nobody waits for it any more.
struct Task<T>(JoinHandle<T>);

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Builds on a node and holds the result.
///
/// # Errors
/// The fault of the build, or that the node is lost. It does not end by itself when the run is cancelled: it is dropped then.
pub(super) async fn hold(world: &Arc<FleetWorld>, node: &Arc<FleetNode>, job: &JobSpec) -> Result<HeldJob, JobFault> {
    let _slot = node.slots.acquire().await.map_err(|_| JobFault::NodeLost("its slots are closed".to_owned()))?;
    match hold_with(world, node, job, false).await {
        // A trigger of a base image may read what no Dockerfile names.
        Err(JobFault::Build(fault, _)) if fault.exit_code.is_none() && world.sends_parts(job) => {
            tracing::debug!(job = job.label, "again, with whole folders");
            hold_with(world, node, job, true).await
        }
        held => held,
    }
}

async fn hold_with(
    world: &Arc<FleetWorld>,
    node: &Arc<FleetNode>,
    job: &JobSpec,
    whole: bool,
) -> Result<HeldJob, JobFault> {
    if let Some(why) = node.why_lost() {
        return Err(JobFault::NodeLost(why));
    }
    let connection = node.connection().await.map_err(|status| JobFault::of_node(&status))?;
    let daemon = Daemon::new(connection.channel.clone());
    let id = random_id();
    let output = JobOutput::prepare(world, node, job).map_err(JobFault::Here)?;
    let caches = JobCaches::of(world, job).map_err(JobFault::Here)?;
    let services = services::of_job(world, job, &output, &caches).map_err(JobFault::Here)?;
    let identity = SessionIdentity { uuid: random_id(), name: "bake".to_owned(), shared_key: String::new() };
    let session = Session::open(connection.channel.clone(), identity, services.session).await;
    let session = session.map_err(|status| JobFault::of_node(&status))?;
    let base = request_of(world, node, job, &HashMap::new(), whole);
    let request = solve_request(world, job, &id, &session, &output, &caches, base);
    let mut solve = {
        let daemon = daemon.clone();
        Task(tokio::spawn(async move { daemon.solve(request).await }))
    };
    let gateway = daemon.gateway(&id);
    let mut status = None;
    let build = async {
        gateway.ping().await?;
        // Asked for before anything is solved: of a build that has ended nothing is told any more.
        status = Some(Task(follow(world, &daemon, node.index, &id, &job.label)));
        let mut linked = HashMap::new();
        for build in &job.builds {
            for (_, from) in &world.requests[build].linked {
                solve_linked(world, node, &gateway, *from, &mut linked, whole).await?;
            }
        }
        let mut request = request_of(world, node, job, &linked, whole);
        request.options.extend(services.options.clone());
        let result = gateway.solve(request).await?;
        try_join_all(result.refs.values().map(|tree| gateway.evaluate(tree))).await?;
        Ok::<_, Status>(result)
    };
    let built = tokio::select! {
        biased;
        built = build => built,
        ended = &mut solve.0 => Err(early(ended)),
        why = session.lost() => return Err(JobFault::NodeLost(why)),
        why = node.when_lost() => return Err(JobFault::NodeLost(why)),
    };
    match built {
        Ok(result) => {
            let kept = services.kept;
            let held = HeldJob {
                node: node.clone(),
                id,
                output,
                caches,
                gateway,
                result,
                solve,
                status: status.expect("it is there since the build began"),
                session,
                _kept: kept,
                connection,
            };
            Ok(held)
        }
        Err(status_of_build) => {
            let fault = DaemonFault::of(&reason(status_of_build, &mut solve).await);
            if fault.blames() == Blame::Build {
                // The daemon closes the stream of what it tells when the build has ended: the last output belongs to the fault.
                timeout(LAST_WORDS, gateway.give_up("the build failed")).await.ok();
                if let Some(status) = &mut status {
                    timeout(LAST_WORDS, &mut status.0).await.ok();
                }
            }
            Err(JobFault::of(fault, &daemon, session.faults()).await)
        }
    }
}

/// The error of a build that ended before its result was returned.
fn early(ended: Result<Result<HashMap<String, String>, Status>, tokio::task::JoinError>) -> Status {
    match ended {
        Ok(Err(status)) => status,
        Ok(Ok(_)) => Status::internal("the daemon ended a build whose result was not returned"),
        Err(error) => Status::internal(error.to_string()),
    }
}

/// The error that says most: a build that the daemon refuses is unknown at its gateway, and only its own end says why.
async fn reason(status: Status, solve: &mut Task<Result<HashMap<String, String>, Status>>) -> Status {
    if !status.details().is_empty() || solve.0.is_finished() {
        return status;
    }
    match timeout(REASON, &mut solve.0).await {
        Ok(Ok(Err(better))) => better,
        _ => status,
    }
}

/// Passes on what the daemon tells of the build until it has ended. The daemon is asked before this returns.
fn follow(world: &Arc<FleetWorld>, daemon: &Daemon, node: usize, id: &str, label: &str) -> JoinHandle<()> {
    let (world, daemon, id, label) = (world.clone(), daemon.clone(), id.to_owned(), label.to_owned());
    let asked = {
        let id = id.clone();
        async move { daemon.status(&id).await }
    };
    let mut asked = Box::pin(asked);
    let begun = asked.as_mut().now_or_never();
    tokio::spawn(async move {
        let stream = match begun {
            Some(stream) => stream,
            None => asked.await,
        };
        let mut stream = match stream {
            Ok(stream) => stream,
            Err(error) => return tracing::debug!(%error, "no progress of a build"),
        };
        while let Ok(Some(told)) = stream.message().await {
            world.progress.told(node, &id, &label, told);
        }
    })
}

impl HeldJob {
    /// Gives the result up and waits until the daemon has ended the build: then it keeps what was built in its cache.
    pub(super) async fn give_up(mut self) {
        let ended = async {
            self.gateway.give_up("not wanted any more").await.ok();
            (&mut self.solve.0).await.ok();
        };
        timeout(LAST_WORDS, ended).await.ok();
    }

    /// Returns the result: the daemon runs its exporters and writes its caches.
    ///
    /// # Errors
    /// What failed there, or that the node is lost.
    pub(super) async fn release(mut self, world: &FleetWorld) -> Result<ReleasedJob, JobFault> {
        let node = self.node.clone();
        let _slot = node.exports.acquire().await.map_err(|_| JobFault::NodeLost("its slots are closed".to_owned()))?;
        let export = async {
            self.gateway.give_back(&self.result).await?;
            (&mut self.solve.0).await.unwrap_or_else(|error| Err(Status::internal(error.to_string())))
        };
        let answer = tokio::select! {
            biased;
            answer = export => answer,
            why = self.session.lost() => return Err(JobFault::NodeLost(why)),
            why = self.node.when_lost() => return Err(JobFault::NodeLost(why)),
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(status) => {
                let daemon = Daemon::new(self.connection.channel.clone());
                return Err(JobFault::of(DaemonFault::of(&status), &daemon, self.session.faults()).await);
            }
        };
        timeout(LAST_WORDS, &mut self.status.0).await.ok();
        world.count(self.session.sent());
        self.caches.finish(&answer).map_err(JobFault::Here)?;
        Ok(ReleasedJob { output: self.output, answer: answer.into_iter().collect() })
    }
}

/// The request that begins a job: everything but the steps.
fn solve_request(
    world: &FleetWorld,
    job: &JobSpec,
    id: &str,
    session: &Session,
    output: &JobOutput,
    caches: &JobCaches,
    base: FrontendRequest,
) -> SolveRequest {
    let entry = |(kind, attrs): (String, HashMap<String, String>)| CacheOptionsEntry { r#type: kind, attrs };
    let exports = caches.exports().into_iter().map(entry).collect();
    let mut attrs: HashMap<String, String> = base.options.into_iter().collect();
    attrs.extend(world.attestations(job));
    SolveRequest {
        r#ref: id.to_owned(),
        session: session.id().to_owned(),
        frontend_attrs: attrs,
        cache: Some(CacheOptions { exports, ..CacheOptions::default() }),
        entitlements: world.requests[&job.builds[0]].entitlements.clone(),
        exporters: output.exporter().map(|(kind, attrs)| Exporter { r#type: kind, attrs }).into_iter().collect(),
        ..SolveRequest::default()
    }
}

/// A build whose result another one reads: its steps and its image config.
#[derive(Clone, Debug)]
struct LinkedResult {
    definition: Vec<u8>,
    config: Option<Vec<u8>>,
}

/// Solves a build that others read, and those that it reads itself: as part of the same job, so that the daemon builds what
/// several jobs read once.
fn solve_linked<'a>(
    world: &'a FleetWorld,
    node: &'a FleetNode,
    gateway: &'a Gateway,
    build: NodeIndex,
    linked: &'a mut HashMap<NodeIndex, LinkedResult>,
    whole: bool,
) -> Pin<Box<dyn Future<Output = Result<(), Status>> + Send + 'a>> {
    Box::pin(async move {
        if linked.contains_key(&build) {
            return Ok(());
        }
        for (_, from) in &world.requests[&build].linked {
            solve_linked(world, node, gateway, *from, linked, whole).await?;
        }
        let alone = JobSpec {
            builds: vec![build],
            export: None,
            label: String::new(),
            multi_platform: false,
            is_part: false,
            writes_caches: false,
        };
        let result = gateway.solve(request_of(world, node, &alone, linked, whole)).await?;
        let platform = world.requests[&build].platform.to_string();
        let Some((tree, config)) = result.of_platform(&platform) else {
            return Err(Status::internal(format!("the daemon has no result for {platform}")));
        };
        let found = LinkedResult { definition: tree.definition.clone(), config: config.map(<[u8]>::to_vec) };
        linked.insert(build, found);
        Ok(())
    })
}

/// What the frontend is asked for.
fn request_of(
    world: &FleetWorld,
    node: &FleetNode,
    job: &JobSpec,
    linked: &HashMap<NodeIndex, LinkedResult>,
    whole: bool,
) -> FrontendRequest {
    let first = &world.requests[&job.builds[0]];
    let mut request = FrontendRequest { options: first.options.clone(), ..FrontendRequest::default() };
    let platforms: Vec<String> = job.builds.iter().map(|build| world.requests[build].platform.to_string()).collect();
    // A node of another platform than this machine does not get to choose.
    if first.explicit_platform || !node.place.runs_at_first(&first.platform) {
        request.options.insert("platform".to_owned(), platforms.join(","));
    }
    if job.multi_platform {
        request.options.insert("multi-platform".to_owned(), "true".to_owned());
    }
    let folder = |folder: usize, title: &str| definition_of(world, node, folder, title, whole);
    if let MainContext::Folder(main) = first.main {
        request.inputs.insert("context".to_owned(), folder(main, "[internal] load build context"));
    }
    for (name, named) in &first.folders {
        request.inputs.insert(folder_input(*named), folder(*named, &format!("[context {name}] load from client")));
    }
    if let Some(dockerfile) = first.dockerfile.as_ref().filter(|_| !first.has_remote_context()) {
        let title = format!("[internal] load build definition from {}", dockerfile.filename);
        let definition = llb::dockerfile(&dockerfile.filename, dockerfile.text.as_bytes(), &title);
        request.inputs.insert("dockerfile".to_owned(), definition);
    }
    for layout in world.layouts.iter().filter(|layout| first.layouts.contains(&layout.sent)) {
        let image = format!("oci-layout://{}@{}", layout.store, layout.digest);
        request.options.insert(context_option(&layout.sent.context), image);
    }
    for build in &job.builds {
        let of_platform = &world.requests[build];
        for (name, from) in &of_platform.linked {
            add_linked(&mut request, job, of_platform, name, linked.get(from));
        }
    }
    request
}

/// Adds the result of another build as a named context: for each platform its own, where there are several.
fn add_linked(
    request: &mut FrontendRequest,
    job: &JobSpec,
    of_platform: &BuildRequest,
    name: &str,
    linked: Option<&LinkedResult>,
) {
    let Some(LinkedResult { definition, config }) = linked else { return };
    let platform = if job.builds.len() > 1 { format!("::{}", of_platform.platform) } else { String::new() };
    let input = format!("{name}{platform}");
    request.options.insert(format!("{}{platform}", context_option(name)), format!("input:{input}"));
    if let Some(config) = config {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        let metadata = serde_json::json!({"containerimage.config": STANDARD.encode(config)});
        request.options.insert(format!("input-metadata:{input}"), metadata.to_string());
    }
    request.inputs.insert(input, definition.clone());
}

fn definition_of(world: &FleetWorld, node: &FleetNode, folder: usize, title: &str, whole: bool) -> Vec<u8> {
    let sent = world.folders.get(folder);
    llb::folder(&ServedFolder {
        name: &folder_input(folder),
        session: node.shared.get().map(Session::id).unwrap_or_default(),
        exclude: &sent.local.ignore,
        follow: &sent.follow(whole),
        shared_key: &sent.shared_key(&world.client_id),
        title,
    })
}

/// A name that nobody can guess.
pub(super) fn random_id() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}
