//! Headers of tar archives: POSIX ustar, with PAX records only where a field does not fit (POSIX.1-2017, `pax`).
//!
//! Equal entries give equal bytes: no user names, no times but those given.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

/// The type of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ArchiveEntryKind {
    File,
    HardLink,
    Symlink,
    CharDev,
    BlockDev,
    Dir,
    Fifo,
}

/// One entry's header. Names are bytes, without leading slash; folders end with one.
#[derive(Clone, Debug)]
pub(super) struct TarHeader<'a> {
    pub(super) name: &'a [u8],
    pub(super) kind: ArchiveEntryKind,
    pub(super) mode: u32,
    pub(super) uid: u64,
    pub(super) gid: u64,
    pub(super) size: u64,
    pub(super) mtime: i64,
    /// Target of a hard link or symlink.
    pub(super) link: &'a [u8],
    pub(super) device: (u32, u32),
    pub(super) xattrs: &'a [(Vec<u8>, Vec<u8>)],
}

impl<'a> TarHeader<'a> {
    /// A regular file of root without time.
    pub(super) const fn file(name: &'a [u8], mode: u32, size: u64) -> Self {
        Self {
            name,
            kind: ArchiveEntryKind::File,
            mode,
            uid: 0,
            gid: 0,
            size,
            mtime: 0,
            link: b"",
            device: (0, 0),
            xattrs: &[],
        }
    }
}

const BLOCK: usize = 512;
const ZEROS: [u8; 1024] = [0; 1024];

/// Writes a header; content of `size` bytes and [`padding`] must follow.
pub(super) fn header(out: &mut impl Write, header: &TarHeader<'_>) -> io::Result<()> {
    let mut records: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    let plain = |text: &[u8], room: usize| text.len() <= room && text.is_ascii() && !text.contains(&0);
    if !plain(header.name, 100) {
        records.insert(b"path".to_vec(), header.name.to_vec());
    }
    if !plain(header.link, 100) {
        records.insert(b"linkpath".to_vec(), header.link.to_vec());
    }
    let numbers =
        [("uid", header.uid, 0o777_7777), ("gid", header.gid, 0o777_7777), ("size", header.size, 0o777_7777_7777)];
    for (key, value, most) in numbers {
        if value > most {
            records.insert(key.into(), value.to_string().into_bytes());
        }
    }
    if !(0..=0o777_7777_7777).contains(&header.mtime) {
        records.insert(b"mtime".to_vec(), header.mtime.to_string().into_bytes());
    }
    for (name, value) in header.xattrs {
        records.insert([b"SCHILY.xattr.", name.as_slice()].concat(), value.clone());
    }
    if !records.is_empty() {
        let mut body = Vec::new();
        for (key, value) in &records {
            record(&mut body, key, value);
        }
        let mut pax = TarHeader::file(b"", 0o644, body.len() as u64);
        let name = [b"PaxHeaders.0/", last_part(header.name)].concat();
        pax.name = &name[..name.len().min(100)];
        out.write_all(&block(&pax, b'x'))?;
        out.write_all(&body)?;
        padding(out, body.len() as u64)?;
    }
    let flag = match header.kind {
        ArchiveEntryKind::File => b'0',
        ArchiveEntryKind::HardLink => b'1',
        ArchiveEntryKind::Symlink => b'2',
        ArchiveEntryKind::CharDev => b'3',
        ArchiveEntryKind::BlockDev => b'4',
        ArchiveEntryKind::Dir => b'5',
        ArchiveEntryKind::Fifo => b'6',
    };
    out.write_all(&block(header, flag))
}

/// Fills up the last block of content of `size` bytes.
pub(super) fn padding(out: &mut impl Write, size: u64) -> io::Result<()> {
    let over = usize::try_from(size % BLOCK as u64).unwrap_or(0);
    if over == 0 { Ok(()) } else { out.write_all(&ZEROS[..BLOCK - over]) }
}

/// Writes the end of an archive: two blocks of zeros.
pub(super) fn end(out: &mut impl Write) -> io::Result<()> {
    out.write_all(&ZEROS)
}

fn last_part(name: &[u8]) -> &[u8] {
    let trimmed = name.strip_suffix(b"/").unwrap_or(name);
    trimmed.rsplit(|it| *it == b'/').next().unwrap_or(trimmed)
}

/// `LENGTH KEY=VALUE\n`, the length including itself.
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

fn block(header: &TarHeader<'_>, flag: u8) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let text = |block: &mut [u8; BLOCK], at: usize, room: usize, text: &[u8]| {
        // What does not fit is in a PAX record; readers that know none see the beginning.
        let n = text.len().min(room);
        block[at..at + n].copy_from_slice(&text[..n]);
    };
    let octal = |block: &mut [u8; BLOCK], at: usize, digits: usize, value: u64| {
        let most = (1_u64 << (3 * digits)) - 1;
        let value = if value > most { 0 } else { value };
        block[at..at + digits].copy_from_slice(format!("{value:0digits$o}").as_bytes());
    };
    text(&mut block, 0, 100, header.name);
    octal(&mut block, 100, 7, u64::from(header.mode & 0o7777));
    octal(&mut block, 108, 7, header.uid);
    octal(&mut block, 116, 7, header.gid);
    octal(&mut block, 124, 11, header.size);
    octal(&mut block, 136, 11, u64::try_from(header.mtime).unwrap_or(0));
    block[156] = flag;
    text(&mut block, 157, 100, header.link);
    text(&mut block, 257, 8, b"ustar\x0000");
    if matches!(header.kind, ArchiveEntryKind::CharDev | ArchiveEntryKind::BlockDev) {
        octal(&mut block, 329, 7, u64::from(header.device.0));
        octal(&mut block, 337, 7, u64::from(header.device.1));
    }
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|it| u32::from(*it)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Vec<(String, u64, u64, Option<String>)> {
        let mut archive = ::tar::Archive::new(bytes);
        let entries = archive.entries().expect("an archive");
        entries
            .map(|it| {
                let mut it = it.expect("an entry");
                let name = String::from_utf8_lossy(&it.path_bytes()).into_owned();
                let link = it.link_name_bytes().map(|it| String::from_utf8_lossy(&it).into_owned());
                let uid = it.header().uid().expect("a number");
                io::copy(&mut it, &mut io::sink()).expect("whole");
                (name, it.size(), uid, link)
            })
            .collect()
    }

    #[test]
    fn entries_of_all_lengths_are_read_back() {
        let mut out = Vec::new();
        let long = "ä/".repeat(150) + "file";
        let names = ["short", &"x".repeat(100), &"y".repeat(101), &long];
        for name in names {
            header(&mut out, &TarHeader { uid: 1000, ..TarHeader::file(name.as_bytes(), 0o644, 3) })
                .expect("to memory");
            out.extend(b"abc");
            padding(&mut out, 3).expect("to memory");
        }
        let link =
            TarHeader { kind: ArchiveEntryKind::Symlink, link: long.as_bytes(), ..TarHeader::file(b"l", 0o777, 0) };
        header(&mut out, &link).expect("to memory");
        end(&mut out).expect("to memory");
        let found = read(&out);
        assert_eq!(found.iter().map(|it| it.0.as_str()).collect::<Vec<_>>(), [names.as_slice(), &["l"]].concat());
        assert_eq!((found[0].1, found[0].2), (3, 1000));
        assert_eq!(found[4].3.as_deref(), Some(long.as_str()));
        assert_eq!(out.len() % 512, 0);
    }

    #[test]
    fn what_no_field_holds_is_in_a_record() {
        let mut out = Vec::new();
        let xattrs = [(b"user.a".to_vec(), b"v\0w".to_vec())];
        let entry = TarHeader { uid: 1 << 30, mtime: -5, xattrs: &xattrs, ..TarHeader::file(b"f", 0o4755, 0) };
        header(&mut out, &entry).expect("to memory");
        end(&mut out).expect("to memory");
        let text = String::from_utf8_lossy(&out);
        assert!(text.contains("uid=1073741824\n") && text.contains("mtime=-5\n"));
        assert!(text.contains("SCHILY.xattr.user.a=v\0w\n"));
        let mut body = Vec::new();
        record(&mut body, b"k", &[b'v'; 93]);
        assert_eq!(body.len().to_string().as_bytes(), &body[..body.len().to_string().len()]);
    }
}
