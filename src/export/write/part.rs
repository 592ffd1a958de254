//! The tree of one platform, as it is written into a folder or a tar.

use crate::layer::view::LayerView;

/// The file tree of one platform, and files to put beside its entries.
pub(super) struct TreePart {
    pub(super) view: LayerView,
    /// The tree of the base image, when `view` has only what was added to it.
    pub(super) base: Option<LayerView>,
    /// Folder of the platform, when each has its own.
    pub(super) folder: Option<String>,
    pub(super) platform: String,
    pub(super) epoch: Option<i64>,
    pub(super) extra: Vec<(String, Vec<u8>)>,
}
