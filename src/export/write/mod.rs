//! Writes results where they are to go.
//!
//! ```text
//! image: job (blobs, names) ─► archive, layout, registry, load      tree: subjects ─► folder, tree_tar
//! archive, layout, tree_tar ─► dest (files made aside and renamed), `crate::archive` (headers)
//! tree_tar ─► sparse (which parts of a file are stored)
//! joint: several exports with `append` that write one archive or layout
//! each of them ─► stage: the same, made ready for a release
//! cache ─► cache_registry, cache_folder: joined with what is there
//! ```

mod archive;
mod cache;
mod cache_folder;
mod cache_objects;
mod cache_registry;
mod dest;
mod folder;
mod image;
mod job;
mod joint;
mod layout;
mod load;
mod member;
mod part;
mod received;
mod registry;
mod sparse;
mod stage;
mod tree;
mod tree_tar;

pub(crate) use cache::export_cache;
pub(super) use folder::{TEMPORARY, finish_folders, remove};
pub(super) use image::{export_image, pushed_record, received_is_pushed, stage_image, stage_received_image};
pub(super) use joint::JointMember;
pub(crate) use joint::{JointExport, joint_group};
pub(super) use layout::{INDEX_FILE, merge_layout};
pub(crate) use layout::{set_tag, tagged};
pub(crate) use load::engine_answers;
pub(super) use load::{ready as engine_is_ready, send as send_to_engine};
pub(super) use received::{stage_received_folder, stage_received_tar};
pub(crate) use stage::StagedExport;
pub(super) use stage::{ReleaseRecord, StagedStream, Stamped};
pub(super) use tree::{STRANGERS, export_tree, stage_tree};
