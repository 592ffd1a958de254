//! Writes tar archives whose bytes follow from their content alone: ustar headers, PAX records only where a value does not
//! fit, no names of users, no times but mtime.

use std::io::{self, Read, Write};

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TarKind {
    File,
    HardLink,
    Symlink,
    CharDev,
    BlockDev,
    Dir,
    Fifo,
}

/// One entry to write.
#[derive(Clone, Debug)]
pub(crate) struct TarEntry<'a> {
    /// Relative, without `./`; directories get their `/` here.
    pub(crate) path: &'a [u8],
    pub(crate) kind: TarKind,
    /// Target of a link; empty otherwise.
    pub(crate) link: &'a [u8],
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Seconds.
    pub(crate) mtime: i64,
    /// Of a file; zero otherwise.
    pub(crate) size: u64,
    pub(crate) device: (u32, u32),
    pub(crate) xattrs: &'a [(Vec<u8>, Vec<u8>)],
}

/// An archive that is being written.
pub(crate) struct TarWriter<W> {
    out: W,
    buffer: Vec<u8>,
}

const BLOCK: usize = 512;

impl<W: Write> TarWriter<W> {
    pub(crate) fn new(out: W) -> Self {
        Self { out, buffer: Vec::new() }
    }

    /// Writes an entry. `data` must give exactly the size that the entry says.
    pub(crate) fn append(&mut self, entry: &TarEntry<'_>, data: &mut dyn Read) -> io::Result<()> {
        self.out.write_all(&headers(entry))?;
        let mut left = entry.size;
        if left > 0 && self.buffer.is_empty() {
            self.buffer.resize(256 << 10, 0);
        }
        while left > 0 {
            let want = left.min(self.buffer.len() as u64) as usize;
            let n = match data.read(&mut self.buffer[..want]) {
                Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter")),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            };
            self.out.write_all(&self.buffer[..n])?;
            left -= n as u64;
        }
        self.out.write_all(&[0; BLOCK][..padding(entry.size)])
    }

    /// Writes the end of the archive.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&[0; 2 * BLOCK])?;
        self.out.flush()?;
        Ok(self.out)
    }
}

/// Zero bytes up to the next block.
pub(super) fn padding(size: u64) -> usize {
    ((BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64) as usize
}

/// The header blocks of an entry.
pub(super) fn headers(entry: &TarEntry<'_>) -> Vec<u8> {
    let mut path = entry.path.to_owned();
    if entry.kind == TarKind::Dir && !path.ends_with(b"/") {
        path.push(b'/');
    }
    let mut records: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for (key, text) in [("path", path.as_slice()), ("linkpath", entry.link)] {
        if text.len() > 100 || !text.is_ascii() {
            records.push((key.into(), text.to_owned()));
        }
    }
    // A value that does not fit into its field goes into a record, and the field is zero.
    let mut fit = |key: &str, digits: u32, value: i64| {
        if (0..1_i64 << (3 * digits)).contains(&value) {
            return value as u64;
        }
        records.push((key.into(), value.to_string().into_bytes()));
        0
    };
    let uid = fit("uid", 7, entry.uid.into());
    let gid = fit("gid", 7, entry.gid.into());
    let size = fit("size", 11, i64::try_from(entry.size).unwrap_or(i64::MAX));
    let mtime = fit("mtime", 11, entry.mtime);
    for (name, value) in entry.xattrs {
        records.push(([b"SCHILY.xattr.", name.as_slice()].concat(), value.clone()));
    }
    records.sort();
    let mut bytes = Vec::with_capacity(BLOCK);
    if !records.is_empty() {
        let mut body = Vec::new();
        records.iter().for_each(|(key, value)| record(&mut body, key, value));
        let mut header = [0; BLOCK];
        put_text(&mut header[..100], &pax_name(&path));
        for (field, value) in
            [(100..108, 0), (108..116, 0), (116..124, 0), (124..136, body.len() as u64), (136..148, 0)]
        {
            put_number(&mut header[field], value);
        }
        seal(&mut header, b'x');
        bytes.extend_from_slice(&header);
        bytes.extend_from_slice(&body);
        bytes.extend_from_slice(&[0; BLOCK][..padding(body.len() as u64)]);
    }
    let mut header = [0; BLOCK];
    put_text(&mut header[..100], &path);
    put_number(&mut header[100..108], u64::from(entry.mode & 0o7777));
    put_number(&mut header[108..116], uid);
    put_number(&mut header[116..124], gid);
    put_number(&mut header[124..136], size);
    put_number(&mut header[136..148], mtime);
    put_text(&mut header[157..257], entry.link);
    put_number(&mut header[329..337], entry.device.0.into());
    put_number(&mut header[337..345], entry.device.1.into());
    let flag = match entry.kind {
        TarKind::File => b'0',
        TarKind::HardLink => b'1',
        TarKind::Symlink => b'2',
        TarKind::CharDev => b'3',
        TarKind::BlockDev => b'4',
        TarKind::Dir => b'5',
        TarKind::Fifo => b'6',
    };
    seal(&mut header, flag);
    bytes.extend_from_slice(&header);
    bytes
}

/// Type, magic and checksum.
fn seal(header: &mut [u8; BLOCK], flag: u8) {
    header[156] = flag;
    header[257..265].copy_from_slice(b"ustar\x0000");
    header[148..156].fill(b' ');
    let sum: u64 = header.iter().map(|byte| u64::from(*byte)).sum();
    put_number(&mut header[148..155], sum);
}

/// ASCII only, cut where the field ends; not after a slash, which some readers take for a directory.
fn put_text(field: &mut [u8], text: &[u8]) {
    let ascii: Vec<u8> = text.iter().copied().filter(u8::is_ascii).collect();
    let mut n = ascii.len().min(field.len());
    if ascii.len() > field.len() {
        while n > 0 && ascii[n - 1] == b'/' {
            n -= 1;
        }
    }
    field[..n].copy_from_slice(&ascii[..n]);
}

/// Octal with leading zeros, closed by a zero byte.
fn put_number(field: &mut [u8], mut value: u64) {
    let last = field.len() - 1;
    field[last] = 0;
    for digit in field[..last].iter_mut().rev() {
        *digit = b'0' + (value & 7) as u8;
        value >>= 3;
    }
}

/// `LENGTH KEY=VALUE\n`, where the length counts itself.
fn record(body: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    body.extend_from_slice(length.to_string().as_bytes());
    body.push(b' ');
    body.extend_from_slice(key);
    body.push(b'=');
    body.extend_from_slice(value);
    body.push(b'\n');
}

/// `dir/PaxHeaders.0/file`.
fn pax_name(path: &[u8]) -> Vec<u8> {
    let split = path.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
    let (dir, file) = path.split_at(split);
    let mut name = [dir, b"PaxHeaders.0"].concat();
    if !file.is_empty() {
        name.push(b'/');
        name.extend_from_slice(file);
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &[u8]) -> TarEntry<'_> {
        TarEntry {
            path,
            kind: TarKind::File,
            link: b"",
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: 1_700_000_000,
            size: 0,
            device: (0, 0),
            xattrs: &[],
        }
    }

    #[test]
    fn a_plain_entry_has_one_header_block_that_others_can_read() {
        let bytes = headers(&TarEntry { size: 5, ..entry(b"dir/file") });
        assert_eq!(bytes.len(), BLOCK);
        let header = tar::Header::from_byte_slice(&bytes);
        assert_eq!(
            header.cksum().unwrap(),
            bytes
                .iter()
                .enumerate()
                .map(|(i, b)| { if (148..156).contains(&i) { 32 } else { u32::from(*b) } })
                .sum::<u32>()
        );
        assert_eq!(
            (header.size().unwrap(), header.mode().unwrap(), header.mtime().unwrap()),
            (5, 0o644, 1_700_000_000)
        );
        assert!(header.as_ustar().is_some());
    }

    #[test]
    fn records_are_written_only_where_a_value_does_not_fit() {
        let long = [b'n'; 101];
        for (fits, entry) in [
            (true, entry(&long[..100])),
            (false, entry(&long)),
            (false, entry("é".as_bytes())),
            (true, TarEntry { uid: 0o7_777_777, ..entry(b"f") }),
            (false, TarEntry { uid: 0o10_000_000, ..entry(b"f") }),
            (false, TarEntry { mtime: -1, ..entry(b"f") }),
            (true, TarEntry { size: (8 << 30) - 1, ..entry(b"f") }),
            (false, TarEntry { size: 8 << 30, ..entry(b"f") }),
        ] {
            assert_eq!(headers(&entry).len() == BLOCK, fits, "{entry:?}");
        }
    }

    #[test]
    fn lengths_of_records_count_themselves() {
        for n in [1, 80, 88, 89, 90, 91, 988, 989, 990] {
            let mut body = Vec::new();
            record(&mut body, b"key", &vec![b'v'; n]);
            let said: usize = String::from_utf8_lossy(&body).split(' ').next().unwrap().parse().unwrap();
            assert_eq!(said, body.len());
        }
    }
}
