//! Checks before anything is built: each output by itself, then all outputs of a plan together.
//!
//! Options are parsed in `options`; nothing is written here.

use std::{io, path::Path};

use rustix::io::Errno;

use super::{
    attest::Statements,
    options::{self, ArchiveDest, ExportPlan, ImageTo},
    request::{ExportedOutput, Subject},
};
use crate::{
    grant::{self, Allowed, GrantedWrite},
    report::Diagnostic,
};

/// An output that was checked before the build and can be run after it.
#[derive(Clone, Debug)]
pub(crate) struct PreparedExport {
    pub(crate) output: ExportedOutput,
    pub(crate) subject: Subject,
    pub(super) plan: ExportPlan,
    /// What is written on this machine, checked; `None` for standard output and for what is not written here.
    pub(super) place: Option<GrantedWrite>,
    /// Warnings, told with the outcome of the export.
    pub(crate) warnings: Vec<Diagnostic>,
}

impl PreparedExport {
    /// Whether the export changes something that others see: a push. Such exports wait for all builds of the plan.
    pub(crate) const fn publishes(&self) -> bool {
        matches!(self.plan, ExportPlan::Image(_, ImageTo::Registry { .. }))
    }

    /// Whether the export writes facts about its builds, so that the engine must collect them.
    pub(crate) fn states_provenance(&self) -> bool {
        self.plan_statements().is_some_and(|it| !it.is_empty())
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
    fn grant(&self, path: &Path, writable: &Allowed) -> Result<GrantedWrite, Diagnostic> {
        let code = "bake::export::dest";
        let found = grant::resolve(path, &self.subject.cwd)
            .map_err(|error| self.fault(code, format_args!("cannot find `{}`: {error}", path.display())))?;
        writable.write(found).map_err(|grant::Denied(path)| {
            let path = path.display();
            self.fault(code, format_args!("the destination leads to `{path}`, where it may not write"))
                .help(format!("if that is right, allow it: --allow=fs.write={path}"))
        })
    }

    /// The attestations that this export writes; `None` for an output that writes nothing.
    pub(super) fn plan_statements(&self) -> Option<&Statements> {
        match &self.plan {
            ExportPlan::Nothing => None,
            ExportPlan::Image(plan, _) => Some(&plan.statements),
            ExportPlan::Tree(plan, _) => Some(&plan.statements),
        }
    }

    /// `text` with the target and the output in front of it.
    pub(super) fn about(&self, text: &str) -> String {
        format!("target `{}`, output `{}`: {text}", self.subject.target, self.output.exporter)
    }

    /// An error about this export, at the place of its output.
    pub(super) fn fault(&self, code: &'static str, text: impl std::fmt::Display) -> Diagnostic {
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
pub(crate) fn prepare(
    output: &ExportedOutput,
    subject: &Subject,
    writable: &Allowed,
) -> Result<PreparedExport, Vec<Diagnostic>> {
    let (plan, warnings) = options::plan(output, subject)?;
    let path = plan.path();
    let mut prepared = PreparedExport { output: output.clone(), subject: subject.clone(), plan, place: None, warnings };
    if let Some(path) = path {
        prepared.place = Some(prepared.grant(&path, writable).map_err(|fault| vec![fault])?);
    }
    Ok(prepared)
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

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::{
        export::request::{Attestations, OutputOption},
        oci::Platform,
    };

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
            prepare(&output, &subject, &Allowed::default()).expect("a good output").publishes()
        };
        assert!(publishes("registry", None));
        assert!(publishes("image", Some("true")) && publishes("image", Some("")) && publishes("image", Some("1")));
        assert!(!publishes("image", None));
        assert!(!publishes("image", Some("0")) && !publishes("registry", Some("False")));
    }
}
