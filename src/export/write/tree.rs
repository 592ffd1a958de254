//! Results as files: a folder or a tar of the tree, with its attestations beside it.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{dest::ExportDest, folder, job::blocking, part::TreePart, tree_tar};
use crate::{
    export::{
        assemble::StatementSubject,
        built::{BuiltImage, LayerRef, Provenance},
        context::{ExportContext, ExportReceipt},
        options::{ArchiveDest, TreePlan, TreeTo},
        prepare::PreparedExport,
        remember::{self, FileStamp, StoredReceipt, fingerprint},
    },
    layer::view::{EntryKind, LayerView, LocateWalk},
    oci::Digest,
    report::{Diagnostic, event::Event},
    store::SnapshotId,
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
    let place: Option<PathBuf> = match to {
        TreeTo::Folder { folder, .. } => Some(folder.clone()),
        TreeTo::Archive { dest: ArchiveDest::File(path) } => Some(path.clone()),
        TreeTo::Archive { dest: ArchiveDest::Stdout } => None,
    };
    let key = place.as_ref().map(|it| remember::key(prepared, builds, it));
    let shown = place.as_ref().map_or_else(|| "stdout".to_owned(), |it| it.display().to_string());
    let wrote = |bytes, reused| (context.sink)(Event::Wrote { what: shown.as_str().into(), bytes, reused });
    if let (Some(key), Some(place)) = (key, &place)
        && let Some(found) = remember::find(&context.store, &key)
        && still_there(&found, place, matches!(to, TreeTo::Folder { .. })).await
    {
        wrote(found.bytes, true);
        return Ok(ExportReceipt { metadata: found.metadata, warnings: prepared.warnings.clone() });
    }
    for build in builds {
        let missing = |layer: &LayerRef| !context.store.usable(&SnapshotId(layer.snapshot));
        if build.layers.iter().any(missing) {
            context.base.unpack(&build.layers).await?;
        }
    }
    let trees: Vec<ExportTree> =
        builds.iter().map(|build| ExportTree::of(build, plan, builds.len(), context)).collect();
    let (store, to, moving) = (context.store.clone(), to.clone(), (context.sink.clone(), context.step, shown.clone()));
    let keeps = key.is_some();
    let written = tokio::task::spawn_blocking(move || {
        let what: std::sync::Arc<str> = moving.2.as_str().into();
        let moved = |done: u64| (moving.0)(Event::Moved { id: moving.1, what: what.clone(), done, total: 0 });
        let parts =
            trees.into_iter().map(ExportTree::open).collect::<io::Result<Vec<TreePart>>>().map_err(at_nothing)?;
        match &to {
            TreeTo::Folder { folder, delete } => {
                let known = remember::marks(&store, folder);
                let made = folder::write(&parts, folder, *delete, &known, &moved)?;
                remember::keep_marks(&store, folder, &made.marks);
                let fingerprint = fingerprint(folder, made.files + STRANGERS).ok().flatten();
                Ok((None, fingerprint, made.bytes))
            }
            TreeTo::Archive { dest } => {
                let at_dest = |e| match dest {
                    ArchiveDest::File(path) => (path.clone(), e),
                    ArchiveDest::Stdout => (PathBuf::from("stdout"), e),
                };
                let mut place = ExportDest::open(dest).map_err(at_dest)?;
                tree_tar::write(&parts, &mut place, &moved).map_err(|(path, e)| {
                    let inner =
                        if path.as_os_str().is_empty() { String::new() } else { format!("{}: ", path.display()) };
                    at_dest(io::Error::new(e.kind(), format!("{inner}{e}")))
                })?;
                let bytes = place.written();
                Ok((place.finish().map_err(at_dest)?, None, bytes))
            }
        }
    });
    let written = written.await.map_err(|e| at_nothing(io::Error::other(e))).and_then(|it| it);
    let (stamp, fingerprint, bytes) = written.map_err(|(path, e): (PathBuf, io::Error)| {
        let path = if path.as_os_str().is_empty() { shown.clone() } else { path.display().to_string() };
        prepared.fault("bake::export::write", format_args!("cannot write `{path}`: {e}"))
    })?;
    let done = ExportReceipt { warnings: prepared.warnings.clone(), ..ExportReceipt::default() };
    if let Some(key) = key.filter(|_| keeps && (stamp.is_some() || fingerprint.is_some())) {
        let kept = StoredReceipt { stamp, fingerprint, blobs: Vec::new(), bytes, metadata: done.metadata.clone() };
        remember::keep(&context.store, &key, &kept);
    }
    wrote(bytes, false);
    Ok(done)
}

fn at_nothing(error: io::Error) -> (PathBuf, io::Error) {
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
        if !self.plan.statements.is_empty() {
            let nothing = Provenance::default();
            let facts = self.facts.as_deref().unwrap_or(&nothing);
            let subjects = subjects(&view)?;
            for statement in self.plan.statements.about(facts, &subjects) {
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
