//! ADD of an archive: tar, also compressed with gzip, bzip2, xz or zstd, recognised by its content
//! (<https://docs.docker.com/reference/dockerfile/#add>).
//!
//! Members are hostile: their paths and the links they go through are resolved inside the destination directory, as if
//! that were the root. Unlike layers (`layer::unpack`), names that begin with `.wh.` mean nothing special.

use std::{
    cell::Cell,
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Read, Seek},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    rc::Rc,
};

use tar::EntryType;

use super::{
    error::{FileError, write_error},
    tree_writer::{MadeEntry, TreeWriter, WriteDest, WriteFolder},
};
use crate::layer::view::{EntryKind, Follow, LocateWalk, Location, ViewEntry, at, locate::locate};

/// Names and attributes of one member may take this much.
const MAX_HEADER: u64 = 4 << 20;
/// Memory that one xz or zstd stream may ask for.
const MAX_WINDOW: u32 = 27;
const MAX_XZ_KIB: u32 = 256 * 1024;
const BLOCK: usize = 512;

/// Whether a file, decompressed, starts with the header of a tar member.
pub(crate) fn is_archive(file: &File) -> bool {
    let looks_like_tar = || -> io::Result<bool> {
        let mut block = [0; BLOCK];
        decode(file)?.read_exact(&mut block)?;
        Ok(is_header(&block))
    };
    looks_like_tar().unwrap_or(false)
}

/// Extracts the archive `file` into the directory `root`. `owner` replaces the ids of the archive.
pub(crate) fn extract(
    file: &File,
    shown: &str,
    writer: &TreeWriter,
    root: WriteDest,
    owner: Option<(u32, u32)>,
) -> Result<(), FileError> {
    let place = writer.locate(&root.shown(OsStr::new("")), Follow::No)?;
    let folder = place.folder(writer).map_err(|cause| write_error(&root.shown(OsStr::new("")), cause))?;
    let folder = folder.unwrap_or_else(|| LocateWalk::root(writer));
    let base = place.path.clone();
    let mut extraction = Extraction { writer, shown, base, root: folder, owner, last: None };
    extraction.run(file)
}

/// Decompresses, in the format that the first bytes show.
fn decode(mut file: &File) -> io::Result<Box<dyn Read + '_>> {
    file.rewind()?;
    let mut magic = [0; 6];
    let mut n = 0;
    while n < magic.len() {
        match file.read(&mut magic[n..])? {
            0 => break,
            more => n += more,
        }
    }
    file.rewind()?;
    let buffered = io::BufReader::with_capacity(128 * 1024, file);
    Ok(match &magic[..n] {
        [0x1f, 0x8b, 8, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(buffered)),
        [b'B', b'Z', b'h', ..] => Box::new(bzip2::bufread::MultiBzDecoder::new(buffered)),
        [0xfd, b'7', b'z', b'X', b'Z', 0] => Box::new(lzma_rust2::XzReader::new_mem_limit(buffered, true, MAX_XZ_KIB)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(buffered)?;
            decoder.window_log_max(MAX_WINDOW)?;
            Box::new(decoder)
        }
        _ => Box::new(buffered),
    })
}

/// The checksum of a header is right, and it is not the block of zeros that ends an archive.
fn is_header(block: &[u8; BLOCK]) -> bool {
    if block.iter().all(|it| *it == 0) {
        return false;
    }
    let field = String::from_utf8_lossy(&block[148..156]);
    let Ok(stored) = i64::from_str_radix(field.trim_matches(['\0', ' ']), 8) else { return false };
    let sum = |value: fn(u8) -> i64| -> i64 {
        block.iter().enumerate().map(|(i, it)| value(if (148..156).contains(&i) { b' ' } else { *it })).sum()
    };
    // Some old programs added the bytes up as signed.
    stored == sum(i64::from) || stored == sum(|it| i64::from(it.cast_signed()))
}

/// Bounds what may be read while a header is parsed, which the tar reader keeps in memory.
struct Guarded<'a> {
    inner: Box<dyn Read + 'a>,
    budget: Rc<Cell<u64>>,
}

impl Read for Guarded<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        match self.budget.get().checked_sub(n as u64) {
            Some(left) => self.budget.set(left),
            None => return Err(io::Error::other("the header of a member is larger than 4 MiB")),
        }
        Ok(n)
    }
}

struct Extraction<'a> {
    writer: &'a TreeWriter,
    shown: &'a str,
    /// The destination in the image.
    base: PathBuf,
    root: WriteFolder,
    owner: Option<(u32, u32)>,
    /// The directory of the last member, which the next one is probably in too.
    last: Option<(PathBuf, WriteDest)>,
}

/// The tree as the archive may see it: the destination is the root.
struct Rooted<'a> {
    writer: &'a TreeWriter,
    root: &'a WriteFolder,
}

/// A member of the archive, less its data.
struct ArchiveMember {
    path: PathBuf,
    kind: EntryType,
    made: MadeEntry,
    mtime: (i64, u32),
    link: OsString,
    device: (u32, u32),
    xattrs: Vec<(OsString, Vec<u8>)>,
}

impl Extraction<'_> {
    fn run(&mut self, file: &File) -> Result<(), FileError> {
        let budget = Rc::new(Cell::new(MAX_HEADER));
        let input = decode(file).map_err(|err| self.broken(&err))?;
        let mut archive = tar::Archive::new(Guarded { inner: input, budget: budget.clone() });
        let mut entries = archive.entries().map_err(|err| self.broken(&err))?;
        loop {
            budget.set(MAX_HEADER);
            let Some(entry) = entries.next() else { return Ok(()) };
            let mut entry = entry.map_err(|err| self.broken(&err))?;
            let member = self.member(&mut entry)?;
            budget.set(u64::MAX);
            if let Some(member) = member {
                self.place(&member, &mut entry)?;
            }
            // Skipped data is no header.
            io::copy(&mut entry, &mut io::sink()).map_err(|err| self.broken(&err))?;
        }
    }

    fn member<R: Read>(&self, entry: &mut tar::Entry<'_, R>) -> Result<Option<ArchiveMember>, FileError> {
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XGlobalHeader | EntryType::XHeader) {
            return Ok(None);
        }
        let path = relative(&entry.path_bytes());
        if path.as_os_str().is_empty() {
            return Ok(None);
        }
        let mut read = || -> io::Result<ArchiveMember> {
            let mut xattrs = Vec::new();
            let mut mtime = (i64::try_from(entry.header().mtime()?).unwrap_or(i64::MAX), 0);
            if let Some(extensions) = entry.pax_extensions()? {
                for extension in extensions {
                    let extension = extension?;
                    let (key, value) = (extension.key_bytes(), extension.value_bytes());
                    if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                        if at::is_content_xattr(name) {
                            xattrs.push((OsStr::from_bytes(name).to_owned(), value.to_vec()));
                        }
                    } else if key == b"mtime" {
                        mtime.0 = whole_seconds(value).ok_or_else(|| io::Error::other("malformed time"))?;
                    }
                }
            }
            let header = entry.header();
            let id = |id: u64| u32::try_from(id).map_err(|_| io::Error::other("a user or group id is too large"));
            let owner = match self.owner {
                Some(owner) => owner,
                None => (id(header.uid()?)?, id(header.gid()?)?),
            };
            let device = match kind {
                EntryType::Char | EntryType::Block => {
                    (header.device_major()?.unwrap_or(0), header.device_minor()?.unwrap_or(0))
                }
                _ => (0, 0),
            };
            let made = MadeEntry { mode: header.mode()? & 0o7777, owner };
            let link = entry.link_name_bytes().map_or_else(OsString::new, |it| OsStr::from_bytes(&it).to_owned());
            Ok(ArchiveMember { path: path.clone(), kind, made, mtime, link, device, xattrs })
        };
        read().map(Some).map_err(|err| self.broken_member(&path, &err))
    }

    fn place(&mut self, member: &ArchiveMember, data: &mut impl Read) -> Result<(), FileError> {
        let name = member.path.file_name().unwrap_or_default().to_owned();
        let parent = self.parent(&member.path)?;
        let existing = self.writer.existing(&parent, &name)?;
        let is_dir = |entry: &ViewEntry| entry.kind == EntryKind::Dir;
        let merged = existing.as_ref().is_some_and(is_dir) && member.kind == EntryType::Directory;
        // What a hard link points to may be what would have to make room for it.
        let mut link = None;
        if member.kind == EntryType::Link {
            let target = self.link_target(member)?;
            if target == self.writer.path_of(&parent, &name) {
                self.last = Some((self.parent_text(&member.path), parent));
                return Ok(());
            }
            link = Some(target);
        }
        if let Some(existing) = existing.as_ref().filter(|_| !merged) {
            self.writer.remove(&parent, &name, existing)?;
        }
        let to = (&parent, name.as_os_str());
        match member.kind {
            EntryType::Directory => {
                let dir = match existing.as_ref().filter(|_| merged) {
                    Some(existing) => self.writer.open_dir(&parent, &name, existing)?,
                    None => self.writer.make_dir(&parent, &name, member.made)?,
                };
                self.writer.dress_dir(&dir, member.made)?;
                self.writer.set_dir_xattrs(&dir, &member.xattrs);
                self.writer.set_dir_time(&dir, member.mtime);
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let mut file = self.writer.create(&parent, &name)?;
                self.copy_data(member, data, &mut file, &parent, &name)?;
                self.writer.dress_file(to, &file, member.made, &member.xattrs, Some(member.mtime))?;
            }
            EntryType::Symlink => {
                self.writer.symlink(&parent, &name, &member.link)?;
                self.writer.dress(to, EntryKind::Symlink, member.made, member.mtime)?;
            }
            EntryType::Link => {
                self.writer.link_upper(&link.unwrap_or_default(), &parent, &name)?;
                // The last entry of linked ones says what they are like.
                let kind = self.writer.existing(&parent, &name)?.map_or(EntryKind::File, |it| it.kind);
                self.writer.dress(to, kind, member.made, member.mtime)?;
            }
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                let kind = match member.kind {
                    EntryType::Char => EntryKind::CharDev,
                    EntryType::Block => EntryKind::BlockDev,
                    _ => EntryKind::Fifo,
                };
                self.writer.make_node(&parent, &name, kind, member.device)?;
                self.writer.dress(to, kind, member.made, member.mtime)?;
            }
            other => {
                let why = format!("a member of unknown type {:?}", char::from(other.as_byte()));
                return Err(self.broken_member(&member.path, &io::Error::other(why)));
            }
        }
        // A directory that something else replaced may have been on the way to the last one.
        let same_way = existing.is_none() || merged || !existing.as_ref().is_some_and(is_dir);
        self.last = same_way.then(|| (self.parent_text(&member.path), parent));
        Ok(())
    }

    fn copy_data(
        &self,
        member: &ArchiveMember,
        data: &mut impl Read,
        file: &mut File,
        parent: &WriteDest,
        name: &OsStr,
    ) -> Result<(), FileError> {
        let mut buffer = vec![0; 128 * 1024];
        loop {
            let n = match data.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(n) => n,
                Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
                Err(err) => return Err(self.broken_member(&member.path, &err)),
            };
            io::Write::write_all(file, &buffer[..n]).map_err(|cause| write_error(&parent.shown(name), cause))?;
        }
    }

    fn parent_text(&self, path: &Path) -> PathBuf {
        path.parent().unwrap_or(Path::new("")).to_owned()
    }

    /// The directory that a member goes into, links followed inside the destination; missing ones are made.
    fn parent(&mut self, path: &Path) -> Result<WriteDest, FileError> {
        let text = self.parent_text(path);
        match self.last.take() {
            Some((last, dest)) if last == text => return Ok(dest),
            _ => (),
        }
        let place = self.locate(&text, Follow::Last)?;
        if let Some(through) = place.through {
            return Err(FileError::NotDirectory { path: self.in_image(&through).display().to_string() });
        }
        self.writer.make_dirs(&self.in_image(&place.path), MadeEntry { mode: 0o755, owner: (0, 0) })
    }

    /// The file in the upper directory that a hard link means. One that is only below is copied first.
    fn link_target(&self, member: &ArchiveMember) -> Result<PathBuf, FileError> {
        let missing =
            || self.broken_member(&member.path, &io::Error::other("it is a hard link to something that is not there"));
        let target = relative(member.link.as_bytes());
        let place = self.locate(&target, Follow::No)?;
        let (Some(entry), Some(name)) = (&place.entry, place.name()) else { return Err(missing()) };
        let in_image = self.in_image(&place.path);
        let parent = in_image.parent().unwrap_or(Path::new("/"));
        let dest = self.writer.make_dirs(parent, MadeEntry { mode: 0o755, owner: (0, 0) })?;
        self.writer.raise(&dest, name, entry)?;
        Ok(self.writer.path_of(&dest, name))
    }

    fn locate(&self, path: &Path, follow: Follow) -> Result<Location<WriteFolder>, FileError> {
        let tree = Rooted { writer: self.writer, root: &self.root };
        locate(&tree, path.as_os_str(), follow)
            .map_err(|cause| write_error(&self.in_image(path).display().to_string(), cause))
    }

    /// A path of the archive as one of the image.
    fn in_image(&self, path: &Path) -> PathBuf {
        self.base.join(path.strip_prefix("/").unwrap_or(path))
    }

    fn broken(&self, err: &io::Error) -> FileError {
        FileError::Archive { path: self.shown.to_owned(), why: err.to_string() }
    }

    fn broken_member(&self, path: &Path, err: &io::Error) -> FileError {
        FileError::Archive { path: self.shown.to_owned(), why: format!("member `{}`: {err}", path.display()) }
    }
}

impl LocateWalk for Rooted<'_> {
    type Folder = WriteFolder;

    fn root(&self) -> WriteFolder {
        self.root.clone()
    }
    fn root_entry(&self) -> io::Result<ViewEntry> {
        self.writer.root_entry()
    }
    fn child(&self, folder: &WriteFolder, name: &OsStr) -> io::Result<Option<ViewEntry>> {
        self.writer.child(folder, name)
    }
    fn enter(&self, folder: &WriteFolder, name: &OsStr) -> io::Result<WriteFolder> {
        self.writer.enter(folder, name)
    }
    fn link_text(&self, folder: &WriteFolder, name: &OsStr, entry: &ViewEntry) -> io::Result<OsString> {
        self.writer.link_text(folder, name, entry)
    }
}

/// The path of a member without leading slashes, `.` and `..`, none of which lead outside.
fn relative(bytes: &[u8]) -> PathBuf {
    let mut path = PathBuf::new();
    for name in bytes.split(|it| *it == b'/') {
        match name {
            b"" | b"." => (),
            b".." => drop(path.pop()),
            name => path.push(OsStr::from_bytes(name)),
        }
    }
    path
}

/// The whole seconds of a time such as `1234.5` or `-1`.
fn whole_seconds(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    let below = whole.starts_with('-') && fraction.bytes().any(|it| it != b'0');
    Some(if below { seconds.checked_sub(1)? } else { seconds })
}
