//! Checks before anything is built: the destination of an output. Nothing is written here.

use std::{io, path::Path};

use rustix::io::Errno;

use super::{
    options::{self, ExportPlan, ImageTo},
    owner,
    request::{ExportedOutput, Subject},
};
use crate::{
    grant::{self, Allowed, GrantedWrite},
    oci::Reference,
    report::Diagnostic,
    spec::{
        attest::{ProvenanceOptions, SbomOptions},
        output::BuildInfoDetail,
    },
};

/// An output that was checked before the build and can be run after it.
#[derive(Clone, Debug)]
pub(crate) struct PreparedExport {
    pub(crate) output: ExportedOutput,
    pub(crate) subject: Subject,
    pub(super) plan: ExportPlan,
    /// What is written on this machine, checked; `None` for standard output and for what is not written here.
    pub(super) place: Option<GrantedWrite>,
}

impl PreparedExport {
    /// Whether the export changes something that others see: a push. Such exports wait for all builds of the plan.
    pub(crate) const fn publishes(&self) -> bool {
        matches!(self.plan, ExportPlan::Image(_, ImageTo::Registry { .. }))
    }

    /// The names that it gives to an image: tags of the target, else those of the output.
    pub(crate) fn names(&self) -> &[Reference] {
        match &self.plan {
            ExportPlan::Image(plan, _) => &plan.names,
            ExportPlan::Nothing | ExportPlan::Tree(..) => &[],
        }
    }

    /// What is written on this machine, without symbolic links; `None` for standard output and what is not written here.
    pub(crate) fn written_path(&self) -> Option<&Path> {
        self.place.as_ref().map(GrantedWrite::path)
    }

    /// Whether the export writes facts about its builds, so that the engine must collect them.
    pub(crate) const fn states_provenance(&self) -> bool {
        self.provenance().is_some()
    }

    /// Whether the export writes build information into image configs, so that the engine must collect it.
    pub(crate) fn states_build_info(&self) -> bool {
        matches!(&self.plan, ExportPlan::Image(plan, _) if plan.options.build_info != BuildInfoDetail::Nothing)
    }

    /// An error of the system about a path that this export writes.
    pub(super) fn write_fault(&self, path: &str, error: &io::Error) -> Diagnostic {
        let fault = self.fault("bake::export::write", format_args!("cannot write `{path}`: {error}"));
        if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) {
            return fault.help("a symbolic link came in the way after the output was checked; it is not followed");
        }
        fault
    }

    /// The handle of a path that this export writes.
    fn grant(&self, path: &Path, writable: &Allowed) -> Result<GrantedWrite, Box<Diagnostic>> {
        let code = "bake::export::dest";
        let found = grant::resolve(path, &self.subject.cwd)
            .map_err(|error| Box::new(self.fault(code, format_args!("cannot find `{}`: {error}", path.display()))))?;
        writable.write(found).map_err(|grant::Denied(path)| {
            let path = path.display();
            let fault = self.fault(code, format_args!("the destination leads to `{path}`, where it may not write"));
            Box::new(fault.help(format!("if that is right, allow it: --allow=fs.write={path}")))
        })
    }

    /// The provenance that this export writes.
    pub(super) const fn provenance(&self) -> Option<&ProvenanceOptions> {
        match &self.plan {
            ExportPlan::Nothing => None,
            ExportPlan::Image(plan, _) => plan.provenance.as_ref(),
            ExportPlan::Tree(plan, _) => plan.provenance.as_ref(),
        }
    }

    /// The SBOM that this export writes, which the engine must have made.
    pub(crate) const fn sbom(&self) -> Option<&SbomOptions> {
        match &self.plan {
            ExportPlan::Nothing => None,
            ExportPlan::Image(plan, _) => plan.sbom.as_ref(),
            ExportPlan::Tree(plan, _) => plan.sbom.as_ref(),
        }
    }

    /// `text` with the target and the output in front of it.
    pub(super) fn about(&self, text: &str) -> String {
        format!("target `{}`, output `{}`: {text}", self.subject.target, self.output.exporter())
    }

    /// An error about this export, at the place of its output.
    pub(crate) fn fault(&self, code: &'static str, text: impl std::fmt::Display) -> Diagnostic {
        Diagnostic::error(code, self.about(&text.to_string())).at(self.output.at, "this output")
    }
}

/// Checks an output before its build starts: its destination.
///
/// # Errors
/// The fault, naming target, option, value, and what to write instead.
pub(crate) fn prepare(
    output: &ExportedOutput,
    subject: &Subject,
    writable: &Allowed,
) -> Result<PreparedExport, Box<Diagnostic>> {
    let plan = options::plan(output, subject)?;
    let path = plan.path();
    let mut prepared = PreparedExport { output: output.clone(), subject: subject.clone(), plan, place: None };
    if let Some(chown) = prepared.plan.chown() {
        let here = owner::in_namespace(chown).ok_or_else(|| {
            let text = format!("only root may give files to the user {} and the group {}", chown.uid, chown.gid);
            Box::new(prepared.fault("bake::export::chown", text).help("write your own numbers, or leave `chown` out"))
        })?;
        prepared.plan.set_chown(here);
    }
    if let Some(path) = path {
        prepared.place = Some(prepared.grant(&path, writable)?);
    }
    Ok(prepared)
}
