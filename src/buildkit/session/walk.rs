//! A folder as a list of descriptions: filtered, per folder in the order of the bytes of names, parents before children.
//!
//! No content is read here. No symbolic link is followed; sockets are left out; everything belongs to 0:0, because ids of
//! this machine mean nothing in a build.

use std::{
    collections::{BTreeMap, HashMap},
    ffi::{OsStr, OsString},
    io,
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::ffi::{OsStrExt as _, OsStringExt as _},
    },
    path::{Path, PathBuf},
    vec,
};

use rustix::{
    fs::{AtFlags, FileType, Stat},
    io::Errno,
};

use super::packet::{FileStat, go_mode};
use crate::{
    layer::view::at,
    spec::pattern::{PatternError, Patterns, Verdict},
};

/// Deeper folders are an error, as in contexts of our own engine.
const MAX_DEPTH: usize = 512;

/// Which paths of a folder are sent.
#[derive(Debug, Default)]
pub(super) struct FolderFilter {
    /// Of paths that match none of these only folders are sent, and only for what is in them. `None`: all paths.
    include: Option<Patterns>,
    exclude: Patterns,
}

impl FolderFilter {
    /// A filter by patterns; `include` is empty when all is included.
    ///
    /// # Errors
    /// A pattern is malformed.
    pub(super) fn new(include: &[String], exclude: &[String]) -> Result<Self, PatternError> {
        let include = if include.is_empty() { None } else { Some(Patterns::new(include)?) };
        Ok(Self { include, exclude: Patterns::new(exclude)? })
    }

    fn judge(&self, above: &FilterVerdict, path: &str, is_dir: bool) -> FilterVerdict {
        if !is_dir {
            let is_included = self.include.as_ref().is_none_or(|it| it.test(&above.include, path));
            let is_sent = is_included && (self.exclude.is_empty() || !self.exclude.test(&above.exclude, path));
            return FilterVerdict { is_sent, ..FilterVerdict::default() };
        }
        let include = self.include.as_ref().map(|it| it.enter(&above.include, path)).unwrap_or_default();
        let is_included = self.include.is_none() || include.matched;
        let exclude = self.exclude.enter(&above.exclude, path);
        let may_include = is_included || self.include.as_ref().is_some_and(|it| it.may_match_below(path));
        let may_stay = !exclude.matched || self.exclude.may_except_below(path);
        let is_sent = is_included && !exclude.matched;
        FilterVerdict { is_sent, is_walked: may_include && may_stay, include, exclude }
    }
}

/// What a [`FolderFilter`] says about a path.
#[derive(Default)]
struct FilterVerdict {
    is_sent: bool,
    /// Something in the folder may be sent.
    is_walked: bool,
    include: Verdict,
    exclude: Verdict,
}

/// Why a walk ended early.
#[derive(Debug)]
pub(super) enum WalkFault {
    /// Nobody takes descriptions any more.
    Stopped,
    Io(PathBuf, io::Error),
}

/// A folder that is open in the walk.
struct OpenLevel {
    entries: vec::IntoIter<WalkEntry>,
    /// The description of the folder itself, as long as it is not sent: it is sent before the first thing in it.
    unsent: Option<FileStat>,
}

struct WalkEntry {
    stat: FileStat,
    /// Device and inode of a regular file with several names.
    several: Option<(u64, u64)>,
    is_dir: bool,
    verdict: FilterVerdict,
}

/// Walks a folder and hands over the description of each path that the filter leaves; `send` returns false to stop.
///
/// # Errors
/// A folder cannot be read. What disappears meanwhile is left out.
pub(super) fn walk(
    root: &OwnedFd,
    filter: &FolderFilter,
    send: &mut dyn FnMut(FileStat) -> bool,
) -> Result<(), WalkFault> {
    let mut links = HashMap::new();
    let top = list(root.as_fd(), Path::new(""), filter, &FilterVerdict::default())?;
    let mut levels = vec![OpenLevel { entries: top.into_iter(), unsent: None }];
    while let Some(level) = levels.last_mut() {
        let Some(mut entry) = level.entries.next() else {
            levels.pop();
            continue;
        };
        let path = PathBuf::from(OsString::from_vec(entry.stat.path.clone()));
        let mut unsent = None;
        if entry.verdict.is_sent {
            for level in &mut levels {
                if let Some(stat) = level.unsent.take()
                    && !send(stat)
                {
                    return Err(WalkFault::Stopped);
                }
            }
            if let Some(inode) = entry.several {
                match links.get(&inode) {
                    Some(first) => {
                        entry.stat.link = Clone::clone(first);
                        entry.stat.size = 0;
                    }
                    None => drop(links.insert(inode, entry.stat.path.clone())),
                }
            }
            if !send(entry.stat) {
                return Err(WalkFault::Stopped);
            }
        } else {
            unsent = Some(entry.stat);
        }
        if entry.is_dir && entry.verdict.is_walked {
            if levels.len() > MAX_DEPTH {
                let why = io::Error::other(format!("folders are nested deeper than {MAX_DEPTH}"));
                return Err(WalkFault::Io(path, why));
            }
            let entries = list(root.as_fd(), &path, filter, &entry.verdict)?.into_iter();
            levels.push(OpenLevel { entries, unsent });
        }
    }
    Ok(())
}

/// Reads one folder: what is sent of it, and the folders in it that are walked.
fn list(
    root: BorrowedFd<'_>,
    path: &Path,
    filter: &FolderFilter,
    above: &FilterVerdict,
) -> Result<Vec<WalkEntry>, WalkFault> {
    let fault = |error| WalkFault::Io(path.to_owned(), error);
    let dir = match at::dir(root, path) {
        Err(error) if at::is_absent(&error) && !path.as_os_str().is_empty() => return Ok(Vec::new()),
        dir => dir.map_err(fault)?,
    };
    let mut names = at::names(dir.as_fd()).map_err(fault)?;
    names.sort_unstable();
    let mut entries = Vec::with_capacity(names.len());
    for name in names {
        let inner = path.join(&name);
        match describe(&dir, &name, &inner, filter, above) {
            Ok(entry) => entries.extend(entry),
            Err(error) => return Err(WalkFault::Io(inner, error)),
        }
    }
    Ok(entries)
}

fn describe(
    dir: &OwnedFd,
    name: &OsStr,
    path: &Path,
    filter: &FolderFilter,
    above: &FilterVerdict,
) -> io::Result<Option<WalkEntry>> {
    let stat: Stat = match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(None),
        stat => stat?,
    };
    let kind = FileType::from_raw_mode(stat.st_mode);
    let is_dir = kind == FileType::Directory;
    let verdict = filter.judge(above, &path.to_string_lossy(), is_dir);
    if kind == FileType::Socket || !verdict.is_sent && !verdict.is_walked {
        return Ok(None);
    }
    let is_device = matches!(kind, FileType::CharacterDevice | FileType::BlockDevice);
    let device = |number: u32| if is_device { i64::from(number) } else { 0 };
    let link = match kind {
        FileType::Symlink => match at::read_link(dir.as_fd(), name) {
            Err(error) if at::is_absent(&error) => return Ok(None),
            text => text?.into_vec(),
        },
        _ => Vec::new(),
    };
    let xattrs = match kind {
        FileType::Symlink => Vec::new(),
        _ => at::xattrs_of(dir.as_fd(), name).or_else(|error| match at::is_absent(&error) {
            true => Ok(Vec::new()),
            false => Err(error),
        })?,
    };
    // The protocol has names of attributes as text.
    let xattrs: BTreeMap<String, Vec<u8>> =
        xattrs.into_iter().filter_map(|(name, value)| Some((name.into_string().ok()?, value))).collect();
    let entry = FileStat {
        path: path.as_os_str().as_bytes().to_vec(),
        mode: go_mode(stat.st_mode),
        size: if is_dir { 0 } else { stat.st_size as i64 },
        modified: (stat.st_mtime as i64).saturating_mul(1_000_000_000).saturating_add(stat.st_mtime_nsec as i64),
        link,
        device_major: device(rustix::fs::major(stat.st_rdev as u64)),
        device_minor: device(rustix::fs::minor(stat.st_rdev as u64)),
        xattrs,
        ..FileStat::default()
    };
    let several =
        (kind == FileType::RegularFile && stat.st_nlink as u64 > 1).then_some((stat.st_dev as u64, stat.st_ino as u64));
    Ok(Some(WalkEntry { stat: entry, several, is_dir, verdict }))
}
