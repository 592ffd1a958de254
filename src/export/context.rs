//! What exporters work with (store, registry client, progress) and what they return.
//!
//! Pulling layers of base images is the engine's work: it comes in as [`BaseLayers`].

use std::{future::Future, pin::Pin, sync::Arc};

use serde_json::{Map, Value};

use super::built::LayerRef;
use crate::{
    grant::Allowed,
    objects::ObjectStores,
    oci::BaseLayer,
    registry::Client,
    report::{
        Diagnostic,
        event::{Sink, StepId},
    },
    store::Store,
};

/// A boxed future, as methods of a trait object return it.
pub(crate) type ExportFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Pulls layers of base images into the store when an exporter needs them.
pub(crate) trait BaseLayers: Send + Sync {
    /// Fetches the blob of a base layer; afterwards the store has it under its digest.
    fn blob<'a>(&'a self, layer: &'a BaseLayer) -> ExportFuture<'a, Result<(), Diagnostic>>;
    /// Unpacks layers, lowest first; afterwards the store has their snapshots.
    fn unpack<'a>(&'a self, layers: &'a [LayerRef]) -> ExportFuture<'a, Result<(), Diagnostic>>;
}

/// What exporters work with: store, clients of registries and object stores, progress, clock, and the paths that may be written.
#[derive(Clone)]
pub(crate) struct ExportContext {
    pub(crate) store: Store,
    pub(crate) client: Client,
    pub(crate) objects: ObjectStores,
    pub(crate) base: Arc<dyn BaseLayers>,
    /// Receives progress under the number `step`.
    pub(crate) sink: Sink,
    pub(crate) step: StepId,
    /// Seconds since 1970, for dates that nothing else determines.
    pub(crate) now: i64,
    /// What may be written on this machine.
    pub(crate) writable: Allowed,
}

/// What a release works with: where it sends images, the journals, and where it tells what became visible.
pub(crate) struct ReleaseContext {
    pub(crate) client: Client,
    pub(crate) store: Store,
    pub(crate) sink: Sink,
}

/// The outcome of one export: its entries in the metadata file, and its warnings.
#[derive(Clone, Debug, Default)]
pub(crate) struct ExportReceipt {
    /// Keys of the metadata file.
    pub(crate) metadata: Map<String, Value>,
    pub(crate) warnings: Vec<Diagnostic>,
    /// The size of the result: of an image its blobs and documents, of a tree what was written of it; 0 when it is not known.
    pub(crate) bytes: u64,
}

/// The text of an error and of its causes, outermost first; a cause that is already in the text is not repeated.
pub(super) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        next = cause.source();
    }
    text
}
