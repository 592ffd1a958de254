//! `cache-from` and `cache-to` of a plan: read when a step is not known, written after each build.

use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
    path::Path,
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;
use petgraph::graph::NodeIndex;
use tokio::time::timeout;

use super::{base::layer_ref, lowering_diagnostic::names};
use crate::{
    export::{CacheFrom, CacheRecord, CacheTo, ImportFault, ImportedRecord, NoCache, import_cache},
    graph,
    objects::ObjectStores,
    oci::{Digest, ImageLayer, LayerOrigin},
    plan::{Build, Plan, PlanNode},
    registry::Client,
    report::{
        Diagnostic, Span,
        event::{Event, Sink},
    },
    solve::{shared::SharedCaches, tree::LayerTree},
    spec::{CacheExport, OptionItem, cache::CacheMode, options::OptionTexts},
};

/// How long a run waits for the records of a shared cache. Their layers have the patience of all transfers.
const READ_TIME: Duration = Duration::from_secs(30);

/// The shared caches of a plan: those to read from, and those to write for each build.
#[derive(Default)]
pub(crate) struct Caches {
    /// Each cache once.
    from: Vec<ReadCache>,
    to: HashMap<NodeIndex, Vec<WantedCache>>,
    pub(crate) warnings: Vec<Diagnostic>,
    /// Why the plan cannot run.
    pub(crate) faults: Vec<Diagnostic>,
}

/// A cache that builds read.
struct ReadCache {
    from: CacheFrom,
    /// The plan writes it as well: the first time there is none.
    is_written: bool,
    /// A place in the definition that asks for it.
    at: Span,
    /// All targets that do.
    targets: Vec<Arc<str>>,
}

/// A cache that a build writes.
#[derive(Clone)]
pub(crate) struct WantedCache {
    pub(crate) export: CacheExport,
    /// `None`: into the image that the target exports.
    pub(crate) to: Option<CacheTo>,
    pub(crate) at: Span,
}

impl Caches {
    /// Collects the caches that the builds of a plan read (`cache-from`) and write (`cache-to`); nothing is read yet.
    ///
    /// Relative paths start at `cwd`. A cache that several builds name is read once. The build argument
    /// `BUILDKIT_INLINE_CACHE=1` counts as `cache-to = type=inline`. What cannot be used is left out with a warning in
    /// `warnings`, and is one of the `faults` if it has to be written.
    pub(crate) fn of_plan(plan: &Plan, cwd: &Path, env: &BTreeMap<String, String>) -> Self {
        let mut caches = Self::default();
        let mut seen: HashMap<&OptionTexts, usize> = HashMap::new();
        for node in plan.graph.node_indices() {
            let PlanNode::Build(build) = &plan.graph[node] else { continue };
            for item in &build.cache_from {
                match CacheFrom::of(&item.value, cwd, env) {
                    Ok(from) => {
                        let ix = *seen.entry(item.texts()).or_insert(caches.from.len());
                        if ix == caches.from.len() {
                            let (at, targets) = (build.at("cache-from"), Vec::new());
                            caches.from.push(ReadCache { from, is_written: false, at, targets });
                        }
                        caches.from[ix].targets.extend(names(build));
                    }
                    Err(why) => caches.warnings.extend(unreadable(why, item.type_name(), build)),
                }
            }
            let wanted = caches.wanted(build, cwd, env);
            if !wanted.is_empty() {
                caches.to.insert(node, wanted);
            }
        }
        let written = caches.to.values_mut().flatten();
        CacheTo::empty_once(written.filter_map(|wanted| wanted.to.as_mut()));
        let written: Vec<&CacheTo> = caches.to.values().flatten().filter_map(|wanted| wanted.to.as_ref()).collect();
        for it in &mut caches.from {
            it.is_written = written.iter().any(|to| it.from.is_at(to));
        }
        caches
    }

    /// The caches that a build writes.
    fn wanted(&mut self, build: &Build, cwd: &Path, env: &BTreeMap<String, String>) -> Vec<WantedCache> {
        let mut wanted = Vec::new();
        for item in &build.cache_to {
            let export = item.value.clone();
            let to = match CacheTo::of(&export.to, cwd, env) {
                Ok(to) => Some(to),
                Err(NoCache::InImage) => None,
                Err(NoCache::Unknown | NoCache::Elsewhere) => {
                    left_out(item.type_name());
                    continue;
                }
                Err(NoCache::Unusable(why)) => {
                    let text = format!("a cache of type `{}` cannot be written: {why}", item.type_name());
                    let told = |made: Diagnostic| made.at(build.at("cache-to"), "this cache").of(names(build));
                    if export.ignore_error {
                        self.warnings.push(told(Diagnostic::warning("bake::engine::cache_export", text)));
                    } else {
                        self.faults.push(told(Diagnostic::error("bake::engine::cache_export", text)));
                    }
                    continue;
                }
            };
            wanted.push(WantedCache { export, to, at: build.at("cache-to") });
        }
        if build.wants_inline_cache() {
            let export = OptionItem::<CacheExport>::inline().value;
            wanted.push(WantedCache { export, to: None, at: build.at("args") });
        }
        wanted
    }

    /// Makes the work that reads all caches at once, and whose result is the results in them by cache key. A cache that
    /// cannot be read, or not within [`READ_TIME`], is only a warning, which `sink` gets; one that is not there yet and that
    /// the plan writes is none.
    pub(crate) fn reading(
        &mut self,
        client: Client,
        objects: ObjectStores,
        sink: Sink,
        admitted: SharedCaches,
    ) -> impl Future<Output = HashMap<Digest, LayerTree>> + Send + 'static {
        let from = std::mem::take(&mut self.from);
        for it in &from {
            it.from.introduce(&client, &objects);
        }
        async move {
            let reads = from.into_iter().map(|it| {
                let (client, objects) = (client.clone(), objects.clone());
                async move {
                    let read = timeout(READ_TIME, import_cache(&it.from, &client, &objects)).await;
                    let late = || format!("{} did not answer within {} s", it.from.name(), READ_TIME.as_secs());
                    let late = |_| Err(ImportFault::Unreadable(late()));
                    (read.unwrap_or_else(late), it)
                }
            });
            known(join_all(reads).await, &sink, &admitted)
        }
    }

    /// The caches that a build is written to.
    pub(crate) fn to(&self, node: NodeIndex) -> &[WantedCache] {
        self.to.get(&node).map_or(&[], Vec::as_slice)
    }
}

/// The warning about a cache that cannot be read as it is configured. One of jobs of GitHub Actions is none elsewhere: the
/// same definition serves both.
fn unreadable(why: NoCache, type_name: &str, build: &Build) -> Option<Diagnostic> {
    let text = match why {
        NoCache::InImage => {
            "a cache cannot be read: an inline cache is imported with type=registry and the image as `ref`".to_owned()
        }
        NoCache::Unusable(why) => format!("a cache of type `{type_name}` cannot be read: {why}"),
        NoCache::Unknown | NoCache::Elsewhere => {
            left_out(type_name);
            return None;
        }
    };
    let warning = Diagnostic::warning("bake::engine::cache_import", text);
    Some(warning.at(build.at("cache-from"), "this cache").of(names(build)))
}

fn left_out(type_name: &str) {
    tracing::debug!(type_name, "this is no job that has such a cache: it is left out");
}

/// What was read of one cache: its records and where their layers are.
type ReadRecords = Result<(Vec<ImportedRecord>, LayerOrigin), ImportFault>;

/// The results in caches that were read, by key. Of two with one key that of the first cache counts.
fn known(reads: Vec<(ReadRecords, ReadCache)>, sink: &Sink, admitted: &SharedCaches) -> HashMap<Digest, LayerTree> {
    let mut known = HashMap::new();
    for (read, ReadCache { from: _, is_written, at, targets }) in reads {
        match read {
            Ok((_, origin)) if !admitted.admits(&origin) => (),
            Ok((records, origin)) => {
                for record in records {
                    let created: Vec<String> = record.layers.iter().map(|it| it.created.clone()).collect();
                    let layers = record.layers.into_iter();
                    let image = graph::ImageOp {
                        reference: String::new(),
                        manifest: record.id,
                        origin: origin.clone(),
                        layers: layers
                            .map(|layer| ImageLayer { diff_id: layer.diff_id, descriptor: layer.descriptor })
                            .collect(),
                    };
                    let mut tree = LayerTree::of_image(&image);
                    // Its own identity is that of its layers, which are compared with it when they are unpacked.
                    tree.claimed = Some(record.id);
                    for (layer, created) in tree.layers.iter_mut().zip(created) {
                        layer.created = created;
                    }
                    known.entry(record.key).or_insert(tree);
                }
            }
            Err(ImportFault::Absent(why)) if is_written => tracing::debug!(why, "there is no cache yet"),
            Err(ImportFault::Absent(why) | ImportFault::Unreadable(why)) => {
                let text = format!("a cache cannot be read: {why}");
                let warning = Diagnostic::warning("bake::engine::cache_import", text);
                sink(Event::Warning(Arc::new(warning.at(at, "this cache").of(targets))));
            }
        }
    }
    known
}

/// Makes the records of a build for a cache: of all its steps (`mode=max`), or of those whose layers are in the result.
pub(crate) fn records(steps: &[(Digest, LayerTree)], result: &LayerTree, mode: CacheMode) -> Vec<CacheRecord> {
    let part = |tree: &LayerTree| result.layers.starts_with(&tree.layers);
    let wanted = steps.iter().filter(|(_, tree)| mode == CacheMode::Max || part(tree));
    let of = |(key, tree): &(Digest, LayerTree)| CacheRecord {
        key: *key,
        id: *tree.shared_id(),
        layers: tree.layers.iter().cloned().map(layer_ref).collect(),
    };
    wanted.map(of).collect()
}

/// Makes the records for an inline cache: key and id of each step, and how many layers of the result it covers.
pub(crate) fn inline(steps: &[(Digest, LayerTree)], result: &LayerTree) -> Vec<(Digest, Digest, usize)> {
    let part = |tree: &LayerTree| result.layers.starts_with(&tree.layers);
    steps
        .iter()
        .filter(|(_, tree)| part(tree))
        .map(|(key, tree)| (*key, *tree.shared_id(), tree.layers.len()))
        .collect()
}
