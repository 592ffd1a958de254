//! Releases: what was staged becomes visible, all of it or, after a failure, as far as the next run can go on from.
//!
//! ```text
//! publish: StagedExports ─► journal ─► each item ─► receipts; the journal ends
//! recover: journals of dead processes ─► the items that are left
//! pending: journals of dead processes ─► what is left; given up
//!    item    one item: a tag, an image for a container engine, or by place
//!    place   a file gets its name, a folder its files
//! ```
//!
//! The journal is the point of no return: before it nothing has changed and what was staged is taken away; after it
//! everything will be made visible, by this process or by the next one with the same state directory. Several names cannot
//! change at once: in between, some are new and some old, and the journal says which.
//!
//! Nothing is synced before the journal counts: a release survives its process, not a loss of power. A journal of an earlier
//! boot therefore publishes no files; they are reported.

mod item;
mod pending;
mod place;
mod publish;
mod recover;

pub(crate) use pending::{PendingRelease, pending_releases};
pub(crate) use publish::publish;
pub(crate) use recover::recover;
