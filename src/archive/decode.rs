//! Finds out by their first bytes how bytes are compressed, and decompresses them. No limit on the ratio: layers full of
//! zeros are legitimate. What is bounded is the memory of a decoder; the bytes that come out are for the caller to count.

use std::io::{self, BufRead as _, BufReader, Read};

/// The compression of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ArchiveCompression {
    Uncompressed,
    Gzip,
    Zstd,
    Bzip2,
    Xz,
}

/// Detects the compression by the first bytes; six are enough.
pub(crate) fn detect(magic: &[u8]) -> ArchiveCompression {
    match magic {
        [0x1f, 0x8b, 0x08, ..] => ArchiveCompression::Gzip,
        // A frame, or one that is skipped.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => ArchiveCompression::Zstd,
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => ArchiveCompression::Bzip2,
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => ArchiveCompression::Xz,
        _ => ArchiveCompression::Uncompressed,
    }
}

/// Memory for one xz stream, in KiB; a stream can ask for gigabytes. `xz -9` needs 65 MiB.
const MEMORY_KIB: u32 = 192 << 10;
/// The largest window of a zstd frame, as a power of two: 128 MiB, what `zstd --long` needs.
const MAX_WINDOW: u32 = 27;

/// Decompresses an input that is compressed in any known way or not at all.
///
/// Several gzip members, zstd frames or xz streams after each other are read as one (RFC 1952 section 2.2, RFC 8878
/// section 3).
///
/// # Errors
/// When the first bytes cannot be read, or a decoder cannot be made. That the bytes are damaged is an error of the
/// reader.
pub(crate) fn decode<'a>(input: impl Read + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
    let mut input = BufReader::with_capacity(128 << 10, input);
    // One read may give fewer bytes than the magic has.
    let mut head = Vec::new();
    while head.len() < 6 {
        let bytes = match input.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        if bytes.is_empty() {
            break;
        }
        let n = bytes.len().min(6 - head.len());
        head.extend_from_slice(&bytes[..n]);
        input.consume(n);
    }
    let kind = detect(&head);
    let input = BufReader::with_capacity(128 << 10, io::Cursor::new(head).chain(input));
    Ok(match kind {
        ArchiveCompression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
        ArchiveCompression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
            decoder.window_log_max(MAX_WINDOW)?;
            Box::new(decoder)
        }
        ArchiveCompression::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(input)),
        ArchiveCompression::Xz => Box::new(lzma_rust2::XzReader::new_mem_limit(input, true, MEMORY_KIB)),
        ArchiveCompression::Uncompressed => Box::new(input),
    })
}
