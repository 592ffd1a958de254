//! Plan ─► graph: the Dockerfile of every build is read and lowered into one graph. Questions of the frontend about images
//! are answered between the rounds.
//!
//! A build whose Dockerfile is at fault does not hide the faults of others: all faults of a run are reported.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use futures_util::future::join_all;
use indexmap::IndexMap;
use petgraph::{Direction, graph::NodeIndex, visit::EdgeRef as _};

use super::{
    context::{Contexts, LocalContext, WantedContext},
    image::Images,
    secret,
};
use crate::{
    dockerfile::{
        self, ParsedDockerfile,
        options::{
            Allow, Asked, BuiltContext, ImageInfo, KnownImages, LowerOptions, LowerOutcome, Lowered, NamedContext,
            NoCache, Query,
        },
    },
    graph::{self, Graph, StepNetwork, StepResources},
    layer::view::{Follow, LayerView},
    oci::Platform,
    plan::{
        Build, Plan, PlanLink, PlanNode,
        build::{OptionalFiles, ignore_file_of},
    },
    report::{Diagnostic, url::without_credentials},
    solve::{
        base,
        failure::SolveFailure,
        op::source,
        world::{SolveScope, SolveWorld},
    },
    spec::{
        self, BuildNetwork, Entitlement, ResourceLimits, call::Method, context, dockerfile::DockerfileInput,
        resources::SwapLimit,
    },
};

/// All builds of a plan lowered into one graph.
pub(crate) struct PreparedBuild {
    pub(crate) graph: Graph,
    /// One scope for each vertex: that of the build that added it first.
    pub(crate) scopes: Vec<Arc<SolveScope>>,
    pub(crate) builds: HashMap<NodeIndex, Arc<Lowered>>,
    pub(crate) warnings: Vec<Diagnostic>,
}

/// What lowering needs: contexts, and where images come from.
pub(crate) struct Lowering<'a> {
    pub(crate) contexts: &'a Contexts,
    /// `None`: nothing is fetched and no registry is asked.
    pub(crate) outside: Option<Outside<'a>>,
    pub(crate) is_env_set: &'a (dyn Fn(&str) -> bool + Sync),
    /// Lower every stage of a Dockerfile if it is only checked and no stage was chosen.
    pub(crate) all_stages: bool,
}

/// Sources of images and remote contexts.
pub(crate) struct Outside<'a> {
    pub(crate) images: &'a Images,
    pub(crate) world: &'a SolveWorld,
}

/// Runs `work` with a [`Lowering`] that may ask registries and fetch remote contexts; `all_stages` as there.
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

/// A build whose Dockerfile was read.
pub(super) struct PendingLower {
    node: NodeIndex,
    pub(super) file: Arc<LocalContext>,
    pub(super) options: LowerOptions,
    /// Builds whose results are named contexts of this one, by the name of the context.
    pub(super) linked: Vec<(String, NodeIndex)>,
    scope: Arc<SolveScope>,
}

impl Lowering<'_> {
    /// Lowers all builds.
    ///
    /// # Errors
    /// Every fault of every build.
    pub(crate) async fn run(&self, plan: &Plan) -> Result<PreparedBuild, Vec<Diagnostic>> {
        let mut faults = Vec::new();
        let mut failed: HashSet<NodeIndex> = HashSet::new();
        let mut pending = Vec::new();
        let order = petgraph::algo::toposort(&plan.graph, None).expect("plans are acyclic");
        for node in order {
            if let PlanNode::Build(build) = &plan.graph[node] {
                match self.pending(plan, node, build).await {
                    Ok(it) => pending.push(it),
                    Err(diagnostics) => {
                        faults.extend(diagnostics);
                        failed.insert(node);
                    }
                }
            }
        }
        let mut work = Work {
            plan,
            graph: Graph::default(),
            known: KnownImages::default(),
            builds: HashMap::new(),
            scopes: Vec::new(),
            warnings: Vec::new(),
            warned: HashSet::new(),
        };
        while !pending.is_empty() {
            let (asked, waiting) = self.round(&mut work, pending, &mut failed, &mut faults);
            let unanswered = self.answer(&mut work.known, asked, &mut faults).await;
            pending = waiting;
            if unanswered {
                break;
            }
        }
        if faults.iter().any(Diagnostic::is_error) {
            dedup(&mut faults);
            return Err(faults);
        }
        work.warnings.extend(faults);
        dedup(&mut work.warnings);
        let Work { graph, builds, scopes, warnings, .. } = work;
        Ok(PreparedBuild { graph, scopes, builds, warnings })
    }

    /// Lowers the builds that can be lowered now; returns the open questions and the builds that wait for answers or for
    /// other builds.
    fn round(
        &self,
        work: &mut Work<'_>,
        pending: Vec<PendingLower>,
        failed: &mut HashSet<NodeIndex>,
        faults: &mut Vec<Diagnostic>,
    ) -> (Vec<Asked>, Vec<PendingLower>) {
        let (mut asked, mut waiting) = (Vec::new(), Vec::new());
        for mut it in pending {
            if it.linked.iter().any(|(_, from)| failed.contains(from)) {
                failed.insert(it.node);
                continue;
            }
            if it.linked.iter().any(|(_, from)| !work.builds.contains_key(from)) {
                waiting.push(it);
                continue;
            }
            for (name, from) in &it.linked {
                let built = work.built(*from);
                it.options.contexts.insert(name.clone(), NamedContext::Built(built));
            }
            match dockerfile::lower(&it.file.file, &it.options, &work.known, &mut work.graph) {
                LowerOutcome::Done(lowered) => {
                    work.fill_scopes(it.scope.clone());
                    if work.warned.insert(it.file.source) {
                        work.warnings.extend(lowered.warnings.iter().cloned());
                    }
                    work.warnings.extend(lowered.unused_args.iter().cloned());
                    work.builds.insert(it.node, Arc::new(*lowered));
                }
                LowerOutcome::Needs(more) => {
                    asked.extend(more);
                    waiting.push(it);
                }
                LowerOutcome::Failed(diagnostics) => {
                    let build = work.plan.build(it.node);
                    // A fault without a place in the Dockerfile gets the place of the attribute in the bake file.
                    let attribute = if lacks_stage(&it.file.file, build) { "target" } else { "dockerfile" };
                    faults.extend(diagnostics.into_iter().map(|fault| at_attribute(fault, build, attribute)));
                    failed.insert(it.node);
                }
            }
        }
        (asked, waiting)
    }

    /// Answers all questions concurrently; true if there was none, or one of them has no answer.
    async fn answer(&self, known: &mut KnownImages, asked: Vec<Asked>, faults: &mut Vec<Diagnostic>) -> bool {
        let mut distinct: IndexMap<Query, _> = IndexMap::new();
        for Asked { query, at, near } in asked {
            distinct.entry(query).or_insert((at, near));
        }
        if distinct.is_empty() {
            return true;
        }
        let answers = distinct.iter().map(|(query, from)| async move { (query, from, self.ask(query).await) });
        let mut unanswered = false;
        for (query, (at, near), answer) in join_all(answers).await {
            match answer {
                Ok(info) => {
                    known.images.insert(query.clone(), info);
                }
                Err(mut diagnostic) => {
                    if diagnostic.labels.is_empty() {
                        diagnostic = diagnostic.at(*at, "asked for here");
                    }
                    if let Some(stage) = near {
                        diagnostic = diagnostic.help(format!("did you mean the stage `{stage}`?"));
                    }
                    faults.push(diagnostic);
                    unanswered = true;
                }
            }
        }
        unanswered
    }

    async fn ask(&self, query: &Query) -> Result<ImageInfo, Diagnostic> {
        match &self.outside {
            Some(outside) => outside.images.answer(query).await,
            None => Images::in_layout(query),
        }
    }

    /// The Dockerfile of a build and the options to lower it with. Contexts that are results of other builds are left out.
    ///
    /// # Errors
    /// Every fault that was found.
    pub(crate) async fn look(
        &self,
        plan: &Plan,
        node: NodeIndex,
    ) -> Result<(Arc<LocalContext>, LowerOptions), Vec<Diagnostic>> {
        let PendingLower { file, options, .. } = self.pending(plan, node, plan.build(node)).await?;
        Ok((file, options))
    }

    /// Reads the Dockerfile and the contexts of a build.
    ///
    /// # Errors
    /// Every fault that was found.
    pub(super) async fn pending(
        &self,
        plan: &Plan,
        node: NodeIndex,
        build: &Build,
    ) -> Result<PendingLower, Vec<Diagnostic>> {
        let one = |diagnostic: Diagnostic| vec![at_attribute(diagnostic, build, "context")];
        let remote = match &build.context {
            context::ContextSource::Local(_) => None,
            context::ContextSource::Git(url) | context::ContextSource::Http(url) => {
                Some(remote_context(url, build).map_err(one)?)
            }
            _ => {
                return Err(one(Diagnostic::error(
                    "bake::engine::context_kind",
                    "the main context must be a directory, a git repository or a download",
                )
                .help("an image or a target is a named context: `contexts = { name = \"…\" }`")));
            }
        };
        let target = build.wanted_by.first().map(ToString::to_string).unwrap_or_default();
        let OptionalFiles { lower_case, ignore } = build.optional_files();
        let (wanted, shown) = match (&build.dockerfile, build.dockerfile_path()) {
            (DockerfileInput::Inline(text), _) => {
                let shown = format!("dockerfile-inline of {target}");
                (WantedContext::Inline { target, text: text.clone() }, shown)
            }
            (_, Some(path)) => {
                let shown = self.contexts.shown(&path);
                (WantedContext::File { path, lower_case }, shown)
            }
            (DockerfileInput::InContext(name) | DockerfileInput::Local(name), None) => {
                let remote = remote.as_ref().expect("a Dockerfile without a path is in a remote context");
                let text = self.remote_dockerfile(remote, name).await.map_err(one)?;
                (WantedContext::Inline { target, text }, name.clone())
            }
        };
        let main = match (remote, &build.context) {
            (None, context::ContextSource::Local(folder)) => {
                self.contexts.folder(folder, "the build context", &ignore).map_err(one)?
            }
            (remote, _) => remote.expect("a context that is not a folder is remote"),
        };
        let file = self
            .contexts
            .dockerfile(wanted, &shown)
            .map_err(|diagnostic| vec![at_attribute(diagnostic, build, "dockerfile")])?;
        if file.faults.iter().any(Diagnostic::is_error) {
            return Err(file.faults.clone());
        }
        let mut contexts = IndexMap::new();
        let mut faults = Vec::new();
        for (name, context) in &build.contexts {
            match self.named(name, context) {
                Ok(Some(found)) => {
                    contexts.insert(name.clone(), found);
                }
                Ok(None) => (),
                Err(diagnostic) => faults.push(at_attribute(diagnostic, build, "contexts")),
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let linked = plan
            .graph
            .edges_directed(node, Direction::Incoming)
            .filter_map(|edge| match edge.weight() {
                PlanLink::Context { name } => Some((name.clone(), edge.source())),
                PlanLink::Result { .. } => None,
            })
            .collect();
        let scope = self.scope(build);
        let options = self.options(build, &scope, main, contexts);
        Ok(PendingLower { node, file, options, linked, scope })
    }

    /// The text of the Dockerfile in a remote context: the file of this name, or the download itself if it is not an archive.
    async fn remote_dockerfile(&self, context: &NamedContext, name: &str) -> Result<String, Diagnostic> {
        const MAX: u64 = 16 << 20;
        let Some(Outside { world, .. }) = &self.outside else {
            let message = format!("the Dockerfile is not fetched: {name}");
            return Err(Diagnostic::error("bake::engine::not_fetched", message));
        };
        let op = match context {
            NamedContext::Git(git) => graph::Op::Git(git.clone()),
            NamedContext::Http(http) => graph::Op::Http(http.clone()),
            _ => return Err(Diagnostic::error("bake::engine::context_kind", "the context is not remote")),
        };
        let mut graph = Graph::default();
        let meta = graph::Meta { name: "[internal] load remote build context".to_owned(), ..graph::Meta::default() };
        let ix = graph.add(op, Vec::new(), Platform::host(), meta);
        let step = crate::report::event::StepId(u32::MAX);
        let fetched = source::fetch(world, graph.get(ix), step).await.map_err(SolveFailure::into_diagnostic)?;
        let tree = fetched.into_tree();
        let no_images = base::ImageSteps::default();
        let dirs = base::materialise(world, &tree, &no_images).await.map_err(SolveFailure::into_diagnostic)?;
        let unreadable = |e: &std::io::Error| {
            Diagnostic::error("bake::engine::dockerfile_unreadable", format!("the Dockerfile cannot be read: {name}"))
                .cause(e)
        };
        let view = LayerView::open(&dirs).map_err(|e| unreadable(&e))?;
        let path = format!("/{name}");
        let lone = matches!(context, NamedContext::Http(http) if view.lookup(format!("/{}", http.filename), Follow::Last).ok().flatten().is_some());
        let path = match context {
            NamedContext::Http(http) if lone => format!("/{}", http.filename),
            _ => path,
        };
        let bytes = view.read(&path, MAX).map_err(|e| unreadable(&e))?;
        String::from_utf8(bytes).map_err(|_| {
            Diagnostic::error("bake::engine::dockerfile_not_utf8", format!("the Dockerfile is not UTF-8: {name}"))
        })
    }

    /// Resolves a named context; `None` for the result of another target, which is added when that build is lowered.
    fn named(&self, name: &str, context: &context::ContextSource) -> Result<Option<NamedContext>, Diagnostic> {
        Ok(Some(match context {
            context::ContextSource::Target(_) => return Ok(None),
            context::ContextSource::Image(reference) if reference == "scratch" => NamedContext::Scratch,
            context::ContextSource::Image(reference) => {
                NamedContext::Image { reference: reference.clone(), layout: None }
            }
            context::ContextSource::OciLayout { path, tag, digest } => {
                let folder = self.contexts.path(path).path().display().to_string();
                let tag = tag.as_ref().map(|it| format!(":{it}")).unwrap_or_default();
                let digest = digest.as_ref().map(|it| format!("@{it}")).unwrap_or_default();
                NamedContext::Image { reference: format!("{path}{tag}{digest}"), layout: Some(folder) }
            }
            context::ContextSource::Local(path) => {
                let ignore = [ignore_file_of(path)];
                self.contexts.folder(path, &format!("the context `{name}`"), &ignore)?
            }
            context::ContextSource::Git(url) | context::ContextSource::Http(url) => remote(url, false, false)?,
            context::ContextSource::Stdin => {
                return Err(Diagnostic::error("bake::engine::stdin_context", "standard input cannot be a context"));
            }
        }))
    }

    fn options(
        &self,
        build: &Build,
        scope: &SolveScope,
        main: NamedContext,
        contexts: IndexMap<String, NamedContext>,
    ) -> LowerOptions {
        let has = |wanted: &dyn Fn(&Entitlement) -> bool| build.entitlements.iter().any(wanted);
        LowerOptions {
            target: build.stage.clone(),
            platform: build.platform.clone(),
            explicit_platform: build.explicit_platform,
            build_platform: Platform::host(),
            build_args: build.args.clone(),
            hidden_args: build.hidden_args.clone(),
            labels: build.labels.clone(),
            no_cache: match (build.no_cache, build.no_cache_filter.as_slice()) {
                (true, _) => NoCache::All,
                (false, []) => NoCache::No,
                (false, stages) => NoCache::Stages(stages.to_vec()),
            },
            network: match build.network {
                BuildNetwork::Default => StepNetwork::Default,
                BuildNetwork::None => StepNetwork::None,
                BuildNetwork::Host => StepNetwork::Host,
            },
            allow: Allow {
                network_host: has(&|it| matches!(it, Entitlement::NetworkHost)),
                security_insecure: has(&|it| matches!(it, Entitlement::SecurityInsecure)),
            },
            extra_hosts: build.extra_hosts.iter().map(|host| (host.name.clone(), host.address.clone())).collect(),
            shm_size: build.shm_size,
            ulimits: build.ulimits.iter().map(ToString::to_string).collect(),
            hostname: build.args.get("BUILDKIT_SANDBOX_HOSTNAME").cloned(),
            resources: resources(&build.resources),
            secrets: scope.secrets.iter().map(|(id, source)| (id.clone(), source.to_string())).collect(),
            agents: scope
                .ssh
                .iter()
                .map(|(id, socket)| (id.clone(), socket.clone().unwrap_or_else(|| "SSH_AUTH_SOCK".to_owned())))
                .collect(),
            multi_platform: build.multi_platform,
            label_prefix: build.wanted_by.first().map(ToString::to_string).unwrap_or_default(),
            contexts,
            main,
            source_date_epoch: None,
            all_stages: self.all_stages && build.stage.is_none() && build.call.method == Method::Check,
        }
    }

    fn scope(&self, build: &Build) -> Arc<SolveScope> {
        let mut scope = SolveScope::default();
        for secret in &build.secrets {
            let spec::Secret { id, src, env, .. } = secret;
            let id = if id.is_empty() { src.clone().unwrap_or_default() } else { id.clone() };
            let source =
                secret::source(&id, src.as_deref(), env.as_deref(), self.is_env_set, |path| self.contexts.path(path));
            scope.secrets.insert(id, source);
        }
        for ssh in &build.ssh {
            let id = if ssh.id.is_empty() { "default".to_owned() } else { ssh.id.clone() };
            let path = ssh.paths.first().map(|path| self.contexts.path(path).path().display().to_string());
            scope.ssh.insert(id, path);
        }
        scope.cache_namespace = build.args.get("BUILDKIT_CACHE_MOUNT_NS").cloned().unwrap_or_default();
        Arc::new(scope)
    }
}

struct Work<'a> {
    plan: &'a Plan,
    graph: Graph,
    known: KnownImages,
    builds: HashMap<NodeIndex, Arc<Lowered>>,
    scopes: Vec<Arc<SolveScope>>,
    warnings: Vec<Diagnostic>,
    /// Dockerfiles whose warnings were taken over: once, not for each target and platform.
    warned: HashSet<crate::report::SourceId>,
}

impl Work<'_> {
    fn built(&self, node: NodeIndex) -> Arc<BuiltContext> {
        Arc::new(built(&self.builds[&node]))
    }

    /// Gives this scope to the vertices that were added since the last call.
    fn fill_scopes(&mut self, scope: Arc<SolveScope>) {
        self.scopes.resize(self.graph.len(), scope);
    }
}

/// Makes a lowered build usable as a context of others.
pub(super) fn built(lowered: &Lowered) -> BuiltContext {
    BuiltContext {
        vertex: lowered.result,
        config: lowered.config.clone(),
        base_layers: lowered.base_layers,
        steps: lowered.steps.clone(),
        is_assumed: lowered.is_assumed,
    }
}

/// The limits of a build's steps.
fn resources(limits: &ResourceLimits) -> StepResources {
    let ResourceLimits { memory, memory_swap, cpu_shares, cpu_period, cpu_quota, cpuset_cpus, cpuset_mems } = limits;
    StepResources {
        memory: *memory,
        memory_swap: memory_swap.map(|swap| match swap {
            SwapLimit::Unlimited => -1,
            SwapLimit::Bytes(bytes) => i64::try_from(bytes).unwrap_or(i64::MAX),
        }),
        cpu_shares: *cpu_shares,
        cpu_period: *cpu_period,
        cpu_quota: *cpu_quota,
        cpuset_cpus: cpuset_cpus.clone(),
        cpuset_mems: cpuset_mems.clone(),
    }
}

/// Whether the Dockerfile has stages, and none of the name that the build asks for.
fn lacks_stage(file: &ParsedDockerfile, build: &Build) -> bool {
    let Some(wanted) = build.stage.as_ref().filter(|wanted| !wanted.is_empty()) else { return false };
    let wanted = wanted.to_lowercase();
    let mut names = file.stages.iter().filter_map(|stage| stage.name.as_ref());
    !file.stages.is_empty() && names.all(|name| name.value != wanted)
}

/// A git repository or download as the main context.
fn remote_context(url: &str, build: &Build) -> Result<NamedContext, Diagnostic> {
    let keep = build.args.get("BUILDKIT_CONTEXT_KEEP_GIT_DIR").is_some_and(|it| matches!(it.as_str(), "1" | "true"));
    remote(url, keep, true)
}

/// A git repository or download as a context; `unpack`: an archive is unpacked.
fn remote(url: &str, keep_git_dir: bool, unpack: bool) -> Result<NamedContext, Diagnostic> {
    let bad = |why: String| Diagnostic::error("bake::engine::bad_url", format!("{why}: {}", without_credentials(url)));
    match dockerfile::remote::git(url, true) {
        Some(source) => {
            let source = source.map_err(bad)?;
            let keep_git_dir = source.keep_git_dir.unwrap_or(keep_git_dir);
            Ok(NamedContext::Git(graph::GitOp { keep_git_dir, ..source.git }))
        }
        None => {
            let http = graph::HttpOp { url: url.to_owned(), checksum: None, filename: "context".to_owned(), unpack };
            Ok(NamedContext::Http(http))
        }
    }
}

fn at_attribute(diagnostic: Diagnostic, build: &Build, attribute: &str) -> Diagnostic {
    if !diagnostic.labels.is_empty() {
        return diagnostic;
    }
    let target = build.wanted_by.first().map(ToString::to_string).unwrap_or_default();
    diagnostic.at(build.at(attribute), format!("for target `{target}`"))
}

/// Removes repetitions: a fault of a file that several targets read is reported once.
fn dedup(diagnostics: &mut Vec<Diagnostic>) {
    let mut seen = HashSet::new();
    diagnostics.retain(|it| seen.insert((it.code, it.message.clone(), it.labels.first().map(|label| label.at))));
}
