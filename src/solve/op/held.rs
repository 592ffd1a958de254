//! A RUN step that is held for the user to look into: one that failed, as it was when its process ended, or one that is
//! about to run. A process of the user's choice runs in it, with the mounts, environment and user of the step.
//!
//! Nothing that it does reaches a snapshot, a record or the log of a step; cache mounts are the real ones.

use std::{
    os::fd::BorrowedFd,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    copy_into::{ArchiveUse, copy_into},
    error::FileError,
    exec::{ExecStep, Held, not_started, warning_of},
    moved,
};
use crate::{
    graph::Exec,
    report::Diagnostic,
    sandbox::{self, SandboxError},
    solve::{
        failure::{SolveFailure, store_fault},
        reads::layer_source,
    },
    store::Active,
};

/// The names of programs that read commands from their standard input.
const SHELLS: [&str; 8] = ["sh", "bash", "ash", "dash", "zsh", "ksh", "mksh", "fish"];

/// Where the first step of a run that fails is put; clones share it.
#[derive(Clone, Default)]
pub(crate) struct HeldSlot(Arc<Mutex<Option<HeldStep>>>);

impl HeldSlot {
    /// Takes the step out; `None` if none has failed.
    pub(crate) fn take(&self) -> Option<HeldStep> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Puts a step in, unless there is one already.
    pub(in crate::solve) fn put(&self, step: HeldStep) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(step);
    }
}

/// A RUN step that is held. Its files go away with it.
pub(crate) struct HeldStep {
    step: ExecStep,
    /// Bottom first.
    layers: Vec<PathBuf>,
    /// What the step has changed.
    active: Active,
}

/// Why no process could be started in a held step.
pub(crate) enum HeldFault {
    /// Its file system has no shell of this name.
    NoShell(String),
    Failed(Box<Diagnostic>),
    /// The user stopped it.
    Cancelled,
}

impl From<Diagnostic> for HeldFault {
    fn from(fault: Diagnostic) -> Self {
        Self::Failed(Box::new(fault))
    }
}

/// The process that is to run in a held step.
pub(crate) struct HeldProcess<'a> {
    /// Without any it is the shell of the step.
    pub(crate) args: Option<Vec<String>>,
    /// What it reads, and from where.
    pub(crate) stdin: sandbox::StepStdin,
    pub(crate) user: BorrowedFd<'a>,
    /// `TERM` of a process that has a terminal, unless the step has another.
    pub(crate) term: Option<String>,
}

impl HeldStep {
    /// Holds a step.
    pub(super) fn new(step: ExecStep, layers: Vec<PathBuf>, active: Active) -> Self {
        Self { step: step.without_view(), layers, active }
    }

    /// Holds a step as it is before it runs.
    pub(super) fn before(step: ExecStep) -> Result<Self, SolveFailure> {
        let (active, layers) = step.prepare()?;
        Ok(Self::new(step, layers, active))
    }

    /// The same step as it was before it ran.
    ///
    /// # Errors
    /// When the state directory cannot be written.
    pub(crate) fn unrun(self) -> Result<Self, Diagnostic> {
        Self::before(self.step).map_err(SolveFailure::into_diagnostic)
    }

    /// As progress shows it: `[web build 2/5] RUN make`.
    pub(crate) fn name(&self) -> &str {
        &self.step.name
    }

    /// The command of the step.
    pub(crate) fn command(&self) -> &[String] {
        &self.step.exec.args
    }

    /// Copies the whole file system of the step into the state directory, as plain files; the folder.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub(crate) fn keep(&self) -> Result<PathBuf, Diagnostic> {
        let store = &self.step.store;
        moved::make_whole(&self.active.fs(), &self.layers).map_err(FileError::into_diagnostic)?;
        let dir = store.tmp_dir().map_err(|error| store_fault(&error))?;
        let (files, about) = (dir.join("fs"), dir.join("step.txt"));
        let written = std::fs::create_dir(&files).and_then(|()| std::fs::write(about, self.described()));
        written.map_err(|error| {
            Diagnostic::error("bake::solve::keep", "the file system of the failed step cannot be kept").cause(&error)
        })?;
        let mut layers = self.layers.clone();
        layers.push(self.active.fs());
        let source = layer_source("the file system of the step", &layers)?;
        copy_into(&files, &source, "/", "/", ArchiveUse::Copy)?;
        let kept = store.keep_failed(&dir).map_err(|error| store_fault(&error))?;
        Ok(kept.join("fs"))
    }

    /// The step in words, without secrets.
    fn described(&self) -> String {
        let Exec { args, cwd, user, .. } = &self.step.exec;
        let text = format!(
            "step: {}\ncommand: {args:?}\nworking directory: {}\nuser: {}\n",
            self.step.name,
            if cwd.is_empty() { "/" } else { cwd },
            if user.is_empty() { "root" } else { user },
        );
        self.step.hidden.mask(&text).into_owned()
    }

    /// Runs a process in the step to its end; blocks. Returns its exit code, and what the user is to be told.
    ///
    /// # Errors
    /// When it could not be started, or was cancelled.
    pub(crate) fn run(
        &self,
        process: HeldProcess<'_>,
        output: &mut (dyn FnMut(sandbox::StepStream, &[u8]) + Send),
        cancel: &sandbox::StepCancel,
    ) -> Result<(i32, Vec<Diagnostic>), HeldFault> {
        let HeldProcess { args, stdin, user, term } = process;
        let shell = args.is_none().then(|| shell_of(&self.step.exec.args));
        // The kernel wants another directory for each mount.
        let work = self.step.store.tmp_dir().map_err(|error| store_fault(&error))?;
        let mut held = Held::default();
        let mut spec = self.step.spec(self.layers.clone(), self.active.fs(), work, &mut held)?;
        spec.stdin = stdin;
        if let Some(args) = args.or_else(|| shell.clone().map(|shell| vec![shell])) {
            spec.args = args;
        }
        if stdin == sandbox::StepStdin::Terminal
            && let Some(term) = term
            && !spec.env.iter().any(|(name, _)| name == "TERM")
        {
            spec.env.push(("TERM".to_owned(), term));
        }
        let sandbox = &self.step.runner.sandbox;
        let ended = sandbox.run_attached(&spec, user, output, cancel);
        let notice = sandbox.take_network_notice();
        drop(held);
        match (ended, shell) {
            (Ok(exit), _) => Ok((exit.code, warning_of(&exit, notice))),
            (Err(SandboxError::Cancelled), _) => Err(HeldFault::Cancelled),
            (Err(error), Some(shell)) if error.is_missing_program() => Err(HeldFault::NoShell(shell)),
            (Err(error), _) => Err(not_started(&error).into()),
        }
    }
}

/// The shell in which a command runs: its first word if that is one.
fn shell_of(args: &[String]) -> String {
    let is_shell = |program: &&String| {
        let name = program.rsplit('/').next().unwrap_or(program);
        SHELLS.contains(&name)
    };
    args.first().filter(is_shell).cloned().unwrap_or_else(|| "/bin/sh".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shell_is_that_of_the_step() {
        let shell = |args: &[&str]| shell_of(&args.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>());
        assert_eq!(shell(&["/bin/bash", "-o", "pipefail", "-c", "make"]), "/bin/bash");
        assert_eq!(shell(&["ash", "-c", "make"]), "ash");
        assert_eq!(shell(&["/usr/bin/make"]), "/bin/sh");
        assert_eq!(shell(&["/opt/sh/make"]), "/bin/sh");
    }
}
