//! `cache-from` and `cache-to` of a plan: read before the run, written after each build.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
};

use futures_util::future::join_all;
use indexmap::IndexMap;
use petgraph::graph::NodeIndex;

use super::base::layer_ref;
use crate::{
    export::{BlobOrigin, CacheFrom, CacheRecord, CacheTo, import_cache},
    graph,
    oci::Digest,
    plan::{Plan, PlanNode},
    registry::Client,
    report::{Diagnostic, Span},
    solve::tree::LayerTree,
    spec::{
        CacheExport, CacheImport, OptionItem,
        cache::{CacheMode, CacheTarget},
        options::OptionTexts,
    },
};

/// The shared caches of a plan: those to read from, and those to write for each build.
#[derive(Default)]
pub(crate) struct Caches {
    /// Each cache once, with a place in the definition that asks for it.
    from: Vec<(CacheFrom, Span)>,
    to: HashMap<NodeIndex, Vec<WantedCache>>,
    pub(crate) warnings: Vec<Diagnostic>,
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
    /// Finds the caches that the builds of a plan read and write. One warning is given for each type that this engine
    /// does not have.
    pub(crate) fn of(plan: &Plan, cwd: &Path) -> Self {
        let mut caches = Self::default();
        let mut seen: HashSet<&OptionTexts> = HashSet::new();
        let mut missing: IndexMap<&str, (String, Span)> = IndexMap::new();
        for node in plan.graph.node_indices() {
            let PlanNode::Build(build) = &plan.graph[node] else { continue };
            let mut lacks = |type_name, attribute: &'static str| {
                let target = build.wanted_by.first().map(ToString::to_string).unwrap_or_default();
                missing.entry(type_name).or_insert((target, build.at(attribute)));
            };
            for item in &build.cache_from {
                match (CacheFrom::of(&item.value, cwd), &item.value) {
                    (Some(from), _) => {
                        if seen.insert(item.texts()) {
                            caches.from.push((from, build.at("cache-from")));
                        }
                    }
                    (None, CacheImport::Inline) => {
                        let text = "a cache cannot be read: an inline cache is imported with type=registry and the \
                                    image as `ref`";
                        let warning = Diagnostic::warning("bake::engine::cache_import", text);
                        caches.warnings.push(warning.at(build.at("cache-from"), "this cache"));
                    }
                    (None, _) => lacks(item.type_name(), "cache-from"),
                }
            }
            let mut wanted = Vec::new();
            for item in &build.cache_to {
                let to = CacheTo::of(&item.value.to, cwd);
                if to.is_none() && item.value.to != CacheTarget::Inline {
                    lacks(item.type_name(), "cache-to");
                } else {
                    wanted.push(WantedCache { export: item.value.clone(), to, at: build.at("cache-to") });
                }
            }
            let inline = build.args.get("BUILDKIT_INLINE_CACHE").is_some_and(|it| matches!(it.as_str(), "1" | "true"));
            if inline {
                let export = OptionItem::<CacheExport>::inline().value;
                wanted.push(WantedCache { export, to: None, at: build.at("args") });
            }
            if !wanted.is_empty() {
                caches.to.insert(node, wanted);
            }
        }
        for (type_name, (target, at)) in missing {
            let text = format!("target `{target}`: caches of type `{type_name}` have no effect yet: they are left out");
            caches.warnings.push(Diagnostic::warning("bake::engine::cache_kind", text).at(at, "this cache"));
        }
        caches
    }

    /// Reads all caches; the results that they know, by cache key. A cache that cannot be read is only a warning.
    pub(crate) async fn import(&mut self, client: &Client) -> HashMap<Digest, LayerTree> {
        let reads = self.from.iter().map(|(from, at)| async move { (import_cache(from, client).await, *at) });
        let mut known = HashMap::new();
        for (read, at) in join_all(reads).await {
            match read {
                Ok((records, origin)) => {
                    let origin = match origin {
                        BlobOrigin::Registry { domain, path } => graph::LayerOrigin::Registry { domain, path },
                        BlobOrigin::Layout { folder } => {
                            graph::LayerOrigin::Layout { folder: folder.display().to_string() }
                        }
                    };
                    for record in records {
                        let created: Vec<String> = record.layers.iter().map(|it| it.created.clone()).collect();
                        let layers = record.layers.into_iter();
                        let image = graph::ImageOp {
                            reference: String::new(),
                            manifest: record.id,
                            origin: origin.clone(),
                            layers: layers
                                .map(|it| graph::ImageLayer { diff_id: it.diff_id, descriptor: it.descriptor })
                                .collect(),
                        };
                        let mut tree = LayerTree::of_image(&image);
                        tree.id = record.id;
                        for (layer, created) in tree.layers.iter_mut().zip(created) {
                            layer.created = created;
                        }
                        known.entry(record.key).or_insert(tree);
                    }
                }
                Err(why) => {
                    let text = format!("a cache cannot be read: {why}");
                    let warning = Diagnostic::warning("bake::engine::cache_import", text);
                    self.warnings.push(warning.at(at, "this cache"));
                }
            }
        }
        known
    }

    /// The caches that a build is written to.
    pub(crate) fn to(&self, node: NodeIndex) -> &[WantedCache] {
        self.to.get(&node).map_or(&[], Vec::as_slice)
    }
}

/// Makes the records of a build for a cache: of all its steps (`mode=max`), or of those whose layers are in the result.
pub(crate) fn records(steps: &[(Digest, LayerTree)], result: &LayerTree, mode: CacheMode) -> Vec<CacheRecord> {
    let part = |tree: &LayerTree| result.layers.starts_with(&tree.layers);
    let wanted = steps.iter().filter(|(_, tree)| mode == CacheMode::Max || part(tree));
    let of = |(key, tree): &(Digest, LayerTree)| CacheRecord {
        key: *key,
        id: tree.id,
        layers: tree.layers.iter().cloned().map(layer_ref).collect(),
    };
    wanted.map(of).collect()
}

/// Makes the records for an inline cache: key and id of each step, and how many layers of the result it covers.
pub(crate) fn inline(steps: &[(Digest, LayerTree)], result: &LayerTree) -> Vec<(Digest, Digest, usize)> {
    let part = |tree: &LayerTree| result.layers.starts_with(&tree.layers);
    steps.iter().filter(|(_, tree)| part(tree)).map(|(key, tree)| (*key, tree.id, tree.layers.len())).collect()
}
