//! What runs processes: the sandbox, and the lowest layer that all roots share.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use super::failure::store_fault;
use crate::{layer::view::owners, report::Diagnostic, sandbox, store::Store};

/// The sandbox of a run, with what all its steps have in common.
pub(crate) struct Runner {
    pub(super) sandbox: sandbox::Sandbox,
    /// What becomes of the owners of files; the same for steps and for the layers that are written here.
    pub(super) owners: sandbox::StepOwners,
    /// The lowest layer of every root, made by the first step that needs it.
    skeleton: Mutex<Option<PathBuf>>,
}

impl Runner {
    /// A runner with these options; nothing is started yet.
    pub(crate) fn new(options: sandbox::SandboxOptions) -> Self {
        let owners = options.owners;
        if owners == sandbox::StepOwners::Recorded {
            owners::record();
        }
        Self { owners, sandbox: sandbox::Sandbox::new(options), skeleton: Mutex::default() }
    }

    /// The directory with the mount points that every root needs (`/proc`, `/dev`, …), made once in a run.
    ///
    /// # Errors
    /// When the state directory cannot be written.
    pub(super) fn skeleton(&self, store: &Store) -> Result<PathBuf, Diagnostic> {
        let mut made = self.skeleton.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(folder) = &*made {
            return Ok(folder.clone());
        }
        let folder = store.tmp_dir().map_err(|error| store_fault(&error))?;
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755))
            .and_then(|()| sandbox::make_skeleton(&folder))
            .map_err(|error| {
                Diagnostic::error("bake::solve::skeleton", "the sandbox cannot be prepared").cause(&error)
            })?;
        Ok(made.insert(folder).clone())
    }
}
