//! Writes tar archives whose bytes follow from their content alone: ustar headers, PAX records only where a value does not
//! fit (POSIX.1-2017, `pax`), no names of users, no times but mtime. Layers, trees and archives of images are written with it.

use std::{
    io::{self, Read, Write},
    ops::Range,
};

use super::{
    header::{BLOCK, put_number, put_record, put_text, seal, tar_padding},
    read::TarMemberKind,
};

/// One entry to write.
#[derive(Clone, Debug)]
pub(crate) struct TarEntry<'a> {
    /// Relative, without `./`; directories get their `/` here.
    pub(crate) path: &'a [u8],
    pub(crate) kind: TarMemberKind,
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
    /// The length of a sparse file, of which the archive has only a map and the data; `size` is that of both. See
    /// [`sparse_map`].
    pub(crate) sparse: Option<u64>,
}

impl<'a> TarEntry<'a> {
    /// A regular file of root, with the time zero.
    pub(crate) const fn file(path: &'a [u8], mode: u32, size: u64) -> Self {
        Self {
            path,
            kind: TarMemberKind::File,
            link: b"",
            mode,
            uid: 0,
            gid: 0,
            mtime: 0,
            size,
            device: (0, 0),
            xattrs: &[],
            sparse: None,
        }
    }
}

/// An archive that is being written.
pub(crate) struct TarWriter<W> {
    out: W,
    buffer: Vec<u8>,
}

/// The end of an archive.
pub(crate) const TAR_END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

impl<W: Write> TarWriter<W> {
    /// An archive without entries.
    pub(crate) fn new(out: W) -> Self {
        Self { out, buffer: Vec::new() }
    }

    /// Writes an entry. `data` must give exactly the size that the entry says.
    pub(crate) fn append(&mut self, entry: &TarEntry<'_>, data: &mut dyn Read) -> io::Result<()> {
        self.out.write_all(&tar_headers(entry))?;
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
        self.out.write_all(tar_padding(entry.size))
    }

    /// Writes the end of the archive.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&TAR_END)?;
        self.out.flush()?;
        Ok(self.out)
    }
}

/// The header blocks of an entry, those of its PAX records first.
pub(crate) fn tar_headers(entry: &TarEntry<'_>) -> Vec<u8> {
    let mut path = entry.path.to_owned();
    if entry.kind == TarMemberKind::Dir && !path.ends_with(b"/") {
        path.push(b'/');
    }
    let mut records: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    if let Some(length) = entry.sparse {
        // The form that GNU tar calls "PAX Format, Version 1.0" (its manual, "Storing Sparse Files"). Readers that do not know
        // it get the map and the data under another name. There must be no record `path`: some take it for the name.
        let last: Vec<u8> = last_part(&path).iter().copied().filter(u8::is_ascii_graphic).take(80).collect();
        let name = std::mem::replace(&mut path, [b"GNUSparseFile.0/", last.as_slice()].concat());
        let values = [("major", b"1".to_vec()), ("minor", b"0".to_vec()), ("name", name)];
        let values = values.into_iter().chain([("realsize", length.to_string().into_bytes())]);
        records.extend(values.map(|(key, value)| (format!("GNU.sparse.{key}").into_bytes(), value)));
    }
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
        records.iter().for_each(|(key, value)| put_record(&mut body, key, value));
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
        bytes.extend_from_slice(tar_padding(body.len() as u64));
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
    seal(&mut header, entry.kind as u8);
    bytes.extend_from_slice(&header);
    bytes
}

/// What stands before the data of a sparse file: how many ranges of data there are, then start and length of each. `size` is
/// the length of the file.
pub(crate) fn sparse_map(ranges: &[Range<u64>], size: u64) -> Vec<u8> {
    let mut numbers = vec![ranges.len() as u64];
    numbers.extend(ranges.iter().flat_map(|range| [range.start, range.end - range.start]));
    if ranges.last().is_none_or(|last| last.end < size) {
        // GNU tar ends the map with the end of the file.
        numbers[0] += 1;
        numbers.extend([size, 0]);
    }
    let mut map: Vec<u8> = numbers.iter().flat_map(|number| format!("{number}\n").into_bytes()).collect();
    map.resize(map.len().next_multiple_of(BLOCK), 0);
    map
}

fn last_part(path: &[u8]) -> &[u8] {
    let trimmed = path.strip_suffix(b"/").unwrap_or(path);
    trimmed.rsplit(|byte| *byte == b'/').next().unwrap_or(trimmed)
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
        TarEntry { mtime: 1_700_000_000, ..TarEntry::file(path, 0o644, 0) }
    }

    #[test]
    fn a_plain_entry_has_one_header_block_that_others_can_read() {
        let bytes = tar_headers(&TarEntry { size: 5, ..entry(b"dir/file") });
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
            assert_eq!(tar_headers(&entry).len() == BLOCK, fits, "{entry:?}");
        }
    }

    /// Path, size, user id and link of each entry, as another reader has them.
    fn read(bytes: &[u8]) -> Vec<(String, u64, u64, Option<String>)> {
        let mut archive = ::tar::Archive::new(bytes);
        let entries = archive.entries().expect("an archive");
        entries
            .map(|entry| {
                let mut entry = entry.expect("an entry");
                let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
                let link = entry.link_name_bytes().map(|link| String::from_utf8_lossy(&link).into_owned());
                let uid = entry.header().uid().expect("a number");
                io::copy(&mut entry, &mut io::sink()).expect("whole");
                (name, entry.size(), uid, link)
            })
            .collect()
    }

    #[test]
    fn entries_of_all_lengths_are_read_back() {
        let mut out = TarWriter::new(Vec::new());
        let long = "ä/".repeat(150) + "file";
        let names = ["short", &"x".repeat(100), &"y".repeat(101), &long];
        for name in names {
            let entry = TarEntry { uid: 1000, ..TarEntry::file(name.as_bytes(), 0o644, 3) };
            out.append(&entry, &mut b"abc".as_slice()).expect("to memory");
        }
        let link = TarEntry { kind: TarMemberKind::Symlink, link: long.as_bytes(), ..TarEntry::file(b"l", 0o777, 0) };
        out.append(&link, &mut io::empty()).expect("to memory");
        let out = out.finish().expect("to memory");
        let found = read(&out);
        assert_eq!(found.iter().map(|entry| entry.0.as_str()).collect::<Vec<_>>(), [names.as_slice(), &["l"]].concat());
        assert_eq!((found[0].1, found[0].2), (3, 1000));
        assert_eq!(found[4].3.as_deref(), Some(long.as_str()));
        assert_eq!(out.len() % 512, 0);
    }

    #[test]
    fn what_no_field_holds_is_in_a_record() {
        let xattrs = [(b"user.a".to_vec(), b"v\0w".to_vec())];
        let entry = TarEntry { uid: 1 << 30, mtime: -5, xattrs: &xattrs, ..TarEntry::file(b"f", 0o4755, 0) };
        let bytes = tar_headers(&entry);
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.contains("uid=1073741824\n") && text.contains("mtime=-5\n"));
        assert!(text.contains("SCHILY.xattr.user.a=v\0w\n"));
    }
}
