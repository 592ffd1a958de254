//! `cache-from` and `cache-to`: where a cache is read or written, and how. One variant a type.
//!
//! Caches in object stores have a file of their own, `remote_cache`. The options are those of <https://docs.docker.com/build/cache/backends/>.

use std::collections::BTreeMap;

use super::{
    compression::LayerCompression,
    csv,
    fault::OptionFault,
    options::{OptionItem, OptionReader, OptionTexts, from_csv, from_object, unknown_type},
    remote_cache::{RemoteCache, RemoteCacheWrite},
};
use crate::oci::{Digest, Reference};

/// A cache that is read.
#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "unkeyed"), derive(PartialEq, Eq))]
pub(crate) enum CacheImport {
    Registry(RegistryCache),
    Local(LocalCacheSource),
    /// In the image that the target exports.
    Inline,
    /// In an object store, or the cache service of GitHub Actions.
    Remote(RemoteCache),
    Unknown,
}

/// A cache that is written.
#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "unkeyed"), derive(PartialEq, Eq))]
pub(crate) struct CacheExport {
    pub(crate) to: CacheTarget,
    pub(crate) mode: CacheMode,
    /// A cache that cannot be written is a warning.
    pub(crate) ignore_error: bool,
}

/// Where a cache is written.
#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "unkeyed"), derive(PartialEq, Eq))]
pub(crate) enum CacheTarget {
    Registry(RegistryCache, CacheDocument),
    Local(LocalCacheDest, CacheDocument),
    /// In the image that the target exports.
    Inline,
    /// In an object store, or the cache service of GitHub Actions.
    Remote(RemoteCache, RemoteCacheWrite),
    Unknown,
}

/// Which steps go into a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CacheMode {
    /// Those whose layers the result has.
    Min,
    Max,
}

/// How the documents and layers of a cache are written.
#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "unkeyed"), derive(PartialEq, Eq))]
pub(crate) struct CacheDocument {
    /// As an image manifest, not as an index.
    pub(crate) image_manifest: bool,
    pub(crate) oci_mediatypes: bool,
    pub(crate) compression: LayerCompression,
}

/// `type=registry`.
#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "unkeyed"), derive(PartialEq, Eq))]
pub(crate) struct RegistryCache {
    pub(crate) reference: Reference,
    /// Certificates are not checked, plain HTTP is allowed.
    pub(crate) insecure: bool,
}

/// `type=local` to read.
#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "unkeyed"), derive(PartialEq, Eq))]
pub(crate) struct LocalCacheSource {
    /// A layout folder, relative to the working directory.
    pub(crate) src: String,
    pub(crate) tag: String,
    pub(crate) digest: Option<Digest>,
}

/// `type=local` to write.
#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "unkeyed"), derive(PartialEq, Eq))]
pub(crate) struct LocalCacheDest {
    /// A layout folder, relative to the working directory.
    pub(crate) dest: String,
    pub(crate) tag: String,
    /// What earlier runs wrote is dropped.
    pub(crate) reset: bool,
}

/// Options of `cache-to` of any type.
const EXPORT_ONLY: &[&str] = &[
    "mode",
    "ignore-error",
    "image-manifest",
    "oci-mediatypes",
    "compression",
    "compression-level",
    "force-compression",
];
/// Options of a local cache that is read.
const LOCAL_IMPORT_ONLY: &[&str] = &["src", "digest"];

pub(crate) const TYPES: &[&str] = &["registry", "local", "inline", "gha", "s3", "azblob", "gcs"];

impl OptionItem<CacheImport> {
    /// Parses `type=T,k=v…`, or plain references, each of which is a cache of its own.
    ///
    /// # Errors
    /// When `type` is missing or a field is not `key=value`.
    pub(crate) fn parse(text: &str) -> Result<Vec<Self>, OptionFault> {
        Ok(texts(text)?.into_iter().map(|texts| Self::read(texts, CacheImport::read)).collect())
    }

    /// Parses the object form.
    ///
    /// # Errors
    /// When `type` is missing.
    pub(crate) fn from_entries(entries: &BTreeMap<String, String>) -> Result<Self, OptionFault> {
        Ok(Self::read(checked(from_object(entries), "")?, CacheImport::read))
    }

    /// The same cache with its path in another folder, as `moved` says.
    pub(crate) fn with_path(&self, moved: impl FnOnce(&str) -> String) -> Self {
        match &self.value {
            CacheImport::Local(local) if !local.src.is_empty() => {
                self.reread(with(self.texts(), "src", moved(&local.src)), CacheImport::read)
            }
            _ => self.clone(),
        }
    }

    /// The type as written.
    pub(crate) fn type_name(&self) -> &str {
        self.texts().get("type").map_or("", String::as_str)
    }
}

impl OptionItem<CacheExport> {
    /// Parses `type=T,k=v…`, or plain references, each of which is a cache of its own.
    ///
    /// # Errors
    /// When `type` is missing or a field is not `key=value`.
    pub(crate) fn parse(text: &str) -> Result<Vec<Self>, OptionFault> {
        Ok(texts(text)?.into_iter().map(|texts| Self::read(texts, CacheExport::read)).collect())
    }

    /// Parses the object form.
    ///
    /// # Errors
    /// When `type` is missing.
    pub(crate) fn from_entries(entries: &BTreeMap<String, String>) -> Result<Self, OptionFault> {
        Ok(Self::read(checked(from_object(entries), "")?, CacheExport::read))
    }

    /// The inline cache that the build argument `BUILDKIT_INLINE_CACHE` asks for.
    pub(crate) fn inline() -> Self {
        Self::read(BTreeMap::from([("type".to_owned(), "inline".to_owned())]), CacheExport::read)
    }

    /// The same cache with its path in another folder, as `moved` says.
    pub(crate) fn with_path(&self, moved: impl FnOnce(&str) -> String) -> Self {
        match &self.value.to {
            CacheTarget::Local(local, _) if !local.dest.is_empty() => {
                self.reread(with(self.texts(), "dest", moved(&local.dest)), CacheExport::read)
            }
            _ => self.clone(),
        }
    }

    /// The type as written.
    pub(crate) fn type_name(&self) -> &str {
        self.texts().get("type").map_or("", String::as_str)
    }
}

#[cfg(test)]
impl CacheImport {
    /// The options of a cache of this type that is read.
    pub(crate) fn options(kind: &str) -> Vec<&'static str> {
        OptionItem::known(kind, Self::read)
    }
}

#[cfg(test)]
impl CacheExport {
    /// The options of a cache of this type that is written.
    pub(crate) fn options(kind: &str) -> Vec<&'static str> {
        OptionItem::known(kind, Self::read)
    }
}

fn with(texts: &OptionTexts, key: &str, value: String) -> OptionTexts {
    let mut texts = texts.clone();
    texts.insert(key.to_owned(), value);
    texts
}

/// Caches to read and caches to write.
type CachesOfBothSides = (Vec<OptionItem<CacheImport>>, Vec<OptionItem<CacheExport>>);

/// Parses a cache that is both read and written, as one variable of the environment gives it: each side takes the options
/// that it has, and the folder of a local cache may be called `src` or `dest`.
///
/// # Errors
/// When `type` is missing or a field is not `key=value`.
pub(crate) fn parse_both(text: &str) -> Result<CachesOfBothSides, OptionFault> {
    let side = |texts: &OptionTexts, folder: &str, dropped: &[&str]| {
        let mut texts = texts.clone();
        if texts.get("type").is_some_and(|kind| kind == "local") {
            let other = if folder == "src" { "dest" } else { "src" };
            if let Some(path) = texts.remove(other) {
                texts.entry(folder.to_owned()).or_insert(path);
            }
        }
        texts.retain(|key, _| !dropped.contains(&key.as_str()));
        texts
    };
    let all = texts(text)?;
    let read_alone: Vec<&str> = EXPORT_ONLY.iter().copied().chain(["reset"]).collect();
    let from = all.iter().map(|it| OptionItem::read(side(it, "src", &read_alone), CacheImport::read));
    let to = all.iter().map(|it| OptionItem::read(side(it, "dest", &["digest"]), CacheExport::read));
    Ok((from.collect(), to.collect()))
}

fn texts(text: &str) -> Result<Vec<OptionTexts>, OptionFault> {
    let fields = csv::fields(text)?;
    if fields.iter().any(|field| field.contains('=')) {
        return Ok(vec![checked(from_csv(text)?, text)?]);
    }
    let registry =
        |reference| BTreeMap::from([("type".to_owned(), "registry".to_owned()), ("ref".to_owned(), reference)]);
    Ok(fields.into_iter().map(registry).collect())
}

fn checked(texts: OptionTexts, written: &str) -> Result<OptionTexts, OptionFault> {
    if texts.get("type").is_some_and(|kind| !kind.is_empty()) {
        return Ok(texts);
    }
    let shown = if written.is_empty() { String::new() } else { format!(" in: {written}") };
    Err(OptionFault::new(format!("`type` is missing{shown}"))
        .help(format!("give a type: {}; a lone image reference means type=registry", TYPES.join(", "))))
}

impl CacheImport {
    fn read(options: &mut OptionReader<'_>) -> Self {
        let found = match options.kind() {
            "registry" => RegistryCache::read(options).map_or(Self::Unknown, Self::Registry),
            "local" => {
                let src = options.required("src", "a cache");
                let digest = digest(options);
                Self::Local(LocalCacheSource { src, tag: tag(options), digest })
            }
            "inline" => Self::Inline,
            _ => match RemoteCache::read(options) {
                Some(remote) => Self::Remote(remote),
                None => unknown(options, Self::Unknown),
            },
        };
        for key in EXPORT_ONLY {
            options.of_other(key, "cache-from", "cache-to");
        }
        found
    }
}

impl CacheExport {
    fn read(options: &mut OptionReader<'_>) -> Self {
        const MODES: &[(&str, CacheMode)] = &[("min", CacheMode::Min), ("max", CacheMode::Max)];
        let to = CacheTarget::read(options);
        if matches!(to, CacheTarget::Local(..)) {
            for key in LOCAL_IMPORT_ONLY {
                options.of_other(key, "cache-to", "cache-from");
            }
        }
        let mode = options.choice("mode", MODES, CacheMode::Min, "not a cache mode");
        if matches!((&to, mode), (CacheTarget::Inline, CacheMode::Max)) {
            let message = "`mode=max` has no effect with type=inline: an image holds the layers of its result alone";
            options.note("mode", message);
        }
        Self { to, mode, ignore_error: options.flag("ignore-error", false) }
    }
}

impl CacheTarget {
    fn read(options: &mut OptionReader<'_>) -> Self {
        match options.kind() {
            "registry" => match RegistryCache::read(options) {
                Some(registry) => Self::Registry(registry, CacheDocument::read(options)),
                None => unknown_document(options),
            },
            "local" => {
                let dest = options.required("dest", "a cache");
                let local = LocalCacheDest { dest, tag: tag(options), reset: options.flag("reset", false) };
                Self::Local(local, CacheDocument::read(options))
            }
            "inline" => Self::Inline,
            _ => match RemoteCache::read(options) {
                Some(remote) => Self::Remote(remote, RemoteCacheWrite::read(options)),
                None => unknown(options, Self::Unknown),
            },
        }
    }
}

/// A registry cache whose reference is at fault; its other options are checked all the same.
fn unknown_document(options: &mut OptionReader<'_>) -> CacheTarget {
    CacheDocument::read(options);
    CacheTarget::Unknown
}

fn unknown<T>(options: &mut OptionReader<'_>, value: T) -> T {
    options.open();
    let fault = unknown_type(options.kind(), "not a cache type", TYPES);
    options.fault(fault);
    value
}

fn tag(options: &mut OptionReader<'_>) -> String {
    options.owned("tag").unwrap_or_else(|| "latest".to_owned())
}

fn digest(options: &mut OptionReader<'_>) -> Option<Digest> {
    let text = options.text("digest")?;
    let digest = text.parse().ok();
    if digest.is_none() {
        options.bad("digest", text, format!("`digest` is not a sha256 digest: {text}"), None);
    }
    digest
}

impl CacheDocument {
    fn read(options: &mut OptionReader<'_>) -> Self {
        let oci_mediatypes = options.flag("oci-mediatypes", true);
        let image_manifest = options.flag("image-manifest", oci_mediatypes);
        if image_manifest && !oci_mediatypes {
            options.conflict("image-manifest", "image-manifest=true", "oci-mediatypes=false");
        }
        Self { image_manifest, oci_mediatypes, compression: LayerCompression::read(options) }
    }
}

impl RegistryCache {
    /// `None` when the reference is missing or is none; that is recorded.
    fn read(options: &mut OptionReader<'_>) -> Option<Self> {
        let insecure = options.flag("registry.insecure", false);
        let text = options.required("ref", "a cache");
        if text.is_empty() {
            return None;
        }
        match Reference::parse(&text) {
            Ok(reference) => Some(Self { reference, insecure }),
            Err(error) => {
                options.bad("ref", &text, error.to_string(), Some("write [REGISTRY/]NAME[:TAG]".to_owned()));
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(text: &str) -> String {
        match OptionItem::<CacheExport>::parse(text) {
            Ok(all) => {
                let faults = all.iter().flat_map(|it| it.faults.iter().chain(&it.unknown));
                faults.map(|fault| format!("{} ({})", fault.message, fault.part)).collect::<Vec<_>>().join("; ")
            }
            Err(fault) => fault.message,
        }
    }

    #[test]
    fn caches_are_read_in_all_forms() {
        let print = |text: &str| match OptionItem::<CacheImport>::parse(text) {
            Ok(all) => {
                let all = all.iter().map(|it| serde_json::json!(it.texts()).to_string().replace('"', ""));
                all.collect::<Vec<_>>().join(" ")
            }
            Err(fault) => fault.message,
        };
        assert_eq!(print("r/a,r/b"), "{ref:r/a,type:registry} {ref:r/b,type:registry}");
        assert_eq!(print("type=gha,Scope=x"), "{scope:x,type:gha}");
        assert_eq!(print("ref=x"), "`type` is missing in: ref=x");
        assert_eq!(print("type=registry,ref"), "`ref` is not `key=value` in: type=registry,ref");
    }

    #[test]
    fn each_side_has_its_own_options() {
        let from = |text: &str| {
            let all = OptionItem::<CacheImport>::parse(text).expect("well formed");
            let faults = all.iter().flat_map(|item| item.faults.iter().chain(&item.unknown));
            faults.map(|fault| format!("{} ({})", fault.message, fault.part)).collect::<Vec<_>>().join("; ")
        };
        assert_eq!(from("type=local,src=c,mode=max"), "`mode` is an option of cache-to, not of cache-from (mode=max)");
        assert_eq!(
            from("type=gha,scope=x,ignore-error="),
            "`ignore-error` is an option of cache-to, not of cache-from (ignore-error=)"
        );
        assert_eq!(to("type=local,dest=c,src=c"), "`src` is an option of cache-from, not of cache-to (src=c)");
        assert_eq!(from("type=registry,ref=r/a,registry.insecure=true"), "");
    }

    #[test]
    fn one_text_gives_both_sides_their_options() {
        let both = |text: &str| {
            let (from, to) = parse_both(text).expect("well formed");
            assert!(from.iter().all(|it| it.faults.is_empty() && it.unknown.is_empty()), "{from:?}");
            assert!(to.iter().all(|it| it.faults.is_empty() && it.unknown.is_empty()), "{to:?}");
            let text = |texts: &OptionTexts| serde_json::json!(texts).to_string().replace('"', "");
            let from: Vec<_> = from.iter().map(|it| text(it.texts())).collect();
            let to: Vec<_> = to.iter().map(|it| text(it.texts())).collect();
            format!("{} {}", from.join(" "), to.join(" "))
        };
        assert_eq!(
            both("type=registry,ref=r/a,mode=max,ignore-error=true"),
            "{ref:r/a,type:registry} {ignore-error:true,mode:max,ref:r/a,type:registry}"
        );
        assert_eq!(
            both("type=local,dest=c,reset=true,tag=x"),
            "{src:c,tag:x,type:local} {dest:c,reset:true,tag:x,type:local}"
        );
        assert_eq!(both("r/a"), "{ref:r/a,type:registry} {ref:r/a,type:registry}");
    }

    #[test]
    fn missing_and_bad_options_are_named() {
        assert_eq!(to("type=local"), "a cache of type `local` wants a `dest` ()");
        assert_eq!(to("type=registry"), "a cache of type `registry` wants a `ref` ()");
        assert_eq!(to("type=local,dest=c,mode=medium"), "not a cache mode: medium (mode=medium)");
        assert_eq!(to("type=local,dest=c,mod=max"), "type `local` has no such option: mod (mod=max)");
        assert_eq!(to("type=lokal"), "not a cache type: lokal (type=lokal)");
        assert_eq!(to("type=local,dest=c,compression=zst"), "unsupported compression type: zst (compression=zst)");
        assert_eq!(
            to("type=local,dest=c,image-manifest=true,oci-mediatypes=false"),
            "image-manifest=true conflicts with oci-mediatypes=false (image-manifest=true)"
        );
        let good = ["type=gha,scope=x,mode=max", "type=s3,bucket=b,region=eu,use_path_style=true", "type=inline"];
        for text in
            good.iter().chain(&["type=azblob,account_url=u,name=a;b", "type=gcs,bucket=b,prefix=p/,without_auth=true"])
        {
            assert_eq!(to(text), "", "{text}");
        }
        assert_eq!(to("type=s3,retry_mode=never"), "not a retry mode: never (retry_mode=never)");
        assert_eq!(to("type=gha,version=two"), "`version` is not a number: two (version=two)");
    }
}
