//! An image from its packed layers: manifests, index and attestation manifests
//! (<https://github.com/moby/buildkit/blob/master/docs/attestations/attestation-storage.md>).

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{
    config::config,
    document::{DocumentDescriptor, IndexDocument, ManifestDocument, descriptor},
    statement::{WantedStatements, image_subjects},
};
use crate::{
    export::{annotation, built::BuiltImage, options::ImagePlan, pack::PackedLayer},
    oci::{BaseLayer, Digest, Platform, media},
    registry::Document,
    spec::annotation::AnnotationLevel,
};

const ATTESTATION: &str = "application/vnd.docker.attestation.manifest.v1+json";
/// Annotations of layers that are for stores, not for images.
const INTERNAL: &[&str] = &["containerd.io/uncompressed", "buildkit/createdat", "containerd.io/distribution.source."];

/// Where the bytes of a blob are: in memory, in the store, or where the base image was published.
#[derive(Clone, Debug)]
pub(crate) enum BlobContent {
    Bytes(Vec<u8>),
    /// The store has it under its digest.
    Store,
    /// A base image's layer, to be fetched when needed.
    Base(Box<BaseLayer>),
}

/// One blob of an image, with its size and where its bytes are.
#[derive(Clone, Debug)]
pub(crate) struct ImageBlob {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) from: BlobContent,
    /// Non-distributable: it is not pushed.
    pub(crate) nondist: bool,
}

/// An image ready to be written: its blobs, its documents and the descriptor of the root.
#[derive(Clone, Debug)]
pub(crate) struct AssembledImage {
    /// Configs, layers, statements: each digest once, in order of first use.
    pub(crate) blobs: Vec<ImageBlob>,
    /// Each after those that it names; the last is the root.
    pub(crate) documents: Vec<Document>,
    /// The descriptor of the root, with its annotations.
    pub(crate) root: DocumentDescriptor,
    /// Config and layers of the only image, if there is no index.
    pub(crate) single: Option<(Digest, Vec<Digest>)>,
}

/// Assembles the documents of an image. `layers` are those of each build, in the same order.
pub(crate) fn assemble(plan: &ImagePlan, builds: &[BuiltImage], layers: &[Vec<PackedLayer>]) -> AssembledImage {
    let mut made = ImageAssembly { plan, blobs: Vec::new(), documents: Vec::new() };
    let images: Vec<(DocumentDescriptor, Digest)> =
        builds.iter().zip(layers).map(|(build, layers)| made.image(build, layers)).collect();
    if !plan.index {
        let (mut root, config) = images.into_iter().next().expect("a result has a platform");
        root.annotations =
            annotation::at(&plan.annotations, AnnotationLevel::ManifestDescriptor, root.platform.as_ref());
        let single = layers.first().map(|layers| (config, layers.iter().map(|it| it.digest).collect()));
        return AssembledImage { blobs: made.blobs, documents: made.documents, root, single };
    }
    let mut manifests: Vec<DocumentDescriptor> = Vec::new();
    for (image, _) in &images {
        let annotations =
            annotation::at(&plan.annotations, AnnotationLevel::ManifestDescriptor, image.platform.as_ref());
        manifests.push(DocumentDescriptor { annotations, ..image.clone() });
    }
    for (build, (image, _)) in builds.iter().zip(&images) {
        manifests.extend(made.attestation(build, image));
    }
    let index = IndexDocument {
        schema_version: 2,
        media_type: if plan.is_docker() { media::DOCKER_INDEX } else { media::OCI_INDEX },
        manifests,
        annotations: annotation::at(&plan.annotations, AnnotationLevel::Index, None),
    };
    let mut root = made.document(index.media_type, &index);
    root.annotations = annotation::at(&plan.annotations, AnnotationLevel::IndexDescriptor, None);
    AssembledImage { blobs: made.blobs, documents: made.documents, root, single: None }
}

struct ImageAssembly<'a> {
    plan: &'a ImagePlan,
    blobs: Vec<ImageBlob>,
    documents: Vec<Document>,
}

impl ImageAssembly<'_> {
    /// One platform's manifest: its descriptor and the digest of its config.
    fn image(&mut self, build: &BuiltImage, layers: &[PackedLayer]) -> (DocumentDescriptor, Digest) {
        let docker = self.plan.is_docker();
        let options = &self.plan.options;
        let config = config(build, layers, options.epoch.of(build.epoch), options.build_info);
        let config_type = if docker { media::DOCKER_CONFIG } else { media::OCI_CONFIG };
        let bytes = serde_json::to_vec(&config).expect("configs are plain data");
        let config = self.bytes(config_type, bytes);
        let descriptors = layers.iter().map(|layer| self.layer(layer)).collect();
        let platform = platform_of(build);
        let manifest = ManifestDocument {
            schema_version: 2,
            media_type: if docker { media::DOCKER_MANIFEST } else { media::OCI_MANIFEST },
            artifact_type: None,
            annotations: annotation::at(&self.plan.annotations, AnnotationLevel::Manifest, Some(&build.platform)),
            config: config.clone(),
            layers: descriptors,
            subject: None,
        };
        let descriptor = self.document(manifest.media_type, &manifest);
        (DocumentDescriptor { platform: Some(platform), ..descriptor }, config.digest)
    }

    fn layer(&mut self, layer: &PackedLayer) -> DocumentDescriptor {
        let nondist = layer.nondist && self.plan.options.prefer_nondist_layers;
        let from = match &layer.base {
            Some(base) => BlobContent::Base(Box::new(base.clone())),
            None => BlobContent::Store,
        };
        self.blob(ImageBlob { digest: layer.digest, size: layer.size, from, nondist });
        let kept = |key: &str| !INTERNAL.iter().any(|it| key.starts_with(it));
        let annotations = if self.plan.is_docker() {
            BTreeMap::new()
        } else {
            layer.annotations.iter().filter(|(key, _)| kept(key)).map(|(k, v)| (k.clone(), v.clone())).collect()
        };
        let media_type = layer.codec.media_type(self.plan.is_docker(), nondist);
        DocumentDescriptor { annotations, ..descriptor(media_type, layer.digest, layer.size) }
    }

    /// The attestation manifest of an image, if there is something to attest.
    fn attestation(&mut self, build: &BuiltImage, image: &DocumentDescriptor) -> Option<DocumentDescriptor> {
        let wanted = WantedStatements::of(
            self.plan.provenance.as_ref(),
            build.provenance.as_deref(),
            build.sbom(self.plan.sbom.as_ref()).map(|sbom| &**sbom),
        );
        if wanted.is_empty() {
            return None;
        }
        let subjects = image_subjects(&self.plan.names, &build.platform, image.digest);
        let mut layers = Vec::new();
        for statement in wanted.about(&subjects) {
            let bytes = serde_json::to_vec(&statement.value).expect("statements are plain data");
            let mut layer = self.bytes(media::IN_TOTO, bytes);
            layer.annotations.insert("in-toto.io/predicate-type".to_owned(), statement.predicate_type);
            layers.push(layer);
        }
        let artifact = self.plan.options.oci_artifact;
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
        let subject = DocumentDescriptor { annotations: BTreeMap::new(), platform: None, ..image.clone() };
        let manifest = ManifestDocument {
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

    fn bytes(&mut self, media_type: &str, bytes: Vec<u8>) -> DocumentDescriptor {
        let made = descriptor(media_type, Digest::of(&bytes), bytes.len() as u64);
        self.blob(ImageBlob { digest: made.digest, size: made.size, from: BlobContent::Bytes(bytes), nondist: false });
        made
    }

    fn blob(&mut self, blob: ImageBlob) {
        if !self.blobs.iter().any(|it| it.digest == blob.digest) {
            self.blobs.push(blob);
        }
    }

    fn document(&mut self, media_type: &str, document: &impl Serialize) -> DocumentDescriptor {
        let bytes = serde_json::to_vec_pretty(document).expect("documents are plain data");
        let made = descriptor(media_type, Digest::of(&bytes), bytes.len() as u64);
        if !self.documents.iter().any(|it| it.digest == made.digest) {
            self.documents.push(Document { digest: made.digest, media_type: media_type.to_owned(), bytes });
        }
        made
    }
}

/// The platform in an index: that of the build, with what the config says more exactly.
fn platform_of(build: &BuiltImage) -> Platform {
    let mut platform = build.platform.clone();
    if platform.os_version.is_none() {
        platform.os_version.clone_from(&build.config.os_version);
    }
    platform
}

impl AssembledImage {
    /// The entries of an image in the metadata file: `containerimage.descriptor`, `containerimage.digest`, …
    pub(crate) fn metadata(&self, names: &str, extra: &BTreeMap<String, String>) -> Map<String, Value> {
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
