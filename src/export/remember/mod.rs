//! What earlier exports wrote, so that an export that would write the same writes nothing.
//!
//! A receipt (by key) says how the destination is recognised: a stamp of a file, a fingerprint of a folder. Marks say
//! which files of a folder are as an earlier export left them.

mod fingerprint;
mod receipt;
mod stamp;

pub(crate) use fingerprint::{FileMark, fingerprint, mark};
pub(crate) use receipt::{DroppedFiles, StoredReceipt, find, keep, keep_marks, keep_pushed, key, key_of_root, marks};
pub(crate) use stamp::FileStamp;
