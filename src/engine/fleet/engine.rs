//! The fleet engine as `dispatch` sees it: builds are solved on nodes and held there, exports return them.
//!
//! A job is one export on one node, with those of its builds that the node does; or builds that nothing exports. A node that is
//! lost hands its jobs to others, twice at most. What a build itself is at fault for is never tried again.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::future::join_all;
use petgraph::graph::NodeIndex;
use tokio::sync::{OnceCell, watch};

use super::{
    fault::{JobFault, JobPlace},
    job::{self, HeldJob},
    job_spec::JobSpec,
    node::FleetNode,
    output::{self, ReleasedJob},
    world::FleetWorld,
};
use crate::{
    engine::{
        boundary::{BuildWork, CancelMode, Engine, ExportGate, NodeFailure, PublishedExport},
        context::Contexts,
    },
    export::{self, BaseLayers, ExportContext, ExportFuture, ExportReceipt, LayerRef, ReleaseContext, StagedExport},
    objects::ObjectStores,
    oci::BaseLayer,
    plan::Plan,
    report::{Diagnostic, event::Event},
};

/// How often a job goes to another node when its own is lost.
const MOST_MOVES: usize = 2;

/// Builds a plan on nodes that run BuildKit.
pub(crate) struct FleetEngine<'a> {
    pub(super) plan: &'a Plan,
    pub(super) contexts: &'a Contexts,
    pub(super) world: Arc<FleetWorld>,
    pub(super) nodes: Vec<Arc<FleetNode>>,
    pub(super) jobs: Vec<FleetJob>,
    /// The jobs of each build.
    pub(super) of_build: HashMap<NodeIndex, Vec<usize>>,
    /// The jobs of each export, in the order of its platforms.
    pub(super) of_export: HashMap<NodeIndex, Vec<usize>>,
    pub(super) cancelled: watch::Sender<Option<CancelMode>>,
    pub(super) objects: ObjectStores,
    /// Seconds from 1970 to the start of the run.
    pub(super) now: i64,
}

/// One job: what it is, where it may run, and how far it is.
pub(super) struct FleetJob {
    spec: JobSpec,
    /// Nodes that can do it, the best first.
    candidates: Vec<usize>,
    /// The outcome of the build, known once.
    built: OnceCell<Result<(), NodeFailure>>,
    held: Mutex<Option<HeldJob>>,
    /// Under which ids it ran.
    ids: Mutex<Vec<String>>,
}

impl FleetJob {
    pub(super) fn new(spec: JobSpec, candidates: Vec<usize>) -> Self {
        Self { spec, candidates, built: OnceCell::new(), held: Mutex::default(), ids: Mutex::default() }
    }
}

impl FleetEngine<'_> {
    /// Builds a job on the first of its nodes that is there, and holds it. `moves`: how often it was moved.
    async fn hold(&self, job: &FleetJob, moves: &mut usize) -> Result<HeldJob, NodeFailure> {
        loop {
            let there = job.candidates.iter().find(|ix| self.nodes[**ix].why_lost().is_none());
            let Some(node) = there.map(|ix| &self.nodes[*ix]) else {
                return Err(self.no_node(job));
            };
            match self.unless_cancelled(job::hold(&self.world, node, &job.spec)).await? {
                Ok(held) => {
                    job.ids.lock().unwrap_or_else(PoisonError::into_inner).push(held.id.clone());
                    return Ok(held);
                }
                Err(JobFault::NodeLost(why)) => self.lost(job, node, &why, moves)?,
                Err(fault) => return Err(self.failure(fault, job, node)),
            }
        }
    }

    /// Notes that a node is lost. Another one is tried, unless the job was moved too often.
    fn lost(&self, job: &FleetJob, node: &FleetNode, why: &str, moves: &mut usize) -> Result<(), NodeFailure> {
        if node.lose(why) {
            self.world.progress.node_lost(node.index);
            let others = self.nodes.iter().any(|it| it.why_lost().is_none());
            if others {
                let message = format!("the node `{}` was lost: {}", node.name, node.address);
                let mut warning = Diagnostic::warning("bake::fleet::node_lost", message);
                warning.causes.push(why.to_owned());
                warning.help = Some("its builds go on on the other nodes".to_owned());
                (self.world.progress.sink())(Event::Warning(Arc::new(warning)));
            }
        }
        *moves += 1;
        if *moves > MOST_MOVES {
            return Err(self.failure(JobFault::NodeLost(why.to_owned()), job, node));
        }
        Ok(())
    }

    /// Builds a job, once, however often it is asked for.
    async fn built(&self, job: &FleetJob) -> Result<(), NodeFailure> {
        let build = async {
            let held = self.hold(job, &mut 0).await?;
            *job.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(held);
            // Nothing becomes visible of one without output, and its caches are written when it is returned.
            if job.spec.export.is_none() {
                self.released(job).await?;
            }
            Ok(())
        };
        job.built.get_or_init(|| build).await.clone()
    }

    /// Runs the exporters of a job. On another node it is built again first: most of what it needs to know is in caches.
    async fn released(&self, job: &FleetJob) -> Result<ReleasedJob, NodeFailure> {
        let mut moves = 0;
        let mut held = job.held.lock().unwrap_or_else(PoisonError::into_inner).take();
        loop {
            let now = match held.take() {
                Some(held) => held,
                None => self.hold(job, &mut moves).await?,
            };
            let node = now.node.clone();
            match self.unless_cancelled(now.release(&self.world)).await? {
                Ok(released) => return Ok(released),
                Err(JobFault::NodeLost(why)) => self.lost(job, &node, &why, &mut moves)?,
                Err(fault) => return Err(self.failure(fault, job, &node)),
            }
        }
    }

    async fn unless_cancelled<T>(&self, work: impl Future<Output = T>) -> Result<T, NodeFailure> {
        let mut cancelled = self.cancelled.subscribe();
        tokio::select! {
            biased;
            _ = cancelled.wait_for(Option::is_some) => Err(NodeFailure::Cancelled),
            done = work => Ok(done),
        }
    }

    fn failure(&self, fault: JobFault, job: &FleetJob, node: &FleetNode) -> NodeFailure {
        let place = JobPlace { node, builds: &job.spec.builds };
        fault.failure(&self.world, self.contexts, self.plan, &place)
    }

    /// The fault of a job whose nodes are all lost.
    fn no_node(&self, job: &FleetJob) -> NodeFailure {
        let last = job.candidates.first().map(|ix| &self.nodes[*ix]);
        let Some(node) = last else {
            let fault = Diagnostic::error("bake::fleet::no_node", "no node can do this build");
            return NodeFailure::Failed(Arc::new(fault));
        };
        let why = node.why_lost().unwrap_or_default();
        self.failure(JobFault::NodeLost(why), job, node)
    }

    fn export_context(&self) -> ExportContext {
        ExportContext {
            client: self.world.client.clone(),
            objects: self.objects.clone(),
            store: self.world.store.clone(),
            base: Arc::new(NoBase),
            sink: self.world.progress.sink().clone(),
            step: self.world.progress.own_step(),
            now: self.now,
            writable: self.world.writable.clone(),
        }
    }
}

impl Engine for FleetEngine<'_> {
    type Built = ();
    type Staged = StagedExport;

    /// Every output waits for all builds: nothing is written or shown if one of them fails.
    fn gate(&self, _: NodeIndex) -> ExportGate {
        ExportGate::Always
    }

    async fn build(&self, build: NodeIndex) -> Result<(), NodeFailure> {
        let jobs = self.of_build.get(&build).map(Vec::as_slice).unwrap_or_default();
        let built = join_all(jobs.iter().map(|job| self.built(&self.jobs[*job]))).await;
        let mut failures = built.into_iter().filter_map(Result::err).collect::<Vec<_>>();
        // A fault says more than that something was stopped.
        failures.sort_by_key(|failure| matches!(failure, NodeFailure::Cancelled));
        failures.into_iter().next().map_or(Ok(()), Err)
    }

    async fn export(&self, export: NodeIndex, builds: &[()]) -> Result<ExportReceipt, NodeFailure> {
        let staged = self.stage(export, builds).await?;
        let mut published = self.publish(vec![(export, staged)]).await;
        published.pop().expect("one output was published").result
    }

    async fn stage(&self, export: NodeIndex, _: &[()]) -> Result<StagedExport, NodeFailure> {
        let jobs = &self.of_export[&export];
        let released = join_all(jobs.iter().map(|job| self.released(&self.jobs[*job]))).await;
        let released = released.into_iter().collect::<Result<Vec<_>, _>>()?;
        let context = self.export_context();
        let staged = output::stage(&self.world, export, released, &context).await;
        staged.map_err(|fault| NodeFailure::Failed(Arc::new(fault)))
    }

    async fn publish(&self, staged: Vec<(NodeIndex, StagedExport)>) -> Vec<PublishedExport> {
        let (nodes, staged): (Vec<_>, Vec<_>) = staged.into_iter().unzip();
        let context = ReleaseContext {
            client: self.world.client.clone(),
            store: self.world.store.clone(),
            sink: self.world.progress.sink().clone(),
        };
        let released = export::publish(staged, &context).await;
        let results = nodes.into_iter().zip(released);
        results.map(|(node, result)| PublishedExport { node, result: result.map_err(NodeFailure::Failed) }).collect()
    }

    fn work(&self, build: NodeIndex) -> BuildWork {
        let mut work = BuildWork::default();
        for job in self.of_build.get(&build).into_iter().flatten() {
            for id in &*self.jobs[*job].ids.lock().unwrap_or_else(PoisonError::into_inner) {
                let steps = self.world.progress.steps_of(id);
                work.n_steps += steps.n_ran;
                work.took += steps.took;
            }
        }
        work
    }

    fn cancel(&self, mode: CancelMode) {
        self.cancelled.send_replace(Some(mode));
    }

    fn finish(&self) -> Result<(), Diagnostic> {
        let held = self.jobs.iter().filter_map(|job| job.held.lock().unwrap_or_else(PoisonError::into_inner).take());
        let held: Vec<HeldJob> = held.collect();
        if !held.is_empty() {
            let given_up = join_all(held.into_iter().map(HeldJob::give_up));
            tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(given_up));
        }
        let mut sent = *self.world.sent.lock().unwrap_or_else(PoisonError::into_inner);
        for session in self.nodes.iter().filter_map(|node| node.shared.get()) {
            let shared = session.sent();
            sent.files += shared.files;
            sent.syncs += shared.syncs;
        }
        tracing::debug!(?sent, "what travelled");
        Ok(())
    }
}

/// There are no base layers here: what a daemon sends is whole.
struct NoBase;

impl BaseLayers for NoBase {
    fn blob<'a>(&'a self, layer: &'a BaseLayer) -> ExportFuture<'a, Result<(), Diagnostic>> {
        Box::pin(async move {
            let message = format!("a layer did not arrive: {}", layer.layer.descriptor.digest());
            Err(Diagnostic::error("bake::export::remote", message))
        })
    }

    fn unpack<'a>(&'a self, _: &'a [LayerRef]) -> ExportFuture<'a, Result<(), Diagnostic>> {
        Box::pin(async { Ok(()) })
    }
}
