//! Where container engines may answer: what the user named, else the usual sockets and programs.
//!
//! A Docker daemon that the user chose is found as `buildkit` finds it. containerd's are named as its
//! own tools have them: `CONTAINERD_ADDRESS`, `CONTAINERD_NAMESPACE`, `CONTAINERD_SNAPSHOTTER`.

use std::path::{Path, PathBuf};

use crate::{
    buildkit::{DockerHost, DockerTls, DockerWorld, SshPlace, USUAL_SOCKET},
    registry::ClientOptions,
};

/// Where an engine may answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum EngineEndpoint {
    Unix(PathBuf),
    /// `http://host:port`, or `https://host:port`.
    Web {
        url: String,
        tls: Option<DockerTls>,
    },
    /// The engine of another machine, whose `docker load` is run there.
    Ssh(SshPlace),
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

impl std::fmt::Display for EngineEndpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Web { url, .. } => write!(f, "{url}"),
            Self::Ssh(place) => write!(f, "`docker load` at ssh://{}", place.host),
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
    let docker = DockerWorld { variable: &variable, config: options.docker_config.as_deref() };
    if let Some(host) = docker.host(context)? {
        return Ok(vec![host.into()]);
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
    let mut all = vec![EngineEndpoint::Unix(USUAL_SOCKET.into())];
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

impl From<DockerHost> for EngineEndpoint {
    fn from(host: DockerHost) -> Self {
        match host {
            DockerHost::Unix(path) => Self::Unix(path),
            DockerHost::Tcp { place, tls } => {
                let scheme = if tls.is_some() { "https" } else { "http" };
                Self::Web { url: format!("{scheme}://{place}"), tls }
            }
            DockerHost::Ssh(place) => Self::Ssh(place),
            DockerHost::Foreign(host) => Self::Command { program: "docker", host: Some(host) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Digest;

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
