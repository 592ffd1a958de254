//! Cache records: a key and the tree that was made for it; in the store, and of shared caches that were imported.

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};

use crate::{
    oci::{Digest, digest::FieldHasher},
    solve::{
        failure::{SolveFailure, store_failure},
        tree::LayerTree,
    },
    store::{Store, Table},
};

/// The cache records that a run can find: those of the store, and those of shared caches.
pub(crate) struct CacheRecords {
    store: Store,
    /// Of shared caches, by key: read when the first step is looked up that the store does not know.
    imported: Mutex<Option<Shared<BoxFuture<'static, ImportedRecords>>>>,
    /// Held while a task of this process works on a key; other processes are kept out by a lock of the store.
    flights: Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<()>>>>,
}

/// The records of shared caches: the results of steps, by key.
pub(crate) type ImportedRecords = Arc<HashMap<Digest, LayerTree>>;

/// The key of a step. The two differ if an input comes from a shared cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StepKeys {
    /// By what its inputs are.
    pub(crate) own: Digest,
    /// By what shared caches call its inputs.
    pub(crate) shared: Digest,
}

/// A result that is known.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum KnownStep {
    /// Recorded by the own key of the step.
    Own(LayerTree),
    /// Found by what a shared cache says. The store keeps no record that it is the result of this step: only builds that
    /// are given the cache believe it.
    Shared(LayerTree),
}

impl CacheRecords {
    /// The records of a store, without any of shared caches.
    pub(crate) fn new(store: Store) -> Self {
        Self { store, imported: Mutex::default(), flights: Mutex::default() }
    }

    /// Has shared caches read by `read` when one of their records may be needed; a record of the store is preferred to them.
    pub(crate) fn import(&self, read: impl Future<Output = ImportedRecords> + Send + 'static) {
        *self.imported.lock().unwrap_or_else(PoisonError::into_inner) = Some(read.boxed().shared());
    }

    /// The records of shared caches, which are read now unless they were before.
    async fn imported(&self) -> ImportedRecords {
        let imported = self.imported.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match imported {
            Some(imported) => imported.await,
            None => ImportedRecords::default(),
        }
    }

    /// Finds the result of a step in the store or a shared cache: `None` unless its snapshot exists.
    ///
    /// *Cost:* one small file and one stat; the layers beneath are checked when a step reads them. Shared caches are asked
    /// only if the store has no record.
    pub(crate) async fn step(&self, keys: &StepKeys) -> Option<KnownStep> {
        if let Some(tree) = self.stored(&keys.own) {
            return Some(KnownStep::Own(tree));
        }
        let imported = self.imported().await.get(&keys.shared).cloned();
        let by_claim = || if keys.own == keys.shared { None } else { self.stored(&keys.shared) };
        imported.or_else(by_claim).map(KnownStep::Shared)
    }

    /// A record of the store whose snapshot is there.
    fn stored(&self, key: &Digest) -> Option<LayerTree> {
        self.store.get::<LayerTree>(Table::Vertex, key).filter(|tree| {
            tree.layers.last().is_some_and(|top| top.base.is_some() || self.store.has_snapshot(&top.snapshot))
        })
    }

    /// Finds the result of a whole build: `None` unless there is a record of it and all snapshots that `bake` made for
    /// it exist.
    pub(crate) async fn build(&self, key: &Digest) -> Option<LayerTree> {
        let is_there = |tree: &LayerTree| {
            tree.layers.iter().all(|layer| layer.base.is_some() || self.store.has_snapshot(&layer.snapshot))
        };
        let stored = |key: &Digest| self.store.get::<LayerTree>(Table::Build, key).filter(is_there);
        match stored(key) {
            Some(tree) => Some(tree),
            None => stored(&self.build_with_imports(key).await?),
        }
    }

    /// The key of a build whose result is made from these shared caches; `None` if there are none.
    async fn build_with_imports(&self, key: &Digest) -> Option<Digest> {
        let imported = self.imported().await;
        let mut all: Vec<(&Digest, &Digest)> = imported.iter().map(|(key, tree)| (key, &tree.id)).collect();
        all.sort_unstable();
        let mut hasher = FieldHasher::new("key/build/imports/1");
        hasher.digest(key);
        for (key, tree) in &all {
            hasher.digest(key).digest(tree);
        }
        (!all.is_empty()).then(|| hasher.finish())
    }

    /// Records the result of a step. Its snapshot must be complete: the record is believed.
    ///
    /// # Errors
    /// When the state directory cannot be written.
    pub(crate) fn record_step(&self, key: &Digest, tree: &LayerTree) -> Result<(), SolveFailure> {
        self.store.put(Table::Vertex, key, tree).map_err(|error| store_failure(&error))
    }

    /// Records the result of a whole build. One that is made from shared caches is found by builds with the same caches
    /// only: a cache that one build trusts must not decide about another.
    ///
    /// # Errors
    /// When the state directory cannot be written.
    pub(crate) async fn record_build(&self, key: &Digest, tree: &LayerTree) -> Result<(), SolveFailure> {
        let key = match tree.claimed {
            None => Some(*key),
            Some(_) => self.build_with_imports(key).await,
        };
        key.map_or(Ok(()), |key| self.store.put(Table::Build, &key, tree).map_err(|error| store_failure(&error)))
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

    #[tokio::test]
    async fn a_record_counts_only_with_its_snapshot_and_before_an_imported_one() {
        let tmp = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open(&tmp.path().join("store")).expect("a new store");
        let records = CacheRecords::new(store.clone());
        let (key, result) = (Digest::of(b"key"), Digest::of(b"result"));
        let tree = LayerTree::scratch().with_layer(result, "2026-01-01T00:00:00Z".to_owned());
        let keys = StepKeys { own: key, shared: key };
        assert_eq!(records.step(&keys).await, None);
        records.record_step(&key, &tree).expect("the store is writable");
        records.record_build(&key, &tree).await.expect("the store is writable");
        assert_eq!((records.step(&keys).await, records.build(&key).await), (None, None), "its snapshot is missing");
        let shared = LayerTree::scratch().with_layer(Digest::of(b"shared"), String::new());
        records.import(std::future::ready(Arc::new(HashMap::from([(key, shared.clone())]))));
        assert_eq!(records.step(&keys).await, Some(KnownStep::Shared(shared)));
        let active = store.prepare().expect("the store is writable");
        active.commit(&SnapshotId(result), SnapshotMeta { created: String::new() }).expect("the store is writable");
        // What the store knows is found without asking anybody.
        records.import(std::future::pending());
        let found = (records.step(&keys).await, records.build(&key).await);
        assert_eq!(found, (Some(KnownStep::Own(tree.clone())), Some(tree)));
    }

    #[tokio::test]
    async fn a_build_of_a_shared_cache_is_found_with_that_cache_only() {
        let tmp = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open(&tmp.path().join("store")).expect("a new store");
        let cache = |content: &[u8]| {
            let tree = LayerTree { claimed: Some(Digest::of(b"claimed")), id: Digest::of(content), layers: Vec::new() };
            let records = CacheRecords::new(store.clone());
            records.import(std::future::ready(Arc::new(HashMap::from([(Digest::of(b"step"), tree.clone())]))));
            (records, tree)
        };
        let (with, tree) = cache(b"one");
        let key = Digest::of(b"build");
        with.record_build(&key, &tree).await.expect("the store is writable");
        assert_eq!(with.build(&key).await, Some(tree));
        assert_eq!(cache(b"other").0.build(&key).await, None);
        assert_eq!(CacheRecords::new(store.clone()).build(&key).await, None);
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
