//! A hermetic run of the binary: empty environment, own HOME and state directory, no network; and what its outputs hold.
#![expect(clippy::print_stderr, reason = "a test that is left out says so")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
};

/// A temporary folder with its own state, in which `bake` is run.
pub(crate) struct Bake {
    pub(crate) dir: tempfile::TempDir,
}

/// Exit code, standard output and standard error of a run.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// The run, which must have succeeded.
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self
    }
}

impl Bake {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a temporary folder can be made") }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file of the working folder, with its parents.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a file has a parent")).expect("folders can be made");
        fs::write(path, text).expect("files can be written");
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// Runs `bake` in `folder` below the working folder.
    #[must_use]
    pub(crate) fn run_in(&self, folder: &str, args: &[&str]) -> Ran {
        self.run_as(folder, args, &[], "")
    }

    /// As [`Self::run_in`], with more of an environment.
    #[must_use]
    pub(crate) fn run_with(&self, folder: &str, args: &[&str], env: &[(&str, &str)]) -> Ran {
        self.run_as(folder, args, env, "")
    }

    /// As [`Self::run_in`], with a text as its standard input.
    #[must_use]
    pub(crate) fn run_reading(&self, folder: &str, args: &[&str], input: &str) -> Ran {
        self.run_as(folder, args, &[], input)
    }

    fn run_as(&self, folder: &str, args: &[&str], env: &[(&str, &str)], input: &str) -> Ran {
        let mut stdin = tempfile::tempfile().expect("a temporary file can be made");
        std::io::Write::write_all(&mut stdin, input.as_bytes()).expect("files can be written");
        std::io::Seek::rewind(&mut stdin).expect("files can be read again");
        let mut command = self.command(folder, args);
        let Output { status, stdout, stderr } =
            command.stdin(stdin).envs(env.iter().copied()).output().expect("the binary starts");
        Ran {
            code: status.code(),
            stdout: String::from_utf8_lossy(&stdout).into_owned(),
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
        }
    }

    /// The command of a run that a test starts and steers itself.
    pub(crate) fn command(&self, folder: &str, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bake"));
        command
            .args(args)
            .current_dir(self.path(folder))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.path("home"))
            .env("BAKE_HOME", self.path("state"))
            .env("NO_COLOR", "1");
        command
    }

    #[must_use]
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        self.run_in("", args)
    }

    /// Copies a folder of the repository into the working folder.
    pub(crate) fn copy(&self, from: &str, to: &str) {
        copy_tree(&Path::new(env!("CARGO_MANIFEST_DIR")).join(from), &self.path(to));
    }
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("folders can be made");
    for entry in fs::read_dir(from).unwrap_or_else(|e| panic!("{}: {e}", from.display())) {
        let entry = entry.expect("folders can be read");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("entries have a type").is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("files can be copied");
        }
    }
}

/// A git repository that is served by `git daemon` until the value is dropped.
pub(crate) struct GitServer {
    daemon: std::process::Child,
    port: u16,
    name: String,
}

impl GitServer {
    /// Makes a repository of the files in `folder`, below the working folder, and serves it.
    pub(crate) fn new(bake: &Bake, folder: &str) -> Self {
        let path = bake.path(folder);
        git(bake, folder, &["init", "-q", "-b", "main"]);
        commit(bake, folder);
        let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a free port");
        // Not `git daemon`, which would be a parent that leaves it behind when it is killed.
        let place = Command::new("git").arg("--exec-path").output().expect("git is installed");
        let mut command = Command::new(Path::new(String::from_utf8_lossy(&place.stdout).trim()).join("git-daemon"));
        command.args(["--export-all", "--reuseaddr", "--listen=127.0.0.1"]);
        command.arg(format!("--port={}", free.port())).arg(format!("--base-path={}", bake.dir.path().display()));
        let daemon = command.arg(path).stderr(std::process::Stdio::null()).spawn().expect("git is installed");
        let server = Self { daemon, port: free.port(), name: folder.to_owned() };
        while std::net::TcpStream::connect(("127.0.0.1", server.port)).is_err() {
            std::thread::yield_now();
        }
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("git://127.0.0.1:{}/{}", self.port, self.name)
    }
}

impl Drop for GitServer {
    fn drop(&mut self) {
        self.daemon.kill().expect("it is ours");
        self.daemon.wait().expect("it is ours");
    }
}

/// Commits all files of a repository below the working folder.
pub(crate) fn commit(bake: &Bake, folder: &str) {
    git(bake, folder, &["add", "-A"]);
    git(bake, folder, &["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-q", "--allow-empty", "-m", "c"]);
}

/// Runs git in a folder below the working folder.
pub(crate) fn git(bake: &Bake, folder: &str, args: &[&str]) {
    let status = Command::new("git")
        .args(args)
        .current_dir(bake.path(folder))
        .env("HOME", bake.path("home"))
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .status()
        .expect("git is installed");
    assert!(status.success(), "git {args:?}: {status}");
}

/// The base image layout of `examples/base`, made once by `bake` itself.
pub(crate) fn base_layout() -> &'static Path {
    static LAYOUT: OnceLock<Bake> = OnceLock::new();
    let made = LAYOUT.get_or_init(|| {
        assert!(Path::new("/bin/busybox").exists(), "these tests need Debian's package busybox-static");
        let bake = Bake::new();
        bake.copy("examples/base", "base");
        bake.run_in("base", &["--allow", "fs.read=/bin", "--progress=plain"]).ok();
        bake
    });
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| made.path("base/layout"))
}

/// Names and contents of the entries of a tar file.
pub(crate) fn tar_entries(path: &Path) -> Vec<(String, Vec<u8>)> {
    let file = fs::File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut archive = tar::Archive::new(file);
    archive
        .entries()
        .expect("a tar file")
        .map(|entry| {
            let mut entry = entry.expect("a whole tar file");
            let name = entry.path().expect("entries have names").to_string_lossy().into_owned();
            let mut content = Vec::new();
            let _n = std::io::Read::read_to_end(&mut entry, &mut content).expect("a whole tar file");
            (name, content)
        })
        .collect()
}

/// So many bytes, the same in each run, that no compression makes shorter.
pub(crate) fn noise(n_bytes: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let words = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // The low bits of such a sequence repeat.
        (state >> 32) as u32
    });
    words.take(n_bytes / 4).flat_map(u32::to_be_bytes).collect()
}

/// Tells that a test or case is left out. In CI (`CI` is set, as `.ci/run` does) that fails if all it `lacks` is a program that
/// `.ci/run` installs.
pub(crate) fn skipped(why: &str, lacks: Option<&str>) {
    let is_ci = std::env::var_os("CI").is_some_and(|it| !it.is_empty());
    if let Some(fault) = lacks.filter(|_| is_ci).and_then(installable) {
        panic!("{why}: {fault}");
    }
    eprintln!("SKIPPED: {why}");
}

/// Why a program should be there, if `.ci/run` installs it.
pub(crate) fn installable(program: &str) -> Option<String> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(".ci/run")).expect(".ci/run is there");
    let list = text.split_once("need=(").and_then(|(_, rest)| rest.split_once(')')).expect("a list of packages").0;
    // From PyPI: Debian has none.
    if program == "moto_server" {
        return text.contains("moto[s3]").then(|| "`.ci/run` installs moto, which has moto_server".to_owned());
    }
    if program == "dockerd" {
        return text.contains("test-tools/docker").then(|| "`.ci/run` unpacks docker.io, which has dockerd".to_owned());
    }
    let package = match program {
        "busybox" => "busybox-static",
        "xz" => "xz-utils",
        "pasta" => "passt",
        other => other,
    };
    list.split_whitespace()
        .any(|it| it == package)
        .then(|| format!("`.ci/run` installs {package}, which has {program}"))
}

#[test]
fn what_ci_installs_is_no_reason_to_skip() {
    for program in ["openssl", "zstd", "git", "pasta", "slirp4netns", "runc", "crun"] {
        assert!(installable(program).is_some(), "{program}");
    }
    assert_eq!(installable("no-such-program"), None);
}

/// Two steps, the first of which a stage makes whose layers are not in the result; and targets `t1` to `t9` of one step.
pub(crate) fn steps_and_targets() -> Bake {
    let bake = Bake::new();
    bake.write(
        "docker-bake.hcl",
        r#"target "default" {
  output = ["type=local,dest=out"]
}
target "t" {
  name              = "t${n}"
  matrix            = { n = ["1", "2", "3", "4", "5", "6", "7", "8", "9"] }
  dockerfile-inline = "FROM scratch\nARG N\nCOPY f /f-$N\n"
  args              = { N = n }
  output            = ["type=cacheonly"]
}
"#,
    );
    bake.write("f", "content");
    bake.write("Dockerfile", "FROM scratch AS one\nCOPY f /a\nFROM scratch\nCOPY --from=one /a /b\n");
    bake
}
