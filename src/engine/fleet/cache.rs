//! Shared caches of a job: `cache-from` and `cache-to` as the daemon takes them. Folders of this machine are served and written
//! through the session, under names that say nothing of their paths.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
};

use serde_json::{Value, json};

use super::{job::JobSpec, world::FleetWorld};
use crate::{
    oci::media,
    report::Diagnostic,
    spec::{CacheImport, cache::CacheTarget, options::OptionTexts},
};

/// The annotation of an entry in the index of a layout that names it.
const REFERENCE: &str = "org.opencontainers.image.ref.name";

/// The shared caches of one job.
pub(super) struct JobCaches {
    from: Vec<(String, BTreeMap<String, String>)>,
    to: Vec<(String, HashMap<String, String>)>,
    /// Folders by the name of their store in the session; whether they are written.
    pub(super) folders: BTreeMap<String, (PathBuf, bool)>,
    /// Where the index of a written folder is made, and under which tag.
    written: Vec<(PathBuf, String)>,
}

impl JobCaches {
    /// The caches of a job.
    ///
    /// # Errors
    /// A folder cannot be made.
    pub(super) fn of(world: &FleetWorld, job: &JobSpec) -> Result<Self, Box<Diagnostic>> {
        let mut caches = Self { from: Vec::new(), to: Vec::new(), folders: BTreeMap::new(), written: Vec::new() };
        let Some(of_build) = world.caches.get(&job.builds[0]) else { return Ok(caches) };
        for item in &of_build.from {
            let (kind, mut attrs) = split(item.texts(), world);
            if let CacheImport::Local(local) = &item.value {
                let folder = world.cwd.join(&local.src);
                let digest = local.digest.map(|it| it.to_string()).or_else(|| entry(&folder, &local.tag));
                // As one that is not written yet.
                let Some(digest) = digest else { continue };
                let name = caches.folder(folder, false);
                attrs = BTreeMap::from([("src".to_owned(), name), ("digest".to_owned(), digest)]);
            }
            if !caches.from.contains(&(kind.clone(), attrs.clone())) {
                caches.from.push((kind, attrs));
            }
        }
        for item in of_build.to.iter().filter(|_| job.writes_caches) {
            let (kind, mut attrs) = split(item.texts(), world);
            if let CacheTarget::Local(local, _) = &item.value.to {
                let folder = world.cwd.join(&local.dest);
                std::fs::create_dir_all(&folder).map_err(|error| {
                    let message = format!("the folder of a cache cannot be made: {}", folder.display());
                    Box::new(Diagnostic::error("bake::engine::cache_export", message).cause(&error))
                })?;
                caches.written.push((folder.clone(), local.tag.clone()));
                attrs.remove("tag");
                attrs.remove("reset");
                attrs.insert("dest".to_owned(), caches.folder(folder, true));
            }
            caches.to.push((kind, attrs.into_iter().collect()));
        }
        Ok(caches)
    }

    fn folder(&mut self, path: PathBuf, is_written: bool) -> String {
        let name = format!("cache-{}", self.folders.len());
        self.folders.insert(name.clone(), (path, is_written));
        name
    }

    /// The caches that the daemon writes: type and options.
    pub(super) fn exports(&self) -> Vec<(String, HashMap<String, String>)> {
        self.to.clone()
    }

    /// The option of the frontend for caches that are read.
    pub(super) fn option(&self) -> Option<String> {
        let entry = |(kind, attrs): &(String, BTreeMap<String, String>)| json!({"Type": kind, "Attrs": attrs});
        (!self.from.is_empty()).then(|| Value::from(self.from.iter().map(entry).collect::<Vec<_>>()).to_string())
    }

    /// Writes the indexes of folders that the daemon has filled.
    ///
    /// # Errors
    /// One cannot be written.
    pub(super) fn finish(&self, answer: &HashMap<String, String>) -> Result<(), Box<Diagnostic>> {
        let Some(descriptor) = answer.get("cache.manifest").and_then(|text| serde_json::from_str::<Value>(text).ok())
        else {
            return Ok(());
        };
        for (folder, tag) in &self.written {
            write_index(folder, tag, &descriptor).map_err(|error| {
                let message = format!("the index of a cache cannot be written: {}", folder.display());
                Box::new(Diagnostic::error("bake::engine::cache_export", message).cause(&error))
            })?;
        }
        Ok(())
    }
}

/// The type and the options of a cache, with what the environment says about services.
fn split(texts: &OptionTexts, world: &FleetWorld) -> (String, BTreeMap<String, String>) {
    let mut attrs = texts.clone();
    let kind = attrs.remove("type").unwrap_or_default();
    attrs.remove("ignore-error").filter(|it| it == "true").map(|it| attrs.insert("ignore-error".to_owned(), it));
    let mut from_env = |key: &str, variable: &str| {
        if let Some(value) = world.env.get(variable).filter(|value| !value.is_empty()) {
            attrs.entry(key.to_owned()).or_insert_with(|| value.clone());
        }
    };
    match kind.as_str() {
        "gha" => {
            from_env("token", "ACTIONS_RUNTIME_TOKEN");
            from_env("url", "ACTIONS_CACHE_URL");
            from_env("url_v2", "ACTIONS_RESULTS_URL");
        }
        "s3" => {
            from_env("access_key_id", "AWS_ACCESS_KEY_ID");
            from_env("secret_access_key", "AWS_SECRET_ACCESS_KEY");
            from_env("session_token", "AWS_SESSION_TOKEN");
        }
        _ => (),
    }
    (kind, attrs)
}

/// The digest of the entry with this tag in the index of a layout.
fn entry(folder: &std::path::Path, tag: &str) -> Option<String> {
    let index: Value = serde_json::from_slice(&std::fs::read(folder.join("index.json")).ok()?).ok()?;
    let entries = index.get("manifests")?.as_array()?;
    let tagged = entries.iter().find(|entry| entry["annotations"][REFERENCE].as_str() == Some(tag));
    tagged.or(entries.first().filter(|_| entries.len() == 1))?["digest"].as_str().map(str::to_owned)
}

/// Puts an entry into the index of a layout, in place of the one with the same tag.
fn write_index(folder: &std::path::Path, tag: &str, descriptor: &Value) -> std::io::Result<()> {
    let path = folder.join("index.json");
    let there: Option<Value> = std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let others = there.and_then(|it| it.get("manifests")?.as_array().cloned()).unwrap_or_default();
    let mut entries: Vec<Value> =
        others.into_iter().filter(|entry| entry["annotations"][REFERENCE].as_str() != Some(tag)).collect();
    let mut mine = descriptor.clone();
    mine["annotations"][REFERENCE] = tag.into();
    entries.push(mine);
    let index = json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": entries});
    std::fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    let aside = folder.join(format!(".index.json.{}", std::process::id()));
    std::fs::write(&aside, index.to_string())?;
    std::fs::rename(aside, path)
}
