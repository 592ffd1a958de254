//! Tar archives. Those made by others are read in any dialect and compression, as a stream in bounded memory: layers of
//! images, `ADD` of an archive, definitions behind a URL. Our own (layers, trees, archives of images) are written in one way.
//!
//! ```text
//! bytes ─► decode ─► tar ─► read ─► members and their data
//!                            │ header
//! entries and their data ─► write ─► tar
//! ```
//!
//! Opens no file: what a name of a member means is decided by who unpacks it.

mod decode;
mod error;
mod header;
mod read;
mod write;

pub(crate) use decode::{ArchiveCompression, decode, detect};
pub(crate) use error::{ArchiveError, shown_name};
pub(crate) use header::{is_tar_header, tar_padding};
pub(crate) use read::{MAX_MEMBERS, TarMember, TarMemberKind, TarReader};
pub(crate) use write::{TAR_END, TarEntry, TarWriter, sparse_map, tar_headers};
