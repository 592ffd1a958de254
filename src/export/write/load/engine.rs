//! The first container engine that answers gets the image, unless it has it already.

use std::path::Path;

use tempfile::TempPath;

use super::{
    command::EngineCommand,
    containerd::{BlobImage, Containerd},
    endpoint::{EngineEndpoint, endpoints},
    http::EngineApi,
};
use crate::{
    export::{
        assemble::AssembledImage,
        context::ExportReceipt,
        staged::{ReleaseItem, StagedLoad},
        write::{
            archive::write_archive,
            dest::ExportDest,
            job::{ImageBytes, ImageJob, blocking},
            stage::{StagedExport, StagedParts},
        },
    },
    layer::view::at,
    oci::{Digest, Reference},
    registry::ClientOptions,
    report::Diagnostic,
};

/// What to do when no engine took an image.
const HELP: &str =
    "start Docker, podman or containerd, set DOCKER_HOST or CONTAINERD_ADDRESS, or write an archive with dest=FILE";

/// A container engine, and how it is talked to.
enum ContainerEngine {
    Http(EngineApi),
    Containerd(Containerd),
    Command(EngineCommand),
}

impl ContainerEngine {
    /// The engine at a place, which answers; one that is reached by a command line is not asked.
    ///
    /// # Errors
    /// Why it does not answer.
    async fn of(options: &ClientOptions, endpoint: &EngineEndpoint) -> Result<Self, String> {
        if let Some(command) = EngineCommand::of(options, endpoint) {
            return Ok(Self::Command(command));
        }
        let api = match endpoint {
            EngineEndpoint::Containerd(endpoint) => return Containerd::connect(endpoint).await.map(Self::Containerd),
            EngineEndpoint::Unix(path) => EngineApi::unix(path)?,
            EngineEndpoint::Web { url, tls } => EngineApi::web(url, tls.as_ref())?,
            EngineEndpoint::Ssh { .. } | EngineEndpoint::Command { .. } => unreachable!("these are command lines"),
        };
        api.ping().await.map(|()| Self::Http(api))
    }

    /// Whether it has the image already, under all its names. One that is reached by a command line is not asked.
    ///
    /// # Errors
    /// It holds images of one platform only, and the image has several.
    async fn has(&self, job: &ImageJob<'_>, image: &AssembledImage) -> Result<bool, Diagnostic> {
        match self {
            Self::Http(api) => {
                if image.single.is_none() && !api.stores_indexes().await {
                    let why = "this engine holds images of one platform only; \
                               use type=oci, or the containerd image store of Docker";
                    return Err(job.fault("bake::export::docker_single", why));
                }
                let ids: Vec<Digest> = image.single.iter().map(|it| it.0).chain([image.root.digest]).collect();
                Ok(api.has(&job.plan.names, &ids).await)
            }
            Self::Containerd(containerd) => {
                let names: Vec<String> = job.plan.names.iter().map(Reference::to_string).collect();
                Ok(containerd.has(&names, &image.root.digest).await)
            }
            Self::Command(_) => Ok(false),
        }
    }

    /// Loads an archive.
    async fn load(self, archive: &Path) -> Result<(), String> {
        match self {
            Self::Http(api) => api.load(archive).await,
            Self::Command(command) => command.load(archive).await,
            Self::Containerd(containerd) => {
                let archive = archive.to_owned();
                let image = blocking(move || BlobImage::of_archive(&archive)).await.map_err(|e| e.to_string())?;
                containerd.load(&image, &|_| ()).await
            }
        }
    }
}

/// Loads an image into the first container engine that takes it. `context` names a Docker context.
///
/// # Errors
/// When no engine answers, or it refuses the image (one without the containerd image store takes one platform only).
pub(in crate::export::write) async fn load(
    job: &ImageJob<'_>,
    image: AssembledImage,
    context: Option<&str>,
) -> Result<ExportReceipt, Diagnostic> {
    let options = job.context.client.options();
    let fault = |why: String| job.fault("bake::export::load", why).help(HELP);
    let (mut tried, mut made) = (Vec::new(), None);
    for endpoint in &endpoints(options, context).map_err(fault)? {
        let shown = endpoint.to_string();
        let engine = match ContainerEngine::of(options, endpoint).await {
            Ok(engine) => engine,
            Err(why) => {
                tried.push(format!("{shown}: {why}"));
                continue;
            }
        };
        if engine.has(job, &image).await? {
            job.wrote(&shown, 0, true);
            return Ok(job.receipt(&image));
        }
        let loaded = if let ContainerEngine::Containerd(containerd) = engine {
            send_blobs(job, &image, containerd).await?
        } else {
            let archive = match made.take() {
                Some(archive) => archive,
                None => archive(job, image.clone()).await?,
            };
            let archive = made.insert(archive);
            let size = std::fs::metadata(&*archive).map_or(0, |meta| meta.len());
            engine.load(archive).await.map(|()| size)
        };
        match loaded {
            Ok(bytes) => {
                job.wrote(&shown, bytes, false);
                return Ok(job.receipt(&image));
            }
            Err(why) => tried.push(format!("{shown}: {why}")),
        }
    }
    Err(fault(format!("no container engine took the image; tried {}", tried.join("; "))))
}

/// Sends containerd the blobs that it lacks. Returns their length in bytes, or why containerd refused.
async fn send_blobs(
    job: &ImageJob<'_>,
    image: &AssembledImage,
    containerd: Containerd,
) -> Result<Result<u64, String>, Diagnostic> {
    let lacking = match containerd.lacking(image.blobs.iter().map(|blob| blob.digest)).await {
        Ok(lacking) => lacking,
        Err(why) => return Ok(Err(why)),
    };
    let lacking: Vec<_> = image.blobs.iter().filter(|blob| lacking.contains(&blob.digest)).cloned().collect();
    job.fetch(&lacking).await?;
    let blobs = BlobImage::of_store(ImageBytes::new(job, image.clone(), false), &job.context.store);
    let moved = job.moved("image for containerd");
    let loaded = containerd.load(&blobs, &*moved).await;
    Ok(loaded.map(|()| lacking.iter().map(|blob| blob.size).sum()))
}

/// Makes the archive that an engine loads later, unless the engine has the image already.
pub(in crate::export::write) async fn stage(
    job: &ImageJob<'_>,
    image: AssembledImage,
    context: Option<&str>,
) -> Result<StagedExport, Diagnostic> {
    let done = job.receipt(&image);
    let options = job.context.client.options();
    let (shown, engine) = ready_engine(options, context)
        .await
        .map_err(|why| job.fault("bake::export::load", format_args!("nothing is released: {why}")).help(HELP))?;
    if engine.has(job, &image).await? {
        job.wrote(&shown, 0, true);
        return Ok(StagedExport::nothing(done));
    }
    let path = archive(job, image).await?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let bytes = std::fs::metadata(&path).map_or(0, |meta| meta.len());
    let item = ReleaseItem::Load(StagedLoad { archive: name, context: context.map(str::to_owned) });
    let wrote = vec![(item.shown(), bytes)];
    let parts = StagedParts { items: vec![item], archive: Some(path), ..StagedParts::default() };
    Ok(StagedExport { parts, wrote, receipt: done, record: None })
}

/// Has an archive loaded by the first engine that takes it, and tells which one that was.
///
/// # Errors
/// Each engine that was tried, with its own words.
pub(crate) async fn send(options: &ClientOptions, context: Option<&str>, archive: &Path) -> Result<String, String> {
    let mut tried: Vec<String> = Vec::new();
    for endpoint in &endpoints(options, context)? {
        let loaded = match ContainerEngine::of(options, endpoint).await {
            Ok(engine) => engine.load(archive).await,
            Err(why) => Err(why),
        };
        match loaded {
            Ok(()) => return Ok(endpoint.to_string()),
            Err(why) => tried.push(format!("{endpoint}: {why}")),
        }
    }
    Err(format!("no container engine took the image; tried {}", tried.join("; ")))
}

/// Asks whether an engine would take an image now, without sending one.
///
/// # Errors
/// Each engine that was tried, with its own words.
pub(crate) async fn ready(options: &ClientOptions, context: Option<&str>) -> Result<(), String> {
    ready_engine(options, context).await.map(drop)
}

/// The first engine that answers, with its place.
async fn ready_engine(options: &ClientOptions, context: Option<&str>) -> Result<(String, ContainerEngine), String> {
    let mut tried: Vec<String> = Vec::new();
    for endpoint in &endpoints(options, context)? {
        let answered = match ContainerEngine::of(options, endpoint).await {
            Ok(ContainerEngine::Command(command)) => command.ready().await.map(|()| ContainerEngine::Command(command)),
            answered => answered,
        };
        match answered {
            Ok(engine) => return Ok((endpoint.to_string(), engine)),
            Err(why) => tried.push(format!("{endpoint}: {why}")),
        }
    }
    Err(format!("no container engine answers; tried {}", tried.join("; ")))
}

/// Whether an engine would take an image now: one answers on a socket, or the user chose one that is reached otherwise.
pub(crate) async fn engine_answers(options: &ClientOptions) -> bool {
    let engines = endpoints(options, None).unwrap_or_default();
    let is_chosen = engines.len() == 1;
    for endpoint in &engines {
        match ContainerEngine::of(options, endpoint).await {
            Ok(ContainerEngine::Http(_)) => return true,
            Ok(ContainerEngine::Containerd(_) | ContainerEngine::Command(_)) if is_chosen => return true,
            // Certificates that cannot be used are told by the build that loads into it.
            Ok(_) | Err(_) => (),
        }
    }
    false
}

/// Writes the archive into the store's temporary folder.
async fn archive(job: &ImageJob<'_>, image: AssembledImage) -> Result<TempPath, Diagnostic> {
    job.fetch(&image.blobs).await?;
    let docker = image.single.is_some();
    let writing = ImageBytes::new(job, image, docker);
    let store = job.context.store.clone();
    let moved = job.moved("archive for the container engine");
    let written = blocking(move || {
        let folder = store.tmp_dir().map_err(std::io::Error::other)?;
        let dir = at::host_dir(&folder)?;
        let path = tempfile::Builder::new().prefix("load-").suffix(".tar").tempfile_in(folder)?.into_temp_path();
        let mut place = ExportDest::open_at(dir, path.file_name().unwrap_or_default())?;
        write_archive(&writing, &store, &mut place, &*moved)?;
        place.finish()?;
        Ok(path)
    });
    written.await.map_err(|e| job.fault("bake::export::write", format_args!("cannot write the archive: {e}")))
}
