//! Writes results where they are to go.
//!
//! ```text
//! image: job (blobs, names) ─► archive, layout, registry, load      tree: subjects ─► folder, tree_tar
//! archive, layout, tree_tar ─► dest (files made aside and renamed), tar (headers)
//! ```

mod archive;
mod cache;
mod dest;
mod folder;
mod image;
mod job;
mod layout;
mod load;
mod member;
mod part;
mod registry;
mod tar;
mod tree;
mod tree_tar;

pub(crate) use cache::export_cache;
pub(super) use image::export_image;
pub(super) use tree::export_tree;
