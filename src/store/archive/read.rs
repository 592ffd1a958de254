//! Adding what an archive of a store holds to a store.
//!
//! Nothing of the archive is believed but the values of records: names are taken apart, no member follows a link, and what has a
//! digest is compared with it. A thing gets its name when it is whole.

use std::{
    ffi::OsStr,
    io::{self, BufReader, Read, Write as _},
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    sync::atomic::AtomicBool,
};

use rustix::{
    fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags},
    io::Errno,
};
use serde_json::value::RawValue;

use super::form::{ArchiveHead, ArchivedSnapshot, HEAD, TABLES, VERSION};
use crate::{
    archive::{ArchiveError, TarMember, TarMemberKind, TarReader},
    oci::Digest,
    store::{
        content::tree_digest,
        error::StoreError,
        snapshot::{Active, SnapshotId},
        state::Store,
    },
};

/// Members of one archive; more is an error.
const MOST_MEMBERS: u64 = 1 << 28;
/// The longest record or description, in bytes.
const LONGEST_TEXT: u64 = 64 << 20;
/// The deepest folder of a tree.
const DEEPEST: usize = 4096;

/// What was added to the store. What it had already is not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ImportedStore {
    pub(crate) n_blobs: usize,
    pub(crate) n_snapshots: usize,
    pub(crate) n_records: usize,
    /// Blobs and snapshots that were not what their digests say, and are left out.
    pub(crate) n_damaged: usize,
    /// Members of kinds that another version of `bake` keeps.
    pub(crate) n_unknown: usize,
}

/// Why an archive cannot be added. What was added before is whole and stays.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArchiveFault {
    #[error("it is no archive of a state directory")]
    Foreign,
    #[error("it has the form {0}, which a later version of bake writes")]
    Version(u32),
    #[error("it was made by {0}, whose files are in another form")]
    Maker(String),
    #[error("a member of it cannot be: {0}")]
    Member(String),
    #[error("it cannot be read: {0}")]
    Archive(#[from] ArchiveError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("a file of it cannot be written: {0}")]
    Write(#[from] io::Error),
}

impl From<Errno> for ArchiveFault {
    fn from(error: Errno) -> Self {
        Self::Write(error.into())
    }
}

type Imported<T> = Result<T, ArchiveFault>;

impl Store {
    /// Adds everything that an archive holds and this store lacks. `maker` says in which form trees are here.
    ///
    /// # Errors
    /// When the archive is none, is of another form, or cannot be read to its end; when the store cannot be written.
    pub(crate) fn import_archive(&self, input: impl Read, maker: &str) -> Imported<ImportedStore> {
        let read = |error: io::Error| ArchiveFault::Archive(ArchiveError::Read(error));
        let input = zstd::stream::read::Decoder::with_buffer(BufReader::with_capacity(1 << 20, input)).map_err(read)?;
        let mut tar = TarReader::new(input, MOST_MEMBERS);
        let head = tar.next()?.filter(|member| member.path == HEAD.as_bytes()).ok_or(ArchiveFault::Foreign)?;
        let head: ArchiveHead = json(&text(&head, &mut tar)?, HEAD)?;
        if head.version != VERSION {
            return Err(ArchiveFault::Version(head.version));
        }
        if head.maker != maker {
            return Err(ArchiveFault::Maker(head.maker));
        }
        let mut import = Import { store: self, done: ImportedStore::default(), open: None };
        while let Some(member) = tar.next()? {
            import.member(&member, &mut tar)?;
        }
        import.close()?;
        Ok(import.done)
    }
}

struct Import<'a> {
    store: &'a Store,
    done: ImportedStore,
    open: Option<OpenSnapshot>,
}

/// A snapshot whose members are being read.
struct OpenSnapshot {
    id: SnapshotId,
    head: ArchivedSnapshot,
    /// `None`: the store has it, what follows is passed over.
    tree: Option<OpenTree>,
}

struct OpenTree {
    active: Active,
    root: OwnedFd,
    /// Folders get their times when everything is in them.
    times: Vec<(Vec<Vec<u8>>, Timestamps)>,
}

impl Import<'_> {
    fn member<R: Read>(&mut self, member: &TarMember, tar: &mut TarReader<R>) -> Imported<()> {
        let bad = || ArchiveFault::Member(String::from_utf8_lossy(&member.path).into_owned());
        let path = member.path.strip_suffix(b"/").unwrap_or(&member.path);
        let names: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
        if names.iter().any(|name| matches!(*name, b"" | b"." | b"..")) || names.len() > DEEPEST {
            return Err(bad());
        }
        let digest =
            |hex: &[u8]| std::str::from_utf8(hex).ok().and_then(|hex| Digest::from_hex(hex).ok()).ok_or_else(bad);
        match names.as_slice() {
            [b"snapshots", hex, b"fs", inner @ ..] => {
                let id = digest(hex)?;
                let open = self.open.as_mut().filter(|open| open.id.0 == id).ok_or_else(bad)?;
                return match &mut open.tree {
                    Some(tree) => {
                        tree.put(inner, member, tar, path.len() - inner_len(inner)).map_err(|fault| match fault {
                            PutFault::Member => bad(),
                            PutFault::Fault(fault) => fault,
                        })
                    }
                    None => Ok(()),
                };
            }
            _ => self.close()?,
        }
        match names.as_slice() {
            [b"snapshots", hex] => {
                let id = SnapshotId(digest(hex)?);
                let head: ArchivedSnapshot = json(&text(member, tar)?, "a snapshot")?;
                let tree = if self.store.usable(&id) { None } else { Some(OpenTree::new(self.store)?) };
                self.open = Some(OpenSnapshot { id, head, tree });
            }
            [b"blobs", b"sha256", hex] => self.blob(&digest(hex)?, tar)?,
            [b"index", folder, hex] => {
                let key = digest(hex)?;
                let Some(table) = TABLES.into_iter().find(|table| table.folder().as_bytes() == *folder) else {
                    self.done.n_unknown += 1;
                    return Ok(());
                };
                if !self.store.has_record(table, &key) {
                    let value: Box<RawValue> = json(&text(member, tar)?, "a record")?;
                    self.store.put(table, &key, &value)?;
                    self.done.n_records += 1;
                }
            }
            _ => self.done.n_unknown += 1,
        }
        Ok(())
    }

    fn blob<R: Read>(&mut self, digest: &Digest, tar: &mut TarReader<R>) -> Imported<()> {
        if self.store.blob_size(digest).is_some() {
            return Ok(());
        }
        let mut writer = self.store.blob_writer()?;
        let mut buffer = vec![0; 256 << 10];
        loop {
            match tar.data(&mut buffer)? {
                0 => break,
                n => writer.write_all(&buffer[..n])?,
            }
        }
        match writer.commit(Some(digest)) {
            Ok(_) => self.done.n_blobs += 1,
            Err(StoreError::Mismatch { .. }) => self.done.n_damaged += 1,
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Gives the snapshot that was read its name, if its tree is what it should be.
    fn close(&mut self) -> Imported<()> {
        let Some(OpenSnapshot { id, head, tree: Some(tree) }) = self.open.take() else { return Ok(()) };
        let OpenTree { active, root, times } = tree;
        for (folder, times) in times.iter().rev() {
            let folder = below(&root, folder.iter().map(Vec::as_slice))?;
            rustix::fs::futimens(&folder, times)?;
        }
        let content = tree_digest(&active.fs(), &AtomicBool::new(false))?;
        if content != Some(head.content) {
            self.done.n_damaged += 1;
            return Ok(());
        }
        active.commit(&id, head.meta)?;
        self.done.n_snapshots += 1;
        Ok(())
    }
}

/// The bytes of these names with a slash before each.
fn inner_len(names: &[&[u8]]) -> usize {
    names.iter().map(|name| name.len() + 1).sum()
}

/// Why a member of a tree cannot be made.
enum PutFault {
    /// Its name, or what it is, cannot be.
    Member,
    Fault(ArchiveFault),
}

impl<E: Into<ArchiveFault>> From<E> for PutFault {
    fn from(error: E) -> Self {
        Self::Fault(error.into())
    }
}

impl OpenTree {
    fn new(store: &Store) -> Imported<Self> {
        let active = store.prepare()?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = rustix::fs::open(active.fs(), flags, Mode::empty())?;
        Ok(Self { active, root, times: Vec::new() })
    }

    /// Makes one entry. `prefix` is the length of what stands before the names in the path of the member, and in the targets of
    /// hard links.
    fn put<R: Read>(
        &mut self,
        names: &[&[u8]],
        member: &TarMember,
        tar: &mut TarReader<R>,
        prefix: usize,
    ) -> Result<(), PutFault> {
        let times = times(member);
        let Some((name, parents)) = names.split_last() else {
            if member.kind != TarMemberKind::Dir {
                return Err(PutFault::Member);
            }
            dress(&self.root, member)?;
            self.times.push((Vec::new(), times));
            return Ok(());
        };
        let folder = below(&self.root, parents.iter().copied()).map_err(parent_fault)?;
        let name = OsStr::from_bytes(name);
        match member.kind {
            TarMemberKind::Dir => {
                rustix::fs::mkdirat(&folder, name, Mode::RWXU).map_err(taken)?;
                let made = below(&folder, [name.as_bytes()].into_iter())?;
                dress(&made, member)?;
                self.times.push((names.iter().map(|name| name.to_vec()).collect(), times));
            }
            TarMemberKind::File => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = rustix::fs::openat(&folder, name, flags, Mode::RUSR | Mode::WUSR).map_err(taken)?;
                let mut file = std::fs::File::from(file);
                let mut buffer = vec![0; 256 << 10];
                loop {
                    match tar.data(&mut buffer)? {
                        0 => break,
                        n => file.write_all(&buffer[..n])?,
                    }
                }
                dress(&file, member)?;
                rustix::fs::futimens(&file, &times)?;
            }
            TarMemberKind::HardLink => {
                let target =
                    member.link.get(prefix..).and_then(|rest| rest.strip_prefix(b"/")).ok_or(PutFault::Member)?;
                let target: Vec<&[u8]> = target.split(|byte| *byte == b'/').collect();
                if member.link.get(..prefix) != member.path.get(..prefix)
                    || target.iter().any(|name| matches!(*name, b"" | b"." | b".."))
                {
                    return Err(PutFault::Member);
                }
                let (last, parents) = target.split_last().ok_or(PutFault::Member)?;
                let from = below(&self.root, parents.iter().copied()).map_err(parent_fault)?;
                rustix::fs::linkat(&from, OsStr::from_bytes(last), &folder, name, AtFlags::empty()).map_err(taken)?;
            }
            TarMemberKind::Symlink => {
                rustix::fs::symlinkat(OsStr::from_bytes(&member.link), &folder, name).map_err(taken)?;
                dress_node(&folder, name, member, &times)?;
            }
            TarMemberKind::CharDev | TarMemberKind::BlockDev | TarMemberKind::Fifo => {
                let kind = match member.kind {
                    TarMemberKind::CharDev => FileType::CharacterDevice,
                    TarMemberKind::BlockDev => FileType::BlockDevice,
                    _ => FileType::Fifo,
                };
                let (major, minor) = member.device;
                let mode = Mode::from_raw_mode(member.mode);
                rustix::fs::mknodat(&folder, name, kind, mode, rustix::fs::makedev(major, minor)).map_err(taken)?;
                dress_node(&folder, name, member, &times)?;
            }
        }
        Ok(())
    }
}

/// A name that is there already, or no name.
fn taken(error: Errno) -> PutFault {
    match error {
        Errno::EXIST | Errno::NAMETOOLONG | Errno::INVAL | Errno::NOENT => PutFault::Member,
        error => error.into(),
    }
}

/// A parent that is no folder of the tree.
fn parent_fault(error: Errno) -> PutFault {
    match error {
        Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG => PutFault::Member,
        error => error.into(),
    }
}

/// Opens a folder by names, no link followed.
fn below<'a>(root: impl AsFd, names: impl Iterator<Item = &'a [u8]>) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut folder = rustix::fs::openat(root, ".", flags, Mode::empty())?;
    for name in names {
        folder = rustix::fs::openat(&folder, OsStr::from_bytes(name), flags, Mode::empty())?;
    }
    Ok(folder)
}

fn times(member: &TarMember) -> Timestamps {
    let (seconds, nanoseconds) = member.mtime;
    let time = Timespec { tv_sec: seconds, tv_nsec: i64::from(nanoseconds) };
    Timestamps { last_access: time, last_modification: time }
}

fn owner(member: &TarMember) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(member.uid)), Some(Gid::from_raw(member.gid)))
}

/// Owner, attributes and mode of a file or folder; the mode last, as a new owner takes bits of it away.
fn dress(file: impl AsFd, member: &TarMember) -> Imported<()> {
    let (uid, gid) = owner(member);
    rustix::fs::fchown(&file, uid, gid)?;
    for (name, value) in &member.xattrs {
        rustix::fs::fsetxattr(&file, OsStr::from_bytes(name), value, XattrFlags::empty())?;
    }
    rustix::fs::fchmod(&file, Mode::from_raw_mode(member.mode))?;
    Ok(())
}

/// Owner, mode and times of what cannot be opened.
fn dress_node(folder: &OwnedFd, name: &OsStr, member: &TarMember, times: &Timestamps) -> Imported<()> {
    let (uid, gid) = owner(member);
    rustix::fs::chownat(folder, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
    if member.kind != TarMemberKind::Symlink {
        rustix::fs::chmodat(folder, name, Mode::from_raw_mode(member.mode), AtFlags::empty())?;
    }
    rustix::fs::utimensat(folder, name, times, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(())
}

/// The whole data of a member that is text.
fn text<R: Read>(member: &TarMember, tar: &mut TarReader<R>) -> Imported<Vec<u8>> {
    if member.size > LONGEST_TEXT {
        return Err(ArchiveFault::Member(String::from_utf8_lossy(&member.path).into_owned()));
    }
    let (mut bytes, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
    loop {
        match tar.data(&mut buffer)? {
            0 => return Ok(bytes),
            n => bytes.extend_from_slice(&buffer[..n]),
        }
    }
}

fn json<T: serde::de::DeserializeOwned>(bytes: &[u8], what: &str) -> Imported<T> {
    serde_json::from_slice(bytes).map_err(|error| ArchiveFault::Member(format!("{what}: {error}")))
}
