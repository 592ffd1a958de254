//! The coding in which a server sends a file, `Content-Encoding` (RFC 9110, section 8.4): found and undone.
//!
//! None is asked for, but some servers send what they keep compressed all the same. What is wanted is the file, not its
//! coded form. Knows no requests.

use std::io::{self, Write};

use flate2::write::{MultiGzDecoder, ZlibDecoder};
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};

/// A coding that can be undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ContentCoding {
    /// The file as it is.
    Identity,
    Gzip,
    /// In zlib format, as the name `deflate` means.
    Deflate,
    Zstd,
}

impl ContentCoding {
    /// The coding of an answer to a request for the file at `path` of a URL.
    ///
    /// A file that is gzip by its name or type, and said to be coded with gzip, is the gzip file as it lies on the server: many
    /// servers name the compression of such files twice. Words that are no coding, which servers put there by mistake, are
    /// passed over.
    ///
    /// # Errors
    /// The codings, when they cannot be undone.
    pub(super) fn of(headers: &HeaderMap, path: &str) -> Result<Self, String> {
        let texts = headers.get_all(CONTENT_ENCODING).iter().filter_map(|value| value.to_str().ok());
        let words = texts.flat_map(|text| text.split(',')).map(|word| word.trim().to_ascii_lowercase());
        let is_coding = |word: &String| {
            matches!(word.as_str(), "gzip" | "x-gzip" | "deflate" | "zstd" | "br" | "compress" | "x-compress")
        };
        let words: Vec<String> = words.filter(is_coding).collect();
        match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            [] => Ok(Self::Identity),
            ["gzip" | "x-gzip"] if is_gzip_file(headers, path) => Ok(Self::Identity),
            ["gzip" | "x-gzip"] => Ok(Self::Gzip),
            ["deflate"] => Ok(Self::Deflate),
            ["zstd"] => Ok(Self::Zstd),
            _ => Err(words.join(", ")),
        }
    }
}

/// Whether a file is compressed with gzip by itself.
fn is_gzip_file(headers: &HeaderMap, path: &str) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let path = path.to_ascii_lowercase();
    matches!(kind.as_str(), "application/gzip" | "application/x-gzip" | "application/x-tgz")
        || [".gz", ".tgz", ".svgz"].iter().any(|end| path.ends_with(end))
}

/// Undoes a coding in front of a writer.
pub(super) enum CodedWriter<W: Write> {
    Identity(W),
    Gzip(Box<MultiGzDecoder<W>>),
    Deflate(Box<ZlibDecoder<W>>),
    Zstd(Box<zstd::stream::write::Decoder<'static, W>>),
}

impl<W: Write> CodedWriter<W> {
    /// A writer that takes the coded bytes and passes the file on to `writer`.
    ///
    /// # Errors
    /// When no decoder can be made.
    pub(super) fn new(coding: ContentCoding, writer: W) -> io::Result<Self> {
        Ok(match coding {
            ContentCoding::Identity => Self::Identity(writer),
            ContentCoding::Gzip => Self::Gzip(Box::new(MultiGzDecoder::new(writer))),
            ContentCoding::Deflate => Self::Deflate(Box::new(ZlibDecoder::new(writer))),
            ContentCoding::Zstd => Self::Zstd(Box::new(zstd::stream::write::Decoder::new(writer)?)),
        })
    }

    /// Takes some of the coded bytes.
    ///
    /// # Errors
    /// When they are malformed, or cannot be passed on.
    pub(super) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Identity(writer) => writer.write_all(bytes),
            Self::Gzip(writer) => writer.write_all(bytes),
            Self::Deflate(writer) => writer.write_all(bytes),
            Self::Zstd(writer) => writer.write_all(bytes),
        }
    }

    /// Ends the file and returns the writer behind it.
    ///
    /// # Errors
    /// When the coded bytes end too early, or the last of the file cannot be passed on.
    pub(super) fn finish(self) -> io::Result<W> {
        let mut writer = match self {
            Self::Identity(writer) => writer,
            Self::Gzip(writer) => writer.finish()?,
            Self::Deflate(writer) => writer.finish()?,
            Self::Zstd(mut writer) => {
                writer.flush()?;
                writer.into_inner()
            }
        };
        writer.flush()?;
        Ok(writer)
    }
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    fn coding(encoding: &str, kind: &str, path: &str) -> Result<ContentCoding, String> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_ENCODING, HeaderValue::from_str(encoding).expect("a header"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_str(kind).expect("a header"));
        ContentCoding::of(&headers, path)
    }

    #[test]
    fn codings_are_told_from_compressed_files_and_from_mistakes() {
        assert_eq!(ContentCoding::of(&HeaderMap::new(), "/f"), Ok(ContentCoding::Identity));
        assert_eq!(coding("GZIP", "text/plain", "/f"), Ok(ContentCoding::Gzip));
        assert_eq!(coding("identity, x-gzip", "text/plain", "/f.txt"), Ok(ContentCoding::Gzip));
        assert_eq!(coding("deflate", "text/plain", "/f.gz"), Ok(ContentCoding::Deflate));
        assert_eq!(coding("zstd", "text/plain", "/f"), Ok(ContentCoding::Zstd));
        assert_eq!(coding("x-gzip", "application/x-tar", "/f.tar.gz"), Ok(ContentCoding::Identity));
        assert_eq!(coding("gzip", "application/gzip; x=y", "/latest"), Ok(ContentCoding::Identity));
        assert_eq!(coding("aws-chunked", "text/plain", "/f"), Ok(ContentCoding::Identity));
        assert_eq!(coding("br", "text/plain", "/f"), Err("br".to_owned()));
        assert_eq!(coding("gzip, gzip", "text/plain", "/f"), Err("gzip, gzip".to_owned()));
    }

    #[test]
    fn a_coded_file_that_is_cut_or_malformed_is_a_fault() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&[7; 3000]).expect("memory");
        let whole = gzip.finish().expect("memory");
        let decode = |bytes: &[u8]| {
            let mut writer = CodedWriter::new(ContentCoding::Gzip, Vec::new())?;
            writer.write_all(bytes)?;
            writer.finish()
        };
        assert_eq!(decode(&whole).expect("it is whole"), [7; 3000]);
        assert!(decode(&whole[..whole.len() - 9]).is_err());
        assert!(decode(b"plain text, not gzip").is_err());
    }
}
