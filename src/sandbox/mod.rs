//! One process, isolated: `RUN`, and every other program that `bake` starts.
//!
//! ```text
//! Sandbox::run(spec) ─► a thread in the network namespace of the step, with a fresh pid namespace for its children
//!                         ─► /proc/self/exe __sandbox  (spec over its stdin, a socket)
//!                              namespaces ─► overlay root ─► pivot ─► mounts ─► user, limits, capabilities, seccomp
//!                              ─► exec: the helper becomes the command
//! ```
//!
//! Or, where the user prefers one, runc or crun in place of the helper: `runtime.rs`. Network namespaces come from a
//! pool: `network/`.
//!
//! Knows nothing of builds: a [`SandboxSpec`] names host directories and values only. Nothing here reads the environment.

mod agent;
mod cancel;
mod cgroup;
mod command;
mod console;
mod embedded;
mod error;
mod exec;
mod filter;
mod fsmount;
mod helper;
mod helper_main;
mod inside;
mod limits;
mod mounts;
mod namespace;
mod network;
mod processes;
mod program;
mod root;
mod run;
mod runtime;
mod runtime_helper;
mod spec;
mod stubs;
mod sys;
mod system;
#[cfg(test)]
mod tests;
mod user;
mod watch;

pub(crate) use cancel::StepCancel;
pub(crate) use cgroup::UnkeptLimit;
pub(crate) use command::command;
pub(crate) use error::SandboxError;
pub(crate) use helper_main::helper_main;
pub(crate) use mounts::make_skeleton;
pub(crate) use namespace::{NamespaceIds, enter_user_namespace, is_user_namespace, wait_for_ended_threads};
pub(crate) use network::{HostNetworkNotice, NetworkChoice};
pub(crate) use run::{DEFAULT_PIDS_LIMIT, Sandbox, SandboxOptions};
pub(crate) use runtime::Runtime;
pub(crate) use spec::{SandboxMount, SandboxMountKind, SandboxSpec, StepAgent, StepOwners, StepStdin, StepStream};
pub(crate) use sys::allocate_for_one_thread;
pub(crate) use user::ids_of_user;
pub(crate) use watch::Exit;
