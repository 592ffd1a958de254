//! `cache-from` and `cache-to` of a plan: read before the run, written after each build.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use futures_util::future::join_all;
use petgraph::graph::NodeIndex;

use super::base::layer_ref;
use crate::{
    export::{BlobOrigin, CacheFrom, CacheRecord, CacheTo, cache_from, cache_to, import_cache},
    graph,
    oci::Digest,
    plan::{Plan, PlanNode},
    registry::Client,
    report::{Diagnostic, Span},
    solve::tree::LayerTree,
};

/// The shared caches of a plan: those to read from, and those to write for each build.
#[derive(Default)]
pub(crate) struct Caches {
    /// Each cache once, with a place in the definition that asks for it.
    from: Vec<(String, CacheFrom, Span)>,
    to: HashMap<NodeIndex, Vec<(CacheTo, Span)>>,
    pub(crate) warnings: Vec<Diagnostic>,
}

impl Caches {
    /// Reads the options of all caches.
    ///
    /// # Errors
    /// Every fault; each names the target and the option.
    pub(crate) fn of(plan: &Plan, cwd: &Path) -> Result<Self, Vec<Diagnostic>> {
        let mut caches = Self::default();
        let mut faults = Vec::new();
        let mut seen: BTreeMap<String, ()> = BTreeMap::new();
        for node in plan.graph.node_indices() {
            let PlanNode::Build(build) = &plan.graph[node] else { continue };
            let target = build.wanted_by.first().map(ToString::to_string).unwrap_or_default();
            let fault = |attribute: &'static str, why: String| {
                Diagnostic::error("bake::engine::cache", format!("target `{target}`, `{attribute}`: {why}"))
                    .at(build.at(attribute), "this cache")
            };
            let unknown = |attribute: &'static str, kind: &str| {
                let text = format!("target `{target}`: this engine has no cache of the type `{kind}`; it is left out");
                Diagnostic::warning("bake::engine::cache_kind", text).at(build.at(attribute), "this cache")
            };
            for it in &build.cache_from {
                match cache_from(&it.kind, &it.attrs, cwd) {
                    Ok(Some(from)) => {
                        let name = format!("{:?}", it.entries());
                        if seen.insert(name.clone(), ()).is_none() {
                            caches.from.push((name, from, build.at("cache-from")));
                        }
                    }
                    Ok(None) => caches.warnings.push(unknown("cache-from", &it.kind)),
                    Err(why) => faults.push(fault("cache-from", why)),
                }
            }
            let mut to = Vec::new();
            for it in &build.cache_to {
                match cache_to(&it.kind, &it.attrs, cwd) {
                    Ok(Some(found)) => to.push((found, build.at("cache-to"))),
                    Ok(None) => caches.warnings.push(unknown("cache-to", &it.kind)),
                    Err(why) => faults.push(fault("cache-to", why)),
                }
            }
            let inline = build.args.get("BUILDKIT_INLINE_CACHE").is_some_and(|it| matches!(it.as_str(), "1" | "true"));
            if inline && let Ok(Some(found)) = cache_to("inline", &BTreeMap::new(), cwd) {
                to.push((found, build.at("args")));
            }
            if !to.is_empty() {
                caches.to.insert(node, to);
            }
        }
        if faults.is_empty() { Ok(caches) } else { Err(faults) }
    }

    /// Reads all caches; the results that they know, by cache key. A cache that cannot be read is only a warning.
    pub(crate) async fn import(&mut self, client: &Client) -> HashMap<Digest, LayerTree> {
        let reads = self.from.iter().map(|(_, from, at)| async move { (import_cache(from, client).await, *at) });
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
    pub(crate) fn to(&self, node: NodeIndex) -> &[(CacheTo, Span)] {
        self.to.get(&node).map_or(&[], Vec::as_slice)
    }
}

/// Makes the records of a build for a cache: of all its steps (`mode=max`), or of those whose layers are in the result.
pub(crate) fn records(steps: &[(Digest, LayerTree)], result: &LayerTree, max: bool) -> Vec<CacheRecord> {
    let part = |tree: &LayerTree| result.layers.starts_with(&tree.layers);
    let wanted = steps.iter().filter(|(_, tree)| max || part(tree));
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
