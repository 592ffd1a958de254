//! Work in other threads with bounded queues: jobs whose results come back in order, and pipes between two threads.

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel},
    thread,
    time::Duration,
};

/// Runs jobs on the rayon pool, a bounded number at a time, and returns their results in the order of the jobs.
pub(super) struct OrderedJobs<T> {
    queue: VecDeque<Receiver<thread::Result<T>>>,
    limit: usize,
}

impl<T: Send + 'static> OrderedJobs<T> {
    /// No jobs yet; at most two more than the pool has threads are under way at a time.
    pub(super) fn new() -> Self {
        Self { queue: VecDeque::new(), limit: rayon::current_num_threads() + 2 }
    }

    /// Starts a job. If as many are under way as may be, first waits for the oldest one and returns its result.
    ///
    /// # Panics
    /// As [`Self::next_result`] does.
    pub(super) fn push(&mut self, job: impl FnOnce() -> T + Send + 'static) -> io::Result<Option<T>> {
        let oldest = if self.queue.len() >= self.limit { self.next_result()? } else { None };
        let (sender, receiver) = sync_channel(1);
        // rayon aborts the process when a spawned job panics. Nothing that the job owns is seen after a panic.
        rayon::spawn(move || drop(sender.send(catch_unwind(AssertUnwindSafe(job)))));
        self.queue.push_back(receiver);
        Ok(oldest)
    }

    /// Waits for the oldest job and returns its result; `None` if no job is left.
    ///
    /// On a thread of the rayon pool it does other work of the pool while it waits, so that waiting jobs cannot block
    /// it.
    ///
    /// # Errors
    /// Only when the job ended without a result; an error of the job itself is part of `T`.
    ///
    /// # Panics
    /// When the job panicked, with its panic: it fails the build or export that the jobs belong to, and no other.
    pub(super) fn next_result(&mut self) -> io::Result<Option<T>> {
        let Some(receiver) = self.queue.pop_front() else { return Ok(None) };
        match wait(&receiver)? {
            Ok(result) => Ok(Some(result)),
            Err(panic) => resume_unwind(panic),
        }
    }
}

fn wait<T>(receiver: &Receiver<T>) -> io::Result<T> {
    let lost = || io::Error::other("a worker thread has ended");
    if rayon::current_thread_index().is_none() {
        return receiver.recv().map_err(|_| lost());
    }
    // On a thread of the pool: all of them might wait like this, so do the pool's work meanwhile.
    loop {
        match receiver.try_recv() {
            Ok(result) => return Ok(result),
            Err(TryRecvError::Disconnected) => return Err(lost()),
            Err(TryRecvError::Empty) => (),
        }
        if rayon::yield_now() != Some(rayon::Yield::Executed) {
            match receiver.recv_timeout(Duration::from_millis(1)) {
                Ok(result) => return Ok(result),
                Err(RecvTimeoutError::Disconnected) => return Err(lost()),
                Err(RecvTimeoutError::Timeout) => (),
            }
        }
    }
}

const CHUNK: usize = 256 << 10;
const CHUNKS: usize = 6;

/// Makes a pipe between two threads, which holds a bounded number of bytes.
pub(super) fn pipe() -> (PipeWriter, PipeReader) {
    let (sender, receiver) = sync_channel(CHUNKS);
    (
        PipeWriter { sender, chunk: Vec::with_capacity(CHUNK) },
        PipeReader { receiver, chunk: Vec::new(), at: 0, ended: false },
    )
}

/// The end of a pipe that is written to. The reader sees an end of file only after [`Self::finish`].
pub(super) struct PipeWriter {
    sender: SyncSender<io::Result<Vec<u8>>>,
    chunk: Vec<u8>,
}

impl PipeWriter {
    /// Ends the stream, either well or with an error that the reader gets.
    pub(super) fn finish(mut self, result: io::Result<()>) {
        if self.flush().is_ok() {
            drop(self.sender.send(result.map(|()| Vec::new())));
        }
    }

    /// Writes all of `input` and ends the stream; an error of `input` goes to the reader.
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

/// The end of a pipe that is read from. A writer that is dropped unfinished is an error.
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
            let mut jobs = OrderedJobs::new();
            let mut results = Vec::new();
            for i in 0..100_u64 {
                results
                    .extend(jobs.push(move || (0..(100 - i) * 1000).fold(i, |a, _| std::hint::black_box(a))).unwrap());
            }
            while let Some(result) = jobs.next_result().unwrap() {
                results.push(result);
            }
            assert_eq!(results, (0..100).collect::<Vec<_>>());
        };
        work();
        rayon::scope(|scope| (0..8).for_each(|_| scope.spawn(|_| work())));
    }

    #[test]
    fn a_job_that_panics_fails_the_one_who_waits_for_it_and_nobody_else() {
        let work = || {
            let mut jobs = OrderedJobs::new();
            for i in 0..3_u8 {
                let oldest = jobs.push(move || if i == 1 { panic!("job {i}") } else { i });
                assert_eq!(oldest.unwrap(), None);
            }
            assert_eq!(jobs.next_result().unwrap(), Some(0));
            let panic = catch_unwind(AssertUnwindSafe(|| jobs.next_result())).unwrap_err();
            assert_eq!(panic.downcast_ref::<String>().unwrap(), "job 1");
            assert_eq!(jobs.next_result().unwrap(), Some(2));
            assert_eq!(jobs.next_result().unwrap(), None);
        };
        work();
        rayon::scope(|scope| scope.spawn(|_| work()));
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
