//! The embedded engine: builds and exports in this process.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
};

use petgraph::graph::NodeIndex;

use super::{
    base::{Pulled, layer_ref},
    cache::{self, Caches},
    context::Contexts,
    image::Images,
    lower::{Lowering, Outside},
    provenance, secret,
};
use crate::{
    dockerfile::options::Lowered,
    export,
    grant::Allowed,
    oci::{Digest, Platform, digest::FieldHasher},
    plan::{Export, Plan},
    registry,
    report::{
        Diagnostic,
        event::{Event, Sink, StepId},
    },
    solve::{
        failure::SolveFailure,
        local::Locals,
        op::{exec::Runner, source::SourceFetcher},
        slots::Slots,
        solver::{SolveCancel, SolveWorld, Solver},
        tree::LayerTree,
    },
    store::Store,
};

/// What the engine needs of the world.
pub(crate) struct Setup {
    pub(crate) store: Store,
    pub(crate) client: registry::Client,
    pub(crate) sink: Sink,
    /// Steps at a time.
    pub(crate) jobs: usize,
    /// What runs them.
    pub(crate) runner: Arc<Runner>,
    pub(crate) env: Arc<BTreeMap<String, String>>,
    pub(crate) cwd: PathBuf,
    pub(crate) cancel: SolveCancel,
    /// Makes the command of another program.
    pub(crate) command: crate::fetch::GitCommandFn,
    pub(crate) now: fn() -> String,
    /// Seconds since 1970.
    pub(crate) epoch_now: i64,
    /// What the plan may write on this machine.
    pub(crate) writable: Allowed,
}

impl Setup {
    /// The world as steps see it.
    pub(crate) fn world(&self) -> SolveWorld {
        SolveWorld {
            locals: Locals::new(self.store.clone()),
            store: self.store.clone(),
            slots: Slots::new(self.jobs),
            runner: self.runner.clone(),
            sink: self.sink.clone(),
            sources: SourceFetcher {
                client: Arc::new(self.client.clone()),
                limits: crate::layer::UnpackLimits::default(),
                http: crate::fetch::HttpClient::default(),
                command: self.command,
                git_secrets: crate::fetch::GitSecrets::default(),
                fetched: std::sync::Mutex::default(),
            },
            cancel: self.cancel.clone(),
            env: self.env.clone(),
            now: self.now,
        }
    }
}

/// A plan, made ready to run: every Dockerfile read, every output checked.
pub(crate) struct Ready {
    solver: Solver,
    builds: HashMap<NodeIndex, Arc<Lowered>>,
    platforms: HashMap<NodeIndex, Platform>,
    exports: HashMap<NodeIndex, export::PreparedExport>,
    /// Of the builds whose exports state them.
    facts: HashMap<NodeIndex, export::Provenance>,
    caches: Caches,
    client: registry::Client,
    sink: Sink,
    n_vertices: u32,
    epoch_now: i64,
    writable: Allowed,
    pub(crate) warnings: Vec<Diagnostic>,
}

/// Runs `work` with what lowering needs.
pub(crate) async fn lowering<T>(
    world: &SolveWorld,
    contexts: &Contexts,
    all_stages: bool,
    work: impl AsyncFnOnce(&Lowering<'_>) -> T,
) -> T {
    let images = Images::new(world.sources.client.clone(), world.store.clone());
    let env = world.env.clone();
    let is_env_set = move |name: &str| env.contains_key(name);
    work(&Lowering { contexts, outside: Some(Outside { images: &images, world }), is_env_set: &is_env_set, all_stages })
        .await
}

/// Reads and checks everything that can be checked before something runs.
///
/// # Errors
/// Every fault that was found; the source map has the Dockerfiles as well.
pub(crate) async fn prepare(plan: &Plan, setup: Setup, contexts: &Contexts) -> Result<Ready, Vec<Diagnostic>> {
    let mut faults = Vec::new();
    let mut exports = HashMap::new();
    for node in plan.graph.node_indices() {
        if let crate::plan::PlanNode::Export(it) = &plan.graph[node] {
            let (output, subject) = request(it, &setup.cwd, &setup.env);
            match export::prepare(&output, &subject, &setup.writable) {
                Ok(prepared) => {
                    exports.insert(node, prepared);
                }
                Err(diagnostics) => faults.extend(diagnostics),
            }
        }
    }
    if faults.is_empty() {
        let mut all: Vec<(&NodeIndex, &export::PreparedExport)> = exports.iter().collect();
        all.sort_by_key(|(node, _)| **node);
        let all: Vec<&export::PreparedExport> = all.into_iter().map(|(_, prepared)| prepared).collect();
        if let Err(diagnostics) = export::check_together(&all) {
            faults.extend(diagnostics);
        }
    }
    let mut caches = match Caches::of(plan, &setup.cwd) {
        Ok(caches) => caches,
        Err(diagnostics) => {
            faults.extend(diagnostics);
            Caches::default()
        }
    };
    let solver_now = setup.now;
    let mut world = setup.world();
    world.sources.git_secrets = secret::for_git(plan, &setup.env, |path| contexts.absolute(path));
    let Setup { client, sink, epoch_now, writable, .. } = setup;
    let prepared = match lowering(&world, contexts, false, async |it| it.run(plan).await).await {
        Ok(prepared) => prepared,
        Err(diagnostics) => {
            faults.extend(diagnostics);
            return Err(faults);
        }
    };
    if !faults.is_empty() {
        return Err(faults);
    }
    let started = solver_now();
    let mut facts = HashMap::new();
    for (node, _) in exports.iter().filter(|(_, it)| it.states_provenance()) {
        for build in plan.graph.neighbors_directed(*node, petgraph::Direction::Incoming) {
            let about = |lowered: &Arc<Lowered>| {
                provenance::facts(plan.build(build), lowered, &prepared.graph, contexts, &started)
            };
            facts.extend(prepared.builds.get(&build).map(|lowered| (build, about(lowered))));
        }
    }
    let n_vertices = u32::try_from(prepared.graph.len()).expect("graphs have fewer than 2^32 vertices");
    let solver = Solver::new(prepared.graph, prepared.scopes, world);
    solver.import(caches.import(&client).await);
    let mut warnings = prepared.warnings;
    warnings.append(&mut caches.warnings);
    Ok(Ready {
        solver,
        platforms: prepared.builds.keys().map(|node| (*node, plan.build(*node).platform.clone())).collect(),
        builds: prepared.builds,
        exports,
        facts,
        caches,
        client,
        sink,
        n_vertices,
        epoch_now,
        writable,
        warnings,
    })
}

impl Ready {
    /// Builds a node.
    ///
    /// # Errors
    /// The fault of the first step that failed.
    pub(crate) async fn build(&self, node: NodeIndex) -> Result<export::BuiltImage, SolveFailure> {
        let lowered = &self.builds[&node];
        let tree = self.solver.solve(lowered.result).await?.into_tree();
        let provenance = self.facts.get(&node).map(|facts| {
            let finished = (self.solver.world().now)();
            Arc::new(export::Provenance { finished, ..facts.clone() })
        });
        let inline_cache = self.write_caches(node, lowered, &tree).await?;
        let built = built(lowered, self.platforms[&node].clone(), tree);
        Ok(export::BuiltImage { provenance, inline_cache, ..built })
    }

    /// Writes the caches of a build; the records of an inline one go into its image.
    async fn write_caches(
        &self,
        node: NodeIndex,
        lowered: &Lowered,
        tree: &LayerTree,
    ) -> Result<Option<Vec<(Digest, Digest, usize)>>, SolveFailure> {
        let wanted = self.caches.to(node);
        if wanted.is_empty() {
            return Ok(None);
        }
        let steps = self.solver.records(lowered.result).await?;
        let mut inline = None;
        for (to, at) in wanted {
            if to.is_inline() {
                inline = Some(cache::inline(&steps, tree));
                continue;
            }
            let records = cache::records(&steps, tree, to.max);
            let base = Arc::new(Pulled::new(self.solver.clone()));
            if let Err(why) = export::export_cache(to, &records, &self.context(node, base.clone())).await {
                let text = format!("a cache cannot be written: {why}");
                if !to.ignore_error {
                    let fault = Diagnostic::error("bake::engine::cache_export", text).at(*at, "this cache");
                    return Err(base.failure(fault));
                }
                let warning = Diagnostic::warning("bake::engine::cache_export", text).at(*at, "this cache");
                (self.sink)(Event::Warning(Arc::new(warning)));
            }
        }
        Ok(inline)
    }

    fn context(&self, node: NodeIndex, base: Arc<Pulled>) -> export::ExportContext {
        let index = u32::try_from(node.index()).expect("plans have fewer than 2^32 nodes");
        export::ExportContext {
            client: self.client.clone(),
            store: self.solver.world().store.clone(),
            base,
            sink: self.sink.clone(),
            step: StepId(self.n_vertices + index),
            now: self.epoch_now,
            writable: self.writable.clone(),
        }
    }

    /// Whether an export changes something that others see, so that it waits for every build of the plan.
    pub(crate) fn publishes(&self, node: NodeIndex) -> bool {
        self.exports[&node].publishes()
    }

    /// Hands the results of builds to an output.
    ///
    /// # Errors
    /// Names target, exporter and destination.
    pub(crate) async fn export(
        &self,
        node: NodeIndex,
        builds: &[export::BuiltImage],
    ) -> Result<export::ExportReceipt, SolveFailure> {
        let base = Arc::new(Pulled::new(self.solver.clone()));
        let exported = export::export(&self.exports[&node], builds, &self.context(node, base.clone())).await;
        exported.map_err(|diagnostic| base.failure(diagnostic))
    }

    /// Writes back what was learnt for the next run.
    ///
    /// # Errors
    /// When the state folder cannot be written.
    pub(crate) fn finish(&self) -> Result<(), crate::store::StoreError> {
        self.solver.world().locals.save()?;
        self.solver.world().store.finish_run()
    }

    pub(crate) fn cancel(&self) {
        self.solver.world().cancel.cancel();
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.solver.world().cancel.is_cancelled()
    }
}

/// A build's result as exporters want it.
///
/// `platform` is the one that was asked for; what the config says may differ (`FROM --platform=…`).
fn built(lowered: &Lowered, platform: Platform, tree: LayerTree) -> export::BuiltImage {
    let mut content = FieldHasher::new("built/1");
    content.digest(&tree.id).number(lowered.base_layers as u64);
    content.bytes(&serde_json::to_vec(&lowered.config).expect("configs are plain data"));
    for layer in &tree.layers {
        content.digest(&layer.snapshot.0).text(&layer.created);
    }
    for step in &lowered.steps {
        content.text(&step.created_by).text(step.comment).number(u64::from(step.empty_layer));
    }
    content.optional(lowered.epoch.map(|it| it.to_string()).as_deref()).text(&platform.to_string());
    export::BuiltImage {
        platform,
        config: lowered.config.clone(),
        steps: lowered
            .steps
            .iter()
            .map(|step| export::ExportStep {
                created_by: step.created_by.clone(),
                comment: Some(step.comment.to_owned()),
                author: None,
                empty: step.empty_layer,
            })
            .collect(),
        layers: tree.layers.into_iter().map(layer_ref).collect(),
        base_layers: lowered.base_layers,
        content: content.finish(),
        epoch: lowered.epoch,
        inline_cache: None,
        provenance: None,
    }
}

/// An export of the plan as `export` wants it.
fn request(it: &Export, cwd: &Path, env: &BTreeMap<String, String>) -> (export::ExportedOutput, export::Subject) {
    let option =
        |key: &str, value: &str| export::OutputOption { key: key.to_owned(), value: value.to_owned(), at: Some(it.at) };
    let options = it.output.dest.iter().map(|dest| option("dest", dest));
    let options = options.chain(it.output.attrs.iter().map(|(key, value)| option(key, value))).collect();
    let output = export::ExportedOutput { exporter: it.output.kind.clone(), options, at: Some(it.at) };
    let subject = export::Subject {
        target: it.wanted_by.first().map(ToString::to_string).unwrap_or_default(),
        tags: it.tags.clone(),
        annotations: it.annotations.iter().map(|text| (text.clone(), Some(it.annotations_at))).collect(),
        platforms: it.platforms.clone(),
        attest: provenance::attest(it, env),
        cwd: cwd.to_owned(),
        metadata_provenance: match env.get("BUILDX_METADATA_PROVENANCE").map(String::as_str) {
            Some("max") => Some(true),
            Some("disabled" | "false" | "0") => None,
            _ => Some(false),
        },
        always_index: false,
    };
    (output, subject)
}
