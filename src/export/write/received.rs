//! Trees that another engine has sent: folders and archives that lie aside become staged outputs.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Read, Seek as _, SeekFrom},
    path::PathBuf,
    sync::Arc,
};

use super::{
    dest::{ExportDest, WriteFault},
    folder::FolderOptions,
    part::TreePart,
    stage::{StagedExport, StagingFile},
    tree::{at_file, stage_folder},
};
use crate::{
    archive::{MAX_MEMBERS, TAR_END, TarReader},
    export::{
        context::{ExportContext, ExportReceipt},
        options::{ExportPlan, TreeTo},
        prepare::PreparedExport,
        remember::DroppedFiles,
    },
    layer::view::LayerView,
    report::{Diagnostic, event::Event},
};

/// Makes trees ready for a folder: each a folder of ours, with its platform.
///
/// # Errors
/// The destination cannot be written.
pub(crate) async fn stage_received_folder(
    prepared: &PreparedExport,
    trees: Vec<(PathBuf, String)>,
    dropped: &BTreeSet<PathBuf>,
    context: &ExportContext,
) -> Result<StagedExport, Diagnostic> {
    let ExportPlan::Tree(_, to @ TreeTo::Folder { .. }) = &prepared.plan else {
        unreachable!("the export of a folder")
    };
    let options = FolderOptions::of(to).expect("a folder has options");
    let dest = prepared.place.clone().expect("a folder has a destination");
    let shown = dest.path().display().to_string();
    let moved = moved(context, &shown);
    let staged = on_files(prepared, &shown, move || {
        let parts = trees.into_iter().map(|(folder, platform)| {
            let view = LayerView::open(std::slice::from_ref(&folder)).map_err(|error| (folder, error))?;
            Ok(TreePart { view, base: None, folder: None, platform, epoch: None, extra: Vec::new() })
        });
        let parts = parts.collect::<Result<Vec<_>, WriteFault>>()?;
        stage_folder(&parts, &dest, &options, &*moved)
    });
    let (parts, written, _) = staged.await?;
    let dropped = dropped.first().map(|first| DroppedFiles { count: dropped.len() as u64, first: first.clone() });
    let receipt = ExportReceipt {
        warnings: super::tree::warnings(prepared, written.dropped.as_ref().or(dropped.as_ref())),
        bytes: written.bytes,
        ..ExportReceipt::default()
    };
    Ok(StagedExport { parts, wrote: vec![(shown, written.bytes)], receipt, record: None })
}

/// Makes archives ready as one.
///
/// # Errors
/// The destination cannot be written, or a file is no archive.
pub(crate) async fn stage_received_tar(
    prepared: &PreparedExport,
    files: Vec<File>,
    context: &ExportContext,
) -> Result<StagedExport, Diagnostic> {
    let dest = prepared.place.clone();
    let shown = dest.as_ref().map_or_else(|| "stdout".to_owned(), |dest| dest.path().display().to_string());
    let store = context.store.clone();
    let staged = on_files(prepared, &shown, move || {
        let at_dest = |error| at_file(dest.as_ref(), error);
        let mut staging = StagingFile::open(dest.as_ref(), &store).map_err(at_dest)?;
        join(files, &mut staging.dest).map_err(at_dest)?;
        let bytes = staging.dest.written();
        let (parts, _) = staging.stage().map_err(at_dest)?;
        Ok((parts, bytes))
    });
    let (parts, bytes) = staged.await?;
    let receipt = ExportReceipt { bytes, ..ExportReceipt::default() };
    Ok(StagedExport { parts, wrote: vec![(shown, bytes)], receipt, record: None })
}

/// Writes archives one after the other, with one end. A single one is copied as it is.
fn join(mut files: Vec<File>, out: &mut ExportDest) -> io::Result<()> {
    if let [only] = files.as_mut_slice() {
        only.rewind()?;
        return out.copy(only).map(drop);
    }
    for file in &mut files {
        let end = members_end(file)?;
        file.rewind()?;
        out.copy_part(file, end)?;
    }
    io::Write::write_all(out, &TAR_END)
}

/// Where the members of an archive end and the blocks of zeros begin, in bytes.
fn members_end(file: &mut File) -> io::Result<u64> {
    file.seek(SeekFrom::Start(0))?;
    let mut archive = TarReader::new(CountedInput { input: io::BufReader::new(&mut *file), read: 0 }, MAX_MEMBERS);
    while archive.next().map_err(io::Error::other)?.is_some() {}
    // The block of zeros that ended it was read as well.
    Ok(archive.source().read.saturating_sub(512))
}

/// An input of which is known how much was read.
struct CountedInput<R> {
    input: R,
    read: u64,
}

impl<R: Read> Read for CountedInput<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.input.read(buffer)?;
        self.read += n as u64;
        Ok(n)
    }
}

fn moved(context: &ExportContext, shown: &str) -> Box<dyn Fn(u64) + Send + Sync> {
    let (sink, id, what): (_, _, Arc<str>) = (context.sink.clone(), context.step, shown.into());
    Box::new(move |done| sink(Event::Moved { id, what: what.clone(), done, total: 0 }))
}

/// Runs work that blocks on files; its fault is that of the export.
async fn on_files<T: Send + 'static>(
    prepared: &PreparedExport,
    shown: &str,
    work: impl FnOnce() -> Result<T, WriteFault> + Send + 'static,
) -> Result<T, Diagnostic> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.map_err(|error| (PathBuf::new(), io::Error::other(error))).and_then(|it| it);
    done.map_err(|(path, error): WriteFault| {
        let path = if path.as_os_str().is_empty() { shown.to_owned() } else { path.display().to_string() };
        prepared.write_fault(&path, &error)
    })
}
