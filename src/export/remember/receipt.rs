//! Receipts: for one key (what is written, how, where to) how the destination can be recognised.

use std::{collections::HashSet, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{fingerprint::FileMark, stamp::FileStamp};
use crate::{
    export::{built::BuiltImage, prepare::PreparedExport},
    oci::{Digest, digest::FieldHasher},
    store::{Store, Table},
};

/// One export, remembered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct StoredReceipt {
    /// Of the file, or of `index.json` of a layout.
    pub(crate) stamp: Option<FileStamp>,
    /// Over a folder.
    pub(crate) fingerprint: Option<Digest>,
    /// Blobs of a layout, with their sizes.
    pub(crate) blobs: Vec<(Digest, u64)>,
    pub(crate) bytes: u64,
    pub(crate) metadata: Map<String, Value>,
}

/// The key of an export: its options, its names, the contents, and facts that go into attestations.
pub(crate) fn key(prepared: &PreparedExport, builds: &[BuiltImage], place: &Path) -> Digest {
    let mut hasher = FieldHasher::new("receipt/1");
    hasher.text(&prepared.output.exporter);
    let mut options: Vec<(&str, &str)> =
        prepared.output.options.iter().map(|it| (it.key.as_str(), it.value.as_str())).collect();
    options.sort_unstable();
    options.dedup();
    hasher.number(options.len() as u64);
    for (name, value) in options {
        hasher.text(name).text(value);
    }
    let subject = &prepared.subject;
    hasher.number(subject.tags.len() as u64);
    subject.tags.iter().for_each(|tag| {
        hasher.text(tag);
    });
    hasher.number(subject.annotations.len() as u64);
    subject.annotations.iter().for_each(|(text, _)| {
        hasher.text(text);
    });
    hasher.text(&format!("{:?}", prepared.plan_statements())).number(u64::from(subject.always_index));
    hasher.number(builds.len() as u64);
    for build in builds {
        hasher.text(&build.platform.to_string()).digest(&build.content);
        hasher.optional(build.epoch.map(|it| it.to_string()).as_deref());
        if let Some(records) = &build.inline_cache {
            hasher.text(&format!("{records:?}"));
        }
        if let Some(facts) = &build.provenance {
            // All but the times.
            let facts = (&facts.config_uri, &facts.config_digest, &facts.args, &facts.secrets, &facts.materials);
            hasher.text(&format!("{facts:?}"));
        }
    }
    hasher.bytes(std::os::unix::ffi::OsStrExt::as_bytes(place.as_os_str()));
    hasher.finish()
}

/// The receipt of an earlier export with this key.
pub(crate) fn find(store: &Store, key: &Digest) -> Option<StoredReceipt> {
    store.get(Table::Receipt, key)
}

/// Records a receipt. Failing to is no fault: the next export writes again.
pub(crate) fn keep(store: &Store, key: &Digest, receipt: &StoredReceipt) {
    store.put(Table::Receipt, key, receipt).ok();
}

/// Marks of the files that an earlier export wrote into a folder.
pub(crate) fn marks(store: &Store, folder: &Path) -> HashSet<FileMark> {
    let text: String = store.get(Table::Receipt, &marks_key(folder)).unwrap_or_default();
    let bytes = STANDARD_NO_PAD.decode(text).unwrap_or_default();
    bytes.chunks_exact(16).filter_map(|it| it.try_into().ok()).collect()
}

/// Records the marks of the files that an export wrote into a folder.
pub(crate) fn keep_marks(store: &Store, folder: &Path, marks: &[FileMark]) {
    let text = STANDARD_NO_PAD.encode(marks.concat());
    store.put(Table::Receipt, &marks_key(folder), &text).ok();
}

fn marks_key(folder: &Path) -> Digest {
    let mut hasher = FieldHasher::new("marks/1");
    hasher.bytes(std::os::unix::ffi::OsStrExt::as_bytes(folder.as_os_str()));
    hasher.finish()
}
