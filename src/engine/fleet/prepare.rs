//! Preparing a fleet: outputs, Dockerfiles and contexts are checked, nodes connected, builds placed. Nothing is sent before all of
//! it is right.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::join_all;
use petgraph::{Direction, graph::NodeIndex};
use tokio::{sync::watch, time::timeout};
use tonic::Status;

use super::{
    engine::{FleetEngine, FleetJob},
    folder::Folders,
    job_spec::JobSpec,
    node::{FleetNode, NodeAbilities},
    output::JobOutput,
    place::{PlaceBuild, PlaceNode, place},
    progress::FleetProgress,
    request::{self, BuildRequest, SentLayout, folder_input},
    world::{BuildCaches, FleetWorld, OpenLayout},
};
use crate::{
    buildkit::{
        ConnectSetup, Connection, NodeAddress,
        builder::{Builder, BuilderName, BuilderNode, NodeFacts},
        session::{Session, SessionIdentity, SessionServices, SyncedFolder},
    },
    engine::{
        boundary::PreparedEngine,
        check,
        context::Contexts,
        embedded::EngineSetup,
        image::Images,
        lower::{Lowering, Outside},
        lowering_diagnostic::LoweringDiagnostic,
        outputs::{OutputWorld, prepare_exports},
        reading::read_builds,
    },
    export::{self, PreparedExport, ReleaseContext},
    graph::Graph,
    objects::ObjectStores,
    oci::{Digest, Platform},
    plan::{Build, Plan, PlanNode},
    registry::Layout,
    report::Diagnostic,
    spec::dockerfile::DockerfileInput,
};

/// A Dockerfile that asks for a frontend that is not built in here.
const FOREIGN_SYNTAX: &str = "bake::dockerfile::foreign_syntax";
/// Time for a node to take a session.
const SESSION: Duration = Duration::from_secs(5);
/// How many builds run on a node at a time, unless the user says.
const JOBS: usize = 8;

/// A label of workers that keep images in a store of containerd.
const IMAGE_STORE: &str = "org.mobyproject.buildkit.worker.containerd.namespace";

/// What a fleet needs beside what every engine needs.
pub(crate) struct FleetSetup {
    pub(crate) engine: EngineSetup,
    /// The builders that the user named, all of whose nodes are used.
    pub(crate) builders: Vec<BuilderName>,
    pub(crate) connect: ConnectSetup,
    /// How many builds run on each node at a time.
    pub(crate) jobs: Option<usize>,
}

/// Prepares a fleet for a plan.
///
/// # Errors
/// Every fault that was found; `contexts` has the Dockerfiles that their places point into.
pub(crate) async fn prepare<'a>(
    plan: &'a Plan,
    setup: FleetSetup,
    contexts: &'a Contexts,
) -> Result<PreparedEngine<FleetEngine<'a>>, Vec<Diagnostic>> {
    let EngineSetup { client, store, sink, .. } = &setup.engine;
    let release = ReleaseContext { client: client.clone(), store: store.clone(), sink: sink.clone() };
    let told = export::recover(&release).await;
    match prepare_plan(plan, setup, contexts).await {
        Ok(mut prepared) => {
            prepared.warnings.splice(0..0, told);
            Ok(prepared)
        }
        Err(faults) => Err(told.into_iter().chain(faults).collect()),
    }
}

async fn prepare_plan<'a>(
    plan: &'a Plan,
    setup: FleetSetup,
    contexts: &'a Contexts,
) -> Result<PreparedEngine<FleetEngine<'a>>, Vec<Diagnostic>> {
    let FleetSetup { engine: setup, builders, connect, jobs } = setup;
    let mut faults = Vec::new();
    let here = OutputWorld { cwd: &setup.cwd, env: &setup.env, writable: &setup.writable };
    let (exports, mut warnings) = prepare_exports(plan, &here, &mut faults);
    faults.extend(joined(plan));
    let looked = check::check(plan, contexts).await;
    // A builder has frontends that this engine has not.
    let ours = looked.findings.into_iter().filter(|finding| finding.code != FOREIGN_SYNTAX);
    let (errors, notes): (Vec<_>, Vec<_>) = ours.partition(Diagnostic::is_error);
    faults.extend(errors);
    warnings.extend(notes);
    let read = requests(plan, contexts, &setup).await;
    let (requests, folders) = match read {
        Ok(read) if faults.is_empty() => read,
        Ok(_) => return Err(faults),
        // Those that the check has found as well are told once.
        Err(found) => {
            faults.extend(found.into_iter().map(LoweringDiagnostic::into_diagnostic));
            return Err(faults);
        }
    };
    let builder = Builder::fleet(&builders, &connect).await?;
    let (nodes, missing) = connected(&builder, &connect, jobs.unwrap_or(JOBS)).await?;
    warnings.extend(missing);
    let layouts = layouts(plan, &requests, contexts)?;
    let names: Vec<String> = nodes.iter().map(|node| node.name.clone()).collect();
    let client_id = client_id(&setup);
    let world = FleetWorld {
        attestations: attestations(plan, &nodes, &exports),
        caches: caches(plan),
        requests,
        folders,
        layouts,
        exports,
        progress: FleetProgress::new(setup.sink.clone(), &names, (*setup.hidden).clone()),
        store: setup.store.clone(),
        client: setup.client.clone(),
        env: setup.env.clone(),
        secret_env: setup.secret_env.clone(),
        cwd: setup.cwd.clone(),
        writable: setup.writable.clone(),
        client_id,
        seed: seed(),
        sent: Mutex::default(),
    };
    warnings.extend(serve_folders(&world, &nodes, contexts).await?);
    let (jobs, of_build, of_export) = jobs_of(plan, &world, &nodes)?;
    let engine = FleetEngine {
        plan,
        contexts,
        world: Arc::new(world),
        nodes,
        jobs,
        of_build,
        of_export,
        cancelled: watch::channel(None).0,
        objects: ObjectStores::new(setup.env.clone()),
        now: setup.epoch_now,
    };
    Ok(PreparedEngine { engine, warnings, findings: Vec::new() })
}

/// Refuses several outputs in one archive: each job of a daemon makes one.
fn joined(plan: &Plan) -> Option<Diagnostic> {
    let group = plan.joint.iter().find(|group| group.len() > 1)?;
    let export = plan.export(group[0]);
    let message = "a builder does not write several images into one archive";
    let fault = Diagnostic::error("bake::fleet::append", message).at(export.at, "this output");
    Some(fault.help("give each its own `dest`, or build with `--builder embedded`"))
}

/// The builds as a daemon is asked for them, and the folders that they read.
async fn requests(
    plan: &Plan,
    contexts: &Contexts,
    setup: &EngineSetup,
) -> Result<(HashMap<NodeIndex, BuildRequest>, Folders), Vec<LoweringDiagnostic>> {
    let env = setup.secret_env.clone();
    let is_env_set = move |name: &str| env.contains_key(name);
    let (mut found, mut faults, mut folders) = (HashMap::new(), Vec::new(), Folders::default());
    for (node, build) in plan.builds_in_order() {
        // A Dockerfile at an address is downloaded here, as everywhere.
        let downloads = matches!(build.dockerfile, DockerfileInput::Http(_));
        let fetching =
            downloads.then(|| (Images::new(Arc::new(setup.client.clone()), setup.store.clone()), setup.world()));
        let outside = fetching.as_ref().map(|(images, world)| Outside { images, world });
        let lowering = Lowering { contexts, outside, is_env_set: &is_env_set, all_stages: false };
        match request::request(plan, node, &lowering, &mut folders).await {
            Ok(mut request) => {
                for (name, value) in setup.proxies.iter() {
                    if !build.args.keys().any(|given| given.eq_ignore_ascii_case(name)) {
                        request.options.insert(format!("build-arg:{name}"), value.clone());
                    }
                }
                found.insert(node, request);
            }
            Err(all) => faults.extend(all),
        }
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    let reads = read_builds(plan, contexts, &mut Graph::default()).await;
    for (node, build) in plan.builds_in_order() {
        if request::is_remote(build) {
            continue;
        }
        // Of one that is not read here everything may be wanted.
        let read = reads.get(&node).and_then(|read| read.as_ref().ok());
        folders.read(read.map(|read| read.reads.as_slice()));
    }
    Ok((found, folders))
}

/// Connects the nodes of a builder. Those that do not answer are told of, if others do.
async fn connected(
    builder: &Builder,
    connect: &ConnectSetup,
    jobs: usize,
) -> Result<(Vec<Arc<FleetNode>>, Vec<Diagnostic>), Vec<Diagnostic>> {
    let opened = join_all(builder.nodes.iter().map(|node| open(node, connect))).await;
    let (mut nodes, mut missing) = (Vec::new(), Vec::new());
    for (node, opened) in builder.nodes.iter().zip(opened) {
        match opened {
            Ok((connection, facts)) => {
                let place = PlaceNode {
                    name: node.name.clone(),
                    named: node.platforms.clone(),
                    native: facts.native.clone(),
                    emulated: facts.emulated.clone(),
                    load: facts.active_builds.unwrap_or(0),
                };
                let abilities = abilities(&node.address, &facts);
                let address = node.address.to_string();
                nodes.push(Arc::new(FleetNode::new(nodes.len(), address, place, abilities, jobs, connection)));
            }
            Err(fault) => missing.push(fault),
        }
    }
    if nodes.is_empty() {
        return Err(missing);
    }
    let told = missing.into_iter().map(|fault| Diagnostic { severity: crate::report::Severity::Warning, ..fault });
    Ok((nodes, told.collect()))
}

async fn open(node: &BuilderNode, connect: &ConnectSetup) -> Result<(Connection, NodeFacts), Diagnostic> {
    let connection = Connection::open(&node.address, connect).await.map_err(|fault| fault.diagnostic())?;
    let facts = NodeFacts::ask(&connection).await?;
    Ok((connection, facts))
}

fn abilities(address: &NodeAddress, facts: &NodeFacts) -> NodeAbilities {
    tracing::debug!(?facts, "a node");
    let is_docker = matches!(address, NodeAddress::Docker { .. });
    // With its old image store it keeps images as layers of its own, and hands them over as trees alone.
    let has_images = !is_docker || facts.labels.contains_key(IMAGE_STORE);
    NodeAbilities { is_docker, has_images, has_attestations: has_images }
}

/// What tells this machine and user from others.
fn client_id(setup: &EngineSetup) -> String {
    let machine = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    let user = rustix::process::getuid().as_raw();
    let home = setup.env.get("HOME").map(String::as_str).unwrap_or_default();
    Digest::of(format!("{machine}\n{user}\n{home}").as_bytes()).hex().to_string()
}

fn seed() -> [u8; 32] {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).expect("the system has random numbers");
    seed
}

/// Opens the OCI layouts that builds read, and finds their images.
fn layouts(
    plan: &Plan,
    requests: &HashMap<NodeIndex, BuildRequest>,
    contexts: &Contexts,
) -> Result<Vec<OpenLayout>, Vec<Diagnostic>> {
    let (mut found, mut faults): (Vec<OpenLayout>, Vec<Diagnostic>) = (Vec::new(), Vec::new());
    for (node, build) in plan.builds_in_order() {
        for sent in &requests[&node].layouts {
            if found.iter().any(|it| it.sent == *sent) {
                continue;
            }
            match open_layout(sent, found.len(), contexts) {
                Ok(open) => found.push(open),
                Err(why) => {
                    let message = format!("the context `{}` cannot be read: oci-layout://{}", sent.context, sent.path);
                    let mut fault = Diagnostic::error("bake::engine::image", message);
                    fault.causes.push(why);
                    faults.push(fault.at(build.at("contexts"), "this context").of(request::targets(plan, &[node])));
                }
            }
        }
    }
    if faults.is_empty() { Ok(found) } else { Err(faults) }
}

fn open_layout(sent: &SentLayout, number: usize, contexts: &Contexts) -> Result<OpenLayout, String> {
    let granted = contexts.path(&sent.path);
    let folder = granted.open_dir().map_err(|error| error.to_string())?;
    let layout = Layout::open(granted.path()).map_err(|error| error.to_string())?;
    let digest = sent.digest.as_ref().map(|text| text.parse::<Digest>()).transpose();
    let digest = digest.map_err(|_| "its digest is none".to_owned())?;
    let root = layout.resolve(sent.tag.as_deref(), digest.as_ref()).map_err(|error| error.to_string())?;
    Ok(OpenLayout {
        sent: sent.clone(),
        store: format!("layout{number}"),
        folder: Arc::new(folder),
        digest: root.digest,
    })
}

/// Opens the session of each node by which it reads folders. A node that goes away meanwhile is told of, if others are left.
async fn serve_folders(
    world: &FleetWorld,
    nodes: &[Arc<FleetNode>],
    contexts: &Contexts,
) -> Result<Vec<Diagnostic>, Vec<Diagnostic>> {
    let mut folders = Vec::new();
    for (number, folder) in world.folders.iter() {
        let shown = contexts.shown(&folder.path);
        let root = contexts.path(&folder.path).open_dir().map_err(|error| {
            let message = format!("the context cannot be read: {shown}");
            vec![Diagnostic::error("bake::engine::context_missing", message).cause(&error)]
        })?;
        folders.push(SyncedFolder { name: folder_input(number), root: Arc::new(root), shown });
    }
    let opened = join_all(nodes.iter().map(|node| serve(world, node, folders.clone()))).await;
    let lost: Vec<Diagnostic> = opened.into_iter().filter_map(Result::err).collect();
    if lost.len() == nodes.len() {
        return Err(lost);
    }
    let told = lost.into_iter().map(|fault| Diagnostic { severity: crate::report::Severity::Warning, ..fault });
    Ok(told.collect())
}

async fn serve(world: &FleetWorld, node: &FleetNode, folders: Vec<SyncedFolder>) -> Result<(), Diagnostic> {
    let identity =
        SessionIdentity { uuid: super::job::random_id(), name: "bake".to_owned(), shared_key: world.client_id.clone() };
    let services = SessionServices { folders, ..SessionServices::default() };
    let opened = async {
        let channel = node.connection().await?.channel;
        Session::open(channel, identity, services).await
    };
    let silent = || Status::deadline_exceeded(format!("no answer within {} seconds", SESSION.as_secs()));
    let opened = timeout(SESSION, opened).await.unwrap_or_else(|_| Err(silent()));
    let session = opened.map_err(|status| {
        node.lose(status.message());
        unopened(node, status.message())
    })?;
    drop(node.shared.set(session));
    Ok(())
}

fn unopened(node: &FleetNode, why: &str) -> Diagnostic {
    let message = format!("the node `{}` refuses a session: {}", node.name, node.address);
    let mut fault = Diagnostic::error("bake::fleet::session", message);
    fault.causes.push(why.to_owned());
    fault
}

/// What is attested of each export. By default nothing where the embedded engine writes nothing: a daemon would forget that for
/// an archive of several platforms.
fn attestations(
    plan: &Plan,
    nodes: &[Arc<FleetNode>],
    prepared: &HashMap<NodeIndex, PreparedExport>,
) -> HashMap<NodeIndex, crate::spec::attest::Attestations> {
    let can = nodes.iter().all(|node| node.abilities.has_attestations);
    let exports = plan.graph.node_indices().filter_map(|node| match &plan.graph[node] {
        PlanNode::Export(export) => Some((node, export)),
        PlanNode::Build(_) => None,
    });
    let wanted = exports.map(|(node, export)| {
        let mut attestations = export.attestations.clone();
        if !can || !prepared.get(&node).is_some_and(PreparedExport::has_default_provenance) {
            attestations.provenance = attestations.provenance.filter(|it| !it.by_default);
        }
        (node, attestations)
    });
    wanted.collect()
}

fn caches(plan: &Plan) -> HashMap<NodeIndex, BuildCaches> {
    let of = |build: &Build| BuildCaches {
        from: build.cache_from.clone(),
        to: build.cache_to.clone(),
        is_inline: build.wants_inline_cache(),
    };
    plan.builds_in_order().map(|(node, build)| (node, of(build))).collect()
}

/// Jobs, and which of them each build and each export has.
type PlacedJobs = (Vec<FleetJob>, HashMap<NodeIndex, Vec<usize>>, HashMap<NodeIndex, Vec<usize>>);

/// Divides the plan into jobs, each of which its node can do: for each export those builds that one node does, and for builds that nothing exports one each.
fn jobs_of(plan: &Plan, world: &FleetWorld, nodes: &[Arc<FleetNode>]) -> Result<PlacedJobs, Vec<Diagnostic>> {
    let wanted: Vec<NodeIndex> =
        plan.builds_in_order().map(|(node, _)| node).filter(|node| is_wanted(plan, *node)).collect();
    let builds: Vec<PlaceBuild> = wanted
        .iter()
        .map(|build| PlaceBuild { platforms: platforms(world, *build), affinity: world.requests[build].affinity() })
        .collect();
    let places: Vec<PlaceNode> = nodes.iter().map(|node| node.place.clone()).collect();
    let placed: BTreeMap<NodeIndex, Vec<usize>> = wanted.iter().copied().zip(place(&places, &builds)).collect();
    let (mut jobs, mut of_build, mut of_export) = (Vec::new(), HashMap::new(), HashMap::new());
    let mut faults = Vec::new();
    let mut add = |builds: Vec<NodeIndex>, export: Option<NodeIndex>, candidates: Vec<usize>, is_part: bool| {
        let first = plan.build(builds[0]);
        let writes_caches = !builds.iter().any(|build| of_build.contains_key(build));
        builds.iter().for_each(|build| of_build.entry(*build).or_insert_with(Vec::new).push(jobs.len()));
        of_export.entry(export).or_insert_with(Vec::new).push(jobs.len());
        let spec = JobSpec {
            export,
            label: first.wanted_by.first().map(ToString::to_string).unwrap_or_default(),
            multi_platform: export.map_or(first.multi_platform, |export| plan.export(export).multi_platform),
            is_part,
            writes_caches,
            builds,
        };
        faults.extend(JobOutput::check(world, &nodes[candidates[0]], &spec).err().map(|fault| *fault));
        jobs.push(FleetJob::new(spec, candidates));
    };
    let mut exported = Vec::new();
    for node in plan.graph.node_indices() {
        let PlanNode::Export(_) = &plan.graph[node] else { continue };
        let groups = by_node(builds_of(plan, node), &placed);
        let is_part = groups.len() > 1;
        for (candidates, builds) in groups {
            exported.extend(builds.iter().copied());
            add(builds, Some(node), candidates, is_part);
        }
    }
    for build in &wanted {
        if !exported.contains(build) {
            add(vec![*build], None, placed[build].clone(), false);
        }
    }
    let of_export = of_export.into_iter().filter_map(|(export, jobs)| Some((export?, jobs))).collect();
    if faults.is_empty() { Ok((jobs, of_build, of_export)) } else { Err(faults) }
}

/// The builds of an export, in the order of its platforms.
fn builds_of(plan: &Plan, export: NodeIndex) -> Vec<NodeIndex> {
    use petgraph::visit::EdgeRef as _;
    let mut builds: Vec<(usize, NodeIndex)> = plan
        .graph
        .edges_directed(export, Direction::Incoming)
        .filter_map(|edge| match edge.weight() {
            crate::plan::PlanLink::Result { platform } => Some((*platform, edge.source())),
            crate::plan::PlanLink::Context { .. } => None,
        })
        .collect();
    builds.sort_unstable();
    builds.into_iter().map(|(_, build)| build).collect()
}

/// Builds with the same first node together, in the order of the first of each.
fn by_node(builds: Vec<NodeIndex>, placed: &BTreeMap<NodeIndex, Vec<usize>>) -> Vec<(Vec<usize>, Vec<NodeIndex>)> {
    let mut groups: Vec<(Vec<usize>, Vec<NodeIndex>)> = Vec::new();
    for build in builds {
        let candidates = &placed[&build];
        match groups.iter_mut().find(|(known, _)| known[0] == candidates[0]) {
            Some((known, group)) => {
                // All of them have to be possible where it goes if its node is lost.
                known.retain(|node| candidates.contains(node));
                group.push(build);
            }
            None => groups.push((candidates.clone(), vec![build])),
        }
    }
    groups
}

/// Whether a build is asked for itself, and not only read by others.
fn is_wanted(plan: &Plan, build: NodeIndex) -> bool {
    let is_exported = plan.graph.neighbors(build).any(|to| matches!(plan.graph[to], PlanNode::Export(_)));
    is_exported || plan.targets.values().any(|target| !target.is_linked && target.builds.contains(&build))
}

/// The platforms that a node needs for a build: its own, and those of what it reads.
fn platforms(world: &FleetWorld, build: NodeIndex) -> Vec<Platform> {
    let request = &world.requests[&build];
    let mut all = vec![request.platform.clone()];
    for (_, from) in &request.linked {
        let more = platforms(world, *from).into_iter().filter(|it| !all.contains(it)).collect::<Vec<_>>();
        all.extend(more);
    }
    all
}
