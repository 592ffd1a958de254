//! Packs what one layer changes as a tar whose bytes follow from the tree alone, with whiteouts
//! as in the OCI image specification, "Image Layer Filesystem Changeset".
//!
//! Order: depth first, names by their bytes. A directory is written before what is in it, even if it did not change
//! itself. What a step touched without changing it is not written.

use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
    io::{self, Read, Write},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use rustix::io::Errno;

use super::{
    dest::is_kept,
    encode::{Encoded, encode},
    error::LayerError,
    parallel::pipe,
    view::{EntryKind, LayerView, LocateWalk as _, ViewEntry, ViewFolder, at},
};
use crate::{
    archive::{TarEntry, TarMemberKind, TarWriter},
    oci::Codec,
};

type PackResult<T> = std::result::Result<T, LayerError>;

/// The options of packing a layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PackOptions {
    /// Later times become this one, in seconds.
    pub(crate) epoch: Option<i64>,
}

/// Writes the changes that `upper` (an overlayfs upper directory) makes in the tree of `lowers` (bottom first) as a
/// tar, with whiteouts (OCI image spec, layer.md).
///
/// # Errors
/// When a directory or file cannot be read, or `out` not written.
pub(crate) fn pack(upper: &Path, lowers: &[PathBuf], out: &mut dyn Write, options: PackOptions) -> PackResult<()> {
    let shown = upper.as_os_str().as_bytes();
    // Whiteouts and opaque marks are read here, so the upper directory is taken as it is.
    let upper = LayerView::plain(upper).map_err(LayerError::io("open", shown))?;
    let lowers = LayerView::open(lowers).map_err(LayerError::io("open the layers below", shown))?;
    let has_lower = !lowers.layer_ids().map_err(LayerError::io("open the layers below", shown))?.is_empty();
    let out = io::BufWriter::with_capacity(256 << 10, out);
    let mut pack = Pack {
        upper: &upper,
        lowers: &lowers,
        out: TarWriter::new(out),
        options,
        first: HashMap::new(),
        stack: Vec::new(),
    };
    pack.enter(upper.root(), None, has_lower.then(|| lowers.root()), false)?;
    while let Some(frame) = pack.stack.last_mut() {
        match frame.names.pop() {
            Some(change) => pack.change(change)?,
            None => drop(pack.stack.pop()),
        }
    }
    pack.out.finish().map_err(LayerError::Write).map(drop)
}

/// Packs a layer and compresses it at the same time, in two threads; returns the digests of the blob.
///
/// As [`pack`] and [`encode`].
pub(crate) fn pack_encoded(
    upper: &Path,
    lowers: &[PathBuf],
    options: PackOptions,
    codec: Codec,
    level: Option<i32>,
    output: impl Write + Send,
) -> PackResult<Encoded> {
    let (mut writer, reader) = pipe();
    std::thread::scope(|scope| {
        let packing = scope.spawn(move || {
            let packed = pack(upper, lowers, &mut writer, options);
            writer.finish(if packed.is_ok() { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) });
            packed
        });
        let encoded = encode(codec, level, reader, output);
        let packed = packing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // If both ends failed, the cause is reported: an error of writing to the pipe follows from an error of the encoder.
        match (packed, encoded) {
            (Ok(()), encoded) => encoded,
            (Err(LayerError::Write(_)), Err(error)) => Err(error),
            (Err(error), _) => Err(error),
        }
    })
}

struct Pack<'a, W: Write> {
    upper: &'a LayerView,
    lowers: &'a LayerView,
    out: TarWriter<W>,
    options: PackOptions,
    /// The first path of each file that has several.
    first: HashMap<(u64, u64), PathBuf>,
    stack: Vec<PackFrame>,
}

/// A directory that is being walked.
struct PackFrame {
    folder: ViewFolder,
    /// The directory itself; `None` for the root, which is never written.
    entry: Option<ViewEntry>,
    written: bool,
    /// The same directory below.
    lower: Option<ViewFolder>,
    /// Entries of the layers below are hidden, unless this layer has them too.
    opaque: bool,
    /// The names that are still to be packed, the next one last.
    names: Vec<Change>,
}

enum Change {
    Here(OsString, ViewEntry),
    Gone(OsString),
}

impl<W: Write> Pack<'_, W> {
    /// Starts to walk a directory.
    fn enter(
        &mut self,
        folder: ViewFolder,
        entry: Option<ViewEntry>,
        lower: Option<ViewFolder>,
        opaque: bool,
    ) -> PackResult<()> {
        let shown = folder.path().as_os_str().as_bytes().to_owned();
        let listed = self.upper.list(&folder).map_err(LayerError::io("list", &shown))?;
        let dir = self.upper.layer_dir(&folder, 0).map_err(LayerError::io("open", &shown))?;
        if has_xattr(&dir, ["trusted.overlay.redirect", "user.overlay.redirect"]) {
            return Err(LayerError::entry("a directory that overlayfs has moved without its content", &shown));
        }
        let opaque = opaque || at::is_opaque(&dir).map_err(LayerError::io("read the attributes of", &shown))?;
        let mut names: Vec<Change> = Vec::with_capacity(listed.len());
        let mut below = match &lower {
            Some(lower) if opaque => self.lowers.list(lower).map_err(LayerError::io("list", &shown))?,
            _ => Vec::new(),
        };
        below.retain(|(name, _)| listed.binary_search_by(|(other, _)| other.cmp(name)).is_err());
        names.extend(listed.into_iter().map(|(name, entry)| Change::Here(name, entry)));
        if !below.is_empty() {
            names.extend(below.into_iter().map(|(name, _)| Change::Gone(name)));
            names.sort_by(|a, b| a.name().cmp(b.name()));
        }
        names.reverse();
        let written = entry.is_none();
        self.stack.push(PackFrame { folder, entry, written, lower, opaque, names });
        Ok(())
    }

    fn change(&mut self, change: Change) -> PackResult<()> {
        let frame = self.stack.last().expect("the change is one of its names");
        let (folder, lower, opaque) = (frame.folder.clone(), frame.lower.clone(), frame.opaque);
        let path = folder.path().join(change.name());
        let shown = path.as_os_str().as_bytes();
        let (name, entry) = match change {
            Change::Gone(name) => return self.whiteout(&folder, &name),
            Change::Here(name, entry) => (name, entry),
        };
        let below = match &lower {
            Some(lower) => self.lowers.child(lower, &name).map_err(LayerError::io("look below for", shown))?,
            None => None,
        };
        if entry.kind == EntryKind::CharDev && entry.rdev == (0, 0) {
            return if below.is_some() { self.whiteout(&folder, &name) } else { Ok(()) };
        }
        if entry.kind == EntryKind::Socket {
            return Ok(());
        }
        let same = match (&below, &lower) {
            (Some(below), Some(lower)) => self.is_same(&folder, lower, &name, &entry, below)?,
            _ => false,
        };
        if !same {
            self.write_parents()?;
            self.write(&folder, &name, &entry)?;
        }
        if entry.kind == EntryKind::Dir {
            let inner = self.upper.enter(&folder, &name).map_err(LayerError::io("open", shown))?;
            let lower = match (&below, &lower) {
                (Some(below), Some(lower)) if below.kind == EntryKind::Dir => {
                    Some(self.lowers.enter(lower, &name).map_err(LayerError::io("open", shown))?)
                }
                _ => None,
            };
            self.enter(inner, Some(entry), lower, opaque)?;
            self.stack.last_mut().expect("just pushed").written = !same;
        }
        Ok(())
    }

    /// Whether the layers below have the same entry, so that it is not a change.
    fn is_same(
        &self,
        folder: &ViewFolder,
        lower: &ViewFolder,
        name: &OsStr,
        entry: &ViewEntry,
        below: &ViewEntry,
    ) -> PackResult<bool> {
        let alike = |entry: &ViewEntry| (entry.kind, entry.mode, entry.uid, entry.gid, entry.rdev);
        if alike(entry) != alike(below) {
            return Ok(false);
        }
        let shown = folder.path().join(name);
        let fail = || LayerError::io::<io::Error>("compare", shown.as_os_str().as_bytes());
        if entry.kind != EntryKind::Dir {
            if entry.size != below.size || entry.mtime != below.mtime {
                return Ok(false);
            }
            // Times of whole seconds may have been cut: two versions within a second look the same.
            let cut = entry.mtime.1 == 0;
            let equal = match entry.kind {
                EntryKind::File if cut => self.same_content(folder, lower, name, entry, below).map_err(fail())?,
                EntryKind::Symlink if cut => {
                    let ours = self.upper.link_text(folder, name, entry).map_err(fail())?;
                    ours == self.lowers.link_text(lower, name, below).map_err(fail())?
                }
                _ => true,
            };
            if !equal {
                return Ok(false);
            }
        }
        if !matches!(entry.kind, EntryKind::File | EntryKind::Dir) {
            return Ok(true);
        }
        let capability = |mut xattrs: Vec<(OsString, Vec<u8>)>| {
            xattrs.retain(|(name, _)| name == "security.capability");
            xattrs
        };
        let ours = self.upper.xattrs_of(folder, name, entry).map_err(fail())?;
        let theirs = self.lowers.xattrs_of(lower, name, below).map_err(fail())?;
        Ok(capability(ours) == capability(theirs))
    }

    fn same_content(
        &self,
        folder: &ViewFolder,
        lower: &ViewFolder,
        name: &OsStr,
        entry: &ViewEntry,
        below: &ViewEntry,
    ) -> io::Result<bool> {
        let mut ours = self.upper.file(folder, name, entry)?;
        let mut theirs = self.lowers.file(lower, name, below)?;
        let (mut a, mut b) = (vec![0; 64 << 10], vec![0; 64 << 10]);
        loop {
            let n = ours.read(&mut a)?;
            if n == 0 {
                return Ok(theirs.read(&mut b[..1])? == 0);
            }
            match theirs.read_exact(&mut b[..n]) {
                Ok(()) if a[..n] == b[..n] => (),
                Ok(()) => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes the directories that lead to what comes next, if they were not written yet.
    fn write_parents(&mut self) -> PackResult<()> {
        for i in 0..self.stack.len() {
            if self.stack[i].written {
                continue;
            }
            self.stack[i].written = true;
            let entry = self.stack[i].entry.clone().expect("the root counts as written");
            let name = self.stack[i].folder.path().file_name().map(OsStr::to_owned).unwrap_or_default();
            let parent = self.stack[i - 1].folder.clone();
            self.write(&parent, &name, &entry)?;
        }
        Ok(())
    }

    fn write(&mut self, folder: &ViewFolder, name: &OsStr, entry: &ViewEntry) -> PackResult<()> {
        let path = folder.path().join(name);
        let shown = path.as_os_str().as_bytes();
        let mtime = self.options.epoch.map_or(entry.mtime.0, |epoch| entry.mtime.0.min(epoch));
        let mut tar = TarEntry { uid: entry.uid, gid: entry.gid, mtime, ..TarEntry::file(shown, entry.mode, 0) };
        if entry.kind != EntryKind::Dir && entry.nlink > 1 {
            if let Some(first) = self.first.get(&entry.dev_ino) {
                let link = first.as_os_str().as_bytes();
                let tar = TarEntry { kind: TarMemberKind::HardLink, link, ..tar };
                return self.out.append(&tar, &mut io::empty()).map_err(LayerError::Write);
            }
            self.first.insert(entry.dev_ino, path.clone());
        }
        let target;
        let mut xattrs = Vec::new();
        match entry.kind {
            EntryKind::File => return self.write_file(folder, name, entry, tar),
            EntryKind::Dir => {
                tar.kind = TarMemberKind::Dir;
                let found = self.upper.xattrs_of(folder, name, entry);
                xattrs = kept(found.map_err(LayerError::io("read the attributes of", shown))?);
            }
            EntryKind::Symlink => {
                tar.kind = TarMemberKind::Symlink;
                let read = self.upper.link_text(folder, name, entry);
                target = read.map_err(LayerError::io("read the link", shown))?;
                tar.link = target.as_bytes();
            }
            EntryKind::CharDev => (tar.kind, tar.device) = (TarMemberKind::CharDev, entry.rdev),
            EntryKind::BlockDev => (tar.kind, tar.device) = (TarMemberKind::BlockDev, entry.rdev),
            EntryKind::Fifo => tar.kind = TarMemberKind::Fifo,
            EntryKind::Socket => return Ok(()),
        }
        tar.xattrs = &xattrs;
        self.out.append(&tar, &mut io::empty()).map_err(LayerError::Write)
    }

    fn write_file(
        &mut self,
        folder: &ViewFolder,
        name: &OsStr,
        entry: &ViewEntry,
        tar: TarEntry<'_>,
    ) -> PackResult<()> {
        let mut file = self.upper.file(folder, name, entry).map_err(LayerError::io("open", tar.path))?;
        if has_xattr(&file, ["trusted.overlay.metacopy", "user.overlay.metacopy"]) {
            return Err(LayerError::entry("a file that overlayfs keeps without its content", tar.path));
        }
        let xattrs = kept(at::xattrs(&file).map_err(LayerError::io("read the attributes of", tar.path))?);
        let tar = TarEntry { size: entry.size, xattrs: &xattrs, ..tar };
        self.out.append(&tar, &mut file).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => LayerError::io("read", tar.path)(error),
            _ => LayerError::Write(error),
        })
    }

    fn whiteout(&mut self, folder: &ViewFolder, name: &OsStr) -> PackResult<()> {
        self.write_parents()?;
        let hidden = [b".wh.", name.as_bytes()].concat();
        let path = folder.path().join(OsStr::from_bytes(&hidden));
        let tar = TarEntry::file(path.as_os_str().as_bytes(), 0, 0);
        self.out.append(&tar, &mut io::empty()).map_err(LayerError::Write)
    }
}

impl Change {
    fn name(&self) -> &OsStr {
        match self {
            Self::Here(name, _) | Self::Gone(name) => name,
        }
    }
}

/// The attributes that go into a layer.
fn kept(xattrs: Vec<(OsString, Vec<u8>)>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let bytes = xattrs.into_iter().map(|(name, value)| (name.as_bytes().to_owned(), value));
    bytes.filter(|(name, _)| is_kept(name)).collect()
}

/// Whether an open file has one of the attributes.
fn has_xattr(file: &impl std::os::fd::AsFd, names: [&str; 2]) -> bool {
    // Most files have none, which one call shows: a list of two bytes or more does not fit.
    let any = !matches!(rustix::fs::flistxattr(file, &mut [0_u8; 1][..]), Ok(0));
    let is_there = |name: &&str| {
        !matches!(rustix::fs::fgetxattr(file, *name, &mut [0_u8; 1][..]), Err(Errno::NODATA | Errno::NOTSUP))
    };
    any && names.iter().any(is_there)
}
