//! Plan ─► graph: the Dockerfile of every build is read and lowered into one graph. Questions of the frontend about images
//! are answered between the rounds.
//!
//! A build whose Dockerfile is at fault does not hide the faults of others: all faults of a run are reported.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use futures_util::future::join_all;
use indexmap::{IndexMap, IndexSet};
use petgraph::{Direction, graph::NodeIndex, visit::EdgeRef as _};

use super::{
    context::{Contexts, LocalContext, WantedContext},
    epoch,
    image::Images,
    lowering_diagnostic::{LoweringDiagnostic, LoweringReport, about_options, at_attribute, dedup, surroundings},
    remote, secret,
};
use crate::{
    dockerfile::{
        self, ParsedDockerfile,
        options::{
            Allow, BuiltContext, ImageInfo, KnownImages, LowerOptions, LowerOutcome, Lowered, NamedContext, NoCache,
            Query,
        },
    },
    graph::{Graph, StepFile},
    oci::Platform,
    plan::{
        Build, Plan, PlanLink,
        build::{OptionalFiles, ignore_file_of},
    },
    report::{Diagnostic, url::without_credentials},
    solve::world::{SolveScope, SolveWorld},
    spec::{
        self, Entitlement,
        call::Method,
        context,
        dockerfile::DockerfileInput,
        policy::{CANNOT_JUDGE, POLICY_ENDING, POLICY_HELP, UnnamedPolicies, policy_of},
    },
};

/// All builds of a plan, lowered into one graph.
pub(crate) struct PreparedBuild {
    pub(crate) graph: Graph,
    /// One scope for each vertex: that of the build that added it first.
    pub(crate) scopes: Vec<Arc<SolveScope>>,
    pub(crate) builds: HashMap<NodeIndex, Arc<Lowered>>,
    /// No errors among them.
    pub(crate) warnings: Vec<LoweringDiagnostic>,
}

/// The contexts, and the source of images, with which builds are lowered.
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
    lowering_with(Images::new(world.sources.client.clone(), world.store.clone()), world, contexts, all_stages, work)
        .await
}

/// As [`lowering`], with what reads the images.
pub(crate) async fn lowering_with<T>(
    images: Images,
    world: &SolveWorld,
    contexts: &Contexts,
    all_stages: bool,
    work: impl AsyncFnOnce(&Lowering<'_>) -> T,
) -> T {
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
    pub(super) scope: Arc<SolveScope>,
    warnings: Vec<LoweringDiagnostic>,
}

impl Lowering<'_> {
    /// Lowers all builds.
    ///
    /// # Errors
    /// Every fault of every build, and the findings of checks.
    pub(crate) async fn run(&self, plan: &Plan) -> Result<PreparedBuild, Vec<LoweringDiagnostic>> {
        let mut faults = Vec::new();
        let mut failed: HashSet<NodeIndex> = HashSet::new();
        let (mut pending, mut warnings) = (Vec::new(), Vec::new());
        for (node, build) in plan.builds_in_order() {
            if matches!(build.context, context::ContextSource::Built(_)) {
                // It has no Dockerfile: the engine looks it up.
                let fault = read_by_others(plan, node, build).map(LoweringReport::Surroundings);
                faults.extend(fault.map(|it| it.about(build)));
                failed.insert(node);
                continue;
            }
            match self.pending(plan, node, build).await {
                Ok(mut it) => {
                    warnings.append(&mut it.warnings);
                    pending.push(it);
                }
                Err(diagnostics) => {
                    faults.extend(diagnostics);
                    failed.insert(node);
                }
            }
        }
        let mut work = Work {
            plan,
            graph: Graph::default(),
            known: KnownImages::default(),
            builds: HashMap::new(),
            scopes: Vec::new(),
            warnings,
        };
        while !pending.is_empty() {
            let (asked, waiting) = self.round(&mut work, pending, &mut failed, &mut faults);
            if asked.is_empty() {
                break;
            }
            self.answer(&mut work.known, asked).await;
            pending = waiting;
        }
        if !faults.is_empty() {
            dedup(&mut faults);
            return Err(faults);
        }
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
        faults: &mut Vec<LoweringDiagnostic>,
    ) -> (IndexSet<Query>, Vec<PendingLower>) {
        let (mut asked, mut waiting) = (IndexSet::new(), Vec::new());
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
                    let build = work.plan.build(it.node);
                    let findings = lowered.findings.iter().cloned().map(LoweringReport::Finding);
                    let others = about_options(&lowered, build).into_iter().map(LoweringReport::Dockerfile);
                    work.warnings.extend(findings.chain(others).map(|it| it.about(build)));
                    work.builds.insert(it.node, Arc::new(*lowered));
                }
                LowerOutcome::Needs(more) => {
                    asked.extend(more);
                    waiting.push(it);
                }
                LowerOutcome::Failed(found) => {
                    let build = work.plan.build(it.node);
                    // A fault without a place in the Dockerfile gets the place of the attribute in the bake file.
                    let attribute = if lacks_stage(&it.file.file, build) { "target" } else { "dockerfile" };
                    faults.extend(LoweringDiagnostic::of_failed(*found, build, attribute));
                    failed.insert(it.node);
                }
            }
        }
        (asked, waiting)
    }

    /// Answers all questions concurrently.
    async fn answer(&self, known: &mut KnownImages, asked: IndexSet<Query>) {
        let answers = asked.into_iter().map(async |query| (self.ask(&query).await, query));
        for (answer, query) in join_all(answers).await {
            match answer {
                Ok(info) => drop(known.images.insert(query, info)),
                Err(fault) => drop(known.unread.insert(query, fault)),
            }
        }
    }

    /// What an image is; without sources only those of layouts are known.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) async fn ask(&self, query: &Query) -> Result<ImageInfo, Diagnostic> {
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
    ) -> Result<(Arc<LocalContext>, LowerOptions), Vec<LoweringDiagnostic>> {
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
    ) -> Result<PendingLower, Vec<LoweringDiagnostic>> {
        let at_context = |fault: Diagnostic| vec![surroundings(fault, build, "context")];
        let remote = remote::main_context(build).map_err(at_context)?;
        let where_it_is = if matches!(build.dockerfile, DockerfileInput::Http(_)) { "dockerfile" } else { "context" };
        let at_address = |fault: Diagnostic| vec![surroundings(fault, build, where_it_is)];
        let (wanted, shown) = self.wanted_dockerfile(build, remote.as_ref()).await.map_err(at_address)?;
        let main = match (remote, &build.context) {
            (None, context::ContextSource::Local(folder)) => {
                let ignore = build.optional_files().ignore;
                self.contexts.folder(folder, "the build context", &ignore).map_err(at_context)?
            }
            (remote, _) => remote.expect("a context that is not a folder is remote"),
        };
        let file =
            self.contexts.dockerfile(wanted, &shown).map_err(|fault| vec![surroundings(fault, build, "dockerfile")])?;
        if file.faults.iter().any(Diagnostic::is_error) {
            return Err(file.faults.iter().cloned().map(|it| LoweringReport::Dockerfile(it).about(build)).collect());
        }
        if let Some(path) = self.policy_beside(build, file.is_lower_case) {
            return Err(vec![surroundings(policy_fault(&path), build, "dockerfile")]);
        }
        let contexts = self.named_contexts(build)?;
        let linked = plan
            .graph
            .edges_directed(node, Direction::Incoming)
            .filter_map(|edge| match edge.weight() {
                PlanLink::Context { name } => Some((name.clone(), edge.source())),
                PlanLink::Result { .. } => None,
            })
            .collect();
        let scope = self.scope(build);
        let mut options = self.options(build, &scope, main, contexts);
        let mut warnings = Vec::new();
        if let (Some(Outside { world, .. }), Method::Build) = (&self.outside, build.call.method) {
            let at_args = |fault: Diagnostic| surroundings(fault, build, "args");
            let told = epoch::resolve(world, &file.file, &mut options).await.map_err(|fault| vec![at_args(fault)])?;
            warnings.extend(told.map(at_args));
        }
        Ok(PendingLower { node, file, options, linked, scope, warnings })
    }

    /// The policy file that lies beside the Dockerfile of a build and counts for it, as users know it.
    fn policy_beside(&self, build: &Build, is_lower_case: bool) -> Option<String> {
        let OptionalFiles { lower_case, policy, .. } = build.optional_files();
        let policy = policy?;
        if self.contexts.path(&policy).exists() {
            return Some(self.contexts.shown(&policy));
        }
        // What is called `dockerfile` has its own.
        let other = lower_case.filter(|path| is_lower_case && self.contexts.path(path).has_beside(POLICY_ENDING))?;
        Some(self.contexts.shown(&policy_of(&other)))
    }

    /// Where the Dockerfile of a build is, and what messages call it. That of a remote context is fetched.
    async fn wanted_dockerfile(
        &self,
        build: &Build,
        remote: Option<&NamedContext>,
    ) -> Result<(WantedContext, String), Diagnostic> {
        let target = build.wanted_by.first().map(ToString::to_string).unwrap_or_default();
        Ok(match (&build.dockerfile, build.dockerfile_path()) {
            (DockerfileInput::Inline(text), _) => {
                let shown = format!("dockerfile-inline of {target}");
                let at = build.inline_place();
                (WantedContext::Inline { target, text: text.clone(), at }, shown)
            }
            (_, Some(path)) => {
                let shown = self.contexts.shown(&path);
                let lower_case = build.optional_files().lower_case;
                (WantedContext::File { path, lower_case }, shown)
            }
            (DockerfileInput::Http(url), _) => {
                let shown = without_credentials(url).into_owned();
                let found =
                    remote::dockerfile(self.world(&shown)?, &remote::context(url, false, false)?, &shown).await?;
                (WantedContext::Inline { target, text: found.text, at: None }, shown)
            }
            (DockerfileInput::InContext(name) | DockerfileInput::Local(name), None) => {
                let remote = remote.expect("a Dockerfile without a path is in a remote context");
                let found = remote::dockerfile(self.world(name)?, remote, name).await?;
                if found.has_policy && build.unnamed_policies == UnnamedPolicies::All {
                    return Err(policy_fault(&policy_of(name)));
                }
                (WantedContext::Inline { target, text: found.text, at: None }, name.clone())
            }
        })
    }

    /// What fetches a Dockerfile.
    fn world(&self, dockerfile: &str) -> Result<&SolveWorld, Diagnostic> {
        let message = || format!("the Dockerfile is not fetched: {dockerfile}");
        let outside = self.outside.as_ref().map(|outside| outside.world);
        outside.ok_or_else(|| Diagnostic::error("bake::engine::not_fetched", message()))
    }

    /// The named contexts of a build that are not results of other targets.
    pub(super) fn named_contexts(
        &self,
        build: &Build,
    ) -> Result<IndexMap<String, NamedContext>, Vec<LoweringDiagnostic>> {
        let mut contexts = IndexMap::new();
        let mut faults = Vec::new();
        for (name, context) in &build.contexts {
            match self.named(name, context) {
                Ok(Some(found)) => {
                    contexts.insert(name.clone(), found);
                }
                Ok(None) => (),
                Err(fault) => faults.push(surroundings(fault, build, "contexts")),
            }
        }
        if faults.is_empty() { Ok(contexts) } else { Err(faults) }
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
                let reference = context::ContextSource::layout_text(path, tag.as_deref(), digest.as_deref());
                NamedContext::Image { reference, layout: Some(folder) }
            }
            context::ContextSource::Local(path) => {
                let ignore = [ignore_file_of(path)];
                self.contexts.folder(path, &format!("the context `{name}`"), &ignore)?
            }
            context::ContextSource::Git(url) | context::ContextSource::Http(url) => remote::context(url, false, false)?,
            context::ContextSource::Archive(digest) => remote::archive(digest)?,
            context::ContextSource::Stdin => {
                return Err(Diagnostic::error("bake::engine::stdin_context", "standard input cannot be a context"));
            }
            context::ContextSource::Built(_) => {
                let message = "an image that was built here is exported by its name; it cannot be a context";
                return Err(Diagnostic::error("bake::engine::built_context", message).help(BUILT_HELP));
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
        let (mut build_args, mut hidden_args) = (build.args.clone(), build.hidden_args.clone());
        // The proxies of the user's machine are arguments of no build: the history does not show what they are.
        for (name, value) in self.outside.iter().flat_map(|outside| outside.world.proxies.iter()) {
            if !build.args.keys().any(|given| given.eq_ignore_ascii_case(name)) {
                for name in [name.clone(), name.to_ascii_lowercase()] {
                    hidden_args.insert(name.clone());
                    build_args.insert(name, value.clone());
                }
            }
        }
        LowerOptions {
            target: build.stage.clone(),
            platform: build.platform.clone(),
            explicit_platform: build.explicit_platform,
            build_platform: Platform::host(),
            build_args,
            hidden_args,
            labels: build.labels.clone(),
            no_cache: match (build.no_cache, build.no_cache_filter.as_slice()) {
                (true, _) => NoCache::All,
                (false, []) => NoCache::No,
                (false, stages) => NoCache::Stages(stages.to_vec()),
            },
            network: build.network,
            allow: Allow {
                network_host: has(&|it| matches!(it, Entitlement::NetworkHost)),
                security_insecure: has(&|it| matches!(it, Entitlement::SecurityInsecure)),
            },
            extra_hosts: build.extra_hosts.clone(),
            shm_size: build.shm_size,
            ulimits: build.ulimits.clone(),
            hostname: build.args.get("BUILDKIT_SANDBOX_HOSTNAME").cloned(),
            resources: build.resources.clone(),
            cache_namespace: build.cache_namespace.text().into_owned(),
            secrets: scope.secrets.iter().map(|(id, source)| (id.clone(), source.origin())).collect(),
            agents: scope.ssh.iter().map(|(id, paths)| (id.clone(), secret::agent_origin(paths))).collect(),
            multi_platform: build.multi_platform,
            step_file: Arc::new(self.step_file(build)),
            label_prefix: build.wanted_by.first().map(|name| name.0.clone()).unwrap_or_default(),
            contexts,
            main,
            source_date_epoch: None,
            all_stages: self.all_stages && build.stage.is_none() && build.call.method == Method::Check,
        }
    }

    /// What tells the Dockerfile of a build from others, and what no record of its steps may hold.
    fn step_file(&self, build: &Build) -> StepFile {
        let absolute = |path: &str| self.contexts.path(path).path().display().to_string();
        let context = match &build.context {
            context::ContextSource::Local(folder) => absolute(folder),
            // Another archive is another text, and still the context of the same project.
            context::ContextSource::Archive(_) | context::ContextSource::Stdin => String::new(),
            context::ContextSource::Git(text)
            | context::ContextSource::Http(text)
            | context::ContextSource::Image(text)
            | context::ContextSource::Target(text)
            | context::ContextSource::Built(text) => text.clone(),
            context::ContextSource::OciLayout { path, tag: _, digest: _ } => absolute(path),
        };
        let file = match (build.dockerfile_path(), &build.dockerfile) {
            (Some(path), _) => absolute(&path),
            (None, DockerfileInput::Inline(_)) => {
                build.wanted_by.first().map(|name| format!("inline {name}")).unwrap_or_default()
            }
            (None, DockerfileInput::InContext(name) | DockerfileInput::Local(name) | DockerfileInput::Http(name)) => {
                name.clone()
            }
        };
        let hidden = build.hidden_args.iter().filter_map(|name| build.args.get(name));
        StepFile {
            id: format!("{file}\n{context}"),
            hidden: hidden.filter(|value| !value.is_empty()).cloned().collect(),
        }
    }

    pub(super) fn scope(&self, build: &Build) -> Arc<SolveScope> {
        let mut scope = SolveScope { concurrency: build.concurrency.clone(), ..SolveScope::default() };
        for secret in &build.secrets {
            let spec::Secret { id, src, env, .. } = secret;
            let id = if id.is_empty() { src.clone().unwrap_or_default() } else { id.clone() };
            let source =
                secret::source(&id, src.as_deref(), env.as_deref(), self.is_env_set, |path| self.contexts.path(path));
            scope.secrets.insert(id, source);
        }
        for ssh in &build.ssh {
            let id = if ssh.id.is_empty() { "default".to_owned() } else { ssh.id.clone() };
            scope.ssh.insert(id, ssh.paths.iter().map(|path| self.contexts.path(path)).collect());
        }
        Arc::new(scope)
    }
}

struct Work<'a> {
    plan: &'a Plan,
    graph: Graph,
    known: KnownImages,
    builds: HashMap<NodeIndex, Arc<Lowered>>,
    scopes: Vec<Arc<SolveScope>>,
    warnings: Vec<LoweringDiagnostic>,
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

/// Whether the Dockerfile has stages, and none of the name that the build asks for.
fn lacks_stage(file: &ParsedDockerfile, build: &Build) -> bool {
    let Some(wanted) = build.stage.as_ref().filter(|wanted| !wanted.is_empty()) else { return false };
    let wanted = wanted.to_lowercase();
    let mut names = file.stages.iter().filter_map(|stage| stage.name.as_ref());
    !file.stages.is_empty() && names.all(|name| name.value != wanted)
}

const BUILT_HELP: &str =
    "write it as an OCI layout and name that: `type=oci,tar=false,dest=FOLDER`, `oci-layout://FOLDER`";

/// The fault of a build for which a policy counts: this engine cannot judge it, and does not go past it.
fn policy_fault(path: &str) -> Diagnostic {
    Diagnostic::error("bake::engine::policy", format!("{CANNOT_JUDGE}: {path}"))
        .help(format!("a file of this name counts for the Dockerfile beside it; {POLICY_HELP}"))
}

/// The fault of a build that has no Dockerfile, if other builds read its result.
fn read_by_others(plan: &Plan, node: NodeIndex, build: &Build) -> Option<Diagnostic> {
    let mut links = plan.graph.edges_directed(node, Direction::Outgoing);
    links.any(|edge| matches!(edge.weight(), PlanLink::Context { .. })).then(|| {
        let message = "an image that was built here is exported by its name; it cannot be a context";
        at_attribute(Diagnostic::error("bake::engine::built_context", message).help(BUILT_HELP), build, "context")
    })
}
