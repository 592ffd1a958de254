//! Reads tar archives of any dialect (v7, ustar, PAX, GNU) from a stream, in bounded memory. Checks form only: what a name
//! may mean is for those who unpack.
//!
//! Formats: POSIX.1-2017 `pax` (ustar and PAX records), and the manual of GNU tar for long names and sparse files.
//!
//! The `tar` crate was tried and serves the tests as a second opinion. It reads extension headers of any size into memory,
//! knows neither the sparse files of PAX nor times before 1970, and leaves the PAX records of owner and time to its caller,
//! so that each of its three users had a reader of records beside it.
//!
//! What one member can take of memory is bounded by [`MAX_EXTENSION`], [`MAX_RECORDS`], [`MAX_XATTRS`] and [`MAX_PIECES`]
//! whatever the archive says; how many members there may be is said by the caller.

use std::io::Read;

use super::{
    error::ArchiveError,
    header::{BLOCK, decimal, field, has_right_checksum, header_path, number, parse_record, tar_padding, time},
};

/// The type of a member; its number is the type flag of POSIX.1-2017, `pax`, "ustar Interchange Format".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum TarMemberKind {
    File = b'0',
    HardLink = b'1',
    Symlink = b'2',
    CharDev = b'3',
    BlockDev = b'4',
    Dir = b'5',
    Fifo = b'6',
}

impl TarMemberKind {
    const ALL: [Self; 7] =
        [Self::File, Self::HardLink, Self::Symlink, Self::CharDev, Self::BlockDev, Self::Dir, Self::Fifo];

    fn of_flag(flag: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == flag)
    }
}

/// The header of one tar member. Its data is read next, by [`TarReader::chunk`].
#[derive(Clone, Debug)]
pub(crate) struct TarMember {
    pub(crate) path: Vec<u8>,
    /// Target of a link.
    pub(crate) link: Vec<u8>,
    pub(crate) kind: TarMemberKind,
    /// Permissions with setuid, setgid and sticky.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Seconds and nanoseconds.
    pub(crate) mtime: (i64, u32),
    /// Bytes of the file.
    pub(crate) size: u64,
    /// Bytes of data in the archive: fewer than the file has if it is sparse.
    pub(crate) stored: u64,
    /// Whether the file has holes: [`TarReader::chunk`] gives what is between them.
    pub(crate) is_sparse: bool,
    /// Major and minor number of a device.
    pub(crate) device: (u32, u32),
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Reads a tar archive of any dialect as a stream, in bounded memory.
pub(crate) struct TarReader<R> {
    input: R,
    /// Bytes of data of the current member that were not read yet, and the padding after them.
    left: u64,
    padding: u64,
    /// Where the data of the current member belongs: (offset, length), ascending.
    pieces: Vec<(u64, u64)>,
    /// The piece that is being read, and how many bytes of it were read.
    piece: usize,
    in_piece: u64,
    /// Headers read, of any kind.
    headers: u64,
    max_headers: u64,
    /// Bytes of the extension headers of the member that is being read.
    extension_bytes: u64,
}

/// Bytes that all extension headers of one member (PAX records, long names) may have together. The kernel's longest path
/// has 4095 bytes, its longest list of names of attributes 64 KiB; the rest is room for values of attributes.
const MAX_EXTENSION: u64 = 1 << 20;
/// PAX records of one member.
const MAX_RECORDS: usize = 1 << 16;
/// Extended attributes of one member.
const MAX_XATTRS: usize = 4096;
/// Pieces of a sparse file.
const MAX_PIECES: usize = 1 << 20;
/// The number of headers beyond which an archive is refused: no honest archive has as many.
pub(crate) const MAX_MEMBERS: u64 = 10_000_000;

type TarResult<T> = std::result::Result<T, ArchiveError>;

/// What extension headers say of the next member.
#[derive(Default)]
struct Extension {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u32>,
    gid: Option<u32>,
    mtime: Option<(i64, u32)>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    sparse: Option<PaxSparse>,
    records: usize,
}

#[derive(Default)]
struct PaxSparse {
    major: u64,
    name: Option<Vec<u8>>,
    size: Option<u64>,
    /// Version 0: offsets and lengths in turn.
    numbers: Vec<u64>,
}

impl<R: Read> TarReader<R> {
    /// A reader of uncompressed bytes; more than `max_headers` headers of any kind are an error.
    pub(crate) fn new(input: R, max_headers: u64) -> Self {
        let (pieces, extension_bytes) = (Vec::new(), 0);
        Self { input, left: 0, padding: 0, pieces, piece: 0, in_piece: 0, headers: 0, max_headers, extension_bytes }
    }

    /// The input behind what was read, for the bytes after the end of the archive.
    pub(crate) fn into_rest(self) -> R {
        self.input
    }

    /// The input itself, for a caller that counts its bytes.
    pub(crate) fn source(&mut self) -> &mut R {
        &mut self.input
    }

    /// Reads the header of the next member; `None` at the end of the archive. Data of the last one that was not read is
    /// skipped.
    pub(crate) fn next(&mut self) -> TarResult<Option<TarMember>> {
        let mut extension = Extension::default();
        self.extension_bytes = 0;
        loop {
            self.skip(self.left.saturating_add(self.padding))?;
            (self.left, self.padding) = (0, 0);
            let Some(block) = self.header()? else { return Ok(None) };
            let size = number(&block[124..136]).filter(|it| *it >= 0);
            let size = size.ok_or_else(|| ArchiveError::member("not a size", &field(&block[..100])))? as u64;
            match block[156] {
                b'x' => self.pax(size, &mut extension)?,
                b'L' => extension.path = Some(self.long_name(size)?),
                b'K' => extension.link = Some(self.long_name(size)?),
                // Global records (comments of git) and volume names are about no member.
                b'g' | b'V' => self.has_data(size),
                _ => return self.member(&block, size, extension).map(Some),
            }
        }
    }

    /// Reads the next data of the current member into `buffer`; returns its offset in the file and its length, `None`
    /// at the end.
    ///
    /// What no chunk covers of a sparse file is zeros.
    pub(crate) fn chunk(&mut self, buffer: &mut [u8]) -> TarResult<Option<(u64, usize)>> {
        while let Some((offset, length)) = self.pieces.get(self.piece).copied() {
            if self.in_piece == length {
                (self.piece, self.in_piece) = (self.piece + 1, 0);
                continue;
            }
            let want = usize::try_from(length - self.in_piece).unwrap_or(usize::MAX).min(buffer.len());
            let n = self.data(&mut buffer[..want])?;
            if n == 0 {
                return Err(ArchiveError::Malformed("the map of a sparse file is not about its data"));
            }
            let at = offset + self.in_piece;
            self.in_piece += n as u64;
            return Ok(Some((at, n)));
        }
        Ok(None)
    }

    /// Reads data of the current member as it is in the archive; returns the number of bytes, zero at its end.
    pub(crate) fn data(&mut self, buffer: &mut [u8]) -> TarResult<usize> {
        let want = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if want == 0 {
            return Ok(0);
        }
        let n = self.read(&mut buffer[..want])?;
        if n == 0 {
            return Err(ArchiveError::Malformed("it ends in the middle of a file"));
        }
        self.left -= n as u64;
        Ok(n)
    }

    /// A header block that checks; `None` at the end.
    fn header(&mut self) -> TarResult<Option<[u8; BLOCK]>> {
        let mut block = [0; BLOCK];
        let mut have = 0;
        while have < BLOCK {
            match self.read(&mut block[have..])? {
                0 if have == 0 => return Ok(None),
                0 => return Err(ArchiveError::Malformed("it ends in the middle of a header")),
                n => have += n,
            }
        }
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        self.headers += 1;
        if self.headers > self.max_headers {
            return Err(ArchiveError::Limit { what: "entries", limit: self.max_headers });
        }
        if !has_right_checksum(&block) {
            return Err(ArchiveError::member("the header has another checksum", &field(&block[..100])));
        }
        Ok(Some(block))
    }

    fn member(&mut self, block: &[u8; BLOCK], size: u64, extension: Extension) -> TarResult<TarMember> {
        let mut path = extension.path.unwrap_or_else(|| header_path(block));
        let pax_sparse = extension.sparse;
        if let Some(name) = pax_sparse.as_ref().and_then(|it| it.name.clone()) {
            path = name;
        }
        let bad = |what| ArchiveError::member(what, &path);
        let kind = match block[156] {
            b'0' | 0 | b'7' if path.ends_with(b"/") => TarMemberKind::Dir,
            0 | b'7' | b'S' => TarMemberKind::File,
            flag => TarMemberKind::of_flag(flag).ok_or_else(|| bad("unknown type of entry"))?,
        };
        let word = |range: std::ops::Range<usize>, what| {
            number(&block[range]).and_then(|it| u32::try_from(it).ok()).ok_or_else(|| bad(what))
        };
        let is_device = matches!(kind, TarMemberKind::CharDev | TarMemberKind::BlockDev);
        let device =
            if is_device { (word(329..337, "not a device")?, word(337..345, "not a device")?) } else { (0, 0) };
        let size = if kind == TarMemberKind::File { extension.size.unwrap_or(size) } else { 0 };
        self.has_data(size);
        let mut member = TarMember {
            link: extension.link.unwrap_or_else(|| field(&block[157..257])),
            kind,
            mode: number(&block[100..108]).ok_or_else(|| bad("not a mode"))? as u32 & 0o7777,
            uid: extension.uid.map_or_else(|| word(108..116, "not a user id"), Ok)?,
            gid: extension.gid.map_or_else(|| word(116..124, "not a group id"), Ok)?,
            mtime: match extension.mtime {
                Some(mtime) => mtime,
                None => (number(&block[136..148]).ok_or_else(|| bad("not a time"))?, 0),
            },
            size,
            stored: size,
            is_sparse: false,
            device,
            xattrs: extension.xattrs,
            path: path.clone(),
        };
        (self.piece, self.in_piece) = (0, 0);
        self.pieces.clear();
        self.pieces.push((0, size));
        if member.path.contains(&0) || member.link.contains(&0) {
            return Err(bad("a zero byte in a name"));
        }
        if kind == TarMemberKind::File {
            if block[156] == b'S' {
                self.gnu_sparse(block, &mut member)?;
            } else if let Some(sparse) = pax_sparse {
                self.pax_sparse(sparse, &mut member)?;
            }
        }
        Ok(member)
    }

    /// The map of the old GNU form: in the header, then in blocks behind it.
    fn gnu_sparse(&mut self, block: &[u8; BLOCK], member: &mut TarMember) -> TarResult<()> {
        let bad = |path: &[u8]| ArchiveError::member("not a map of a sparse file", path);
        let mut numbers = Vec::new();
        let mut add = |piece: &[u8], path: &[u8]| -> TarResult<()> {
            if piece[0] != 0 && numbers.len() < 2 * MAX_PIECES {
                for half in [&piece[..12], &piece[12..]] {
                    numbers.push(number(half).and_then(|it| u64::try_from(it).ok()).ok_or_else(|| bad(path))?);
                }
            }
            Ok(())
        };
        block[386..482].chunks_exact(24).try_for_each(|piece| add(piece, &member.path))?;
        let size = number(&block[483..495]).and_then(|it| u64::try_from(it).ok());
        let mut more = block[482] != 0;
        let mut blocks = 0;
        while more {
            let mut next = [0; BLOCK];
            self.exact(&mut next)?;
            next[..504].chunks_exact(24).try_for_each(|piece| add(piece, &member.path))?;
            more = next[504] != 0;
            blocks += 1;
            if blocks > MAX_PIECES / 21 {
                return Err(bad(&member.path));
            }
        }
        self.pieces = pieces(&numbers);
        self.check_sparse(size.ok_or_else(|| bad(&member.path))?, member)
    }

    /// The map of the PAX forms: in the records (0.x), or in front of the data (1.0).
    fn pax_sparse(&mut self, sparse: PaxSparse, member: &mut TarMember) -> TarResult<()> {
        let bad = |path: &[u8]| ArchiveError::member("not a map of a sparse file", path);
        let size = sparse.size.ok_or_else(|| bad(&member.path))?;
        let mut numbers = sparse.numbers;
        if sparse.major == 1 {
            numbers = self.sparse_prefix(&member.path)?;
        }
        self.pieces = pieces(&numbers);
        self.check_sparse(size, member)
    }

    /// Decimal numbers, one a line, the first of which counts the pairs that follow; padded to blocks.
    fn sparse_prefix(&mut self, path: &[u8]) -> TarResult<Vec<u64>> {
        let bad = || ArchiveError::member("not a map of a sparse file", path);
        let mut numbers: Vec<u64> = Vec::new();
        let (mut digits, mut number, mut wanted) = (0, 0_u64, None);
        loop {
            let mut block = [0; BLOCK];
            let mut have = 0;
            while have < BLOCK {
                match self.data(&mut block[have..])? {
                    0 => return Err(bad()),
                    n => have += n,
                }
            }
            for byte in block {
                match byte {
                    b'0'..=b'9' => {
                        let next = number.checked_mul(10).and_then(|it| it.checked_add(u64::from(byte - b'0')));
                        number = next.ok_or_else(bad)?;
                        digits += 1;
                    }
                    b'\n' if digits > 0 => {
                        match wanted {
                            None if number > MAX_PIECES as u64 => return Err(bad()),
                            None => wanted = Some(2 * number as usize),
                            Some(_) => numbers.push(number),
                        }
                        (digits, number) = (0, 0);
                        if wanted == Some(numbers.len()) {
                            return Ok(numbers);
                        }
                    }
                    _ => return Err(bad()),
                }
            }
        }
    }

    fn check_sparse(&self, size: u64, member: &mut TarMember) -> TarResult<()> {
        let (mut end, mut stored) = (0_u64, 0_u64);
        for (offset, length) in &self.pieces {
            let next = offset.checked_add(*length).filter(|next| *offset >= end && *next <= size);
            end = next.ok_or_else(|| ArchiveError::member("not a map of a sparse file", &member.path))?;
            stored += length;
        }
        if stored != self.left {
            return Err(ArchiveError::member("the map of a sparse file is not about its data", &member.path));
        }
        (member.size, member.stored, member.is_sparse) = (size, stored, true);
        Ok(())
    }

    fn pax(&mut self, size: u64, extension: &mut Extension) -> TarResult<()> {
        let text = self.extension(size)?;
        let mut rest = text.as_slice();
        while !rest.is_empty() && rest.iter().any(|byte| *byte != 0) {
            let (key, value, after) = parse_record(rest).ok_or(ArchiveError::Malformed("not a PAX record"))?;
            rest = after;
            extension.records += 1;
            if extension.records > MAX_RECORDS {
                return Err(ArchiveError::Limit { what: "PAX records of one member", limit: MAX_RECORDS as u64 });
            }
            extension.set(key, value)?;
        }
        Ok(())
    }

    fn long_name(&mut self, size: u64) -> TarResult<Vec<u8>> {
        let mut name = self.extension(size)?;
        let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
        name.truncate(end);
        Ok(name)
    }

    fn extension(&mut self, size: u64) -> TarResult<Vec<u8>> {
        self.extension_bytes = self.extension_bytes.saturating_add(size);
        if self.extension_bytes > MAX_EXTENSION {
            return Err(ArchiveError::Limit { what: "bytes of extension headers of one member", limit: MAX_EXTENSION });
        }
        let mut bytes = vec![0; size as usize];
        self.exact(&mut bytes)?;
        self.skip(tar_padding(size).len() as u64)?;
        Ok(bytes)
    }

    fn has_data(&mut self, size: u64) {
        (self.left, self.padding) = (size, tar_padding(size).len() as u64);
    }

    fn exact(&mut self, mut bytes: &mut [u8]) -> TarResult<()> {
        while !bytes.is_empty() {
            match self.read(bytes)? {
                0 => return Err(ArchiveError::Malformed("it ends in the middle of a header")),
                n => bytes = &mut bytes[n..],
            }
        }
        Ok(())
    }

    fn skip(&mut self, mut n: u64) -> TarResult<()> {
        let mut buffer = [0; 4096];
        while n > 0 {
            let want = n.min(buffer.len() as u64) as usize;
            match self.read(&mut buffer[..want])? {
                0 => return Err(ArchiveError::Malformed("it ends in the middle of a file")),
                read => n -= read as u64,
            }
        }
        Ok(())
    }

    fn read(&mut self, buffer: &mut [u8]) -> TarResult<usize> {
        loop {
            match self.input.read(buffer) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => (),
                other => return other.map_err(ArchiveError::Read),
            }
        }
    }
}

impl Extension {
    fn set(&mut self, key: &[u8], value: &[u8]) -> TarResult<()> {
        let bad = || ArchiveError::member("not a value of a PAX record", key);
        let id = |value: &[u8]| decimal(value).and_then(|it| u32::try_from(it).ok()).ok_or_else(bad);
        // An empty value takes back what was said before.
        let given = !value.is_empty();
        match key {
            b"path" => self.path = given.then(|| value.to_owned()),
            b"linkpath" => self.link = given.then(|| value.to_owned()),
            b"size" if given => self.size = Some(decimal(value).filter(|it| *it <= i64::MAX as u64).ok_or_else(bad)?),
            b"uid" if given => self.uid = Some(id(value)?),
            b"gid" if given => self.gid = Some(id(value)?),
            b"mtime" if given => self.mtime = Some(time(value).ok_or_else(bad)?),
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattrs.retain(|(other, _)| other != name);
                    if self.xattrs.len() == MAX_XATTRS {
                        return Err(ArchiveError::Limit { what: "attributes of one member", limit: MAX_XATTRS as u64 });
                    }
                    self.xattrs.push((name.to_owned(), value.to_owned()));
                } else if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                    self.sparse.get_or_insert_default().set(key, value).ok_or_else(bad)?;
                }
            }
        }
        Ok(())
    }
}

impl PaxSparse {
    fn set(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        match key {
            b"major" => self.major = decimal(value)?,
            b"name" => self.name = Some(value.to_owned()),
            b"size" | b"realsize" => self.size = Some(decimal(value)?),
            b"offset" | b"numbytes" => self.numbers.push(decimal(value)?),
            b"map" => self.numbers = value.split(|byte| *byte == b',').map(decimal).collect::<Option<_>>()?,
            _ => (),
        }
        Some(())
    }
}

fn pieces(numbers: &[u64]) -> Vec<(u64, u64)> {
    numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect()
}
