//! Files in which the user wants to have an answer: `--metadata-file` and `--iidfile`. What is there and is no regular file
//! (`/dev/null`, a pipe) is written to and stays what it is.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

/// Writes an answer, all of it or nothing where it is a regular file.
///
/// # Errors
/// Those of the system.
pub(crate) fn write(path: &Path, text: &str) -> io::Result<()> {
    if is_special(path) {
        return OpenOptions::new().write(true).open(path)?.write_all(text.as_bytes());
    }
    let folder = path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
    file.persist(path)?;
    Ok(())
}

/// Removes the answer of an earlier run; that there is none is fine.
///
/// # Errors
/// When it is there and cannot be removed.
pub(crate) fn clear(path: &Path) -> io::Result<()> {
    if is_special(path) {
        return Ok(());
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Whether something is there that is neither a file nor a folder, also at the end of a link.
fn is_special(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_stays_what_it_is() {
        let temp = tempfile::tempdir().unwrap();
        let link = temp.path().join("null");
        std::os::unix::fs::symlink("/dev/null", &link).unwrap();
        for path in [link.as_path(), Path::new("/dev/null")] {
            // A device that cannot be opened for writing would be an error, not a file.
            clear(path).unwrap();
            write(path, "answer").unwrap();
            assert!(is_special(path));
        }
        let file = temp.path().join("file");
        write(&file, "answer").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "answer");
        clear(&file).unwrap();
        clear(&file).unwrap();
        assert!(!file.exists());
    }
}
