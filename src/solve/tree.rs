//! The result of a vertex: a stack of layers, and what identifies it.

use serde::{Deserialize, Serialize};

use crate::{
    graph::{ImageLayer, LayerOrigin},
    oci::{Digest, digest::FieldHasher},
    store::SnapshotId,
};

/// A stack of layers, lowest first.
///
/// *Invariant:* equal `id` means equal content in everything that a later step may depend on. The snapshots of base
/// layers need not exist yet: they are pulled when something looks inside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct LayerTree {
    pub(crate) id: Digest,
    pub(crate) layers: Vec<TreeLayer>,
}

/// A tree, and whether something ran to make it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum SolvedTree {
    /// It was in the store; nothing ran.
    Cached(LayerTree),
    /// It was made just now.
    Made(LayerTree),
}

impl SolvedTree {
    /// The tree, wherever it came from.
    pub(crate) fn into_tree(self) -> LayerTree {
        match self {
            Self::Cached(tree) | Self::Made(tree) => tree,
        }
    }
}

/// One layer of a [`LayerTree`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct TreeLayer {
    pub(crate) snapshot: SnapshotId,
    /// When the step that made it ran, RFC 3339; empty for base layers, whose history says it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) created: String,
    /// Where it comes from, if we did not make it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) base: Option<TreeBase>,
}

/// A layer that was made elsewhere.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct TreeBase {
    pub(crate) layer: ImageLayer,
    pub(crate) origin: LayerOrigin,
}

impl LayerTree {
    /// The empty tree.
    pub(crate) fn scratch() -> Self {
        Self { id: FieldHasher::new("tree/scratch/1").finish(), layers: Vec::new() }
    }

    /// The tree of an image: known by its diff ids alone, whatever it is called and wherever it lies.
    pub(crate) fn of_image(image: &crate::graph::ImageOp) -> Self {
        let mut chain = FieldHasher::new("tree/image/1");
        let mut layers = Vec::with_capacity(image.layers.len());
        for layer in &image.layers {
            chain.digest(&layer.diff_id.0);
            layers.push(TreeLayer {
                // A layer may hard-link to files of the layers beneath it, so its snapshot is known by the chain.
                snapshot: SnapshotId(chain.clone().finish()),
                created: String::new(),
                base: Some(TreeBase { layer: layer.clone(), origin: image.origin.clone() }),
            });
        }
        if layers.is_empty() { Self::scratch() } else { Self { id: chain.finish(), layers } }
    }

    /// This tree with one more layer, made by us.
    pub(crate) fn with_layer(&self, id: Digest, created: String) -> Self {
        let mut layers = self.layers.clone();
        layers.push(TreeLayer { snapshot: SnapshotId(id), created, base: None });
        Self { id, layers }
    }

    /// The layers of `self`, then those of each of `uppers`, without looking at any of them.
    pub(crate) fn merged(&self, uppers: &[&Self]) -> Self {
        let mut hasher = FieldHasher::new("tree/merge/1");
        hasher.digest(&self.id);
        let mut layers = self.layers.clone();
        for upper in uppers {
            hasher.digest(&upper.id);
            layers.extend(upper.layers.iter().cloned());
        }
        Self { id: hasher.finish(), layers }
    }
}
