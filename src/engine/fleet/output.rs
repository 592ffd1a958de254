//! The output of a job: which exporter the daemon runs, where its result arrives, and what becomes of it.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use petgraph::graph::NodeIndex;

use super::{job_spec::JobSpec, node::FleetNode, world::FleetWorld};
use crate::{
    buildkit::session::{
        ContentPlace, FileReceiver, FileStat, FolderReceiver, FolderTarget, ReceivedBlobs, ReceivedFile, Receiver,
    },
    export::{self, ExportContext, ImageRepository, PreparedExport, RemoteForm, RemoteRoot, RemoteTree, StagedExport},
    grant,
    oci::{Digest, Platform, Reference},
    registry::{Document, NoDocuments},
    report::Diagnostic,
    spec::local::LocalAccess,
};

/// What a daemon's exporters say the root of an image is.
const DIGEST: &str = "containerimage.digest";
const DESCRIPTOR: &str = "containerimage.descriptor";
/// An annotation of that for readers of the answer alone.
const CONFIG_DIGEST: &str = "config.digest";

/// The output of one job.
pub(super) struct JobOutput {
    exporter: Option<(String, HashMap<String, String>)>,
    arrival: Arrival,
    /// The platform of the only, or the first, build.
    platform: Platform,
}

/// What a job has left when its exporters have run.
pub(super) struct ReleasedJob {
    pub(super) output: JobOutput,
    /// What the exporter answered.
    pub(super) answer: BTreeMap<String, String>,
}

/// Where a result arrives.
enum Arrival {
    /// Nowhere: it is pushed, or there is none.
    Elsewhere,
    /// In the image store of the daemon that built it.
    Daemon,
    File(File, Arc<FileReceiver>),
    /// Blob by blob, in the store.
    Store,
    Folder(PathBuf, Arc<FolderReceiver>),
}

impl JobOutput {
    /// Chooses the exporter, and makes the place where its result arrives.
    ///
    /// # Errors
    /// The node cannot make such an output, or a file cannot be made.
    pub(super) fn prepare(world: &FleetWorld, node: &FleetNode, job: &JobSpec) -> Result<Self, Box<Diagnostic>> {
        // A job that was moved has another node than the one that was checked before.
        Self::check(world, node, job)?;
        let platform = world.requests[&job.builds[0]].platform.clone();
        let mut output = Self { exporter: None, arrival: Arrival::Elsewhere, platform };
        let Some(prepared) = job.export.map(|export| &world.exports[&export]) else { return Ok(output) };
        let mut attrs: HashMap<String, String> = prepared.remote_options().into_iter().collect();
        let mut set = |name: &str, value: String| drop(attrs.insert(name.to_owned(), value));
        let kind = match prepared.remote_form() {
            RemoteForm::Nothing => return Ok(output),
            RemoteForm::Kept { names } => {
                if !names.is_empty() {
                    set("name", names.join(","));
                }
                output.arrival = Arrival::Daemon;
                if node.abilities.is_docker { "moby" } else { "image" }
            }
            RemoteForm::Loaded { names, context: None } if node.abilities.is_docker && !job.is_part => {
                if !names.is_empty() {
                    set("name", names.join(","));
                }
                output.arrival = Arrival::Daemon;
                "moby"
            }
            RemoteForm::Pushed { repositories, insecure } => {
                set("name", repositories.iter().map(ImageRepository::name).collect::<Vec<_>>().join(","));
                set("push", "true".to_owned());
                set("push-by-digest", "true".to_owned());
                if insecure {
                    set("registry.insecure", "true".to_owned());
                }
                "image"
            }
            RemoteForm::Image { docker } => {
                set("tar", "false".to_owned());
                output.arrival = Arrival::Store;
                if docker { "docker" } else { "oci" }
            }
            RemoteForm::Loaded { .. } => {
                set("tar", "false".to_owned());
                output.arrival = Arrival::Store;
                "docker"
            }
            RemoteForm::Tar => {
                let (file, receiver) = file_receiver(world).map_err(|error| fault(prepared, &error))?;
                output.arrival = Arrival::File(file, receiver);
                "tar"
            }
            RemoteForm::Folder { access, is_incremental } => {
                let made = folder_receiver(world, prepared, access, is_incremental);
                let (folder, receiver) = made.map_err(|error| fault(prepared, &error))?;
                output.arrival = Arrival::Folder(folder, receiver);
                "local"
            }
        };
        output.exporter = Some((kind.to_owned(), attrs));
        Ok(output)
    }

    /// Whether a node can make the output of a job at all.
    ///
    /// # Errors
    /// It cannot, and what to write instead.
    pub(super) fn check(world: &FleetWorld, node: &FleetNode, job: &JobSpec) -> Result<(), Box<Diagnostic>> {
        let Some(prepared) = job.export.map(|export| &world.exports[&export]) else { return Ok(()) };
        match prepared.remote_form() {
            RemoteForm::Kept { .. } if job.is_part => {
                let text = "its platforms are built on several nodes, of which each would keep a part";
                let help = "push it, write it to a file, or load it";
                Err(Box::new(prepared.fault("bake::fleet::parts", text).help(help)))
            }
            RemoteForm::Loaded { context: None, .. } if node.abilities.is_docker && !job.is_part => Ok(()),
            RemoteForm::Pushed { .. } | RemoteForm::Image { .. } | RemoteForm::Loaded { .. } => {
                needs_images(node, prepared)
            }
            RemoteForm::Nothing | RemoteForm::Kept { .. } | RemoteForm::Folder { .. } | RemoteForm::Tar => Ok(()),
        }
    }

    /// Type and options of the exporter.
    pub(super) fn exporter(&self) -> Option<(String, HashMap<String, String>)> {
        self.exporter.clone()
    }

    /// Where results go, for the session.
    pub(super) fn receivers(&self) -> BTreeMap<u32, Receiver> {
        match &self.arrival {
            Arrival::Elsewhere | Arrival::Daemon | Arrival::Store => BTreeMap::new(),
            Arrival::File(_, receiver) => BTreeMap::from([(0, Receiver::File(receiver.clone()))]),
            Arrival::Folder(_, receiver) => BTreeMap::from([(0, Receiver::Folder(receiver.clone()))]),
        }
    }

    /// Where blobs go, for the session.
    pub(super) fn content(&self, world: &FleetWorld) -> BTreeMap<String, ContentPlace> {
        match self.arrival {
            Arrival::Store => {
                let place = ContentPlace::Store { store: world.store.clone(), received: ReceivedBlobs::default() };
                BTreeMap::from([("export".to_owned(), place)])
            }
            Arrival::Elsewhere | Arrival::Daemon | Arrival::File(..) | Arrival::Folder(..) => BTreeMap::new(),
        }
    }
}

fn file_receiver(world: &FleetWorld) -> io::Result<(File, Arc<FileReceiver>)> {
    let folder: PathBuf = world.store.tmp_dir().map_err(io::Error::other)?;
    let path = folder.join("result");
    let file = File::options().read(true).write(true).create_new(true).open(path)?;
    let receiver = FileReceiver::new(file.try_clone()?, Box::new(|_| false));
    Ok((file, receiver))
}

/// A folder of ours beside which files are made. Files that the destination has, unchanged, do not travel if `is_incremental`.
fn folder_receiver(
    world: &FleetWorld,
    prepared: &PreparedExport,
    access: LocalAccess,
    is_incremental: bool,
) -> io::Result<(PathBuf, Arc<FolderReceiver>)> {
    let make = |name: &str| {
        let folder = world.store.tmp_dir().map_err(io::Error::other)?.join(name);
        std::fs::create_dir(&folder)?;
        Ok::<_, io::Error>(folder)
    };
    let (folder, temporary) = (make("tree")?, make("files")?);
    let kept = prepared.written_path().filter(|_| is_incremental).and_then(|path| grant::open_real_dir(path).ok());
    // A time that has no fraction was set by hand, or came out of an archive: it tells no two contents apart.
    let has_fraction = kept.is_some();
    let is_unchanged = move |_: &Path, stat: &FileStat| has_fraction && stat.modified % 1_000_000_000 != 0;
    let target = FolderTarget {
        root: grant::open_real_dir(&folder)?,
        temporary: grant::open_real_dir(&temporary)?,
        kept,
        // The owner is set where the tree is written.
        access: LocalAccess { chown: None, chmod: None, ..access },
    };
    Ok((folder, FolderReceiver::new(target, Box::new(is_unchanged))))
}

fn fault(prepared: &PreparedExport, error: &io::Error) -> Box<Diagnostic> {
    Box::new(prepared.fault("bake::export::remote", format_args!("no place for the result: {error}")))
}

/// Refuses an output that a daemon of Docker with its old image store cannot make.
fn needs_images(node: &FleetNode, prepared: &PreparedExport) -> Result<(), Box<Diagnostic>> {
    if node.abilities.has_images {
        return Ok(());
    }
    let text = format!("the Docker daemon of `{}` cannot make this output from a build", node.name);
    let help = "turn its containerd image store on (`\"features\": {\"containerd-snapshotter\": true}` in daemon.json), or name \
                a builder of another driver; `type=local`, `type=tar` and `--load` work with both";
    Err(Box::new(prepared.fault("bake::fleet::no_images", text).help(help)))
}

/// Makes a staged output of what the jobs of an export have left, in the order of their platforms.
///
/// # Errors
/// Something did not arrive, or the destination cannot be written.
pub(super) async fn stage(
    world: &FleetWorld,
    export: NodeIndex,
    jobs: Vec<ReleasedJob>,
    context: &ExportContext,
) -> Result<StagedExport, Diagnostic> {
    let prepared = &world.exports[&export];
    match prepared.remote_form() {
        RemoteForm::Nothing => Ok(export::stage_kept([], Vec::new())),
        RemoteForm::Kept { names } => Ok(kept(jobs, &names)),
        RemoteForm::Loaded { names, .. } if jobs.iter().all(ReleasedJob::is_loaded) => Ok(kept(jobs, &names)),
        RemoteForm::Image { .. } | RemoteForm::Loaded { .. } => {
            let roots = jobs.iter().map(|job| stored_root(world, prepared, job)).collect::<Result<Vec<_>, _>>()?;
            let image = prepared.remote_image(&roots, context)?;
            export::stage_remote_image(prepared, image, context).await
        }
        RemoteForm::Pushed { repositories, insecure } => {
            let mut roots = Vec::new();
            if insecure {
                let allow = |it: &ImageRepository| world.client.allow_insecure(&it.domain, &it.path);
                repositories.iter().for_each(allow);
            }
            for job in &jobs {
                roots.push(pushed_root(world, prepared, &repositories[0], job).await?);
            }
            export::stage_pushed(prepared, &repositories, insecure, &roots, context).await
        }
        RemoteForm::Tar => {
            let mut files = Vec::new();
            for job in jobs {
                match job.output.arrival {
                    Arrival::File(file, receiver) if matches!(receiver.received(), ReceivedFile::Whole(_)) => {
                        files.push(file);
                    }
                    _ => return Err(prepared.fault("bake::export::remote", "the archive did not arrive")),
                }
            }
            export::stage_remote_tar(prepared, files, context).await
        }
        RemoteForm::Folder { .. } => {
            let trees = jobs.into_iter().map(|job| job.output.tree());
            let trees = trees.collect::<Option<Vec<_>>>();
            let missing = || prepared.fault("bake::export::remote", "the folder did not arrive");
            let trees = trees.ok_or_else(missing)?;
            export::stage_remote_folder(prepared, trees, context).await
        }
    }
}

impl JobOutput {
    /// The tree that has arrived, if it is whole.
    fn tree(self) -> Option<RemoteTree> {
        let Arrival::Folder(folder, receiver) = self.arrival else { return None };
        let written = receiver.take_written()?;
        Some(RemoteTree { folder, platform: self.platform, dropped: written.dropped })
    }
}

impl ReleasedJob {
    /// Whether the image went into the store of the daemon that built it.
    const fn is_loaded(&self) -> bool {
        matches!(self.output.arrival, Arrival::Daemon)
    }

    /// What the exporter says of the root of the image.
    fn descriptor(&self) -> Option<serde_json::Value> {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        serde_json::from_slice(&STANDARD.decode(self.answer.get(DESCRIPTOR)?).ok()?).ok()
    }

    /// The root of the image, with the annotations of its descriptor.
    fn root(&self, document: Document) -> RemoteRoot {
        let descriptor = self.descriptor().unwrap_or_default();
        let annotations = descriptor.get("annotations").and_then(serde_json::Value::as_object);
        let annotations = annotations.into_iter().flatten().filter(|(key, _)| *key != CONFIG_DIGEST);
        let annotations = annotations.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
        RemoteRoot { document, platform: self.output.platform.clone(), annotations: annotations.collect() }
    }

    /// The digest of the root of the image.
    fn digest(&self, prepared: &PreparedExport) -> Result<Digest, Diagnostic> {
        let text = self.answer.get(DIGEST).map(String::as_str).unwrap_or_default();
        text.parse().map_err(|_| {
            prepared.fault("bake::export::remote", format_args!("the builder does not say what it made: {text:?}"))
        })
    }
}

fn kept(jobs: Vec<ReleasedJob>, names: &[String]) -> StagedExport {
    let mut what: Vec<(String, u64)> = names.iter().map(|name| (name.clone(), 0)).collect();
    let mut answer: BTreeMap<String, String> = jobs.into_iter().flat_map(|job| job.answer).collect();
    if names.is_empty() {
        // The daemon makes a name up.
        answer.remove("image.name");
        what.push((answer.get(DIGEST).cloned().unwrap_or_else(|| "an image without a name".to_owned()), 0));
    }
    export::stage_kept(answer, what)
}

/// The root of an image whose documents and blobs have arrived in the store.
fn stored_root(world: &FleetWorld, prepared: &PreparedExport, job: &ReleasedJob) -> Result<RemoteRoot, Diagnostic> {
    let digest = job.digest(prepared)?;
    let gone = |why: String| prepared.fault("bake::export::remote", format_args!("the image did not arrive: {why}"));
    let bytes = world.store.blob_bytes(&digest).map_err(|error| gone(error.to_string()))?;
    let media_type = job.descriptor().and_then(|it| it.get("mediaType")?.as_str().map(str::to_owned));
    let media_type = media_type.ok_or_else(|| gone("the builder does not say of which type it is".to_owned()))?;
    Ok(job.root(Document { digest, media_type, bytes }))
}

/// The root of an image that was pushed by its digest.
async fn pushed_root(
    world: &FleetWorld,
    prepared: &PreparedExport,
    repository: &ImageRepository,
    job: &ReleasedJob,
) -> Result<RemoteRoot, Diagnostic> {
    let digest = job.digest(prepared)?;
    let reference =
        Reference { domain: repository.domain.clone(), path: repository.path.clone(), tag: None, digest: Some(digest) };
    let document = world.client.document(&reference, &digest, &NoDocuments).await.map_err(|error| {
        let text = format_args!("what the builder pushed cannot be read: {}", repository.name());
        prepared.fault("bake::export::push", text).cause(&error)
    })?;
    Ok(job.root(document))
}
