//! A directory of the host as a source: read lazily, filtered by the ignore patterns, hashed in parallel.
//!
//! Owners are not part of it (everything belongs to 0:0), and sockets are left out.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use rayon::prelude::*;

use super::{
    entry_hash::{absorb, dir_hasher, file_digest, with_xattrs},
    error::ContentError,
    walk::{MAX_DEPTH, PARALLEL_DEPTH, PARALLEL_ENTRIES, descend},
};
use crate::{
    grant,
    graph::{self},
    layer::view::{EntryKind, ViewEntry, at},
    oci::Digest,
    spec::pattern::{Patterns, Verdict},
};

/// Digests of files from earlier runs, found by the stat data of the files; implemented by the stat cache of `store`.
pub(crate) trait FileDigests: Send + Sync {
    /// The digest of the file at this path of the folder (relative, with `/`), if it is the same file as then.
    fn get(&self, path: &Path, entry: &ViewEntry) -> Option<Digest>;
    /// Remembers the digest of a file that had this stat data before and after it was read.
    fn put(&self, path: &Path, entry: &ViewEntry, digest: Digest);
}

/// A [`FileDigests`] that remembers nothing: every file is hashed.
#[cfg(test)]
pub(crate) struct NoDigests;

#[cfg(test)]
impl FileDigests for NoDigests {
    fn get(&self, _: &Path, _: &ViewEntry) -> Option<Digest> {
        None
    }
    fn put(&self, _: &Path, _: &ViewEntry, _: Digest) {}
}

/// A directory of the host without what the ignore patterns exclude.
///
/// Directories are read and files hashed when first asked for, in parallel, and then remembered: all readers of a context
/// share one tree.
pub(crate) struct LocalTree {
    root: OwnedFd,
    local: graph::Local,
    patterns: Patterns,
    digests: Arc<dyn FileDigests>,
    top: Arc<LocalDir>,
    /// Held while hashing, so that two tasks that ask for the same do not both hash it.
    hashing: Mutex<()>,
}

/// A directory of a [`LocalTree`], listed and hashed when first asked for.
pub(crate) struct LocalDir {
    /// Relative to the context; empty for the root.
    path: PathBuf,
    depth: usize,
    /// What the ignore patterns say about it, for its children.
    verdict: Verdict,
    nodes: OnceLock<Box<[LocalNode]>>,
    xattrs: OnceLock<Vec<(OsString, Vec<u8>)>>,
    digest: OnceLock<Digest>,
}

/// One name in a [`LocalDir`].
pub(crate) struct LocalNode {
    pub(crate) name: OsString,
    entry: ViewEntry,
    dir: Option<Arc<LocalDir>>,
    hashed: OnceLock<HashedFile>,
}

/// The digest of a file, and what it was like then if that differs from when the directory was read.
struct HashedFile {
    digest: Digest,
    entry: Option<Box<ViewEntry>>,
}

impl LocalDir {
    fn new(path: PathBuf, depth: usize, verdict: Verdict) -> Arc<Self> {
        let (nodes, xattrs, digest) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        Arc::new(Self { path, depth, verdict, nodes, xattrs, digest })
    }

    /// The path relative to the context; empty for the root.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl LocalNode {
    /// The metadata of the name; of a file that was hashed, as it was then.
    pub(crate) fn entry(&self) -> &ViewEntry {
        self.hashed.get().and_then(|it| it.entry.as_deref()).unwrap_or(&self.entry)
    }

    /// The directory of this name; `None` if it is something else.
    pub(crate) fn dir(&self) -> Option<&Arc<LocalDir>> {
        self.dir.as_ref()
    }
}

impl LocalTree {
    /// Opens the directory of a context and reads nothing yet.
    pub(crate) fn open(local: &graph::Local, digests: Arc<dyn FileDigests>) -> Result<Self, ContentError> {
        let root = grant::open_real_dir(Path::new(&local.folder))
            .map_err(|cause| ContentError::Context { folder: local.folder.clone(), cause })?;
        let patterns = Patterns::new(&local.ignore).map_err(|bad| ContentError::BadPattern {
            pattern: bad.pattern,
            why: bad.why,
            file: local.ignore_file.clone(),
        })?;
        let top = LocalDir::new(PathBuf::new(), 0, Verdict::default());
        Ok(Self { root, local: local.clone(), patterns, digests, top, hashing: Mutex::new(()) })
    }

    /// The root directory of the context.
    pub(crate) fn top(&self) -> &Arc<LocalDir> {
        &self.top
    }

    /// The metadata of the context's own directory.
    pub(crate) fn root_entry(&self) -> io::Result<ViewEntry> {
        Ok(as_context_entry(at::entry(&rustix::fs::fstat(&self.root)?, 0)))
    }

    /// Lists a directory, sorted by the bytes of the names, without what is ignored.
    pub(crate) fn nodes<'a>(&self, dir: &'a LocalDir) -> io::Result<&'a [LocalNode]> {
        if let Some(nodes) = dir.nodes.get() {
            return Ok(nodes);
        }
        let nodes = self.read(dir)?;
        Ok(dir.nodes.get_or_init(|| nodes.into()))
    }

    /// Finds one name in a directory; `None` if it is not there or ignored.
    pub(crate) fn node<'a>(&self, dir: &'a LocalDir, name: &OsStr) -> io::Result<Option<&'a LocalNode>> {
        let nodes = self.nodes(dir)?;
        Ok(nodes.binary_search_by(|it| it.name.as_os_str().cmp(name)).ok().map(|i| &nodes[i]))
    }

    /// The extended attributes of a directory that go into layers, sorted by name; none where the file system has none or
    /// hides them. Lists the directory first, if that was not done yet.
    pub(crate) fn xattrs<'a>(&self, dir: &'a LocalDir) -> io::Result<&'a [(OsString, Vec<u8>)]> {
        self.nodes(dir)?;
        Ok(dir.xattrs.get().map_or(&[], Vec::as_slice))
    }

    /// Opens a directory for reading links.
    pub(crate) fn open_dir(&self, dir: &LocalDir) -> io::Result<OwnedFd> {
        at::dir(self.root.as_fd(), &dir.path)
    }

    /// Opens a regular file.
    pub(crate) fn open_file(&self, dir: &LocalDir, name: &OsStr) -> io::Result<File> {
        at::file(self.root.as_fd(), &dir.path.join(name))
    }

    /// The digest of the content of a directory, without its own metadata.
    pub(crate) fn dir_digest(&self, dir: &Arc<LocalDir>) -> Result<Digest, ContentError> {
        if let Some(digest) = dir.digest.get() {
            return Ok(*digest);
        }
        let _hashing = self.hashing.lock().unwrap_or_else(PoisonError::into_inner);
        self.hash_dir(dir)
    }

    /// The digest of a file's data and extended attributes.
    pub(crate) fn file_digest(&self, dir: &LocalDir, node: &LocalNode) -> Result<Digest, ContentError> {
        if let Some(hashed) = node.hashed.get() {
            return Ok(hashed.digest);
        }
        let path = dir.path.join(&node.name);
        if let Some(digest) = self.digests.get(&path, &node.entry) {
            return Ok(node.hashed.get_or_init(|| HashedFile { digest, entry: None }).digest);
        }
        for _ in 0..5 {
            let file = match at::file(self.root.as_fd(), &path) {
                Err(err) if at::is_absent(&err) => break,
                file => file.map_err(|cause| self.unreadable(&path, cause))?,
            };
            let hash = || -> io::Result<_> {
                let before = as_context_entry(at::entry(&rustix::fs::fstat(&file)?, 0));
                let digest = file_digest(&file, before.size)?;
                let after = as_context_entry(at::entry(&rustix::fs::fstat(&file)?, 0));
                Ok((unchanged(&before, &after).then_some(digest), before))
            };
            let (digest, before) = hash().map_err(|cause| self.unreadable(&path, cause))?;
            if let Some(digest) = digest {
                self.digests.put(&path, &before, digest);
                let entry = (before != node.entry).then(|| Box::new(before));
                return Ok(node.hashed.get_or_init(|| HashedFile { digest, entry }).digest);
            }
        }
        Err(ContentError::Changed { path: shown(&path), of: self.local.name.clone() })
    }

    /// Finds the ignore pattern, counted from 1, that hides a path which is there.
    pub(crate) fn hidden_by(&self, path: &Path) -> Option<(usize, String, Option<String>)> {
        at::stat_beneath(self.root.as_fd(), path).ok()??;
        let path = path.to_string_lossy();
        let hides = |pattern: &&String| {
            !pattern.starts_with('!') && Patterns::new(std::slice::from_ref(*pattern)).is_ok_and(|it| it.matches(&path))
        };
        let at = self.local.ignore.iter().rposition(|it| hides(&it))?;
        Some((at + 1, self.local.ignore[at].clone(), self.local.ignore_file.clone()))
    }

    fn unreadable(&self, path: &Path, cause: io::Error) -> ContentError {
        ContentError::Read { path: shown(path), of: self.local.name.clone(), cause }
    }

    fn read(&self, dir: &LocalDir) -> io::Result<Vec<LocalNode>> {
        if dir.depth > MAX_DEPTH {
            return Err(io::Error::other(format!("the directories are nested deeper than {MAX_DEPTH}")));
        }
        let fd = self.open_dir(dir)?;
        let xattrs = at::xattrs(&fd)?;
        dir.xattrs.get_or_init(|| xattrs);
        let mut names = at::names(fd.as_fd())?;
        names.sort_unstable();
        let mut nodes = Vec::with_capacity(names.len());
        for name in names {
            let Some(stat) = at::stat(fd.as_fd(), &name)? else { continue };
            let entry = as_context_entry(at::entry(&stat, 0));
            if entry.kind == EntryKind::Socket {
                continue;
            }
            let Some(sub) = self.admit(dir, &name, entry.kind)? else { continue };
            nodes.push(LocalNode { name, entry, dir: sub, hashed: OnceLock::new() });
        }
        Ok(nodes)
    }

    /// Whether the ignore patterns leave a name, and if it is a directory, that directory.
    fn admit(&self, dir: &LocalDir, name: &OsStr, kind: EntryKind) -> io::Result<Option<Option<Arc<LocalDir>>>> {
        if self.patterns.is_empty() && kind != EntryKind::Dir {
            return Ok(Some(None));
        }
        let path = dir.path.join(name);
        let text = path.to_string_lossy();
        if kind != EntryKind::Dir {
            return Ok((!self.patterns.test(&dir.verdict, &text)).then_some(None));
        }
        let verdict = self.patterns.enter(&dir.verdict, &text);
        let ignored = verdict.matched;
        if ignored && !self.patterns.may_except_below(&text) {
            return Ok(None);
        }
        let sub = LocalDir::new(path, dir.depth + 1, verdict);
        // An ignored directory is there only for what an exception keeps in it.
        if ignored && descend(dir.depth, || self.nodes(&sub).map(<[LocalNode]>::is_empty))? {
            return Ok(None);
        }
        Ok(Some(Some(sub)))
    }

    fn hash_dir(&self, dir: &Arc<LocalDir>) -> Result<Digest, ContentError> {
        if let Some(digest) = dir.digest.get() {
            return Ok(*digest);
        }
        let nodes = self.nodes(dir).map_err(|cause| self.unreadable(&dir.path, cause))?;
        let payload = |node: &LocalNode| match (&node.dir, node.entry.kind) {
            (Some(sub), _) => {
                let digest = descend(dir.depth, || self.hash_dir(sub))?;
                let xattrs = self.xattrs(sub).map_err(|cause| self.unreadable(&sub.path, cause))?;
                Ok(Some(with_xattrs(digest, xattrs)))
            }
            (None, EntryKind::File) => self.file_digest(dir, node).map(Some),
            _ => Ok(None),
        };
        let payloads: Vec<Option<Digest>> = if dir.depth < PARALLEL_DEPTH && nodes.len() >= PARALLEL_ENTRIES {
            nodes.par_iter().map(payload).collect::<Result<_, _>>()?
        } else {
            nodes.iter().map(payload).collect::<Result<_, _>>()?
        };
        let mut hasher = dir_hasher();
        let mut fd = None;
        for (node, payload) in nodes.iter().zip(&payloads) {
            let link = self.link_text(dir, node, &mut fd).map_err(|cause| self.unreadable(&dir.path, cause))?;
            absorb(&mut hasher, &node.name, node.entry(), payload.as_ref(), link.as_deref());
        }
        let digest = hasher.finish();
        Ok(*dir.digest.get_or_init(|| digest))
    }

    fn link_text(&self, dir: &LocalDir, node: &LocalNode, fd: &mut Option<OwnedFd>) -> io::Result<Option<OsString>> {
        if node.entry.kind != EntryKind::Symlink {
            return Ok(None);
        }
        if fd.is_none() {
            *fd = Some(self.open_dir(dir)?);
        }
        fd.as_ref().map(|fd| at::read_link(fd.as_fd(), &node.name)).transpose()
    }
}

/// The entry as part of a context, where everything belongs to root: ids of the host mean nothing in an image.
fn as_context_entry(mut entry: ViewEntry) -> ViewEntry {
    (entry.uid, entry.gid) = (0, 0);
    entry
}

/// Whether two entries of one path are the same file with, as far as stat data can show, the same content.
pub(crate) fn unchanged(a: &ViewEntry, b: &ViewEntry) -> bool {
    (a.kind, a.size, a.mtime, a.ctime, a.dev_ino) == (b.kind, b.size, b.mtime, b.ctime, b.dev_ino)
}

/// A path of a source as shown: with a slash in front.
fn shown(path: &Path) -> String {
    format!("/{}", path.display())
}
