//! One export after its build: by kind of plan, then the provenance for the metadata file.
//!
//! Everything was checked by `prepare`; what can still fail is reading the store and writing the destination.

use super::{
    assemble::metadata_predicate,
    built::BuiltImage,
    context::{ExportContext, ExportReceipt},
    options::ExportPlan,
    prepare::PreparedExport,
    write::{self, JointExport, JointMember, StagedExport},
};
use crate::report::Diagnostic;

/// Writes one output. `builds` are in the order of the target's platforms.
///
/// # Errors
/// The diagnostic names target, exporter and destination, with the words of the system or registry.
pub(crate) async fn export(
    prepared: &PreparedExport,
    joint: Option<&JointExport>,
    builds: &[BuiltImage],
    context: &ExportContext,
) -> Result<ExportReceipt, Diagnostic> {
    some_result(prepared, builds)?;
    let mut receipt = match &prepared.plan {
        ExportPlan::Nothing => ExportReceipt::default(),
        ExportPlan::Image(plan, to) => match joint {
            Some(joint) => joint.export(JointMember::new(prepared, plan, builds, context), to).await?,
            None => write::export_image(prepared, plan, to, builds, context).await?,
        },
        ExportPlan::Tree(plan, to) => write::export_tree(prepared, plan, to, builds, context).await?,
    };
    add_provenance(&mut receipt, prepared, builds);
    Ok(receipt)
}

/// Makes one output ready, so that nothing is visible before the release. `builds` as in [`export`].
///
/// # Errors
/// As [`export`].
pub(crate) async fn stage(
    prepared: &PreparedExport,
    joint: Option<&JointExport>,
    builds: &[BuiltImage],
    context: &ExportContext,
) -> Result<StagedExport, Diagnostic> {
    some_result(prepared, builds)?;
    let mut staged = match &prepared.plan {
        ExportPlan::Nothing => StagedExport::nothing(ExportReceipt::default()),
        ExportPlan::Image(plan, to) => match joint {
            Some(joint) => joint.stage(JointMember::new(prepared, plan, builds, context), to).await?,
            None => write::stage_image(prepared, plan, to, builds, context).await?,
        },
        ExportPlan::Tree(plan, to) => write::stage_tree(prepared, plan, to, builds, context).await?,
    };
    add_provenance(&mut staged.receipt, prepared, builds);
    Ok(staged)
}

fn some_result(prepared: &PreparedExport, builds: &[BuiltImage]) -> Result<(), Diagnostic> {
    if builds.is_empty() {
        return Err(prepared.fault("bake::export::nothing", "there is no result to write"));
    }
    Ok(())
}

/// Adds the provenance that the metadata file is to have.
fn add_provenance(receipt: &mut ExportReceipt, prepared: &PreparedExport, builds: &[BuiltImage]) {
    let Some(mode) = prepared.subject.metadata_provenance else { return };
    let builder_id = prepared.provenance().map_or("", |options| options.builder_id.as_str());
    for build in builds {
        let Some(facts) = &build.provenance else { continue };
        let mut key = "buildx.build.provenance".to_owned();
        if prepared.subject.multi_platform {
            key = format!("{key}/{}", build.platform);
        }
        receipt.metadata.insert(key, metadata_predicate(facts, mode, builder_id));
    }
}
