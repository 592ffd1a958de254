//! What the builds of a plan read, for `bake affected`: their Dockerfiles are read, parsed and lowered without a network
//! and without a state directory, as for `bake check`. What cannot be known is read as a whole.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use indexmap::IndexMap;
use petgraph::graph::NodeIndex;

use super::{
    context::{Contexts, LocalContext},
    image::Images,
    lower::{Lowering, PendingLower, built},
    lowering_diagnostic::LoweringDiagnostic,
    provenance, remote,
};
use crate::{
    affected::{BuildReading, ContextRead, DockerfileText, FolderOrigin, ReadSelection, UnpinnedKind},
    dockerfile::{
        self,
        options::{BuiltContext, ImageInfo, KnownImages, LowerOutcome, Lowered, NamedContext, Query},
    },
    graph::{Graph, ImageOp, Local, Meta, Op, Vertex, VertexIx},
    oci::{ImageConfig, LayerOrigin},
    plan::{Build, Plan},
    report::{Diagnostic, SourceId, Span, url::without_credentials},
    solve::reads::{StepReads, reads},
    spec::{context::ContextSource, dockerfile::DockerfileInput},
};

/// Lowers the builds of a plan into `graph`; for each what it reads, or why that is not known.
pub(crate) async fn read_builds(
    plan: &Plan,
    contexts: &Contexts,
    graph: &mut Graph,
) -> HashMap<NodeIndex, Result<BuildReading, String>> {
    let lowering = Lowering { contexts, outside: None, is_env_set: &|_| false, all_stages: false };
    let mut reader = BuildReader {
        contexts,
        known: KnownImages { assume: true, ..KnownImages::default() },
        graph,
        results: HashMap::new(),
    };
    let mut found = HashMap::new();
    for (node, build) in plan.builds_in_order() {
        let told = |faults: Vec<LoweringDiagnostic>| words(faults.into_iter().map(LoweringDiagnostic::into_diagnostic));
        let reading = if has_remote_dockerfile(build) {
            lowering.named_contexts(build).map_err(told).and_then(|named| reader.remote(node, build, &named))
        } else {
            lowering
                .pending(plan, node, build)
                .await
                .map_err(told)
                .and_then(|pending| reader.lower(node, build, pending))
        };
        found.insert(node, reading);
    }
    found
}

struct BuildReader<'a> {
    contexts: &'a Contexts,
    known: KnownImages,
    graph: &'a mut Graph,
    /// What a lowered build hands on to those that read its result.
    results: HashMap<NodeIndex, Arc<BuiltContext>>,
}

impl BuildReader<'_> {
    fn lower(&mut self, node: NodeIndex, build: &Build, pending: PendingLower) -> Result<BuildReading, String> {
        let PendingLower { file, mut options, linked, .. } = pending;
        let mut beside = layouts(build, self.contexts);
        for (name, from) in linked {
            let Some(result) = self.results.get(&from) else {
                return Err(format!("the target of the context `{name}` is not known"));
            };
            options.contexts.insert(name, NamedContext::Built(result.clone()));
        }
        let lowered = loop {
            match dockerfile::lower(&file.file, &options, &self.known, self.graph) {
                LowerOutcome::Done(lowered) => break lowered,
                LowerOutcome::Failed(failed) => {
                    return Err(words(failed.faults.into_iter().chain(failed.unread).chain(failed.checks_failed)));
                }
                LowerOutcome::Needs(asked) => self.answer(asked),
            }
        };
        if lowered.guesses_sources || has_unknown_triggers(self.graph, &lowered) {
            beside.extend(whole_folders(options.contexts.values().chain([&options.main])));
        }
        self.results.insert(node, Arc::new(built(&lowered)));
        Ok(self.reading(build, &file, *lowered, beside))
    }

    /// A build whose Dockerfile would have to be fetched: it may read all of its contexts.
    fn remote(
        &mut self,
        node: NodeIndex,
        build: &Build,
        named: &IndexMap<String, NamedContext>,
    ) -> Result<BuildReading, String> {
        let told = |fault: Diagnostic| words([fault].into_iter());
        let main = match (remote::main_context(build).map_err(told)?, &build.context) {
            (Some(main), _) => main,
            (None, ContextSource::Local(folder)) => {
                let ignore = build.optional_files().ignore;
                self.contexts.folder(folder, "the build context", &ignore).map_err(told)?
            }
            (None, _) => NamedContext::Scratch,
        };
        let mut reads = layouts(build, self.contexts);
        reads.extend(whole_folders(named.values().chain([&main])));
        let address = match &build.dockerfile {
            DockerfileInput::Http(url) => Some((UnpinnedKind::Http, without_credentials(url).into_owned())),
            _ => None,
        };
        let op = match main {
            NamedContext::Git(git) => Op::Git(git),
            NamedContext::Http(http) => Op::Http(http),
            _ => Op::Scratch,
        };
        let unpinned = address.into_iter().chain(unpinned_of(&op)).collect();
        let result = self.graph.add(op, Vec::new(), build.platform.clone(), Meta::default());
        let config = ImageConfig::default();
        let context = BuiltContext {
            vertex: result,
            config: config.clone(),
            base_layers: 0,
            steps: Vec::new(),
            is_assumed: true,
        };
        self.results.insert(node, Arc::new(context));
        let dockerfile = DockerfileText { path: None, text: "".into() };
        Ok(BuildReading { result, config, history: Vec::new(), beside: Vec::new(), dockerfile, reads, unpinned })
    }

    /// Answers questions about images: those of registries have a config of which nothing is known.
    fn answer(&mut self, asked: Vec<Query>) {
        for query in asked {
            let answer = match query.layout {
                Some(_) => Images::in_layout(&query),
                None => Ok(ImageInfo {
                    image: ImageOp::unresolved(&query.reference),
                    config: Arc::new(ImageConfig::default()),
                }),
            };
            match answer {
                Ok(info) => drop(self.known.images.insert(query, info)),
                Err(fault) => drop(self.known.unread.insert(query, fault)),
            }
        }
    }

    fn reading(&self, build: &Build, file: &LocalContext, lowered: Lowered, beside: Vec<ContextRead>) -> BuildReading {
        let scanned: Vec<_> = lowered.scanned.iter().map(|(_, vertex)| *vertex).collect();
        let roots = scanned.iter().chain([&lowered.result]);
        let needed: BTreeSet<_> = roots.flat_map(|root| provenance::needed(self.graph, *root)).collect();
        let (mut found, mut unpinned) = (beside, Vec::new());
        for ix in &needed {
            let vertex = self.graph.get(*ix);
            found.extend(self.of_vertex(vertex, file.source));
            unpinned.extend(unpinned_of(&vertex.op));
        }
        // A scanner sees all of it.
        found.extend(scanned.iter().filter_map(|ix| match &self.graph.get(*ix).op {
            Op::Local(local) => Some(of_local(local, ReadSelection::Whole, None)),
            _ => None,
        }));
        let path = build.dockerfile_path().map(|path| match build.optional_files().lower_case {
            Some(other) if file.is_lower_case => other,
            _ => path,
        });
        let path = path.map(|path| self.contexts.path(&path).path().display().to_string());
        let text = self.contexts.text_of(file.source);
        let Lowered { result, config, steps, .. } = lowered;
        let dockerfile = DockerfileText { path, text };
        BuildReading { result, config, history: steps, beside: scanned, dockerfile, reads: found, unpinned }
    }

    /// What a step reads of folders of this machine.
    fn of_vertex(&self, vertex: &Vertex, dockerfile: SourceId) -> Vec<ContextRead> {
        if let Op::Image(ImageOp { origin: LayerOrigin::Layout { folder }, .. }) = &vertex.op {
            let folder = folder.display().to_string();
            let origin = FolderOrigin::Layout;
            return vec![ContextRead { folder, origin, selection: ReadSelection::Whole, instruction: None }];
        }
        let text = vertex.meta.place.as_ref().map_or_else(|| vertex.meta.name.clone(), |place| place.text.clone());
        // Of equal steps of several Dockerfiles one has its place here.
        let at = vertex.meta.origin.at.filter(|at| at.source == dockerfile);
        let instruction = Some((text, at));
        let steps = reads(&vertex.op);
        let of_input = |(n, input): (usize, &VertexIx)| {
            let Op::Local(local) = &self.graph.get(*input).op else { return Vec::new() };
            let selections: Vec<ReadSelection> = steps.iter().filter(|step| step.input() == n).map(selection).collect();
            let selections = if selections.is_empty() { vec![ReadSelection::Whole] } else { selections };
            selections.into_iter().map(|selection| of_local(local, selection, instruction.clone())).collect()
        };
        vertex.inputs.iter().enumerate().flat_map(of_input).collect()
    }
}

/// Folders of this machine, read as a whole.
fn whole_folders<'a>(contexts: impl Iterator<Item = &'a NamedContext>) -> Vec<ContextRead> {
    let folders = contexts.filter_map(|context| match context {
        NamedContext::Local(local) => Some(of_local(local, ReadSelection::Whole, None)),
        _ => None,
    });
    folders.collect()
}

fn selection(step: &StepReads<'_>) -> ReadSelection {
    match step {
        StepReads::Copy(copy) => {
            ReadSelection::Copy { source: copy.source.clone(), parents: copy.parents, exclude: copy.exclude.clone() }
        }
        StepReads::Path { path, .. } => ReadSelection::Path((*path).to_owned()),
    }
}

fn of_local(local: &Local, selection: ReadSelection, instruction: Option<(String, Option<Span>)>) -> ContextRead {
    let Local { folder, name: _, ignore, ignore_file } = local;
    let origin = FolderOrigin::Context { ignore: ignore.clone(), ignore_file: ignore_file.clone() };
    ContextRead { folder: folder.clone(), origin, selection, instruction }
}

/// The OCI layouts among the contexts of a build. The config of an image counts although no step reads its layers.
fn layouts(build: &Build, contexts: &Contexts) -> Vec<ContextRead> {
    let all = build.contexts.values().chain([&build.context]);
    let read = |context: &ContextSource| match context {
        ContextSource::OciLayout { path, .. } => Some(ContextRead {
            folder: contexts.path(path).path().display().to_string(),
            origin: FolderOrigin::Layout,
            selection: ReadSelection::Whole,
            instruction: None,
        }),
        _ => None,
    };
    all.filter_map(read).collect()
}

/// Whether a base image may have ONBUILD triggers that read contexts. Its config is not known; images that are made for
/// that say so in their names, and others have none.
fn has_unknown_triggers(graph: &Graph, lowered: &Lowered) -> bool {
    lowered.is_assumed
        && provenance::needed(graph, lowered.result).into_iter().any(|ix| match &graph.get(ix).op {
            Op::Image(image) => image.reference.contains("onbuild"),
            _ => false,
        })
}

/// What a step reads that no revision pins.
fn unpinned_of(op: &Op) -> Option<(UnpinnedKind, String)> {
    match op {
        Op::Image(image) if !image.reference.contains('@') => {
            let shown = image.reference.strip_prefix("docker.io/library/").unwrap_or(&image.reference);
            Some((UnpinnedKind::Image, shown.to_owned()))
        }
        Op::Git(git) if git.checksum.is_none() && !git.reference.as_deref().is_some_and(is_commit) => {
            let reference = git.reference.as_ref().map(|it| format!("#{it}")).unwrap_or_default();
            Some((UnpinnedKind::Git, format!("{}{reference}", without_credentials(&git.url))))
        }
        Op::Http(http) if http.checksum.is_none() => {
            Some((UnpinnedKind::Http, without_credentials(&http.url).into_owned()))
        }
        _ => None,
    }
}

fn is_commit(reference: &str) -> bool {
    reference.len() >= 40 && reference.bytes().all(|it| it.is_ascii_hexdigit())
}

/// Whether the Dockerfile of a build is not on this machine.
fn has_remote_dockerfile(build: &Build) -> bool {
    match &build.dockerfile {
        DockerfileInput::Http(_) => true,
        DockerfileInput::InContext(_) => {
            matches!(build.context, ContextSource::Git(_) | ContextSource::Http(_) | ContextSource::Archive(_))
        }
        _ => false,
    }
}

fn words(faults: impl Iterator<Item = Diagnostic>) -> String {
    let mut messages: Vec<String> = faults.map(|fault| fault.message).collect();
    messages.dedup();
    messages.truncate(3);
    messages.join("; ")
}
