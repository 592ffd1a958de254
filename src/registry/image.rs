//! Manifests and indexes as documents: reading them within bounds, choosing the manifest of a platform.
//!
//! Pure: parses bytes; fetches and stores nothing. What is refused here never reaches the store or a build.

use serde::Deserialize;
use serde_json::Value;

use super::http::clean;
use crate::oci::{Descriptor, Digest, ImageConfig, Platform, media};

/// Longest manifest, index or config that is read.
pub(super) const LONGEST_DOCUMENT: u64 = 8 << 20;
/// How deep indexes may be nested.
pub(super) const DEEPEST_INDEX: usize = 8;

/// The bytes of one manifest or index, verified: `digest` is that of `bytes`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Document {
    pub(crate) digest: Digest,
    pub(crate) media_type: String,
    pub(crate) bytes: Vec<u8>,
}

/// Where manifests, indexes and configs are kept between runs, by digest, so that nothing is fetched twice.
pub(crate) trait Documents: Send + Sync {
    /// The bytes of a digest, verified.
    fn get(&self, digest: &Digest) -> Option<Vec<u8>>;
    /// Keeps bytes. That they cannot be kept is not an error.
    fn put(&self, bytes: &[u8]);
}

/// A [`Documents`] that keeps nothing: every document is fetched.
pub(crate) struct NoDocuments;

impl Documents for NoDocuments {
    fn get(&self, _: &Digest) -> Option<Vec<u8>> {
        None
    }
    fn put(&self, _: &[u8]) {}
}

/// An image for one platform: all that is known before its layers are fetched.
///
/// *Invariant:* `layers` are as many as `config.rootfs.diff_ids`; every layer has a sha256 digest.
#[derive(Clone, Debug)]
pub(crate) struct RegistryImage {
    /// What the reference names: of the index, or of the manifest when there is no index.
    pub(crate) root: Document,
    pub(crate) manifest: Document,
    pub(crate) config: ImageConfig,
    /// Lowest first.
    pub(crate) layers: Vec<Descriptor>,
}

/// A parsed image document: an index, which lists manifests of several platforms, or the manifest of one image.
///
/// OCI image spec, image-index.md and manifest.md; Docker's manifest list and schema 2 manifest alike. *Invariant:*
/// config and layers of a manifest have sha256 digests. `layers` has the lowest first.
#[derive(Debug)]
pub(super) enum ParsedDocument {
    Index(Vec<Descriptor>),
    Manifest { config: Box<Descriptor>, layers: Vec<Descriptor> },
}

/// An index has no manifest for the wanted platform; the platforms that it has, as text.
#[derive(Debug)]
pub(super) struct NoMatch(pub(super) Vec<String>);

impl Document {
    /// Makes a document of bytes whose media type was not sent with them: it is read from the document, or guessed.
    pub(super) fn of_bytes(digest: Digest, bytes: Vec<u8>) -> Self {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Typed {
            media_type: Option<String>,
            #[serde(default)]
            manifests: Option<serde::de::IgnoredAny>,
        }
        let typed: Option<Typed> = serde_json::from_slice(&bytes).ok();
        let media_type = typed.map_or_else(String::new, |document| {
            let guess = if document.manifests.is_some() { media::OCI_INDEX } else { media::OCI_MANIFEST };
            document.media_type.unwrap_or_else(|| guess.to_owned())
        });
        Self { digest, media_type, bytes }
    }

    /// Parses the document as what its media type says.
    ///
    /// # Errors
    /// When it is neither index nor manifest, of another schema version than 2 or another media type than the document
    /// says, lacks its lists, or has a digest that is not sha256. The text is for the user.
    pub(super) fn parse(&self) -> Result<ParsedDocument, String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Raw {
            schema_version: u32,
            media_type: Option<String>,
            manifests: Option<Vec<Descriptor>>,
            config: Option<Descriptor>,
            layers: Option<Vec<Descriptor>>,
        }
        let media_type = self.media_type.as_str();
        if media_type.contains("docker.distribution.manifest.v1") {
            return Err("Docker image manifests of schema 1 are not supported".to_owned());
        }
        if !media::is_index(media_type) && !media::is_manifest(media_type) {
            let shown = clean(media_type);
            return Err(format!("neither an image manifest nor an index, but of the media type `{shown}`"));
        }
        let raw: Raw = serde_json::from_slice(&self.bytes).map_err(|e| format!("the manifest cannot be read ({e})"))?;
        if raw.schema_version != 2 {
            return Err(format!("the manifest has the schema version {} instead of 2", raw.schema_version));
        }
        if raw.media_type.as_deref().is_some_and(|it| it != media_type) {
            return Err("the manifest says it is of another media type than the server".to_owned());
        }
        match (raw.manifests, raw.config, raw.layers) {
            (Some(manifests), None, None) if media::is_index(media_type) => Ok(ParsedDocument::Index(manifests)),
            (None, Some(config), Some(layers)) if media::is_manifest(media_type) => {
                layers.iter().chain([&config]).try_for_each(|it| digest_of(it).map(drop))?;
                Ok(ParsedDocument::Manifest { config: Box::new(config), layers })
            }
            _ if media::is_index(media_type) => Err("the index has no list of manifests".to_owned()),
            _ => Err("the manifest has no config or no list of layers".to_owned()),
        }
    }
}

/// Parses an image config and checks that it has as many diff ids as its manifest has layers.
///
/// Keys that are `null` count as missing. The text of an error is for the user.
pub(super) fn read_config(bytes: &[u8], layers: &[Descriptor]) -> Result<ImageConfig, String> {
    let mut value: Value = serde_json::from_slice(bytes).map_err(|e| format!("the config cannot be read ({e})"))?;
    without_nulls(&mut value);
    for key in ["config", "rootfs"] {
        value.get_mut(key).into_iter().for_each(without_nulls);
    }
    let config: ImageConfig = serde_json::from_value(value).map_err(|e| format!("the config cannot be read ({e})"))?;
    if config.rootfs.diff_ids.len() != layers.len() {
        let (diff_ids, layers) = (config.rootfs.diff_ids.len(), layers.len());
        return Err(format!("the config has {diff_ids} diff ids, the manifest {layers} layers"));
    }
    for layer in layers {
        let media_type = layer.media_type().to_string();
        if !is_layer(&media_type) {
            return Err(format!("a layer has an unknown media type: {}", clean(&media_type)));
        }
    }
    Ok(config)
}

fn without_nulls(value: &mut Value) {
    if let Value::Object(map) = value {
        map.retain(|_, it| !it.is_null());
    }
}

/// Whether a media type is that of a file system layer.
fn is_layer(media_type: &str) -> bool {
    let oci = ["application/vnd.oci.image.layer.v1.tar", "application/vnd.oci.image.layer.nondistributable.v1.tar"];
    let docker =
        ["application/vnd.docker.image.rootfs.diff.tar", "application/vnd.docker.image.rootfs.foreign.diff.tar"];
    let known = |prefixes: &[&str], suffixes: &[&str]| {
        prefixes.iter().filter_map(|it| media_type.strip_prefix(it)).any(|suffix| suffixes.contains(&suffix))
    };
    known(&oci, &["", "+gzip", "+zstd"]) || known(&docker, &["", ".gzip", ".zstd"])
}

/// The sha256 digest of a descriptor.
///
/// # Errors
/// When its digest is of another algorithm; the text is for the user.
pub(super) fn digest_of(descriptor: &Descriptor) -> Result<Digest, String> {
    let text = descriptor.digest().to_string();
    text.parse().map_err(|_| format!("a digest is not of the algorithm sha256: {}", clean(&text)))
}

/// The entry of an index that runs best on `wanted`.
pub(super) fn choose<'a>(entries: &'a [Descriptor], wanted: &Platform) -> Result<&'a Descriptor, NoMatch> {
    let platforms: Vec<Option<Platform>> = entries.iter().map(platform_of).collect();
    if let Some(found) = resolve_platform(&platforms, wanted) {
        return Ok(&entries[found]);
    }
    let mut available: Vec<String> = platforms.into_iter().flatten().map(|it| it.to_string()).collect();
    available.retain(|it| it != "unknown/unknown");
    Err(NoMatch(available))
}

/// The platform that a descriptor declares, normalised.
fn platform_of(descriptor: &Descriptor) -> Option<Platform> {
    let platform = descriptor.platform().as_ref()?;
    let (os, arch) = (platform.os().to_string(), platform.architecture().to_string());
    let mut normalised = Platform::normalised(&os, &arch, platform.variant().as_deref());
    normalised.os_version.clone_from(platform.os_version());
    Some(normalised)
}

/// Chooses the position in `entries` of what runs best on `wanted`: exactly that platform, else the nearest that it can
/// run.
///
/// An entry without platform is taken when nothing else matches and it is the only one of its kind.
pub(crate) fn resolve_platform(entries: &[Option<Platform>], wanted: &Platform) -> Option<usize> {
    for acceptable in runnable(wanted) {
        let found = entries.iter().position(|platform| platform.as_ref().is_some_and(|it| is_same(it, &acceptable)));
        if found.is_some() {
            return found;
        }
    }
    let mut unnamed = entries.iter().enumerate().filter(|(_, it)| it.is_none()).map(|(at, _)| at);
    let only = unnamed.next();
    only.filter(|_| unnamed.next().is_none())
}

fn is_same(entry: &Platform, wanted: &Platform) -> bool {
    let version = match (&wanted.os_version, &entry.os_version) {
        (Some(wanted), Some(entry)) => entry == wanted || entry.starts_with(&format!("{wanted}.")),
        _ => true,
    };
    version && entry.os == wanted.os && entry.arch == wanted.arch && entry.variant == wanted.variant
}

/// What a machine of this platform runs, best first: itself, older variants, the 32-bit predecessor.
fn runnable(wanted: &Platform) -> Vec<Platform> {
    let of = |arch: &str, variant: Option<&str>| {
        let mut platform = Platform::normalised(&wanted.os, arch, variant);
        platform.os_version.clone_from(&wanted.os_version);
        platform
    };
    let number =
        |platform: &Platform| platform.variant.as_deref().and_then(|it| it.strip_prefix('v')?.parse::<u32>().ok());
    let arms = |from: u32| (5..=from.min(8)).rev().map(|n| of("arm", Some(&format!("v{n}"))));
    let mut all = vec![wanted.clone()];
    match wanted.arch.as_str() {
        "amd64" => {
            let older = (1..number(wanted).unwrap_or(1).min(9)).rev();
            all.extend(older.map(|n| of("amd64", Some(&format!("v{n}")))));
            all.push(of("386", None));
        }
        "arm" => all.extend(arms(number(wanted).unwrap_or(7).saturating_sub(1))),
        "arm64" => {
            let older = (8..number(wanted).unwrap_or(8).min(9)).rev();
            all.extend(older.map(|n| of("arm64", Some(&format!("v{n}")))));
            all.extend(arms(8));
        }
        _ => {}
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pick(entries: &[&str], wanted: &str) -> Option<usize> {
        let parse = |it: &str| (!it.is_empty()).then(|| Platform::parse(it).expect("a platform"));
        let entries: Vec<Option<Platform>> = entries.iter().map(|it| parse(it)).collect();
        resolve_platform(&entries, &Platform::parse(wanted).expect("a platform"))
    }

    #[test]
    fn the_exact_platform_wins_over_what_also_runs() {
        assert_eq!(pick(&["linux/arm/v6", "linux/arm/v7"], "linux/arm/v7"), Some(1));
        assert_eq!(pick(&["linux/arm/v5", "linux/arm/v6"], "linux/arm/v7"), Some(1));
        assert_eq!(pick(&["linux/arm/v7"], "linux/arm/v6"), None);
        assert_eq!(pick(&["linux/amd64", "linux/amd64/v2"], "linux/amd64/v3"), Some(1));
        assert_eq!(pick(&["linux/amd64/v2"], "linux/amd64"), None);
        assert_eq!(pick(&["linux/s390x"], "linux/amd64"), None);
        assert_eq!(pick(&["", "unknown/unknown"], "linux/amd64"), Some(0));
        assert_eq!(pick(&["", ""], "linux/amd64"), None);
        assert_eq!(pick(&["windows(10.0.17763.1)/amd64"], "windows(10.0.17763)/amd64"), Some(0));
        assert_eq!(pick(&[], "linux/amd64"), None);
    }

    fn parse(media_type: &str, text: &str) -> Result<ParsedDocument, String> {
        let bytes = text.as_bytes().to_vec();
        Document { digest: Digest::of(&bytes), media_type: media_type.to_owned(), bytes }.parse()
    }

    #[test]
    fn documents_that_cannot_be_meant_are_refused() {
        let blob = r#"{"mediaType":"x","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":0}"#;
        let good = format!(r#"{{"schemaVersion":2,"config":{blob},"layers":[{blob}]}}"#);
        assert!(matches!(parse(media::OCI_MANIFEST, &good), Ok(ParsedDocument::Manifest { .. })));
        let bad = |media_type: &str, text: &str| parse(media_type, text).expect_err("must be refused");
        assert!(bad("text/html", "<html>").contains("text/html"));
        assert!(bad(media::OCI_MANIFEST, &good.replace("sha256", "md5")).contains("md5"));
        assert!(bad(media::OCI_MANIFEST, &good.replace(":0}", ":-5}")).contains("cannot be read"));
        assert!(bad(media::OCI_MANIFEST, &good.replace(":2,", ":3,")).contains("schema version 3"));
        assert!(bad(media::OCI_MANIFEST, &"[".repeat(200_000)).contains("cannot be read"));
        assert!(bad(media::OCI_INDEX, &good).contains("no list of manifests"));
        let both = good.replacen('{', r#"{"manifests":[],"#, 1);
        assert!(bad(media::OCI_MANIFEST, &both).contains("no config"));
        let schema1 = "application/vnd.docker.distribution.manifest.v1+prettyjws";
        assert!(bad(schema1, "{}").contains("schema 1"));
    }

    #[test]
    fn configs_must_fit_their_layers() {
        let config = read_config(br#"{"os":"linux","architecture":"amd64","config":null,"history":null}"#, &[]);
        assert_eq!(config.expect("nulls are absent").os, "linux");
        let more = format!(r#"{{"rootfs":{{"diff_ids":["{}"]}}}}"#, Digest::of(b""));
        assert!(read_config(more.as_bytes(), &[]).expect_err("one too many").contains("1 diff ids"));
        assert!(read_config(b"\"text\"", &[]).is_err());
    }
}
