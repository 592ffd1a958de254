//! Which modification time each directory of a new layer gets. It is set when all is written, because making entries changes
//! it.
//!
//! No time comes from the clock, so that equal copies are equal layers, whenever and for whichever platform they are made:
//! a copied directory has the time of its source, one that is only on the way [`IMPLIED_DIR_TIME`], and one of the layers
//! below keeps the time that it has there unless an entry is made in it.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// A modification time: seconds since 1970, and nanoseconds.
type Time = (i64, u32);

/// The modification time of a directory that nothing was copied from, such as `/a` of `COPY f /a/b/`: the first of
/// February 1980.
///
/// A time before 1980 cannot be put into a zip archive, which some tools then refuse to write; a month later it can, in
/// every time zone.
pub(crate) const IMPLIED_DIR_TIME: Time = (318_211_200, 0);

/// The modification times that the directories of a layer get, by their paths from the root.
#[derive(Debug, Default)]
pub(super) struct DirTimes(Mutex<HashMap<PathBuf, DirTime>>);

#[derive(Clone, Copy, Debug)]
enum DirTime {
    /// This one, whatever is made in it.
    Fixed(Time),
    /// The one of the same directory below.
    Kept(Time),
    /// The directory below has this time, and an entry was made in it here. The new time follows from it and is later, so
    /// that a program which remembers the time of a directory notices the change.
    Changed(Time),
}

impl DirTimes {
    /// Notes a directory of the layers below, which has this time there.
    pub(super) fn keep(&self, path: PathBuf, time: Time) {
        self.times().insert(path, DirTime::Kept(time));
    }

    /// Notes the time of a directory, whatever is made in it.
    pub(super) fn fix(&self, path: PathBuf, time: Time) {
        self.times().insert(path, DirTime::Fixed(time));
    }

    /// Notes that an entry is made in a directory.
    pub(super) fn entry_made(&self, path: &Path) {
        if let Some(time) = self.times().get_mut(path)
            && let DirTime::Kept(below) = *time
        {
            *time = DirTime::Changed(below);
        }
    }

    /// Forgets a directory that is removed, and those in it.
    pub(super) fn forget(&self, path: &Path) {
        self.times().retain(|it, _| !it.starts_with(path));
    }

    /// Takes all directories with the time that each gets.
    pub(super) fn take(&self) -> impl Iterator<Item = (PathBuf, Time)> {
        std::mem::take(&mut *self.times()).into_iter().map(|(path, time)| match time {
            DirTime::Fixed(time) | DirTime::Kept(time) => (path, time),
            DirTime::Changed((seconds, nanoseconds)) => (path, (seconds.saturating_add(1), nanoseconds)),
        })
    }

    fn times(&self) -> MutexGuard<'_, HashMap<PathBuf, DirTime>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
