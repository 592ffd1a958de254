//! Hands results of builds to the user: image, registry, local, tar, oci, docker, cacheonly.
//!
//! ```text
//! Output (text) ─ options, annotation ─► Prepared     before the build: options, conflicts, destination
//! Prepared + Vec<Built> ─ export ─► Receipt          after it
//!    receipt      known and still there: nothing is written
//!    image        layers (packed and compressed once) ─► assemble (config, manifest, index, attest) ─► where it goes:
//!                 archive, layout (both through place), the registry module, load
//!    filesystem   the tree ─► local (folder) or tree (tar)
//! ```
//!
//! It decides nothing about builds and never runs one.

mod annotation;
mod archive;
mod assemble;
mod attest;
mod cache;
mod filesystem;
mod image;
mod layers;
mod layout;
mod load;
mod local;
mod options;
mod place;
mod receipt;
mod tree;

use std::{future::Future, path::PathBuf, pin::Pin, sync::Arc};

use serde_json::{Map, Value};

use attest::Statements;
pub(crate) use cache::{CacheFrom, CacheRecord, CacheTo, cache_from, cache_to, export_cache, import_cache};
use options::{ArchiveDest, ExportPlan, ImageTo};

use crate::{
    oci::{Descriptor, DiffId, Digest, ImageConfig, Platform},
    registry::Client,
    report::{
        Diagnostic, Span,
        event::{Sink, StepId},
    },
    store::Store,
};

/// One output of a target as the user wrote it, `registry` and `--push` already resolved or not: both are understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExportedOutput {
    /// `type=`.
    pub(crate) exporter: String,
    /// All other fields, `dest` included, in order.
    pub(crate) options: Vec<OutputOption>,
    /// The attribute (or flag) that asked for it.
    pub(crate) at: Option<Span>,
}

/// `key=value` of an output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OutputOption {
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) at: Option<Span>,
}

/// What an output is for: all that is known before the build.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    /// Name of the target, for messages.
    pub(crate) target: String,
    /// `tags` of the target, checked references in the user's spelling; they overrule `name=`.
    pub(crate) tags: Vec<String>,
    /// `annotations` of the target: `[TYPE[PLATFORM][,…]:]KEY=VALUE`.
    pub(crate) annotations: Vec<(String, Option<Span>)>,
    /// Platforms in the order of the target; never empty.
    pub(crate) platforms: Vec<Platform>,
    /// Normalised attestations of the target.
    pub(crate) attest: Attestations,
    /// Relative destinations are relative to it.
    pub(crate) cwd: PathBuf,
    /// Provenance in the metadata file: `Some(true)` in full (`BUILDX_METADATA_PROVENANCE`).
    pub(crate) metadata_provenance: Option<bool>,
    /// An index is made even for one platform (`BUILDKIT_MULTI_PLATFORM=1`).
    pub(crate) always_index: bool,
}

/// Attestations that were asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attestations {
    pub(crate) provenance: Option<ProvenanceWanted>,
    /// Options of `type=sbom`, if asked for.
    pub(crate) sbom: Option<Vec<(String, String)>>,
}

/// `type=provenance,…`.
#[derive(Clone, Debug)]
pub(crate) struct ProvenanceWanted {
    pub(crate) options: Vec<(String, String)>,
    /// Nobody asked; it is the default (`mode=min,inline-only=true`).
    pub(crate) by_default: bool,
    pub(crate) at: Option<Span>,
}

/// One build's result: one target on one platform.
#[derive(Clone, Debug)]
pub(crate) struct BuiltImage {
    pub(crate) platform: Platform,
    /// Final, with the base's history and diff ids, without those of this build's own steps and layers.
    pub(crate) config: ImageConfig,
    /// History of this build's own steps, in order; those that are not empty are as many as the own layers.
    pub(crate) steps: Vec<ExportStep>,
    /// All layers, lowest first; the first `base_layers` are the base image's.
    pub(crate) layers: Vec<LayerRef>,
    pub(crate) base_layers: usize,
    /// Identity of tree and config: equal content gives equal exports.
    pub(crate) content: Digest,
    /// SOURCE_DATE_EPOCH of the build.
    pub(crate) epoch: Option<i64>,
    /// For an inline cache: key, identity of the result, and how many of the layers it has.
    pub(crate) inline_cache: Option<Vec<(Digest, Digest, usize)>>,
    /// Facts for provenance; whatever is known, see `attest.rs`.
    pub(crate) provenance: Option<Arc<Provenance>>,
}

/// A history entry of a step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ExportStep {
    pub(crate) created_by: String,
    pub(crate) comment: Option<String>,
    pub(crate) author: Option<String>,
    /// It made no layer.
    pub(crate) empty: bool,
}

/// One layer of a result.
#[derive(Clone, Debug)]
pub(crate) struct LayerRef {
    pub(crate) snapshot: Digest,
    /// RFC 3339, when the snapshot was made.
    pub(crate) created: String,
    /// For a layer of a base image: what it is where it came from. It may be neither downloaded nor unpacked.
    pub(crate) base: Option<BaseLayer>,
}

/// A layer of a base image as published.
#[derive(Clone, Debug)]
pub(crate) struct BaseLayer {
    pub(crate) diff_id: DiffId,
    pub(crate) descriptor: Descriptor,
    pub(crate) origin: BlobOrigin,
}

/// Where a base layer's blob is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BlobOrigin {
    Registry { domain: String, path: String },
    Layout { folder: PathBuf },
}

/// What provenance says about a build.
#[derive(Clone, Debug, Default)]
pub(crate) struct Provenance {
    /// `externalParameters.configSource`: uri, digest (`sha1` or `sha256`), path of the Dockerfile.
    pub(crate) config_uri: Option<String>,
    pub(crate) config_digest: Option<(String, String)>,
    pub(crate) config_path: String,
    /// `request.args` in full; what `min` leaves out is left out here.
    pub(crate) args: Vec<(String, String)>,
    pub(crate) secrets: Vec<(String, bool)>,
    pub(crate) ssh: Vec<(String, bool)>,
    pub(crate) locals: Vec<String>,
    /// URI (purl or URL) and digest (algorithm, hex) of images, git commits, downloads.
    pub(crate) materials: Vec<(String, (String, String))>,
    /// All inputs are in `materials`.
    pub(crate) complete: bool,
    /// No step had a network.
    pub(crate) hermetic: bool,
    /// The Dockerfile: name and text.
    pub(crate) source: Option<(String, Vec<u8>)>,
    /// VCS source and revision.
    pub(crate) vcs: Vec<(String, String)>,
    /// RFC 3339.
    pub(crate) started: String,
    pub(crate) finished: String,
    /// `mode=max`: our own graph as a list of `{id, op, inputs}`.
    pub(crate) graph: Vec<Value>,
}

/// A future that a trait object can return.
pub(crate) type ExportFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Brings layers of base images here when an exporter needs them.
pub(crate) trait BaseLayers: Send + Sync {
    /// The blob of a base layer, in the store under its digest afterwards.
    fn blob<'a>(&'a self, layer: &'a BaseLayer) -> ExportFuture<'a, Result<(), Diagnostic>>;
    /// The unpacked snapshots of these layers, in the store afterwards.
    fn unpack<'a>(&'a self, layers: &'a [LayerRef]) -> ExportFuture<'a, Result<(), Diagnostic>>;
}

/// What exporters work with.
#[derive(Clone)]
pub(crate) struct ExportContext {
    pub(crate) store: Store,
    pub(crate) client: Client,
    pub(crate) base: Arc<dyn BaseLayers>,
    /// Progress goes here under `step`.
    pub(crate) sink: Sink,
    pub(crate) step: StepId,
    /// Seconds since 1970, for dates that nothing else determines.
    pub(crate) now: i64,
}

/// What was written.
#[derive(Clone, Debug, Default)]
pub(crate) struct ExportReceipt {
    /// Keys of the metadata file.
    pub(crate) metadata: Map<String, Value>,
    pub(crate) warnings: Vec<Diagnostic>,
}

/// A checked output, ready to run after the build.
#[derive(Clone, Debug)]
pub(crate) struct PreparedExport {
    pub(crate) output: ExportedOutput,
    pub(crate) subject: Subject,
    plan: ExportPlan,
    /// What the user should know although it is no fault.
    pub(crate) warnings: Vec<Diagnostic>,
}

impl PreparedExport {
    /// Whether an export changes something that others see.
    pub(crate) const fn publishes(&self) -> bool {
        matches!(self.plan, ExportPlan::Image(_, ImageTo::Registry { .. }))
    }

    /// Whether facts about the builds are part of what is written.
    pub(crate) fn states_provenance(&self) -> bool {
        self.plan_statements().is_some_and(|it| !it.is_empty())
    }

    fn plan_statements(&self) -> Option<&Statements> {
        match &self.plan {
            ExportPlan::Nothing => None,
            ExportPlan::Image(plan, _) => Some(&plan.statements),
            ExportPlan::Tree(plan, _) => Some(&plan.statements),
        }
    }

    fn about(&self, text: &str) -> String {
        format!("target `{}`, output `{}`: {text}", self.subject.target, self.output.exporter)
    }

    fn fault(&self, code: &'static str, text: impl std::fmt::Display) -> Diagnostic {
        let fault = Diagnostic::error(code, self.about(&text.to_string()));
        match self.output.at {
            Some(at) => fault.at(at, "this output"),
            None => fault,
        }
    }
}

/// Checks an output before its build starts: options, their values and conflicts, names, the destination.
///
/// # Errors
/// Every fault, each naming target, option, value, and what to write instead.
pub(crate) fn prepare(output: &ExportedOutput, subject: &Subject) -> Result<PreparedExport, Vec<Diagnostic>> {
    let (plan, warnings) = options::plan(output, subject)?;
    Ok(PreparedExport { output: output.clone(), subject: subject.clone(), plan, warnings })
}

/// Checks what several outputs have in common: two that write to the same place, or both to stdout.
///
/// # Errors
/// Names path, exporters and targets.
pub(crate) fn check_together(all: &[&PreparedExport]) -> Result<(), Vec<Diagnostic>> {
    let mut faults = Vec::new();
    for (i, one) in all.iter().enumerate() {
        let Some(dest) = one.plan.dest() else { continue };
        let clashes = |it: &&&PreparedExport| {
            let equal = it.output == one.output && it.subject.target == one.subject.target;
            let both_add = it.plan.accumulates() && one.plan.accumulates();
            it.plan.dest().as_ref() == Some(&dest) && !equal && !both_add
        };
        let Some(first) = all[..i].iter().find(clashes) else { continue };
        let place = match &dest {
            ArchiveDest::Stdout => "stdout".to_owned(),
            ArchiveDest::File(path) => path.display().to_string(),
        };
        let text = format!(
            "target `{}`, output `{}`, writes to the same place as target `{}`, output `{}`: {place}",
            one.subject.target, one.output.exporter, first.subject.target, first.output.exporter
        );
        let mut fault = Diagnostic::error("bake::export::same_dest", text).help("give each output a `dest` of its own");
        for (it, label) in [(one, "this output"), (first, "and this one")] {
            if let Some(at) = it.output.at {
                fault = fault.at(at, label);
            }
        }
        faults.push(fault);
    }
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

/// Writes one output. `builds` are in the order of the subject's platforms.
///
/// # Errors
/// Names target, exporter, destination, and the system's or registry's words.
pub(crate) async fn export(
    prepared: &PreparedExport,
    builds: &[BuiltImage],
    context: &ExportContext,
) -> Result<ExportReceipt, Diagnostic> {
    if builds.is_empty() {
        return Err(prepared.fault("bake::export::nothing", "there is no result to write"));
    }
    let mut receipt = match &prepared.plan {
        ExportPlan::Nothing => ExportReceipt { warnings: prepared.warnings.clone(), ..ExportReceipt::default() },
        ExportPlan::Image(plan, to) => image::export(prepared, plan, to, builds, context).await?,
        ExportPlan::Tree(plan, to) => filesystem::export(prepared, plan, to, builds, context).await?,
    };
    if let Some(max) = prepared.subject.metadata_provenance {
        for build in builds {
            let Some(facts) = &build.provenance else { continue };
            let mut key = "buildx.build.provenance".to_owned();
            if builds.len() > 1 {
                key = format!("{key}/{}", build.platform);
            }
            receipt.metadata.insert(key, attest::metadata_predicate(facts, max));
        }
    }
    Ok(receipt)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_publishes_when_it_pushes_however_that_is_spelt() {
        let publishes = |exporter: &str, push: Option<&str>| {
            let option = |value: &str| OutputOption { key: "push".to_owned(), value: value.to_owned(), at: None };
            let options = push.map(option).into_iter().collect();
            let subject = Subject {
                target: "app".to_owned(),
                tags: vec!["example.org/app:1".to_owned()],
                annotations: Vec::new(),
                platforms: vec![Platform::parse("linux/amd64").expect("a platform")],
                attest: Attestations::default(),
                cwd: PathBuf::from("/"),
                metadata_provenance: None,
                always_index: false,
            };
            let output = ExportedOutput { exporter: exporter.to_owned(), options, at: None };
            prepare(&output, &subject).expect("a good output").publishes()
        };
        assert!(publishes("registry", None));
        assert!(publishes("image", Some("true")) && publishes("image", Some("")) && publishes("image", Some("1")));
        assert!(!publishes("image", None));
        assert!(!publishes("image", Some("0")) && !publishes("registry", Some("False")));
    }
}
