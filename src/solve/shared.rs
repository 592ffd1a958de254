//! Which shared caches of a run may be used: one whose layer cannot be had is left out, and the run starts over without it.
//!
//! Lives longer than one preparation of the engine. Reading caches is the work of `engine`, their records are in `lookup`.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use super::failure::SolveFailure;
use crate::{
    oci::{BaseLayer, LayerOrigin},
    report::{
        Diagnostic,
        event::{Event, Sink},
    },
};

/// The shared caches of a run, by where their layers are. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedCaches(Arc<Mutex<CacheOrigins>>);

#[derive(Debug, Default)]
struct CacheOrigins {
    /// Records of these were read.
    used: HashSet<LayerOrigin>,
    left_out: HashSet<LayerOrigin>,
}

impl SharedCaches {
    /// Notes that the records of a cache are used, and returns whether they may be.
    pub(crate) fn admits(&self, origin: &LayerOrigin) -> bool {
        let mut origins = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let may_be = !origins.left_out.contains(origin);
        if may_be {
            origins.used.insert(origin.clone());
        }
        may_be
    }

    /// The failure of getting a layer. If it is one of a shared cache, the cache is left out from now on, which is told to
    /// `sink`, and solving anew goes on without it.
    pub(super) fn failed(&self, base: &BaseLayer, failure: SolveFailure, sink: &Sink) -> SolveFailure {
        let SolveFailure::Failed(fault) = failure else { return failure };
        let mut origins = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !origins.used.remove(&base.origin) {
            return SolveFailure::Failed(fault);
        }
        origins.left_out.insert(base.origin.clone());
        drop(origins);
        let text = format!(
            "a shared cache is left out, and what it has is built: its layer {} cannot be used",
            base.layer.descriptor.digest()
        );
        let with_causes = |mut told: Diagnostic| {
            told.causes.extend(fault.causes.iter().cloned());
            Arc::new(told)
        };
        sink(Event::Warning(with_causes(Diagnostic::warning("bake::solve::shared_layer", text.clone()))));
        SolveFailure::SnapshotGone(with_causes(Diagnostic::error("bake::solve::shared_layer", text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{Descriptor, DiffId, Digest, ImageLayer};

    #[test]
    fn only_the_cache_of_a_lost_layer_is_left_out_and_only_once() {
        let text = format!(r#"{{"mediaType":"a/b","size":1,"digest":"{}"}}"#, Digest::of(b"blob"));
        let descriptor: Descriptor = serde_json::from_str(&text).expect("it is a descriptor");
        let at = |folder: &str| LayerOrigin::Layout { folder: folder.into() };
        let layer = ImageLayer { diff_id: DiffId(Digest::of(b"tar")), descriptor };
        let base = |folder: &str| BaseLayer { layer: layer.clone(), origin: at(folder) };
        let fault = || SolveFailure::from(Diagnostic::error("bake::test", "gone"));
        let (caches, sink): (_, Sink) = (SharedCaches::default(), Arc::new(|_| ()));
        assert!(caches.admits(&at("a")) && caches.admits(&at("b")));
        assert!(matches!(caches.failed(&base("image"), fault(), &sink), SolveFailure::Failed(_)));
        assert!(matches!(caches.failed(&base("a"), SolveFailure::Cancelled, &sink), SolveFailure::Cancelled));
        assert!(matches!(caches.failed(&base("a"), fault(), &sink), SolveFailure::SnapshotGone(_)));
        assert!(!caches.admits(&at("a")) && caches.admits(&at("b")));
        assert!(matches!(caches.failed(&base("a"), fault(), &sink), SolveFailure::Failed(_)));
    }
}
