//! An image handed to containerd: its blobs into the content store, its layers into snapshots, its names last. Nothing is
//! sent that containerd has.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::{self, Cursor, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::Deserialize;
use tonic::Status;

use super::{
    containerd_api::{ContainerdApi, DescriptorMessage},
    endpoint::ContainerdEndpoint,
    http::clean,
};
use crate::{
    archive::TarReader,
    export::{
        assemble::{index_document, rfc3339},
        write::{job::ImageBytes, layout::IMAGE_NAME},
    },
    oci::{Digest, Platform},
    store::Store,
};

/// Until when containerd keeps what a process sent that died.
const LEASE: Duration = Duration::from_hours(24);
/// Blobs that are sent at the same time.
const AT_ONCE: usize = 4;
/// The longest document that is read back from an archive, in bytes.
const LONGEST_DOCUMENT: u64 = 64 << 20;

/// An image that can be read blob by blob.
pub(super) struct BlobImage {
    /// `index.json`: one descriptor for each name.
    index: Vec<u8>,
    sizes: BTreeMap<Digest, u64>,
    place: BlobPlace,
}

/// Where the blobs of an image are.
enum BlobPlace {
    /// In memory, else in the store.
    Store(BTreeMap<Digest, Vec<u8>>, Store),
    /// In an archive of ours, at these offsets.
    Archive(PathBuf, BTreeMap<Digest, u64>),
}

impl BlobImage {
    pub(super) fn of_store(image: ImageBytes, store: &Store) -> Self {
        let index = index_document(&image.names);
        Self { index, sizes: image.sizes, place: BlobPlace::Store(image.bytes, store.clone()) }
    }

    /// Finds the blobs of an archive that was written by us.
    ///
    /// # Errors
    /// It cannot be read, or has no `index.json`.
    pub(super) fn of_archive(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let (mut sizes, mut offsets, mut index) = (BTreeMap::new(), BTreeMap::new(), None);
        let mut archive = TarReader::new(&mut file, u64::MAX);
        while let Some(member) = archive.next().map_err(io::Error::other)? {
            let name = String::from_utf8_lossy(&member.path).into_owned();
            if name == "index.json" {
                let mut bytes = vec![0; usize::try_from(member.size.min(LONGEST_DOCUMENT)).unwrap_or_default()];
                let mut n = 0;
                while n < bytes.len() {
                    match archive.data(&mut bytes[n..]).map_err(io::Error::other)? {
                        0 => break,
                        more => n += more,
                    }
                }
                index = Some(bytes);
            } else if let Some(digest) = name.strip_prefix("blobs/sha256/").and_then(|hex| Digest::from_hex(hex).ok()) {
                sizes.insert(digest, member.size);
                offsets.insert(digest, archive.source().stream_position()?);
            }
        }
        let index = index.ok_or_else(|| io::Error::other("the archive has no index.json"))?;
        Ok(Self { index, sizes, place: BlobPlace::Archive(path.to_owned(), offsets) })
    }

    fn open(&self, digest: &Digest) -> io::Result<Box<dyn Read + Send>> {
        let missing = || io::Error::other(format!("{digest} is not part of the image"));
        match &self.place {
            BlobPlace::Store(bytes, store) => match bytes.get(digest) {
                Some(bytes) => Ok(Box::new(Cursor::new(bytes.clone()))),
                None => Ok(Box::new(store.open_blob(digest).map_err(io::Error::other)?)),
            },
            BlobPlace::Archive(path, offsets) => {
                let mut file = File::open(path)?;
                file.seek(SeekFrom::Start(*offsets.get(digest).ok_or_else(missing)?))?;
                Ok(Box::new(file.take(*self.sizes.get(digest).ok_or_else(missing)?)))
            }
        }
    }

    fn document<T: for<'a> Deserialize<'a>>(&self, digest: &Digest) -> io::Result<T> {
        let mut bytes = Vec::new();
        self.open(digest)?.take(LONGEST_DOCUMENT).read_to_end(&mut bytes)?;
        serde_json::from_slice(&bytes).map_err(io::Error::other)
    }
}

/// What is read of manifests and indexes.
#[derive(Deserialize)]
struct LinkedDocument {
    config: Option<LinkedBlob>,
    #[serde(default)]
    layers: Vec<LinkedBlob>,
    #[serde(default)]
    manifests: Vec<LinkedBlob>,
}

/// What is read of descriptors.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LinkedBlob {
    media_type: String,
    digest: Digest,
    size: u64,
    #[serde(default)]
    annotations: HashMap<String, String>,
}

/// What is read of configs.
#[derive(Default, Deserialize)]
#[serde(default)]
struct LinkedConfig {
    os: String,
    architecture: String,
    rootfs: LinkedRootfs,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct LinkedRootfs {
    diff_ids: Vec<Digest>,
}

impl LinkedBlob {
    fn message(&self) -> DescriptorMessage {
        DescriptorMessage {
            media_type: self.media_type.clone(),
            digest: self.digest.to_string(),
            size: i64::try_from(self.size).unwrap_or(i64::MAX),
            annotations: self.annotations.clone(),
        }
    }
}

/// The blobs of an image in the order in which they are sent: what is named before what names it.
#[derive(Default)]
struct ContentPlan {
    /// Layers, configs and statements.
    blobs: Vec<LinkedBlob>,
    /// Manifests and indexes, with the labels that keep what they name.
    documents: Vec<(LinkedBlob, HashMap<String, String>)>,
    /// The config of this machine's platform, and its layers with the digests of their tars.
    unpack: Option<(Digest, Vec<(LinkedBlob, Digest)>)>,
}

impl ContentPlan {
    fn add(&mut self, image: &BlobImage, root: &LinkedBlob) -> io::Result<()> {
        if self.documents.iter().any(|(known, _)| known.digest == root.digest) {
            return Ok(());
        }
        let document: LinkedDocument = image.document(&root.digest)?;
        let mut labels = HashMap::new();
        let mut keeps = |name: String, blob: &LinkedBlob| {
            labels.insert(format!("containerd.io/gc.ref.content.{name}"), blob.digest.to_string());
        };
        for (i, child) in document.manifests.iter().enumerate() {
            keeps(format!("m.{i}"), child);
            if image.sizes.contains_key(&child.digest) {
                self.add(image, child)?;
            }
        }
        for (i, layer) in document.layers.iter().enumerate() {
            keeps(format!("l.{i}"), layer);
        }
        if let Some(config) = &document.config {
            keeps("config".to_owned(), config);
            self.consider(image, config, &document.layers)?;
        }
        for blob in document.layers.iter().chain(&document.config) {
            let is_known = self.blobs.iter().any(|known| known.digest == blob.digest);
            if !is_known && image.sizes.contains_key(&blob.digest) {
                self.blobs.push(blob.clone());
            }
        }
        self.documents.push((root.clone(), labels));
        Ok(())
    }

    /// Notes a manifest to be unpacked if it is for this machine.
    fn consider(&mut self, image: &BlobImage, config: &LinkedBlob, layers: &[LinkedBlob]) -> io::Result<()> {
        let host = Platform::host();
        let digest = config.digest;
        let config: LinkedConfig = image.document(&config.digest)?;
        let diff_ids = config.rootfs.diff_ids;
        let is_ours = config.os == host.os && config.architecture == host.arch;
        let is_whole = diff_ids.len() == layers.len() && layers.iter().all(|it| image.sizes.contains_key(&it.digest));
        if self.unpack.is_none() && is_ours && is_whole {
            self.unpack = Some((digest, layers.iter().cloned().zip(diff_ids).collect()));
        }
        Ok(())
    }
}

/// containerd, connected.
pub(super) struct Containerd {
    api: ContainerdApi,
    snapshotter: String,
}

impl Containerd {
    /// Connects, and waits for an answer.
    ///
    /// # Errors
    /// Nothing answers.
    pub(super) async fn connect(endpoint: &ContainerdEndpoint) -> Result<Self, String> {
        let connected = async {
            let api = ContainerdApi::connect(&endpoint.socket, &endpoint.namespace).await?;
            api.version().await.map(|()| api)
        };
        connected
            .await
            .map(|api| Self { api, snapshotter: endpoint.snapshotter.clone() })
            .map_err(|status| words(&status))
    }

    /// Whether every name stands for this image already.
    pub(super) async fn has(&self, names: &[String], root: &Digest) -> bool {
        for name in names {
            if self.api.image(name).await.ok().flatten() != Some(root.to_string()) {
                return false;
            }
        }
        !names.is_empty()
    }

    /// Those of the blobs that containerd lacks.
    pub(super) async fn lacking(&self, digests: impl IntoIterator<Item = Digest>) -> Result<Vec<Digest>, String> {
        let asked = stream::iter(digests).map(|digest| async move {
            let has = self.api.has_blob(&digest.to_string()).await.map_err(|status| words(&status))?;
            Ok::<_, String>((!has).then_some(digest))
        });
        let lacking: Vec<Option<Digest>> = asked.buffered(AT_ONCE).try_collect().await?;
        Ok(lacking.into_iter().flatten().collect())
    }

    /// Sends an image, unpacks it for this machine, and sets its names. `moved` is told of the bytes that were sent.
    ///
    /// # Errors
    /// containerd refused something; no name was set.
    pub(super) async fn load(mut self, image: &BlobImage, moved: &(dyn Fn(u64) + Sync)) -> Result<(), String> {
        let index: LinkedDocument = serde_json::from_slice(&image.index).map_err(|error| error.to_string())?;
        let named = |root: LinkedBlob| Some((root.annotations.get(IMAGE_NAME)?.clone(), root));
        let roots: Option<Vec<(String, LinkedBlob)>> = index.manifests.into_iter().map(named).collect();
        let roots = roots.ok_or("containerd keeps images by name: give the target a tag")?;
        let expires = SystemTime::now() + LEASE;
        let expires = expires.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let expires = rfc3339(i64::try_from(expires).unwrap_or(i64::MAX));
        let id = format!("bake-{}", uuid::Uuid::new_v4());
        self.api.take_lease(&id, expires).await.map_err(|status| words(&status))?;
        let loaded = self.load_leased(image, &roots, moved).await;
        let ended = self.api.end_lease().await.map_err(|status| words(&status));
        loaded.and(ended)
    }

    /// `roots` are the images by name.
    async fn load_leased(
        &self,
        image: &BlobImage,
        roots: &[(String, LinkedBlob)],
        moved: &(dyn Fn(u64) + Sync),
    ) -> Result<(), String> {
        let mut plan = ContentPlan::default();
        for (_, root) in roots {
            plan.add(image, root).map_err(|error| error.to_string())?;
        }
        let sent = std::sync::atomic::AtomicU64::new(0);
        let sends = plan.blobs.iter().map(|blob| self.send(image, blob, HashMap::new(), &sent, moved));
        stream::iter(sends).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        for (document, labels) in &plan.documents {
            self.send(image, document, labels.clone(), &sent, moved).await?;
        }
        if let Some((config, layers)) = &plan.unpack {
            self.unpack(config, layers).await?;
        }
        for (name, root) in roots {
            let target = DescriptorMessage { annotations: HashMap::new(), ..root.message() };
            self.api.set_image(name, target).await.map_err(|status| words(&status))?;
        }
        Ok(())
    }

    async fn send(
        &self,
        image: &BlobImage,
        blob: &LinkedBlob,
        labels: HashMap<String, String>,
        sent: &std::sync::atomic::AtomicU64,
        moved: &(dyn Fn(u64) + Sync),
    ) -> Result<(), String> {
        let digest = blob.digest.to_string();
        let fault = |status: Status| format!("{digest}: {}", words(&status));
        if self.api.has_blob(&digest).await.map_err(fault)? {
            if labels.is_empty() {
                return Ok(());
            }
            return self.api.label_blob(&digest, labels).await.map_err(fault);
        }
        let content = image.open(&blob.digest).map_err(|error| error.to_string())?;
        self.api.send_blob(&digest, blob.size, labels, content).await.map_err(fault)?;
        moved(sent.fetch_add(blob.size, std::sync::atomic::Ordering::Relaxed) + blob.size);
        Ok(())
    }

    /// Makes a snapshot of each layer that has none, and lets the config keep the last one.
    async fn unpack(&self, config: &Digest, layers: &[(LinkedBlob, Digest)]) -> Result<(), String> {
        let snapshotter = &self.snapshotter;
        let fault =
            |status: Status| format!("cannot unpack the image with the snapshotter {snapshotter}: {}", words(&status));
        let mut chain = String::new();
        for (layer, diff_id) in layers {
            // The name of a snapshot is the chain ID of its layers (OCI image spec, "Layer ChainID").
            let next = match chain.as_str() {
                "" => diff_id.to_string(),
                parent => Digest::of(format!("{parent} {diff_id}").as_bytes()).to_string(),
            };
            if !self.api.has_snapshot(snapshotter, &next).await.map_err(fault)? {
                let made = self.api.unpack_layer(snapshotter, &chain, &next, layer.message()).await.map_err(fault)?;
                if made != diff_id.to_string() {
                    return Err(format!("containerd unpacked {} as {made} instead of {diff_id}", layer.digest));
                }
            }
            chain = next;
        }
        if chain.is_empty() {
            return Ok(());
        }
        let label = format!("containerd.io/gc.ref.snapshot.{snapshotter}");
        self.api.label_blob(&config.to_string(), HashMap::from([(label, chain)])).await.map_err(fault)
    }
}

/// The words of containerd, without control characters.
fn words(status: &Status) -> String {
    clean(status.message())
}
