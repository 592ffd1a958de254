//! `registries.conf` of podman, skopeo and their like
//! (<https://github.com/containers/image/blob/main/docs/containers-registries.conf.5.md>), version 2.
//!
//! Entries for whole registries are used. An entry for a namespace or with a wildcard, `mirror-by-digest-only` and search
//! registries have no effect; the first two are told.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{HostSettings, LoadedSettings, MirrorSettings, RegistryAddress, read};

#[derive(Default, Deserialize)]
struct ContainersFile {
    #[serde(default)]
    registry: Vec<ContainersRegistry>,
}

#[derive(Deserialize)]
struct ContainersRegistry {
    prefix: Option<String>,
    location: Option<String>,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
    #[serde(default)]
    mirror: Vec<ContainersMirror>,
}

#[derive(Deserialize)]
struct ContainersMirror {
    location: String,
    #[serde(default)]
    insecure: bool,
}

/// Reads the first of `files` that exists, then the `*.conf` of all `folders`; an entry for the same prefix in a later one
/// replaces the earlier.
pub(super) fn load(files: &[PathBuf], folders: &[PathBuf], loaded: &mut LoadedSettings) -> Result<(), String> {
    let mut entries: BTreeMap<String, ContainersRegistry> = BTreeMap::new();
    for file in files {
        if let Some(found) = read::<ContainersFile>(file)? {
            add(found, &mut entries);
            break;
        }
    }
    for path in folders.iter().flat_map(|folder| dropped_in(folder)) {
        add(read::<ContainersFile>(&path)?.unwrap_or_default(), &mut entries);
    }
    for (prefix, entry) in entries {
        if prefix.contains('/') || prefix.starts_with('*') {
            let why = "only entries for a whole registry are used";
            loaded.ignored.push(format!("an entry of registries.conf has no effect, {why}: {prefix}"));
            continue;
        }
        let settings = settings(&prefix, entry);
        loaded.hosts.insert(prefix, settings);
    }
    Ok(())
}

fn add(file: ContainersFile, entries: &mut BTreeMap<String, ContainersRegistry>) {
    for entry in file.registry {
        if let Some(prefix) = entry.prefix.clone().or_else(|| entry.location.clone()) {
            entries.insert(prefix, entry);
        }
    }
}

/// The files of a folder, in the order of their names.
fn dropped_in(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "conf"));
    paths.sort();
    paths
}

fn settings(prefix: &str, entry: ContainersRegistry) -> HostSettings {
    let mirror = |mirror: ContainersMirror| MirrorSettings {
        address: RegistryAddress::parse(&mirror.location),
        settings: HostSettings { insecure: mirror.insecure, ..HostSettings::default() },
    };
    HostSettings {
        insecure: entry.insecure,
        blocked: entry.blocked,
        mirrors: entry.mirror.into_iter().map(mirror).collect(),
        location: entry.location.filter(|location| location != prefix).map(|text| RegistryAddress::parse(&text)),
        ..HostSettings::default()
    }
}
