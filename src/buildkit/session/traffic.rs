//! Counters of what a session carried.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What a session has carried so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SentBytes {
    /// Bytes of file content sent to the daemon from folders.
    pub(crate) files: u64,
    /// How often the daemon has asked for a folder.
    pub(crate) syncs: u64,
    /// Bytes of blobs sent to the daemon.
    pub(crate) blobs_sent: u64,
    /// Bytes of blobs that the daemon sent.
    pub(crate) blobs_received: u64,
    /// Bytes of files that the daemon sent: archives, and files of folders.
    pub(crate) results_received: u64,
}

/// The same, while it is counted.
#[derive(Default)]
pub(super) struct Traffic {
    files: AtomicU64,
    syncs: AtomicU64,
    blobs_sent: AtomicU64,
    blobs_received: AtomicU64,
    results_received: AtomicU64,
}

impl Traffic {
    pub(super) fn add_file_bytes(&self, n: usize) {
        self.files.fetch_add(n as u64, Relaxed);
    }

    pub(super) fn add_sync(&self) {
        self.syncs.fetch_add(1, Relaxed);
    }

    pub(super) fn add_blob_sent(&self, n: usize) {
        self.blobs_sent.fetch_add(n as u64, Relaxed);
    }

    pub(super) fn add_blob_received(&self, n: usize) {
        self.blobs_received.fetch_add(n as u64, Relaxed);
    }

    pub(super) fn add_result_bytes(&self, n: usize) {
        self.results_received.fetch_add(n as u64, Relaxed);
    }

    pub(super) fn now(&self) -> SentBytes {
        SentBytes {
            files: self.files.load(Relaxed),
            syncs: self.syncs.load(Relaxed),
            blobs_sent: self.blobs_sent.load(Relaxed),
            blobs_received: self.blobs_received.load(Relaxed),
            results_received: self.results_received.load(Relaxed),
        }
    }
}
