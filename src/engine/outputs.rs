//! The outputs of a plan before anything is built: their destinations checked, two that write to one place refused.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
};

use petgraph::graph::NodeIndex;

use crate::{
    export::{self, JointExport, PreparedExport, joint_group},
    grant::Allowed,
    plan::{Export, Plan, PlanNode, dest},
    report::Diagnostic,
    spec::attest::ProvenanceMode,
};

/// What the outputs of a plan need to know of this machine.
pub(crate) struct OutputWorld<'a> {
    /// Absolute: what relative destinations start from.
    pub(crate) cwd: &'a Path,
    pub(crate) env: &'a BTreeMap<String, String>,
    /// What may be written.
    pub(crate) writable: &'a Allowed,
}

/// Checks the destination of every output, and that no two write to one place by different paths.
pub(crate) fn prepare_exports(
    plan: &Plan,
    world: &OutputWorld<'_>,
    faults: &mut Vec<Diagnostic>,
) -> (HashMap<NodeIndex, PreparedExport>, Vec<Diagnostic>) {
    let (mut prepared, mut warnings) = (HashMap::new(), Vec::new());
    let mut by_place: HashMap<PathBuf, &Export> = HashMap::new();
    for node in plan.graph.node_indices() {
        let PlanNode::Export(export) = &plan.graph[node] else { continue };
        let (output, subject) = request(export, world.cwd, world.env);
        match export::prepare(&output, &subject, world.writable) {
            Ok(ready) => {
                if let Some(place) = ready.written_path() {
                    let earlier = *by_place.entry(place.to_owned()).or_insert(export);
                    let conflict = linked_conflict(earlier, export, world.cwd);
                    let (errors, notes): (Vec<_>, Vec<_>) = conflict.into_iter().partition(Diagnostic::is_error);
                    faults.extend(errors);
                    warnings.extend(notes);
                }
                prepared.insert(node, ready);
            }
            Err(diagnostic) => faults.push(*diagnostic),
        }
    }
    (prepared, warnings)
}

/// The exports that write one archive or layout together with others: each with its place among them.
pub(crate) fn joint_exports(plan: &Plan) -> HashMap<NodeIndex, JointExport> {
    plan.joint.iter().flat_map(|group| group.iter().copied().zip(joint_group(group.len()))).collect()
}

/// What is wrong with two exports that write to one place. The plan has reported those whose texts are the same.
fn linked_conflict(earlier: &Export, later: &Export, cwd: &Path) -> Option<Diagnostic> {
    if dest::by_text(earlier, cwd) == dest::by_text(later, cwd) {
        return None;
    }
    dest::conflict(earlier, later)
}

/// An export of the plan as `export` wants it.
fn request(it: &Export, cwd: &Path, env: &BTreeMap<String, String>) -> (export::ExportedOutput, export::Subject) {
    let output = export::ExportedOutput { item: it.output.clone(), at: it.at };
    let subject = export::Subject {
        target: it.wanted_by.first().map(ToString::to_string).unwrap_or_default(),
        tags: it.tags.clone(),
        annotations: it.annotations.clone(),
        multi_platform: it.multi_platform,
        attestations: it.attestations.clone(),
        cwd: cwd.to_owned(),
        metadata_provenance: match env.get("BUILDX_METADATA_PROVENANCE").map(String::as_str) {
            Some("max") => Some(ProvenanceMode::Max),
            Some("disabled" | "false" | "0") => None,
            _ => Some(ProvenanceMode::Min),
        },
    };
    (output, subject)
}
