//! Receipts: for one key (what is written, how, where to) how the destination can be recognised.

use std::{
    collections::HashSet,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use super::{fingerprint::FileMark, stamp::FileStamp};
use crate::{
    export::{
        built::{BuiltImage, Provenance},
        prepare::PreparedExport,
        request::Subject,
    },
    oci::{Digest, digest::FieldHasher, key::KeyField},
    spec::attest::ProvenanceMode,
    store::{Store, Table},
};

/// The stored record of one export: how its destination is recognised, and its entries in the metadata file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct StoredReceipt {
    /// Of the file, or of `index.json` of a layout.
    pub(crate) stamp: Option<FileStamp>,
    /// Of a folder.
    pub(crate) fingerprint: Option<Digest>,
    /// Blobs of a layout, with their sizes; of a push, its root alone.
    pub(crate) blobs: Vec<(Digest, u64)>,
    pub(crate) bytes: u64,
    pub(crate) metadata: Map<String, Value>,
    /// What was made harmless in a folder.
    pub(crate) dropped: Option<DroppedFiles>,
}

/// Device nodes that were not made and files that lost bits or capabilities, in one folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DroppedFiles {
    pub(crate) count: u64,
    /// The first of their paths in the order of bytes, relative to the folder.
    pub(crate) first: PathBuf,
}

/// The key of an export: what is made and how, its names, the contents, and the facts that its attestations state.
pub(crate) fn key(prepared: &PreparedExport, builds: &[BuiltImage], place: &Path) -> Digest {
    // The plan is made of the output; the place is an argument.
    let PreparedExport { output: _, subject, plan, place: _ } = prepared;
    let Subject {
        target: _,
        tags,
        // The plan has those that count.
        annotations: _,
        attestations: _,
        // The plan has what comes of it.
        multi_platform: _,
        // The place is absolute.
        cwd: _,
        // It is put into the metadata after each export, whether something was written or not.
        metadata_provenance: _,
    } = subject;
    let mut hasher = FieldHasher::new("receipt/4");
    (plan, tags).add_to(&mut hasher);
    builds.len().add_to(&mut hasher);
    for build in builds {
        let BuiltImage {
            platform,
            content,
            epoch,
            inline_cache,
            provenance,
            build_info,
            sboms,
            // The content is the identity of these.
            config: _,
            steps: _,
            layers: _,
            base_layers: _,
        } = build;
        (platform, content, epoch).add_to(&mut hasher);
        inline_cache.add_to(&mut hasher);
        if let (Some(options), Some(facts)) = (prepared.provenance(), provenance) {
            add_facts(&mut hasher, options.mode, facts);
        }
        if let Some(options) = prepared.sbom() {
            sboms.get(&options.id()).map(|sbom| sbom.id).add_to(&mut hasher);
        }
        build_info.as_ref().filter(|_| prepared.states_build_info()).add_to(&mut hasher);
    }
    hasher.bytes(std::os::unix::ffi::OsStrExt::as_bytes(place.as_os_str()));
    hasher.finish()
}

/// The key of an export of an image that another engine has made, known by its root.
pub(crate) fn key_of_root(prepared: &PreparedExport, root: &Digest, place: &Path) -> Digest {
    let mut hasher = FieldHasher::new("receipt-of-root/1");
    (key(prepared, &[], place), root).add_to(&mut hasher);
    hasher.finish()
}

/// Adds what provenance states about a build, but for the times of the build: they change with every run.
fn add_facts(hasher: &mut FieldHasher, mode: ProvenanceMode, facts: &Provenance) {
    let Provenance {
        config_uri,
        config_digest,
        config_path,
        args,
        secrets,
        ssh,
        locals,
        materials,
        complete,
        hermetic,
        source,
        vcs,
        started: _,
        finished: _,
        graph,
    } = facts;
    (config_uri, config_digest, config_path).add_to(hasher);
    (locals, materials, vcs).add_to(hasher);
    (args, complete, hermetic).add_to(hasher);
    match mode {
        // These are not stated.
        ProvenanceMode::Min => (),
        ProvenanceMode::Max => {
            (secrets, ssh).add_to(hasher);
            source.is_some().add_to(hasher);
            if let Some((name, text)) = source {
                hasher.text(name).bytes(text);
            }
            graph.len().add_to(hasher);
            for step in graph {
                hasher.text(&step.to_string());
            }
        }
    }
}

/// Reads the receipt of an earlier export with this key; `None` if there is none.
pub(crate) fn find(store: &Store, key: &Digest) -> Option<StoredReceipt> {
    PlacedRecord::load(store, key)
}

/// Records the receipt of an export to `place`. Failing to is no fault: the next export writes again.
pub(crate) fn keep(store: &Store, key: &Digest, place: &Path, receipt: StoredReceipt) {
    PlacedRecord::save(store, key, place, receipt);
}

/// Records the receipt of a push. The registry is asked whether it holds, whatever happened to this machine since.
pub(crate) fn keep_pushed(store: &Store, key: &Digest, receipt: StoredReceipt) {
    PlacedRecord::save(store, key, &store.blob_path(key), receipt);
}

/// Marks of the files that an earlier export wrote into a folder.
pub(crate) fn marks(store: &Store, folder: &Path) -> HashSet<FileMark> {
    let text: String = PlacedRecord::load(store, &marks_key(folder)).unwrap_or_default();
    let bytes = STANDARD_NO_PAD.decode(text).unwrap_or_default();
    bytes.chunks_exact(16).filter_map(|it| it.try_into().ok()).collect()
}

/// Records the marks of the files that an export wrote into a folder.
pub(crate) fn keep_marks(store: &Store, folder: &Path, marks: &[FileMark]) {
    PlacedRecord::save(store, &marks_key(folder), folder, STANDARD_NO_PAD.encode(marks.concat()));
}

/// A record about files outside the store.
///
/// Exported files are not synced: after a power loss one may have its name, size and times and not its bytes. The store
/// believes a record of an earlier boot when a `syncfs` of its own file system followed; for files on another file system
/// that says nothing, so about those only records of this boot count.
#[derive(Serialize, Deserialize)]
struct PlacedRecord<T> {
    /// `/proc/sys/kernel/random/boot_id`; empty if there is none.
    boot: String,
    /// The files lie on the file system of the store.
    beside_store: bool,
    record: T,
}

impl<T: Serialize + DeserializeOwned> PlacedRecord<T> {
    fn load(store: &Store, key: &Digest) -> Option<T> {
        let found: Self = store.get(Table::Receipt, key)?;
        let this_boot = !found.boot.is_empty() && found.boot == boot_id();
        (found.beside_store || this_boot).then_some(found.record)
    }

    fn save(store: &Store, key: &Digest, place: &Path, record: T) {
        let device = |path: &Path| path.ancestors().find_map(|path| fs::metadata(path).ok()).map(|meta| meta.dev());
        let of_store = device(&store.blob_path(key));
        let placed = Self { boot: boot_id(), beside_store: of_store.is_some() && of_store == device(place), record };
        store.put(Table::Receipt, key, &placed).ok();
    }
}

/// Which boot this is.
fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim_end().to_owned()
}

fn marks_key(folder: &Path) -> Digest {
    let mut hasher = FieldHasher::new("marks/1");
    hasher.bytes(std::os::unix::ffi::OsStrExt::as_bytes(folder.as_os_str()));
    hasher.finish()
}
