//! Where a shared cache is, with its folder resolved.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::options::absolute;
use crate::{
    objects::{ObjectCache, ObjectStores, Unavailable},
    oci::{Digest, Reference},
    registry::Client,
    spec::{
        cache::{CacheDocument, CacheImport, CacheTarget},
        compression::LayerCompression,
    },
};

/// Where a shared cache is written, and how its layers are packed.
#[derive(Clone, Debug)]
pub(crate) struct CacheTo {
    pub(super) place: CacheDest,
    /// Object stores have one form of document alone, which is that of images with the media types of OCI.
    pub(super) document: CacheDocument,
    /// `reset=true`.
    pub(super) emptying: Option<CacheEmptying>,
}

/// That a cache is to be emptied of what earlier runs wrote: by whoever writes there first in this run. Clones are one.
#[derive(Clone, Debug, Default)]
pub(crate) struct CacheEmptying {
    is_done: Arc<AtomicBool>,
}

impl CacheEmptying {
    /// Whether it is still to be done; from now on it is not.
    pub(super) fn take(&self) -> bool {
        !self.is_done.swap(true, Ordering::SeqCst)
    }
}

/// Where a shared cache is read.
#[derive(Clone, Debug)]
pub(crate) struct CacheFrom {
    pub(super) place: CacheDest,
}

/// The place of a shared cache: a repository of a registry, an OCI layout folder, or an object store.
#[derive(Clone, Debug)]
pub(super) enum CacheDest {
    Registry { reference: Reference, insecure: bool },
    Local { folder: PathBuf, tag: String, digest: Option<Digest> },
    Objects(ObjectCache),
}

impl CacheTo {
    /// A cache to write by itself.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn of(target: &CacheTarget, cwd: &Path, env: &BTreeMap<String, String>) -> Result<Self, NoCache> {
        let mut emptying = None;
        let (place, document) = match target {
            CacheTarget::Registry(registry, document) => {
                let (reference, insecure) = (registry.reference.clone(), registry.insecure);
                (CacheDest::Registry { reference, insecure }, document.clone())
            }
            CacheTarget::Local(local, document) => {
                let folder = absolute(cwd, &local.dest);
                emptying = local.reset.then(CacheEmptying::default);
                (CacheDest::Local { folder, tag: local.tag.clone(), digest: None }, document.clone())
            }
            CacheTarget::Remote(remote, write) => {
                let cache = ObjectCache::of(remote, env)?;
                if cache.written.is_empty() {
                    return Err(NoCache::Unusable("its token does not allow to write".to_owned()));
                }
                emptying = write.reset.then(CacheEmptying::default);
                (CacheDest::Objects(cache), object_document(write.compression))
            }
            CacheTarget::Inline => return Err(NoCache::InImage),
            CacheTarget::Unknown => return Err(NoCache::Unknown),
        };
        Ok(Self { place, document, emptying })
    }

    /// Makes all that write one cache empty it together, once: those that do not ask for it would else write before one
    /// that does, and lose what they wrote.
    pub(crate) fn empty_once<'a>(all: impl Iterator<Item = &'a mut Self>) {
        let mut all: Vec<&mut Self> = all.collect();
        let mut emptied: BTreeMap<(PathBuf, String), CacheEmptying> = BTreeMap::new();
        for to in &all {
            if let (Some(name), Some(emptying)) = (to.place.emptied_name(), &to.emptying) {
                emptied.entry(name).or_insert_with(|| emptying.clone());
            }
        }
        for to in &mut all {
            if let Some(name) = to.place.emptied_name() {
                to.emptying = emptied.get(&name).cloned();
            }
        }
    }
}

/// Why there is no cache to read or write.
#[derive(Debug)]
pub(crate) enum NoCache {
    /// It is in the image that the target exports.
    InImage,
    /// Its type is not known, which is a fault of the definition.
    Unknown,
    /// It is of a service that is not here: of jobs of GitHub Actions, outside of them.
    Elsewhere,
    /// The text says why.
    Unusable(String),
}

impl From<Unavailable> for NoCache {
    fn from(why: Unavailable) -> Self {
        match why {
            Unavailable::Elsewhere => Self::Elsewhere,
            Unavailable::Unusable(text) => Self::Unusable(text),
        }
    }
}

/// How layers of caches in object stores are named.
fn object_document(compression: LayerCompression) -> CacheDocument {
    CacheDocument { image_manifest: true, oci_mediatypes: true, compression }
}

impl CacheDest {
    /// What is emptied by `reset`.
    fn emptied_name(&self) -> Option<(PathBuf, String)> {
        match self {
            Self::Local { folder, tag, .. } => Some((folder.clone(), tag.clone())),
            Self::Objects(cache) => Some((cache.place.to_string().into(), cache.written.join(";"))),
            Self::Registry { .. } => None,
        }
    }
}

impl CacheFrom {
    /// Tells the clients how the layers of this cache are read: from a repository without checking certificates, or by plain
    /// HTTP, if `registry.insecure` says so; from an object store with the credentials of the cache.
    pub(crate) fn introduce(&self, client: &Client, objects: &ObjectStores) {
        match &self.place {
            CacheDest::Registry { reference, insecure: true } => {
                client.allow_insecure(&reference.domain, &reference.path);
            }
            CacheDest::Objects(cache) => objects.reads(cache),
            CacheDest::Registry { .. } | CacheDest::Local { .. } => (),
        }
    }

    /// Whether a cache is written where this one is read.
    pub(crate) fn is_at(&self, to: &CacheTo) -> bool {
        match (&self.place, &to.place) {
            (CacheDest::Registry { reference: from, .. }, CacheDest::Registry { reference: to, .. }) => {
                let name = |it: &Reference| (it.domain.clone(), it.path.clone(), it.tag_or_latest().map(str::to_owned));
                from.digest.is_none() && name(from) == name(to)
            }
            (CacheDest::Local { folder, tag, digest }, CacheDest::Local { folder: to, tag: of, .. }) => {
                digest.is_none() && (folder, tag) == (to, of)
            }
            (CacheDest::Objects(from), CacheDest::Objects(to)) => {
                from.place == to.place && from.read.iter().any(|name| to.written.contains(name))
            }
            _ => false,
        }
    }

    /// What users call it.
    pub(crate) fn name(&self) -> String {
        match &self.place {
            CacheDest::Registry { reference, .. } => format!("`{reference}`"),
            CacheDest::Local { folder, .. } => format!("`{}`", folder.display()),
            CacheDest::Objects(cache) => format!("`{}`", cache.place),
        }
    }

    /// A cache to read.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn of(import: &CacheImport, cwd: &Path, env: &BTreeMap<String, String>) -> Result<Self, NoCache> {
        let place = match import {
            CacheImport::Registry(registry) => {
                CacheDest::Registry { reference: registry.reference.clone(), insecure: registry.insecure }
            }
            CacheImport::Local(local) => {
                let folder = absolute(cwd, &local.src);
                CacheDest::Local { folder, tag: local.tag.clone(), digest: local.digest }
            }
            CacheImport::Remote(remote) => CacheDest::Objects(ObjectCache::of(remote, env)?),
            CacheImport::Inline => return Err(NoCache::InImage),
            CacheImport::Unknown => return Err(NoCache::Unknown),
        };
        Ok(Self { place })
    }
}
