//! Hands results of builds to the user: image, registry, local, tar, oci, docker, cacheonly; and shared caches.
//!
//! ```text
//! request ─ options ─► prepare ─► PreparedExport                        before the build: the destination
//! PreparedExport + built ─ run ─► ExportReceipt                         after it
//!    pack         layers, packed and compressed once, as blobs
//!    assemble     config, manifest, index, attestations, cache config (pure)
//!    remember     receipts: known and still there means that nothing is written
//!    write        archive, layout, registry, load, folder, tar, cache; each also staged for a release
//! StagedExports ─ release ─► ExportReceipts                             staged outputs become visible together
//! what another engine made ─ remote ─► StagedExport                     a result that was not built here
//! cache ─► import                                                       shared caches, read before the build
//! ```
//!
//! Each line uses those above it, never one below. Nothing here decides about builds or runs one.

mod annotation;
mod assemble;
mod built;
mod cache;
mod context;
mod import;
mod options;
mod owner;
mod pack;
mod prepare;
mod release;
mod remember;
mod remote;
mod repository;
mod request;
mod run;
mod staged;
mod write;

pub(crate) use assemble::Imported as ImportedRecord;
pub(crate) use built::{
    BuildInfo, BuildInfoSource, BuildInfoSourceKind, BuiltImage, CacheRecord, ExportStep, LayerRef, Provenance, Sbom,
    SbomDocument,
};
pub(crate) use cache::{CacheFrom, CacheTo, NoCache};
pub(crate) use context::{BaseLayers, ExportContext, ExportFuture, ExportReceipt, ReleaseContext};
pub(crate) use import::{ImportFault, import_cache};
pub(crate) use pack::packed_layers;
pub(crate) use prepare::{PreparedExport, prepare};
pub(crate) use release::{PendingRelease, pending_releases, publish, recover};
pub(crate) use remote::{
    RemoteForm, RemoteRoot, RemoteTree, stage_kept, stage_pushed, stage_remote_folder, stage_remote_image,
    stage_remote_tar,
};
pub(crate) use repository::ImageRepository;
pub(crate) use request::{ExportedOutput, Subject};
pub(crate) use run::{export, stage};
pub(crate) use write::{JointExport, StagedExport, engine_answers, export_cache, joint_group, set_tag, tagged};
