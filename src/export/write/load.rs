//! Images handed to a container engine of the machine: the API socket of Docker or podman, else their command line. An
//! engine that has the image already is sent nothing.
//!
//! Addresses follow Docker's rules: `DOCKER_HOST`, then `DOCKER_CONTEXT` or the current context, then the usual sockets.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use serde_json::Value;

use super::{
    archive::write_archive,
    dest::ExportDest,
    job::{ImageBytes, ImageJob, blocking},
};
use crate::{
    export::{assemble::AssembledImage, context::ExportReceipt},
    layer::view::at,
    oci::{Digest, Reference},
    report::Diagnostic,
};

/// Time for an engine to say what it has.
const ASK: Duration = Duration::from_secs(20);
/// Longest answer of an engine that is read, in bytes.
const LONGEST: usize = 4 << 20;

/// Where an engine may answer.
#[derive(Clone, Debug, PartialEq, Eq)]
enum EngineEndpoint {
    Unix(PathBuf),
    /// `http://host:port`.
    Web(String),
    /// A command line that loads a file, such as for `ssh://`.
    Command {
        program: &'static str,
        host: Option<String>,
    },
}

impl std::fmt::Display for EngineEndpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Web(url) => write!(f, "{url}"),
            Self::Command { program, host: None } => write!(f, "`{program} load`"),
            Self::Command { program, host: Some(host) } => write!(f, "`{program} load` at {host}"),
        }
    }
}

/// Loads an image into the first engine that answers.
pub(super) async fn load(
    job: &ImageJob<'_>,
    image: AssembledImage,
    context: Option<&str>,
) -> Result<ExportReceipt, Diagnostic> {
    let options = job.context.client.options();
    let endpoints = endpoints(options, context).map_err(|why| job.fault("bake::export::load", why))?;
    let done = job.receipt(&image);
    let ids: Vec<Digest> = image.single.iter().map(|it| it.0).chain([image.root.digest]).collect();
    let names: Vec<Reference> = job.plan.names.clone();
    let several = image.single.is_none();
    let mut tried: Vec<String> = Vec::new();
    let mut made: Option<tempfile::TempPath> = None;
    let mut image = Some(image);
    for endpoint in &endpoints {
        if let Some(api) = EngineApi::of(endpoint)
            && let Err(why) = api.ping().await
        {
            tried.push(format!("{endpoint}: {why}"));
            continue;
        }
        if let Some(api) = EngineApi::of(endpoint) {
            if several && !api.stores_indexes().await {
                let why = "this engine holds images of one platform only; \
                           use type=oci, or the containerd image store of Docker";
                return Err(job.fault("bake::export::docker_single", format_args!("{endpoint}: {why}")));
            }
            if api.has(&names, &ids).await {
                job.wrote(&format!("{endpoint}"), 0, true);
                return Ok(done);
            }
        }
        let path = match &made {
            Some(path) => path.to_path_buf(),
            None => {
                let image = image.take().expect("it is written once");
                let path = archive(job, image).await?;
                let shown = path.to_path_buf();
                made = Some(path);
                shown
            }
        };
        let loaded = match EngineApi::of(endpoint) {
            Some(api) => api.load(&path).await,
            None => command(options, endpoint, &path).await,
        };
        match loaded {
            Ok(()) => {
                let bytes = std::fs::metadata(&path).map_or(0, |meta| meta.len());
                job.wrote(&format!("{endpoint}"), bytes, false);
                return Ok(done);
            }
            Err(why) => tried.push(format!("{endpoint}: {why}")),
        }
    }
    let text = format!("no container engine took the image; tried {}", tried.join("; "));
    let help = "start Docker or podman, set DOCKER_HOST, or write an archive with dest=FILE";
    Err(job.fault("bake::export::load", text).help(help))
}

/// Writes the archive into the store's temporary folder.
async fn archive(job: &ImageJob<'_>, image: AssembledImage) -> Result<tempfile::TempPath, Diagnostic> {
    job.fetch(&image.blobs).await?;
    let docker = image.single.is_some();
    let writing = ImageBytes::new(job, image, docker);
    let store = job.context.store.clone();
    let moved = job.moved("archive for the container engine");
    let written = blocking(move || {
        let folder = store.tmp_dir().map_err(std::io::Error::other)?;
        let dir = at::host_dir(&folder)?;
        let path = tempfile::Builder::new().prefix("load-").suffix(".tar").tempfile_in(folder)?.into_temp_path();
        let mut place = ExportDest::open_at(dir, path.file_name().unwrap_or_default())?;
        write_archive(&writing, &store, &mut place, &*moved)?;
        place.finish()?;
        Ok(path)
    });
    written.await.map_err(|e| job.fault("bake::export::write", format_args!("cannot write the archive: {e}")))
}

/// Where to look, in order: what the user names, else what usually is there.
fn endpoints(options: &crate::registry::ClientOptions, context: Option<&str>) -> Result<Vec<EngineEndpoint>, String> {
    let variable = |name: &str| {
        let found = options.env.iter().find(|(key, _)| key == name).map(|(_, value)| value.to_string_lossy());
        found.filter(|it| !it.is_empty()).map(|it| it.into_owned())
    };
    let folder = options.docker_config.as_deref();
    if let Some(name) = context {
        return context_host(folder, name).and_then(|host| parse(&host)).map(|it| vec![it]);
    }
    if let Some(host) = variable("DOCKER_HOST") {
        return parse(&host).map(|it| vec![it]);
    }
    if let Some(name) = variable("DOCKER_CONTEXT").or_else(|| current_context(folder)).filter(|it| it != "default") {
        return context_host(folder, &name).and_then(|host| parse(&host)).map(|it| vec![it]);
    }
    let mut all = vec![EngineEndpoint::Unix("/var/run/docker.sock".into())];
    if let Some(runtime) = variable("XDG_RUNTIME_DIR") {
        all.push(EngineEndpoint::Unix(Path::new(&runtime).join("docker.sock")));
        all.push(EngineEndpoint::Unix(Path::new(&runtime).join("podman/podman.sock")));
    }
    all.push(EngineEndpoint::Unix("/run/podman/podman.sock".into()));
    all.push(EngineEndpoint::Command { program: "docker", host: None });
    all.push(EngineEndpoint::Command { program: "podman", host: None });
    Ok(all)
}

fn parse(host: &str) -> Result<EngineEndpoint, String> {
    match host.split_once("://") {
        Some(("unix", path)) => Ok(EngineEndpoint::Unix(path.into())),
        Some(("tcp" | "http", rest)) => Ok(EngineEndpoint::Web(format!("http://{rest}"))),
        Some(("ssh" | "https" | "npipe" | "fd", _)) => {
            Ok(EngineEndpoint::Command { program: "docker", host: Some(host.to_owned()) })
        }
        _ => Err(format!("not the address of a container engine: {host}")),
    }
}

/// `currentContext` of Docker's configuration.
fn current_context(folder: Option<&Path>) -> Option<String> {
    let config: Value = serde_json::from_slice(&std::fs::read(folder?.join("config.json")).ok()?).ok()?;
    config.get("currentContext")?.as_str().map(str::to_owned)
}

/// The address that a Docker context stands for.
fn context_host(folder: Option<&Path>, name: &str) -> Result<String, String> {
    if name == "default" {
        return Ok("unix:///var/run/docker.sock".to_owned());
    }
    let missing = || format!("no such Docker context: {name}");
    let hex = Digest::of(name.as_bytes()).hex();
    let path = folder.ok_or_else(missing)?.join("contexts/meta").join(hex).join("meta.json");
    let text = std::fs::read(&path).map_err(|_| missing())?;
    let meta: Value = serde_json::from_slice(&text).map_err(|e| format!("`{}`: {e}", path.display()))?;
    let host = meta.pointer("/Endpoints/docker/Host").and_then(Value::as_str);
    host.map(str::to_owned).ok_or_else(|| format!("`{}` names no address", path.display()))
}

/// The HTTP interface of an engine.
struct EngineApi {
    http: reqwest::Client,
    base: String,
}

impl EngineApi {
    fn of(endpoint: &EngineEndpoint) -> Option<Self> {
        let builder = reqwest::Client::builder().no_proxy().tls_danger_accept_invalid_certs(true).http1_only();
        let (builder, base) = match endpoint {
            EngineEndpoint::Unix(path) => (builder.unix_socket(path.clone()), "http://engine".to_owned()),
            EngineEndpoint::Web(url) => (builder, url.trim_end_matches('/').to_owned()),
            EngineEndpoint::Command { .. } => return None,
        };
        // Err means that another caller was first.
        rustls::crypto::ring::default_provider().install_default().ok();
        Some(Self { http: builder.build().ok()?, base })
    }

    async fn ping(&self) -> Result<(), String> {
        let answer = self.http.get(format!("{}/_ping", self.base)).timeout(ASK).send().await;
        match answer {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => Err(format!("it answered {}", answer.status().as_u16())),
            Err(error) => Err(words(&error)),
        }
    }

    /// Whether the engine keeps images of several platforms: Docker with the containerd image store.
    async fn stores_indexes(&self) -> bool {
        let info = self.json("/info").await;
        let status = info.as_ref().and_then(|it| it.get("DriverStatus")).map(Value::to_string).unwrap_or_default();
        status.contains("io.containerd.snapshotter")
    }

    /// Whether every name stands for this image already.
    async fn has(&self, names: &[Reference], ids: &[Digest]) -> bool {
        for name in names {
            let found = self.json(&format!("/images/{}/json", name.familiar())).await;
            let id = found.as_ref().and_then(|it| it.get("Id")).and_then(Value::as_str).unwrap_or_default();
            if !ids.iter().any(|it| it.to_string() == id || it.hex() == id) {
                return false;
            }
        }
        !names.is_empty()
    }

    async fn json(&self, path: &str) -> Option<Value> {
        let answer = self.http.get(format!("{}{path}", self.base)).timeout(ASK).send().await.ok()?;
        if !answer.status().is_success() {
            return None;
        }
        serde_json::from_slice(&bounded(answer).await.ok()?).ok()
    }

    async fn load(&self, path: &Path) -> Result<(), String> {
        let file = tokio::fs::File::open(path).await.map_err(|e| e.to_string())?;
        let size = file.metadata().await.map_err(|e| e.to_string())?.len();
        let request = self
            .http
            .post(format!("{}/images/load?quiet=1", self.base))
            .header("Content-Type", "application/x-tar")
            .header("Content-Length", size)
            .body(file);
        let answer = request.send().await.map_err(|e| words(&e))?;
        let status = answer.status();
        let body = bounded(answer).await?;
        // One JSON object per line; an error may come after a good status.
        let error = body.split(|it| *it == b'\n').find_map(|line| {
            let line: Value = serde_json::from_slice(line).ok()?;
            let error = line.get("error").or_else(|| line.get("message").filter(|_| !status.is_success()))?;
            error.as_str().map(clean)
        });
        match error {
            Some(error) => Err(error),
            None if status.is_success() => Ok(()),
            None => Err(format!("it answered {}", status.as_u16())),
        }
    }
}

async fn bounded(mut answer: reqwest::Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(piece) = answer.chunk().await.map_err(|e| words(&e))? {
        if body.len() + piece.len() > LONGEST {
            return Err("its answer does not end".to_owned());
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

fn words(error: &reqwest::Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(inner) = innermost.source() {
        innermost = inner;
    }
    clean(&innermost.to_string())
}

/// Foreign text without control characters.
fn clean(text: &str) -> String {
    text.trim().chars().take(500).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// `docker load -i FILE`.
async fn command(
    options: &crate::registry::ClientOptions,
    endpoint: &EngineEndpoint,
    path: &Path,
) -> Result<(), String> {
    let EngineEndpoint::Command { program, host } = endpoint else { return Ok(()) };
    let mut command = (options.command)(program.as_ref());
    command.args(["load", "-q", "-i"]).arg(path).envs(options.env.iter().map(|(key, value)| (key, value)));
    if let Some(host) = host {
        command.env("DOCKER_HOST", host);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let ran = tokio::task::spawn_blocking(move || command.output()).await.map_err(|e| e.to_string())?;
    match ran {
        Ok(out) if out.status.success() => Ok(()),
        Ok(out) => Err(clean(&String::from_utf8_lossy(&out.stderr))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err("not installed".to_owned()),
        Err(error) => Err(error.to_string()),
    }
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
        let mut options = crate::registry::ClientOptions::new(program);
        options.docker_config = Some(folder.path().to_owned());
        let of =
            |options: &crate::registry::ClientOptions, context| endpoints(options, context).map(|it| it[0].to_string());
        assert_eq!(of(&options, None).expect("usual"), "unix:///var/run/docker.sock");
        let meta = folder.path().join("contexts/meta").join(Digest::of(b"remote").hex());
        std::fs::create_dir_all(&meta).expect("writable");
        std::fs::write(meta.join("meta.json"), r#"{"Endpoints":{"docker":{"Host":"tcp://h:1"}}}"#).expect("writable");
        std::fs::write(folder.path().join("config.json"), r#"{"currentContext":"remote"}"#).expect("writable");
        assert_eq!(of(&options, None).expect("current"), "http://h:1");
        options.env = vec![("DOCKER_HOST".into(), "unix:///x.sock".into())];
        assert_eq!(of(&options, None).expect("variable"), "unix:///x.sock");
        assert_eq!(of(&options, Some("remote")).expect("named"), "http://h:1");
        assert!(of(&options, Some("nope")).expect_err("unknown").contains("nope"));
        options.env = vec![("DOCKER_HOST".into(), "gopher://x".into())];
        assert!(of(&options, None).is_err());
    }
}
