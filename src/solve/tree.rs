//! The result of a vertex: a stack of layers, and what identifies it.

use serde::{Deserialize, Serialize};

use crate::{
    graph::ImageOp,
    oci::{BaseLayer, Digest, ImageLayer, digest::FieldHasher},
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
    /// For what comes from a shared cache, directly or through other steps: the identity that the cache gives it. It says
    /// nothing about the content, which the author of the cache chose, and finds steps in shared caches only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) claimed: Option<Digest>,
}

/// The tree of a solved vertex, and whether something ran to make it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum SolvedTree {
    /// It was in the store; nothing ran.
    Cached(LayerTree),
    /// It was made just now.
    Made(LayerTree),
}

impl SolvedTree {
    /// The tree, whether it was cached or made.
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
    /// When the step that made it ran, RFC 3339; empty for base layers, whose time is in the history of their image.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) created: String,
    /// Where it is pulled from, if `bake` did not make it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) base: Option<BaseLayer>,
}

impl LayerTree {
    /// The empty tree.
    pub(crate) fn scratch() -> Self {
        Self { id: FieldHasher::new("tree/scratch/1").finish(), layers: Vec::new(), claimed: None }
    }

    /// The tree of an image, identified by its diff ids alone, whatever it is called and wherever it lies.
    pub(crate) fn of_image(image: &ImageOp) -> Self {
        let ImageOp { reference: _, manifest: _, origin, layers: image_layers } = image;
        let mut chain = FieldHasher::new("tree/image/1");
        let mut layers = Vec::with_capacity(image_layers.len());
        for layer in image_layers {
            let ImageLayer { diff_id, descriptor: _ } = layer;
            chain.digest(&diff_id.0);
            layers.push(TreeLayer {
                // A layer may hard-link to files of the layers beneath it, so its snapshot is known by the chain.
                snapshot: SnapshotId(chain.clone().finish()),
                created: String::new(),
                base: Some(BaseLayer { layer: layer.clone(), origin: origin.clone() }),
            });
        }
        if layers.is_empty() { Self::scratch() } else { Self { id: chain.finish(), layers, claimed: None } }
    }

    /// This tree with one more layer, made by `bake` at `created` (RFC 3339). `id` is the identity of the whole result and
    /// the name of the snapshot of the new layer.
    pub(crate) fn with_layer(&self, id: Digest, created: String) -> Self {
        let mut layers = self.layers.clone();
        layers.push(TreeLayer { snapshot: SnapshotId(id), created, base: None });
        Self { id, layers, claimed: None }
    }

    /// The identity by which shared caches know it.
    pub(crate) fn shared_id(&self) -> &Digest {
        self.claimed.as_ref().unwrap_or(&self.id)
    }

    /// Stacks the layers of `self` and then those of each of `uppers` (`COPY --link`), without looking at any of them. The
    /// caller may put other layers in the place of those of `uppers`, if they follow from these trees alone.
    pub(crate) fn merged(&self, uppers: &[&Self]) -> Self {
        let identity = |of: fn(&Self) -> &Digest| {
            let mut hasher = FieldHasher::new("tree/merge/2");
            hasher.digest(of(self));
            for upper in uppers {
                hasher.digest(of(upper));
            }
            hasher.finish()
        };
        let is_claimed = self.claimed.is_some() || uppers.iter().any(|upper| upper.claimed.is_some());
        let upper_layers = uppers.iter().flat_map(|upper| upper.layers.iter().cloned());
        Self {
            id: identity(|tree| &tree.id),
            layers: self.layers.iter().cloned().chain(upper_layers).collect(),
            claimed: is_claimed.then(|| identity(Self::shared_id)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        graph::ImageOp,
        oci::{Descriptor, DiffId, LayerOrigin},
    };

    fn image(reference: &str, diff_ids: &[&[u8]]) -> ImageOp {
        let layer = |content: &&[u8]| {
            let text = format!(r#"{{"mediaType":"a/b","size":1,"digest":"{}"}}"#, Digest::of(reference.as_bytes()));
            let descriptor: Descriptor = serde_json::from_str(&text).expect("it is a descriptor");
            ImageLayer { diff_id: DiffId(Digest::of(content)), descriptor }
        };
        ImageOp {
            reference: reference.to_owned(),
            manifest: Digest::of(reference.as_bytes()),
            origin: LayerOrigin::Layout { folder: reference.into() },
            layers: diff_ids.iter().map(layer).collect(),
        }
    }

    #[test]
    fn an_image_is_known_by_its_diff_ids_and_a_layer_by_all_below_it() {
        let one = LayerTree::of_image(&image("one", &[b"a", b"b"]));
        assert_eq!(LayerTree::of_image(&image("other", &[b"a", b"b"])).id, one.id);
        let turned = LayerTree::of_image(&image("one", &[b"b", b"a"]));
        assert_ne!(turned.id, one.id);
        assert!(turned.layers.iter().all(|layer| one.layers.iter().all(|other| layer.snapshot != other.snapshot)));
        assert_eq!(LayerTree::of_image(&image("empty", &[])), LayerTree::scratch());
    }

    #[test]
    fn merging_keeps_the_layers_and_depends_on_their_order() {
        let step = |name: &[u8]| LayerTree::scratch().with_layer(Digest::of(name), String::new());
        let (a, b) = (step(b"a"), step(b"b"));
        let merged = a.merged(&[&b]);
        assert_eq!(merged.layers, [a.layers.clone(), b.layers.clone()].concat());
        assert_ne!(merged.id, b.merged(&[&a]).id);
    }
}
