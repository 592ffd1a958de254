//! What runs processes: the sandbox runtime, and the lowest layer that all roots share.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use super::failure::store_fault;
use crate::{report::Diagnostic, sandbox, store::Store};

/// The sandbox runtime of a run, with what its steps have in common.
pub(crate) struct Runner {
    pub(super) runtime: sandbox::Runtime,
    /// The lowest layer of every root, made by the first step that needs it.
    skeleton: Mutex<Option<PathBuf>>,
}

impl Runner {
    /// Runs steps with `runtime`.
    pub(crate) fn new(runtime: sandbox::Runtime) -> Self {
        Self { runtime, skeleton: Mutex::default() }
    }

    /// A folder with the mount points that every root needs (`/proc`, `/dev`, …), made once in a run.
    ///
    /// # Errors
    /// When the state folder cannot be written.
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
