//! Layers to blobs: packed and compressed once, found again ever after.

mod layer;
mod pack;

pub(in crate::export) use layer::PackedLayer;
pub(in crate::export) use pack::{LayerFault, LayerStack, PackSettings, fetch_base, pack, pack_stacks};
