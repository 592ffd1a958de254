//! estargz: a gzip file in which every file's content is a member of its own, with a table of contents at the end, so that
//! a runtime can read single files out of a registry. See stargz-snapshotter `docs/estargz.md`.
//!
//! ```text
//! member   headers (and padding) between contents
//! member   content of a file, at most 4 MiB
//! …
//! member   the table: a tar entry `stargz.index.json`, and an end of archive
//! footer   51 bytes: an empty member whose extra field says where the table begins
//! ```
//! Without the table's entry the uncompressed bytes are those that came in.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
};

use base64::Engine as _;
use libdeflater::CompressionLvl;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::{
    encode::{HashingWriter, Sum, compress_member},
    error::LayerError,
    parallel::OrderedJobs,
};
use crate::{
    archive::{ArchiveError, TAR_END, TarEntry, TarMember, TarMemberKind, TarReader, tar_headers, tar_padding},
    oci::{Digest, codec::ESTARGZ_TOC},
};

const TABLE: &str = "stargz.index.json";
/// Larger files have a member for each piece of this size.
const PIECE: usize = 4 << 20;
/// Members are compressed in groups of at least so many bytes.
const GROUP: usize = 1 << 20;

#[derive(Serialize)]
struct Toc {
    version: u32,
    entries: Vec<TocEntry>,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct TocEntry {
    name: String,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "is_zero")]
    size: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    modtime: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    link_name: String,
    #[serde(skip_serializing_if = "is_zero")]
    mode: u64,
    #[serde(skip_serializing_if = "is_zero")]
    uid: u64,
    #[serde(skip_serializing_if = "is_zero")]
    gid: u64,
    #[serde(skip_serializing_if = "is_zero")]
    offset: u64,
    #[serde(skip_serializing_if = "is_zero")]
    dev_major: u64,
    #[serde(skip_serializing_if = "is_zero")]
    dev_minor: u64,
    #[serde(rename = "NumLink")]
    n_links: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    xattrs: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    digest: String,
    #[serde(skip_serializing_if = "is_zero")]
    chunk_offset: u64,
    #[serde(skip_serializing_if = "is_zero")]
    chunk_size: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    chunk_digest: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde asks for")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Compresses `input`, a tar; returns the annotations of the descriptor.
pub(super) fn write(
    level: CompressionLvl,
    input: &mut impl Read,
    plain: &mut Sum,
    output: &mut HashingWriter<impl Write>,
) -> Result<BTreeMap<String, String>, LayerError> {
    let mut members = Members::new(level, plain, output);
    let mut entries = Vec::new();
    let mut reader = TarReader::new(Recorder { input, seen: Vec::new() }, u64::MAX);
    while let Some(member) = reader.next()? {
        if member.path.strip_prefix(b"./").unwrap_or(&member.path) == TABLE.as_bytes() {
            return Err(ArchiveError::Malformed("it already has a table of contents").into());
        }
        if member.is_sparse {
            return Err(LayerError::entry("a sparse file cannot be in an estargz", &member.path));
        }
        content(&member, &mut reader, &mut entries, &mut members)?;
        if reader.source().seen.len() >= GROUP {
            members.add(std::mem::take(&mut reader.source().seen), None)?;
        }
    }
    let mut rest = reader.into_rest();
    copy_rest(&mut rest, &mut members)?;
    members.finish()?;
    for (entry, offset) in &members.offsets {
        entries[*entry].offset = *offset;
    }
    let json = serde_json::to_vec(&Toc { version: 1, entries }).map_err(|error| LayerError::Write(error.into()))?;
    let at = members.output.sum.size();
    let table = table_entry(&json);
    members.plain.update(&table);
    let write = |output: &mut HashingWriter<_>| -> io::Result<()> {
        output.write_all(&compress_member(level, &table))?;
        output.write_all(&footer(at))
    };
    write(members.output).map_err(LayerError::Write)?;
    Ok(BTreeMap::from([
        (ESTARGZ_TOC.to_owned(), Digest::of(&json).to_string()),
        ("io.containers.estargz.uncompressed-size".to_owned(), members.plain.size().to_string()),
    ]))
}

/// The entries of one member of the archive, and the gzip members of its content.
fn content<R: Read>(
    member: &TarMember,
    reader: &mut TarReader<Recorder<R>>,
    entries: &mut Vec<TocEntry>,
    members: &mut Members<'_, impl Write>,
) -> Result<(), LayerError> {
    let first = entries.len();
    entries.push(entry_of(member));
    if member.size == 0 {
        return Ok(());
    }
    members.add(std::mem::take(&mut reader.source().seen), None)?;
    let mut whole = Sha256::new();
    let mut buffer = vec![0; 128 << 10];
    let mut offset = 0;
    while offset < member.size {
        let length = (member.size - offset).min(PIECE as u64);
        let mut left = length;
        while left > 0 {
            let want = left.min(buffer.len() as u64) as usize;
            left -= reader.data(&mut buffer[..want])? as u64;
        }
        let piece = std::mem::take(&mut reader.source().seen);
        if member.size > PIECE as u64 {
            whole.update(&piece);
        }
        if offset > 0 {
            let name = entries[first].name.clone();
            entries.push(TocEntry { name, kind: "chunk", chunk_offset: offset, ..TocEntry::default() });
        }
        let last = entries.len() - 1;
        let entry = &mut entries[last];
        entry.chunk_digest = Digest::of(&piece).to_string();
        entry.chunk_size = if member.size > PIECE as u64 { length } else { 0 };
        members.add(piece, Some(last))?;
        offset += length;
    }
    entries[first].digest = if member.size > PIECE as u64 {
        Digest::from_raw(whole.finalize().into()).to_string()
    } else {
        entries[first].chunk_digest.clone()
    };
    Ok(())
}

/// What is behind the archive, kept as it is.
fn copy_rest<R: Read>(rest: &mut Recorder<R>, members: &mut Members<'_, impl Write>) -> Result<(), LayerError> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match rest.read(&mut buffer) {
            Ok(0) => break,
            Ok(_) => (),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
            Err(error) => return Err(ArchiveError::Read(error).into()),
        }
        let text = rest.seen.iter().position(|byte| *byte != 0);
        if text.is_some_and(|at| rest.seen[at..].starts_with(TABLE.as_bytes())) {
            return Err(ArchiveError::Malformed("it already has a table of contents").into());
        }
        if rest.seen.len() >= GROUP {
            members.add(std::mem::take(&mut rest.seen), None)?;
        }
    }
    members.add(std::mem::take(&mut rest.seen), None)
}

fn entry_of(member: &TarMember) -> TocEntry {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let is_link = matches!(member.kind, TarMemberKind::HardLink | TarMemberKind::Symlink);
    let modtime = match jiff::Timestamp::from_second(member.mtime.0) {
        Ok(time) if member.mtime.0 != 0 => time.to_string(),
        _ => String::new(),
    };
    TocEntry {
        name: text(&member.path),
        kind: match member.kind {
            TarMemberKind::File => "reg",
            TarMemberKind::HardLink => "hardlink",
            TarMemberKind::Symlink => "symlink",
            TarMemberKind::CharDev => "char",
            TarMemberKind::BlockDev => "block",
            TarMemberKind::Dir => "dir",
            TarMemberKind::Fifo => "fifo",
        },
        size: member.size,
        modtime,
        link_name: if is_link { text(&member.link) } else { String::new() },
        mode: member.mode.into(),
        uid: member.uid.into(),
        gid: member.gid.into(),
        dev_major: member.device.0.into(),
        dev_minor: member.device.1.into(),
        xattrs: member
            .xattrs
            .iter()
            .map(|(name, value)| (text(name), base64::engine::general_purpose::STANDARD.encode(value)))
            .collect(),
        ..TocEntry::default()
    }
}

/// The tar entry of the table, with the end of the archive.
fn table_entry(json: &[u8]) -> Vec<u8> {
    let mut bytes = tar_headers(&TarEntry::file(TABLE.as_bytes(), 0o444, json.len() as u64));
    bytes.extend_from_slice(json);
    bytes.extend_from_slice(tar_padding(json.len() as u64));
    bytes.extend_from_slice(&TAR_END);
    bytes
}

/// An empty gzip member that says where the table begins. Written byte by byte, because encoders differ in how they write an
/// empty member.
fn footer(table_at: u64) -> Vec<u8> {
    let mut bytes = vec![0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 255, 26, 0, b'S', b'G', 22, 0];
    bytes.extend_from_slice(format!("{table_at:016x}STARGZ").as_bytes());
    bytes.extend_from_slice(&[1, 0, 0, 0xff, 0xff]);
    bytes.extend_from_slice(&[0; 8]);
    bytes
}

/// One group of members: their uncompressed content, and the entries whose content each of them is.
type ChunkGroup = Vec<(Vec<u8>, Option<usize>)>;

/// The gzip members, compressed in groups on all cores.
struct Members<'a, W> {
    level: CompressionLvl,
    plain: &'a mut Sum,
    output: &'a mut HashingWriter<W>,
    jobs: OrderedJobs<ChunkGroup>,
    group: ChunkGroup,
    group_size: usize,
    /// (entry, offset of its member)
    offsets: Vec<(usize, u64)>,
}

impl<'a, W: Write> Members<'a, W> {
    fn new(level: CompressionLvl, plain: &'a mut Sum, output: &'a mut HashingWriter<W>) -> Self {
        let (jobs, group, offsets) = (OrderedJobs::new(), Vec::new(), Vec::new());
        Self { level, plain, output, jobs, group, group_size: 0, offsets }
    }

    fn add(&mut self, bytes: Vec<u8>, entry: Option<usize>) -> Result<(), LayerError> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.plain.update(&bytes);
        self.group_size += bytes.len();
        self.group.push((bytes, entry));
        if self.group_size >= GROUP { self.finish_group() } else { Ok(()) }
    }

    fn finish_group(&mut self) -> Result<(), LayerError> {
        self.group_size = 0;
        let group = std::mem::take(&mut self.group);
        let level = self.level;
        let compress = move || {
            let member = |(bytes, entry): (Vec<u8>, _)| (compress_member(level, &bytes), entry);
            group.into_iter().map(member).collect()
        };
        let done = self.jobs.push(compress).map_err(LayerError::Write)?;
        done.map_or(Ok(()), |group| self.write(group))
    }

    fn finish(&mut self) -> Result<(), LayerError> {
        self.finish_group()?;
        while let Some(group) = self.jobs.next_result().map_err(LayerError::Write)? {
            self.write(group)?;
        }
        Ok(())
    }

    fn write(&mut self, group: ChunkGroup) -> Result<(), LayerError> {
        for (bytes, entry) in group {
            self.offsets.extend(entry.map(|entry| (entry, self.output.sum.size())));
            self.output.write_all(&bytes).map_err(LayerError::Write)?;
        }
        Ok(())
    }
}

/// A reader that keeps what it has read.
struct Recorder<R> {
    input: R,
    seen: Vec<u8>,
}

impl<R: Read> Read for Recorder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.input.read(buffer)?;
        self.seen.extend_from_slice(&buffer[..n]);
        Ok(n)
    }
}
