//! What a connection runs over: any stream of bytes, and the last words of what it came from.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connect_fault::clean;

/// How much of the last words is kept, in bytes.
const KEPT: usize = 2000;

/// A stream of bytes in both directions.
pub(super) trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// Any stream.
pub(super) type BoxedStream = Box<dyn ByteStream>;

/// What the other end of a stream says beside it, as a program does on its standard error.
#[derive(Clone, Debug, Default)]
pub(super) struct LastWords(Arc<Mutex<Vec<u8>>>);

impl LastWords {
    /// Keeps the end of what was said.
    pub(super) fn push(&self, bytes: &[u8]) {
        let mut kept = self.0.lock().expect("no holder of this lock panics");
        kept.extend_from_slice(bytes);
        let surplus = kept.len().saturating_sub(KEPT);
        kept.drain(..surplus);
    }

    /// What was said; `None` if nothing was.
    pub(super) fn text(&self) -> Option<String> {
        let kept = self.0.lock().expect("no holder of this lock panics");
        Some(clean(&String::from_utf8_lossy(&kept))).filter(|text| !text.is_empty())
    }
}

/// A stream of which something was read already.
pub(super) struct BegunStream<S> {
    inner: S,
    /// What was read, the next byte last.
    begun: Vec<u8>,
}

impl<S> BegunStream<S> {
    pub(super) fn new(inner: S, mut begun: Vec<u8>) -> Self {
        begun.reverse();
        Self { inner, begun }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for BegunStream<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.begun.is_empty() {
            return Pin::new(&mut this.inner).poll_read(context, buffer);
        }
        let left = this.begun.len().saturating_sub(buffer.remaining());
        let piece: Vec<u8> = this.begun.drain(left..).rev().collect();
        buffer.put_slice(&piece);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for BegunStream<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(context)
    }
}

/// A stream of Docker that carries standard output and standard error in frames: one byte that says which, three of
/// zeros, four of the length (<https://docs.docker.com/reference/api/engine/>, "Stream format" of attaching).
pub(super) struct FramedStream<S> {
    inner: S,
    words: LastWords,
    /// What is read of a header.
    header: [u8; 8],
    read: usize,
    /// What is left of the frame that the last header began.
    left: usize,
}

/// The first byte of a frame of standard error.
const STDERR: u8 = 2;

impl<S> FramedStream<S> {
    pub(super) fn new(inner: S, words: LastWords) -> Self {
        Self { inner, words, header: [0; 8], read: 0, left: 0 }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for FramedStream<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.left == 0 {
                let mut header = ReadBuf::new(&mut this.header[this.read..]);
                ready!(Pin::new(&mut this.inner).poll_read(context, &mut header))?;
                let count = header.filled().len();
                if count == 0 {
                    return Poll::Ready(Ok(()));
                }
                this.read += count;
                if this.read == this.header.len() {
                    let [_, _, _, _, length @ ..] = this.header;
                    this.left = u32::from_be_bytes(length) as usize;
                    this.read = 0;
                }
                continue;
            }
            let mut piece = [0; 8192];
            let is_said = this.header[0] == STDERR;
            let room = if is_said { piece.len() } else { piece.len().min(buffer.remaining()) };
            if room == 0 {
                return Poll::Ready(Ok(()));
            }
            let mut part = ReadBuf::new(&mut piece[..room.min(this.left)]);
            ready!(Pin::new(&mut this.inner).poll_read(context, &mut part))?;
            let part = part.filled();
            this.left -= part.len();
            if is_said && !part.is_empty() {
                this.words.push(part);
                continue;
            }
            if !is_said {
                buffer.put_slice(part);
            }
            return Poll::Ready(Ok(()));
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for FramedStream<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn frames_are_told_apart_wherever_they_are_cut() {
        let mut sent = Vec::new();
        for (kind, text) in [(1, "con"), (2, "a warning"), (1, ""), (1, "tent")] {
            sent.extend([kind, 0, 0, 0]);
            sent.extend(u32::try_from(text.len()).expect("short").to_be_bytes());
            sent.extend(text.as_bytes());
        }
        let words = LastWords::default();
        let pieces = tokio_test_reader(sent);
        let mut framed = FramedStream::new(pieces, words.clone());
        let mut read = String::new();
        framed.read_to_string(&mut read).await.expect("readable");
        assert_eq!(read, "content");
        assert_eq!(words.text().as_deref(), Some("a warning"));
    }

    /// A reader that gives three bytes at once.
    fn tokio_test_reader(bytes: Vec<u8>) -> impl AsyncRead + Unpin {
        struct Three(std::io::Cursor<Vec<u8>>);
        impl AsyncRead for Three {
            fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
                let mut piece = [0; 3];
                let wanted = buffer.remaining().min(3);
                let count = std::io::Read::read(&mut self.get_mut().0, &mut piece[..wanted])?;
                buffer.put_slice(&piece[..count]);
                Poll::Ready(Ok(()))
            }
        }
        Three(std::io::Cursor::new(bytes))
    }
}
