//! Shared caches as the user asks for them: the options of `cache-to` and `cache-from`.
//!
//! ImageBytes is in `write`, reading in `import`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::options::{Codec, absolute, codec_named};
use crate::oci::{Digest, Reference};

/// Where a cache is written, and how.
#[derive(Clone, Debug)]
pub(crate) struct CacheTo {
    pub(super) place: CacheDest,
    /// All steps, not only those of the result.
    pub(crate) max: bool,
    pub(crate) ignore_error: bool,
    /// As an image manifest, not as an index.
    pub(super) manifest: bool,
    pub(super) docker_types: bool,
    pub(super) codec: Codec,
    pub(super) level: Option<i32>,
    pub(super) force: bool,
}

/// Where a cache is read.
#[derive(Clone, Debug)]
pub(crate) struct CacheFrom {
    pub(super) place: CacheDest,
}

#[derive(Clone, Debug)]
pub(super) enum CacheDest {
    Registry {
        reference: Reference,
        insecure: bool,
    },
    Local {
        folder: PathBuf,
        tag: String,
        digest: Option<Digest>,
    },
    /// In the config of the image that the target exports.
    Inline,
}

/// Reads the options of a `cache-to`. `None`: a kind that this engine does not write.
///
/// # Errors
/// The text names the option.
pub(crate) fn cache_to(kind: &str, attrs: &BTreeMap<String, String>, cwd: &Path) -> Result<Option<CacheTo>, String> {
    let Some(place) = place(kind, attrs, cwd, "dest")? else { return Ok(None) };
    let flag = |key: &str, default: bool| flag(attrs, key, default);
    let oci_types = flag("oci-mediatypes", true)?;
    let manifest = flag("image-manifest", oci_types)?;
    if manifest && !oci_types {
        return Err("image-manifest=true conflicts with oci-mediatypes=false".to_owned());
    }
    let codec = match attrs.get("compression") {
        None => Codec::Gzip,
        Some(name) => codec_named(name).ok_or_else(|| format!("unsupported compression type: {name}"))?,
    };
    let level = match attrs.get("compression-level").filter(|it| !it.is_empty()) {
        None => None,
        Some(text) => Some(text.parse().map_err(|_| format!("compression-level is not a whole number: {text}"))?),
    };
    let max = match attrs.get("mode").map(String::as_str) {
        None | Some("" | "min") => false,
        Some("max") => true,
        Some(other) => return Err(format!("`mode` is neither min nor max: {other}")),
    };
    let (ignore_error, force) = (flag("ignore-error", false)?, flag("force-compression", false)?);
    Ok(Some(CacheTo { place, max, ignore_error, manifest, docker_types: !oci_types, codec, level, force }))
}

/// Reads the options of a `cache-from`. `None`: a kind that this engine does not read.
///
/// # Errors
/// The text names the option.
pub(crate) fn cache_from(
    kind: &str,
    attrs: &BTreeMap<String, String>,
    cwd: &Path,
) -> Result<Option<CacheFrom>, String> {
    Ok(place(kind, attrs, cwd, "src")?.map(|place| CacheFrom { place }))
}

fn place(kind: &str, attrs: &BTreeMap<String, String>, cwd: &Path, folder: &str) -> Result<Option<CacheDest>, String> {
    let given = |key: &str| attrs.get(key).filter(|it| !it.is_empty());
    Ok(Some(match kind {
        "registry" => {
            let text = given("ref").ok_or("a cache of type `registry` wants a `ref`")?;
            let reference = Reference::parse(text).map_err(|e| e.to_string())?;
            CacheDest::Registry { reference, insecure: flag(attrs, "registry.insecure", false)? }
        }
        "local" => {
            let path = given(folder).ok_or_else(|| format!("a cache of type `local` wants a `{folder}`"))?;
            let tag = given("tag").map_or("latest", String::as_str).to_owned();
            let digest = match given("digest") {
                Some(text) => Some(text.parse().map_err(|_| format!("`digest` is not a sha256 digest: {text}"))?),
                None => None,
            };
            CacheDest::Local { folder: absolute(cwd, path), tag, digest }
        }
        "inline" => CacheDest::Inline,
        _ => return Ok(None),
    }))
}

fn flag(attrs: &BTreeMap<String, String>, key: &str, default: bool) -> Result<bool, String> {
    match attrs.get(key).map(String::as_str) {
        None => Ok(default),
        Some("" | "1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some(other) => Err(format!("`{key}` is neither true nor false: {other}")),
    }
}

impl CacheTo {
    /// Whether it goes into the exported image.
    pub(crate) const fn is_inline(&self) -> bool {
        matches!(self.place, CacheDest::Inline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attrs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn missing_and_bad_options_are_named() {
        let to = |kind: &str, pairs: &[(&str, &str)]| cache_to(kind, &attrs(pairs), Path::new("/w"));
        assert!(to("local", &[]).expect_err("bad").contains("dest"));
        assert!(to("registry", &[]).expect_err("bad").contains("ref"));
        assert!(to("local", &[("dest", "c"), ("mode", "medium")]).expect_err("bad").contains("medium"));
        assert!(to("gha", &[]).expect("another's").is_none());
        assert!(to("inline", &[]).expect("good").expect("known").is_inline());
        let clash = [("dest", "c"), ("image-manifest", "true"), ("oci-mediatypes", "false")];
        assert!(to("local", &clash).expect_err("bad").contains("image-manifest"));
    }
}
