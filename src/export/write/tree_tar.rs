//! Trees as tar archives: parents first, names in the order of their bytes, numeric owners.
//!
//! Small files are read in batches by all cores; large ones are copied by the kernel.

use std::{
    collections::{BTreeMap, btree_map},
    ffi::OsString,
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    ops::Range,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use rayon::prelude::*;

use super::{
    dest::{ExportDest, WriteFault},
    part::TreePart,
    sparse,
};
use crate::{
    archive::{TAR_END, TarEntry, TarMemberKind, sparse_map, tar_headers, tar_padding},
    export::built::DEEPEST_FOLDER,
    layer::view::{EntryKind, Follow, LocateWalk, ViewEntry, ViewFolder, at},
};

/// Files up to this size are read into memory.
const SMALL: u64 = 64 << 10;
/// Entries per batch: their small files are in memory at the same time.
const BATCH: usize = 256;

/// Writes all parts of a file tree into one tar archive.
pub(super) fn write(parts: &[TreePart], out: &mut ExportDest, moved: &dyn Fn(u64)) -> Result<(), WriteFault> {
    let mut writer = TreeTarWriter { out, buffer: Vec::with_capacity(1 << 20), waiting: Vec::new(), moved };
    for part in parts {
        let mut base = PathBuf::new();
        if let Some(folder) = &part.folder {
            base.push(folder);
            let name = format!("{folder}/");
            let kind = TarMemberKind::Dir;
            let mtime = part.epoch.unwrap_or(0);
            let entry = TarEntry { kind, mtime, ..TarEntry::file(name.as_bytes(), 0o755, 0) };
            writer.header(&entry);
        }
        let mut links = BTreeMap::new();
        let names = folder(&mut writer, part, &part.view.root(), &base, &mut links, 0)?;
        for (name, bytes) in &part.extra {
            let path = base.join(name);
            if names.iter().any(|it| it.as_bytes() == name.as_bytes()) {
                let why = "the result has a file of this name already; set attestation-prefix";
                return Err((path, io::Error::other(why)));
            }
            let mtime = part.epoch.unwrap_or(0);
            let entry = TarEntry { mtime, ..TarEntry::file(path.as_os_str().as_bytes(), 0o600, bytes.len() as u64) };
            writer.header(&entry);
            writer.content(bytes).map_err(|e| (path, e))?;
        }
    }
    let end = |writer: &mut TreeTarWriter<'_>| {
        writer.flush()?;
        writer.out.write_all(&TAR_END)
    };
    end(&mut writer).map_err(|e| (PathBuf::new(), e))
}

struct TreeTarWriter<'a> {
    out: &'a mut ExportDest,
    /// Not yet written: many headers and small files make one write.
    buffer: Vec<u8>,
    /// Headers of folders that are written only if something below them is: those on the way to the current one.
    waiting: Vec<Vec<u8>>,
    moved: &'a dyn Fn(u64),
}

impl TreeTarWriter<'_> {
    fn header(&mut self, entry: &TarEntry<'_>) {
        self.waiting.drain(..).for_each(|folder| self.buffer.extend(folder));
        self.buffer.extend_from_slice(&tar_headers(entry));
    }

    /// Keeps the header of a folder until something below it is written.
    fn hold(&mut self, entry: &TarEntry<'_>) {
        self.waiting.push(tar_headers(entry));
    }

    fn content(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.buffer.extend_from_slice(bytes);
        self.buffer.extend_from_slice(tar_padding(bytes.len() as u64));
        if self.buffer.len() >= 1 << 20 { self.flush() } else { Ok(()) }
    }

    fn file(&mut self, mut file: File, size: u64) -> io::Result<()> {
        self.flush()?;
        let n = self.out.copy(&mut file)?;
        if n != size {
            return Err(io::Error::other(format!("it is {n} instead of {size} bytes long")));
        }
        self.buffer.extend_from_slice(tar_padding(size));
        Ok(())
    }

    /// A file with holes: its header, which has the size of the file, the map of its data, and the data.
    fn sparse(&mut self, header: &TarEntry<'_>, mut file: File, ranges: &[Range<u64>]) -> io::Result<()> {
        let map = sparse_map(ranges, header.size);
        let size = map.len() as u64 + ranges.iter().map(|range| range.end - range.start).sum::<u64>();
        self.header(&TarEntry { size, sparse: Some(header.size), ..header.clone() });
        self.buffer.extend(map);
        self.flush()?;
        for range in ranges {
            file.seek(SeekFrom::Start(range.start))?;
            self.out.copy_part(&mut file, range.end - range.start)?;
        }
        self.buffer.extend_from_slice(tar_padding(size));
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.write_all(&self.buffer)?;
        self.buffer.clear();
        (self.moved)(self.out.written());
        Ok(())
    }
}

/// What a batch has read ahead of one entry.
enum ReadAhead {
    Nothing,
    Bytes(Vec<u8>, TreeXattrs),
    Open(File, TreeXattrs),
    Link(OsString),
    Attributes(TreeXattrs),
}

type TreeXattrs = Vec<(Vec<u8>, Vec<u8>)>;
/// Where the first name of a file with several names is, by layer and inode.
type LinkTargets = BTreeMap<(usize, (u64, u64)), Vec<u8>>;

/// One folder and all below it. Returns the names in it.
fn folder(
    writer: &mut TreeTarWriter<'_>,
    part: &TreePart,
    folder_at: &ViewFolder,
    base: &Path,
    links: &mut LinkTargets,
    depth: usize,
) -> Result<Vec<OsString>, WriteFault> {
    let fail = |e| (folder_at.path().to_owned(), e);
    if depth > DEEPEST_FOLDER {
        return Err(fail(io::Error::other("folders lie too deep")));
    }
    let entries = part.view.list(folder_at).map_err(fail)?;
    for batch in entries.chunks(BATCH) {
        let ahead: Vec<io::Result<ReadAhead>> = batch
            .par_iter()
            .with_min_len(16)
            .map(|(name, entry)| {
                let first = entry.nlink < 2 || !links.contains_key(&(entry.layer, entry.dev_ino));
                if first { read_ahead(part, folder_at, name, entry) } else { Ok(ReadAhead::Nothing) }
            })
            .collect();
        for ((name, entry), ahead) in batch.iter().zip(ahead) {
            let path = folder_at.path().join(name);
            let fail = |e| (path.clone(), e);
            let full = base.join(&path);
            let ahead = ahead.map_err(fail)?;
            let n_waiting = writer.waiting.len();
            let is_of_base = entry.kind == EntryKind::Dir && is_of_base(part, &path, entry, &ahead).map_err(fail)?;
            one(writer, part.epoch, &full, entry, ahead, is_of_base, links).map_err(fail)?;
            if entry.kind == EntryKind::Dir {
                let below = part.view.enter(folder_at, name).map_err(fail)?;
                folder(writer, part, &below, base, links, depth + 1)?;
                writer.waiting.truncate(n_waiting);
            }
        }
    }
    Ok(entries.into_iter().map(|(name, _)| name).collect())
}

fn read_ahead(part: &TreePart, folder: &ViewFolder, name: &OsString, entry: &ViewEntry) -> io::Result<ReadAhead> {
    Ok(match entry.kind {
        EntryKind::File => {
            let file = part.view.file(folder, name, entry)?;
            let xattrs = bytes_of(at::xattrs(&file).unwrap_or_default());
            if entry.size > SMALL {
                return Ok(ReadAhead::Open(file, xattrs));
            }
            let mut content = Vec::with_capacity(usize::try_from(entry.size).unwrap_or(0));
            file.take(SMALL + 1).read_to_end(&mut content)?;
            if content.len() as u64 != entry.size {
                return Err(io::Error::other("it changed while it was read"));
            }
            ReadAhead::Bytes(content, xattrs)
        }
        EntryKind::Symlink => ReadAhead::Link(part.view.link_text(folder, name, entry)?),
        EntryKind::Dir => ReadAhead::Attributes(bytes_of(part.view.xattrs_of(folder, name, entry).unwrap_or_default())),
        EntryKind::Fifo | EntryKind::Socket | EntryKind::CharDev | EntryKind::BlockDev => ReadAhead::Nothing,
    })
}

/// Whether the base image has this folder with the same attributes: it is in the layers above because something below it
/// was added, or only because something was deleted.
fn is_of_base(part: &TreePart, path: &Path, entry: &ViewEntry, ahead: &ReadAhead) -> io::Result<bool> {
    let Some(base) = &part.base else { return Ok(false) };
    let Some(before) = base.lookup(path, Follow::No)? else { return Ok(false) };
    let attributes = |entry: &ViewEntry| (entry.kind, entry.mode, entry.uid, entry.gid);
    let ReadAhead::Attributes(xattrs) = ahead else { return Ok(false) };
    Ok(attributes(&before) == attributes(entry) && bytes_of(base.xattrs(path)?) == *xattrs)
}

fn bytes_of(xattrs: Vec<(OsString, Vec<u8>)>) -> TreeXattrs {
    xattrs.into_iter().map(|(name, value)| (name.as_bytes().to_vec(), value)).collect()
}

/// One entry. A folder of the base image is written when something below it is.
fn one(
    writer: &mut TreeTarWriter<'_>,
    epoch: Option<i64>,
    path: &Path,
    entry: &ViewEntry,
    ahead: ReadAhead,
    is_of_base: bool,
    links: &mut LinkTargets,
) -> io::Result<()> {
    let mut name = path.as_os_str().as_bytes().to_vec();
    let kind = match entry.kind {
        EntryKind::File => TarMemberKind::File,
        EntryKind::Dir => TarMemberKind::Dir,
        EntryKind::Symlink => TarMemberKind::Symlink,
        EntryKind::Fifo => TarMemberKind::Fifo,
        EntryKind::CharDev => TarMemberKind::CharDev,
        EntryKind::BlockDev => TarMemberKind::BlockDev,
        EntryKind::Socket => return Ok(()),
    };
    if entry.kind == EntryKind::Dir {
        name.push(b'/');
    }
    let mut header = TarEntry {
        kind,
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        mtime: epoch.unwrap_or(entry.mtime.0),
        device: entry.rdev,
        ..TarEntry::file(&name, 0, 0)
    };
    if entry.kind == EntryKind::File && entry.nlink > 1 {
        match links.entry((entry.layer, entry.dev_ino)) {
            btree_map::Entry::Occupied(first) => {
                header.kind = TarMemberKind::HardLink;
                header.link = first.get();
                writer.header(&header);
                return Ok(());
            }
            btree_map::Entry::Vacant(free) => {
                free.insert(name.clone());
            }
        }
    }
    match ahead {
        ReadAhead::Nothing => writer.header(&header),
        ReadAhead::Link(text) => writer.header(&TarEntry { link: text.as_bytes(), ..header }),
        ReadAhead::Attributes(xattrs) if is_of_base => writer.hold(&TarEntry { xattrs: &xattrs, ..header }),
        ReadAhead::Attributes(xattrs) => writer.header(&TarEntry { xattrs: &xattrs, ..header }),
        ReadAhead::Bytes(bytes, xattrs) => {
            writer.header(&TarEntry { size: entry.size, xattrs: &xattrs, ..header });
            return writer.content(&bytes);
        }
        ReadAhead::Open(file, xattrs) => {
            let header = TarEntry { size: entry.size, xattrs: &xattrs, ..header };
            if let Some(ranges) = sparse::data_blocks(&file, entry.size)? {
                return writer.sparse(&header, file, &ranges);
            }
            writer.header(&header);
            return writer.file(file, entry.size);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;
    use crate::layer::view::LayerView;

    #[test]
    fn a_tree_is_read_back_as_it_was() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let tree = folder.path().join("tree");
        fs::create_dir_all(tree.join("d/e")).expect("writable");
        fs::write(tree.join("a"), "small").expect("writable");
        fs::write(tree.join("d/big"), vec![7; 200_000]).expect("writable");
        fs::hard_link(tree.join("a"), tree.join("d/z")).expect("writable");
        symlink("../a", tree.join("d/l")).expect("writable");
        let part = |folder: Option<&str>| TreePart {
            view: LayerView::open(std::slice::from_ref(&tree)).expect("there"),
            base: None,
            folder: folder.map(str::to_owned),
            platform: "p".into(),
            epoch: Some(5),
            extra: vec![("provenance.json".into(), b"{}".to_vec())],
        };
        let path = folder.path().join("out.tar");
        let make = |parts: &[TreePart]| {
            let mut place =
                ExportDest::open_at(at::host_dir(folder.path()).expect("there"), std::ffi::OsStr::new("out.tar"))
                    .expect("writable");
            write(parts, &mut place, &|_| {}).expect("written");
            place.finish().expect("renamed");
            fs::read(&path).expect("there")
        };
        let bytes = make(&[part(None)]);
        assert_eq!(bytes, make(&[part(None)]), "equal trees give equal bytes");
        let mut archive = ::tar::Archive::new(bytes.as_slice());
        let mut found = Vec::new();
        for entry in archive.entries().expect("an archive") {
            let mut entry = entry.expect("whole");
            let mut content = Vec::new();
            entry.read_to_end(&mut content).expect("whole");
            let name = entry.path().expect("a name").display().to_string();
            let link = entry.link_name().expect("readable").map(|it| it.display().to_string());
            assert_eq!(entry.header().mtime().expect("a number"), 5);
            found.push((name, content.len(), link));
        }
        let wanted = [
            ("a", 5, None),
            ("d/", 0, None),
            ("d/big", 200_000, None),
            ("d/e/", 0, None),
            ("d/l", 0, Some("../a")),
            ("d/z", 0, Some("a")),
            ("provenance.json", 2, None),
        ];
        let wanted: Vec<_> = wanted.iter().map(|(n, s, l)| ((*n).to_owned(), *s, l.map(str::to_owned))).collect();
        assert_eq!(found, wanted);
        let split = make(&[part(Some("linux_a")), part(Some("linux_b"))]);
        assert!(String::from_utf8_lossy(&split).contains("linux_b/d/big"));
    }
}
