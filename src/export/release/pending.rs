//! Releases that did not end, for the user to look at and to give up. How they are gone on with is in `recover`.

use super::place::{discard_file, discard_folder};
use crate::{
    export::staged::ReleaseItem,
    store::{Journal, Store, StoreError},
};

/// A release of a process that has died.
pub(crate) struct PendingRelease {
    journal: Journal,
    /// `None` if the journal is damaged.
    items: Option<Vec<ReleaseItem>>,
}

/// The releases that did not end, the oldest first. Nobody else goes on with one of them while it is held.
///
/// # Errors
/// The journals cannot be read.
pub(crate) fn pending_releases(store: &Store) -> Result<Vec<PendingRelease>, StoreError> {
    let journals = store.dead_journals::<Vec<ReleaseItem>>()?;
    Ok(journals.into_iter().map(|(journal, items)| PendingRelease { journal, items }).collect())
}

impl PendingRelease {
    /// What is not known to be visible, as users know it: paths, image names, container engines.
    pub(crate) fn open(&self) -> Vec<String> {
        self.open_items().iter().map(|item| item.shown()).collect()
    }

    /// How many items it has, visible ones as well.
    pub(crate) fn n_items(&self) -> usize {
        self.items.as_ref().map_or(0, Vec::len)
    }

    /// Gives up what is left: it stays as it is, what was staged for it on this machine is taken away, and no later run goes
    /// on with it.
    ///
    /// # Errors
    /// Something cannot be taken away, by name; the release is pending as before.
    pub(crate) fn abandon(self, store: &Store) -> Result<(), String> {
        for item in self.open_items() {
            let discarded = match item {
                ReleaseItem::File(file) => discard_file(file),
                ReleaseItem::Folder(folder) => discard_folder(folder),
                // An archive for an engine lies in the journal; a registry collects what has no name.
                ReleaseItem::Load(_) | ReleaseItem::Name(_) => Ok(()),
            };
            discarded
                .map_err(|error| format!("what was staged for `{}` cannot be taken away: {error}", item.shown()))?;
        }
        store.end_journal(self.journal).map_err(|error| format!("its journal cannot be taken away: {error}"))
    }

    fn open_items(&self) -> Vec<&ReleaseItem> {
        let done = self.journal.done();
        let items = self.items.iter().flatten().enumerate();
        items.filter(|(index, _)| !done.contains(index)).map(|(_, item)| item).collect()
    }
}
