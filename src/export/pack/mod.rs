//! Layers to blobs: packed and compressed once, found again ever after.

mod layer;
mod stacks;

pub(crate) use layer::PackedLayer;
pub(crate) use stacks::{LayerFault, LayerStack, fetch_base, pack, pack_stacks, packed_layers};
