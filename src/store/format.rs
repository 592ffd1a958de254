//! `format`: the number of the newest form in which something of this store is kept. The folder of the store and those of
//! records carry versions too, so that forms stand beside each other; this number is for what cannot: a change that an
//! older `bake` would misread or throw away. Whoever makes such a change raises [`FORMAT`].

use std::{
    fs,
    io::{self, Read as _},
    path::Path,
};

use super::error::{StoreError, StoreResult};

/// The form that this `bake` writes, and the newest one that it reads.
const FORMAT: u32 = 1;

const FILE: &str = "format";

/// So much of the file is read, in bytes.
const LONGEST: u64 = 32;

/// Whether this `bake` may use the store at `root`. A store without a number is of the first form: it was made before there
/// were numbers, or its maker was killed before it could write one. *Cost:* one `open` and one `read`.
///
/// # Errors
/// When a later `bake` has written there what this one does not know.
pub(super) fn check(root: &Path) -> StoreResult<()> {
    let path = root.join(FILE);
    let is_none = |error: &io::Error| {
        use io::ErrorKind::{IsADirectory, NotADirectory, NotFound};
        matches!(error.kind(), NotFound | NotADirectory | IsADirectory)
    };
    let mut text = Vec::new();
    let read = fs::File::open(&path).and_then(|file| file.take(LONGEST).read_to_end(&mut text));
    match read {
        Err(error) if is_none(&error) => return Ok(()),
        other => drop(other.map_err(StoreError::io("read", &path))?),
    }
    let text = String::from_utf8_lossy(&text);
    // A power loss may leave zeros or nothing, and a failing disk anything: whoever wrote it wrote a number.
    match text.trim().parse::<u32>() {
        Ok(found) if found > FORMAT => Err(StoreError::LaterFormat { path: root.to_owned(), found, ours: FORMAT }),
        _ => Ok(()),
    }
}

/// Writes the number into a store that is being made.
pub(super) fn write(root: &Path) -> StoreResult<()> {
    let path = root.join(FILE);
    match fs::OpenOptions::new().write(true).create_new(true).open(&path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(StoreError::io("make", &path)(error)),
        Ok(mut file) => {
            io::Write::write_all(&mut file, format!("{FORMAT}\n").as_bytes()).map_err(StoreError::io("write", &path))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_form_is_refused_and_an_earlier_or_lost_number_is_not() {
        let temp = tempfile::tempdir().unwrap();
        assert!(check(&temp.path().join("none")).is_ok());
        for (text, is_fine) in
            [("", true), ("\0\0", true), ("0\n", true), ("1\n", true), ("2\n", false), ("999999\n", false), ("x", true)]
        {
            fs::write(temp.path().join(FILE), text).unwrap();
            assert_eq!(check(temp.path()).is_ok(), is_fine, "{text:?}");
        }
        fs::remove_file(temp.path().join(FILE)).unwrap();
        write(temp.path()).unwrap();
        write(temp.path()).unwrap();
        assert_eq!(fs::read_to_string(temp.path().join(FILE)).unwrap(), "1\n");
    }
}
