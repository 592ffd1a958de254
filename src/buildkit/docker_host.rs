//! Where a Docker daemon is: a named context, `DOCKER_HOST`, `DOCKER_CONTEXT`, or the current context of Docker's
//! configuration (<https://docs.docker.com/engine/manage-resources/contexts/>). Which other engines may be there is the
//! affair of who loads images into them.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::address::{SshPlace, TlsFiles};
use crate::oci::Digest;

/// The socket of a daemon that nobody named.
pub(crate) const USUAL_SOCKET: &str = "/var/run/docker.sock";

/// Where a Docker daemon listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DockerHost {
    Unix(PathBuf),
    Tcp {
        /// `HOST:PORT`, and a path if there is one.
        place: String,
        tls: Option<DockerTls>,
    },
    Ssh(SshPlace),
    /// A kind of address that only Docker's own programs reach.
    Foreign(String),
}

/// How a Docker daemon that speaks TLS is trusted: `ca.pem`, `cert.pem` and `key.pem` of a folder, as far as they exist
/// (<https://docs.docker.com/engine/security/protect-access/>).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DockerTls {
    pub(crate) folder: PathBuf,
    pub(crate) verify: bool,
}

impl DockerTls {
    /// The files that there are.
    pub(crate) fn files(&self) -> TlsFiles {
        let file = |name: &str| Some(self.folder.join(name)).filter(|path| path.is_file());
        let (cert, key) = (file("cert.pem"), file("key.pem"));
        let has_pair = cert.is_some() && key.is_some();
        TlsFiles {
            cacert: file("ca.pem"),
            cert: cert.filter(|_| has_pair),
            key: key.filter(|_| has_pair),
            servername: None,
            is_unverified: !self.verify,
        }
    }
}

/// What decides where a Docker daemon is.
pub(crate) struct DockerWorld<'a> {
    /// A variable of the environment; `None` if it is not set or empty.
    pub(crate) variable: &'a dyn Fn(&str) -> Option<String>,
    /// The folder of Docker's configuration.
    pub(crate) config: Option<&'a Path>,
}

impl DockerWorld<'_> {
    /// The daemon of a context, or at an address, or else the one that is chosen by the environment or Docker's configuration; `None` if
    /// nobody chose one.
    ///
    /// # Errors
    /// What is chosen is no address, or no context.
    pub(crate) fn host(&self, context: Option<&str>) -> Result<Option<DockerHost>, String> {
        if let Some(name) = context {
            // The files of builders name a daemon by its address as well.
            if name.contains("://") {
                return self.at(name).map(Some);
            }
            return self.of_context(name).map(Some);
        }
        if let Some(host) = (self.variable)("DOCKER_HOST") {
            return self.at(&host).map(Some);
        }
        match (self.variable)("DOCKER_CONTEXT").or_else(|| self.current()).filter(|name| name != "default") {
            Some(name) => self.of_context(&name).map(Some),
            None => Ok(None),
        }
    }

    /// The daemon at an address, with the certificates that the environment names.
    ///
    /// # Errors
    /// It is no address.
    pub(crate) fn at(&self, host: &str) -> Result<DockerHost, String> {
        let verify = (self.variable)("DOCKER_TLS_VERIFY").is_some();
        let folder = || (self.variable)("DOCKER_CERT_PATH").map(PathBuf::from).or(self.config.map(Path::to_owned));
        let wants_tls = verify || (self.variable)("DOCKER_TLS").is_some();
        let tls = wants_tls.then(folder).flatten().map(|folder| DockerTls { folder, verify });
        parse(host, tls)
    }

    /// The names of the contexts that there are, and `default`.
    pub(crate) fn names(&self) -> Vec<String> {
        let folder = self.config.map(|config| config.join("contexts/meta"));
        let entries = folder.and_then(|folder| std::fs::read_dir(folder).ok()).into_iter().flatten().flatten();
        let name = |entry: std::fs::DirEntry| {
            let meta: Value = serde_json::from_slice(&std::fs::read(entry.path().join("meta.json")).ok()?).ok()?;
            meta.get("Name")?.as_str().map(str::to_owned)
        };
        let mut names: Vec<String> = entries.filter_map(name).collect();
        names.push("default".to_owned());
        names.sort();
        names
    }

    /// The context that is chosen, `default` if none is.
    pub(crate) fn chosen(&self) -> String {
        let named = (self.variable)("DOCKER_CONTEXT").or_else(|| self.current());
        named.filter(|_| (self.variable)("DOCKER_HOST").is_none()).unwrap_or_else(|| "default".to_owned())
    }

    /// `currentContext` of Docker's configuration.
    fn current(&self) -> Option<String> {
        let config: Value = serde_json::from_slice(&std::fs::read(self.config?.join("config.json")).ok()?).ok()?;
        config.get("currentContext")?.as_str().filter(|name| !name.is_empty()).map(str::to_owned)
    }

    /// The daemon that a context stands for, with the certificates that are kept for it.
    fn of_context(&self, name: &str) -> Result<DockerHost, String> {
        if name == "default" {
            let host = (self.variable)("DOCKER_HOST");
            return host.map_or_else(|| Ok(DockerHost::Unix(USUAL_SOCKET.into())), |host| self.at(&host));
        }
        let missing = || format!("no such Docker context: {name}");
        let (contexts, hex) = (self.config.ok_or_else(missing)?.join("contexts"), Digest::of(name.as_bytes()).hex());
        let path = contexts.join("meta").join(&hex).join("meta.json");
        let text = std::fs::read(&path).map_err(|_| missing())?;
        let meta: Value = serde_json::from_slice(&text).map_err(|e| format!("`{}`: {e}", path.display()))?;
        let endpoint = meta.pointer("/Endpoints/docker").unwrap_or(&Value::Null);
        let host = endpoint.get("Host").and_then(Value::as_str);
        let host = host.ok_or_else(|| format!("`{}` names no address", path.display()))?;
        let verify = endpoint.get("SkipTLSVerify").and_then(Value::as_bool) != Some(true);
        let folder = contexts.join("tls").join(&hex).join("docker");
        parse(host, folder.is_dir().then_some(DockerTls { folder, verify }))
    }
}

fn parse(host: &str, tls: Option<DockerTls>) -> Result<DockerHost, String> {
    let fault = || format!("not the address of a Docker daemon: {host}");
    match host.split_once("://") {
        Some(("unix", path)) => Ok(DockerHost::Unix(path.into())),
        Some(("tcp" | "http", place)) => Ok(DockerHost::Tcp { place: place.to_owned(), tls }),
        Some(("ssh", _)) => Ok(DockerHost::Ssh(SshPlace::parse(host).map_err(|fault| fault.message)?)),
        Some(("https" | "npipe" | "fd", _)) => Ok(DockerHost::Foreign(host.to_owned())),
        _ => Err(fault()),
    }
}
