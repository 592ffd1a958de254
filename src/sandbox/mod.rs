//! One process, isolated: `RUN`, and every other program that `bake` starts.
//!
//! ```text
//! run(spec) ─► a thread with a fresh pid namespace ─► /proc/self/exe __sandbox  (spec over its stdin, a socket)
//!                                                       namespaces ─► overlay root ─► pivot ─► mounts ─► user, limits,
//!                                                       capabilities, seccomp ─► exec: the helper becomes the command
//! ```
//!
//! Or, where the user prefers one, runc or crun in place of the helper: `runtime.rs`.
//!
//! Knows nothing of builds: a [`Spec`] names host directories and values only. Nothing here reads the environment.

mod agent;
mod cgroup;
mod command;
mod error;
mod exec;
mod filter;
mod fsmount;
mod helper;
mod inside;
mod limits;
mod mounts;
mod namespace;
mod root;
mod run;
mod runtime;
mod spec;
mod stubs;
mod sys;
mod system;
#[cfg(test)]
mod tests;
mod user;

pub(crate) use command::command;
pub(crate) use error::SandboxError;
pub(crate) use helper::helper_main;
pub(crate) use mounts::make_skeleton;
pub(crate) use namespace::enter_user_namespace;
pub(crate) use run::{Exit, StepCancel, StepStream, run};
pub(crate) use runtime::Runtime;
pub(crate) use spec::{
    Rlimit, SandboxMount, SandboxMountKind, SandboxNetwork, SandboxResources, SandboxSecurity, Spec,
};
pub(crate) use sys::allocate_for_one_thread;
