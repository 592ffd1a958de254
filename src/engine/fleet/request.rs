//! A build of the plan as the Dockerfile frontend of a daemon is asked for it: pure, but for the Dockerfile that was read.
//!
//! The names of options are those of the frontend
//! (<https://github.com/moby/buildkit/blob/master/frontend/dockerfile/docs/reference.md>, `frontend/dockerui`). What a job adds
//! of its own, platforms and definitions, is not here.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use petgraph::graph::NodeIndex;

use super::folder::Folders;
use crate::{
    dockerfile::options::NamedContext,
    engine::{
        context::Contexts,
        lower::{Lowering, PendingLower},
        lowering_diagnostic::{LoweringDiagnostic, surroundings},
    },
    oci::{Digest, Platform, Reference},
    plan::{Build, Plan},
    report::{Diagnostic, SourceId},
    solve::world::SolveScope,
    spec::{Entitlement, NetworkMode, context::ContextSource, dockerfile::DockerfileInput},
};

/// The option that names what the context is made of, and those that name further ones.
const CONTEXT: &str = "context";

/// The build argument that is part of the ids of cache mounts.
const MOUNT_NAMESPACE: &str = "BUILDKIT_CACHE_MOUNT_NS";

/// A build as a daemon is asked for it.
#[derive(Clone, Debug)]
pub(super) struct BuildRequest {
    pub(super) platform: Platform,
    /// The user names it. A result of a base of another platform is of that one otherwise.
    pub(super) explicit_platform: bool,
    /// Options of the frontend, without those of platforms and inputs.
    pub(super) options: BTreeMap<String, String>,
    /// `None` if it lies in a remote context.
    pub(super) dockerfile: Option<SentDockerfile>,
    pub(super) main: MainContext,
    /// Named contexts that are folders of this machine.
    pub(super) folders: Vec<(String, usize)>,
    /// Named contexts that are results of other builds of the plan.
    pub(super) linked: Vec<(String, NodeIndex)>,
    pub(super) layouts: Vec<SentLayout>,
    /// An archive in the store that is its main context.
    pub(super) archive: Option<Digest>,
    pub(super) entitlements: Vec<String>,
    /// Where its secrets and agents are.
    pub(super) scope: Arc<SolveScope>,
}

/// A Dockerfile that was read here.
#[derive(Clone, Debug)]
pub(super) struct SentDockerfile {
    /// The last part of its path.
    pub(super) filename: String,
    pub(super) text: Arc<str>,
    pub(super) source: SourceId,
}

/// What a build's main context is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MainContext {
    /// A folder of this machine, by its number among those of the run.
    Folder(usize),
    /// The daemon fetches it, or there is none.
    Elsewhere,
}

/// An image of an OCI layout of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SentLayout {
    /// The name of the context.
    pub(super) context: String,
    /// As it stands in the plan.
    pub(super) path: String,
    pub(super) tag: Option<String>,
    pub(super) digest: Option<String>,
}

/// Makes the request of a build. `folders` gets the folders of this machine that it reads.
///
/// # Errors
/// The faults of its Dockerfile and contexts, and what no daemon can do.
pub(super) async fn request(
    plan: &Plan,
    node: NodeIndex,
    lowering: &Lowering<'_>,
    folders: &mut Folders,
) -> Result<BuildRequest, Vec<LoweringDiagnostic>> {
    let build = plan.build(node);
    let refused = |fault: Diagnostic, attribute: &'static str| vec![surroundings(fault, build, attribute)];
    let mut request = BuildRequest {
        platform: build.platform.clone(),
        explicit_platform: build.explicit_platform,
        options: options(build),
        dockerfile: None,
        main: MainContext::Elsewhere,
        folders: Vec::new(),
        linked: Vec::new(),
        layouts: Vec::new(),
        archive: None,
        entitlements: build.entitlements.iter().map(entitlement).collect(),
        scope: Arc::default(),
    };
    limits(build).map_err(|fault| refused(fault, "resources"))?;
    if is_remote(build) {
        if let ContextSource::Built(name) = &build.context {
            let message =
                format!("path \"{name}\" not found, and a builder does not export images that were built here");
            return Err(refused(Diagnostic::error("bake::fleet::context", message), CONTEXT));
        }
        let Some(address) = request.remote_context(build) else {
            let fault = Diagnostic::error("bake::fleet::context", "a builder cannot have this context");
            return Err(refused(fault.help("build it with `--builder embedded`"), CONTEXT));
        };
        request.options.insert(CONTEXT.to_owned(), address);
        if let DockerfileInput::InContext(name) = &build.dockerfile {
            request.options.insert("filename".to_owned(), name.clone());
        }
        let contexts = lowering.named_contexts(build)?;
        request.scope = lowering.scope(build);
        request.linked = linked(plan, node);
        request.add_contexts(build, contexts.iter(), folders);
        return Ok(request);
    }
    let PendingLower { file, options, linked, scope, .. } = lowering.pending(plan, node, build).await?;
    let filename = filename(build, lowering.contexts, file.is_lower_case);
    request.options.insert("filename".to_owned(), filename.clone());
    let text = lowering.contexts.text_of(file.source);
    request.dockerfile = Some(SentDockerfile { filename, text, source: file.source });
    if let (NamedContext::Local(local), ContextSource::Local(path)) = (&options.main, &build.context) {
        request.main = MainContext::Folder(folders.add(local, path));
    } else if let Some(address) = request.remote_context(build) {
        request.options.insert(CONTEXT.to_owned(), address);
    }
    request.linked = linked;
    request.scope = scope;
    request.add_contexts(build, options.contexts.iter(), folders);
    Ok(request)
}

impl BuildRequest {
    /// Adds the named contexts of a build that are not results of other builds.
    fn add_contexts<'a>(
        &mut self,
        build: &Build,
        contexts: impl Iterator<Item = (&'a String, &'a NamedContext)>,
        folders: &mut Folders,
    ) {
        for (name, context) in contexts {
            let key = context_option(name);
            match (context, build.contexts.get(name)) {
                (NamedContext::Local(local), Some(ContextSource::Local(path))) => {
                    let folder = folders.add(local, path);
                    self.options.insert(key, format!("input:{}", folder_input(folder)));
                    self.folders.push((name.clone(), folder));
                }
                (NamedContext::Scratch, _) => drop(self.options.insert(key, "docker-image://scratch".to_owned())),
                (NamedContext::Image { layout: Some(_), .. }, Some(ContextSource::OciLayout { path, tag, digest })) => {
                    // Its digest, which the option needs, is found when the layout is read.
                    let (path, tag, digest) = (path.clone(), tag.clone(), digest.clone());
                    self.layouts.push(SentLayout { context: name.clone(), path, tag, digest });
                }
                (NamedContext::Image { reference, .. }, _) => {
                    self.options.insert(key, format!("docker-image://{reference}"));
                }
                (
                    NamedContext::Git(_) | NamedContext::Http(_),
                    Some(ContextSource::Git(url) | ContextSource::Http(url)),
                ) => {
                    self.options.insert(key, url.clone());
                }
                // A linked build is added by the job that it is solved in.
                (NamedContext::Built(_) | NamedContext::Git(_) | NamedContext::Http(_) | NamedContext::Local(_), _) => {
                }
            }
        }
    }

    /// The address of a main context that is no folder: the daemon fetches it, an archive of ours from the session.
    fn remote_context(&mut self, build: &Build) -> Option<String> {
        match &build.context {
            ContextSource::Git(url) | ContextSource::Http(url) => Some(url.clone()),
            ContextSource::Archive(digest) => {
                let digest: Digest = digest.parse().ok()?;
                self.archive = Some(digest);
                Some(format!("http://buildkit-session/{}", digest.hex()))
            }
            _ => None,
        }
    }

    /// Whether the daemon fetches the main context while the Dockerfile comes from here.
    pub(super) fn has_remote_context(&self) -> bool {
        self.dockerfile.is_some() && self.options.contains_key(CONTEXT)
    }

    /// What tells this build from others where nodes are chosen: builds that share context and Dockerfile share their cache.
    pub(super) fn affinity(&self) -> String {
        let context = self.options.get(CONTEXT).cloned().unwrap_or_default();
        let folder = match self.main {
            MainContext::Folder(folder) => folder.to_string(),
            MainContext::Elsewhere => String::new(),
        };
        let dockerfile = self.dockerfile.as_ref().map_or("", |file| &*file.text);
        format!("{context}\n{folder}\n{dockerfile}")
    }
}

/// The option that names a context. Names of images are looked up as users write them, without the usual tag.
pub(super) fn context_option(name: &str) -> String {
    let familiar = Reference::parse(name).map_or_else(|_| name.to_owned(), |reference| reference.familiar());
    format!("{CONTEXT}:{}", familiar.strip_suffix(":latest").unwrap_or(&familiar))
}

/// The key of the definition of a folder.
pub(super) fn folder_input(folder: usize) -> String {
    format!("folder-{folder}")
}

/// Whether the Dockerfile lies in a context that the daemon fetches.
pub(super) fn is_remote(build: &Build) -> bool {
    let is_folder = matches!(build.context, ContextSource::Local(_));
    matches!(build.dockerfile, DockerfileInput::InContext(_)) && !is_folder
}

fn linked(plan: &Plan, node: NodeIndex) -> Vec<(String, NodeIndex)> {
    use petgraph::visit::EdgeRef as _;
    let edges = plan.graph.edges_directed(node, petgraph::Direction::Incoming);
    let contexts = edges.filter_map(|edge| match edge.weight() {
        crate::plan::PlanLink::Context { name } => Some((name.clone(), edge.source())),
        crate::plan::PlanLink::Result { .. } => None,
    });
    contexts.collect()
}

/// The last part of the path of a Dockerfile.
fn filename(build: &Build, contexts: &Contexts, is_lower_case: bool) -> String {
    let path = match build.dockerfile_path() {
        Some(_) if is_lower_case => build.optional_files().lower_case,
        path => path,
    };
    let shown = path.map(|path| contexts.shown(&path)).unwrap_or_default();
    match shown.rsplit('/').next() {
        Some(name) if !name.is_empty() => name.to_owned(),
        _ => "Dockerfile".to_owned(),
    }
}

/// The options of the frontend that a build asks for.
fn options(build: &Build) -> BTreeMap<String, String> {
    let mut options = BTreeMap::new();
    let mut set = |name: &str, value: String| drop(options.insert(name.to_owned(), value));
    if let Some(stage) = build.stage.as_ref().filter(|stage| !stage.is_empty()) {
        set("target", stage.clone());
    }
    build.args.iter().for_each(|(name, value)| set(&format!("build-arg:{name}"), value.clone()));
    build.labels.iter().for_each(|(name, value)| set(&format!("label:{name}"), value.clone()));
    let namespace = build.cache_namespace.text();
    if !namespace.is_empty() {
        // What the definition sets is part of the ids as well.
        let given = build.args.get(MOUNT_NAMESPACE).map(String::as_str).unwrap_or_default();
        set(&format!("build-arg:{MOUNT_NAMESPACE}"), format!("{namespace} {given}"));
    }
    match (build.no_cache, build.no_cache_filter.as_slice()) {
        (true, _) => set("no-cache", String::new()),
        (false, []) => (),
        (false, stages) => set("no-cache", stages.join(",")),
    }
    match build.network {
        NetworkMode::Default => (),
        NetworkMode::None => set("force-network-mode", "none".to_owned()),
        NetworkMode::Host => set("force-network-mode", "host".to_owned()),
    }
    if !build.extra_hosts.is_empty() {
        let hosts = build.extra_hosts.iter().map(|host| format!("{}={}", host.name, host.address));
        set("add-hosts", hosts.collect::<Vec<_>>().join(","));
    }
    if let Some(size) = build.shm_size {
        set("shm-size", size.to_string());
    }
    if !build.ulimits.is_empty() {
        let limits = build.ulimits.iter().map(|it| format!("{}={}:{}", it.name.as_str(), it.soft, it.hard));
        set("ulimit", limits.collect::<Vec<_>>().join(","));
    }
    options
}

/// Limits of processes: BuildKit has none for a build.
fn limits(build: &Build) -> Result<(), Diagnostic> {
    let given: Vec<&str> = build.resources.given().collect();
    if given.is_empty() {
        return Ok(());
    }
    let message = format!("a builder cannot limit the resources of a build: {}", given.join(", "));
    Err(Diagnostic::error("bake::fleet::resources", message)
        .help("leave them out, or build with `--builder embedded`; the limits of a builder are those of its daemon"))
}

fn entitlement(it: &Entitlement) -> String {
    match it {
        Entitlement::NetworkHost => "network.host".to_owned(),
        Entitlement::SecurityInsecure => "security.insecure".to_owned(),
        Entitlement::Device(None) => "device".to_owned(),
        Entitlement::Device(Some(name)) => format!("device={name}"),
    }
}

/// The targets of builds, as faults name them.
pub(super) fn targets(plan: &Plan, builds: &[NodeIndex]) -> BTreeSet<Arc<str>> {
    builds.iter().flat_map(|build| plan.build(*build).wanted_by.iter().map(|name| name.0.clone())).collect()
}
