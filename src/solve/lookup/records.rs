//! Cache records: a key and the tree that was made for it; in the store, and of shared caches that were imported.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    oci::Digest,
    solve::{
        failure::{SolveFailure, store_failure},
        tree::LayerTree,
    },
    store::{Store, Table},
};

/// The records that a run can find.
pub(crate) struct CacheRecords {
    store: Store,
    /// Of shared caches, by key.
    imported: Mutex<HashMap<Digest, LayerTree>>,
    /// Held while a task of this process works on a key; other processes are kept out by a lock of the store.
    flights: Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<()>>>>,
}

impl CacheRecords {
    /// The records of a store.
    pub(crate) fn new(store: Store) -> Self {
        Self { store, imported: Mutex::default(), flights: Mutex::default() }
    }

    /// Adds results of shared caches; a record of the store is preferred to them.
    pub(crate) fn import(&self, known: HashMap<Digest, LayerTree>) {
        self.imported.lock().unwrap_or_else(PoisonError::into_inner).extend(known);
    }

    /// The result of a step, if there is a record of it and its snapshot is there.
    ///
    /// *Cost:* one small file and one stat; the layers beneath are checked when a step reads them.
    pub(crate) fn step(&self, key: &Digest) -> Option<LayerTree> {
        let stored = self.store.get::<LayerTree>(Table::Vertex, key).filter(|tree| {
            tree.layers.last().is_some_and(|top| top.base.is_some() || self.store.has_snapshot(&top.snapshot))
        });
        stored.or_else(|| self.imported.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned())
    }

    /// The result of a whole build, if there is a record of it and all snapshots that `bake` made for it are there.
    pub(crate) fn build(&self, key: &Digest) -> Option<LayerTree> {
        let is_there = |tree: &LayerTree| {
            tree.layers.iter().all(|layer| layer.base.is_some() || self.store.has_snapshot(&layer.snapshot))
        };
        self.store.get::<LayerTree>(Table::Build, key).filter(is_there)
    }

    /// Records the result of a step. Its snapshot must be complete: the record is believed.
    ///
    /// # Errors
    /// When the state folder cannot be written.
    pub(crate) fn record_step(&self, key: &Digest, tree: &LayerTree) -> Result<(), SolveFailure> {
        self.store.put(Table::Vertex, key, tree).map_err(|error| store_failure(&error))
    }

    /// Records the result of a whole build.
    ///
    /// # Errors
    /// When the state folder cannot be written.
    pub(crate) fn record_build(&self, key: &Digest, tree: &LayerTree) -> Result<(), SolveFailure> {
        self.store.put(Table::Build, key, tree).map_err(|error| store_failure(&error))
    }

    /// The mutex of a key: its holder is the only task of this process that works on the key.
    pub(crate) fn flight(&self, key: &Digest) -> Arc<tokio::sync::Mutex<()>> {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        flights.entry(*key).or_default().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{SnapshotId, SnapshotMeta};

    #[test]
    fn a_record_counts_only_with_its_snapshot_and_before_an_imported_one() {
        let tmp = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open(&tmp.path().join("store")).expect("a new store");
        let records = CacheRecords::new(store.clone());
        let (key, result) = (Digest::of(b"key"), Digest::of(b"result"));
        let tree = LayerTree::scratch().with_layer(result, "2026-01-01T00:00:00Z".to_owned());
        assert_eq!(records.step(&key), None);
        records.record_step(&key, &tree).expect("the store is writable");
        records.record_build(&key, &tree).expect("the store is writable");
        assert_eq!((records.step(&key), records.build(&key)), (None, None), "its snapshot is missing");
        let shared = LayerTree::scratch().with_layer(Digest::of(b"shared"), String::new());
        records.import(HashMap::from([(key, shared.clone())]));
        assert_eq!(records.step(&key), Some(shared));
        let active = store.prepare().expect("the store is writable");
        active.commit(&SnapshotId(result), SnapshotMeta { created: String::new() }).expect("the store is writable");
        assert_eq!((records.step(&key), records.build(&key)), (Some(tree.clone()), Some(tree)));
    }

    #[tokio::test]
    async fn one_key_is_worked_on_by_one_task() {
        let tmp = tempfile::tempdir().expect("a temporary folder");
        let records = CacheRecords::new(Store::open(&tmp.path().join("store")).expect("a new store"));
        let (one, other) = (Digest::of(b"one"), Digest::of(b"other"));
        let (first, second, third) = (records.flight(&one), records.flight(&one), records.flight(&other));
        let held = first.lock().await;
        assert!(second.try_lock().is_err());
        assert!(third.try_lock().is_ok());
        drop(held);
        assert!(second.try_lock().is_ok());
    }
}
