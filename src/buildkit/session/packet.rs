//! The messages by which folders travel, and the bits of their modes.
//!
//! As in <https://github.com/tonistiigi/fsutil/blob/master/types/wire.proto>, but names are bytes: a file name need not be
//! UTF-8, and the daemon does not ask for it.

use std::collections::BTreeMap;

use bytes::Bytes;
use rustix::fs::FileType;

/// The kind of a [`Packet`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(super) enum PacketKind {
    /// The sender describes a file; without a description, it has described all.
    Stat = 0,
    /// The receiver wants the content of a file, by the position of its description, counted from 0.
    Request = 1,
    /// A part of the content of a file; without data, its end.
    Data = 2,
    /// The receiver has all that it wants; then the sender's answer.
    Finish = 3,
    /// Why the transfer cannot go on.
    Error = 4,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Packet {
    #[prost(enumeration = "PacketKind", tag = "1")]
    pub(super) kind: i32,
    #[prost(message, optional, tag = "2")]
    pub(super) stat: Option<FileStat>,
    #[prost(uint32, tag = "3")]
    pub(super) id: u32,
    #[prost(bytes = "bytes", tag = "4")]
    pub(super) data: Bytes,
}

/// What a file is, without its content.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct FileStat {
    /// Relative to the folder, with `/`.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) path: Vec<u8>,
    /// Bits of Go's `fs.FileMode`: see [`go_mode`].
    #[prost(uint32, tag = "2")]
    pub(crate) mode: u32,
    #[prost(uint32, tag = "3")]
    pub(crate) uid: u32,
    #[prost(uint32, tag = "4")]
    pub(crate) gid: u32,
    #[prost(int64, tag = "5")]
    pub(crate) size: i64,
    /// Nanoseconds since 1970.
    #[prost(int64, tag = "6")]
    pub(crate) modified: i64,
    /// The text of a symbolic link; of a regular file, the path of an earlier one that is the same file.
    #[prost(bytes = "vec", tag = "7")]
    pub(crate) link: Vec<u8>,
    #[prost(int64, tag = "8")]
    pub(crate) device_major: i64,
    #[prost(int64, tag = "9")]
    pub(crate) device_minor: i64,
    #[prost(btree_map = "string, bytes", tag = "10")]
    pub(crate) xattrs: BTreeMap<String, Vec<u8>>,
}

impl Packet {
    pub(super) fn stat(stat: Option<FileStat>) -> Self {
        Self { kind: PacketKind::Stat.into(), stat, ..Self::default() }
    }

    pub(super) fn request(id: u32) -> Self {
        Self { kind: PacketKind::Request.into(), id, ..Self::default() }
    }

    pub(super) fn data(id: u32, data: Bytes) -> Self {
        Self { kind: PacketKind::Data.into(), id, data, ..Self::default() }
    }

    pub(super) fn finish() -> Self {
        Self { kind: PacketKind::Finish.into(), ..Self::default() }
    }
}

const DIR: u32 = 1 << 31;
const SYMLINK: u32 = 1 << 27;
const DEVICE: u32 = 1 << 26;
const FIFO: u32 = 1 << 25;
const SOCKET: u32 = 1 << 24;
const SET_UID: u32 = 1 << 23;
const SET_GID: u32 = 1 << 22;
const CHARACTER: u32 = 1 << 21;
const STICKY: u32 = 1 << 20;
const IRREGULAR: u32 = 1 << 19;

/// The bits of Go's `fs.FileMode` (<https://pkg.go.dev/io/fs#FileMode>) for a mode of this system (`stat(2)`).
pub(super) fn go_mode(raw: u32) -> u32 {
    let kind = match FileType::from_raw_mode(raw) {
        FileType::Directory => DIR,
        FileType::Symlink => SYMLINK,
        FileType::BlockDevice => DEVICE,
        FileType::CharacterDevice => DEVICE | CHARACTER,
        FileType::Fifo => FIFO,
        FileType::Socket => SOCKET,
        FileType::RegularFile => 0,
        FileType::Unknown => IRREGULAR,
    };
    let special = [(0o4000, SET_UID), (0o2000, SET_GID), (0o1000, STICKY)];
    let special = special.iter().filter(|(bit, _)| raw & bit != 0).fold(0, |bits, (_, bit)| bits | bit);
    kind | special | raw & 0o777
}

/// The kind of file and the permission bits (set-id and sticky included) of a mode of Go.
pub(super) fn unix_mode(go: u32) -> (FileType, u32) {
    let kind = match go & (DIR | SYMLINK | DEVICE | FIFO | SOCKET | CHARACTER | IRREGULAR) {
        0 => FileType::RegularFile,
        DIR => FileType::Directory,
        SYMLINK => FileType::Symlink,
        DEVICE => FileType::BlockDevice,
        bits if bits == DEVICE | CHARACTER => FileType::CharacterDevice,
        FIFO => FileType::Fifo,
        SOCKET => FileType::Socket,
        _ => FileType::Unknown,
    };
    let special = [(0o4000, SET_UID), (0o2000, SET_GID), (0o1000, STICKY)];
    let special = special.iter().filter(|(_, bit)| go & bit != 0).fold(0, |bits, (bit, _)| bits | bit);
    (kind, special | go & 0o777)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_go_there_and_back() {
        let table = [
            (0o100_644, 0o644),
            (0o104_755, 1 << 23 | 0o755),
            (0o041_777, 1 << 31 | 1 << 20 | 0o777),
            (0o120_777, 1 << 27 | 0o777),
            (0o020_600, 1 << 26 | 1 << 21 | 0o600),
            (0o060_600, 1 << 26 | 0o600),
            (0o012_644, 1 << 25 | 1 << 22 | 0o644),
        ];
        for (raw, go) in table {
            assert_eq!(go_mode(raw), go, "{raw:o}");
            assert_eq!(unix_mode(go), (FileType::from_raw_mode(raw), raw & 0o7777), "{raw:o}");
        }
        assert_eq!(unix_mode(DIR | SYMLINK).0, FileType::Unknown);
    }
}
