//! Remote definitions: in a git repository, or behind an http URL as a file or an archive
//! (<https://docs.docker.com/build/bake/remote-definition/>). Only the definition's own files are read; contexts are
//! fetched by the build.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    io::Read,
    os::unix::ffi::OsStrExt as _,
    path::{Component, Path, PathBuf},
};

use super::read::DEFAULT_NAMES;
use crate::{
    archive::{self, ArchiveCompression, ArchiveError, TarMemberKind, TarReader},
    fetch::{
        FetchError, Fetched, GitClient, GitCommandFn, GitSecrets, GitSource, HttpClient, HttpRequest, parse_git_url,
        shown_url,
    },
    grant::{Allowed, resolve},
    report::Diagnostic,
};

/// Where a definition lies and how to get there.
#[derive(Clone, Copy)]
pub(crate) struct Remote<'a> {
    pub(crate) url: &'a str,
    /// The user's environment: proxies and credentials for git.
    pub(crate) env: &'a BTreeMap<String, String>,
    /// Makes the command that runs git.
    pub(crate) command: GitCommandFn,
}

/// A file and its content.
pub(crate) struct RemoteFile {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
}

/// The largest definition by URL, in bytes; an archive may be larger.
const MAX_FILE: u64 = 2 << 20;
const MAX_ARCHIVE: u64 = 256 << 20;
/// The most entries of an archive that are looked at; more is an attack or a mistake.
const MAX_ENTRIES: u64 = 1_000_000;

type RemoteResult<T> = Result<T, Box<Diagnostic>>;

/// Reads the files of a definition: those of `names`, or those of the default names that exist.
///
/// # Errors
/// Names the URL and what went wrong, or the file that it does not have.
pub(crate) fn read(remote: Remote<'_>, names: &[String]) -> RemoteResult<Vec<RemoteFile>> {
    let shown = shown_url(remote.url);
    let fault = |message: String| Diagnostic::error("bake::definition::remote", message);
    let failed =
        |error: &FetchError| Box::new(fault(format!("the definition cannot be fetched: {shown}")).cause(error));
    let files = match parse_git_url(remote.url) {
        Some(Ok(url)) => {
            let scratch = tempfile::tempdir()
                .map_err(|error| Box::new(fault("a temporary folder cannot be made".to_owned()).cause(&error)))?;
            let tree = from_git(remote, url.source(), scratch.path()).map_err(|error| failed(&error))?;
            from_tree(&tree, names)?
        }
        Some(Err(why)) => return Err(Box::new(fault(format!("not a git URL ({why}): {shown}")))),
        None => {
            let bytes = download(remote.url).map_err(|error| failed(&error))?;
            if is_archive(&bytes) {
                from_archive(&bytes, names)
                    .map_err(|error| Box::new(fault(format!("the archive cannot be read: {shown}")).cause(&error)))?
            } else if bytes.len() as u64 > MAX_FILE {
                let message = format!("a definition by URL may have {MAX_FILE} bytes, and this has more: {shown}");
                return Err(Box::new(fault(message)));
            } else {
                vec![RemoteFile { name: last_segment(remote.url), bytes: bytes.clone() }]
            }
        }
    };
    let missing =
        names.iter().find(|name| parse_git_url(remote.url).is_some() && !files.iter().any(|it| it.name == **name));
    match (missing, files.is_empty()) {
        (Some(name), _) => Err(Box::new(fault(format!("{shown} has no file: {name}")))),
        (None, true) if names.is_empty() => Err(Box::new(
            fault(format!("no bake file is found in: {shown}")).help(format!("tried {}", DEFAULT_NAMES.join(", "))),
        )),
        (None, true) => Err(Box::new(fault(format!("{shown} has none of: {}", names.join(", "))))),
        (None, false) => Ok(files),
    }
}

/// The folder with the tree of the commit.
fn from_git(remote: Remote<'_>, source: GitSource, scratch: &Path) -> Result<PathBuf, FetchError> {
    let make = |name: &str| {
        let path = scratch.join(name);
        match fs::create_dir(&path) {
            Ok(()) => Ok(path),
            Err(source) => Err(FetchError::File { action: "create", path, source }),
        }
    };
    let (tree, work) = (make("tree")?, make("work")?);
    let secrets = |name: &str| {
        let found = remote.env.iter().filter(|(key, value)| key.eq_ignore_ascii_case(name) && !value.is_empty());
        found.map(|(_, value)| (String::new(), value.clone())).collect()
    };
    let git = GitClient {
        command: remote.command,
        env: remote.env.iter().map(|(name, value)| (name.into(), value.into())).collect(),
        cache: scratch.join("repositories"),
        secrets: GitSecrets {
            tokens: secrets("BUILDX_BAKE_GIT_AUTH_TOKEN"),
            headers: secrets("BUILDX_BAKE_GIT_AUTH_HEADER"),
        },
        // A definition is read before anything runs: signals end the process itself.
        is_cancelled: std::sync::Arc::new(|| false),
    };
    let commit = git.resolve(&source)?;
    git.checkout(&source, &commit, &tree, &work)?;
    Ok(tree)
}

/// Downloads into memory.
fn download(url: &str) -> Result<Vec<u8>, FetchError> {
    let keep = |source| FetchError::Keep { url: shown_url(url), source };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(keep)?;
    let request = HttpRequest { url, checksum: None, limit: MAX_ARCHIVE, known: None };
    match runtime.block_on(HttpClient::default().fetch(&request, || Ok(Vec::new()), &|_| ()))? {
        Fetched::New(bytes, _) => Ok(bytes),
        Fetched::Unchanged => Ok(Vec::new()),
    }
}

/// Reads files of a checked out tree; links that lead out of it are refused.
fn from_tree(tree: &Path, names: &[String]) -> RemoteResult<Vec<RemoteFile>> {
    let mut files = Vec::new();
    let mut inside = Allowed::default();
    inside.allow(tree, Path::new("/"));
    for name in wanted(names) {
        let Ok(found) = resolve(Path::new(name), tree) else { continue };
        let Ok(granted) = inside.read(found) else {
            let message = format!("a file of a remote definition lies outside of it: {name}");
            return Err(Box::new(Diagnostic::error("bake::definition::remote", message)));
        };
        match granted.read(MAX_FILE) {
            Ok(bytes) => files.push(RemoteFile { name: name.to_owned(), bytes }),
            Err(fault) if fault.is_missing() => (),
            Err(fault) => {
                let message = format!("a file of the remote definition cannot be read, {fault}: {name}");
                return Err(Box::new(Diagnostic::error("bake::definition::remote", message)));
            }
        }
    }
    Ok(files)
}

fn wanted(names: &[String]) -> Vec<&str> {
    if names.is_empty() { DEFAULT_NAMES.to_vec() } else { names.iter().map(String::as_str).collect() }
}

/// Whether the bytes are compressed, or a tar as POSIX or GNU tar write it. No bake file begins like that.
fn is_archive(bytes: &[u8]) -> bool {
    const USTAR: usize = 257;
    archive::detect(bytes) != ArchiveCompression::Uncompressed || bytes.get(USTAR..USTAR + 5) == Some(b"ustar")
}

/// The wanted files of an archive, in the order of `names`.
fn from_archive(bytes: &[u8], names: &[String]) -> Result<Vec<RemoteFile>, ArchiveError> {
    const MAX_UNPACKED: u64 = 4 << 30;
    let wanted = wanted(names);
    let mut found: Vec<Option<Vec<u8>>> = vec![None; wanted.len()];
    let plain_bytes = archive::decode(bytes).map_err(ArchiveError::Read)?;
    let mut reader = TarReader::new(plain_bytes.take(MAX_UNPACKED), MAX_ENTRIES);
    let mut buffer = vec![0; 64 << 10];
    while let Some(member) = reader.next()? {
        let path = plain(Path::new(OsStr::from_bytes(&member.path)));
        let is_path = |name: &&str| plain(Path::new(name)) == path;
        let Some(ix) = path.as_ref().and_then(|_| wanted.iter().position(is_path)) else { continue };
        if member.kind != TarMemberKind::File {
            continue;
        }
        // Before anything of it is kept: a sparse file can have any size.
        if member.size > MAX_FILE {
            return Err(ArchiveError::Limit { what: "bytes of a definition", limit: MAX_FILE });
        }
        let mut content = vec![0; member.size as usize];
        while let Some((at, n)) = reader.chunk(&mut buffer)? {
            content[at as usize..at as usize + n].copy_from_slice(&buffer[..n]);
        }
        found[ix] = Some(content);
    }
    let files = wanted
        .iter()
        .zip(found)
        .filter_map(|(name, bytes)| bytes.map(|bytes| RemoteFile { name: (*name).to_owned(), bytes }));
    Ok(files.collect())
}

/// The path without `./`; `None` if it leads out.
fn plain(path: &Path) -> Option<String> {
    let mut parts = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => parts.push(name.to_str()?),
            Component::CurDir => (),
            _ => return None,
        }
    }
    Some(parts.join("/"))
}

/// The last segment of a URL's path; its extension decides the format.
fn last_segment(url: &str) -> String {
    let path = url.split(['?', '#']).next().unwrap_or(url);
    path.rsplit('/').next().filter(|it| !it.is_empty()).unwrap_or("definition").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_in_archives_of_all_kinds() {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(3);
        header.set_mode(0o644);
        builder.append_data(&mut header.clone(), "./docker-bake.hcl", &b"a=1"[..]).expect("in memory");
        builder.append_data(&mut header, "other.hcl", &b"b=2"[..]).expect("in memory");
        let tar = builder.into_inner().expect("in memory");
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut gz, &tar).expect("in memory");
        let gz = gz.finish().expect("in memory");
        for bytes in [tar, gz] {
            assert!(is_archive(&bytes));
            let files = from_archive(&bytes, &[]).expect("readable");
            assert_eq!(
                (files.len(), files[0].name.as_str(), files[0].bytes.as_slice()),
                (1, "docker-bake.hcl", &b"a=1"[..])
            );
        }
        assert!(!is_archive(b"target \"a\" {}"));
        assert_eq!(last_segment("https://h/x/bake.json?raw=1"), "bake.json");
    }
}
