//! `RUN --security`: how much a step may do.

use serde::{Deserialize, Serialize};

/// The privileges of a step, see <https://docs.docker.com/reference/dockerfile/#run---security>.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum SecurityMode {
    /// The capabilities and system calls that containers have by default.
    #[default]
    Sandbox,
    /// All capabilities of `bake`, no system call filter, nothing masked; asks for the entitlement `security.insecure`.
    Insecure,
}
