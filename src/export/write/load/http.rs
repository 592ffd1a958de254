//! The HTTP interface of Docker and podman (<https://docs.docker.com/reference/api/engine/>): what is there, and loading an archive.

use std::{path::Path, time::Duration};

use serde_json::Value;

use crate::{
    buildkit::DockerTls,
    grant::read_file,
    oci::{Digest, Reference},
};

/// Time for an engine to say what it has.
const ASK: Duration = Duration::from_secs(20);
/// Longest file with certificates or a key that is read, in bytes.
const LONGEST_PEM: u64 = 1 << 20;
/// Longest answer of an engine that is read, in bytes.
const LONGEST: usize = 4 << 20;

/// The HTTP interface of an engine.
pub(super) struct EngineApi {
    http: reqwest::Client,
    base: String,
}

impl EngineApi {
    /// The interface behind a socket.
    ///
    /// # Errors
    /// The client cannot be made.
    pub(super) fn unix(socket: &Path) -> Result<Self, String> {
        Self::with(client().unix_socket(socket.to_owned()), "http://engine")
    }

    /// The interface at an address, with certificates where it has them.
    ///
    /// # Errors
    /// Certificates that cannot be used.
    pub(super) fn web(url: &str, tls: Option<&DockerTls>) -> Result<Self, String> {
        let builder = match tls {
            Some(tls) => trusting(tls, client())?,
            None => client(),
        };
        Self::with(builder, url.trim_end_matches('/'))
    }

    fn with(builder: reqwest::ClientBuilder, base: &str) -> Result<Self, String> {
        Ok(Self { http: builder.build().map_err(|error| words(&error))?, base: base.to_owned() })
    }

    /// Whether the engine answers.
    ///
    /// # Errors
    /// Why it does not.
    pub(super) async fn ping(&self) -> Result<(), String> {
        let answer = self.http.get(format!("{}/_ping", self.base)).timeout(ASK).send().await;
        match answer {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => Err(format!("it answered {}", answer.status().as_u16())),
            Err(error) => Err(words(&error)),
        }
    }

    /// Whether the engine keeps images of several platforms: Docker with the containerd image store.
    pub(super) async fn stores_indexes(&self) -> bool {
        let info = self.json("/info").await;
        let status = info.as_ref().and_then(|it| it.get("DriverStatus")).map(Value::to_string).unwrap_or_default();
        status.contains("io.containerd.snapshotter")
    }

    /// Whether every name stands for this image already.
    pub(super) async fn has(&self, names: &[Reference], ids: &[Digest]) -> bool {
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

    /// Loads an archive.
    ///
    /// # Errors
    /// What the engine says.
    pub(super) async fn load(&self, path: &Path) -> Result<(), String> {
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

/// A client that trusts what the files say.
fn trusting(tls: &DockerTls, mut builder: reqwest::ClientBuilder) -> Result<reqwest::ClientBuilder, String> {
    let file = |name: &str| match read_file(&tls.folder.join(name), LONGEST_PEM) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(fault) if fault.is_missing() => Ok(None),
        Err(fault) => Err(format!("`{}`: {fault}", tls.folder.join(name).display())),
    };
    let bad = |name: &str, error: &reqwest::Error| {
        format!("`{}` is not usable: {}", tls.folder.join(name).display(), words(error))
    };
    if !tls.verify {
        builder = builder.tls_danger_accept_invalid_certs(true);
    } else if let Some(ca) = file("ca.pem")? {
        let ca = reqwest::Certificate::from_pem_bundle(&ca).map_err(|error| bad("ca.pem", &error))?;
        builder = builder.tls_certs_only(ca);
    }
    if let (Some(mut pem), Some(key)) = (file("cert.pem")?, file("key.pem")?) {
        pem.push(b'\n');
        pem.extend(key);
        let identity = reqwest::Identity::from_pem(&pem).map_err(|error| bad("cert.pem", &error))?;
        builder = builder.identity(identity);
    }
    Ok(builder)
}

fn client() -> reqwest::ClientBuilder {
    // Err means that another caller was first.
    rustls::crypto::ring::default_provider().install_default().ok();
    reqwest::Client::builder().no_proxy().http1_only()
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
pub(super) fn clean(text: &str) -> String {
    text.trim().chars().take(500).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
