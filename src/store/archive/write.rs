//! Writing the archive of a store.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

use rustix::fs::{FileType, OFlags};

use super::form::{ArchiveHead, ArchivedSnapshot, HEAD, TABLES, VERSION};
use crate::{
    archive::{TarEntry, TarMemberKind, TarWriter},
    oci::Digest,
    store::{
        content::tree_digest,
        entries::{list, name_digest},
        error::{StoreError, StoreResult},
        record::{parse, read_small, subject},
        snapshot::SnapshotId,
        state::Store,
    },
};

/// The level of zstd: what takes longer saves little.
const LEVEL: i32 = 3;

/// What an archive holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ExportedStore {
    pub(crate) n_blobs: usize,
    pub(crate) n_snapshots: usize,
    pub(crate) n_records: usize,
}

impl Store {
    /// Writes everything that is of use on another machine. `maker` says in which form trees are here.
    ///
    /// Things that are removed meanwhile are left out.
    ///
    /// # Errors
    /// When something cannot be read, or `out` not written.
    pub(crate) fn export_archive(&self, out: impl Write, maker: &str) -> StoreResult<ExportedStore> {
        self.share()?;
        let written = |error: io::Error| StoreError::io("write the archive of", &self.path(""))(error);
        let mut encoder = zstd::stream::write::Encoder::new(out, LEVEL).map_err(written)?;
        let cores = std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1));
        encoder.multithread(cores).map_err(written)?;
        let mut archive = StoreArchive { out: TarWriter::new(encoder) };
        let head = ArchiveHead { version: VERSION, maker: maker.to_owned() };
        archive.text(HEAD, &serde_json::to_vec(&head).expect("plain data")).map_err(written)?;
        let mut done = ExportedStore::default();
        for path in sorted(&self.path("blobs/sha256")) {
            let Some(digest) = name_digest(&path) else { continue };
            done.n_blobs += usize::from(archive.blob(&path, &digest).map_err(written)?);
        }
        for path in sorted(&self.path("snapshots")) {
            let Some(id) = name_digest(&path).map(SnapshotId) else { continue };
            done.n_snapshots += usize::from(self.archive_snapshot(&mut archive, &id)?);
        }
        for table in TABLES {
            let folder = self.path("index").join(table.folder());
            for path in sorted(&folder).iter().flat_map(|part| sorted(part)) {
                let Some(key) = name_digest(&path) else { continue };
                let Ok(Some((text, _))) = read_small(&path) else { continue };
                let Some((_, _, json)) = parse(&text, &subject(table, &key)) else { continue };
                archive.text(&format!("index/{}/{}", table.folder(), key.hex()), json).map_err(written)?;
                done.n_records += 1;
            }
        }
        archive.out.finish().and_then(|encoder| encoder.finish()?.flush()).map_err(written)?;
        Ok(done)
    }

    /// Writes a snapshot; false if it is gone or damaged.
    fn archive_snapshot(&self, archive: &mut StoreArchive<impl Write>, id: &SnapshotId) -> StoreResult<bool> {
        let Some(meta) = self.snapshot_meta(id).filter(|_| self.usable(id)) else { return Ok(false) };
        let tree = self.snapshot_dir(id).join("fs");
        let unread = |error: io::Error| StoreError::io("read", &tree)(error);
        let Some(content) = tree_digest(&tree, &AtomicBool::new(false)).map_err(unread)? else { return Ok(false) };
        let name = format!("snapshots/{}", id.0.hex());
        let head = serde_json::to_vec(&ArchivedSnapshot { meta, content }).expect("plain data");
        let whole = archive.text(&name, &head).and_then(|()| archive.tree(&tree, &format!("{name}/fs")));
        whole.map_err(unread).map(|()| true)
    }
}

fn sorted(dir: &Path) -> Vec<PathBuf> {
    let mut paths = list(dir);
    paths.sort_unstable();
    paths
}

struct StoreArchive<W: Write> {
    out: TarWriter<W>,
}

impl<W: Write> StoreArchive<W> {
    fn text(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.out.append(&TarEntry::file(name.as_bytes(), 0o600, bytes.len() as u64), &mut &*bytes)
    }

    fn blob(&mut self, path: &Path, digest: &Digest) -> io::Result<bool> {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            file => file?,
        };
        let size = file.metadata()?.len();
        let name = format!("blobs/sha256/{}", digest.hex());
        self.out.append(&TarEntry::file(name.as_bytes(), 0o600, size), &mut file.take(size))?;
        Ok(true)
    }

    /// Writes a tree as it is, parents before what is in them.
    fn tree(&mut self, root: &Path, name: &str) -> io::Result<()> {
        let mut linked: HashMap<(u64, u64), Vec<u8>> = HashMap::new();
        let mut pending = vec![(root.to_owned(), name.as_bytes().to_vec())];
        while let Some((path, name)) = pending.pop() {
            let meta = fs::symlink_metadata(&path)?;
            let kind = FileType::from_raw_mode(meta.mode());
            let xattrs = if kind == FileType::Symlink { Vec::new() } else { xattrs(&path)? };
            let device = (rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev()));
            let entry = TarEntry {
                mode: meta.mode() & 0o7777,
                uid: meta.uid(),
                gid: meta.gid(),
                mtime: meta.mtime(),
                xattrs: &xattrs,
                ..TarEntry::file(&name, 0, 0)
            };
            let of_kind = |kind: TarMemberKind| TarEntry { kind, ..entry.clone() };
            let mut nothing = io::empty();
            match kind {
                FileType::Directory => {
                    self.out.append(&of_kind(TarMemberKind::Dir), &mut nothing)?;
                    let mut names: Vec<PathBuf> =
                        fs::read_dir(&path)?.map(|it| Ok(it?.path())).collect::<io::Result<_>>()?;
                    names.sort_unstable_by(|a, b| b.cmp(a));
                    pending.extend(names.into_iter().map(|path| {
                        let last = path.file_name().map_or(&b""[..], OsStr::as_bytes);
                        let name = [&name, &b"/"[..], last].concat();
                        (path, name)
                    }));
                }
                FileType::RegularFile => {
                    let inode = (meta.dev(), meta.ino());
                    if let Some(first) = linked.get(&inode) {
                        let link = TarEntry { link: first, ..of_kind(TarMemberKind::HardLink) };
                        self.out.append(&link, &mut nothing)?;
                        continue;
                    }
                    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    let file = File::from(rustix::fs::open(&path, flags, rustix::fs::Mode::empty())?);
                    self.out.append(&TarEntry { size: meta.len(), ..entry }, &mut file.take(meta.len()))?;
                    if meta.nlink() > 1 {
                        linked.insert(inode, name);
                    }
                }
                FileType::Symlink => {
                    let target = fs::read_link(&path)?;
                    let link = TarEntry { link: target.as_os_str().as_bytes(), ..of_kind(TarMemberKind::Symlink) };
                    self.out.append(&link, &mut nothing)?;
                }
                FileType::CharacterDevice => {
                    self.out.append(&TarEntry { device, ..of_kind(TarMemberKind::CharDev) }, &mut nothing)?;
                }
                FileType::BlockDevice => {
                    self.out.append(&TarEntry { device, ..of_kind(TarMemberKind::BlockDev) }, &mut nothing)?;
                }
                FileType::Fifo => self.out.append(&of_kind(TarMemberKind::Fifo), &mut nothing)?,
                // A layer has no sockets.
                _ => (),
            }
        }
        Ok(())
    }
}

/// All attributes of a file, sorted.
fn xattrs(path: &Path) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut names = vec![0; 4096];
    let n = loop {
        match rustix::fs::llistxattr(path, &mut names) {
            Ok(n) => break n,
            Err(rustix::io::Errno::RANGE) if names.len() < 1 << 20 => names.resize(names.len() * 4, 0),
            Err(rustix::io::Errno::NOTSUP) => break 0,
            Err(error) => return Err(error.into()),
        }
    };
    let mut found = Vec::new();
    for name in names[..n].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; 64 << 10];
        let n = rustix::fs::lgetxattr(path, OsStr::from_bytes(name), &mut value)?;
        value.truncate(n);
        found.push((name.to_vec(), value));
    }
    found.sort_unstable();
    Ok(found)
}
