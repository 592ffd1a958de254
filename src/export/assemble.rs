//! The documents of an image: config, manifest, index, attestation manifests (spec/exporters.md §3, §8, §9.2).
//!
//! Pure: layers already packed come in, bytes come out. Equal inputs give equal bytes.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{
    BaseLayer, BuiltImage, Provenance,
    annotation::{self, Level},
    attest, cache,
    options::{Codec, ImagePlan},
};
use crate::{
    oci::{DiffId, Digest, ImageConfig, Platform, config::History, media},
    registry::Document,
};

const ATTESTATION: &str = "application/vnd.docker.attestation.manifest.v1+json";
/// Annotations of layers that are for stores, not for images.
const INTERNAL: &[&str] = &["containerd.io/uncompressed", "buildkit/createdat", "containerd.io/distribution.source."];
const EXPORTER: &str = "buildkit.exporter.image.v0";

/// A layer as it goes into an image.
#[derive(Clone, Debug)]
pub(super) struct Packed {
    pub(super) diff_id: DiffId,
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) codec: Codec,
    pub(super) annotations: BTreeMap<String, String>,
    /// Marked as not to be distributed by the base image.
    pub(super) nondist: bool,
    /// A base image's blob as published: it may not be here.
    pub(super) base: Option<BaseLayer>,
}

/// Where the bytes of a blob are.
#[derive(Clone, Debug)]
pub(super) enum From {
    Bytes(Vec<u8>),
    /// In the store, under its digest.
    Store,
    /// A base image's layer, to be fetched when needed.
    Base(Box<BaseLayer>),
}

/// A blob that an image needs.
#[derive(Clone, Debug)]
pub(super) struct Blob {
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) from: From,
    /// Registries are not given it.
    pub(super) nondist: bool,
}

/// An image ready to be written.
#[derive(Clone, Debug)]
pub(super) struct Assembled {
    /// Configs, layers, statements: each digest once, in order of first use.
    pub(super) blobs: Vec<Blob>,
    /// Each after those that it names; the last is the root.
    pub(super) documents: Vec<Document>,
    /// Descriptor of the root, with its annotations.
    pub(super) root: Descriptor,
    /// Config and layers of the only image, if there is no index.
    pub(super) single: Option<(Digest, Vec<Digest>)>,
}

/// A descriptor as it is written, with a fixed order of keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    pub(super) media_type: String,
    pub(super) digest: Digest,
    pub(super) size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) data: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) annotations: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) platform: Option<Platform>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u32,
    media_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<&'static str>,
    config: Descriptor,
    layers: Vec<Descriptor>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<Descriptor>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u32,
    media_type: &'static str,
    manifests: Vec<Descriptor>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

/// Makes the documents. `layers` are those of each build, in the same order.
pub(super) fn assemble(plan: &ImagePlan, builds: &[BuiltImage], layers: &[Vec<Packed>]) -> Assembled {
    let mut made = MadeLayer { plan, blobs: Vec::new(), documents: Vec::new() };
    let images: Vec<(Descriptor, Digest)> =
        builds.iter().zip(layers).map(|(build, layers)| made.image(build, layers)).collect();
    if !plan.index {
        let (mut root, config) = images.into_iter().next().expect("a result has a platform");
        root.annotations = annotation::at(&plan.annotations, Level::ManifestDescriptor, root.platform.as_ref());
        let single = layers.first().map(|layers| (config, layers.iter().map(|it| it.digest).collect()));
        return Assembled { blobs: made.blobs, documents: made.documents, root, single };
    }
    let mut manifests: Vec<Descriptor> = Vec::new();
    for (image, _) in &images {
        let annotations = annotation::at(&plan.annotations, Level::ManifestDescriptor, image.platform.as_ref());
        manifests.push(Descriptor { annotations, ..image.clone() });
    }
    for (build, (image, _)) in builds.iter().zip(&images) {
        manifests.extend(made.attestation(build, image));
    }
    let index = Index {
        schema_version: 2,
        media_type: if plan.docker_types { media::DOCKER_INDEX } else { media::OCI_INDEX },
        manifests,
        annotations: annotation::at(&plan.annotations, Level::Index, None),
    };
    let mut root = made.document(index.media_type, &index);
    root.annotations = annotation::at(&plan.annotations, Level::IndexDescriptor, None);
    Assembled { blobs: made.blobs, documents: made.documents, root, single: None }
}

struct MadeLayer<'a> {
    plan: &'a ImagePlan,
    blobs: Vec<Blob>,
    documents: Vec<Document>,
}

impl MadeLayer<'_> {
    /// One platform's manifest: its descriptor and the digest of its config.
    fn image(&mut self, build: &BuiltImage, layers: &[Packed]) -> (Descriptor, Digest) {
        let docker = self.plan.docker_types;
        let config = config(build, layers, self.plan.epoch.of(build.epoch));
        let config_type = if docker { media::DOCKER_CONFIG } else { media::OCI_CONFIG };
        let bytes = serde_json::to_vec(&config).expect("configs are plain data");
        let config = self.bytes(config_type, bytes);
        let descriptors = layers.iter().map(|layer| self.layer(layer)).collect();
        let platform = platform_of(build);
        let manifest = Manifest {
            schema_version: 2,
            media_type: if docker { media::DOCKER_MANIFEST } else { media::OCI_MANIFEST },
            artifact_type: None,
            annotations: annotation::at(&self.plan.annotations, Level::Manifest, Some(&build.platform)),
            config: config.clone(),
            layers: descriptors,
            subject: None,
        };
        let descriptor = self.document(manifest.media_type, &manifest);
        (Descriptor { platform: Some(platform), ..descriptor }, config.digest)
    }

    fn layer(&mut self, layer: &Packed) -> Descriptor {
        let nondist = layer.nondist && self.plan.keep_nondist;
        let from = match &layer.base {
            Some(base) => From::Base(Box::new(base.clone())),
            None => From::Store,
        };
        self.blob(Blob { digest: layer.digest, size: layer.size, from, nondist });
        let kept = |key: &str| !INTERNAL.iter().any(|it| key.starts_with(it));
        let annotations = if self.plan.docker_types {
            BTreeMap::new()
        } else {
            layer.annotations.iter().filter(|(key, _)| kept(key)).map(|(k, v)| (k.clone(), v.clone())).collect()
        };
        let media_type = layer_type(layer.codec, self.plan.docker_types, nondist);
        Descriptor { annotations, ..descriptor(media_type, layer.digest, layer.size) }
    }

    /// The attestation manifest of an image, if there is something to attest.
    fn attestation(&mut self, build: &BuiltImage, image: &Descriptor) -> Option<Descriptor> {
        let nothing = Provenance::default();
        let facts = build.provenance.as_deref().unwrap_or(&nothing);
        let subjects = attest::image_subjects(&self.plan.names, &build.platform, image.digest);
        let statements = self.plan.statements.about(facts, &subjects);
        if statements.is_empty() {
            return None;
        }
        let mut layers = Vec::new();
        for statement in statements {
            let bytes = serde_json::to_vec(&statement.value).expect("statements are plain data");
            let mut layer = self.bytes(media::IN_TOTO, bytes);
            layer.annotations.insert("in-toto.io/predicate-type".to_owned(), statement.predicate_type.to_owned());
            layers.push(layer);
        }
        let artifact = self.plan.oci_artifact;
        let config = if artifact {
            let mut config = self.bytes(media::OCI_EMPTY, b"{}".to_vec());
            config.data = Some("e30=".to_owned());
            config
        } else {
            let ids: Vec<Digest> = layers.iter().map(|it| it.digest).collect();
            let config = json!({"architecture": "unknown", "os": "unknown", "config": {},
                "rootfs": {"type": "layers", "diff_ids": ids}});
            self.bytes(media::OCI_CONFIG, config.to_string().into_bytes())
        };
        let subject = Descriptor { annotations: BTreeMap::new(), platform: None, ..image.clone() };
        let manifest = Manifest {
            schema_version: 2,
            media_type: media::OCI_MANIFEST,
            artifact_type: artifact.then_some(ATTESTATION),
            config,
            layers,
            annotations: BTreeMap::new(),
            subject: artifact.then_some(subject),
        };
        let mut made = self.document(manifest.media_type, &manifest);
        made.platform =
            Some(Platform { os: "unknown".to_owned(), arch: "unknown".to_owned(), variant: None, os_version: None });
        made.annotations = BTreeMap::from([
            ("vnd.docker.reference.type".to_owned(), "attestation-manifest".to_owned()),
            ("vnd.docker.reference.digest".to_owned(), image.digest.to_string()),
        ]);
        Some(made)
    }

    fn bytes(&mut self, media_type: &str, bytes: Vec<u8>) -> Descriptor {
        let made = descriptor(media_type, Digest::of(&bytes), bytes.len() as u64);
        self.blob(Blob { digest: made.digest, size: made.size, from: From::Bytes(bytes), nondist: false });
        made
    }

    fn blob(&mut self, blob: Blob) {
        if !self.blobs.iter().any(|it| it.digest == blob.digest) {
            self.blobs.push(blob);
        }
    }

    fn document(&mut self, media_type: &str, document: &impl Serialize) -> Descriptor {
        let bytes = serde_json::to_vec_pretty(document).expect("documents are plain data");
        let made = descriptor(media_type, Digest::of(&bytes), bytes.len() as u64);
        if !self.documents.iter().any(|it| it.digest == made.digest) {
            self.documents.push(Document { digest: made.digest, media_type: media_type.to_owned(), bytes });
        }
        made
    }
}

pub(super) fn descriptor(media_type: &str, digest: Digest, size: u64) -> Descriptor {
    let media_type = media_type.to_owned();
    Descriptor { media_type, digest, size, data: None, annotations: BTreeMap::new(), platform: None }
}

/// The platform in an index: that of the build, with what the config says more exactly.
fn platform_of(build: &BuiltImage) -> Platform {
    let mut platform = build.platform.clone();
    if platform.os_version.is_none() {
        platform.os_version.clone_from(&build.config.os_version);
    }
    platform
}

pub(super) fn layer_type(codec: Codec, docker: bool, nondist: bool) -> &'static str {
    match (codec, docker, nondist) {
        (Codec::Uncompressed, false, false) => media::OCI_LAYER,
        (Codec::Gzip | Codec::Estargz, false, false) => media::OCI_LAYER_GZIP,
        (Codec::Zstd, false, false) => media::OCI_LAYER_ZSTD,
        (Codec::Uncompressed, true, false) => media::DOCKER_LAYER,
        (Codec::Gzip | Codec::Estargz, true, false) => media::DOCKER_LAYER_GZIP,
        (Codec::Zstd, true, false) => media::DOCKER_LAYER_ZSTD,
        (Codec::Uncompressed, false, true) => "application/vnd.oci.image.layer.nondistributable.v1.tar",
        (Codec::Gzip | Codec::Estargz, false, true) => "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        (Codec::Zstd, false, true) => "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
        (Codec::Uncompressed, true, true) => "application/vnd.docker.image.rootfs.foreign.diff.tar",
        (_, true, true) => "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    }
}

/// Compression of a published layer by its media type and annotations, and whether it is not to be distributed.
pub(super) fn codec_of(media_type: &str, annotations: &BTreeMap<String, String>) -> (Codec, bool) {
    let codec = if annotations.contains_key("containerd.io/snapshot/stargz/toc.digest") {
        Codec::Estargz
    } else if media_type.ends_with("zstd") {
        Codec::Zstd
    } else if media_type.ends_with("gzip") {
        Codec::Gzip
    } else {
        Codec::Uncompressed
    };
    (codec, media_type.contains("nondistributable") || media_type.contains(".foreign."))
}

/// The config with the diff ids and the history of all layers.
fn config(build: &BuiltImage, layers: &[Packed], epoch: Option<i64>) -> ImageConfig {
    let mut config = build.config.clone();
    config.rootfs.diff_ids = layers.iter().map(|it| it.diff_id).collect();
    "layers".clone_into(&mut config.rootfs.kind);
    level_base_history(&mut config.history, build.base_layers.min(layers.len()));
    let clamp = |created: &str| match epoch {
        Some(epoch) => clamped(created, epoch),
        None => created.to_owned(),
    };
    let mut own = build.layers[build.base_layers.min(build.layers.len())..].iter().map(|it| clamp(&it.created));
    // A step without layer has the time of the layer before it; those before the first one, of the first.
    let of_base = config.history.iter().rev().find_map(|it| it.created.as_deref().map(clamp));
    let mut time = own.clone().next().or(of_base).or(epoch.map(rfc3339));
    for step in &build.steps {
        if !step.empty {
            time = own.next().or(time);
        }
        config.history.push(History {
            created: time.clone(),
            created_by: Some(step.created_by.clone()),
            author: step.author.clone(),
            comment: step.comment.clone(),
            empty_layer: step.empty,
        });
    }
    for created in own {
        config.history.push(History {
            created: Some(created),
            comment: Some(EXPORTER.to_owned()),
            ..History::default()
        });
    }
    let last = config.history.iter().rev().find_map(|it| it.created.clone());
    if let Some(records) = &build.inline_cache {
        config.rest.insert("moby.buildkit.cache.v0".to_owned(), cache::inline(records, layers).into());
    }
    config.created = match (config.created.take().or(last), epoch) {
        (Some(created), Some(epoch)) => Some(clamped(&created, epoch)),
        (created, None) => created,
        (None, Some(epoch)) => Some(rfc3339(epoch)),
    };
    config
}

/// Makes the base's history have as many entries with a layer as it has layers.
fn level_base_history(history: &mut Vec<History>, layers: usize) {
    let mut with_layer = history.iter().filter(|it| !it.empty_layer).count();
    for entry in history.iter_mut().filter(|it| !it.empty_layer) {
        if with_layer <= layers {
            break;
        }
        entry.empty_layer = true;
        with_layer -= 1;
    }
    for _ in with_layer..layers {
        history.push(History { comment: Some(EXPORTER.to_owned()), ..History::default() });
    }
}

/// The earlier of a time and the epoch; a text that is no time becomes the epoch.
fn clamped(created: &str, epoch: i64) -> String {
    match created.parse::<Timestamp>() {
        Ok(time) if time.as_second() < epoch => created.to_owned(),
        _ => rfc3339(epoch),
    }
}

/// Seconds since 1970 as RFC 3339 in UTC.
pub(super) fn rfc3339(seconds: i64) -> String {
    Timestamp::from_second(seconds).map_or_else(|_| "1970-01-01T00:00:00Z".to_owned(), |it| it.to_string())
}

impl Assembled {
    /// What the metadata file says of an image.
    pub(super) fn metadata(&self, names: &str, extra: &BTreeMap<String, String>) -> Map<String, Value> {
        let mut root = self.root.clone();
        root.annotations.extend(extra.iter().map(|(key, value)| (key.clone(), value.clone())));
        let mut metadata = Map::new();
        if let Some((config, _)) = &self.single {
            metadata.insert("containerimage.config.digest".to_owned(), config.to_string().into());
        }
        metadata.insert("containerimage.descriptor".to_owned(), json!(root));
        metadata.insert("containerimage.digest".to_owned(), root.digest.to_string().into());
        if !names.is_empty() {
            metadata.insert("image.name".to_owned(), names.into());
        }
        metadata
    }
}
