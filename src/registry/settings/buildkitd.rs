//! `buildkitd.toml`, the settings of BuildKit's daemon, of which only the tables of registries mean something here
//! (<https://docs.docker.com/build/buildkit/toml-configuration/>). All other keys are for a daemon and passed over.

use std::{collections::BTreeMap, path::PathBuf};

use serde::Deserialize;

use super::{ClientCertificate, HostSettings, MirrorSettings, RegistryAddress, beside, read};

#[derive(Deserialize)]
struct BuildkitdFile {
    #[serde(default)]
    registry: BTreeMap<String, BuildkitdRegistry>,
}

#[derive(Deserialize)]
struct BuildkitdRegistry {
    http: Option<bool>,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    ca: Vec<String>,
    #[serde(default)]
    keypair: Vec<BuildkitdKeyPair>,
    #[serde(default)]
    mirrors: Vec<String>,
}

#[derive(Deserialize)]
struct BuildkitdKeyPair {
    key: String,
    cert: String,
}

/// Adds what the first of the files that exists says about registries.
///
/// # Errors
/// Names the file and the line.
pub(super) fn load(paths: &[PathBuf], hosts: &mut BTreeMap<String, HostSettings>) -> Result<(), String> {
    for path in paths {
        let Some(file) = read::<BuildkitdFile>(path)? else { continue };
        for (host, registry) in file.registry {
            let client = registry
                .keypair
                .first()
                .map(|pair| ClientCertificate { certificate: beside(path, &pair.cert), key: beside(path, &pair.key) });
            let mirror = |text: &String| MirrorSettings {
                address: RegistryAddress::parse(text),
                settings: HostSettings::default(),
            };
            let settings = HostSettings {
                http: registry.http,
                insecure: registry.insecure,
                ca: registry.ca.iter().map(|ca| beside(path, ca)).collect(),
                client,
                mirrors: registry.mirrors.iter().map(mirror).collect(),
                ..HostSettings::default()
            };
            hosts.insert(host, settings);
        }
        return Ok(());
    }
    Ok(())
}
