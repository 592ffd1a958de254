//! What exporters work with (store, registry client, progress) and what they return.
//!
//! Pulling layers of base images is the engine's work: it comes in as [`BaseLayers`].

use std::{future::Future, pin::Pin, sync::Arc};

use serde_json::{Map, Value};

use super::built::{BaseLayer, LayerRef};
use crate::{
    grant::Allowed,
    registry::Client,
    report::{
        Diagnostic,
        event::{Sink, StepId},
    },
    store::Store,
};

/// A future that a trait object can return.
pub(crate) type ExportFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Brings layers of base images here when an exporter needs them.
pub(crate) trait BaseLayers: Send + Sync {
    /// The blob of a base layer, in the store under its digest afterwards.
    fn blob<'a>(&'a self, layer: &'a BaseLayer) -> ExportFuture<'a, Result<(), Diagnostic>>;
    /// The unpacked snapshots of these layers, in the store afterwards.
    fn unpack<'a>(&'a self, layers: &'a [LayerRef]) -> ExportFuture<'a, Result<(), Diagnostic>>;
}

/// What exporters work with.
#[derive(Clone)]
pub(crate) struct ExportContext {
    pub(crate) store: Store,
    pub(crate) client: Client,
    pub(crate) base: Arc<dyn BaseLayers>,
    /// Progress goes here under `step`.
    pub(crate) sink: Sink,
    pub(crate) step: StepId,
    /// Seconds since 1970, for dates that nothing else determines.
    pub(crate) now: i64,
    /// What may be written on this machine.
    pub(crate) writable: Allowed,
}

/// What was written.
#[derive(Clone, Debug, Default)]
pub(crate) struct ExportReceipt {
    /// Keys of the metadata file.
    pub(crate) metadata: Map<String, Value>,
    pub(crate) warnings: Vec<Diagnostic>,
}

/// An error with all that lie beneath it, none repeated.
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
