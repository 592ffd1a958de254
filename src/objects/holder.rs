//! What every place of a shared cache can do: hold blobs under keys that never change, and documents that are replaced.

use std::io;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;

use super::error::ObjectError;

/// A document as it was read.
#[derive(Clone, Debug)]
pub(crate) struct NamedDocument {
    pub(crate) bytes: Bytes,
    pub(crate) version: DocumentVersion,
}

/// What tells one content of a document from the next; what it consists of is the affair of the holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DocumentVersion {
    pub(super) tag: Option<String>,
    pub(super) generation: Option<String>,
}

/// What a document must still be for it to be replaced.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Expected<'a> {
    /// For servers that cannot check it.
    Anything,
    Nothing,
    Version(&'a DocumentVersion),
}

/// The outcome of replacing a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Replaced {
    Done,
    /// It is not what was expected: nothing was written.
    Changed,
}

/// The chunks of a blob, none of them empty; an error says why it broke off.
pub(crate) type BlobChunks = BoxStream<'static, Result<Bytes, String>>;

/// The content of a blob on this machine. Its end fails if the bytes are not those of its digest.
pub(crate) type BlobContent = Box<dyn io::Read + Send>;

/// A place of a shared cache.
#[async_trait]
pub(crate) trait ObjectHolder: Send + Sync {
    /// The newest document of a name; `None` if there is none.
    async fn document(&self, name: &str) -> Result<Option<NamedDocument>, ObjectError>;

    /// Writes a document if the name still has what is expected.
    async fn replace(&self, name: &str, bytes: Bytes, expected: Expected<'_>) -> Result<Replaced, ObjectError>;

    /// Whether the server checks what a document is when it is replaced. That is tried out, where it is not known, by
    /// writing a blob of no bytes under `empty` twice.
    async fn checks_versions(&self, empty: &str) -> Result<bool, ObjectError>;

    /// Whether there is a blob of this size. What is about to expire is kept for longer, where that can be asked for.
    async fn has(&self, key: &str, size: u64) -> Result<bool, ObjectError>;

    /// Reads a blob.
    async fn read(&self, key: &str) -> Result<BlobChunks, ObjectError>;

    /// Writes a blob. It is there under its key only when all of it is.
    async fn write(&self, key: &str, size: u64, content: BlobContent) -> Result<(), ObjectError>;
}

/// Reads the next `size` bytes of a content, fewer at its end. Blocks a thread of its own, not the runtime.
pub(super) async fn next_chunk(mut content: BlobContent, size: usize) -> io::Result<(BlobContent, Bytes)> {
    let read = move || {
        let mut chunk = Vec::with_capacity(size);
        io::Read::read_to_end(&mut io::Read::take(&mut content, size as u64), &mut chunk)?;
        Ok((content, Bytes::from(chunk)))
    };
    tokio::task::spawn_blocking(read).await.map_err(io::Error::other)?
}
