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
    oci::{Digest, Reference},
    registry::Client,
    spec::cache::{CacheDocument, CacheImport, CacheTarget},
};

/// Where a shared cache is written, and how its layers are packed.
#[derive(Clone, Debug)]
pub(crate) struct CacheTo {
    pub(super) place: CacheDest,
    pub(super) document: CacheDocument,
    /// `reset=true` of a folder.
    pub(super) emptying: Option<CacheEmptying>,
}

/// That a folder is to be emptied of what earlier runs wrote: by whoever writes there first in this run. Clones are one.
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

/// The place of a shared cache: a repository of a registry or an OCI layout folder.
#[derive(Clone, Debug)]
pub(super) enum CacheDest {
    Registry { reference: Reference, insecure: bool },
    Local { folder: PathBuf, tag: String, digest: Option<Digest> },
}

impl CacheTo {
    /// A cache to write by itself; `None` for one that goes into the image, or of a type that this engine lacks.
    pub(crate) fn of(target: &CacheTarget, cwd: &Path) -> Option<Self> {
        let mut emptying = None;
        let (place, document) = match target {
            CacheTarget::Registry(registry, document) => {
                let (reference, insecure) = (registry.reference.clone(), registry.insecure);
                (CacheDest::Registry { reference, insecure }, document)
            }
            CacheTarget::Local(local, document) => {
                let folder = absolute(cwd, &local.dest);
                emptying = local.reset.then(CacheEmptying::default);
                (CacheDest::Local { folder, tag: local.tag.clone(), digest: None }, document)
            }
            CacheTarget::Inline | CacheTarget::Remote(_) | CacheTarget::Unknown => return None,
        };
        Some(Self { place, document: document.clone(), emptying })
    }

    /// Makes all that write to one folder and tag empty it together, once: those that do not ask for it would else write
    /// before one that does, and lose what they wrote.
    pub(crate) fn empty_once<'a>(all: impl Iterator<Item = &'a mut Self>) {
        let mut all: Vec<&mut Self> = all.collect();
        let mut folders: BTreeMap<(PathBuf, String), CacheEmptying> = BTreeMap::new();
        for to in &all {
            if let (CacheDest::Local { folder, tag, .. }, Some(emptying)) = (&to.place, &to.emptying) {
                folders.entry((folder.clone(), tag.clone())).or_insert_with(|| emptying.clone());
            }
        }
        for to in &mut all {
            if let CacheDest::Local { folder, tag, .. } = &to.place {
                to.emptying = folders.get(&(folder.clone(), tag.clone())).cloned();
            }
        }
    }
}

impl CacheFrom {
    /// Lets the client read the repository without checking certificates, or by plain HTTP, if `registry.insecure` says so.
    pub(crate) fn allow_insecure(&self, client: &Client) {
        if let CacheDest::Registry { reference, insecure: true } = &self.place {
            client.allow_insecure(&reference.domain, &reference.path);
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
            _ => false,
        }
    }

    /// What users call it.
    pub(crate) fn name(&self) -> String {
        match &self.place {
            CacheDest::Registry { reference, .. } => format!("`{reference}`"),
            CacheDest::Local { folder, .. } => format!("`{}`", folder.display()),
        }
    }

    /// A cache to read; `None` for one of a type that this engine lacks.
    pub(crate) fn of(import: &CacheImport, cwd: &Path) -> Option<Self> {
        let place = match import {
            CacheImport::Registry(registry) => {
                CacheDest::Registry { reference: registry.reference.clone(), insecure: registry.insecure }
            }
            CacheImport::Local(local) => {
                let folder = absolute(cwd, &local.src);
                CacheDest::Local { folder, tag: local.tag.clone(), digest: local.digest }
            }
            CacheImport::Inline | CacheImport::Remote(_) | CacheImport::Unknown => return None,
        };
        Some(Self { place })
    }
}
