//! Where container engines may answer: what the user named, else the usual sockets and programs.
//!
//! Addresses follow Docker's rules: `DOCKER_HOST`, then `DOCKER_CONTEXT` or the current context. containerd's are named as its
//! own tools have them: `CONTAINERD_ADDRESS`, `CONTAINERD_NAMESPACE`, `CONTAINERD_SNAPSHOTTER`.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::{oci::Digest, registry::ClientOptions};

/// Where an engine may answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum EngineEndpoint {
    Unix(PathBuf),
    /// `http://host:port`, or `https://host:port`.
    Web {
        url: String,
        tls: Option<EngineTls>,
    },
    /// The engine of another machine, whose `docker load` is run there.
    Ssh {
        user: Option<String>,
        host: String,
        port: Option<u16>,
        /// A socket that is not the usual one there.
        socket: Option<String>,
    },
    /// A command line of this machine that loads a file.
    Command {
        program: &'static str,
        host: Option<String>,
    },
    Containerd(ContainerdEndpoint),
}

/// Where containerd answers, and what images are for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ContainerdEndpoint {
    pub(super) socket: PathBuf,
    /// The namespace whose containers see the image: `k8s.io` for those of Kubernetes.
    pub(super) namespace: String,
    /// What the layers are unpacked with.
    pub(super) snapshotter: String,
}

/// How an engine that speaks TLS is trusted: `ca.pem`, `cert.pem` and `key.pem` of a folder, as far as they exist
/// (<https://docs.docker.com/engine/security/protect-access/>).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EngineTls {
    pub(super) folder: PathBuf,
    pub(super) verify: bool,
}

impl std::fmt::Display for EngineEndpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Web { url, .. } => write!(f, "{url}"),
            Self::Ssh { host, .. } => write!(f, "`docker load` at ssh://{host}"),
            Self::Command { program, host: None } => write!(f, "`{program} load`"),
            Self::Command { program, host: Some(host) } => write!(f, "`{program} load` at {host}"),
            Self::Containerd(ContainerdEndpoint { socket, namespace, .. }) => {
                write!(f, "containerd at {}, namespace {namespace}", socket.display())
            }
        }
    }
}

/// Where to look, in order: what the user names, else what usually is there.
///
/// # Errors
/// What the user named is no address, or no context.
pub(super) fn endpoints(options: &ClientOptions, context: Option<&str>) -> Result<Vec<EngineEndpoint>, String> {
    let variable = |name: &str| {
        let found = options.env.iter().find(|(key, _)| key == name).map(|(_, value)| value.to_string_lossy());
        found.filter(|it| !it.is_empty()).map(|it| it.into_owned())
    };
    let folder = options.docker_config.as_deref();
    if let Some(name) = context {
        return context_endpoint(folder, name).map(|endpoint| vec![endpoint]);
    }
    if let Some(host) = variable("DOCKER_HOST") {
        let verify = variable("DOCKER_TLS_VERIFY").is_some();
        let folder = || variable("DOCKER_CERT_PATH").map(PathBuf::from).or_else(|| folder.map(Path::to_owned));
        let wants_tls = verify || variable("DOCKER_TLS").is_some();
        let tls = wants_tls.then(folder).flatten().map(|folder| EngineTls { folder, verify });
        return parse(&host, tls).map(|endpoint| vec![endpoint]);
    }
    if let Some(name) = variable("DOCKER_CONTEXT").or_else(|| current_context(folder)).filter(|it| it != "default") {
        return context_endpoint(folder, &name).map(|endpoint| vec![endpoint]);
    }
    let containerd = |socket: &str| {
        EngineEndpoint::Containerd(ContainerdEndpoint {
            socket: socket.trim_start_matches("unix://").into(),
            namespace: variable("CONTAINERD_NAMESPACE").unwrap_or_else(|| "default".to_owned()),
            snapshotter: variable("CONTAINERD_SNAPSHOTTER").unwrap_or_else(|| "overlayfs".to_owned()),
        })
    };
    if let Some(socket) = variable("CONTAINERD_ADDRESS") {
        return Ok(vec![containerd(&socket)]);
    }
    let mut all = vec![EngineEndpoint::Unix("/var/run/docker.sock".into())];
    if let Some(runtime) = variable("XDG_RUNTIME_DIR") {
        all.push(EngineEndpoint::Unix(Path::new(&runtime).join("docker.sock")));
        all.push(EngineEndpoint::Unix(Path::new(&runtime).join("podman/podman.sock")));
    }
    all.push(EngineEndpoint::Unix("/run/podman/podman.sock".into()));
    all.push(EngineEndpoint::Command { program: "docker", host: None });
    all.push(EngineEndpoint::Command { program: "podman", host: None });
    all.push(containerd("/run/containerd/containerd.sock"));
    Ok(all)
}

fn parse(host: &str, tls: Option<EngineTls>) -> Result<EngineEndpoint, String> {
    match host.split_once("://") {
        Some(("unix", path)) => Ok(EngineEndpoint::Unix(path.into())),
        Some(("tcp" | "http", rest)) => {
            let scheme = if tls.is_some() { "https" } else { "http" };
            Ok(EngineEndpoint::Web { url: format!("{scheme}://{rest}"), tls })
        }
        Some(("ssh", _)) => parse_ssh(host),
        Some(("https" | "npipe" | "fd", _)) => {
            Ok(EngineEndpoint::Command { program: "docker", host: Some(host.to_owned()) })
        }
        _ => Err(format!("not the address of a container engine: {host}")),
    }
}

/// `ssh://[USER@]HOST[:PORT][/SOCKET]`.
fn parse_ssh(text: &str) -> Result<EngineEndpoint, String> {
    let fault = || format!("not the address of a container engine: {text}");
    let url = url::Url::parse(text).map_err(|_| fault())?;
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(fault)?;
    // What begins with a dash would be taken for an option of ssh.
    if host.starts_with('-') || url.username().starts_with('-') || url.password().is_some() {
        return Err(fault());
    }
    Ok(EngineEndpoint::Ssh {
        user: Some(url.username().to_owned()).filter(|user| !user.is_empty()),
        host: host.to_owned(),
        port: url.port(),
        socket: Some(url.path().to_owned()).filter(|path| path.len() > 1),
    })
}

/// `currentContext` of Docker's configuration.
fn current_context(folder: Option<&Path>) -> Option<String> {
    let config: Value = serde_json::from_slice(&std::fs::read(folder?.join("config.json")).ok()?).ok()?;
    config.get("currentContext")?.as_str().map(str::to_owned)
}

/// The engine that a Docker context stands for, with the certificates that are kept for it.
fn context_endpoint(folder: Option<&Path>, name: &str) -> Result<EngineEndpoint, String> {
    if name == "default" {
        return Ok(EngineEndpoint::Unix("/var/run/docker.sock".into()));
    }
    let missing = || format!("no such Docker context: {name}");
    let (contexts, hex) = (folder.ok_or_else(missing)?.join("contexts"), Digest::of(name.as_bytes()).hex());
    let path = contexts.join("meta").join(&hex).join("meta.json");
    let text = std::fs::read(&path).map_err(|_| missing())?;
    let meta: Value = serde_json::from_slice(&text).map_err(|e| format!("`{}`: {e}", path.display()))?;
    let endpoint = meta.pointer("/Endpoints/docker").unwrap_or(&Value::Null);
    let host = endpoint.get("Host").and_then(Value::as_str);
    let host = host.ok_or_else(|| format!("`{}` names no address", path.display()))?;
    let verify = endpoint.get("SkipTLSVerify").and_then(Value::as_bool) != Some(true);
    let folder = contexts.join("tls").join(&hex).join("docker");
    parse(host, folder.is_dir().then_some(EngineTls { folder, verify }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "the sandbox is not reachable from here")]
    fn program(name: &std::ffi::OsStr) -> std::process::Command {
        std::process::Command::new(name)
    }

    #[test]
    fn addresses_come_from_what_the_user_set() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut options = ClientOptions::new(program);
        options.docker_config = Some(folder.path().to_owned());
        let of = |options: &ClientOptions, context| endpoints(options, context).map(|it| it[0].to_string());
        assert_eq!(of(&options, None).expect("usual"), "unix:///var/run/docker.sock");
        let hex = Digest::of(b"remote").hex();
        let meta = folder.path().join("contexts/meta").join(&hex);
        std::fs::create_dir_all(&meta).expect("writable");
        std::fs::write(meta.join("meta.json"), r#"{"Endpoints":{"docker":{"Host":"tcp://h:1"}}}"#).expect("writable");
        std::fs::write(folder.path().join("config.json"), r#"{"currentContext":"remote"}"#).expect("writable");
        assert_eq!(of(&options, None).expect("current"), "http://h:1");
        std::fs::create_dir_all(folder.path().join("contexts/tls").join(&hex).join("docker")).expect("writable");
        assert_eq!(of(&options, None).expect("current, with certificates"), "https://h:1");
        options.env = vec![("DOCKER_HOST".into(), "tcp://h:2".into()), ("DOCKER_TLS_VERIFY".into(), "1".into())];
        assert_eq!(of(&options, None).expect("by TLS"), "https://h:2");
        options.env = vec![("DOCKER_HOST".into(), "ssh://me@h:22/run/podman.sock".into())];
        assert_eq!(of(&options, None).expect("by ssh"), "`docker load` at ssh://h");
        for bad in ["ssh://-oProxyCommand=x", "ssh://", "ssh://me:secret@h"] {
            options.env = vec![("DOCKER_HOST".into(), bad.into())];
            assert!(of(&options, None).is_err(), "{bad}");
        }
        options.env = vec![("DOCKER_HOST".into(), "unix:///x.sock".into())];
        assert_eq!(of(&options, None).expect("variable"), "unix:///x.sock");
        assert_eq!(of(&options, Some("remote")).expect("named"), "https://h:1");
        assert!(of(&options, Some("nope")).expect_err("unknown").contains("nope"));
        options.env = vec![("CONTAINERD_ADDRESS".into(), "unix:///x/c.sock".into())];
        assert_eq!(of(&options, None).expect("a context comes first"), "https://h:1");
        std::fs::write(folder.path().join("config.json"), "{}").expect("writable");
        assert_eq!(of(&options, None).expect("containerd"), "containerd at /x/c.sock, namespace default");
        options.env = vec![("DOCKER_HOST".into(), "gopher://x".into())];
        assert!(of(&options, None).is_err());
    }
}
