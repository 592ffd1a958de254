//! The document of a shared cache: BuildKit's cache config (a list of layers and records), with keys and identities of
//! our own. BuildKit finds valid content and no hits; `bake` finds its own.
//!
//! A chain of layers is known by its diff ids alone, so that a cache cannot pass off its layers as those of an image.

use std::collections::HashMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::document::{DocumentDescriptor, layer_type};
use crate::{
    export::{built::CacheRecord, cache::CacheTo, pack::PackedLayer},
    oci::{self, DiffId, Digest, media},
    registry::Document,
};

/// Media type of a cache config.
pub(crate) const CACHE_CONFIG: &str = "application/vnd.buildkit.cacheconfig.v0";
/// Longest chain of layers that is believed.
const LONGEST_CHAIN: usize = 1000;

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
pub(crate) struct CacheConfig {
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

/// The cache config, and each layer once with the time it was made.
pub(crate) fn cache_config<'a>(
    records: &[CacheRecord],
    packed: &'a [Vec<PackedLayer>],
) -> (CacheConfig, Vec<(&'a PackedLayer, String)>) {
    let mut config = CacheConfig::default();
    let mut places: HashMap<(i64, Digest), i64> = HashMap::new();
    let mut used: Vec<(&PackedLayer, String)> = Vec::new();
    for (record, layers) in records.iter().zip(packed) {
        let mut top = -1;
        for (packed, layer) in layers.iter().zip(&record.layers) {
            let next = i64::try_from(config.layers.len()).unwrap_or(i64::MAX);
            top = *places.entry((top, packed.digest)).or_insert_with(|| {
                config.layers.push(ConfigLayer {
                    blob: packed.digest,
                    parent: top,
                    annotations: Some(LayerAnnotations {
                        media_type: layer_type(packed.codec, false, false).to_owned(),
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
pub(crate) fn inline(records: &[(Digest, Digest, usize)], layers: &[PackedLayer]) -> String {
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

/// The root document of a cache: an image manifest, or an index as older versions of BuildKit wrote it.
pub(crate) fn cache_document(to: &CacheTo, config: DocumentDescriptor, layers: Vec<DocumentDescriptor>) -> Document {
    let (media_type, document) = if to.document.image_manifest {
        let document =
            json!({"schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "config": config, "layers": layers});
        (media::OCI_MANIFEST, document)
    } else {
        let media_type = if to.document.oci_mediatypes { media::OCI_INDEX } else { media::DOCKER_INDEX };
        let mut manifests = layers;
        manifests.push(config);
        (media_type, json!({"schemaVersion": 2, "mediaType": media_type, "manifests": manifests}))
    };
    let bytes = serde_json::to_vec_pretty(&document).expect("documents are plain data");
    Document { digest: Digest::of(&bytes), media_type: media_type.to_owned(), bytes }
}

/// Config and layers of a cache or an image.
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

/// The records of a cache config, or of the one in an image's config.
pub(crate) fn records(
    config: &oci::Descriptor,
    bytes: &[u8],
    blobs: &[oci::Descriptor],
) -> Result<Vec<Imported>, String> {
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
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        export::{assemble::document::descriptor, built::LayerRef},
        spec::compression::Codec,
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
        let (config, used) = cache_config(&all, &made);
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
