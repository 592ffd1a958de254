//! `certs.d/HOST/hosts.toml` of containerd, Docker and BuildKit
//! (<https://github.com/containerd/containerd/blob/main/docs/hosts.md>).
//!
//! Hosts that may be pulled from are mirrors; the first that names the capability `push` is pushed to in place of the server.
//! A host without `capabilities`, which containerd would push to as well, is for reading alone. `header` has no effect.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use toml::Spanned;
use url::Url;

use super::{ClientCertificate, HostSettings, MirrorSettings, RegistryAddress, beside, read};

#[derive(Deserialize)]
struct HostsFile {
    server: Option<String>,
    /// Tried in the order of the file, which the places of the keys tell.
    #[serde(default)]
    host: BTreeMap<Spanned<String>, HostsEntry>,
    // The same keys as in an entry, about the server itself.
    ca: Option<OneOrMore>,
    client: Option<ClientFiles>,
    #[serde(default)]
    skip_verify: bool,
    #[serde(default)]
    override_path: bool,
}

#[derive(Deserialize)]
struct HostsEntry {
    capabilities: Option<Vec<String>>,
    ca: Option<OneOrMore>,
    client: Option<ClientFiles>,
    #[serde(default)]
    skip_verify: bool,
    #[serde(default)]
    override_path: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

/// A file with certificate and key, a list of such files, or a list of pairs; the first counts.
#[derive(Deserialize)]
#[serde(untagged)]
enum ClientFiles {
    One(String),
    Files(Vec<String>),
    Pairs(Vec<(String, String)>),
}

/// What the folder of a host says, or that of `_default`.
///
/// # Errors
/// Names the file and what is wrong with it.
pub(super) fn find(folders: &[PathBuf], host: &str) -> Result<Option<HostSettings>, String> {
    // A port is written in a way that every file system takes, as well.
    let escaped = host.rsplit_once(':').map(|(name, port)| format!("{name}_{port}_"));
    let names = [Some(host), escaped.as_deref(), Some("_default")];
    for name in names.into_iter().flatten() {
        for folder in folders {
            let path = folder.join(name).join("hosts.toml");
            if let Some(file) = read::<HostsFile>(&path)? {
                return settings(&path, file, host).map(Some);
            }
        }
    }
    Ok(None)
}

fn settings(path: &Path, file: HostsFile, host: &str) -> Result<HostSettings, String> {
    let HostsFile { server, host: hosts, ca, client, skip_verify, override_path } = file;
    let own = HostsEntry { capabilities: None, ca, client, skip_verify, override_path };
    let mut settings = entry_settings(path, &own);
    if let Some(server) = &server {
        let (is_plain, address) = address(path, server, override_path)?;
        settings.http = Some(is_plain);
        settings.location = Some(address).filter(|address| address.host != host || address.base != "/v2");
    }
    let mut hosts: Vec<_> = hosts.into_iter().collect();
    hosts.sort_by_key(|(url, _)| url.span().start);
    for (url, entry) in &hosts {
        let names =
            |wanted: &str| entry.capabilities.as_ref().map(|all| all.iter().any(|capability| capability == wanted));
        let (http, address) = address(path, url.get_ref(), entry.override_path)?;
        let settings_there = HostSettings { http: Some(http), ..entry_settings(path, entry) };
        let host = MirrorSettings { address, settings: settings_there };
        if names("push") == Some(true) && settings.push.is_none() {
            settings.push = Some(Box::new(host.clone()));
        }
        if names("pull") != Some(false) {
            settings.mirrors.push(host);
        }
    }
    Ok(settings)
}

fn entry_settings(path: &Path, entry: &HostsEntry) -> HostSettings {
    let ca = match &entry.ca {
        None => Vec::new(),
        Some(OneOrMore::One(file)) => vec![beside(path, file)],
        Some(OneOrMore::More(files)) => files.iter().map(|file| beside(path, file)).collect(),
    };
    let pair = match &entry.client {
        None => None,
        Some(ClientFiles::One(file)) => Some((file, file)),
        Some(ClientFiles::Files(files)) => files.first().map(|file| (file, file)),
        Some(ClientFiles::Pairs(pairs)) => pairs.first().map(|(certificate, key)| (certificate, key)),
    };
    let client = pair.map(|(certificate, key)| ClientCertificate {
        certificate: beside(path, certificate),
        key: if key.is_empty() { beside(path, certificate) } else { beside(path, key) },
    });
    HostSettings { insecure: entry.skip_verify, ca, client, ..HostSettings::default() }
}

/// Whether an address is one of plain HTTP, and where it is. Without a scheme it is HTTPS.
fn address(path: &Path, text: &str, override_path: bool) -> Result<(bool, RegistryAddress), String> {
    let full = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
    let fault =
        |why: &dyn std::fmt::Display| format!("`{}`: not the address of a registry ({why}): {text}", path.display());
    let url = Url::parse(&full).map_err(|error| fault(&error))?;
    let name = url.host_str().ok_or_else(|| fault(&"it has no host"))?;
    let host = url.port().map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"));
    let given = url.path().trim_end_matches('/');
    let base = if override_path { given.to_owned() } else { format!("{}/v2", given.trim_end_matches("/v2")) };
    Ok((url.scheme() == "http", RegistryAddress { host, base }))
}
