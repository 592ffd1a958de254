//! Results as files: a folder or a tar of the tree, with its attestations beside it.

use std::{
    io,
    path::{Path, PathBuf},
};

use serde_json::Map;

use super::{
    dest::{ExportDest, WriteFault},
    folder::{self, FolderOptions},
    job::blocking,
    part::TreePart,
    tree_tar,
};
use crate::{
    export::{
        assemble::{StatementSubject, statements},
        built::{BuiltImage, LayerRef, Provenance},
        context::{ExportContext, ExportReceipt},
        options::{TreePlan, TreeTo},
        prepare::PreparedExport,
        remember::{self, DroppedFiles, FileStamp, StoredReceipt, fingerprint},
    },
    grant::GrantedWrite,
    layer::view::{EntryKind, LayerView, LocateWalk},
    oci::Digest,
    report::{Diagnostic, event::Event},
    store::{SnapshotId, Store},
};

/// Files in a folder that is recognised by their stamps, beside those that were written: more are not looked at.
const STRANGERS: usize = 10_000;

/// Writes trees where they are to go.
pub(crate) async fn export_tree(
    prepared: &PreparedExport,
    plan: &TreePlan,
    to: &TreeTo,
    builds: &[BuiltImage],
    context: &ExportContext,
) -> Result<ExportReceipt, Diagnostic> {
    let place = prepared.place.as_ref();
    let key = place.map(|place| remember::key(prepared, builds, place.path()));
    let shown = place.map_or_else(|| "stdout".to_owned(), |place| place.path().display().to_string());
    let wrote = |bytes, reused| (context.sink)(Event::Wrote { what: shown.as_str().into(), bytes, reused });
    if let (Some(key), Some(place)) = (key, place)
        && let Some(found) = remember::find(&context.store, &key)
        && still_there(&found, place.path(), matches!(to, TreeTo::Folder { .. })).await
    {
        wrote(found.bytes, true);
        return Ok(ExportReceipt { metadata: found.metadata, warnings: warnings(prepared, found.dropped.as_ref()) });
    }
    for build in builds {
        let missing = |layer: &LayerRef| !context.store.usable(&SnapshotId(layer.snapshot));
        if build.layers.iter().any(missing) {
            context.base.unpack(&build.layers).await?;
        }
    }
    let trees: Vec<ExportTree> =
        builds.iter().map(|build| ExportTree::of(build, plan, builds.len(), context)).collect();
    let moving = (context.sink.clone(), context.step, shown.clone());
    let (store, dest, folder) = (context.store.clone(), place.cloned(), FolderOptions::of(to));
    let written = tokio::task::spawn_blocking(move || {
        let what: std::sync::Arc<str> = moving.2.as_str().into();
        let moved = |done: u64| (moving.0)(Event::Moved { id: moving.1, what: what.clone(), done, total: 0 });
        let parts =
            trees.into_iter().map(ExportTree::open).collect::<io::Result<Vec<TreePart>>>().map_err(at_nothing)?;
        match (folder, dest) {
            (Some(options), Some(dest)) => write_folder(&parts, &dest, options, &store, &moved),
            (_, dest) => write_tar(&parts, dest.as_ref(), &moved),
        }
    });
    let written = written.await.map_err(|e| at_nothing(io::Error::other(e))).and_then(|it| it);
    let written = written.map_err(|(path, e): WriteFault| {
        let path = if path.as_os_str().is_empty() { shown.clone() } else { path.display().to_string() };
        prepared.write_fault(&path, &e)
    })?;
    let done = ExportReceipt { warnings: warnings(prepared, written.dropped.as_ref()), ..ExportReceipt::default() };
    wrote(written.bytes, false);
    if let (Some(key), Some(place)) = (key, place)
        && (written.stamp.is_some() || written.fingerprint.is_some())
    {
        remember::keep(&context.store, &key, place.path(), written);
    }
    Ok(done)
}

/// Writes a folder, and records which of its files were written.
fn write_folder(
    parts: &[TreePart],
    dest: &GrantedWrite,
    options: FolderOptions,
    store: &Store,
    moved: &(dyn Fn(u64) + Sync),
) -> Result<StoredReceipt, WriteFault> {
    let known = remember::marks(store, dest.path());
    let made = folder::write(parts, dest, options, &known, moved)?;
    remember::keep_marks(store, dest.path(), &made.marks);
    let fingerprint = fingerprint(dest.path(), made.files + STRANGERS).ok().flatten();
    Ok(StoredReceipt { fingerprint, dropped: made.dropped, ..receipt(made.bytes) })
}

/// Writes a tar, to standard output when there is no destination.
fn write_tar(
    parts: &[TreePart],
    dest: Option<&GrantedWrite>,
    moved: &dyn Fn(u64),
) -> Result<StoredReceipt, WriteFault> {
    let at_dest = |e| (dest.map_or_else(|| PathBuf::from("stdout"), |dest| dest.path().to_owned()), e);
    let mut place = dest.map_or_else(ExportDest::stdout, ExportDest::open).map_err(at_dest)?;
    tree_tar::write(parts, &mut place, moved).map_err(|(path, e)| {
        let inner = if path.as_os_str().is_empty() { String::new() } else { format!("{}: ", path.display()) };
        at_dest(io::Error::new(e.kind(), format!("{inner}{e}")))
    })?;
    let bytes = place.written();
    Ok(StoredReceipt { stamp: place.finish().map_err(at_dest)?, ..receipt(bytes) })
}

fn receipt(bytes: u64) -> StoredReceipt {
    StoredReceipt { stamp: None, fingerprint: None, blobs: Vec::new(), bytes, metadata: Map::new(), dropped: None }
}

/// The warnings of an export, with one about files that were made harmless.
fn warnings(prepared: &PreparedExport, dropped: Option<&DroppedFiles>) -> Vec<Diagnostic> {
    let Some(DroppedFiles { count, first }) = dropped else { return Vec::new() };
    let (what, them) = if *count == 1 { ("file", "it") } else { ("files", "them") };
    let first = first.display();
    let text = prepared.about(&format!(
        "{count} {what} would have given rights on this machine: device nodes are left out, set-user-ID and set-group-ID \
         bits and capabilities of files dropped; the first: {first}"
    ));
    let warning = Diagnostic::warning("bake::export::special_files", text)
        .help(format!("`special=keep` in the output keeps {them}, with --allow=fs.special"));
    vec![warning.at(prepared.output.at, "this output")]
}

fn at_nothing(error: io::Error) -> WriteFault {
    (PathBuf::new(), error)
}

async fn still_there(found: &StoredReceipt, place: &Path, is_folder: bool) -> bool {
    if !is_folder {
        return found.stamp.is_some() && FileStamp::of(place).ok() == found.stamp;
    }
    let (Some(wanted), place) = (found.fingerprint, place.to_owned()) else { return false };
    let print = blocking(move || fingerprint(&place, usize::MAX)).await;
    print.ok().flatten() == Some(wanted)
}

/// One platform's tree before its files are opened.
struct ExportTree {
    dirs: Vec<PathBuf>,
    folder: Option<String>,
    platform: String,
    epoch: Option<i64>,
    plan: TreePlan,
    facts: Option<std::sync::Arc<Provenance>>,
    several: bool,
}

impl ExportTree {
    fn of(build: &BuiltImage, plan: &TreePlan, n: usize, context: &ExportContext) -> Self {
        let name = build.platform.to_string().replace('/', "_");
        Self {
            dirs: build.layers.iter().map(|it| context.store.snapshot_fs(&SnapshotId(it.snapshot))).collect(),
            folder: plan.split.then_some(name),
            platform: build.platform.to_string(),
            epoch: plan.epoch.of(build.epoch),
            plan: plan.clone(),
            facts: build.provenance.clone(),
            several: n > 1,
        }
    }

    fn open(self) -> io::Result<TreePart> {
        let view = LayerView::open(&self.dirs)?;
        let mut extra = Vec::new();
        if self.plan.provenance.is_some() {
            let nothing = Provenance::default();
            let facts = self.facts.as_deref().unwrap_or(&nothing);
            let subjects = subjects(&view)?;
            for statement in statements(self.plan.provenance.as_ref(), facts, &subjects) {
                let mut name = format!("{}{}", self.plan.attestation_prefix, statement.filename);
                if self.several && self.folder.is_none() {
                    let platform = self.platform.replace('/', "_");
                    let (stem, extension) = name.rsplit_once('.').unwrap_or((&name, "json"));
                    name = format!("{stem}.{platform}.{extension}");
                }
                let mut text = serde_json::to_vec_pretty(&statement.value).expect("statements are plain data");
                text.push(b'\n');
                extra.push((name, text));
            }
        }
        Ok(TreePart { view, folder: self.folder, platform: self.platform, epoch: self.epoch, extra })
    }
}

/// Every regular file with its digest, in the order of their paths.
fn subjects(view: &LayerView) -> io::Result<Vec<StatementSubject>> {
    let mut found = Vec::new();
    let mut folders = vec![view.root()];
    while let Some(folder) = folders.pop() {
        for (name, entry) in view.list(&folder)? {
            match entry.kind {
                EntryKind::Dir => folders.push(view.enter(&folder, &name)?),
                EntryKind::File => {
                    let path = folder.path().join(&name).to_string_lossy().into_owned();
                    found.push(StatementSubject { name: path, digest: digest(view.file(&folder, &name, &entry)?)? });
                }
                _ => {}
            }
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

fn digest(mut file: std::fs::File) -> io::Result<Digest> {
    use sha2::{Digest as _, Sha256};
    use std::io::Read;
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; 128 << 10]);
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(Digest::from_raw(hasher.finalize().into())),
            Ok(n) => hasher.update(&buffer[..n]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
