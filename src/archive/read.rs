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

use super::error::ArchiveError;

/// What a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TarMemberKind {
    File,
    HardLink,
    Symlink,
    CharDev,
    BlockDev,
    Dir,
    Fifo,
}

/// One member of an archive. Its data is to be read next, by [`TarReader::chunk`].
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

/// An archive that is being read.
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

const BLOCK: usize = 512;
/// Bytes that all extension headers of one member (PAX records, long names) may have together. The kernel's longest path
/// has 4095 bytes, its longest list of names of attributes 64 KiB; the rest is room for values of attributes.
const MAX_EXTENSION: u64 = 1 << 20;
/// PAX records of one member.
const MAX_RECORDS: usize = 1 << 16;
/// Extended attributes of one member.
const MAX_XATTRS: usize = 4096;
/// Pieces of a sparse file.
const MAX_PIECES: usize = 1 << 20;
/// Headers of an archive, which no honest archive reaches: as many as ten million files have.
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

    /// The input, for the bytes behind the end of the archive.
    pub(crate) fn into_rest(self) -> R {
        self.input
    }

    /// The input, for a caller that counts its bytes.
    pub(crate) fn source(&mut self) -> &mut R {
        &mut self.input
    }

    /// The next member; `None` at the end of the archive. Data of the last one that was not read is skipped.
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

    /// Reads the next data of the current member into `buffer`, and gives where in the file it belongs and how many bytes it
    /// has; `None` at the end. What no chunk covers of a sparse file is zeros.
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

    /// Reads data of the current member as it is in the archive and gives the number of bytes, zero at its end.
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
            b'0' | 0 | b'7' | b'S' => TarMemberKind::File,
            b'1' => TarMemberKind::HardLink,
            b'2' => TarMemberKind::Symlink,
            b'3' => TarMemberKind::CharDev,
            b'4' => TarMemberKind::BlockDev,
            b'5' => TarMemberKind::Dir,
            b'6' => TarMemberKind::Fifo,
            _ => return Err(bad("unknown type of entry")),
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
            let (key, value, after) = record(rest).ok_or(ArchiveError::Malformed("not a PAX record"))?;
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
        self.skip(padding(size))?;
        Ok(bytes)
    }

    fn has_data(&mut self, size: u64) {
        (self.left, self.padding) = (size, padding(size));
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

/// The first record of PAX text: key, value, rest.
fn record(text: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = text.iter().take(20).position(|byte| *byte == b' ')?;
    let length = usize::try_from(decimal(&text[..space])?).ok()?;
    let body = text.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|byte| *byte == b'=')?;
    Some((&body[..equals], &body[equals + 1..], &text[length..]))
}

/// Whether these are the first bytes of a tar archive: a header with a right checksum. The zeros of an empty archive are
/// not taken for one.
pub(crate) fn is_tar_header(block: &[u8; BLOCK]) -> bool {
    block.iter().any(|byte| *byte != 0) && has_right_checksum(block)
}

/// Whether the checksum of a header is that of its bytes, which some old programs added up as signed numbers.
fn has_right_checksum(block: &[u8; BLOCK]) -> bool {
    let with_spaces = |(i, byte): (usize, &u8)| if (148..156).contains(&i) { b' ' } else { *byte };
    let unsigned: i64 = block.iter().enumerate().map(|byte| i64::from(with_spaces(byte))).sum();
    let signed: i64 = block.iter().enumerate().map(|byte| i64::from(with_spaces(byte).cast_signed())).sum();
    let sum = number(&block[148..156]);
    sum == Some(unsigned) || sum == Some(signed)
}

/// Bytes up to the next block.
fn padding(size: u64) -> u64 {
    (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64
}

/// A field that ends at a zero byte.
fn field(bytes: &[u8]) -> Vec<u8> {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default().to_owned()
}

fn header_path(block: &[u8; BLOCK]) -> Vec<u8> {
    let name = field(&block[..100]);
    // GNU headers have other things where ustar has the prefix.
    if block[257..263] != *b"ustar\0" || block[345] == 0 {
        return name;
    }
    [field(&block[345..500]), name].join(&b'/')
}

/// A numeric field: octal digits among spaces and zero bytes, or binary if the first bit is set.
fn number(field: &[u8]) -> Option<i64> {
    let first = *field.first()?;
    if first & 0x80 != 0 {
        // Two's complement with the first bit as a mark.
        let mut value: i128 = if first & 0x40 != 0 { -1 } else { 0 };
        for (i, byte) in field.iter().enumerate() {
            let byte = if i == 0 { byte & 0x7f | (first & 0x40) << 1 } else { *byte };
            value = value.checked_mul(256)?.checked_add(i128::from(byte))?;
        }
        return i64::try_from(value).ok();
    }
    let is_blank = |byte: &u8| matches!(*byte, b' ' | 0);
    let start = field.iter().position(|byte| !is_blank(byte)).unwrap_or(field.len());
    let digits = &field[start..];
    let end = digits.iter().position(is_blank).unwrap_or(digits.len());
    let mut value = 0_i64;
    for byte in &digits[..end] {
        let digit = i64::from(byte.checked_sub(b'0').filter(|digit| *digit < 8)?);
        value = value.checked_mul(8)?.checked_add(digit)?;
    }
    Some(value)
}

/// Decimal digits, nothing else.
fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Seconds with a fraction, rounded down to nanoseconds.
fn time(text: &[u8]) -> Option<(i64, u32)> {
    let (negative, digits) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut parts = digits.splitn(2, |byte| *byte == b'.');
    let seconds = i64::try_from(decimal(parts.next()?)?).ok()?;
    let mut nanoseconds = 0_u32;
    if let Some(fraction) = parts.next() {
        if !fraction.iter().all(u8::is_ascii_digit) {
            return None;
        }
        for i in 0..9 {
            nanoseconds = nanoseconds * 10 + fraction.get(i).map_or(0, |byte| u32::from(byte - b'0'));
        }
    }
    Some(match (negative, nanoseconds) {
        (false, _) => (seconds, nanoseconds),
        (true, 0) => (-seconds, 0),
        (true, _) => (-seconds - 1, 1_000_000_000 - nanoseconds),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_binary() {
        assert_eq!(number(b"0000644\0"), Some(0o644));
        assert_eq!(number(b"   644 \0"), Some(0o644));
        assert_eq!(number(b"\0\0\0\0"), Some(0));
        assert_eq!(number(b"99"), None);
        assert_eq!(number(&[0x80, 0, 0, 0, 0, 0, 1, 0]), Some(256));
        assert_eq!(number(&[0xff; 12]), Some(-1));
        assert_eq!(number(&[0xbf, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), None);
    }

    #[test]
    fn times_have_fractions_and_signs() {
        assert_eq!(time(b"12.5"), Some((12, 500_000_000)));
        assert_eq!(time(b"-1.25"), Some((-2, 750_000_000)));
        assert_eq!(time(b"7"), Some((7, 0)));
        assert_eq!(time(b"1.0000000019"), Some((1, 1)));
        for bad in ["", "nan", "1e5", "99999999999999999999", "1.x", "--1"] {
            assert_eq!(time(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn records_say_their_own_length() {
        assert_eq!(record(b"11 path=ab\nrest"), Some((&b"path"[..], &b"ab"[..], &b"rest"[..])));
        assert_eq!(record(b"12 path=ab\n"), None);
        assert_eq!(record(b"3 x\n"), None);
        assert_eq!(record(b"99999999999999999999999 x=y\n"), None);
    }
}
