//! Compresses a layer on all cores with bounded memory. The output depends on the input, the compression and the
//! level alone, never on the number of threads.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    io::{self, Read, Write},
};

use libdeflater::{CompressionLvl, Compressor};
use sha2::{Digest as _, Sha256};

use super::{error::LayerError, estargz, parallel::OrderedJobs};
use crate::{
    archive::ArchiveError,
    oci::{Codec, DiffId, Digest},
};

/// The result of [`encode`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Encoded {
    /// Of the uncompressed bytes; for estargz they include its table of contents, so it differs from the input's.
    pub(crate) diff_id: DiffId,
    pub(crate) digest: Digest,
    /// For the descriptor.
    pub(crate) annotations: BTreeMap<String, String>,
}

/// Uncompressed bytes of one gzip member.
const MEMBER: usize = 1 << 20;

/// Compresses `input` to `output`.
///
/// `level` is that of the option `compression-level`: for gzip and estargz 0 (store) to 9, -1 the default, -2 the least;
/// for zstd 1 to 22. Numbers outside mean the nearest inside.
pub(crate) fn encode(
    codec: Codec,
    level: Option<i32>,
    mut input: impl Read + Send,
    output: impl Write + Send,
) -> Result<Encoded, LayerError> {
    let mut output = HashingWriter::new(output);
    let mut plain = Sum::new();
    let mut annotations = BTreeMap::new();
    match codec {
        Codec::Uncompressed => {
            let mut buffer = vec![0; 256 << 10];
            loop {
                let n = fill(&mut input, &mut buffer)?;
                output.write_all(&buffer[..n]).map_err(LayerError::Write)?;
                if n < buffer.len() {
                    break;
                }
            }
        }
        Codec::Gzip => gzip(gzip_level(level), &mut input, &mut plain, &mut output)?,
        Codec::Zstd => zstd(level, &mut input, &mut plain, &mut output)?,
        Codec::Estargz => {
            annotations = estargz::write(gzip_level(level), &mut input, &mut plain, &mut output)?;
        }
    }
    output.inner.flush().map_err(LayerError::Write)?;
    let digest = output.sum.finish();
    let diff_id = if codec == Codec::Uncompressed { digest } else { plain.finish() };
    Ok(Encoded { diff_id: DiffId(diff_id), digest, annotations })
}

/// Members of 1 MiB, each compressed alone: a valid gzip file whose parts can be made at the same time.
fn gzip(
    level: CompressionLvl,
    input: &mut impl Read,
    plain: &mut Sum,
    output: &mut HashingWriter<impl Write>,
) -> Result<(), LayerError> {
    let mut jobs = OrderedJobs::new();
    let mut first = true;
    loop {
        let mut block = vec![0; MEMBER];
        let n = fill(input, &mut block)?;
        block.truncate(n);
        plain.update(&block);
        // An empty input is one empty member.
        if n > 0 || first {
            let done = jobs.push(move || compress_member(level, &block)).map_err(LayerError::Write)?;
            done.map_or(Ok(()), |member| output.write_all(&member)).map_err(LayerError::Write)?;
        }
        first = false;
        if n < MEMBER {
            break;
        }
    }
    while let Some(member) = jobs.next_result().map_err(LayerError::Write)? {
        output.write_all(&member).map_err(LayerError::Write)?;
    }
    Ok(())
}

/// One frame. The library's own threads work on it; with one or more of them the bytes are the same.
fn zstd(
    level: Option<i32>,
    input: &mut impl Read,
    plain: &mut Sum,
    output: &mut HashingWriter<impl Write>,
) -> Result<(), LayerError> {
    let level = level.unwrap_or(3).clamp(1, 22);
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(8) as u32;
    let mut encoder = zstd::stream::write::Encoder::new(output, level).map_err(LayerError::Write)?;
    encoder.multithread(threads).map_err(LayerError::Write)?;
    let mut buffer = vec![0; 256 << 10];
    loop {
        let n = fill(input, &mut buffer)?;
        plain.update(&buffer[..n]);
        encoder.write_all(&buffer[..n]).map_err(LayerError::Write)?;
        if n < buffer.len() {
            break;
        }
    }
    encoder.finish().map(|_| ()).map_err(LayerError::Write)
}

/// The level of the gzip encoder. The default is smaller and half again as fast as level 6 of zlib.
fn gzip_level(level: Option<i32>) -> CompressionLvl {
    let level = match level {
        None | Some(-1) => 4,
        Some(..-1) => 1,
        Some(level) => level.min(9),
    };
    CompressionLvl::new(level).unwrap_or_default()
}

/// Compresses bytes into one complete gzip member (RFC 1952): no name, no time, no operating system, so that equal
/// bytes give equal blobs.
pub(super) fn compress_member(level: CompressionLvl, bytes: &[u8]) -> Vec<u8> {
    thread_local! {
        /// The last used encoder of this thread: making one costs more than compressing a small file.
        static LAST: RefCell<Option<(CompressionLvl, Compressor)>> = const { RefCell::new(None) };
    }
    LAST.with_borrow_mut(|last| {
        if last.as_ref().is_none_or(|(of, _)| *of != level) {
            *last = Some((level, Compressor::new(level)));
        }
        let (_, compressor) = last.as_mut().expect("set above");
        let mut member = vec![0; compressor.gzip_compress_bound(bytes.len())];
        let n = compressor.gzip_compress(bytes, &mut member).expect("the buffer has the size of the worst case");
        member.truncate(n);
        member.shrink_to_fit();
        member
    })
}

/// Reads until the buffer is full or the input ends.
pub(super) fn fill(input: &mut impl Read, buffer: &mut [u8]) -> Result<usize, LayerError> {
    let mut n = 0;
    while n < buffer.len() {
        match input.read(&mut buffer[n..]) {
            Ok(0) => break,
            Ok(more) => n += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
            Err(error) => return Err(ArchiveError::Read(error).into()),
        }
    }
    Ok(n)
}

/// Hashes and counts bytes as they pass.
pub(super) struct Sum {
    hasher: Sha256,
    size: u64,
}

impl Sum {
    /// A sum of no bytes.
    pub(super) fn new() -> Self {
        Self { hasher: Sha256::new(), size: 0 }
    }

    /// Adds bytes.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
    }

    /// The number of bytes so far.
    pub(super) const fn size(&self) -> u64 {
        self.size
    }

    /// The sha256 digest of all bytes.
    pub(super) fn finish(self) -> Digest {
        Digest::from_raw(self.hasher.finalize().into())
    }
}

/// A writer that hashes and counts what passes through it to `inner`.
pub(super) struct HashingWriter<W> {
    pub(super) inner: W,
    pub(super) sum: Sum,
}

impl<W> HashingWriter<W> {
    /// Starts with an empty sum.
    pub(super) fn new(inner: W) -> Self {
        Self { inner, sum: Sum::new() }
    }
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.sum.update(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
