//! The bytes of a blob about to be written into an archive or a layout.

/// The bytes of one blob: in memory, or a file of the store.
pub(super) enum MemberContent<'a> {
    Bytes(&'a [u8]),
    File(std::fs::File),
}
