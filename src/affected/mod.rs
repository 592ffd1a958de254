//! Which targets of a definition can have another result than at an earlier revision: two evaluated and planned states of
//! one definition, the paths that differ between them, and what the builds read ─► the targets and why.
//!
//! ```text
//! plans, lowered builds of both states ─► compare ─► AffectedAnswer
//! paths that differ ─► change ────────────┘  └─ select: whether a read of a context can see a path
//! ```
//!
//! Pure: git is asked, files are read and links are looked up elsewhere (`cli`), Dockerfiles are lowered in `engine`.
//!
//! *Invariant:* what is not known counts as different. A target that is left out has the same definition, and its steps
//! read nothing that differs.

mod answer;
mod change;
mod compare;
mod definition;
mod reading;
mod select;

pub(crate) use answer::{
    AffectedAnswer, AffectedReason, AffectedTarget, FileReader, UncomparedSource, UnpinnedInput, UnpinnedKind,
};
pub(crate) use change::{ChangeIndex, ChangeStatus, PathChange};
pub(crate) use compare::{CompareInput, PlannedState, compare};
pub(crate) use reading::{BuildReading, ContextRead, DockerfileText, FolderOrigin, ReadSelection};
pub(crate) use select::FolderView;
