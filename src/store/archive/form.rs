//! The form of the archive: its version, its head, what stands before each tree, which records it has. How members are named: see
//! the head of the folder.

use serde::{Deserialize, Serialize};

use crate::{
    oci::Digest,
    store::{record::Table, snapshot::SnapshotMeta},
};

/// The version of the form. A later one is refused, and an earlier one read as long as this page says how.
pub(super) const VERSION: u32 = 1;
pub(super) const HEAD: &str = "bake-store";

/// The first member.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ArchiveHead {
    pub(super) version: u32,
    /// What made the trees: owners, and marks of overlays, are in a form that only its like reads.
    pub(super) maker: String,
}

/// What comes before the tree of a snapshot.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ArchivedSnapshot {
    #[serde(flatten)]
    pub(super) meta: SnapshotMeta,
    /// The digest of the tree.
    pub(super) content: Digest,
}

/// The tables whose records mean the same on every machine.
pub(super) const TABLES: [Table; 7] =
    [Table::Build, Table::Vertex, Table::Blob, Table::Http, Table::Image, Table::Step, Table::Files];
