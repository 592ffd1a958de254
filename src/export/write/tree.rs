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
    stage::{ReleaseRecord, StagedExport, StagedParts, StagingFile, StagingFolder, Stamped},
    tree_tar,
};
use crate::{
    export::{
        assemble::{StatementSubject, WantedStatements},
        built::{BuiltImage, LayerRef, Provenance, Sbom},
        context::{ExportContext, ExportReceipt},
        options::{TreePlan, TreeTo},
        prepare::PreparedExport,
        remember::{self, DroppedFiles, FileStamp, StoredReceipt, fingerprint},
        staged::{ExactPath, ReleaseItem, StagedFolder},
    },
    grant::GrantedWrite,
    layer::view::{EntryKind, LayerView, LocateWalk},
    oci::Digest,
    report::{Diagnostic, event::Event},
    spec::output::TreeExtent,
    store::{SnapshotId, Store},
};

/// Files in a folder that is recognised by their stamps, beside those that were written: more are not looked at.
pub(crate) const STRANGERS: usize = 10_000;

/// Writes the file trees of builds to their destination: a folder or a tar archive.
///
/// Nothing is written when an earlier export of the same content to the same place is still there.
pub(crate) async fn export_tree(
    prepared: &PreparedExport,
    plan: &TreePlan,
    to: &TreeTo,
    builds: &[BuiltImage],
    context: &ExportContext,
) -> Result<ExportReceipt, Diagnostic> {
    let job = TreeJob { prepared, plan, builds, context };
    let key = job.key();
    if let Some(done) = job.is_written_already(key.as_ref(), to).await {
        return Ok(done);
    }
    let (dest, folder) = (prepared.place.clone(), FolderOptions::of(to));
    let written = job.with_parts(move |parts, store, moved| match (folder, dest) {
        (Some(options), Some(dest)) => write_folder(parts, &dest, &options, store, moved),
        (_, dest) => write_tar(parts, dest.as_ref(), moved),
    });
    let written = written.await?;
    let done = job.receipt(&written);
    (context.sink)(Event::Wrote { what: job.shown().into(), bytes: written.bytes, reused: false });
    if let (Some(key), Some(place)) = (key, &prepared.place)
        && (written.stamp.is_some() || written.fingerprint.is_some())
    {
        remember::keep(&context.store, &key, place.path(), written);
    }
    Ok(done)
}

/// Makes trees ready where they are to go, without changing what is visible there.
pub(crate) async fn stage_tree(
    prepared: &PreparedExport,
    plan: &TreePlan,
    to: &TreeTo,
    builds: &[BuiltImage],
    context: &ExportContext,
) -> Result<StagedExport, Diagnostic> {
    let job = TreeJob { prepared, plan, builds, context };
    let key = job.key();
    if let Some(done) = job.is_written_already(key.as_ref(), to).await {
        return Ok(StagedExport::nothing(done));
    }
    let (dest, folder) = (prepared.place.clone(), FolderOptions::of(to));
    let staged = job.with_parts(move |parts, store, moved| match (folder, dest) {
        (Some(options), Some(dest)) => stage_folder(parts, &dest, &options, moved),
        (_, dest) => stage_tar(parts, dest.as_ref(), store, moved),
    });
    let (parts, written, stamped) = staged.await?;
    let done = job.receipt(&written);
    let wrote = vec![(job.shown(), written.bytes)];
    let record = match (key, prepared.place.clone(), stamped) {
        (Some(key), Some(place), Some(stamped)) => {
            Some(ReleaseRecord { key, receipt: written, place: Some((place, stamped)) })
        }
        _ => None,
    };
    Ok(StagedExport { parts, wrote, receipt: done, record })
}

/// One export of trees.
struct TreeJob<'a> {
    prepared: &'a PreparedExport,
    plan: &'a TreePlan,
    builds: &'a [BuiltImage],
    context: &'a ExportContext,
}

impl TreeJob<'_> {
    fn key(&self) -> Option<Digest> {
        self.prepared.place.as_ref().map(|place| remember::key(self.prepared, self.builds, place.path()))
    }

    fn shown(&self) -> String {
        self.prepared.place.as_ref().map_or_else(|| "stdout".to_owned(), |place| place.path().display().to_string())
    }

    fn receipt(&self, written: &StoredReceipt) -> ExportReceipt {
        let warnings = warnings(self.prepared, written.dropped.as_ref());
        ExportReceipt { warnings, bytes: written.bytes, ..ExportReceipt::default() }
    }

    /// The receipt of an earlier export of the same trees to the same place, if it is still there.
    async fn is_written_already(&self, key: Option<&Digest>, to: &TreeTo) -> Option<ExportReceipt> {
        let place = self.prepared.place.as_ref()?;
        let found = remember::find(&self.context.store, key?)?;
        if !still_there(&found, place.path(), matches!(to, TreeTo::Folder { .. })).await {
            return None;
        }
        (self.context.sink)(Event::Wrote { what: self.shown().into(), bytes: found.bytes, reused: true });
        let receipt = self.receipt(&found);
        Some(ExportReceipt { metadata: found.metadata, ..receipt })
    }

    /// Runs `work`, which blocks on files, with the trees of all builds, unpacked where they have to be.
    async fn with_parts<T: Send + 'static>(
        &self,
        work: impl FnOnce(&[TreePart], &Store, &(dyn Fn(u64) + Sync)) -> Result<T, WriteFault> + Send + 'static,
    ) -> Result<T, Diagnostic> {
        let Self { prepared, plan, builds, context } = self;
        for build in *builds {
            let missing = |layer: &LayerRef| !context.store.usable(&SnapshotId(layer.snapshot));
            if build.layers.iter().any(missing) {
                context.base.unpack(&build.layers).await?;
            }
        }
        let trees: Vec<ExportTree> = builds.iter().map(|build| ExportTree::of(build, plan, context)).collect();
        let (sink, id, shown, store) = (context.sink.clone(), context.step, self.shown(), context.store.clone());
        let what: std::sync::Arc<str> = shown.as_str().into();
        let written = tokio::task::spawn_blocking(move || {
            let moved = |done: u64| sink(Event::Moved { id, what: what.clone(), done, total: 0 });
            let parts =
                trees.into_iter().map(ExportTree::open).collect::<io::Result<Vec<TreePart>>>().map_err(at_nothing)?;
            work(&parts, &store, &moved)
        });
        let written = written.await.map_err(|e| at_nothing(io::Error::other(e))).and_then(|it| it);
        written.map_err(|(path, e): WriteFault| {
            let path = if path.as_os_str().is_empty() { shown } else { path.display().to_string() };
            prepared.write_fault(&path, &e)
        })
    }
}

/// Writes a folder, and records which of its files were written.
fn write_folder(
    parts: &[TreePart],
    dest: &GrantedWrite,
    options: &FolderOptions,
    store: &Store,
    moved: &(dyn Fn(u64) + Sync),
) -> Result<StoredReceipt, WriteFault> {
    let known = remember::marks(store, dest.path());
    let made = folder::write(parts, dest, options, &known, moved)?;
    remember::keep_marks(store, dest.path(), &made.marks);
    let fingerprint = fingerprint(dest.path(), made.files + STRANGERS).ok().flatten();
    Ok(StoredReceipt { fingerprint, dropped: made.dropped, ..receipt(made.bytes) })
}

/// What was staged, the receipt without what recognises the destination, and how that will be recognised.
pub(super) type StagedTrees = (StagedParts, StoredReceipt, Option<Stamped>);

/// Makes the tree of a folder beside or in it.
pub(super) fn stage_folder(
    parts: &[TreePart],
    dest: &GrantedWrite,
    options: &FolderOptions,
    moved: &(dyn Fn(u64) + Sync),
) -> Result<StagedTrees, WriteFault> {
    let staging = StagingFolder::make(dest, 0o777).map_err(|error| (dest.path().to_owned(), error))?;
    let tree = folder::stage(parts, &staging.root, dest, options, moved)?;
    let StagingFolder { root: _, path, inode, hold } = staging;
    let item = StagedFolder {
        dest: ExactPath(dest.path().to_owned()),
        staged: ExactPath(path),
        inode,
        folders: tree.folders,
        remove: tree.remove,
        is_layout: false,
        sweeps: false,
    };
    let staged = StagedParts { items: vec![ReleaseItem::Folder(item)], hold: Some(hold), ..StagedParts::default() };
    let receipt = StoredReceipt { dropped: tree.written.dropped, ..receipt(tree.written.bytes) };
    Ok((staged, receipt, Some(Stamped::Folder { files: tree.written.files })))
}

/// Writes a tar, to standard output when there is no destination.
fn write_tar(
    parts: &[TreePart],
    dest: Option<&GrantedWrite>,
    moved: &dyn Fn(u64),
) -> Result<StoredReceipt, WriteFault> {
    let at_dest = |error| at_file(dest, error);
    let mut place = dest.map_or_else(ExportDest::stdout, ExportDest::open).map_err(at_dest)?;
    fill_tar(parts, &mut place, moved).map_err(at_dest)?;
    let bytes = place.written();
    Ok(StoredReceipt { stamp: place.finish().map_err(at_dest)?, ..receipt(bytes) })
}

/// Makes a tar that gets its name later.
fn stage_tar(
    parts: &[TreePart],
    dest: Option<&GrantedWrite>,
    store: &Store,
    moved: &dyn Fn(u64),
) -> Result<StagedTrees, WriteFault> {
    let at_dest = |error| at_file(dest, error);
    let mut staging = StagingFile::open(dest, store).map_err(at_dest)?;
    fill_tar(parts, &mut staging.dest, moved).map_err(at_dest)?;
    let bytes = staging.dest.written();
    let (staged, file) = staging.stage().map_err(at_dest)?;
    Ok((staged, receipt(bytes), file.map(Stamped::File)))
}

pub(super) fn at_file(dest: Option<&GrantedWrite>, error: io::Error) -> WriteFault {
    (dest.map_or_else(|| PathBuf::from("stdout"), |dest| dest.path().to_owned()), error)
}

fn fill_tar(parts: &[TreePart], out: &mut ExportDest, moved: &dyn Fn(u64)) -> io::Result<()> {
    tree_tar::write(parts, out, moved).map_err(|(path, e)| {
        let inner = if path.as_os_str().is_empty() { String::new() } else { format!("{}: ", path.display()) };
        io::Error::new(e.kind(), format!("{inner}{e}"))
    })
}

fn receipt(bytes: u64) -> StoredReceipt {
    StoredReceipt { stamp: None, fingerprint: None, blobs: Vec::new(), bytes, metadata: Map::new(), dropped: None }
}

/// The warnings of an export, with one about files that were made harmless.
pub(super) fn warnings(prepared: &PreparedExport, dropped: Option<&DroppedFiles>) -> Vec<Diagnostic> {
    let Some(DroppedFiles { count, first }) = dropped else { return Vec::new() };
    let (what, them) = if *count == 1 { ("file", "it") } else { ("files", "them") };
    let first = first.display();
    let text = prepared.about(&format!(
        "{count} {what} would have given rights on this machine: device nodes are left out, set-user-ID and set-group-ID \
         bits and capabilities of files dropped; the first: {first}"
    ));
    let warning = Diagnostic::warning("bake::export::special_files", text)
        .help(format!("`special=keep` in the output keeps {them}, with --allow=fs.special"));
    vec![warning.at(prepared.output.at, "this output").topic("special")]
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
    /// The directories of the base image, when only what was added to it is exported.
    base: Option<Vec<PathBuf>>,
    folder: Option<String>,
    platform: String,
    epoch: Option<i64>,
    plan: TreePlan,
    facts: Option<std::sync::Arc<Provenance>>,
    sbom: Option<std::sync::Arc<Sbom>>,
}

impl ExportTree {
    fn of(build: &BuiltImage, plan: &TreePlan, context: &ExportContext) -> Self {
        let name = build.platform.to_string().replace('/', "_");
        let dirs = |layers: &[LayerRef]| -> Vec<PathBuf> {
            layers.iter().map(|layer| context.store.snapshot_fs(&SnapshotId(layer.snapshot))).collect()
        };
        let (dirs, base) = match plan.extent {
            TreeExtent::Whole => (dirs(&build.layers), None),
            TreeExtent::Added => {
                let (base, added) = build.layers.split_at(build.base_layers.min(build.layers.len()));
                (dirs(added), Some(dirs(base)))
            }
        };
        Self {
            dirs,
            base,
            folder: plan.split.then_some(name),
            platform: build.platform.to_string(),
            epoch: plan.epoch.of(build.epoch),
            plan: plan.clone(),
            facts: build.provenance.clone(),
            sbom: build.sbom(plan.sbom.as_ref()).cloned(),
        }
    }

    fn open(self) -> io::Result<TreePart> {
        let view = LayerView::open(&self.dirs)?;
        let mut extra = Vec::new();
        let wanted = WantedStatements::of(self.plan.provenance.as_ref(), self.facts.as_deref(), self.sbom.as_deref());
        if !wanted.is_empty() {
            for statement in wanted.about(&subjects(&view)?) {
                let mut name = format!("{}{}", self.plan.attestation_prefix, statement.filename);
                if self.plan.several && self.folder.is_none() {
                    let platform = self.platform.replace('/', "_");
                    let (stem, extension) = name.rsplit_once('.').unwrap_or((&name, "json"));
                    name = format!("{stem}.{platform}.{extension}");
                }
                let mut text = serde_json::to_vec_pretty(&statement.value).expect("statements are plain data");
                text.push(b'\n');
                extra.push((name, text));
            }
        }
        let base = self.base.as_deref().map(LayerView::open).transpose()?;
        Ok(TreePart { view, base, folder: self.folder, platform: self.platform, epoch: self.epoch, extra })
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
