//! The files of the step that failed last, kept for the user to look at (`--on-error=keep`).
//!
//! ```text
//! failed/last/fs         the whole tree, as plain files
//! failed/last/step.txt   which step it was
//! ```
//!
//! No build reads it. The next one that is kept takes its place; `prune` removes it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    error::{StoreError, StoreResult},
    remove::remove_tree,
    run::make_dir,
    state::Store,
};

pub(super) const FOLDER: &str = "failed";

impl Store {
    /// Keeps a directory from [`Self::tmp_dir`] as that of the step that failed last, in place of the one before; its path
    /// then.
    pub(crate) fn keep_failed(&self, from: &Path) -> StoreResult<PathBuf> {
        const MOST_TRIES: usize = 10;
        let to = self.path(FOLDER).join("last");
        make_dir(&self.path(FOLDER))?;
        for _ in 0..MOST_TRIES {
            let old = self.fresh()?;
            match fs::rename(&to, &old) {
                Ok(()) => remove_tree(&old).map_err(StoreError::io("remove", &old))?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => (),
                Err(error) => return Err(StoreError::io("move", &to)(error)),
            }
            match fs::rename(from, &to) {
                Ok(()) => return Ok(to),
                // Another process has put its own there meanwhile.
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOTEMPTY | libc::EEXIST)) => (),
                Err(error) => return Err(StoreError::io("write", &to)(error)),
            }
        }
        Err(StoreError::Damaged { path: to, what: "it comes back whenever it is removed" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_takes_the_place_of_the_one_before() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        let kept: Vec<PathBuf> = ["first", "second"]
            .map(|name| {
                let dir = store.tmp_dir().unwrap();
                fs::write(dir.join(name), "").unwrap();
                store.keep_failed(&dir).unwrap()
            })
            .to_vec();
        assert_eq!(kept[0], kept[1]);
        assert!(kept[1].join("second").exists() && !kept[1].join("first").exists());
        assert_eq!(store.prune(&crate::store::PruneOptions::default()).unwrap().items.len(), 1);
        assert!(!kept[1].exists());
    }
}
