//! Unpacks a layer, compressed or not, into an empty directory, in overlayfs form. Safe against any archive; where names
//! lead is decided in `dest`.

use std::{
    ffi::OsStr,
    io::{ErrorKind, Read},
    os::{
        fd::AsFd,
        unix::{ffi::OsStrExt, fs::FileExt as _},
    },
    path::{Path, PathBuf},
};

use rustix::fs::FileType;

use super::{
    dest::{Metadata, UnpackDest, UnpackFolder, names, new_file, node, set_metadata, set_times, symlink},
    encode::Sum,
    error::LayerError,
    parallel::{PipeReader, pipe},
    space::FreeSpace,
};
use crate::{
    archive::{ArchiveError, MAX_MEMBERS, TarMember, TarMemberKind, TarReader, decode},
    oci::DiffId,
};

type UnpackResult<T> = std::result::Result<T, LayerError>;

/// Limits of what an archive may need; more is an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UnpackLimits {
    /// Headers in the archive.
    pub(crate) entries: u64,
    /// Uncompressed bytes of the archive, and bytes of all files.
    pub(crate) bytes: u64,
}

impl Default for UnpackLimits {
    fn default() -> Self {
        Self { entries: MAX_MEMBERS, bytes: 1 << 38 }
    }
}

/// Unpacks a layer into `dest`, an empty directory that becomes an overlayfs upper directory above `lowers` (bottom first),
/// and returns its diff id: the digest of all uncompressed bytes, those behind the archive included.
///
/// Parents that the archive does not hold get the metadata that they have below; hard links to files below copy those up.
/// Whiteouts are those of the OCI image specification, "Image Layer Filesystem Changeset".
///
/// *Cost:* a bounded amount of memory, whatever the archive says: the limits of `crate::archive`, and the paths of the
/// directories of the layer.
///
/// # Errors
/// When the archive is malformed, breaks `limits`, or does not fit into the free space of the file system; or when the
/// system refuses an entry.
pub(crate) fn unpack(
    tar: impl Read + Send,
    dest: &Path,
    lowers: &[PathBuf],
    limits: &UnpackLimits,
) -> UnpackResult<DiffId> {
    let dest = UnpackDest::open(dest, lowers)?;
    // Reading and decompressing are one thread, hashing and unpacking another.
    let (writer, reader) = pipe();
    std::thread::scope(|scope| {
        scope.spawn(move || match decode(tar) {
            Ok(mut bytes) => writer.copy(&mut bytes),
            Err(error) => writer.finish(Err(error)),
        });
        let bytes = Counted { input: reader, sum: Sum::new(), limit: limits.bytes };
        let space = FreeSpace::new(dest.root()?)?;
        let mut unpacking = Unpacking { dest, space, content: 0, limit: limits.bytes, buffer: vec![0; 256 << 10] };
        let mut reader = TarReader::new(bytes, limits.entries);
        while let Some(member) = reader.next()? {
            unpacking.put(&member, &mut reader)?;
        }
        let mut rest = reader.into_rest();
        while rest.read(&mut unpacking.buffer).map_err(ArchiveError::Read)? > 0 {}
        unpacking.dest.finish()?;
        Ok(DiffId(rest.sum.finish()))
    })
}

struct Unpacking {
    dest: UnpackDest,
    space: FreeSpace,
    /// Bytes of all files so far, and the most there may be.
    content: u64,
    limit: u64,
    buffer: Vec<u8>,
}

impl Unpacking {
    fn put<R: Read>(&mut self, member: &TarMember, reader: &mut TarReader<R>) -> UnpackResult<()> {
        let path = names(&member.path)?;
        let Some((name, parents)) = path.split_last() else {
            return match member.kind {
                TarMemberKind::Dir => self.dest.put_root(&Metadata::of(member)),
                _ => Err(LayerError::entry("the name is that of the root", &member.path)),
            };
        };
        // Holes of a sparse file take no room.
        self.space.take(&member.path, member.stored)?;
        let folder = self.dest.folder(parents, member.mtime)?;
        if let Some(hidden) = name.strip_prefix(b".wh.") {
            return self.whiteout(&folder, hidden, &member.path);
        }
        let name = OsStr::from_bytes(name);
        let metadata = Metadata::of(member);
        match member.kind {
            TarMemberKind::Dir => return self.dest.put_folder(&folder, name, &metadata),
            TarMemberKind::HardLink => {
                let target = names(&member.link)?;
                return self.dest.hard_link(&folder, name, &target, &member.path);
            }
            // Cleared when something is found to be there.
            TarMemberKind::File => return self.file(&folder, name, member, reader),
            _ => self.dest.clear(&folder, name)?,
        }
        match member.kind {
            TarMemberKind::Symlink => symlink(&folder, name, &member.link, &metadata, &member.path),
            TarMemberKind::Fifo => node(&folder, name, FileType::Fifo, (0, 0), &metadata, &member.path),
            // In an upper directory it would hide what is below.
            TarMemberKind::CharDev if member.device == (0, 0) => {
                Err(LayerError::entry("a device with the number 0:0", &member.path))
            }
            kind => {
                let block = kind == TarMemberKind::BlockDev;
                let kind = if block { FileType::BlockDevice } else { FileType::CharacterDevice };
                node(&folder, name, kind, member.device, &metadata, &member.path)
            }
        }
    }

    fn whiteout(&mut self, folder: &UnpackFolder, hidden: &[u8], shown: &[u8]) -> UnpackResult<()> {
        match hidden {
            b".wh..opq" => self.dest.opaque(folder),
            // Bookkeeping of aufs in old images.
            _ if hidden.starts_with(b".wh.") => Ok(()),
            b"" | b"." | b".." => Err(LayerError::entry("a whiteout of nothing", shown)),
            _ => self.dest.whiteout(folder, OsStr::from_bytes(hidden)),
        }
    }

    fn file<R: Read>(
        &mut self,
        folder: &UnpackFolder,
        name: &OsStr,
        member: &TarMember,
        reader: &mut TarReader<R>,
    ) -> UnpackResult<()> {
        let shown = &member.path;
        self.content = self.content.saturating_add(member.size);
        if self.content > self.limit {
            return Err(ArchiveError::Limit { what: "bytes", limit: self.limit }.into());
        }
        let file = match new_file(folder, name, shown) {
            Err(LayerError::Io { source, .. }) if source.kind() == ErrorKind::AlreadyExists => {
                self.dest.clear(folder, name)?;
                new_file(folder, name, shown)?
            }
            other => other?,
        };
        let write = |action: &'static str| LayerError::io::<std::io::Error>(action, shown);
        while let Some((at, n)) = reader.chunk(&mut self.buffer)? {
            file.write_all_at(&self.buffer[..n], at).map_err(write("write"))?;
        }
        if member.is_sparse {
            file.set_len(member.size).map_err(write("write"))?;
        }
        let metadata = Metadata::of(member);
        set_metadata(file.as_fd(), &metadata, shown)?;
        set_times(file.as_fd(), metadata.mtime, shown)
    }
}

/// A reader that hashes and counts what goes through, up to a limit.
struct Counted {
    input: PipeReader,
    sum: Sum,
    limit: u64,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.input.read(buffer)?;
        self.sum.update(&buffer[..n]);
        if self.sum.size() > self.limit {
            let text = format!("it has more than {} uncompressed bytes", self.limit);
            return Err(std::io::Error::new(ErrorKind::FileTooLarge, text));
        }
        Ok(n)
    }
}
