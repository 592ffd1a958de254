//! Runs git so that a hostile repository, server or environment can do nothing but be read.
//!
//! | what could be abused | what stands against it |
//! |---|---|
//! | hooks, file system monitor, templates | `core.hooksPath`, `core.fsmonitor`, `--template=` |
//! | remote helpers (`ext::`, `fd::`, any other) | `protocol.allow=never`, the known transports one by one |
//! | a submodule or redirect that names a local path | `protocol.file.allow=user`: only what we ourselves name |
//! | a redirect from https to http | `protocol.http.allow=user` where the repository is named by https |
//! | a bare repository hidden in the tree | `safe.bareRepository=explicit` |
//! | configuration in the environment (`GIT_CONFIG_*`, `GIT_DIR`, …) | only the variables in [`PASSED`] are passed on |
//! | prompts, pagers | no terminal, no helper that asks |
//! | a server that never ends | low speed limits, a time limit for each command, cancellation |
//! | a token that is led to another host | it is bound to its host, and redirects are not followed with it |
//!
//! The user's own configuration (`~/.gitconfig`) is trusted. Secrets reach git by its environment, never by an argument.
//! The keys are those of git-config(1), <https://git-scm.com/docs/git-config>.

use std::{
    ffi::OsString,
    io::{self, Read},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{
    error::FetchError,
    shown::{clean, shown_url},
};

/// A function that makes the command of a program (`sandbox::command`): clean environment, closed descriptors.
pub(crate) type GitCommandFn = fn(&std::ffi::OsStr) -> Command;

/// A function that says whether the run was cancelled: a git that runs is then ended. It is called often and must be
/// quick.
pub(crate) type GitCancelFn = Arc<dyn Fn() -> bool + Send + Sync>;

/// Longest output of git that is read, in bytes.
const LONGEST: u64 = 16 << 20;
/// The references of a repository must be listed within this time.
const LIST_TIME: Duration = Duration::from_secs(120);
/// Any other command must end within this time; http is watched more closely, by its speed.
const COMMAND_TIME: Duration = Duration::from_secs(3600);
/// How often a command that runs is looked at.
const TICK: Duration = Duration::from_millis(5);

/// Variables of the user that git and ssh need.
pub(super) const PASSED: &[&str] = &[
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

/// Configuration of every command. What depends on the repository is added in [`GitRunner::config`].
const CONFIG: &[(&str, &str)] = &[
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.symlinks", "true"),
    ("core.autocrlf", "false"),
    ("protocol.allow", "never"),
    ("protocol.ext.allow", "never"),
    ("protocol.fd.allow", "never"),
    ("protocol.file.allow", "user"),
    ("protocol.https.allow", "always"),
    ("protocol.ssh.allow", "always"),
    ("protocol.git.allow", "always"),
    ("transfer.bundleURI", "false"),
    ("fetch.recurseSubmodules", "false"),
    ("submodule.recurse", "false"),
    ("submodule.fetchJobs", "2"),
    ("safe.directory", "*"),
    ("safe.bareRepository", "explicit"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("advice.detachedHead", "false"),
    ("http.lowSpeedLimit", "1000"),
    ("http.lowSpeedTime", "60"),
];

/// The secrets for git remotes: by host (`host` or `host:port`), `""` for every host that the build itself names.
#[derive(Clone, Default)]
pub(crate) struct GitSecrets {
    /// `GIT_AUTH_TOKEN`, `GIT_AUTH_TOKEN.host`.
    pub(crate) tokens: Vec<(String, String)>,
    /// `GIT_AUTH_HEADER`, `GIT_AUTH_HEADER.host`: the value of `Authorization`.
    pub(crate) headers: Vec<(String, String)>,
}

/// The output of a git command that ended.
pub(super) struct GitOutput {
    pub(super) out: String,
    /// What it complained about, or how it ended; without credentials, fit for a message.
    pub(super) words: String,
    pub(super) is_success: bool,
}

/// Runs git commands about one remote repository.
pub(super) struct GitRunner<'a> {
    pub(super) program: GitCommandFn,
    /// The user's environment.
    pub(super) env: &'a [(OsString, OsString)],
    pub(super) secrets: &'a GitSecrets,
    pub(super) url: &'a str,
    pub(super) is_cancelled: &'a GitCancelFn,
}

impl GitRunner<'_> {
    /// A git command in the repository `git_dir`, or wherever the command is started.
    pub(super) fn command(&self, git_dir: Option<&Path>) -> Command {
        let mut command = (self.program)("git".as_ref());
        for (name, value) in self.env {
            if PASSED.iter().any(|passed| *passed == name) {
                command.env(name, value);
            }
        }
        command.env("GIT_TERMINAL_PROMPT", "0").env("GIT_ASKPASS", "true").env("SSH_ASKPASS", "true");
        command
            .env("LC_ALL", "C")
            .env("GIT_PAGER", "cat")
            .env("GIT_OPTIONAL_LOCKS", "0")
            .env("GIT_LFS_SKIP_SMUDGE", "0");
        if !self.env.iter().any(|(name, _)| name == "GIT_SSH_COMMAND") {
            let ssh = "ssh -o BatchMode=yes -o ConnectTimeout=15 -o ServerAliveInterval=15 -o ServerAliveCountMax=4";
            command.env("GIT_SSH_COMMAND", ssh);
        }
        let config = self.config();
        command.env("GIT_CONFIG_COUNT", config.len().to_string());
        for (n, (key, value)) in config.into_iter().enumerate() {
            command.env(format!("GIT_CONFIG_KEY_{n}"), key).env(format!("GIT_CONFIG_VALUE_{n}"), value);
        }
        if let Some(git_dir) = git_dir {
            command.arg("--git-dir").arg(git_dir);
        }
        command
    }

    /// A `git submodule` command in the working tree.
    ///
    /// What is fetched is verified by the commit that names it, so plain http may be among its addresses. Local paths
    /// may not: git itself treats the addresses of submodules as not the user's.
    pub(super) fn submodule_command(&self) -> Command {
        let mut command = self.command(None);
        command.args(["-c", "protocol.http.allow=always", "submodule"]);
        command
    }

    fn config(&self) -> Vec<(String, String)> {
        let mut config: Vec<(String, String)> =
            CONFIG.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let is_https = self.url.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"));
        config.push(("protocol.http.allow".to_owned(), if is_https { "user" } else { "always" }.to_owned()));
        if let Some((origin, header)) = self.authorization() {
            config.push((format!("http.{origin}.extraHeader"), header));
            // Git would send the header to wherever the first request is redirected.
            config.push((format!("http.{origin}.followRedirects"), "false".to_owned()));
        }
        config
    }

    /// The origin of the remote, and the header that it alone gets; `None` without a secret.
    ///
    /// Only https is trusted with it, and plain http to this machine itself, where nobody listens in between.
    pub(super) fn authorization(&self) -> Option<(String, String)> {
        let url = url::Url::parse(self.url).ok()?;
        let is_local = match url.host()? {
            url::Host::Domain(name) => name == "localhost",
            url::Host::Ipv4(ip) => ip.is_loopback(),
            url::Host::Ipv6(ip) => ip.is_loopback(),
        };
        if !(url.scheme() == "https" || url.scheme() == "http" && is_local) {
            return None;
        }
        let host = url.host_str()?;
        let with_port = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let find = |secrets: &[(String, String)]| {
            let of = |host: &str| secrets.iter().find(|(of, _)| of == host).map(|(_, value)| value.trim().to_owned());
            of(&with_port).or_else(|| of(host)).or_else(|| of(""))
        };
        let value = match find(&self.secrets.headers) {
            Some(header) => header,
            None => {
                let token = find(&self.secrets.tokens)?;
                format!("basic {}", STANDARD.encode(format!("x-access-token:{token}")))
            }
        };
        Some((format!("{}://{with_port}/", url.scheme()), format!("Authorization: {value}")))
    }

    /// Runs git in the repository `bare` and returns its output.
    ///
    /// # Errors
    /// When it fails: `action` and the URL name what was tried, with git's own words.
    pub(super) fn output(&self, action: &'static str, bare: &Path, arguments: &[&str]) -> Result<String, FetchError> {
        let mut command = self.command(Some(bare));
        command.args(arguments);
        self.checked_output(action, command)
    }

    /// Runs a command that must succeed and returns its output.
    ///
    /// # Errors
    /// As [`Self::output`].
    pub(super) fn checked_output(&self, action: &'static str, command: Command) -> Result<String, FetchError> {
        let done = self.run(action, command)?;
        if done.is_success {
            Ok(done.out)
        } else {
            Err(FetchError::Git { action, url: shown_url(self.url), words: done.words })
        }
    }

    /// Runs `ls-remote`, which has a time limit of its own.
    ///
    /// # Errors
    /// When git cannot be run, is too slow, or the run is cancelled.
    pub(super) fn list(&self, command: Command) -> Result<GitOutput, FetchError> {
        self.run_within("read", command, LIST_TIME)
    }

    /// Runs a command to its end; that it fails is no error here.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub(super) fn run(&self, action: &'static str, command: Command) -> Result<GitOutput, FetchError> {
        self.run_within(action, command, COMMAND_TIME)
    }

    fn run_within(&self, action: &'static str, mut command: Command, limit: Duration) -> Result<GitOutput, FetchError> {
        let no_git = |source: io::Error| FetchError::NoGit { url: shown_url(self.url), source };
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(no_git)?;
        let out = read_aside(child.stdout.take());
        let complaints = read_aside(child.stderr.take());
        let start = Instant::now();
        let _span = tracing::debug_span!("git", action, url = %shown_url(self.url)).entered();
        let status = loop {
            if let Some(status) = child.try_wait().map_err(no_git)? {
                break status;
            }
            let is_cancelled = (self.is_cancelled)();
            if is_cancelled || start.elapsed() > limit {
                // What it has started ends with its pipes. One that ended just now is as good as killed.
                child.kill().ok();
                child.wait().ok();
                let url = shown_url(self.url);
                return Err(if is_cancelled {
                    FetchError::Stopped { url }
                } else {
                    FetchError::Slow { action, url, seconds: limit.as_secs() }
                });
            }
            thread::sleep(TICK);
        };
        let out = out.join().unwrap_or_default();
        let words = self.without_credentials(String::from_utf8_lossy(&complaints.join().unwrap_or_default()).trim());
        let words = if words.is_empty() { format!("it ended with {status}") } else { words };
        Ok(GitOutput { out: String::from_utf8_lossy(&out).into_owned(), words, is_success: status.success() })
    }

    /// Git repeats URLs in its messages.
    fn without_credentials(&self, words: &str) -> String {
        let words = words.replace(self.url, &shown_url(self.url));
        let lines: Vec<&str> = words.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        clean(&lines.join("; "))
    }
}

/// Reads a pipe on a thread, up to [`LONGEST`] bytes. What was read before a fault is kept.
fn read_aside(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(pipe) = pipe {
            pipe.take(LONGEST).read_to_end(&mut bytes).ok();
        }
        bytes
    })
}
