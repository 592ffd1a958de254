//! Caches that are shared: written to and read from a registry or a layout folder (spec/exporters.md §13).
//!
//! The documents have BuildKit's form (a cache config that lists layers and records), the keys and identities in them are
//! ours: BuildKit finds valid content and no hits, we find our own. A chain of layers is known by its diff ids alone, so
//! that a cache cannot pass off its layers as those of an image.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    BlobOrigin, ExportContext, LayerRef,
    archive::MemberContent,
    assemble::{self, Blob, Descriptor, From, Packed, descriptor},
    image,
    layers::{self, How, LayerFault, Stack, with_causes},
    layout,
    options::{Codec, absolute, codec_named},
};
use crate::{
    oci::{self, DiffId, Digest, Reference, media},
    registry::{Client, Document, Layout, NoDocuments, Push},
};

const CACHE_CONFIG: &str = "application/vnd.buildkit.cacheconfig.v0";
/// Longest chain of layers that is believed.
const LONGEST_CHAIN: usize = 1000;

/// Where a cache is written, and how.
#[derive(Clone, Debug)]
pub(crate) struct CacheTo {
    place: CacheDest,
    /// All steps, not only those of the result.
    pub(crate) max: bool,
    pub(crate) ignore_error: bool,
    /// As an image manifest, not as an index.
    manifest: bool,
    docker_types: bool,
    codec: Codec,
    level: Option<i32>,
    force: bool,
}

/// Where a cache is read.
#[derive(Clone, Debug)]
pub(crate) struct CacheFrom {
    place: CacheDest,
}

#[derive(Clone, Debug)]
enum CacheDest {
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

/// A result of a step: under which key it is found, what it is, and its layers.
#[derive(Clone, Debug)]
pub(crate) struct CacheRecord {
    pub(crate) key: Digest,
    pub(crate) id: Digest,
    pub(crate) layers: Vec<LayerRef>,
}

/// A record that was read.
#[derive(Clone, Debug)]
pub(crate) struct Imported {
    pub(crate) key: Digest,
    pub(crate) id: Digest,
    /// Lowest first.
    pub(crate) layers: Vec<ImportedLayer>,
}

/// A layer of an imported record; it lies where the cache lies.
#[derive(Clone, Debug)]
pub(crate) struct ImportedLayer {
    pub(crate) diff_id: DiffId,
    pub(crate) descriptor: oci::Descriptor,
    pub(crate) created: String,
}

#[derive(Default, Serialize, Deserialize)]
struct CacheConfig {
    layers: Vec<ConfigLayer>,
    records: Vec<ConfigRecord>,
}

#[derive(Serialize, Deserialize)]
struct ConfigLayer {
    blob: Digest,
    /// Index of the layer below; -1 for none.
    #[serde(default)]
    parent: i64,
    #[serde(default)]
    annotations: Option<LayerAnnotations>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LayerAnnotations {
    #[serde(default)]
    media_type: String,
    #[serde(rename = "diffID")]
    diff_id: DiffId,
    size: u64,
    #[serde(default)]
    created_at: String,
}

#[derive(Serialize, Deserialize)]
struct ConfigRecord {
    digest: Digest,
    #[serde(default)]
    layers: Vec<ConfigResult>,
    #[serde(default)]
    inputs: Vec<Vec<serde_json::Value>>,
    /// Ours: the identity of the result.
    #[serde(default, rename = "bake.id", skip_serializing_if = "Option::is_none")]
    id: Option<Digest>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ConfigResult {
    layer: usize,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    created_at: String,
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

/// Writes records and their layers.
///
/// # Errors
/// The text names the place and what went wrong.
pub(crate) async fn export_cache(to: &CacheTo, records: &[CacheRecord], context: &ExportContext) -> Result<(), String> {
    let how = How { codec: to.codec, level: to.level, force: to.force };
    let stacks: Vec<Stack<'_>> =
        records.iter().map(|it| Stack { layers: &it.layers, base_layers: it.layers.len(), epoch: None }).collect();
    let packed = layers::pack_stacks(how, &stacks, context).await.map_err(|fault| match fault {
        LayerFault::Builder(diagnostic) => diagnostic.to_string(),
        LayerFault::Text(text) => text,
    })?;
    let (config, used) = config(records, &packed);
    let mut blobs: Vec<Blob> = Vec::new();
    let mut descriptors: Vec<Descriptor> = Vec::new();
    for (layer, created) in used {
        let from = layer.base.clone().map_or(From::Store, |base| From::Base(Box::new(base)));
        blobs.push(Blob { digest: layer.digest, size: layer.size, from, nondist: false });
        let media_type = assemble::layer_type(layer.codec, to.docker_types, false);
        let mut made = descriptor(media_type, layer.digest, layer.size);
        made.annotations = layer.annotations.clone();
        made.annotations.insert("containerd.io/uncompressed".to_owned(), layer.diff_id.to_string());
        if !created.is_empty() {
            made.annotations.insert("buildkit/createdat".to_owned(), created);
        }
        descriptors.push(made);
    }
    let bytes = serde_json::to_vec(&config).expect("cache configs are plain data");
    let config = descriptor(CACHE_CONFIG, Digest::of(&bytes), bytes.len() as u64);
    blobs.push(Blob { digest: config.digest, size: config.size, from: From::Bytes(bytes), nondist: false });
    let root = document(to, config, descriptors);
    match &to.place {
        CacheDest::Registry { reference, insecure } => push(context, reference, *insecure, &blobs, root).await,
        CacheDest::Local { folder, tag, .. } => write_layout(context, folder, tag, blobs, root).await,
        CacheDest::Inline => Ok(()),
    }
}

/// The cache config, and each layer once with the time it was made.
fn config<'a>(records: &[CacheRecord], packed: &'a [Vec<Packed>]) -> (CacheConfig, Vec<(&'a Packed, String)>) {
    let mut config = CacheConfig::default();
    let mut places: HashMap<(i64, Digest), i64> = HashMap::new();
    let mut used: Vec<(&Packed, String)> = Vec::new();
    for (record, layers) in records.iter().zip(packed) {
        let mut top = -1;
        for (packed, layer) in layers.iter().zip(&record.layers) {
            let next = i64::try_from(config.layers.len()).unwrap_or(i64::MAX);
            top = *places.entry((top, packed.digest)).or_insert_with(|| {
                config.layers.push(ConfigLayer {
                    blob: packed.digest,
                    parent: top,
                    annotations: Some(LayerAnnotations {
                        media_type: assemble::layer_type(packed.codec, false, false).to_owned(),
                        diff_id: packed.diff_id,
                        size: packed.size,
                        created_at: layer.created.clone(),
                    }),
                });
                next
            });
            if !used.iter().any(|(it, _)| it.digest == packed.digest) {
                used.push((packed, layer.created.clone()));
            }
        }
        let created_at = record.layers.last().map(|it| it.created.clone()).unwrap_or_default();
        let layers: Vec<ConfigResult> =
            usize::try_from(top).map(|layer| ConfigResult { layer, created_at }).into_iter().collect();
        config.records.push(ConfigRecord { digest: record.key, layers, inputs: Vec::new(), id: Some(record.id) });
    }
    (config, used)
}

/// The text for the key `moby.buildkit.cache.v0` of an image's config: records whose layers are the image's first ones.
pub(super) fn inline(records: &[(Digest, Digest, usize)], layers: &[Packed]) -> String {
    let mut config = CacheConfig::default();
    for (i, layer) in layers.iter().enumerate() {
        let parent = i64::try_from(i).unwrap_or(i64::MAX) - 1;
        config.layers.push(ConfigLayer { blob: layer.digest, parent, annotations: None });
    }
    for (key, id, n) in records.iter().filter(|(_, _, n)| (1..=layers.len()).contains(n)) {
        let layers = vec![ConfigResult { layer: n - 1, created_at: String::new() }];
        config.records.push(ConfigRecord { digest: *key, layers, inputs: Vec::new(), id: Some(*id) });
    }
    STANDARD.encode(serde_json::to_vec(&config).expect("cache configs are plain data"))
}

fn document(to: &CacheTo, config: Descriptor, layers: Vec<Descriptor>) -> Document {
    let (media_type, document) = if to.manifest {
        let document =
            json!({"schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "config": config, "layers": layers});
        (media::OCI_MANIFEST, document)
    } else {
        let media_type = if to.docker_types { media::DOCKER_INDEX } else { media::OCI_INDEX };
        let mut manifests = layers;
        manifests.push(config);
        (media_type, json!({"schemaVersion": 2, "mediaType": media_type, "manifests": manifests}))
    };
    let bytes = serde_json::to_vec_pretty(&document).expect("documents are plain data");
    Document { digest: Digest::of(&bytes), media_type: media_type.to_owned(), bytes }
}

async fn push(
    context: &ExportContext,
    reference: &Reference,
    insecure: bool,
    blobs: &[Blob],
    root: Document,
) -> Result<(), String> {
    let push = Push {
        domain: &reference.domain,
        path: &reference.path,
        tags: &[reference.tag_or_latest().unwrap_or("latest").to_owned()],
        blobs: blobs.iter().map(|it| image::upload(context, it)).collect(),
        documents: vec![root],
        insecure,
        progress: &|_| (),
    };
    context.client.push(push).await.map_err(|e| with_causes(&e))
}

async fn write_layout(
    context: &ExportContext,
    folder: &Path,
    tag: &str,
    blobs: Vec<Blob>,
    root: Document,
) -> Result<(), String> {
    image::fetch(context, &blobs).await.map_err(|e| e.to_string())?;
    let mut named = descriptor(&root.media_type, root.digest, root.bytes.len() as u64);
    named.annotations.insert("org.opencontainers.image.ref.name".to_owned(), tag.to_owned());
    let (store, folder) = (context.store.clone(), folder.to_owned());
    let written = tokio::task::spawn_blocking(move || {
        let mut sizes: BTreeMap<Digest, u64> = blobs.iter().map(|it| (it.digest, it.size)).collect();
        sizes.insert(root.digest, root.bytes.len() as u64);
        let mut bytes: BTreeMap<Digest, Vec<u8>> = BTreeMap::from([(root.digest, root.bytes)]);
        for blob in blobs {
            if let From::Bytes(content) = blob.from {
                bytes.insert(blob.digest, content);
            }
        }
        let open = |digest: &Digest| match bytes.get(digest) {
            Some(bytes) => Ok(MemberContent::Bytes(bytes)),
            None => store.open_blob(digest).map(MemberContent::File).map_err(std::io::Error::other),
        };
        layout::write(&folder, &sizes, open, &[named], |_| ())
    });
    let written = written.await.map_err(|e| e.to_string())?;
    written.map(drop).map_err(|(path, e)| format!("cannot write `{}`: {e}", path.display()))
}

/// Reads the records of a cache. Nothing is fetched but its documents.
///
/// # Errors
/// The text names the place and what went wrong.
pub(crate) async fn import_cache(from: &CacheFrom, client: &Client) -> Result<(Vec<Imported>, BlobOrigin), String> {
    match &from.place {
        CacheDest::Registry { reference, .. } => {
            let digest = match reference.digest {
                Some(digest) => digest,
                None => client.resolve(reference).await.map_err(|e| with_causes(&e))?,
            };
            let root = client.document(reference, &digest, &NoDocuments).await.map_err(|e| with_causes(&e))?;
            let (config, layers) = parts(&root)?;
            let bytes =
                client.blob(reference, &config, || Ok(Vec::new()), &|_| ()).await.map_err(|e| with_causes(&e))?;
            let origin = BlobOrigin::Registry { domain: reference.domain.clone(), path: reference.path.clone() };
            Ok((records(&config, &bytes, &layers)?, origin))
        }
        CacheDest::Local { folder, tag, digest } => {
            let layout = Layout::open(folder).map_err(|e| with_causes(&e))?;
            let root = layout.resolve(Some(tag), digest.as_ref()).map_err(|e| with_causes(&e))?;
            let (config, layers) = parts(&root)?;
            let mut bytes = Vec::new();
            layout.copy_blob(&config, &mut bytes).map_err(|e| with_causes(&e))?;
            Ok((records(&config, &bytes, &layers)?, BlobOrigin::Layout { folder: folder.clone() }))
        }
        CacheDest::Inline => Err("an inline cache is imported with type=registry and the image as `ref`".to_owned()),
    }
}

/// Config and layers of a cache or an image.
fn parts(root: &Document) -> Result<(oci::Descriptor, Vec<oci::Descriptor>), String> {
    #[derive(Deserialize)]
    struct Raw {
        config: Option<oci::Descriptor>,
        #[serde(default)]
        layers: Option<Vec<oci::Descriptor>>,
        #[serde(default)]
        manifests: Option<Vec<oci::Descriptor>>,
    }
    let raw: Raw = serde_json::from_slice(&root.bytes).map_err(|e| format!("the cache cannot be read ({e})"))?;
    let found = match (raw.config, raw.layers, raw.manifests) {
        (Some(config), Some(layers), _) => Some((config, layers)),
        (None, None, Some(all)) => {
            let (config, layers): (Vec<_>, Vec<_>) =
                all.into_iter().partition(|it| it.media_type().to_string() == CACHE_CONFIG);
            config.into_iter().next().map(|config| (config, layers))
        }
        _ => None,
    };
    match found {
        // A config of megabytes is a cache of very many steps; beyond that it is no cache.
        Some((config, _)) if config.size() > 256 << 20 => Err("the cache config is too long".to_owned()),
        Some(found) => Ok(found),
        None => Err("there is no cache in it".to_owned()),
    }
}

/// The records of a cache config, or of the one in an image's config.
fn records(config: &oci::Descriptor, bytes: &[u8], blobs: &[oci::Descriptor]) -> Result<Vec<Imported>, String> {
    let unreadable = |e: serde_json::Error| format!("the cache cannot be read ({e})");
    let mut parsed: CacheConfig;
    if config.media_type().to_string() == CACHE_CONFIG {
        parsed = serde_json::from_slice(bytes).map_err(unreadable)?;
    } else {
        let image: oci::ImageConfig = serde_json::from_slice(bytes).map_err(unreadable)?;
        let inline = image.rest.get("moby.buildkit.cache.v0").and_then(serde_json::Value::as_str);
        let inline = inline.ok_or("the image has no inline cache")?;
        let bytes = STANDARD.decode(inline).map_err(|_| "the inline cache is not base64".to_owned())?;
        parsed = serde_json::from_slice(&bytes).map_err(unreadable)?;
        let created = image.history.iter().filter(|it| !it.empty_layer).map(|it| it.created.clone());
        let created: Vec<String> = created.map(Option::unwrap_or_default).collect();
        for (i, layer) in parsed.layers.iter_mut().enumerate() {
            let Some(diff_id) = image.rootfs.diff_ids.get(i) else { break };
            layer.annotations = Some(LayerAnnotations {
                media_type: String::new(),
                diff_id: *diff_id,
                size: 0,
                created_at: created.get(i).cloned().unwrap_or_default(),
            });
        }
    }
    let blobs: HashMap<String, &oci::Descriptor> = blobs.iter().map(|it| (it.digest().to_string(), it)).collect();
    let of = |record: ConfigRecord| -> Option<Imported> {
        let mut layers = Vec::new();
        let mut at = record.layers.first()?.layer;
        loop {
            let layer = parsed.layers.get(at)?;
            let about = layer.annotations.as_ref()?;
            let descriptor = blobs.get(&layer.blob.to_string())?;
            layers.push(ImportedLayer {
                diff_id: about.diff_id,
                descriptor: clean(descriptor),
                created: about.created_at.clone(),
            });
            match usize::try_from(layer.parent) {
                Ok(below) if layers.len() < LONGEST_CHAIN => at = below,
                Ok(_) => return None,
                Err(_) => break,
            }
        }
        layers.reverse();
        Some(Imported { key: record.digest, id: record.id?, layers })
    };
    let found = std::mem::take(&mut parsed.records);
    Ok(found.into_iter().filter_map(of).collect())
}

/// A layer's descriptor without what only caches say.
fn clean(found: &oci::Descriptor) -> oci::Descriptor {
    let mut clean = found.clone();
    let kept = |key: &str| key != "containerd.io/uncompressed" && key != "buildkit/createdat";
    let annotations = found.annotations().clone().map(|all| all.into_iter().filter(|(key, _)| kept(key)).collect());
    clean.set_annotations(annotations.filter(|it: &HashMap<String, String>| !it.is_empty()));
    clean
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

    fn packed(n: u8) -> Packed {
        Packed {
            diff_id: DiffId(Digest::of(&[n])),
            digest: Digest::of(&[n, n]),
            size: u64::from(n),
            codec: Codec::Gzip,
            annotations: BTreeMap::new(),
            nondist: false,
            base: None,
        }
    }

    fn blob(n: u8) -> oci::Descriptor {
        let made = descriptor(media::OCI_LAYER_GZIP, Digest::of(&[n, n]), u64::from(n));
        serde_json::from_value(json!(made)).expect("a descriptor")
    }

    #[test]
    fn records_are_read_back_with_their_chains() {
        let layer = |n: u8| LayerRef { snapshot: Digest::of(&[n]), created: n.to_string(), base: None };
        let record = |key: &[u8], layers: &[u8]| CacheRecord {
            key: Digest::of(key),
            id: Digest::of(b"id"),
            layers: layers.iter().map(|n| layer(*n)).collect(),
        };
        let all = [record(b"a", &[1, 2]), record(b"b", &[1, 3]), record(b"c", &[1, 2, 3])];
        let made: Vec<Vec<Packed>> =
            vec![vec![packed(1), packed(2)], vec![packed(1), packed(3)], vec![packed(1), packed(2), packed(3)]];
        let (config, used) = config(&all, &made);
        assert_eq!((config.layers.len(), used.len()), (4, 3));
        let bytes = serde_json::to_vec(&config).expect("plain data");
        let about: oci::Descriptor =
            serde_json::from_value(json!(descriptor(CACHE_CONFIG, Digest::of(&bytes), 1))).expect("a descriptor");
        let found = records(&about, &bytes, &[blob(1), blob(2), blob(3)]).expect("readable");
        let chains: Vec<Vec<DiffId>> =
            found.iter().map(|it| it.layers.iter().map(|layer| layer.diff_id).collect()).collect();
        let id = |n: u8| DiffId(Digest::of(&[n]));
        assert_eq!(chains, [vec![id(1), id(2)], vec![id(1), id(3)], vec![id(1), id(2), id(3)]]);
        assert_eq!(found[0].layers[1].created, "2");
        assert!(records(&about, b"{", &[]).is_err());
        let cycle = br#"{"layers":[{"blob":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","parent":0}],"records":[]}"#;
        assert!(records(&about, cycle, &[]).expect("no record").is_empty());
    }
}
