//! Work in other threads with bounded queues: jobs whose results come back in order, and pipes between two threads.

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel},
    time::Duration,
};

/// Jobs on the rayon pool, at most a few at a time; results in the order of the jobs.
pub(super) struct Ordered<T> {
    queue: VecDeque<Receiver<T>>,
    limit: usize,
}

impl<T: Send + 'static> Ordered<T> {
    pub(super) fn new() -> Self {
        Self { queue: VecDeque::new(), limit: rayon::current_num_threads() + 2 }
    }

    /// Starts a job; gives the result of the oldest one if there were enough.
    pub(super) fn push(&mut self, job: impl FnOnce() -> T + Send + 'static) -> io::Result<Option<T>> {
        let oldest = if self.queue.len() >= self.limit { self.pop()? } else { None };
        let (sender, receiver) = sync_channel(1);
        rayon::spawn(move || drop(sender.send(job())));
        self.queue.push_back(receiver);
        Ok(oldest)
    }

    /// The result of the oldest job, waited for; `None` when there is no job.
    pub(super) fn pop(&mut self) -> io::Result<Option<T>> {
        let Some(receiver) = self.queue.pop_front() else { return Ok(None) };
        let lost = || io::Error::other("a worker thread has ended");
        if rayon::current_thread_index().is_none() {
            return receiver.recv().map(Some).map_err(|_| lost());
        }
        // On a thread of the pool: all of them might wait like this, so do the pool's work meanwhile.
        loop {
            match receiver.try_recv() {
                Ok(result) => return Ok(Some(result)),
                Err(TryRecvError::Disconnected) => return Err(lost()),
                Err(TryRecvError::Empty) => (),
            }
            if rayon::yield_now() != Some(rayon::Yield::Executed) {
                match receiver.recv_timeout(Duration::from_millis(1)) {
                    Ok(result) => return Ok(Some(result)),
                    Err(RecvTimeoutError::Disconnected) => return Err(lost()),
                    Err(RecvTimeoutError::Timeout) => (),
                }
            }
        }
    }
}

const CHUNK: usize = 256 << 10;
const CHUNKS: usize = 6;

/// A pipe between two threads.
pub(super) fn pipe() -> (PipeWriter, PipeReader) {
    let (sender, receiver) = sync_channel(CHUNKS);
    (
        PipeWriter { sender, chunk: Vec::with_capacity(CHUNK) },
        PipeReader { receiver, chunk: Vec::new(), at: 0, ended: false },
    )
}

/// The end that is written to. The reader sees an end of file only after [`Self::finish`].
pub(super) struct PipeWriter {
    sender: SyncSender<io::Result<Vec<u8>>>,
    chunk: Vec<u8>,
}

impl PipeWriter {
    /// Ends the stream, well or with an error that the reader gets.
    pub(super) fn finish(mut self, result: io::Result<()>) {
        if self.flush().is_ok() {
            drop(self.sender.send(result.map(|()| Vec::new())));
        }
    }

    /// Writes all of `input` and ends.
    pub(super) fn copy(mut self, input: &mut dyn Read) {
        let result = loop {
            let mut chunk = vec![0; CHUNK];
            let mut n = 0;
            let read = loop {
                match input.read(&mut chunk[n..]) {
                    Ok(0) => break Ok(true),
                    Ok(more) => n += more,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                    Err(error) => break Err(error),
                }
                if n == CHUNK {
                    break Ok(false);
                }
            };
            chunk.truncate(n);
            self.chunk = chunk;
            if self.flush().is_err() {
                return;
            }
            match read {
                Ok(false) => (),
                Ok(true) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        self.finish(result);
    }
}

impl Write for PipeWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = bytes.len().min(CHUNK - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..n]);
        if self.chunk.len() == CHUNK {
            self.flush()?;
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK));
        self.sender.send(Ok(chunk)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// The end that is read.
pub(super) struct PipeReader {
    receiver: Receiver<io::Result<Vec<u8>>>,
    chunk: Vec<u8>,
    at: usize,
    ended: bool,
}

impl Read for PipeReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.chunk.len() && !self.ended {
            // An empty chunk is the end.
            self.chunk = self.receiver.recv().map_err(|_| io::Error::from(io::ErrorKind::UnexpectedEof))??;
            self.at = 0;
            self.ended = self.chunk.is_empty();
        }
        let n = buffer.len().min(self.chunk.len() - self.at);
        buffer[..n].copy_from_slice(&self.chunk[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_from_inside_the_pool_and_outside() {
        let work = || {
            let mut jobs = Ordered::new();
            let mut results = Vec::new();
            for i in 0..100_u64 {
                results
                    .extend(jobs.push(move || (0..(100 - i) * 1000).fold(i, |a, _| std::hint::black_box(a))).unwrap());
            }
            while let Some(result) = jobs.pop().unwrap() {
                results.push(result);
            }
            assert_eq!(results, (0..100).collect::<Vec<_>>());
        };
        work();
        rayon::scope(|scope| (0..8).for_each(|_| scope.spawn(|_| work())));
    }

    #[test]
    fn a_pipe_carries_bytes_and_errors_and_does_not_hang_when_dropped() {
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|i| i as u8).collect();
        std::thread::scope(|scope| {
            let (writer, mut reader) = pipe();
            scope.spawn(|| writer.copy(&mut bytes.as_slice()));
            let mut got = Vec::new();
            reader.read_to_end(&mut got).unwrap();
            assert_eq!(got, bytes);
            let (mut writer, mut reader) = pipe();
            scope.spawn(move || {
                writer.write_all(b"abc").unwrap();
                writer.finish(Err(io::Error::other("broken")));
            });
            let mut got = Vec::new();
            assert_eq!(reader.read_to_end(&mut got).unwrap_err().to_string(), "broken");
            assert_eq!(got, b"abc");
            let (writer, reader) = pipe();
            drop(reader);
            writer.copy(&mut bytes.as_slice());
            let (writer, mut reader) = pipe();
            drop(writer);
            assert!(reader.read(&mut [0]).is_err());
        });
    }
}
