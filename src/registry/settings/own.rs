//! `registries.toml`, the file of `bake` itself (docs/registries.md). A key that it does not have is an error.

use std::{collections::BTreeMap, path::Path};

use serde::Deserialize;

use super::{ClientCertificate, HostSettings, MirrorSettings, RegistryAddress, beside, read};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OwnFile {
    #[serde(default)]
    registry: BTreeMap<String, OwnRegistry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct OwnRegistry {
    http: Option<bool>,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    ca: Vec<String>,
    client_certificate: Option<String>,
    client_key: Option<String>,
    #[serde(default)]
    mirrors: Vec<String>,
    location: Option<String>,
    #[serde(default)]
    blocked: bool,
}

/// Adds what the file says; it replaces what is there about the same host.
pub(super) fn load(path: &Path, must_exist: bool, hosts: &mut BTreeMap<String, HostSettings>) -> Result<(), String> {
    let Some(file) = read::<OwnFile>(path)? else {
        return if must_exist { Err(format!("no such file or directory: {}", path.display())) } else { Ok(()) };
    };
    for (host, registry) in file.registry {
        let client = match (registry.client_certificate, registry.client_key) {
            (Some(certificate), key) => {
                let key = beside(path, key.as_ref().unwrap_or(&certificate));
                Some(ClientCertificate { certificate: beside(path, &certificate), key })
            }
            (None, None) => None,
            (None, Some(_)) => {
                return Err(format!("`{}`: `{host}` has a client-key and no client-certificate", path.display()));
            }
        };
        let mirror =
            |text: &String| MirrorSettings { address: RegistryAddress::parse(text), settings: HostSettings::default() };
        let settings = HostSettings {
            http: registry.http,
            insecure: registry.insecure,
            ca: registry.ca.iter().map(|ca| beside(path, ca)).collect(),
            client,
            mirrors: registry.mirrors.iter().map(mirror).collect(),
            push: None,
            location: registry.location.as_deref().map(RegistryAddress::parse),
            blocked: registry.blocked,
        };
        hosts.insert(host, settings);
    }
    Ok(())
}
