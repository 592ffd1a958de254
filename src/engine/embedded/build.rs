//! Building: one node of the plan is solved, its caches are written, its result is described for exporters.

use std::{collections::BTreeMap, sync::Arc};

use petgraph::graph::NodeIndex;
use tracing::Instrument as _;

use super::node::EmbeddedEngine;
use crate::{
    dockerfile::options::Lowered,
    engine::{
        base::{Pulled, layer_ref},
        cache::{self, WantedCache},
        sbom::{self, SbomScan},
    },
    export::{self, BuiltImage, Sbom},
    oci::{Digest, Platform, digest::FieldHasher},
    report::{Diagnostic, event::Event},
    solve::{blocking::blocking, failure::SolveFailure, tree::LayerTree},
};

impl EmbeddedEngine {
    /// Builds a node.
    ///
    /// # Errors
    /// The fault of the first step that failed, or of a cache that had to be written and could not be.
    pub(super) async fn build_node(&self, node: NodeIndex) -> Result<BuiltImage, SolveFailure> {
        if let Some(image) = self.recorded.get(&node) {
            self.names.add(node, image);
            return Ok(image.clone());
        }
        let lowered = &self.builds[&node];
        let span = tracing::debug_span!("build", node = node.index(), platform = %self.platforms[&node]);
        let tree = self.solver.solve(lowered.result).instrument(span).await?.into_tree();
        let provenance = self.facts.get(&node).map(|facts| {
            let finished = (self.solver.world().now)();
            Arc::new(facts.finish(finished, |vertex| self.solver.world().sources.pin(vertex)))
        });
        let sources = &self.solver.world().sources;
        let build_info = self.build_info.get(&node).map(|info| Arc::new(info.finish(|vertex| sources.pin(vertex))));
        let inline_cache = self.write_caches(node, lowered, &tree).await?;
        let built = built(lowered, self.platforms[&node].clone(), tree);
        self.names.add(node, &built);
        let sboms = self.scan(node).await?;
        Ok(BuiltImage { provenance, build_info, inline_cache, sboms, ..built })
    }

    /// Runs the scanners of a build, by the identity of their options.
    async fn scan(&self, node: NodeIndex) -> Result<BTreeMap<Digest, Arc<Sbom>>, SolveFailure> {
        let mut sboms = BTreeMap::new();
        for SbomScan { options, vertex, generator, image: _ } in self.scans.get(&node).into_iter().flatten() {
            let mut tree = self.solver.solve(*vertex).await?.into_tree();
            // What the run changed is the last layer.
            tree.layers.drain(..tree.layers.len().saturating_sub(1));
            let dirs = self.solver.materialise(&tree).await?;
            let generator = generator.clone();
            let sbom = blocking(move || sbom::read(&dirs, tree.id, &generator).map_err(SolveFailure::from)).await?;
            sboms.insert(*options, Arc::new(sbom));
        }
        Ok(sboms)
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
        for WantedCache { export, to, at } in wanted {
            let Some(to) = to else {
                inline = Some(cache::inline(&steps, tree));
                continue;
            };
            let records = cache::records(&steps, tree, export.mode);
            let base = Arc::new(Pulled::new(self.solver.clone()));
            let used = lowered.epoch.unwrap_or(self.epoch_now);
            if let Err(why) = export::export_cache(to, &records, used, &self.export_context(node, base.clone())).await {
                let text = format!("a cache cannot be written: {why}");
                if !export.ignore_error {
                    let fault = Diagnostic::error("bake::engine::cache_export", text).at(*at, "this cache");
                    return Err(base.failure(fault));
                }
                let warning = Diagnostic::warning("bake::engine::cache_export", text).at(*at, "this cache");
                (self.sink)(Event::Warning(Arc::new(warning)));
            }
        }
        Ok(inline)
    }
}

/// A build's result as exporters want it.
///
/// `platform` is the one that was asked for; what the config says may differ (`FROM --platform=…`).
fn built(lowered: &Lowered, platform: Platform, tree: LayerTree) -> BuiltImage {
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
    BuiltImage {
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
        build_info: None,
        sboms: BTreeMap::new(),
    }
}
