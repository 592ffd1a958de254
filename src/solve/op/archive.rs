//! ADD of an archive: tar, also compressed with gzip, bzip2, xz or zstd, recognised by its content
//! (<https://docs.docker.com/reference/dockerfile/#add>).
//!
//! Members are hostile: their paths and the links they go through are resolved inside the destination directory, as if
//! that were the root. Unlike layers (`layer::unpack`), names that begin with `.wh.` mean nothing special.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Read, Seek},
    os::unix::{
        ffi::{OsStrExt, OsStringExt as _},
        fs::FileExt as _,
    },
    path::{Path, PathBuf},
};

use super::{
    error::{FileError, write_error},
    tree_writer::{MadeEntry, TreeWriter, WriteDest, WriteFolder},
};
use crate::{
    archive::{self, MAX_MEMBERS, TarMember, TarMemberKind, TarReader, is_tar_header},
    layer::view::{EntryKind, Follow, LocateWalk, Location, ViewEntry, at, locate::locate},
};

/// Whether a file, decompressed if need be, begins with the header of a tar member.
pub(crate) fn is_archive(file: &File) -> bool {
    let looks_like_tar = || -> io::Result<bool> {
        let mut block = [0; 512];
        decode(file)?.read_exact(&mut block)?;
        Ok(is_tar_header(&block))
    };
    looks_like_tar().unwrap_or(false)
}

/// Unpacks the archive `file` into the directory `root` (ADD of a local archive). `owner` replaces the ids of the
/// archive.
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

/// The decompressed bytes of a file, from its beginning.
fn decode(mut file: &File) -> io::Result<Box<dyn Read + Send + '_>> {
    file.rewind()?;
    archive::decode(file)
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

/// A member of the archive with its place in the image.
struct ArchiveMember {
    /// Below the destination, clean.
    path: PathBuf,
    kind: TarMemberKind,
    made: MadeEntry,
    /// Whole seconds: the peer drops the rest.
    mtime: (i64, u32),
    link: OsString,
    device: (u32, u32),
    xattrs: Vec<(OsString, Vec<u8>)>,
    size: u64,
    is_sparse: bool,
}

impl Extraction<'_> {
    fn run(&mut self, file: &File) -> Result<(), FileError> {
        let input = decode(file).map_err(|err| self.broken(&err))?;
        let mut reader = TarReader::new(input, MAX_MEMBERS);
        while let Some(member) = reader.next().map_err(|err| self.broken(&err))? {
            if let Some(member) = self.member(member) {
                self.place(&member, &mut reader)?;
            }
        }
        Ok(())
    }

    /// `None` for the destination itself.
    fn member(&self, member: TarMember) -> Option<ArchiveMember> {
        let path = relative(&member.path);
        if path.as_os_str().is_empty() {
            return None;
        }
        let xattrs = member.xattrs.into_iter().filter(|(name, _)| at::is_content_xattr(name));
        Some(ArchiveMember {
            path,
            kind: member.kind,
            made: MadeEntry { mode: member.mode, owner: self.owner.unwrap_or((member.uid, member.gid)) },
            mtime: (member.mtime.0, 0),
            link: OsString::from_vec(member.link),
            device: member.device,
            xattrs: xattrs.map(|(name, value)| (OsString::from_vec(name), value)).collect(),
            size: member.size,
            is_sparse: member.is_sparse,
        })
    }

    fn place(&mut self, member: &ArchiveMember, data: &mut TarReader<impl Read>) -> Result<(), FileError> {
        let name = member.path.file_name().unwrap_or_default().to_owned();
        let parent = self.parent(&member.path)?;
        let existing = self.writer.existing(&parent, &name)?;
        let is_dir = |entry: &ViewEntry| entry.kind == EntryKind::Dir;
        let merged = existing.as_ref().is_some_and(is_dir) && member.kind == TarMemberKind::Dir;
        // What a hard link points to may be what would have to make room for it.
        let mut link = None;
        if member.kind == TarMemberKind::HardLink {
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
            TarMemberKind::Dir => {
                let dir = match existing.as_ref().filter(|_| merged) {
                    Some(existing) => self.writer.open_dir(&parent, &name, existing)?,
                    None => self.writer.make_dir(&parent, &name, member.made)?,
                };
                self.writer.dress_dir(&dir, member.made)?;
                self.writer.set_dir_xattrs(&dir, &member.xattrs);
                self.writer.set_dir_time(&dir, member.mtime);
            }
            TarMemberKind::File => {
                let file = self.writer.create(&parent, &name)?;
                self.copy_data(member, data, &file, &parent, &name)?;
                self.writer.dress_file(to, &file, member.made, &member.xattrs, member.mtime)?;
            }
            TarMemberKind::Symlink => {
                self.writer.symlink(&parent, &name, &member.link)?;
                self.writer.dress(to, EntryKind::Symlink, member.made, member.mtime)?;
            }
            TarMemberKind::HardLink => {
                self.writer.link_upper(&link.unwrap_or_default(), &parent, &name)?;
                // The last entry of linked ones says what they are like.
                let kind = self.writer.existing(&parent, &name)?.map_or(EntryKind::File, |it| it.kind);
                self.writer.dress(to, kind, member.made, member.mtime)?;
            }
            TarMemberKind::CharDev | TarMemberKind::BlockDev | TarMemberKind::Fifo => {
                let kind = match member.kind {
                    TarMemberKind::CharDev => EntryKind::CharDev,
                    TarMemberKind::BlockDev => EntryKind::BlockDev,
                    _ => EntryKind::Fifo,
                };
                self.writer.make_node(&parent, &name, kind, member.device)?;
                self.writer.dress(to, kind, member.made, member.mtime)?;
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
        data: &mut TarReader<impl Read>,
        file: &File,
        parent: &WriteDest,
        name: &OsStr,
    ) -> Result<(), FileError> {
        let fault = |cause| write_error(&parent.shown(name), cause);
        let mut buffer = vec![0; 128 * 1024];
        while let Some((at, n)) = data.chunk(&mut buffer).map_err(|err| self.broken_member(&member.path, &err))? {
            file.write_all_at(&buffer[..n], at).map_err(fault)?;
        }
        if member.is_sparse {
            file.set_len(member.size).map_err(fault)?;
        }
        Ok(())
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

    fn broken(&self, err: &dyn std::error::Error) -> FileError {
        FileError::Archive { path: self.shown.to_owned(), why: err.to_string() }
    }

    fn broken_member(&self, path: &Path, err: &dyn std::error::Error) -> FileError {
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
