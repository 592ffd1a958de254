//! Unpacks a layer, compressed or not, into an empty directory, in overlayfs form. Safe against any archive; where names
//! lead is decided in `dest`.

use std::{
    ffi::OsStr,
    io::{ErrorKind, Read, Write},
    os::{fd::AsFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
};

use rustix::fs::FileType;

use super::{
    decode::decode,
    dest::{Metadata, UnpackDest, UnpackFolder, names, new_file, node, set_open, set_open_times, symlink},
    encode::Sum,
    error::LayerError,
    parallel::{PipeReader, pipe},
    tar_read::{TarMember, TarMemberKind, TarReader},
};
use crate::oci::DiffId;

type UnpackResult<T> = std::result::Result<T, LayerError>;

/// What an archive may need. Beyond it is an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UnpackLimits {
    /// Headers in the archive.
    pub(crate) entries: u64,
    /// Uncompressed bytes of the archive, and bytes of all files.
    pub(crate) bytes: u64,
}

impl Default for UnpackLimits {
    fn default() -> Self {
        Self { entries: 10_000_000, bytes: 1 << 38 }
    }
}

/// Unpacks a layer into `dest`, an empty directory that becomes an overlayfs upper directory above `lowers` (bottom
/// first), and gives its diff id: that of all uncompressed bytes, those behind the archive included. Parents that the archive does not hold get the metadata they have below; hard links to files below bring
/// them up.
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
        let mut unpacking = Unpacking { dest, content: 0, limit: limits.bytes, buffer: vec![0; 256 << 10] };
        let mut reader = TarReader::new(bytes, limits.entries);
        while let Some(member) = reader.next()? {
            unpacking.put(&member, &mut reader)?;
        }
        let mut rest = reader.into_rest();
        while rest.read(&mut unpacking.buffer).map_err(LayerError::Read)? > 0 {}
        unpacking.dest.finish()?;
        Ok(DiffId(rest.sum.finish()))
    })
}

struct Unpacking {
    dest: UnpackDest,
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
            // Books of aufs, from old images.
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
            return Err(LayerError::Limit { what: "bytes", limit: self.limit });
        }
        let mut file = match new_file(folder, name, shown) {
            Err(LayerError::Io { source, .. }) if source.kind() == ErrorKind::AlreadyExists => {
                self.dest.clear(folder, name)?;
                new_file(folder, name, shown)?
            }
            other => other?,
        };
        let write = |action: &'static str| LayerError::io::<std::io::Error>(action, shown);
        match &member.sparse {
            None => loop {
                let n = reader.data(&mut self.buffer)?;
                if n == 0 {
                    break;
                }
                file.write_all(&self.buffer[..n]).map_err(write("write"))?;
            },
            Some(pieces) => {
                use std::os::unix::fs::FileExt as _;
                for (offset, length) in pieces {
                    let (mut at, end) = (*offset, offset + length);
                    while at < end {
                        let want = (end - at).min(self.buffer.len() as u64) as usize;
                        let n = reader.data(&mut self.buffer[..want])?;
                        if n == 0 {
                            return Err(LayerError::entry("the map of a sparse file is not about its data", shown));
                        }
                        file.write_all_at(&self.buffer[..n], at).map_err(write("write"))?;
                        at += n as u64;
                    }
                }
                file.set_len(member.size).map_err(write("write"))?;
            }
        }
        let metadata = Metadata::of(member);
        set_open(file.as_fd(), &metadata, shown)?;
        set_open_times(file.as_fd(), metadata.mtime, shown)
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
