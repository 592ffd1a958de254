//! SBOMs: the scanner of a build's result as a step of the graph, and the documents that it writes.
//!
//! The protocol between builder and scanner is BuildKit's
//! (<https://github.com/moby/buildkit/blob/master/docs/attestations/sbom-protocol.md>). How a document is stored beside an
//! image or a folder is decided in `export`.

use std::{
    collections::HashMap,
    io::{self, Read as _},
    path::PathBuf,
    sync::Arc,
};

use petgraph::graph::NodeIndex;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    lower::{Lowering, PreparedBuild},
    lowering_diagnostic::{LoweringDiagnostic, surroundings},
};
use crate::{
    dockerfile::options::{ImageInfo, Query},
    export::{Sbom, SbomDocument},
    graph::{Exec, File, FileAction, Meta, MountOp, MountOpKind, Op, StepOrigin, VertexIx},
    layer::view::{EntryKind, LayerView},
    oci::{Digest, Platform},
    plan::{Build, Plan},
    report::Diagnostic,
    spec::{NetworkMode, ResourceLimits, SecurityMode, attest::SbomOptions},
};

/// The result of the build, as the scanner sees it. Its last name is that of the document about it.
const CORE: &str = "/run/src/core/sbom";
/// Stages and the context, each in a folder `sbom-NAME`.
const EXTRAS: &str = "/run/src/extras";
/// Where the scanner writes.
const OUT: &str = "/run/out";
/// The longest document, in bytes.
const LONGEST_DOCUMENT: u64 = 40 << 20;

/// The scan of a build's result.
pub(crate) struct SbomScan {
    /// The identity of the options.
    pub(crate) options: Digest,
    /// The tree of the scanner after it ran.
    pub(crate) vertex: VertexIx,
    /// The image of the scanner, for messages.
    pub(crate) generator: String,
    /// The vertex of that image.
    pub(crate) image: VertexIx,
}

/// Adds the scans that are wanted of these builds to the graph.
///
/// # Errors
/// Images of scanners that cannot be read or have no command, at the `attest` of each build.
pub(crate) async fn add(
    lowering: &Lowering<'_>,
    plan: &Plan,
    prepared: &mut PreparedBuild,
    wanted: Vec<(NodeIndex, &SbomOptions)>,
) -> Result<HashMap<NodeIndex, Vec<SbomScan>>, Vec<LoweringDiagnostic>> {
    let mut scans: HashMap<NodeIndex, Vec<SbomScan>> = HashMap::new();
    let mut faults = Vec::new();
    for (node, options) in wanted {
        let id = options.id();
        let scans = scans.entry(node).or_default();
        if scans.iter().any(|scan| scan.options == id) {
            continue;
        }
        let build = plan.build(node);
        if !prepared.builds.contains_key(&node) {
            let message = "an image that was built before is exported as it is: an sbom is made when it is built";
            faults.push(surroundings(Diagnostic::error("bake::engine::sbom", message), build, "attest"));
            continue;
        }
        let query = Query { reference: options.generator.to_string(), layout: None, platform: Platform::host() };
        let scanner = lowering.ask(&query).await.and_then(|info| Scanner::of(info, options));
        match scanner {
            Ok(scanner) => {
                let (vertex, image) = scanner.add(prepared, node, build);
                scans.push(SbomScan { options: id, vertex, generator: options.generator.familiar(), image });
            }
            Err(fault) => faults.push(surroundings(fault, build, "attest")),
        }
    }
    if faults.is_empty() { Ok(scans) } else { Err(faults) }
}

/// A scanner, ready to be run on any result.
struct Scanner<'a> {
    info: ImageInfo,
    args: Vec<String>,
    options: &'a SbomOptions,
}

impl<'a> Scanner<'a> {
    fn of(info: ImageInfo, options: &'a SbomOptions) -> Result<Self, Diagnostic> {
        let run = &info.config.config;
        let words = [&run.entrypoint, &run.cmd].into_iter().flatten().flatten();
        let args: Vec<String> = words.cloned().collect();
        if args.is_empty() {
            let message = format!("the scanner of the sbom has no command: {}", options.generator.familiar());
            let help = "name an image in `generator` that has an ENTRYPOINT or CMD";
            return Err(Diagnostic::error("bake::engine::sbom", message).help(help));
        }
        Ok(Self { info, args, options })
    }

    /// Adds the vertices of a scan: that of the scanner after it ran, and that of its image.
    fn add(self, prepared: &mut PreparedBuild, node: NodeIndex, build: &Build) -> (VertexIx, VertexIx) {
        let (result, scanned) = (prepared.builds[&node].result, prepared.builds[&node].scanned.clone());
        let target: Arc<str> = build.wanted_by.first().map(|name| name.to_string().into()).unwrap_or_default();
        let generator = self.options.generator.familiar();
        let meta = |text: String| {
            let origin = StepOrigin { at: None, target: Some(target.clone()), stage: None };
            Meta { name: format!("[{target} {}] {text}", build.platform), origin, ..Meta::default() }
        };
        let exec = self.exec(&scanned);
        let platform = Platform::host();
        let graph = &mut prepared.graph;
        let from = meta(format!("FROM {generator}"));
        let image = graph.add(Op::Image(self.info.image), Vec::new(), platform.clone(), from);
        let folder = FileAction::Mkdir { path: OUT.to_owned(), owner: None };
        let ready = meta(format!("make {OUT}"));
        let ready = graph.add(Op::File(File { actions: vec![folder] }), vec![image], platform.clone(), ready);
        let inputs = [ready, result].into_iter().chain(scanned.into_iter().map(|(_, vertex)| vertex)).collect();
        let scan = meta(format!("generating sbom using {generator}"));
        let scan = graph.add(Op::Exec(Box::new(exec)), inputs, platform, scan);
        prepared.scopes.resize(prepared.graph.len(), Arc::default());
        (scan, image)
    }

    /// The process of the scanner: its input 1 is the result, inputs 2.. what else it sees.
    fn exec(&self, scanned: &[(String, VertexIx)]) -> Exec {
        let run = &self.info.config.config;
        let tree = |target: String, input: usize| MountOp {
            target,
            kind: MountOpKind::Bind { input, source: "/".to_owned(), writable: false },
        };
        let mut mounts = vec![MountOp { target: "/tmp".to_owned(), kind: MountOpKind::Tmpfs { size: None } }];
        mounts.push(tree(CORE.to_owned(), 1));
        mounts.extend((2..).zip(scanned).map(|(input, (name, _))| tree(format!("{EXTRAS}/sbom-{name}"), input)));
        let given = run.env.iter().flatten().map(|it| it.split_once('=').unwrap_or((it, "")));
        let mut env: Vec<(String, String)> = given.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let mut set = |key: String, value: &str| {
            env.retain(|(known, _)| *known != key);
            env.push((key, value.to_owned()));
        };
        set("BUILDKIT_SCAN_DESTINATION".to_owned(), OUT);
        set("BUILDKIT_SCAN_SOURCE".to_owned(), CORE);
        if !scanned.is_empty() {
            set("BUILDKIT_SCAN_SOURCE_EXTRAS".to_owned(), EXTRAS);
        }
        for (key, value) in &self.options.parameters {
            set(format!("BUILDKIT_SCAN_{key}"), value);
        }
        Exec {
            args: self.args.clone(),
            env,
            cwd: if run.working_dir.is_empty() { "/".to_owned() } else { run.working_dir.clone() },
            user: run.user.clone(),
            hostname: None,
            network: NetworkMode::Default,
            security: SecurityMode::Sandbox,
            mounts,
            extra_hosts: Vec::new(),
            ulimits: Vec::new(),
            shm_size: None,
            proxy: Vec::new(),
            secret_env: Vec::new(),
            sources: Vec::new(),
            resources: ResourceLimits::default(),
        }
    }
}

/// What is read of a statement that a scanner wrote (<https://in-toto.io/Statement/v1>); its subject is ours to say.
#[derive(Deserialize)]
struct ScannedStatement {
    #[serde(rename = "predicateType")]
    predicate_type: String,
    predicate: Box<RawValue>,
}

/// Reads what a scanner wrote. `dirs` are the layers that its run made; `id` identifies its tree.
///
/// # Errors
/// It wrote nothing, what cannot be read, or what is no statement.
pub(crate) fn read(dirs: &[PathBuf], id: Digest, generator: &str) -> Result<Sbom, Diagnostic> {
    let fault = |why: String| {
        let message = format!("the scanner wrote no sbom that can be used, {generator}: {why}");
        let help =
            "`generator` names the image of the scanner; it writes in-toto statements as BuildKit's SBOM protocol says";
        Diagnostic::error("bake::engine::sbom", message).help(help)
    };
    let view = LayerView::open(dirs).map_err(|error| fault(error.to_string()))?;
    let entries = match view.read_dir(OUT) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        entries => entries.map_err(|error| fault(format!("{OUT}: {error}")))?,
    };
    let mut documents = Vec::new();
    for (name, entry) in entries {
        if entry.kind != EntryKind::File {
            continue;
        }
        let filename = name.to_string_lossy().into_owned();
        if entry.size > LONGEST_DOCUMENT {
            return Err(fault(format!("{filename} has more than {} MiB", LONGEST_DOCUMENT >> 20)));
        }
        let mut text = Vec::new();
        let read = view
            .open_file(format!("{OUT}/{filename}"))
            .and_then(|file| file.take(LONGEST_DOCUMENT).read_to_end(&mut text));
        read.map_err(|error| fault(format!("{filename}: {error}")))?;
        let statement: ScannedStatement =
            serde_json::from_slice(&text).map_err(|error| fault(format!("{filename} is no statement: {error}")))?;
        let ScannedStatement { predicate_type, predicate } = statement;
        documents.push(SbomDocument { filename, predicate_type, predicate });
    }
    if documents.is_empty() {
        return Err(fault(format!("{OUT} is empty")));
    }
    Ok(Sbom { id, documents })
}
