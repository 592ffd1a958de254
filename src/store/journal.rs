//! Journals: what a process is about to change outside the state directory, so that the next one can go on if it dies.
//!
//! ```text
//! journals/TIME-RANDOM/journal   a record: the list of changes; locked by the process that makes them
//! journals/TIME-RANDOM/done      one line for each change that was made: its index in the list
//! journals/TIME-RANDOM/NAME      files that the changes need
//! ```
//!
//! A journal gets its name by one `rename`, when all of it is written: from then on the changes are going to be made. It is
//! taken away by one `rename` when all of them are. What the changes are is not known here.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use rustix::fs::FlockOperation;
use serde::{Serialize, de::DeserializeOwned};

use super::{
    boot,
    error::{StoreError, StoreResult},
    lock::still_named,
    record::{self, encode},
    remove::remove_tree,
    run::flock_retry,
    state::Store,
};

const FOLDER: &str = "journals";
const JOURNAL: &str = "journal";
const DONE: &str = "done";
/// What the record is about; the number is the version of its form.
const SUBJECT: &str = "journal-1";

/// A journal that this process holds.
pub(crate) struct Journal {
    dir: PathBuf,
    /// Locked until it is dropped.
    _lock: File,
    /// Whether it was written in this boot: otherwise files outside the state directory may have lost their content with
    /// the power.
    pub(crate) is_of_this_boot: bool,
}

impl Store {
    /// Writes a journal and makes it count. `files` are moved into it: their names there, and where they are now.
    ///
    /// # Errors
    /// Nothing counts then, and files may have been moved away.
    pub(crate) fn begin_journal<T: Serialize>(&self, changes: &T, files: &[(&str, &Path)]) -> StoreResult<Journal> {
        let made = self.tmp_dir()?;
        let path = made.join(JOURNAL);
        fs::write(&path, encode(self.boot(), &path, SUBJECT, changes)?).map_err(StoreError::io("write", &path))?;
        fs::write(made.join(DONE), "").map_err(StoreError::io("write", &made))?;
        for (name, from) in files {
            fs::rename(from, made.join(name)).map_err(StoreError::io("move", from))?;
        }
        let lock = File::open(&path).map_err(StoreError::io("open", &path))?;
        flock_retry(&lock, FlockOperation::NonBlockingLockExclusive).map_err(StoreError::io("lock", &path))?;
        let random = getrandom::u32().unwrap_or(0);
        let dir = self.path(FOLDER).join(format!("{:020}-{random:08x}", boot::wall_clock()));
        self.publish(&made, &dir)?;
        Ok(Journal { dir, _lock: lock, is_of_this_boot: true })
    }

    /// The journals of processes that have died, oldest first, each with its list of changes; `None` for a list that is
    /// damaged. Those of living processes are left out.
    ///
    /// *Cost:* one failing `open` where there has never been one.
    pub(crate) fn dead_journals<T: DeserializeOwned>(&self) -> StoreResult<Vec<(Journal, Option<T>)>> {
        let folder = self.path(FOLDER);
        let names = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(StoreError::io("read", &folder))?,
        };
        let mut dirs: Vec<PathBuf> = names.flatten().map(|entry| entry.path()).collect();
        dirs.sort_unstable();
        let mut found = Vec::new();
        for dir in dirs {
            let path = dir.join(JOURNAL);
            let Ok(lock) = File::open(&path) else { continue };
            let is_dead = flock_retry(&lock, FlockOperation::NonBlockingLockExclusive).is_ok();
            if !is_dead || !still_named(&lock, &path) {
                continue;
            }
            let text = fs::read(&path).map_err(StoreError::io("read", &path))?;
            let boot = record::parse(&text, SUBJECT).map(|(boot, ..)| boot.to_owned());
            let changes = self.decode(&text, SUBJECT).and_then(|record| serde_json::from_slice(record.json).ok());
            let is_of_this_boot = boot.is_some_and(|boot| boot == self.boot().id);
            found.push((Journal { dir, _lock: lock, is_of_this_boot }, changes));
        }
        Ok(found)
    }

    /// Takes a journal away: all its changes were made, or are given up.
    pub(crate) fn end_journal(&self, journal: Journal) -> StoreResult<()> {
        let to = self.fresh()?;
        fs::rename(&journal.dir, &to).map_err(StoreError::io("remove", &journal.dir))?;
        remove_tree(&to).map_err(StoreError::io("remove", &journal.dir))
    }
}

impl Journal {
    /// A file that was moved into it.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Notes that the change of this index was made.
    pub(crate) fn note_done(&self, index: usize) -> StoreResult<()> {
        let path = self.dir.join(DONE);
        let mut file = OpenOptions::new().append(true).open(&path).map_err(StoreError::io("open", &path))?;
        file.write_all(format!("{index}\n").as_bytes()).map_err(StoreError::io("write", &path))
    }

    /// The indexes of the changes that were made.
    pub(crate) fn done(&self) -> BTreeSet<usize> {
        let text = fs::read_to_string(self.dir.join(DONE)).unwrap_or_default();
        // A last line without its end may be cut: that change is looked at again.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().filter_map(|line| line.parse().ok()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_is_found_when_its_process_is_gone_and_not_before() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        assert!(store.dead_journals::<Vec<u8>>().unwrap().is_empty());
        let extra = store.tmp_dir().unwrap().join("extra");
        fs::write(&extra, "bytes").unwrap();
        let journal = store.begin_journal(&vec![1_u8, 2], &[("0.tar", &extra)]).unwrap();
        journal.note_done(1).unwrap();
        let other = Store::open(home.path()).unwrap();
        assert!(other.dead_journals::<Vec<u8>>().unwrap().is_empty(), "its process lives");
        drop(journal);
        let mut found = other.dead_journals::<Vec<u8>>().unwrap();
        let (journal, changes) = found.pop().unwrap();
        assert_eq!((changes, journal.done()), (Some(vec![1, 2]), BTreeSet::from([1])));
        assert!(journal.is_of_this_boot);
        assert_eq!(fs::read(journal.file("0.tar")).unwrap(), b"bytes");
        assert!(store.dead_journals::<Vec<u8>>().unwrap().is_empty(), "it is held by the other one");
        other.end_journal(journal).unwrap();
        assert_eq!(fs::read_dir(home.path().join("v1/journals")).unwrap().count(), 0);
    }

    #[test]
    fn a_damaged_journal_is_found_without_its_changes() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        let journal = store.begin_journal(&"x", &[]).unwrap();
        let path = journal.file(JOURNAL);
        drop(journal);
        fs::write(&path, "nonsense").unwrap();
        let found = store.dead_journals::<String>().unwrap();
        assert_eq!(found.iter().map(|(_, changes)| changes.is_none()).collect::<Vec<_>>(), [true]);
    }
}
