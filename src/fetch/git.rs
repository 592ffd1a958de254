//! Trees of git repositories, by the git command line: names resolved, commits fetched into a shared bare repository per
//! remote, trees checked out.
//!
//! ```text
//! CACHE/HEX        bare repository of one remote (HEX: digest of its URL); made anew when damaged
//! CACHE/HEX.lock   flock, held during fetch and checkout
//! ```
//!
//! A repository is hostile: no hook, no file system monitor, no pager, no prompt, no `ext::` transport; arguments that
//! it can influence come after `--`. Secrets reach git by its environment, never by an argument. All of this blocks.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustix::fs::{AtFlags, CWD, FlockOperation, Timespec, Timestamps, flock, utimensat};

use super::{FetchError, GitCommandFn, clean, shown_url};
use crate::oci::Digest;

/// Longest output of git that is read.
const LONGEST: u64 = 16 << 20;
/// Deepest folder of a checkout.
const DEEPEST: usize = 1000;

/// Variables of the user that git and ssh need.
const PASSED: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "TMPDIR",
    "XDG_CONFIG_HOME",
    "XDG_RUNTIME_DIR",
    "SSH_AUTH_SOCK",
    "GIT_SSH_COMMAND",
    "GIT_SSL_CAINFO",
    "GIT_SSL_CAPATH",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
];

/// What is to be fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GitSource {
    pub(crate) url: String,
    /// Branch, tag, full `refs/…` or commit; `None` is the default branch.
    pub(crate) reference: Option<String>,
    pub(crate) subdir: Option<String>,
    /// The commit must begin with it.
    pub(crate) checksum: Option<String>,
    pub(crate) keep_git_dir: bool,
    pub(crate) submodules: bool,
    /// Files get the time of the commit.
    pub(crate) mtime_commit: bool,
}

/// What a reference means now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Commit {
    /// Full hexadecimal id of the commit.
    pub(crate) id: String,
    /// The name it was found under, such as `refs/heads/main`; `None` when a commit was asked for.
    pub(crate) name: Option<String>,
}

/// Secrets for remotes: by host, `""` for all.
#[derive(Clone, Default)]
pub(crate) struct GitSecrets {
    /// `GIT_AUTH_TOKEN`, `GIT_AUTH_TOKEN.host`.
    pub(crate) tokens: Vec<(String, String)>,
    /// `GIT_AUTH_HEADER`, `GIT_AUTH_HEADER.host`: the value of `Authorization`.
    pub(crate) headers: Vec<(String, String)>,
}

/// Runs git.
#[derive(Clone)]
pub(crate) struct GitClient {
    pub(crate) command: GitCommandFn,
    /// The user's environment; only what git needs is passed on.
    pub(crate) env: Vec<(std::ffi::OsString, std::ffi::OsString)>,
    /// Where bare repositories are kept.
    pub(crate) cache: PathBuf,
    pub(crate) secrets: GitSecrets,
}

impl GitClient {
    /// What the reference means now: one `ls-remote`; nothing for a full commit id.
    ///
    /// # Errors
    /// When there is no such reference, or the commit does not begin with the checksum.
    pub(crate) fn resolve(&self, source: &GitSource) -> Result<Commit, FetchError> {
        let commit = match &source.reference {
            Some(reference) if is_commit(reference) => Commit { id: reference.to_ascii_lowercase(), name: None },
            reference => self.ask(source, reference.as_deref())?,
        };
        match &source.checksum {
            Some(wanted) if !commit.id.starts_with(&wanted.to_ascii_lowercase()) => {
                Err(FetchError::Commit { url: shown_url(&source.url), wanted: clean(wanted), found: commit.id })
            }
            _ => Ok(commit),
        }
    }

    /// Puts the tree of a commit into the empty folder `dest`; `work` is an empty folder on the same file system.
    /// Files are 0644 or 0755, folders 0755, all of the owner of the process. Returns the commit's time.
    ///
    /// # Errors
    /// Names the URL and git's own words.
    pub(crate) fn checkout(
        &self,
        source: &GitSource,
        commit: &Commit,
        dest: &Path,
        work: &Path,
    ) -> Result<i64, FetchError> {
        let run = GitRun { git: self, source, shown: shown_url(&source.url) };
        let bare = self.cache.join(Digest::of(source.url.as_bytes()).hex());
        let _lock = self.lock(&bare)?;
        if let Err(error) = run.fetch(&bare, commit) {
            // A damaged repository, or one whose shallow history is in the way, is made anew.
            if matches!(error, FetchError::NoGit { .. }) || !bare.exists() {
                return Err(error);
            }
            fs::remove_dir_all(&bare).map_err(|e| file("remove", &bare, e))?;
            run.fetch(&bare, commit)?;
        }
        let time = run.out("read", &bare, &["show", "-s", "--format=%ct", &commit.id, "--"])?;
        let time: i64 = time.trim().parse().unwrap_or(0);
        let tree = work.join("tree");
        fs::create_dir(&tree).map_err(|e| file("create", &tree, e))?;
        run.tree(&bare, commit, &tree)?;
        let from = match source.subdir.as_deref().map(|it| it.trim_matches('/')).filter(|it| !matches!(*it, "" | ".")) {
            Some(subdir) => self.subdir(source, &tree, subdir)?,
            None => tree.clone(),
        };
        settle(&from, source.mtime_commit.then_some(time), 0).map_err(|(path, e)| file("finish", &path, e))?;
        let entries = fs::read_dir(&from).map_err(|e| file("read", &from, e))?;
        for entry in entries {
            let entry = entry.map_err(|e| file("read", &from, e))?;
            let to = dest.join(entry.file_name());
            fs::rename(entry.path(), &to).map_err(|e| file("create", &to, e))?;
        }
        fs::remove_dir_all(&tree).map_err(|e| file("remove", &tree, e))?;
        if source.mtime_commit {
            set_time(dest, time).map_err(|e| file("finish", dest, e))?;
        }
        Ok(time)
    }

    /// `ls-remote`: a full name, else a branch, else a tag; annotated tags are followed to their commit.
    fn ask(&self, source: &GitSource, reference: Option<&str>) -> Result<Commit, FetchError> {
        let run = GitRun { git: self, source, shown: shown_url(&source.url) };
        let mut command = run.command(None);
        command.args(["ls-remote", "--symref", "--", &source.url]);
        let name = reference.unwrap_or("HEAD");
        let peeled = format!("{name}^{{}}");
        command.args([name, &peeled]);
        let (out, words, success) = run.finish(command)?;
        if !success {
            return Err(FetchError::Git { action: "read", url: run.shown, words });
        }
        let found: Vec<(&str, &str)> =
            out.lines().filter_map(|line| line.split_once('\t')).filter(|(id, _)| is_commit(id)).collect();
        let head = out.lines().find_map(|line| line.strip_prefix("ref: ")?.strip_suffix("\tHEAD"));
        for full in [name.to_owned(), format!("refs/heads/{name}"), format!("refs/tags/{name}")] {
            let peeled = format!("{full}^{{}}");
            let of = |name: &str| found.iter().find(|(_, it)| *it == name).map(|(id, _)| (*id).to_owned());
            if let Some(id) = of(&peeled).or_else(|| of(&full)) {
                let branch = head.filter(|it| name == "HEAD" && it.starts_with("refs/heads/"));
                return Ok(Commit { id, name: Some(branch.map_or(full, str::to_owned)) });
            }
        }
        Err(FetchError::NoRef { url: run.shown, reference: clean(name) })
    }

    fn lock(&self, bare: &Path) -> Result<File, FetchError> {
        fs::create_dir_all(&self.cache).map_err(|e| file("create", &self.cache, e))?;
        let path = bare.with_extension("lock");
        let opened = File::options().create(true).truncate(false).write(true).open(&path);
        let lock = opened.map_err(|e| file("open", &path, e))?;
        flock(&lock, FlockOperation::LockExclusive).map_err(|e| file("lock", &path, e.into()))?;
        Ok(lock)
    }

    /// A folder of the tree, reached without any symlink.
    fn subdir(&self, source: &GitSource, tree: &Path, subdir: &str) -> Result<PathBuf, FetchError> {
        let bad = || FetchError::Subdir { url: shown_url(&source.url), subdir: clean(subdir) };
        let mut path = tree.to_owned();
        for part in subdir.split('/').filter(|it| !matches!(*it, "" | ".")) {
            if part == ".." {
                return Err(bad());
            }
            path.push(part);
            if !fs::symlink_metadata(&path).is_ok_and(|it| it.is_dir()) {
                return Err(bad());
            }
        }
        Ok(path)
    }
}

/// Git commands for one source.
struct GitRun<'a> {
    git: &'a GitClient,
    source: &'a GitSource,
    shown: String,
}

impl GitRun<'_> {
    /// Makes `bare` have the commit.
    fn fetch(&self, bare: &Path, commit: &Commit) -> Result<(), FetchError> {
        if !bare.join("HEAD").exists() {
            fs::create_dir_all(bare).map_err(|e| file("create", bare, e))?;
            self.out("make a repository for", bare, &["init", "-q", "--bare", "--template="])?;
        }
        if self.has(bare, commit)? {
            return Ok(());
        }
        let url = &self.source.url;
        let shallow = ["fetch", "-q", "--depth=1", "--no-tags", "--force", "--no-write-fetch-head", "--", url];
        let into = format!("refs/bake/{}", commit.id);
        if let Some(name) = &commit.name {
            // By name, as every server allows; the name may have moved on since it was resolved.
            let spec = format!("{name}:{into}");
            let arguments: Vec<&str> = shallow.iter().copied().chain([spec.as_str()]).collect();
            self.out("fetch from", bare, &arguments)?;
            if self.has(bare, commit)? {
                return Ok(());
            }
        }
        let spec = format!("{}:{into}", commit.id);
        let arguments: Vec<&str> = shallow.iter().copied().chain([spec.as_str()]).collect();
        let by_commit = self.out("fetch from", bare, &arguments);
        if by_commit.is_ok() && self.has(bare, commit)? {
            return Ok(());
        }
        let shallow = bare.join("shallow").exists();
        let depth = if shallow { "--unshallow" } else { "--tags" };
        let all = ["+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"];
        let everything = ["fetch", "-q", "--force", "--no-write-fetch-head", depth, "--", url, all[0], all[1]];
        self.out("fetch from", bare, &everything)?;
        if self.has(bare, commit)? {
            return Ok(());
        }
        Err(FetchError::NoRef { url: self.shown.clone(), reference: commit.id.clone() })
    }

    fn has(&self, bare: &Path, commit: &Commit) -> Result<bool, FetchError> {
        let mut command = self.command(Some(bare));
        command.args(["cat-file", "-e", &format!("{}^{{tree}}", commit.id)]);
        Ok(self.finish(command)?.2)
    }

    /// Fills the empty folder `tree`.
    fn tree(&self, bare: &Path, commit: &Commit, tree: &Path) -> Result<(), FetchError> {
        let index = tree.with_extension("index");
        let mut command = self.command(Some(bare));
        command.env("GIT_INDEX_FILE", &index).arg("--work-tree").arg(tree).current_dir(tree);
        command.args(["read-tree", "--reset", "-u", &commit.id]);
        self.must("check out", command)?;
        fs::remove_file(&index).ok();
        let submodules = self.source.submodules && fs::symlink_metadata(tree.join(".gitmodules")).is_ok();
        if !submodules && !self.source.keep_git_dir {
            return Ok(());
        }
        self.git_dir(bare, commit, tree)?;
        if submodules {
            let mut command = self.command(None);
            command.current_dir(tree).arg("submodule");
            command.args(["update", "-q", "--init", "--recursive", "--depth=1", "--force"]);
            self.must("check out the submodules of", command)?;
        }
        if !self.source.keep_git_dir {
            remove_git_dirs(tree, 0).map_err(|(path, e)| file("remove", &path, e))?;
        }
        Ok(())
    }

    /// Makes `tree/.git`: the one commit, HEAD on it, the remote as `origin`, no log of movements.
    fn git_dir(&self, bare: &Path, commit: &Commit, tree: &Path) -> Result<(), FetchError> {
        let quiet = |arguments: &[&str]| {
            let mut command = self.command(None);
            command.current_dir(tree).args(["-c", "core.logAllRefUpdates=false"]).args(arguments);
            self.must("check out", command)
        };
        quiet(&["init", "-q", "--template=", "--initial-branch=main", "."])?;
        quiet(&["config", "remote.origin.url", &plain_remote(&self.source.url)])?;
        quiet(&["config", "remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*"])?;
        let bare = bare.to_string_lossy();
        let own = format!("{}:refs/bake/head", commit.id);
        quiet(&["-c", "protocol.file.allow=always", "fetch", "-q", "--depth=1", "--no-tags", "--", &bare, &own])?;
        match commit.name.as_deref().and_then(|it| it.strip_prefix("refs/heads/")) {
            Some(branch) => {
                quiet(&["update-ref", &format!("refs/heads/{branch}"), &commit.id])?;
                quiet(&["symbolic-ref", "HEAD", &format!("refs/heads/{branch}")])?;
            }
            None => {
                if let Some(tag) = commit.name.as_deref().filter(|it| it.starts_with("refs/tags/")) {
                    quiet(&["update-ref", tag, &commit.id])?;
                }
                quiet(&["update-ref", "--no-deref", "HEAD", &commit.id])?;
            }
        }
        quiet(&["update-ref", "-d", "refs/bake/head"])?;
        quiet(&["read-tree", "--reset", "-u", &commit.id])?;
        for left in ["FETCH_HEAD", "ORIG_HEAD"] {
            fs::remove_file(tree.join(".git").join(left)).ok();
        }
        fs::remove_dir_all(tree.join(".git/logs")).ok();
        Ok(())
    }

    /// Git with everything in it that a repository or an environment could abuse turned off.
    fn command(&self, git_dir: Option<&Path>) -> Command {
        let mut command = (self.git.command)("git".as_ref());
        for (name, value) in &self.git.env {
            if PASSED.iter().any(|it| *it == name) {
                command.env(name, value);
            }
        }
        command.env("GIT_TERMINAL_PROMPT", "0").env("GIT_ASKPASS", "true").env("SSH_ASKPASS", "true");
        command
            .env("LC_ALL", "C")
            .env("GIT_PAGER", "cat")
            .env("GIT_OPTIONAL_LOCKS", "0")
            .env("GIT_LFS_SKIP_SMUDGE", "0");
        if !self.git.env.iter().any(|(name, _)| name == "GIT_SSH_COMMAND") {
            command.env("GIT_SSH_COMMAND", "ssh -o BatchMode=yes -o ConnectTimeout=15");
        }
        let mut config = vec![
            ("core.hooksPath".to_owned(), "/dev/null".to_owned()),
            ("core.fsmonitor".to_owned(), "false".to_owned()),
            ("core.symlinks".to_owned(), "true".to_owned()),
            ("core.autocrlf".to_owned(), "false".to_owned()),
            ("protocol.ext.allow".to_owned(), "never".to_owned()),
            ("gc.auto".to_owned(), "0".to_owned()),
            ("maintenance.auto".to_owned(), "false".to_owned()),
            ("advice.detachedHead".to_owned(), "false".to_owned()),
            ("safe.directory".to_owned(), "*".to_owned()),
            ("http.lowSpeedLimit".to_owned(), "1000".to_owned()),
            ("http.lowSpeedTime".to_owned(), "60".to_owned()),
            ("submodule.fetchJobs".to_owned(), "2".to_owned()),
        ];
        config.extend(self.authorization());
        command.env("GIT_CONFIG_COUNT", config.len().to_string());
        for (n, (key, value)) in config.into_iter().enumerate() {
            command.env(format!("GIT_CONFIG_KEY_{n}"), key).env(format!("GIT_CONFIG_VALUE_{n}"), value);
        }
        if let Some(git_dir) = git_dir {
            command.arg("--git-dir").arg(git_dir);
        }
        command
    }

    /// The header for the remote's host, bound to that host.
    fn authorization(&self) -> Option<(String, String)> {
        let url = url::Url::parse(&self.source.url).ok().filter(|it| matches!(it.scheme(), "http" | "https"))?;
        let host = url.host_str()?;
        let with_port = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let find = |list: &[(String, String)]| {
            let of = |wanted: &str| list.iter().find(|(it, _)| it == wanted).map(|(_, value)| value.trim().to_owned());
            of(&with_port).or_else(|| of(host)).or_else(|| of(""))
        };
        let value = match find(&self.git.secrets.headers) {
            Some(header) => header,
            None => {
                let token = find(&self.git.secrets.tokens)?;
                format!("basic {}", STANDARD.encode(format!("x-access-token:{token}")))
            }
        };
        let key = format!("http.{}://{with_port}/.extraHeader", url.scheme());
        Some((key, format!("Authorization: {value}")))
    }

    fn out(&self, action: &'static str, bare: &Path, arguments: &[&str]) -> Result<String, FetchError> {
        let mut command = self.command(Some(bare));
        command.args(arguments);
        self.must(action, command)
    }

    fn must(&self, action: &'static str, command: Command) -> Result<String, FetchError> {
        let (out, words, success) = self.finish(command)?;
        if success { Ok(out) } else { Err(FetchError::Git { action, url: self.shown.clone(), words }) }
    }

    /// Output, what it complained about, and whether it succeeded.
    fn finish(&self, mut command: Command) -> Result<(String, String, bool), FetchError> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let no_git = |source: io::Error| FetchError::NoGit { url: self.shown.clone(), source };
        let mut child = command.spawn().map_err(no_git)?;
        let stderr = child.stderr.take();
        let complaints = thread::spawn(move || {
            let mut text = Vec::new();
            if let Some(stderr) = stderr {
                // What was read before a fault is shown.
                stderr.take(LONGEST).read_to_end(&mut text).ok();
            }
            text
        });
        let mut out = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            stdout.take(LONGEST).read_to_end(&mut out).map_err(no_git)?;
        }
        let status = child.wait().map_err(no_git)?;
        let complaints = complaints.join().unwrap_or_default();
        let words = self.without_credentials(String::from_utf8_lossy(&complaints).trim());
        let words = if words.is_empty() { format!("it ended with {status}") } else { words };
        Ok((String::from_utf8_lossy(&out).into_owned(), words, status.success()))
    }

    /// Git repeats URLs in its messages.
    fn without_credentials(&self, words: &str) -> String {
        let words = words.replace(&self.source.url, &self.shown);
        let lines: Vec<&str> = words.lines().map(str::trim).filter(|it| !it.is_empty()).collect();
        clean(&lines.join("; "))
    }
}

/// The URL without user and password, for the configuration of a kept `.git`.
fn plain_remote(text: &str) -> String {
    let Ok(mut url) = url::Url::parse(text) else { return text.to_owned() };
    if matches!(url.scheme(), "http" | "https") {
        // Web URLs can always be without them.
        url.set_username("").ok();
        url.set_password(None).ok();
    }
    url.to_string()
}

fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_hexdigit())
}

type PathFault = (PathBuf, io::Error);

/// Gives modes (and times) that do not depend on the umask of this process.
fn settle(folder: &Path, time: Option<i64>, depth: usize) -> Result<(), PathFault> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |e| (path, e)
    };
    if depth > DEEPEST {
        return Err((folder.to_owned(), io::Error::other("folders lie too deep")));
    }
    for entry in fs::read_dir(folder).map_err(at(folder))? {
        let path = entry.map_err(at(folder))?.path();
        let meta = fs::symlink_metadata(&path).map_err(at(&path))?;
        if meta.is_dir() {
            settle(&path, time, depth + 1)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).map_err(at(&path))?;
        } else if meta.is_file() {
            let mode = if meta.mode() & 0o100 == 0 { 0o644 } else { 0o755 };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).map_err(at(&path))?;
        }
        if let Some(time) = time {
            set_time(&path, time).map_err(at(&path))?;
        }
    }
    Ok(())
}

fn set_time(path: &Path, seconds: i64) -> io::Result<()> {
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    Ok(utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Removes `.git` here and in submodules, be it a folder or a file.
fn remove_git_dirs(folder: &Path, depth: usize) -> Result<(), PathFault> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |e| (path, e)
    };
    if depth > DEEPEST {
        return Err((folder.to_owned(), io::Error::other("folders lie too deep")));
    }
    for entry in fs::read_dir(folder).map_err(at(folder))? {
        let entry = entry.map_err(at(folder))?;
        let (path, kind) = (entry.path(), entry.file_type().map_err(at(&entry.path()))?);
        if entry.file_name().as_bytes() == b".git" {
            let removed = if kind.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.map_err(at(&path))?;
        } else if kind.is_dir() {
            remove_git_dirs(&path, depth + 1)?;
        }
    }
    Ok(())
}

fn file(action: &'static str, path: &Path, source: io::Error) -> FetchError {
    FetchError::File { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[expect(clippy::disallowed_methods, reason = "the sandbox is not reachable from here")]
    fn command(program: &std::ffi::OsStr) -> Command {
        let mut command = Command::new(program);
        command.env_clear();
        command
    }

    struct Rig {
        folder: tempfile::TempDir,
        git: GitClient,
        source: GitSource,
    }

    impl Rig {
        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        fn run(&self, arguments: &[&str]) -> String {
            let mut command = command("git".as_ref());
            command.env("PATH", "/usr/local/bin:/usr/bin:/bin").env("HOME", self.folder.path());
            for who in ["AUTHOR", "COMMITTER"] {
                command.env(format!("GIT_{who}_NAME"), "t").env(format!("GIT_{who}_EMAIL"), "t@t");
                command.env(format!("GIT_{who}_DATE"), "2020-01-02T03:04:05Z");
            }
            let out = command.current_dir(self.path("r")).args(arguments).output().expect("git is installed");
            assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
            String::from_utf8_lossy(&out.stdout).trim().to_owned()
        }

        fn get(&self, name: &str, source: &GitSource) -> Result<(PathBuf, i64), FetchError> {
            let (dest, work) = (self.path(name), self.path(&format!("{name}-work")));
            fs::create_dir_all(&dest).expect("writable");
            fs::remove_dir_all(&work).ok();
            fs::create_dir_all(&work).expect("writable");
            let commit = self.git.resolve(source)?;
            let time = self.git.checkout(source, &commit, &dest, &work)?;
            Ok((dest, time))
        }
    }

    fn rig() -> Rig {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let git = GitClient {
            command,
            env: vec![("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into()), ("HOME".into(), folder.path().into())],
            cache: folder.path().join("cache"),
            secrets: GitSecrets::default(),
        };
        let source = GitSource {
            url: format!("file://{}/r", folder.path().display()),
            reference: None,
            subdir: None,
            checksum: None,
            keep_git_dir: false,
            submodules: true,
            mtime_commit: false,
        };
        let rig = Rig { folder, git, source };
        fs::create_dir_all(rig.path("r/sub")).expect("writable");
        rig.run(&["init", "-q", "-b", "main"]);
        fs::write(rig.path("r/one"), "1\n").expect("writable");
        fs::write(rig.path("r/sub/two"), "2\n").expect("writable");
        fs::set_permissions(rig.path("r/sub/two"), fs::Permissions::from_mode(0o700)).expect("ours");
        symlink("one", rig.path("r/link")).expect("writable");
        rig.run(&["add", "-A"]);
        rig.run(&["commit", "-q", "-m", "1"]);
        rig.run(&["tag", "-a", "-m", "t", "v1"]);
        fs::write(rig.path("r/one"), "1b\n").expect("writable");
        rig.run(&["commit", "-q", "-a", "-m", "2"]);
        rig
    }

    fn read(path: &Path) -> String {
        fs::read_to_string(path).expect("it was checked out")
    }

    #[test]
    fn references_of_all_kinds_are_checked_out() {
        let rig = rig();
        let of = |reference: &str| GitSource { reference: Some(reference.to_owned()), ..rig.source.clone() };
        let (default, _) = rig.get("default", &rig.source).expect("HEAD");
        assert_eq!(read(&default.join("one")), "1b\n");
        assert!(!default.join(".git").exists());
        assert_eq!(fs::metadata(default.join("sub/two")).expect("there").mode() & 0o7777, 0o755);
        assert_eq!(fs::metadata(default.join("one")).expect("there").mode() & 0o7777, 0o644);
        assert_eq!(fs::read_link(default.join("link")).expect("a link"), Path::new("one"));
        assert_eq!(read(&rig.get("tag", &of("v1")).expect("a tag").0.join("one")), "1\n");
        assert_eq!(read(&rig.get("branch", &of("refs/heads/main")).expect("a branch").0.join("one")), "1b\n");
        let first = rig.run(&["rev-parse", "main~1"]);
        assert_eq!(read(&rig.get("commit", &of(&first)).expect("a commit").0.join("one")), "1\n");
        assert_eq!(rig.git.resolve(&of("v1")).expect("a tag").id, first, "tags are peeled");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let rig = rig();
        let of = |change: fn(&mut GitSource)| {
            let mut source = rig.source.clone();
            change(&mut source);
            rig.get("bad", &source).expect_err("must fail").to_string()
        };
        assert!(of(|it| it.reference = Some("nope".into())).contains("does not contain ref nope"));
        assert!(of(|it| it.reference = Some("--upload-pack=touch /tmp/x".into())).contains("does not contain ref"));
        assert!(of(|it| it.checksum = Some("abcdef".into())).contains("expected checksum to match abcdef"));
        assert!(of(|it| it.subdir = Some("nope".into())).contains("invalid subdir nope"));
        assert!(of(|it| it.subdir = Some("../..".into())).contains("invalid subdir"));
        assert!(of(|it| it.subdir = Some("link".into())).contains("invalid subdir"));
        assert!(of(|it| it.reference = Some("0".repeat(40))).contains("does not contain ref 000"));
        assert!(of(|it| it.url.push_str("-missing")).contains("-missing"));
    }

    #[test]
    fn subdir_time_and_git_dir_are_as_asked() {
        let rig = rig();
        let source = GitSource { subdir: Some("/sub/".into()), mtime_commit: true, ..rig.source.clone() };
        let (sub, time) = rig.get("sub", &source).expect("a folder");
        assert_eq!((read(&sub.join("two")), time), ("2\n".to_owned(), 1_577_934_245));
        assert_eq!(fs::metadata(sub.join("two")).expect("there").mtime(), time);
        let kept = GitSource { keep_git_dir: true, ..rig.source.clone() };
        let (kept, _) = rig.get("kept", &kept).expect("with .git");
        assert_eq!(read(&kept.join(".git/HEAD")), "ref: refs/heads/main\n");
        assert!(!kept.join(".git/logs").exists());
        assert!(kept.join(".git/shallow").exists());
    }

    #[test]
    fn a_damaged_repository_is_made_anew() {
        let rig = rig();
        rig.get("first", &rig.source).expect("fetched");
        let bare = rig.git.cache.join(Digest::of(rig.source.url.as_bytes()).hex());
        fs::remove_dir_all(bare.join("objects")).expect("ours");
        assert_eq!(read(&rig.get("second", &rig.source).expect("fetched anew").0.join("one")), "1b\n");
    }

    #[test]
    fn secrets_are_bound_to_their_host_and_in_no_argument() {
        let mut rig = rig();
        rig.git.secrets.tokens = vec![("other".into(), "no".into()), ("h".into(), "hunter2".into())];
        let source = GitSource { url: "https://h/a.git".into(), ..rig.source.clone() };
        let run = GitRun { git: &rig.git, source: &source, shown: String::new() };
        let (key, value) = run.authorization().expect("a token is known");
        assert_eq!(key, "http.https://h/.extraHeader");
        assert!(value.starts_with("Authorization: basic "));
        let command = run.command(None);
        assert!(!command.get_args().any(|it| it.to_string_lossy().contains("basic")));
        let source = GitSource { url: "https://x/a.git".into(), ..rig.source.clone() };
        assert!(GitRun { git: &rig.git, source: &source, shown: String::new() }.authorization().is_none());
    }
}
