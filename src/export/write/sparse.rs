//! Sparse files in archives: which parts of a file are stored.
//!
//! A file that has holes on disk is stored without all of its blocks of zeros, whether they are holes or not: where a file
//! system puts holes differs, and equal trees are to give equal archives. Files without holes are not searched for zeros.

use std::{fs::File, io, ops::Range, os::unix::fs::FileExt};

use crate::layer;

/// What is left out is a multiple of this, in bytes.
const BLOCK: u64 = 4096;
/// Fewer bytes of zeros are stored: not every reader of archives knows sparse files.
const WORTHWHILE: u64 = 64 << 10;

/// The ranges of a file of `size` bytes that are stored, in order; `None` when all of it is. The file stands at its start
/// afterwards.
pub(super) fn data_blocks(file: &File, size: u64) -> io::Result<Option<Vec<Range<u64>>>> {
    let Some(ranges) = layer::data_ranges(file, size)? else { return Ok(None) };
    let mut stored: Vec<Range<u64>> = Vec::new();
    let mut buffer = vec![0; 64 * BLOCK as usize];
    for range in ranges {
        let mut at = range.start - range.start % BLOCK;
        while at < range.end.min(size) {
            let n = (size - at).min(buffer.len() as u64);
            let part = &mut buffer[..usize::try_from(n).expect("a buffer has a length")];
            file.read_exact_at(part, at)?;
            for block in part.chunks(BLOCK as usize) {
                let end = at + block.len() as u64;
                if at < range.end && block.iter().any(|byte| *byte != 0) {
                    match stored.last_mut() {
                        Some(last) if last.end == at => last.end = end,
                        Some(last) if last.end > at => {}
                        _ => stored.push(at..end),
                    }
                }
                at = end;
            }
        }
    }
    let left_out = size - stored.iter().map(|range| range.end - range.start).sum::<u64>();
    Ok((left_out >= WORTHWHILE).then_some(stored))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_depends_on_content_and_not_on_where_the_holes_are() {
        let stored = |write: &dyn Fn(&File)| {
            let file = tempfile::tempfile().expect("a temporary file");
            file.set_len(1 << 20).expect("writable");
            write(&file);
            data_blocks(&file, 1 << 20).expect("readable")
        };
        let data = |file: &File| file.write_all_at(b"data", 300_000).expect("writable");
        let wanted: Option<Vec<Range<u64>>> = Some([(299_008, 303_104)].map(|(start, end)| start..end).to_vec());
        assert_eq!(stored(&data), wanted);
        let zeros = |file: &File| {
            file.write_all_at(&[0; 200_000], 250_000).expect("writable");
            data(file);
        };
        assert_eq!(stored(&zeros), wanted);
        assert_eq!(stored(&|_| {}), Some(vec![]));
        assert_eq!(stored(&|file| file.write_all_at(&[1; 1 << 20], 0).expect("writable")), None);
    }
}
