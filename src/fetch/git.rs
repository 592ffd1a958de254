//! Trees of git repositories, by the git command line: names resolved, commits fetched into a shared bare repository per
//! remote, trees checked out.
//!
//! ```text
//! CACHE/HEX        bare repository of one remote (HEX: digest of its URL); made anew when damaged
//! CACHE/HEX.lock   flock, held during fetch and checkout
//! ```
//!
//! A repository is hostile: how git is run is in `git_command`; arguments that a repository can influence come after
//! `--`. All of this blocks.

use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

use super::{
    error::FetchError,
    git_command::{GitCancelFn, GitCommandFn, GitRunner, GitSecrets},
    git_tree::{normalise_modes, remove_git_dirs, set_time},
    shown::{clean, shown_url},
};
use crate::oci::Digest;

/// A git repository, reference and subdirectory to fetch.
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

/// The commit that a git reference names now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Commit {
    /// Full hexadecimal id of the commit.
    pub(crate) id: String,
    /// The name it was found under, such as `refs/heads/main`; `None` when a commit was asked for.
    pub(crate) name: Option<String>,
}

/// A client that resolves references of git repositories and checks out their trees.
#[derive(Clone)]
pub(crate) struct GitClient {
    pub(crate) command: GitCommandFn,
    /// The user's environment; only what git needs is passed on.
    pub(crate) env: Vec<(OsString, OsString)>,
    /// Where bare repositories are kept.
    pub(crate) cache: PathBuf,
    pub(crate) secrets: GitSecrets,
    pub(crate) is_cancelled: GitCancelFn,
}

impl GitClient {
    /// Resolves the reference of `source` to a commit: one `ls-remote`; nothing is asked for a full commit id.
    ///
    /// # Errors
    /// When there is no such reference, or the commit does not begin with the checksum.
    pub(crate) fn resolve(&self, source: &GitSource) -> Result<Commit, FetchError> {
        let commit = match &source.reference {
            Some(reference) if is_commit(reference) => Commit { id: reference.to_ascii_lowercase(), name: None },
            reference => self.list_remote(source, reference.as_deref())?,
        };
        match &source.checksum {
            Some(wanted) if !commit.id.starts_with(&wanted.to_ascii_lowercase()) => {
                Err(FetchError::Commit { url: shown_url(&source.url), wanted: clean(wanted), found: commit.id })
            }
            _ => Ok(commit),
        }
    }

    /// Writes the tree of a commit into the empty folder `dest`; `work` is an empty folder on the same file system.
    ///
    /// Files are 0644 or 0755, folders 0755, all of the owner of the process. Returns the commit's time.
    ///
    /// # Errors
    /// The error has the URL and git's own words.
    pub(crate) fn checkout(
        &self,
        source: &GitSource,
        commit: &Commit,
        dest: &Path,
        work: &Path,
    ) -> Result<i64, FetchError> {
        let run = self.run(source);
        let bare = self.cache.join(Digest::of(source.url.as_bytes()).hex());
        let _lock = self.lock(&bare)?;
        if let Err(error) = run.fetch(&bare, commit) {
            // A damaged repository, or one whose shallow history is in the way, is made anew.
            let is_hopeless =
                matches!(error, FetchError::NoGit { .. } | FetchError::Stopped { .. } | FetchError::Slow { .. });
            if is_hopeless || !bare.exists() {
                return Err(error);
            }
            fs::remove_dir_all(&bare).map_err(|e| file("remove", &bare, e))?;
            run.fetch(&bare, commit)?;
        }
        let time = run.git.output("read", &bare, &["show", "-s", "--format=%ct", &commit.id, "--"])?;
        let time: i64 = time.trim().parse().unwrap_or(0);
        let tree = work.join("tree");
        fs::create_dir(&tree).map_err(|e| file("create", &tree, e))?;
        run.tree(&bare, commit, &tree)?;
        let from = match source.subdir.as_deref().map(|it| it.trim_matches('/')).filter(|it| !matches!(*it, "" | ".")) {
            Some(subdir) => self.subdir(source, &tree, subdir)?,
            None => tree.clone(),
        };
        normalise_modes(&from, source.mtime_commit.then_some(time), 0).map_err(|(path, e)| file("finish", &path, e))?;
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
    fn list_remote(&self, source: &GitSource, reference: Option<&str>) -> Result<Commit, FetchError> {
        let run = self.run(source);
        let mut command = run.git.command(None);
        command.args(["ls-remote", "--symref", "--", &source.url]);
        let name = reference.unwrap_or("HEAD");
        let peeled = format!("{name}^{{}}");
        command.args([name, &peeled]);
        let listed = run.git.list(command)?;
        if !listed.is_success {
            return Err(FetchError::Git { action: "read", url: shown_url(&source.url), words: listed.words });
        }
        let out = listed.out;
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
        Err(FetchError::NoRef { url: shown_url(&source.url), reference: clean(name) })
    }

    fn run<'a>(&'a self, source: &'a GitSource) -> GitRun<'a> {
        let (env, secrets, url) = (&self.env, &self.secrets, &source.url);
        let git = GitRunner { program: self.command, env, secrets, url, is_cancelled: &self.is_cancelled };
        GitRun { git, source }
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

/// The commands that fetch and check out one source.
struct GitRun<'a> {
    git: GitRunner<'a>,
    source: &'a GitSource,
}

impl GitRun<'_> {
    /// Makes `bare` have the commit.
    fn fetch(&self, bare: &Path, commit: &Commit) -> Result<(), FetchError> {
        if !bare.join("HEAD").exists() {
            fs::create_dir_all(bare).map_err(|e| file("create", bare, e))?;
            self.git.output("make a repository for", bare, &["init", "-q", "--bare", "--template="])?;
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
            self.git.output("fetch from", bare, &arguments)?;
            if self.has(bare, commit)? {
                return Ok(());
            }
        }
        let spec = format!("{}:{into}", commit.id);
        let arguments: Vec<&str> = shallow.iter().copied().chain([spec.as_str()]).collect();
        let by_commit = self.git.output("fetch from", bare, &arguments);
        if by_commit.is_ok() && self.has(bare, commit)? {
            return Ok(());
        }
        let shallow = bare.join("shallow").exists();
        let depth = if shallow { "--unshallow" } else { "--tags" };
        let all = ["+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"];
        let everything = ["fetch", "-q", "--force", "--no-write-fetch-head", depth, "--", url, all[0], all[1]];
        self.git.output("fetch from", bare, &everything)?;
        if self.has(bare, commit)? {
            return Ok(());
        }
        Err(FetchError::NoRef { url: shown_url(url), reference: commit.id.clone() })
    }

    fn has(&self, bare: &Path, commit: &Commit) -> Result<bool, FetchError> {
        let mut command = self.git.command(Some(bare));
        command.args(["cat-file", "-e", &format!("{}^{{tree}}", commit.id)]);
        Ok(self.git.run("read", command)?.is_success)
    }

    /// Fills the empty folder `tree`.
    fn tree(&self, bare: &Path, commit: &Commit, tree: &Path) -> Result<(), FetchError> {
        let index = tree.with_extension("index");
        let mut command = self.git.command(Some(bare));
        command.env("GIT_INDEX_FILE", &index).arg("--work-tree").arg(tree).current_dir(tree);
        command.args(["read-tree", "--reset", "-u", &commit.id]);
        self.git.checked_output("check out", command)?;
        fs::remove_file(&index).ok();
        let submodules = self.source.submodules && fs::symlink_metadata(tree.join(".gitmodules")).is_ok();
        if !submodules && !self.source.keep_git_dir {
            return Ok(());
        }
        self.git_dir(bare, commit, tree)?;
        if submodules {
            let mut command = self.git.submodule_command();
            command.current_dir(tree).args(["update", "-q", "--init", "--recursive", "--depth=1", "--force"]);
            self.git.checked_output("check out the submodules of", command)?;
        }
        if !self.source.keep_git_dir {
            remove_git_dirs(tree, 0).map_err(|(path, e)| file("remove", &path, e))?;
        }
        Ok(())
    }

    /// Makes `tree/.git`: the one commit, HEAD on it, the remote as `origin`, no log of movements.
    fn git_dir(&self, bare: &Path, commit: &Commit, tree: &Path) -> Result<(), FetchError> {
        let quiet = |arguments: &[&str]| {
            let mut command = self.git.command(None);
            command.current_dir(tree).args(["-c", "core.logAllRefUpdates=false"]).args(arguments);
            self.git.checked_output("check out", command)
        };
        quiet(&["init", "-q", "--template=", "--initial-branch=main", "."])?;
        quiet(&["config", "remote.origin.url", &plain_remote(&self.source.url)])?;
        quiet(&["config", "remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*"])?;
        let bare = bare.to_string_lossy();
        let own = format!("{}:refs/bake/head", commit.id);
        quiet(&["fetch", "-q", "--depth=1", "--no-tags", "--", &bare, &own])?;
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

fn file(action: &'static str, path: &Path, source: io::Error) -> FetchError {
    FetchError::File { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader, Write},
        net::TcpListener,
        os::unix::fs::{MetadataExt, PermissionsExt, symlink},
        process::Command,
        sync::{Arc, Mutex},
        time::{Duration, Instant},
    };

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
            is_cancelled: Arc::new(|| false),
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
        let of = |url: &str| {
            let source = GitSource { url: url.into(), ..rig.source.clone() };
            rig.git.run(&source).git.authorization()
        };
        let (origin, value) = of("https://h/a.git").expect("a token is known");
        assert_eq!(origin, "https://h/");
        assert!(value.starts_with("Authorization: basic "));
        assert!(of("https://x/a.git").is_none() && of("http://h/a.git").is_none() && of("ssh://h/a").is_none());
        let source = GitSource { url: "https://h/a.git".into(), ..rig.source.clone() };
        let command = rig.git.run(&source).git.command(None);
        assert!(!command.get_args().any(|argument| argument.to_string_lossy().contains("basic")));
    }

    /// A web server that answers each request with the same text, and keeps what it was asked.
    fn serve(reply: String) -> (String, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        let log = Arc::new(Mutex::new(Vec::new()));
        let kept = log.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut reader = BufReader::new(stream.try_clone().expect("open"));
                let mut text = String::new();
                while reader.read_line(&mut text).is_ok_and(|n| n > 2) {}
                kept.lock().expect("not poisoned").push(text.to_lowercase());
                (&stream).write_all(reply.as_bytes()).ok();
            }
        });
        (address, log)
    }

    #[test]
    fn a_token_is_not_led_to_another_host() {
        let mut rig = rig();
        rig.git.secrets.tokens = vec![(String::new(), "hunter2".into())];
        let (other, seen) = serve("HTTP/1.1 404 x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".into());
        let location =
            format!("http://{}/a.git/info/refs?service=git-upload-pack", other.replace("127.0.0.1", "127.0.0.2"));
        let (first, asked) =
            serve(format!("HTTP/1.1 302 x\r\nConnection: close\r\nContent-Length: 0\r\nLocation: {location}\r\n\r\n"));
        let source = GitSource { url: format!("http://{first}/a.git"), ..rig.source.clone() };
        rig.git.resolve(&source).expect_err("there is no repository");
        assert!(asked.lock().expect("not poisoned")[0].contains("authorization: basic"));
        let seen = seen.lock().expect("not poisoned");
        assert!(seen.iter().all(|request| !request.contains("authorization")), "{seen:?}");
    }

    #[test]
    fn a_submodule_cannot_name_a_folder_of_this_machine() {
        let rig = rig();
        let secret = rig.path("secret");
        fs::create_dir_all(&secret).expect("writable");
        let module = format!("[submodule \"s\"]\n\tpath = s\n\turl = {}\n", rig.path("r").display());
        fs::write(rig.path("r/.gitmodules"), module).expect("writable");
        let head = rig.run(&["rev-parse", "HEAD"]);
        rig.run(&["update-index", "--add", "--cacheinfo", &format!("160000,{head},s")]);
        rig.run(&["add", ".gitmodules"]);
        rig.run(&["commit", "-q", "-m", "submodule"]);
        // Not even when the user's own configuration allows it.
        fs::write(rig.path(".gitconfig"), "[protocol \"file\"]\n\tallow = always\n").expect("writable");
        let error = rig.get("with", &rig.source).expect_err("refused").to_string();
        assert!(error.contains("transport 'file' not allowed"), "{error}");
        let without = GitSource { submodules: false, ..rig.source.clone() };
        rig.get("without", &without).expect("the rest is fine");
    }

    #[test]
    fn a_remote_helper_is_never_run() {
        let rig = rig();
        let hit = rig.path("hit");
        let source = GitSource { url: format!("ext::sh -c touch% {}", hit.display()), ..rig.source.clone() };
        let error = rig.git.resolve(&source).expect_err("refused").to_string();
        assert!(error.contains("not allowed") && !hit.exists(), "{error}");
    }

    #[test]
    fn a_server_that_says_nothing_does_not_outlast_the_run() {
        let mut rig = rig();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let source =
            GitSource { url: format!("git://{}/a", listener.local_addr().expect("bound")), ..rig.source.clone() };
        let start = Instant::now();
        rig.git.is_cancelled = Arc::new(move || start.elapsed() > Duration::from_millis(200));
        let error = rig.git.resolve(&source).expect_err("cancelled");
        assert!(matches!(error, FetchError::Stopped { .. }), "{error}");
        assert!(start.elapsed() < Duration::from_secs(10));
    }
}
