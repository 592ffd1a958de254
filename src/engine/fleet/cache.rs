//! Shared caches of a job: `cache-from` and `cache-to` as the daemon takes them. Folders of this machine are served and written
//! through the session, under names that say nothing of their paths.

use std::{
    collections::{BTreeMap, HashMap},
    os::fd::OwnedFd,
    path::Path,
    sync::Arc,
};

use serde_json::{Value, json};

use super::{job_spec::JobSpec, world::FleetWorld};
use crate::{
    buildkit::session::{ContentPlace, ReceivedBlobs},
    export, grant,
    report::Diagnostic,
    spec::{CacheImport, cache::CacheTarget, options::OptionTexts},
};

/// The shared caches of one job.
pub(super) struct JobCaches {
    from: Vec<(String, BTreeMap<String, String>)>,
    to: Vec<(String, HashMap<String, String>)>,
    /// Open folders by the name of their store in the session; whether they are written.
    folders: BTreeMap<String, (Arc<OwnedFd>, bool)>,
    /// Where the index of a written folder is made, under which tag, and what the user calls the folder.
    written: Vec<(Arc<OwnedFd>, String, String)>,
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
                // One that is not written yet is none.
                let Ok(folder) = grant::open_real_dir(&world.cwd.join(&local.src)) else { continue };
                let digest = local
                    .digest
                    .map(|it| it.to_string())
                    .or_else(|| Some(export::tagged(&folder, &local.tag)?.get("digest")?.as_str()?.to_owned()));
                let Some(digest) = digest else { continue };
                let name = caches.folder(Arc::new(folder), false);
                attrs = BTreeMap::from([("src".to_owned(), name), ("digest".to_owned(), digest)]);
            }
            if !caches.from.contains(&(kind.clone(), attrs.clone())) {
                caches.from.push((kind, attrs));
            }
        }
        for item in &of_build.to {
            // That one is part of each image; the others are written once.
            if !job.writes_caches && !matches!(item.value.to, CacheTarget::Inline) {
                continue;
            }
            let (kind, mut attrs) = split(item.texts(), world);
            if let CacheTarget::Registry(_, document) | CacheTarget::Local(_, document) = &item.value.to {
                // Daemons of different age have different defaults.
                attrs.insert("image-manifest".to_owned(), document.image_manifest.to_string());
                attrs.insert("oci-mediatypes".to_owned(), document.oci_mediatypes.to_string());
            }
            if let CacheTarget::Local(local, _) = &item.value.to {
                let folder = Arc::new(open_written(world, &local.dest)?);
                caches.written.push((folder.clone(), local.tag.clone(), local.dest.clone()));
                attrs.remove("tag");
                attrs.remove("reset");
                attrs.insert("dest".to_owned(), caches.folder(folder, true));
            }
            caches.to.push((kind, attrs.into_iter().collect()));
        }
        if of_build.is_inline && !caches.to.iter().any(|(kind, _)| kind == "inline") {
            caches.to.push(("inline".to_owned(), HashMap::new()));
        }
        Ok(caches)
    }

    fn folder(&mut self, folder: Arc<OwnedFd>, is_written: bool) -> String {
        let name = format!("cache-{}", self.folders.len());
        self.folders.insert(name.clone(), (folder, is_written));
        name
    }

    /// The folders as the session serves them.
    pub(super) fn places(&self) -> impl Iterator<Item = (String, ContentPlace)> {
        self.folders.iter().map(|(name, (folder, writable))| {
            let received = ReceivedBlobs::default();
            let place = ContentPlace::Layout { folder: folder.clone(), writable: *writable, received };
            (format!("local:{name}"), place)
        })
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
        for (folder, tag, shown) in &self.written {
            export::set_tag(folder, tag, descriptor.clone()).map_err(|error| {
                let message = format!("the index of a cache cannot be written: {shown}");
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

/// Opens the folder of a cache that is written, if it may be.
fn open_written(world: &FleetWorld, dest: &str) -> Result<OwnedFd, Box<Diagnostic>> {
    let fault = |why: String| {
        let message = format!("a cache cannot be written: {why}");
        Box::new(Diagnostic::error("bake::engine::cache_export", message))
    };
    let found = grant::resolve(Path::new(dest), &world.cwd).map_err(|error| fault(format!("`{dest}`: {error}")))?;
    let place = world.writable.write(found).map_err(|grant::Denied(path)| {
        let path = path.display();
        fault(format!("`{dest}` leads to `{path}`, where it may not write"))
            .help(format!("if that is right, allow it: --allow=fs.write={path}"))
    });
    let place = place.map_err(Box::new)?;
    place.make_dir(0o755).map_err(|error| fault(format!("`{dest}`: {error}")))
}
