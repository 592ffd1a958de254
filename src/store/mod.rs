//! What is kept on disk between runs: blobs, snapshots, records, the stat cache, cache mounts; and what keeps several
//! processes that share one state directory apart. Knows nothing of builds: what a record means is decided by its owner.
//!
//! ```text
//! $BAKE_HOME/v1/              0700, made by the first run that keeps something; checked by home.rs
//!   blobs/sha256/HEX          a complete blob under the digest of its content                     blob.rs
//!   snapshots/HEX/fs          the tree of one layer, as the upper directory of an overlayfs       snapshot.rs
//!   snapshots/HEX/meta        what is known of it, a record
//!   snapshots/HEX/digest      the digest of its tree, a record made after the commit              content.rs
//!   index/TABLE/ab/HEX        one small file per record                                           record.rs
//!   stat/HEX                  digests of the files of one context directory                       stat.rs
//!   cachemounts/HEX/N/fs      directories of `RUN --mount=type=cache`; N.lock beside them         cachemount.rs
//!   git/                      bare repositories, one for each remote; `fetch` keeps them
//!   locks/HEX                 held while a process makes the thing with this key                  lock.rs
//!   logs/RUN/                 the whole output of steps                                       step_log.rs
//!   failed/last/                the files of the step that failed last, for the user               failed.rs
//!   journals/NAME             what a process is about to make visible outside              journal.rs
//!   synced/BOOT               when the last syncfs of a boot began                                boot.rs
//!   format                      the newest form in it; a later one is refused                 format.rs
//!   tmp/RUN/                  everything half made by one process; `alive` in it is locked        run.rs
//!   tmp/lock, store.lock, touch.lock
//! ```
//!
//! ```text
//! error, remove, boot, run ─► state ─► record, lock, blob, failed ─► content ─► snapshot ─► entries ─► take ─► prune, verify
//! ```
//!
//! # Dying at any moment
//! A thing is made in `tmp/RUN` and gets its final name by one `rename`, after its last byte. Nothing that is read as
//! content is updated in place.
//!
//! | killed while | what is on disk | who removes it |
//! | --- | --- | --- |
//! | writing a blob, record, stat cache, snapshot, new cache mount | a part below `tmp/RUN` | the next run that writes: it locks `tmp/lock` and takes each directory of `tmp` whose `alive` file is not locked |
//! | between `rename` and the record that names it | a whole, unnamed blob or snapshot | found again when it is made again; else `prune` |
//! | between the commit of a snapshot and its digest | a snapshot without `digest` | it is used as long as nothing casts doubt on it; `verify` makes the digest |
//! | holding a lock of a key | an empty file in `locks`, unlocked by the kernel | its next holder, or `prune` |
//! | sweeping, pruning or verifying | what was taken lies below the `tmp/RUN` of the dead process | the next sweep |
//! | making the changes of a journal | the journal, unlocked | the next build: it makes the rest of the changes |
//! | in a cache mount | whatever the command had written there | no one: as with any such mount |
//! | during `syncfs` | an older mark in `synced`, or an empty one | – |
//!
//! What counts after a power loss, a reboot or a restored backup is described in `boot.rs`.
//!
//! # Removal beside running builds
//! - A run that looks at a blob or snapshot holds `store.lock` shared until it ends; one that uses or makes something also
//!   has `tmp/RUN`, and the modification time of its `alive` file is the start of the run.
//! - *Use* is the modification time of the blob, of the snapshot's `meta`, of the record. It is renewed when a use finds it
//!   more than a day old (so that a run where nothing changed writes nothing), under a shared lock of `touch.lock`, and
//!   then looked for again.
//! - `prune` and `verify` with `store.lock` exclusive may take anything. If runs hold it, they take only what was last used
//!   more than two days before the oldest of them began: what those runs have used since is at most one day older than
//!   their start, and what they may yet use has to be renewed first, for which the exclusive lock of `touch.lock` makes
//!   them wait. The second day is for a run that has looked at something without having made its `tmp/RUN`.
//! - Taking is one rename into the taker's own `tmp/RUN`; removing happens after the locks are gone.
//! - A thing that was found damaged is taken only if the name still leads to the inode that was examined. Blobs and
//!   snapshots get their names under a shared lock of `touch.lock`, and are taken under an exclusive one, so that a sound
//!   thing which replaced the damaged one meanwhile stays. Records are taken by name alone: a lost record is a cache miss.

mod archive;
mod blob;
mod boot;
mod cachemount;
mod content;
mod entries;
mod error;
mod failed;
mod file_system;
mod format;
mod home;
mod journal;
mod limits;
mod lock;
mod prune;
mod record;
mod remove;
mod run;
mod scan;
mod snapshot;
mod stat;
mod state;
mod step_log;
mod take;
mod verify;

pub(crate) use self::{
    archive::ImportedStore,
    blob::BlobWriter,
    boot::{SYNC_COMMAND, sync_main},
    cachemount::{CacheDir, MountSharing},
    entries::UsageKind,
    error::StoreError,
    home::{HomeChoice, HomeDir},
    journal::Journal,
    limits::SpaceLimits,
    lock::KeyLock,
    prune::{PruneOptions, Usage, UsedItem},
    record::Table,
    snapshot::{Active, SnapshotId, SnapshotMeta},
    stat::{StatCache, StatKey},
    state::Store,
    step_log::{LogRetention, LoggedEnd, LoggedRun, LoggedStep, StepLog},
    verify::{Damage, DamageFate},
};
