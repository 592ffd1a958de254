//! Credentials for registries: `config.json` of Docker, `auth.json` of podman, credential helpers.
//!
//! Looked up when a registry asks, never before. Secrets leave this module only inside [`Credentials`], whose `Debug`
//! hides them.

use std::{
    collections::BTreeMap,
    fmt,
    io::{Read, Write},
    path::Path,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;

use super::{error::RegistryError, http::clean, options::ClientOptions};
use crate::grant::read_file_or_shell_pipe;

/// The key of Docker Hub in these files.
const HUB: &str = "https://index.docker.io/v1/";
/// Longest file or answer of a helper that is read.
const LONGEST: u64 = 4 << 20;
/// How long a helper may take: it may ask the user.
const HELPER_TIME: Duration = Duration::from_secs(120);

/// What is shown to a registry that asks for authentication.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Credentials {
    Anonymous,
    Basic {
        user: String,
        password: String,
    },
    /// A refresh token for the OAuth flow.
    Identity {
        token: String,
    },
    /// A bearer token, ready for use.
    Bearer {
        token: String,
    },
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anonymous => "Anonymous",
            Self::Basic { .. } => "Basic(***)",
            Self::Identity { .. } => "Identity(***)",
            Self::Bearer { .. } => "Bearer(***)",
        })
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DockerConfig {
    auths: BTreeMap<String, Option<AuthEntry>>,
    creds_store: Option<String>,
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct AuthEntry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperAnswer {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

/// Finds the credentials for a registry host in Docker's and podman's configuration, or asks a credential helper.
///
/// Blocks: reads files and runs child processes.
pub(super) fn find(options: &ClientOptions, registry: &str) -> Result<Credentials, RegistryError> {
    let fault = |why: String| RegistryError::Credentials { registry: registry.to_owned(), why };
    let files = options.docker_config.iter().map(|folder| folder.join("config.json"));
    for path in files.chain(options.auth_files.iter().cloned()) {
        let Some(config) = read(&path).map_err(fault)? else { continue };
        if let Some(found) = look_up(options, &config, registry, &path).map_err(fault)? {
            return Ok(found);
        }
    }
    Ok(Credentials::Anonymous)
}

fn read(path: &Path) -> Result<Option<DockerConfig>, String> {
    let bytes = match read_file_or_shell_pipe(path, LONGEST) {
        Ok(bytes) => bytes,
        Err(fault) if fault.is_missing() => return Ok(None),
        Err(fault) => return Err(format!("cannot read `{}`: {fault}", path.display())),
    };
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    // The position is given, the text is not: it may be a secret.
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|e| format!("`{}` is not valid at line {}, column {}", path.display(), e.line(), e.column()))
}

fn look_up(
    options: &ClientOptions,
    config: &DockerConfig,
    registry: &str,
    path: &Path,
) -> Result<Option<Credentials>, String> {
    let names = names(registry);
    let helper = names.iter().find_map(|name| config.cred_helpers.get(*name));
    if let Some(helper) = helper {
        return ask(options, helper, names[0]).map(Some);
    }
    if let Some(helper) = config.creds_store.as_ref().filter(|it| !it.is_empty()) {
        let found = ask(options, helper, names[0])?;
        if found != Credentials::Anonymous {
            return Ok(Some(found));
        }
    }
    let entry = names
        .iter()
        .find_map(|name| config.auths.get(*name))
        .or_else(|| config.auths.iter().find(|(key, _)| names.contains(&host_of(key))).map(|(_, entry)| entry));
    let Some(Some(entry)) = entry else { return Ok(None) };
    entry.credentials().map_err(|why| format!("`{}`: {why}", path.display()))
}

/// The keys under which these files may list a registry, its proper name first.
fn names(registry: &str) -> Vec<&str> {
    match registry {
        "docker.io" | "index.docker.io" | "registry-1.docker.io" => {
            vec![HUB, "docker.io", "index.docker.io", "registry-1.docker.io"]
        }
        other => vec![other],
    }
}

/// `https://host/v1/` and `host/path` are the same host.
fn host_of(key: &str) -> &str {
    let rest = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    rest.split('/').next().unwrap_or(rest)
}

impl AuthEntry {
    fn credentials(&self) -> Result<Option<Credentials>, String> {
        let given = |it: &Option<String>| it.clone().filter(|text| !text.is_empty());
        if let Some(token) = given(&self.registrytoken) {
            return Ok(Some(Credentials::Bearer { token }));
        }
        if let Some(token) = given(&self.identitytoken) {
            return Ok(Some(Credentials::Identity { token }));
        }
        let (user, password) = if let Some(auth) = given(&self.auth) {
            let bytes = STANDARD.decode(auth.trim()).map_err(|_| "an `auth` is not base64".to_owned())?;
            let text = String::from_utf8(bytes).map_err(|_| "an `auth` is not text".to_owned())?;
            let (user, password) = text.split_once(':').ok_or_else(|| "an `auth` has no colon".to_owned())?;
            (user.to_owned(), password.trim_end_matches('\0').to_owned())
        } else {
            match (given(&self.username), given(&self.password)) {
                (Some(user), Some(password)) => (user, password),
                _ => return Ok(None),
            }
        };
        Ok(Some(Credentials::Basic { user, password }))
    }
}

/// Runs `docker-credential-NAME get`.
fn ask(options: &ClientOptions, helper: &str, server: &str) -> Result<Credentials, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if helper.is_empty() || !helper.chars().all(plain) {
        return Err(format!("not a name of a credential helper: {}", clean(helper)));
    }
    let program = format!("docker-credential-{helper}");
    let mut command = (options.command)(program.as_ref());
    command.arg("get").envs(options.env.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|e| format!("cannot run `{program}`: {e}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that does not read its input may answer all the same.
        stdin.write_all(server.as_bytes()).ok();
    }
    let (answer, success) = finish(child, &program)?;
    if !success {
        let text = String::from_utf8_lossy(&answer);
        if text.contains("credentials not found") {
            return Ok(Credentials::Anonymous);
        }
        return Err(format!("`{program}` failed: {}", clean(&text)));
    }
    let answer: HelperAnswer =
        serde_json::from_slice(&answer).map_err(|_| format!("`{program}` did not answer with credentials"))?;
    Ok(match (answer.username.as_str(), answer.secret) {
        (_, secret) if secret.is_empty() => Credentials::Anonymous,
        ("<token>", token) => Credentials::Identity { token },
        (user, password) => Credentials::Basic { user: user.to_owned(), password },
    })
}

/// The output of a helper, and whether it succeeded. It is killed when it takes too long.
fn finish(mut child: Child, program: &str) -> Result<(Vec<u8>, bool), String> {
    let read_all = |stream: Option<Box<dyn Read + Send>>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            if let Some(stream) = stream {
                // What was read before an error may be the whole answer.
                stream.take(LONGEST).read_to_end(&mut bytes).ok();
            }
            bytes
        })
    };
    let out = read_all(child.stdout.take().map(|it| Box::new(it) as Box<dyn Read + Send>));
    let error = read_all(child.stderr.take().map(|it| Box::new(it) as Box<dyn Read + Send>));
    let start = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if start.elapsed() < HELPER_TIME => std::thread::sleep(Duration::from_millis(5)),
            Ok(None) => {
                child.kill().ok();
                child.wait().ok();
                return Err(format!("`{program}` did not end within {} s", HELPER_TIME.as_secs()));
            }
            Err(error) => return Err(format!("cannot wait for `{program}`: {error}")),
        }
    };
    let mut answer = out.join().unwrap_or_default();
    if !status.success() && answer.is_empty() {
        answer = error.join().unwrap_or_default();
    }
    Ok((answer, status.success()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[expect(clippy::disallowed_methods, reason = "the sandbox is not reachable from here")]
    fn command(program: &std::ffi::OsStr) -> std::process::Command {
        std::process::Command::new(program)
    }

    fn with(config: &str, helper: Option<&str>) -> (tempfile::TempDir, ClientOptions) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("config.json"), config).expect("writable");
        let mut options = ClientOptions::new(command);
        options.docker_config = Some(folder.path().to_owned());
        options.env = vec![("PATH".into(), format!("{}:/usr/bin:/bin", folder.path().display()).into())];
        if let Some(script) = helper {
            let path = folder.path().join("docker-credential-t");
            std::fs::write(&path, script).expect("writable");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("ours");
        }
        (folder, options)
    }

    #[test]
    fn auths_are_read_by_host_in_any_spelling() {
        let (_folder, options) = with(r#"{"auths":{"https://h:5/v1/":{"auth":"dTpwOnE="},"x":{}}}"#, None);
        let found = find(&options, "h:5").expect("readable");
        assert_eq!(found, Credentials::Basic { user: "u".into(), password: "p:q".into() });
        assert_eq!(find(&options, "x").expect("readable"), Credentials::Anonymous);
        assert_eq!(find(&options, "other").expect("readable"), Credentials::Anonymous);
    }

    #[test]
    fn docker_hub_has_its_own_key() {
        let (_folder, options) = with(r#"{"auths":{"https://index.docker.io/v1/":{"identitytoken":"t"}}}"#, None);
        let found = find(&options, "docker.io").expect("readable");
        assert_eq!(found, Credentials::Identity { token: "t".into() });
    }

    #[test]
    fn helpers_are_asked_and_may_know_nothing() {
        let script = "#!/bin/sh\nread -r h\n[ \"$h\" = known ] && echo '{\"Username\":\"<token>\",\"Secret\":\"s\"}' \
                      || { echo 'credentials not found in native keychain'; exit 1; }\n";
        let (_folder, options) = with(r#"{"credsStore":"t","auths":{"b":{"auth":"dTpw"}}}"#, Some(script));
        assert_eq!(find(&options, "known").expect("answers"), Credentials::Identity { token: "s".into() });
        assert_eq!(find(&options, "a").expect("answers"), Credentials::Anonymous);
        let from_file = find(&options, "b").expect("answers");
        assert_eq!(from_file, Credentials::Basic { user: "u".into(), password: "p".into() });
    }

    #[test]
    fn bad_files_and_helpers_are_named_without_their_secrets() {
        let text = |config: &str| {
            let (_folder, options) = with(config, None);
            find(&options, "h").expect_err("bad").to_string()
        };
        assert!(text(r#"{"auths":{"h":{"auth":"%%hunter2"}}}"#).contains("config.json"));
        assert!(!text(r#"{"auths":{"h":{"auth":"%%hunter2"}}}"#).contains("hunter2"));
        assert!(text(&"[".repeat(100_000)).contains("config.json"));
        assert!(text(r#"{"credHelpers":{"h":"no-such-zz"}}"#).contains("docker-credential-no-such-zz"));
        assert!(text(r#"{"credHelpers":{"h":"x/../../evil"}}"#).contains("not a name"));
    }

    #[test]
    fn credentials_are_not_printed() {
        let secret = Credentials::Basic { user: "u".into(), password: "hunter2".into() };
        assert!(!format!("{secret:?}").contains("hunter2"));
    }
}
