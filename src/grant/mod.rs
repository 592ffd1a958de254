//! Files of this machine that a definition names: the check of a path and its opening are one act.
//!
//! ```text
//! text of a path ─► resolve ─► Resolved (where it really is) ─► Allowed::read/write ─► GrantedRead, GrantedWrite ─► open
//! ```
//!
//! A granted path is absolute and has no symbolic link in it, and it is opened only in ways that follow none. So what is
//! opened is what was granted, whatever was written to the disk in between. Which paths a plan needs is decided in `plan`,
//! what to do when one is not allowed in `cli`.

mod allowed;
mod open;
mod resolve;

pub(crate) use allowed::{Allowed, Denied, GrantedRead, GrantedWrite};
pub(crate) use open::{ReadFault, read_file};
pub(crate) use resolve::{Resolved, resolve};
