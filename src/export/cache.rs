//! Where a shared cache is, with its folder resolved.

use std::path::{Path, PathBuf};

use super::options::absolute;
use crate::{
    oci::{Digest, Reference},
    spec::cache::{CacheDocument, CacheImport, CacheTarget},
};

/// Where a cache is written, and how.
#[derive(Clone, Debug)]
pub(crate) struct CacheTo {
    pub(super) place: CacheDest,
    pub(super) document: CacheDocument,
}

/// Where a cache is read.
#[derive(Clone, Debug)]
pub(crate) struct CacheFrom {
    pub(super) place: CacheDest,
}

/// A registry or a layout folder.
#[derive(Clone, Debug)]
pub(super) enum CacheDest {
    Registry { reference: Reference, insecure: bool },
    Local { folder: PathBuf, tag: String, digest: Option<Digest> },
}

impl CacheTo {
    /// A cache to write by itself; `None` for one that goes into the image, or of a type that this engine lacks.
    pub(crate) fn of(target: &CacheTarget, cwd: &Path) -> Option<Self> {
        let (place, document) = match target {
            CacheTarget::Registry(registry, document) => {
                let (reference, insecure) = (registry.reference.clone(), registry.insecure);
                (CacheDest::Registry { reference, insecure }, document)
            }
            CacheTarget::Local(local, document) => {
                let folder = absolute(cwd, &local.dest);
                (CacheDest::Local { folder, tag: local.tag.clone(), digest: None }, document)
            }
            CacheTarget::Inline | CacheTarget::Remote(_) | CacheTarget::Unknown => return None,
        };
        Some(Self { place, document: document.clone() })
    }
}

impl CacheFrom {
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
