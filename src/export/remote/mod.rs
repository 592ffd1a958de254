//! Exports of results that another engine makes: what it is asked for, and what becomes of its answer.
//!
//! ```text
//! form:  what is asked of the other engine, and with which options
//! image: documents that it left in the store or in a registry ─► an image; parts of several engines as one
//! stage: an image, a folder or a tar that has arrived ─► a staged output
//! ```

mod form;
mod image;
mod stage;

pub(crate) use form::RemoteForm;
pub(crate) use image::RemoteRoot;
pub(crate) use stage::{
    RemoteTree, stage_kept, stage_pushed, stage_remote_folder, stage_remote_image, stage_remote_tar,
};
