//! Files of this machine that a definition names: the check of a path and its opening are one act.
//!
//! ```text
//! text of a path ─► resolve ─► ResolvedPath (where it really is) ─► Allowed::read/write ─► GrantedRead, GrantedWrite ─► open
//!                  past: the same in a state of the work tree that git has
//! ```
//!
//! A granted path is absolute and has no symbolic link in it, and it is opened only in ways that follow none. So what is
//! opened is what was granted, whatever was written to the disk in between. Which paths a plan needs is decided in `plan`,
//! what to do when one is not allowed in `cli`.

mod allowed;
mod open;
mod past;
mod resolve;
mod table;
mod work_tree;

pub(crate) use allowed::{Allowed, Denied, GrantedRead, GrantedWrite};
pub(crate) use open::{ReadFault, SpecialFile, open_beneath, open_real_dir, read_file, read_file_or_shell_pipe};
pub(crate) use past::{PastEntry, PastKind, PastTree};
pub(crate) use resolve::{ResolvedPath, resolve, resolve_in};
pub(crate) use table::HostPaths;
pub(crate) use work_tree::work_tree;
