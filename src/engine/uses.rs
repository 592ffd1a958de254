//! What the layers and blobs in the state directory are for: what made them, and the builds that have them. Read from the
//! records for `bake du`; nothing is decided by it.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::{
    export::packed_layers,
    oci::{Digest, layer::LayerOrigin},
    solve::{
        explain::memory::{StepMaker, makers},
        tree::LayerTree,
    },
    store::{Store, Table},
};

/// What one layer, packed or not, is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LayerUse {
    /// The instruction, as in `RUN make`, or where it was pulled from; empty if that is not known any more.
    pub(crate) made_by: String,
    /// How many builds have it, each with a definition of its own.
    pub(crate) n_builds: usize,
    /// The targets of these builds whose own last step has run here (others have found all in the cache), and the one that it
    /// was made for.
    pub(crate) targets: BTreeSet<String>,
}

/// What the layers in a store are for, by the digits of their names: those of a snapshot, or of a blob.
///
/// *Cost:* reads all records of builds, steps and packed layers.
pub(crate) fn layer_uses(store: &Store) -> HashMap<String, LayerUse> {
    let makers = makers(store);
    let mut uses: HashMap<String, LayerUse> = HashMap::new();
    // One build has several records where a shared cache knows it by another key.
    let mut known: HashSet<Digest> = HashSet::new();
    for tree in store.records::<LayerTree>(Table::Build) {
        if !known.insert(tree.id) {
            continue;
        }
        let target = target_of(&tree, &makers);
        for layer in &tree.layers {
            let mut names = vec![layer.snapshot.0.hex()];
            let digest = layer.base.as_ref().map(|base| base.layer.descriptor.digest().digest().to_owned());
            names.extend(digest);
            for name in names {
                let found = uses.entry(name).or_default();
                found.n_builds += 1;
                found.targets.extend(target.map(str::to_owned));
                if let Some(base) = &layer.base {
                    found.made_by = format!("pulled from {}", place(&base.origin));
                }
            }
        }
    }
    for (name, maker) in makers {
        let found = uses.entry(name).or_default();
        found.made_by = maker.text;
        // A stage that is only copied from is a layer of no build.
        found.targets.insert(maker.target);
    }
    for (blob, layer) in packed_layers(store) {
        if let Some(of_layer) = uses.get(&layer).cloned() {
            uses.insert(blob.hex(), of_layer);
        }
    }
    uses
}

/// The target for which the last step of a build has run that is known.
fn target_of<'a>(tree: &LayerTree, makers: &'a HashMap<String, StepMaker>) -> Option<&'a str> {
    let names = std::iter::once(tree.id.hex()).chain(tree.layers.iter().rev().map(|layer| layer.snapshot.0.hex()));
    names.into_iter().find_map(|name| makers.get(&name)).map(|maker| &*maker.target)
}

fn place(origin: &LayerOrigin) -> String {
    match origin {
        LayerOrigin::Registry { domain, path } => format!("{domain}/{path}"),
        LayerOrigin::Layout { folder } => folder.display().to_string(),
        LayerOrigin::Objects { place, .. } => place.to_string(),
    }
}
