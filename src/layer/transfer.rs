//! Copies the data of one file into another: in the kernel where it can, holes kept.

use std::{
    cell::RefCell,
    fs::File,
    io::{self, Read, Write},
    ops::Range,
    sync::atomic::{AtomicBool, Ordering},
};

use rustix::{fs::SeekFrom, io::Errno};

/// What is read at once; files that fit are not worth more than one read and one write.
const CHUNK: usize = 128 * 1024;

/// Copies all of `from`, of which `size` bytes are expected, into `to`, which is empty. `no_range` is set when the file
/// systems cannot copy in the kernel.
pub(crate) fn copy_data(from: &File, to: &File, size: u64, no_range: &AtomicBool) -> io::Result<()> {
    if size <= CHUNK as u64 {
        return copy_rest(from, to);
    }
    let Some(ranges) = data_ranges(from, size)? else { return copy_range(from, to, u64::MAX, no_range) };
    for range in ranges {
        rustix::fs::seek(from, SeekFrom::Start(range.start))?;
        rustix::fs::seek(to, SeekFrom::Start(range.start))?;
        copy_range(from, to, range.end - range.start, no_range)?;
    }
    let end = rustix::fs::seek(from, SeekFrom::End(0))?;
    Ok(rustix::fs::ftruncate(to, end)?)
}

/// The ranges of a file of `size` bytes that hold data, in order; what lies between them reads as zeros. `None` when it has
/// no hole, or when the file system does not say (`lseek(2)`, `SEEK_DATA`). The file stands at its start afterwards.
pub(crate) fn data_ranges(file: &File, size: u64) -> io::Result<Option<Vec<Range<u64>>>> {
    // A hole saves more than looking for it costs only in a file with fewer blocks than bytes.
    let stat = rustix::fs::fstat(file)?;
    if u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512) >= size {
        return Ok(None);
    }
    let mut ranges: Vec<Range<u64>> = Vec::new();
    let mut at = 0;
    loop {
        match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(data) => {
                at = rustix::fs::seek(file, SeekFrom::Hole(data))?;
                ranges.push(data..at);
            }
            // Nothing but a hole up to the end.
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL | Errno::NOTSUP) if at == 0 => return Ok(None),
            Err(err) => return Err(err.into()),
        }
    }
    rustix::fs::seek(file, SeekFrom::Start(0))?;
    let is_whole = matches!(ranges.as_slice(), [only] if *only == (0..size));
    Ok((!is_whole).then_some(ranges))
}

/// Copies `left` bytes, or up to the end, from where both files stand.
fn copy_range(from: &File, to: &File, mut left: u64, no_range: &AtomicBool) -> io::Result<()> {
    while left > 0 && !no_range.load(Ordering::Relaxed) {
        let n = usize::try_from(left.min(1 << 30)).unwrap_or(1 << 30);
        match rustix::fs::copy_file_range(from, None, to, None, n) {
            // Some file systems say 0 for what they cannot copy: let a read decide that it is the end.
            Ok(0) => break,
            Ok(n) => left = left.saturating_sub(n as u64),
            Err(Errno::INTR) => (),
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::NOTSUP | Errno::PERM) => {
                no_range.store(true, Ordering::Relaxed);
            }
            Err(err) => return Err(err.into()),
        }
    }
    match left {
        0 => Ok(()),
        u64::MAX => copy_rest(from, to),
        left => io::copy(&mut from.take(left), &mut &*to).map(drop),
    }
}

fn copy_rest(mut from: &File, mut to: &File) -> io::Result<()> {
    thread_local! {
        static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    BUFFER.with_borrow_mut(|buffer| {
        buffer.resize(CHUNK + 1, 0);
        loop {
            match from.read(buffer) {
                Ok(0) => return Ok(()),
                Ok(n) => to.write_all(&buffer[..n])?,
                Err(err) if err.kind() == io::ErrorKind::Interrupted => (),
                Err(err) => return Err(err),
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt, MetadataExt};

    use super::*;

    fn copy(write: impl Fn(&File)) -> (File, File) {
        let (from, to) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        write(&from);
        rustix::fs::seek(&from, SeekFrom::Start(0)).unwrap();
        copy_data(&from, &to, from.metadata().unwrap().len(), &AtomicBool::new(false)).unwrap();
        (from, to)
    }

    fn same(a: &File, b: &File) -> bool {
        let read = |file: &File| {
            let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
            file.read_exact_at(&mut bytes, 0).unwrap();
            bytes
        };
        read(a) == read(b)
    }

    #[test]
    fn data_of_every_size_arrives() {
        for size in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 7] {
            let (from, to) = copy(|file| {
                let bytes: Vec<u8> = (0..size).map(|i| (i * 7 % 251) as u8).collect();
                file.write_all_at(&bytes, 0).unwrap();
            });
            assert!(same(&from, &to), "{size}");
        }
    }

    #[test]
    fn holes_stay_holes() {
        let (from, to) = copy(|file| {
            file.set_len(40 << 20).unwrap();
            file.write_all_at(b"middle", 20 << 20).unwrap();
        });
        assert!(same(&from, &to));
        assert!(to.metadata().unwrap().blocks() <= from.metadata().unwrap().blocks().max(64));
    }
}
