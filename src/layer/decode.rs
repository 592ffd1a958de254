//! Finds out how bytes are compressed, and undoes it.

use std::io::{self, BufRead as _, BufReader, Read};

/// How a layer is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Compression {
    Uncompressed,
    Gzip,
    Zstd,
    Estargz,
    /// Read only: `ADD` of an archive.
    Bzip2,
    /// Read only: `ADD` of an archive.
    Xz,
}

/// The compression that begins with these bytes (six are enough). Estargz is gzip here.
pub(super) fn detect(magic: &[u8]) -> Compression {
    match magic {
        [0x1f, 0x8b, 0x08, ..] => Compression::Gzip,
        // A frame, or one that is skipped.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => Compression::Bzip2,
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Compression::Xz,
        _ => Compression::Uncompressed,
    }
}

/// More memory than this is not given to a decoder: a stream can ask for gigabytes.
const MEMORY_KIB: u32 = 192 << 10;

/// The bytes behind any compression. Several members, frames or streams after each other are one.
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
        Compression::Gzip | Compression::Estargz => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
        Compression::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(input)?),
        Compression::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(input)),
        Compression::Xz => Box::new(lzma_rust2::XzReader::new_mem_limit(input, true, MEMORY_KIB)),
        Compression::Uncompressed => Box::new(input),
    })
}
