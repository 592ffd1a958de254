//! Layers to blobs: packed and compressed once, found again ever after.

mod layer;
mod pack;

pub(crate) use layer::PackedLayer;
pub(crate) use pack::{LayerFault, LayerStack, PackSettings, fetch_base, pack, pack_stacks};
