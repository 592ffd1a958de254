//! One export after its build: by kind of plan, then the provenance for the metadata file.
//!
//! Everything was checked by `prepare`; what can still fail is reading the store and writing the destination.

use super::{
    assemble::metadata_predicate,
    built::BuiltImage,
    context::{ExportContext, ExportReceipt},
    options::ExportPlan,
    prepare::PreparedExport,
    write,
};
use crate::report::Diagnostic;

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
        ExportPlan::Nothing => ExportReceipt::default(),
        ExportPlan::Image(plan, to) => write::export_image(prepared, plan, to, builds, context).await?,
        ExportPlan::Tree(plan, to) => write::export_tree(prepared, plan, to, builds, context).await?,
    };
    if let Some(mode) = prepared.subject.metadata_provenance {
        for build in builds {
            let Some(facts) = &build.provenance else { continue };
            let mut key = "buildx.build.provenance".to_owned();
            if builds.len() > 1 {
                key = format!("{key}/{}", build.platform);
            }
            receipt.metadata.insert(key, metadata_predicate(facts, mode));
        }
    }
    Ok(receipt)
}
