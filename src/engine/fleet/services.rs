//! What the session of a job serves: secrets, agents, registry tokens, layouts, and where its results go.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    path::PathBuf,
    sync::Arc,
};

use async_trait::async_trait;
use tokio::net::UnixStream;

use super::{cache::JobCaches, job_spec::JobSpec, output::JobOutput, world::FleetWorld};
use crate::{
    buildkit::session::{
        ContentPlace, ReceivedBlobs, RegistryAccess, SecretSource as SecretService, SessionServices, SshSource,
        SshStream, SyncedFolder, of_keys, only_signing,
    },
    grant::{self, GrantedRead},
    report::Diagnostic,
    solve::{
        op::agent::{self, StepAgent},
        world::SecretSource,
    },
};

/// A larger secret is not read, as in the embedded engine.
const MAX_SECRET: u64 = 500 << 10;
/// The name of a Dockerfile that goes beside a remote context.
const DOCKERFILE: &str = "dockerfile";

/// The services of a job.
pub(super) struct JobServices {
    pub(super) session: SessionServices,
    /// Options of the frontend that belong to them.
    pub(super) options: BTreeMap<String, String>,
    pub(super) kept: KeptFiles,
}

/// Files of ours that live as long as the job.
#[derive(Default)]
pub(super) struct KeptFiles(Vec<tempfile::TempDir>);

/// The services that a job needs.
///
/// # Errors
/// Something of this machine that the build names cannot be read.
pub(super) fn of_job(
    world: &Arc<FleetWorld>,
    job: &JobSpec,
    output: &JobOutput,
    caches: &JobCaches,
) -> Result<JobServices, Box<Diagnostic>> {
    let request = &world.requests[&job.builds[0]];
    let mut services = JobServices {
        session: SessionServices {
            registry: Some(RegistryAccess { client: world.client.clone(), seed: world.seed }),
            receivers: output.receivers(),
            content: output.content(world).into_iter().chain(caches.places()).collect(),
            ..SessionServices::default()
        },
        options: BTreeMap::new(),
        kept: KeptFiles::default(),
    };
    // Of one id the build's own counts, before that of a build that it reads.
    let (mut secrets, mut agents) = (HashMap::new(), HashMap::new());
    for build in world.with_linked(&job.builds) {
        let scope = &world.requests[&build].scope;
        for (id, source) in &scope.secrets {
            secrets.entry(id.clone()).or_insert_with(|| source.clone());
        }
        for (id, paths) in &scope.ssh {
            agents.entry(id.clone()).or_insert_with(|| paths.clone());
        }
    }
    if !secrets.is_empty() {
        services.session.secrets = Some(Arc::new(JobSecrets { world: world.clone(), sources: secrets }));
    }
    if !agents.is_empty() {
        services.session.ssh = Some(Arc::new(JobAgents { world: world.clone(), paths: agents }));
    }
    for digest in world.with_linked(&job.builds).iter().filter_map(|build| world.requests[build].archive) {
        let file = world.store.open_blob(&digest).map_err(|error| {
            Box::new(Diagnostic::error("bake::fleet::context", "the archive that is the context is gone").cause(&error))
        })?;
        services.session.uploads.insert(digest.hex().to_string(), Arc::new(file));
    }
    if let Some(option) = caches.option() {
        services.options.insert("cache-imports".to_owned(), option);
    }
    if let Some(file) = request.dockerfile.as_ref().filter(|_| request.has_remote_context()) {
        let folder = aside(&file.filename, file.text.as_bytes()).map_err(|error| {
            Box::new(Diagnostic::error("bake::fleet::dockerfile", "the Dockerfile cannot be put aside").cause(&error))
        })?;
        let root = grant::open_real_dir(folder.path()).map_err(|error| {
            Box::new(Diagnostic::error("bake::fleet::dockerfile", "the Dockerfile cannot be served").cause(&error))
        })?;
        services.session.folders.push(SyncedFolder {
            name: DOCKERFILE.to_owned(),
            root: Arc::new(root),
            shown: file.filename.clone(),
        });
        services.options.insert("dockerfilekey".to_owned(), DOCKERFILE.to_owned());
        services.kept.0.push(folder);
    }
    for layout in &world.layouts {
        let place =
            ContentPlace::Layout { folder: layout.folder.clone(), writable: false, received: ReceivedBlobs::default() };
        services.session.content.insert(format!("oci:{}", layout.store), place);
    }
    Ok(services)
}

fn aside(name: &str, text: &[u8]) -> io::Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join(name), text)?;
    Ok(folder)
}

/// The secrets of a build; a value that is given is hidden in all output that follows.
struct JobSecrets {
    world: Arc<FleetWorld>,
    sources: HashMap<String, SecretSource>,
}

#[async_trait]
impl SecretService for JobSecrets {
    async fn get(&self, id: &str) -> Result<Option<Vec<u8>>, String> {
        let value = match self.sources.get(id) {
            None => None,
            Some(SecretSource::Env(name)) => self.world.secret_env.get(name).map(|text| text.clone().into_bytes()),
            Some(SecretSource::File(path)) => Some(path.read(MAX_SECRET).map_err(|error| error.to_string())?),
        };
        if let Some(value) = &value {
            self.world.progress.hide(value);
        }
        Ok(value)
    }
}

/// The agents of a build.
struct JobAgents {
    world: Arc<FleetWorld>,
    paths: HashMap<String, Vec<GrantedRead>>,
}

#[async_trait]
impl SshSource for JobAgents {
    fn knows(&self, id: &str) -> bool {
        self.paths.contains_key(id)
    }

    async fn connect(&self, id: &str) -> io::Result<Box<dyn SshStream>> {
        let paths = self.paths.get(id).map(Vec::as_slice).unwrap_or_default();
        let socket = self.world.env.get("SSH_AUTH_SOCK").map(String::as_str);
        let agent = agent::of(id, paths, socket).map_err(|fault| io::Error::other(fault.to_string()))?;
        match agent {
            None => Err(io::Error::new(io::ErrorKind::NotFound, "SSH_AUTH_SOCK is not set")),
            // A daemon may ask for signatures, and for nothing else.
            Some(StepAgent::Socket(path)) => Ok(only_signing(UnixStream::connect::<PathBuf>(path).await?)),
            Some(StepAgent::Keys(keys)) => Ok(of_keys(keys)),
        }
    }
}
