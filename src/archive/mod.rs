//! Archives made by others: tar in any dialect, compressed in any known way, read as a stream in bounded memory. Used for
//! layers of images, `ADD` of an archive, and definitions behind a URL.
//!
//! ```text
//! bytes ─► decode ─► tar ─► read ─► members and their data
//! ```
//!
//! Opens and writes no file: what a name of a member means is decided by who unpacks it.

mod decode;
mod error;
mod read;

pub(crate) use decode::{ArchiveCompression, decode, detect};
pub(crate) use error::{ArchiveError, shown_name};
pub(crate) use read::{MAX_MEMBERS, TarMember, TarMemberKind, TarReader, is_tar_header};
