//! Compares two states of a git work tree of this machine: which paths differ between two commits, or a commit and the
//! disk, and what git has for a path.
//!
//! Git walks and compares; nothing is hashed here. No hook, file system monitor or prompt runs, no object is fetched from a
//! remote, and nothing is written. Git's own rules for repositories of other users hold (`safe.directory`).

use std::{
    ffi::{OsStr, OsString},
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::Mutex,
    thread,
};

use super::{
    git_command::{GitCommandFn, PASSED},
    shown::clean,
};

/// No more ignored paths than this are told.
const MAX_IGNORED: usize = 100;
/// Longest object that is read, in bytes: a definition or a Dockerfile.
const MAX_OBJECT: u64 = 1 << 30;

/// Configuration of every command (git-config(1), <https://git-scm.com/docs/git-config>).
const CONFIG: &[(&str, &str)] = &[
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.quotePath", "false"),
    ("core.preloadIndex", "true"),
    ("protocol.allow", "never"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
];

/// Why two states cannot be compared.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CompareError {
    #[error("git cannot be run")]
    NoGit(#[source] io::Error),
    /// Git's own words.
    #[error("git {action} failed: {words}")]
    Git { action: &'static str, words: String },
    #[error("git {0} answered with something that cannot be read")]
    Answer(&'static str),
}

/// What git has at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GitMode {
    Absent,
    File,
    Executable,
    Link,
    Submodule,
}

/// A path that differs between two states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GitChange {
    /// From the top of the work tree, without a slash at the end.
    pub(crate) path: PathBuf,
    pub(crate) old: GitMode,
    pub(crate) new: GitMode,
    /// The object of the old state; of a submodule, its commit.
    pub(crate) old_object: String,
}

/// A path that git does not track and does not ignore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UntrackedPath {
    /// From the top of the work tree, without a slash at the end.
    pub(crate) path: PathBuf,
    /// It is a folder in which nothing is tracked, an empty one too; or another repository.
    pub(crate) is_folder: bool,
}

/// A git work tree of this machine.
pub(crate) struct GitWorkTree {
    program: GitCommandFn,
    env: Vec<(OsString, OsString)>,
    /// Its top folder, without symbolic links.
    top: PathBuf,
    is_shallow: bool,
    objects: Mutex<Option<ObjectProcess>>,
}

/// A running `git cat-file --batch`.
struct ObjectProcess {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Drop for ObjectProcess {
    fn drop(&mut self) {
        // It would end by itself when its input is closed; it writes nothing that could be lost.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl GitWorkTree {
    /// Finds the work tree that holds a folder. `env` is the environment of the user.
    ///
    /// # Errors
    /// When git cannot be run, or does not take the folder for one of a work tree.
    pub(crate) fn find(
        program: GitCommandFn,
        env: Vec<(OsString, OsString)>,
        folder: &Path,
    ) -> Result<Self, CompareError> {
        let mut tree = Self { program, env, top: folder.to_owned(), is_shallow: false, objects: Mutex::new(None) };
        let answer = tree.output("rev-parse", &["rev-parse", "--show-toplevel", "--is-shallow-repository"])?;
        let mut lines = answer.split(|it| *it == b'\n');
        let (Some(top), Some(shallow)) = (lines.next(), lines.next()) else {
            return Err(CompareError::Answer("rev-parse"));
        };
        let top = PathBuf::from(OsStr::from_bytes(top));
        tree.top = top.canonicalize().unwrap_or(top);
        tree.is_shallow = shallow == b"true";
        Ok(tree)
    }

    /// The top folder, absolute and without symbolic links.
    pub(crate) fn top(&self) -> &Path {
        &self.top
    }

    /// Whether the history ends at some depth.
    pub(crate) const fn is_shallow(&self) -> bool {
        self.is_shallow
    }

    /// The commit that a revision names; `None` if there is none, or it is not in this repository.
    ///
    /// # Errors
    /// When git cannot be run.
    pub(crate) fn commit(&self, revision: &str) -> Result<Option<String>, CompareError> {
        // It would be taken for an option.
        if revision.is_empty() || revision.starts_with('-') {
            return Ok(None);
        }
        let wanted = format!("{revision}^{{commit}}");
        let found = self.answer("rev-parse", &["rev-parse", "--verify", "--quiet", &wanted])?;
        Ok(found.map(|bytes| text(&bytes).trim().to_owned()).filter(|commit| is_object_name(commit)))
    }

    /// The merge bases of two commits, best ones only; several after criss-cross merges, none for unrelated histories.
    ///
    /// # Errors
    /// When git cannot be run.
    pub(crate) fn merge_bases(&self, one: &str, other: &str) -> Result<Vec<String>, CompareError> {
        let found = self.answer("merge-base", &["merge-base", "--all", one, other])?;
        Ok(found.map(|bytes| text(&bytes).lines().map(str::to_owned).collect()).unwrap_or_default())
    }

    /// Names of branches and tags, for suggestions.
    ///
    /// # Errors
    /// When git cannot be run.
    pub(crate) fn names(&self) -> Result<Vec<String>, CompareError> {
        let arguments =
            ["for-each-ref", "--count=5000", "--format=%(refname:short)", "refs/heads", "refs/remotes", "refs/tags"];
        let found = self.output("for-each-ref", &arguments)?;
        Ok(text(&found).lines().map(str::to_owned).collect())
    }

    /// The paths that differ between a commit and another one, or the tracked files on the disk. A rename is a path that
    /// went and one that came. A submodule with changes of its own counts as one at another commit.
    ///
    /// # Errors
    /// When git cannot be run, or cannot read what it compares.
    pub(crate) fn changes(&self, from: &str, to: Option<&str>) -> Result<Vec<GitChange>, CompareError> {
        let mut arguments = vec![
            "diff",
            "--raw",
            "-z",
            "--no-abbrev",
            "--no-renames",
            "--no-relative",
            "--no-ext-diff",
            "--no-textconv",
            "--ignore-submodules=none",
            from,
        ];
        arguments.extend(to);
        arguments.push("--");
        parse_raw(&self.output("diff", &arguments)?).ok_or(CompareError::Answer("diff"))
    }

    /// The paths that git does not track and does not ignore.
    ///
    /// # Errors
    /// When git cannot be run.
    pub(crate) fn untracked(&self) -> Result<Vec<UntrackedPath>, CompareError> {
        let arguments = ["ls-files", "--others", "--exclude-standard", "--directory", "-z"];
        let found = self.output("ls-files", &arguments)?;
        let paths = found.split(|it| *it == 0).filter(|path| !path.is_empty());
        let entry = |path: &[u8]| match path.strip_suffix(b"/") {
            Some(folder) => UntrackedPath { path: OsString::from_vec(folder.to_vec()).into(), is_folder: true },
            None => UntrackedPath { path: OsString::from_vec(path.to_vec()).into(), is_folder: false },
        };
        Ok(paths.map(entry).collect())
    }

    /// Those of the paths, from the top of the work tree, that git ignores, files and folders with tracked files in them
    /// not counted.
    ///
    /// *Cost:* the patterns for each path; the index is looked through only for what they match.
    ///
    /// # Errors
    /// When git fails, as for a path in a submodule.
    pub(crate) fn ignored(&self, paths: &[&Path]) -> Result<Vec<PathBuf>, CompareError> {
        if paths.is_empty() {
            return Ok(Vec::new());
        }
        let input: Vec<u8> = paths.iter().flat_map(|path| [path.as_os_str().as_bytes(), b"\0"].concat()).collect();
        let mut command = self.command(&["check-ignore", "--stdin", "-z", "--no-index"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(CompareError::NoGit)?;
        let mut stdin = child.stdin.take();
        let output = thread::scope(|scope| {
            scope.spawn(move || stdin.as_mut().map(|stdin| stdin.write_all(&input)));
            child.wait_with_output()
        });
        let output = output.map_err(CompareError::NoGit)?;
        // 1: it ignores none of them.
        if !matches!(output.status.code(), Some(0 | 1)) {
            return Err(CompareError::Answer("check-ignore"));
        }
        let names = output.stdout.split(|it| *it == 0).filter(|path| !path.is_empty());
        let mut found: Vec<PathBuf> = names.map(|path| OsString::from_vec(path.to_vec()).into()).collect();
        found.truncate(MAX_IGNORED);
        if found.is_empty() {
            return Ok(found);
        }
        let mut command = self.command(&["--literal-pathspecs", "ls-files", "-z", "--"]);
        let tracked = command.args(&found).stdin(Stdio::null()).output().map_err(CompareError::NoGit)?;
        let tracked: Vec<&Path> =
            tracked.stdout.split(|it| *it == 0).map(|it| Path::new(OsStr::from_bytes(it))).collect();
        found.retain(|path| !tracked.iter().any(|tracked| tracked.starts_with(path)));
        Ok(found)
    }

    /// Whether a path of the index is a submodule.
    pub(crate) fn is_submodule(&self, path: &Path) -> bool {
        let Some(path) = path.to_str() else { return false };
        let found = self.output("ls-files", &["--literal-pathspecs", "ls-files", "--stage", "-z", "--", path]);
        found.is_ok_and(|bytes| bytes.starts_with(b"160000 "))
    }

    /// Whether a path is in the tree of a commit.
    ///
    /// # Errors
    /// When git cannot be asked.
    pub(crate) fn has(&self, commit: &str, path: &Path) -> io::Result<bool> {
        // The protocol is a line each; such names are rare enough to be taken for changed.
        if path.as_os_str().as_bytes().contains(&b'\n') {
            return Ok(false);
        }
        let mut name = format!("{commit}:").into_bytes();
        name.extend_from_slice(path.as_os_str().as_bytes());
        Ok(self.ask(&name)?.is_some())
    }

    /// Reads a blob.
    ///
    /// # Errors
    /// When it is missing, as in a partial clone, or git cannot be asked.
    pub(crate) fn read(&self, object: &str) -> io::Result<Vec<u8>> {
        self.ask(object.as_bytes())?.ok_or_else(|| {
            io::Error::other(format!(
                "git lacks the object, as in a clone with a filter, get it with: git cat-file -e {object}"
            ))
        })
    }

    /// The content of an object; `None` if there is none of this name.
    fn ask(&self, name: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let mut slot = self.objects.lock().map_err(|_| io::Error::other("a reader of git objects failed"))?;
        let process = match &mut *slot {
            Some(process) => process,
            empty => empty.insert(self.start_objects()?),
        };
        process.input.write_all(name)?;
        process.input.write_all(b"\n")?;
        process.input.flush()?;
        let mut header = Vec::new();
        process.output.read_until(b'\n', &mut header)?;
        let header = text(&header);
        let mut words = header.trim_end().rsplitn(3, ' ');
        let (Some(size), Some(kind)) = (words.next(), words.next()) else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        if !matches!(kind, "blob" | "tree" | "commit" | "tag") {
            return Ok(None);
        }
        let bad = || io::Error::new(io::ErrorKind::InvalidData, "git cat-file answered with something else");
        let size: u64 = size.parse().map_err(|_| bad())?;
        if size > MAX_OBJECT {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let mut bytes = Vec::new();
        (&mut process.output).take(size + 1).read_to_end(&mut bytes)?;
        if bytes.pop() != Some(b'\n') {
            return Err(bad());
        }
        Ok(Some(bytes))
    }

    fn start_objects(&self) -> io::Result<ObjectProcess> {
        let mut command = self.command(&["cat-file", "--batch"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn()?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        Ok(ObjectProcess { child, input, output: BufReader::new(output) })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = (self.program)("git".as_ref());
        for (name, value) in self.env.iter().filter(|(name, _)| PASSED.iter().any(|passed| *passed == name)) {
            command.env(name, value);
        }
        command
            .env("LC_ALL", "C")
            .env("GIT_PAGER", "cat")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_OPTIONAL_LOCKS", "0")
            .env("GIT_NO_LAZY_FETCH", "1")
            .env("GIT_CONFIG_COUNT", CONFIG.len().to_string());
        for (n, (key, value)) in CONFIG.iter().enumerate() {
            command.env(format!("GIT_CONFIG_KEY_{n}"), key).env(format!("GIT_CONFIG_VALUE_{n}"), value);
        }
        command.arg("-C").arg(&self.top).args(arguments);
        command
    }

    /// The output of a command that must succeed.
    fn output(&self, action: &'static str, arguments: &[&str]) -> Result<Vec<u8>, CompareError> {
        let done = self.command(arguments).stdin(Stdio::null()).output().map_err(CompareError::NoGit)?;
        if done.status.success() {
            return Ok(done.stdout);
        }
        let words = text(&done.stderr);
        let lines: Vec<&str> = words.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let words = if lines.is_empty() { format!("it ended with {}", done.status) } else { lines.join("; ") };
        Err(CompareError::Git { action, words: clean(&words) })
    }

    /// The output of a command that says by its exit code 1 that there is nothing.
    fn answer(&self, action: &'static str, arguments: &[&str]) -> Result<Option<Vec<u8>>, CompareError> {
        let done = self.command(arguments).stdin(Stdio::null()).output().map_err(CompareError::NoGit)?;
        tracing::debug!(action, status = %done.status, "git answered");
        Ok(done.status.success().then_some(done.stdout))
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn is_object_name(text: &str) -> bool {
    text.len() >= 40 && text.bytes().all(|it| it.is_ascii_hexdigit())
}

/// Parses the output of `git diff --raw -z --no-renames` (git-diff(1), "Raw output format").
fn parse_raw(bytes: &[u8]) -> Option<Vec<GitChange>> {
    let mut changes: Vec<GitChange> = Vec::new();
    let mut fields = bytes.split(|it| *it == 0);
    while let Some(entry) = fields.next().filter(|entry| !entry.is_empty()) {
        let entry = std::str::from_utf8(entry).ok()?.strip_prefix(':')?;
        let words: Vec<&str> = entry.split(' ').collect();
        let [old, new, old_object, _, _] = words[..] else { return None };
        let path = PathBuf::from(OsString::from_vec(fields.next()?.to_vec()));
        let (old, new) = (mode(old)?, mode(new)?);
        match changes.last_mut() {
            // A path that is not merged has two entries.
            Some(last) if last.path == path => {
                last.new = new;
                if last.old == GitMode::Absent {
                    (last.old, last.old_object) = (old, old_object.to_owned());
                }
            }
            _ => changes.push(GitChange { path, old, new, old_object: old_object.to_owned() }),
        }
    }
    Some(changes)
}

fn mode(text: &str) -> Option<GitMode> {
    Some(match text {
        "000000" => GitMode::Absent,
        "100755" => GitMode::Executable,
        "120000" => GitMode::Link,
        "160000" => GitMode::Submodule,
        _ if text.starts_with("100") => GitMode::File,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_output_is_read_with_any_name() {
        let zero = "0".repeat(40);
        let one = "1".repeat(40);
        let raw = format!(
            ":100644 100755 {one} {zero} M\0a b\0:000000 120000 {zero} {one} A\0l\n\0:160000 160000 {one} {zero} M\0sub\0"
        );
        let found = parse_raw(raw.as_bytes()).expect("it is well formed");
        let seen: Vec<_> = found.iter().map(|it| (it.path.to_str().expect("text"), it.old, it.new)).collect();
        assert_eq!(
            seen,
            [
                ("a b", GitMode::File, GitMode::Executable),
                ("l\n", GitMode::Absent, GitMode::Link),
                ("sub", GitMode::Submodule, GitMode::Submodule),
            ]
        );
        assert_eq!(found[0].old_object, one);
        assert_eq!(parse_raw(b""), Some(Vec::new()));
        assert_eq!(parse_raw(b"nonsense\0"), None);
    }
}
