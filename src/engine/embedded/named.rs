//! Images by the names that they were built under: a run records what each name stands for, and a later run exports that
//! image again without its Dockerfile and without building anything.
//!
//! A record says of what an image consists: its config, its history and the snapshots of its layers. It keeps none of them
//! from being pruned. Nothing is packed here: that is done by the export.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Mutex, PoisonError},
};

use petgraph::{Direction, graph::NodeIndex, visit::EdgeRef as _};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    engine::base::{layer_ref, tree_layer},
    export::{BuiltImage, ExportStep, PreparedExport},
    oci::{Digest, ImageConfig, Platform, Reference, digest::FieldHasher},
    plan::{Build, Plan, PlanLink, PlanNode},
    report::Diagnostic,
    solve::tree::TreeLayer,
    spec::context::ContextSource,
    store::{Store, StoreError, Table},
};

/// The record under a name: one image for each platform, in the order in which the target names them.
#[derive(Debug, Serialize, Deserialize)]
struct NamedImage {
    platforms: Vec<NamedPlatform>,
}

/// The image of one platform, as [`BuiltImage`] has it.
#[derive(Debug, Serialize, Deserialize)]
struct NamedPlatform {
    platform: String,
    config: ImageConfig,
    steps: Vec<NamedStep>,
    layers: Vec<TreeLayer>,
    base_layers: usize,
    content: Digest,
    epoch: Option<i64>,
}

/// A history entry, as [`ExportStep`] has it.
#[derive(Debug, Serialize, Deserialize)]
struct NamedStep {
    created_by: String,
    comment: Option<String>,
    author: Option<String>,
    empty: bool,
}

/// The names that a plan gives to its results, and the results so far.
#[derive(Debug, Default)]
pub(super) struct ImageNames {
    /// Each name once, with one build for each platform.
    names: BTreeMap<Reference, Vec<NodeIndex>>,
    /// The builds that have a name.
    wanted: HashSet<NodeIndex>,
    built: Mutex<HashMap<NodeIndex, BuiltImage>>,
}

impl ImageNames {
    /// The tags of all targets, and the names in their outputs.
    pub(super) fn of(plan: &Plan, exports: &HashMap<NodeIndex, PreparedExport>) -> Self {
        let mut names = BTreeMap::new();
        for nodes in plan.targets.values() {
            let of_outputs = nodes.exports.iter().filter_map(|node| {
                let builds = builds_of_export(plan, *node);
                Some(exports.get(node)?.names().iter().map(move |name| (name, builds.clone())))
            });
            let tags = nodes.tags.iter().map(|tag| (&tag.reference, nodes.builds.clone()));
            for (name, builds) in of_outputs.flatten().chain(tags).filter(|(name, _)| name.digest.is_none()) {
                names.insert(name.clone(), builds);
            }
        }
        let wanted = names.values().flatten().copied().collect();
        Self { names, wanted, built: Mutex::default() }
    }

    /// Keeps the result of a build until [`ImageNames::record`], if it has a name.
    pub(super) fn add(&self, node: NodeIndex, image: &BuiltImage) {
        if self.wanted.contains(&node) {
            self.built.lock().unwrap_or_else(PoisonError::into_inner).insert(node, image.clone());
        }
    }

    /// Records the names whose builds have all succeeded. A name that stands for the same image already is left alone.
    ///
    /// # Errors
    /// When a record cannot be written; no result is affected.
    pub(super) fn record(&self, store: &Store) -> Result<(), StoreError> {
        let built = self.built.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, nodes) in &self.names {
            let images: Option<Vec<&BuiltImage>> = nodes.iter().map(|node| built.get(node)).collect();
            let Some(images) = images else { continue };
            let named = NamedImage { platforms: images.into_iter().map(NamedPlatform::of).collect() };
            let text = serde_json::value::to_raw_value(&named).expect("images are plain data");
            let known = store.get::<Box<RawValue>>(Table::Image, &key(name));
            if known.is_none_or(|known| known.get() != text.get()) {
                store.put(Table::Image, &key(name), &text)?;
            }
        }
        Ok(())
    }
}

/// The builds whose results an export writes, in the order of its platforms.
fn builds_of_export(plan: &Plan, export: NodeIndex) -> Vec<NodeIndex> {
    let mut builds: Vec<(usize, NodeIndex)> = plan
        .graph
        .edges_directed(export, Direction::Incoming)
        .filter_map(|edge| match edge.weight() {
            PlanLink::Result { platform } => Some((*platform, edge.source())),
            PlanLink::Context { .. } => None,
        })
        .collect();
    builds.sort_unstable_by_key(|(platform, _)| *platform);
    builds.into_iter().map(|(_, build)| build).collect()
}

/// The platforms of the image that was last built on this machine under a name; none if there is no such image.
pub(crate) fn recorded_platforms(store: &Store, name: &str) -> Vec<String> {
    let named = Reference::parse(name).ok().and_then(|reference| store.get(Table::Image, &key(&reference)));
    named.map(|NamedImage { platforms }| platforms.into_iter().map(|it| it.platform).collect()).unwrap_or_default()
}

/// Looks up the images of all builds of a plan that are named instead of built.
///
/// # Errors
/// Names each image that was not built on this machine, or of which something was pruned.
pub(super) fn find_all(plan: &Plan, store: &Store, faults: &mut Vec<Diagnostic>) -> HashMap<NodeIndex, BuiltImage> {
    let mut found = HashMap::new();
    for node in plan.graph.node_indices() {
        let PlanNode::Build(build) = &plan.graph[node] else { continue };
        let ContextSource::Built(name) = &build.context else { continue };
        match find(build, name, store) {
            Ok(image) => {
                found.insert(node, image);
            }
            Err(fault) if fault.labels.is_empty() => faults.push(fault.at(build.at("context"), "named here")),
            Err(fault) => faults.push(fault),
        }
    }
    found
}

fn find(build: &Build, name: &str, store: &Store) -> Result<BuiltImage, Diagnostic> {
    if let Some(option) = &build.stage_option {
        let message = format!("the image `{name}` was built before and has no stages: {}", option.part);
        let fault = Diagnostic::error("bake::engine::no_such_image", message).at(option.at, "this option");
        return Err(fault.help("build the stage from its Dockerfile, with `--target` or `source=`"));
    }
    let reference =
        Reference::parse(name).map_err(|error| Diagnostic::error("bake::engine::bad_reference", error.to_string()))?;
    let Some(NamedImage { platforms }) = store.get(Table::Image, &key(&reference)) else {
        let message = format!("path \"{name}\" not found, and no image was built here under this name");
        let help = format!("give a folder, a URL or `-`, or first build the image with `-t {name}`");
        return Err(Diagnostic::error("bake::engine::no_such_image", message).help(help));
    };
    let wanted = build.platform.to_string();
    let offered: Vec<String> = platforms.iter().map(|it| it.platform.clone()).collect();
    let (is_only, is_chosen) = (platforms.len() == 1, build.explicit_platform);
    let image = platforms.into_iter().find(|it| it.platform == wanted || (is_only && !is_chosen));
    let Some(image) = image else {
        let message = format!("the image `{name}` was not built for: {wanted}");
        let help = format!("it was built for {}; choose with --platform", offered.join(", "));
        return Err(Diagnostic::error("bake::engine::no_such_image", message).help(help));
    };
    let is_gone = |layer: &TreeLayer| layer.base.is_none() && !store.has_snapshot(&layer.snapshot);
    if image.layers.iter().any(is_gone) {
        let message = format!("the cache does not hold the image any more: {name}");
        return Err(Diagnostic::error("bake::engine::no_such_image", message).help("build it again"));
    }
    image.into_built(&build.platform)
}

impl NamedPlatform {
    fn of(image: &BuiltImage) -> Self {
        let BuiltImage {
            platform,
            config,
            steps,
            layers,
            base_layers,
            content,
            epoch,
            // These belong to the run that built it.
            inline_cache: _,
            provenance: _,
            build_info: _,
            sboms: _,
        } = image;
        let step = |step: &ExportStep| {
            let ExportStep { created_by, comment, author, empty } = step.clone();
            NamedStep { created_by, comment, author, empty }
        };
        Self {
            platform: platform.to_string(),
            config: config.clone(),
            steps: steps.iter().map(step).collect(),
            layers: layers.iter().map(tree_layer).collect(),
            base_layers: *base_layers,
            content: *content,
            epoch: *epoch,
        }
    }

    fn into_built(self, wanted: &Platform) -> Result<BuiltImage, Diagnostic> {
        let step = |step: NamedStep| {
            let NamedStep { created_by, comment, author, empty } = step;
            ExportStep { created_by, comment, author, empty }
        };
        let platform = Platform::parse(&self.platform).unwrap_or_else(|_| wanted.clone());
        if self.base_layers > self.layers.len() {
            let message = "the record of an image is damaged";
            return Err(Diagnostic::error("bake::engine::no_such_image", message).help("build it again"));
        }
        Ok(BuiltImage {
            platform,
            config: self.config,
            steps: self.steps.into_iter().map(step).collect(),
            layers: self.layers.into_iter().map(layer_ref).collect(),
            base_layers: self.base_layers,
            content: self.content,
            epoch: self.epoch,
            inline_cache: None,
            provenance: None,
            build_info: None,
            sboms: BTreeMap::new(),
        })
    }
}

/// The key of the record of a name.
fn key(name: &Reference) -> Digest {
    FieldHasher::new("image-name/1").text(&name.to_string()).clone().finish()
}
