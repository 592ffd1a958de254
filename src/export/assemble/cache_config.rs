//! The document of a shared cache: BuildKit's cache config (a list of layers and records), with keys and identities of
//! our own. BuildKit finds valid content and no hits; `bake` finds its own.
//!
//! A chain of layers is known by its diff ids alone, so that a cache cannot pass off its layers as those of an image.

use std::collections::{BTreeMap, HashMap};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    cache_content::{CacheContent, CachedLayer, CachedStep},
    document::{DocumentDescriptor, descriptor},
};
use crate::{
    export::pack::PackedLayer,
    oci::{self, DiffId, Digest, media},
    registry::Document,
    spec::cache::CacheDocument,
};

/// Media type of a cache config.
const CACHE_CONFIG: &str = "application/vnd.buildkit.cacheconfig.v0";
/// Annotations of layers in the root document: the diff id, and when the layer was made.
const DIFF_ID: &str = "containerd.io/uncompressed";
const CREATED: &str = "buildkit/createdat";
/// Longest chain of layers that is believed.
const LONGEST_CHAIN: usize = 1000;

/// One record of a cache that was read: a cache key and the layers of its result.
#[derive(Clone, Debug)]
pub(crate) struct Imported {
    pub(crate) key: Digest,
    pub(crate) id: Digest,
    /// When it was last used: seconds since 1970, if the cache says so.
    pub(crate) used: Option<i64>,
    /// Lowest first.
    pub(crate) layers: Vec<ImportedLayer>,
}

/// A layer of an imported record. Its blob is still where the cache is, and is fetched when the layer is needed.
#[derive(Clone, Debug)]
pub(crate) struct ImportedLayer {
    pub(crate) diff_id: DiffId,
    pub(crate) descriptor: oci::Descriptor,
    pub(crate) created: String,
}

/// The JSON document of a shared cache, in BuildKit's format `application/vnd.buildkit.cacheconfig.v0`
/// (<https://github.com/moby/buildkit/blob/master/cache/remotecache/v1/doc.go>).
///
/// `parent` of a layer and `layer` of a record's result are indices into `layers`. The digests of records are cache
/// keys of `bake`, so that BuildKit reads the document but finds no hits. A document that was read is not trusted:
/// [`records`] leaves out records with a bad index, an unknown blob, or a chain of more than [`LONGEST_CHAIN`] layers.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct CacheConfig {
    /// BuildKit leaves out what is empty, and a parent of 0.
    #[serde(default)]
    layers: Vec<ConfigLayer>,
    #[serde(default)]
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
    #[serde(default)]
    size: u64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    created_at: String,
    /// Ours: annotations that images have as well, in documents without the descriptors of layers.
    #[serde(default, rename = "bake.annotations", skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
struct ConfigRecord {
    digest: Digest,
    #[serde(default)]
    layers: Vec<RecordResult>,
    #[serde(default)]
    inputs: Vec<Vec<serde_json::Value>>,
    /// Ours: the identity of the result.
    #[serde(default, rename = "bake.id", skip_serializing_if = "Option::is_none")]
    id: Option<Digest>,
    /// Ours: when it was last used, in seconds since 1970.
    #[serde(default, rename = "bake.used", skip_serializing_if = "Option::is_none")]
    used: Option<i64>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RecordResult {
    layer: usize,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    created_at: String,
}

/// Makes the cache config of this content, and the descriptors of its layers, each once.
pub(crate) fn cache_config(content: &CacheContent) -> (CacheConfig, Vec<DocumentDescriptor>) {
    let mut config = CacheConfig::default();
    let mut places: HashMap<(i64, Digest), i64> = HashMap::new();
    for (key, step) in content.in_order() {
        let mut top = -1;
        for layer in &step.layers {
            let next = i64::try_from(config.layers.len()).unwrap_or(i64::MAX);
            top = *places.entry((top, layer.blob)).or_insert_with(|| {
                config.layers.push(ConfigLayer {
                    blob: layer.blob,
                    parent: top,
                    annotations: Some(LayerAnnotations {
                        media_type: layer.media_type.clone(),
                        diff_id: layer.diff_id,
                        size: layer.size,
                        created_at: layer.created.clone(),
                        annotations: BTreeMap::new(),
                    }),
                });
                next
            });
        }
        let created_at = step.layers.last().map(|it| it.created.clone()).unwrap_or_default();
        let layers: Vec<RecordResult> =
            usize::try_from(top).map(|layer| RecordResult { layer, created_at }).into_iter().collect();
        let (id, used) = (Some(step.id), Some(step.used));
        config.records.push(ConfigRecord { digest: *key, layers, inputs: Vec::new(), id, used });
    }
    (config, content.layers().into_iter().map(layer_descriptor).collect())
}

/// The descriptor of a layer in the root document of a cache.
fn layer_descriptor(layer: &CachedLayer) -> DocumentDescriptor {
    let mut made = descriptor(&layer.media_type, layer.blob, layer.size);
    made.annotations = layer.annotations.clone();
    made.annotations.insert(DIFF_ID.to_owned(), layer.diff_id.to_string());
    if !layer.created.is_empty() {
        made.annotations.insert(CREATED.to_owned(), layer.created.clone());
    }
    made
}

/// The content of a cache that was read. A record that does not say when it was used counts as used at `now` (seconds
/// since 1970).
pub(crate) fn content(records: Vec<Imported>, now: i64) -> CacheContent {
    let mut content = CacheContent::default();
    for Imported { key, id, used, layers } in records {
        let layer = |layer: ImportedLayer| {
            let annotations = layer.descriptor.annotations().iter().flatten();
            Some(CachedLayer {
                blob: layer.descriptor.digest().to_string().parse().ok()?,
                diff_id: layer.diff_id,
                size: layer.descriptor.size(),
                media_type: layer.descriptor.media_type().to_string(),
                annotations: annotations.map(|(key, value)| (key.clone(), value.clone())).collect(),
                created: layer.created,
            })
        };
        // A blob of another kind of digest cannot be verified, and its record is left out.
        if let Some(layers) = layers.into_iter().map(layer).collect::<Option<Vec<_>>>() {
            content.add(key, CachedStep { used: used.unwrap_or(now), id, layers });
        }
    }
    content
}

/// The documents of a shared cache: the root, which the reference or tag names, and the config that it names.
pub(crate) struct CacheDocuments {
    pub(crate) root: Document,
    pub(crate) config: Document,
}

impl CacheDocuments {
    /// The documents of this content, in the form that `document` asks for. Equal content makes equal documents.
    pub(crate) fn of(content: &CacheContent, document: &CacheDocument) -> Self {
        let (config, layers) = cache_config(content);
        let bytes = serde_json::to_vec(&config).expect("cache configs are plain data");
        let config = Document { digest: Digest::of(&bytes), media_type: CACHE_CONFIG.to_owned(), bytes };
        let named = descriptor(CACHE_CONFIG, config.digest, config.bytes.len() as u64);
        Self { root: cache_document(document, named, layers), config }
    }
}

/// The document of a cache in an object store: the cache config alone, whose layers have what descriptors would say.
pub(crate) fn object_document(content: &CacheContent) -> Vec<u8> {
    let (mut config, _) = cache_config(content);
    let known: HashMap<Digest, &CachedLayer> = content.layers().into_iter().map(|layer| (layer.blob, layer)).collect();
    for layer in &mut config.layers {
        if let (Some(about), Some(layer)) = (&mut layer.annotations, known.get(&layer.blob)) {
            about.annotations = layer.annotations.clone();
        }
    }
    serde_json::to_vec(&config).expect("cache configs are plain data")
}

/// The records of such a document; what is not sound is left out.
///
/// # Errors
/// When it is no cache config.
pub(crate) fn object_records(bytes: &[u8]) -> Result<Vec<Imported>, String> {
    let unreadable = |e: serde_json::Error| format!("the cache cannot be read ({e})");
    let config: CacheConfig = serde_json::from_slice(bytes).map_err(unreadable)?;
    let described = config.layers.iter().filter_map(|layer| {
        let about = layer.annotations.as_ref()?;
        let mut made = descriptor(&about.media_type, layer.blob, about.size);
        made.annotations = about.annotations.clone();
        serde_json::from_value::<oci::Descriptor>(json!(made)).ok()
    });
    let blobs: Vec<oci::Descriptor> = described.collect();
    Ok(sound_records(config, &blobs))
}

/// Makes the value of `moby.buildkit.cache.v0` in an image's config: records whose layers are the first ones of the
/// image.
pub(crate) fn inline(records: &[(Digest, Digest, usize)], layers: &[PackedLayer]) -> String {
    let mut config = CacheConfig::default();
    for (i, layer) in layers.iter().enumerate() {
        let parent = i64::try_from(i).unwrap_or(i64::MAX) - 1;
        config.layers.push(ConfigLayer { blob: layer.digest, parent, annotations: None });
    }
    for (key, id, n) in records.iter().filter(|(_, _, n)| (1..=layers.len()).contains(n)) {
        let layers = vec![RecordResult { layer: n - 1, created_at: String::new() }];
        config.records.push(ConfigRecord { digest: *key, layers, inputs: Vec::new(), id: Some(*id), used: None });
    }
    STANDARD.encode(serde_json::to_vec(&config).expect("cache configs are plain data"))
}

/// Makes the root document of a shared cache: an image manifest, or an index as older versions of BuildKit wrote it.
fn cache_document(to: &CacheDocument, config: DocumentDescriptor, layers: Vec<DocumentDescriptor>) -> Document {
    let (media_type, document) = if to.image_manifest {
        let document =
            json!({"schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "config": config, "layers": layers});
        (media::OCI_MANIFEST, document)
    } else {
        let media_type = if to.oci_mediatypes { media::OCI_INDEX } else { media::DOCKER_INDEX };
        let mut manifests = layers;
        manifests.push(config);
        (media_type, json!({"schemaVersion": 2, "mediaType": media_type, "manifests": manifests}))
    };
    let bytes = serde_json::to_vec_pretty(&document).expect("documents are plain data");
    Document { digest: Digest::of(&bytes), media_type: media_type.to_owned(), bytes }
}

/// The manifests of the images in an index that is no cache itself: their configs may have inline caches. Attestations are
/// left out.
pub(crate) fn images(root: &Document) -> Vec<Digest> {
    #[derive(Deserialize)]
    struct Raw {
        manifests: Vec<oci::Descriptor>,
    }
    let Ok(Raw { manifests }) = serde_json::from_slice(&root.bytes) else { return Vec::new() };
    let is_image = |it: &&oci::Descriptor| {
        let is_attestation = it.annotations().as_ref().is_some_and(|all| all.contains_key("vnd.docker.reference.type"));
        media::is_manifest(it.media_type().as_ref()) && !is_attestation
    };
    manifests.iter().filter(is_image).filter_map(|it| it.digest().to_string().parse().ok()).collect()
}

/// Parses the root document of a cache or an image: the descriptors of its config and of its layers.
pub(crate) fn parts(root: &Document) -> Result<(oci::Descriptor, Vec<oci::Descriptor>), String> {
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

/// Whether a descriptor is that of the config of a cache, not of an image.
pub(crate) fn is_cache_config(config: &oci::Descriptor) -> bool {
    config.media_type().to_string() == CACHE_CONFIG
}

/// The records of a cache. That of an image, which has its cache in its config, has none here.
pub(crate) fn cache_records(
    config: &oci::Descriptor,
    bytes: &[u8],
    blobs: &[oci::Descriptor],
) -> Result<Vec<Imported>, String> {
    if is_cache_config(config) { records(config, bytes, blobs) } else { Err("it is an image".to_owned()) }
}

/// The records of a cache config, or of the one in an image's config; what is not sound is left out.
pub(crate) fn records(
    config: &oci::Descriptor,
    bytes: &[u8],
    blobs: &[oci::Descriptor],
) -> Result<Vec<Imported>, String> {
    let unreadable = |e: serde_json::Error| format!("the cache cannot be read ({e})");
    let mut parsed: CacheConfig;
    if is_cache_config(config) {
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
                annotations: BTreeMap::new(),
            });
        }
    }
    Ok(sound_records(parsed, blobs))
}

/// The records whose layers are all among these blobs, and stand on each other in order.
fn sound_records(mut parsed: CacheConfig, blobs: &[oci::Descriptor]) -> Vec<Imported> {
    let blobs: HashMap<String, &oci::Descriptor> = blobs.iter().map(|it| (it.digest().to_string(), it)).collect();
    let found = std::mem::take(&mut parsed.records);
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
        Some(Imported { key: record.digest, id: record.id?, used: record.used, layers })
    };
    found.into_iter().filter_map(of).collect()
}

/// A layer's descriptor without what only caches say.
fn clean(found: &oci::Descriptor) -> oci::Descriptor {
    let mut clean = found.clone();
    let kept = |key: &str| key != DIFF_ID && key != CREATED;
    let annotations = found.annotations().clone().map(|all| all.into_iter().filter(|(key, _)| kept(key)).collect());
    clean.set_annotations(annotations.filter(|it: &HashMap<String, String>| !it.is_empty()));
    clean
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        export::built::{CacheRecord, LayerRef},
        oci::Codec,
    };

    fn packed(n: u8) -> PackedLayer {
        PackedLayer {
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
        let made: Vec<Vec<PackedLayer>> =
            vec![vec![packed(1), packed(2)], vec![packed(1), packed(3)], vec![packed(1), packed(2), packed(3)]];
        let written = CacheContent::of(&all, &made, false, 7);
        let (config, used) = cache_config(&written);
        assert_eq!((config.layers.len(), used.len()), (4, 3));
        let bytes = serde_json::to_vec(&config).expect("plain data");
        let about: oci::Descriptor =
            serde_json::from_value(json!(descriptor(CACHE_CONFIG, Digest::of(&bytes), 1))).expect("a descriptor");
        let found = records(&about, &bytes, &[blob(1), blob(2), blob(3)]).expect("readable");
        assert_eq!(content(found.clone(), 0), written);
        let mut found = found;
        found.sort_by_key(|it| all.iter().position(|record| record.key == it.key));
        let chains: Vec<Vec<DiffId>> =
            found.iter().map(|it| it.layers.iter().map(|layer| layer.diff_id).collect()).collect();
        let id = |n: u8| DiffId(Digest::of(&[n]));
        assert_eq!(chains, [vec![id(1), id(2)], vec![id(1), id(3)], vec![id(1), id(2), id(3)]]);
        assert_eq!(found[0].layers[1].created, "2");
        assert!(records(&about, b"{", &[]).is_err());
        let alone = object_document(&written);
        assert_eq!(content(object_records(&alone).expect("readable"), 0), written);
        assert!(object_records(b"{}").expect("an empty cache").is_empty() && object_records(b"[").is_err());
        let cycle = br#"{"layers":[{"blob":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","parent":0}],"records":[]}"#;
        assert!(records(&about, cycle, &[]).expect("no record").is_empty());
    }
}
