//! What all jobs of a run share: the builds as they are asked for, the folders, the outputs, progress.

use std::{
    collections::{BTreeMap, HashMap},
    os::fd::OwnedFd,
    sync::{Arc, Mutex, PoisonError},
};

use petgraph::graph::NodeIndex;

use super::{
    folder::Folders,
    job_spec::JobSpec,
    progress::FleetProgress,
    request::{BuildRequest, MainContext, SentLayout},
};
use crate::{
    buildkit::session::SentBytes,
    export::PreparedExport,
    oci::Digest,
    registry,
    spec::{
        CacheExport, CacheImport, OptionItem,
        attest::{Attestations, ProvenanceMode, ProvenanceOptions, SbomOptions, SlsaVersion},
    },
    store::Store,
};

/// What the jobs of a run share.
pub(super) struct FleetWorld {
    /// By build of the plan.
    pub(super) requests: HashMap<NodeIndex, BuildRequest>,
    pub(super) folders: Folders,
    /// By export of the plan, as are `attestations`.
    pub(super) exports: HashMap<NodeIndex, PreparedExport>,
    pub(super) attestations: HashMap<NodeIndex, Attestations>,
    /// The shared caches of each build.
    pub(super) caches: HashMap<NodeIndex, BuildCaches>,
    /// OCI layouts that builds read, open.
    pub(super) layouts: Vec<OpenLayout>,
    pub(super) progress: FleetProgress,
    pub(super) store: Store,
    pub(super) client: registry::Client,
    pub(super) env: Arc<BTreeMap<String, String>>,
    /// What secrets take of variables.
    pub(super) secret_env: Arc<BTreeMap<String, String>>,
    pub(super) cwd: std::path::PathBuf,
    /// What the plan may write on this machine.
    pub(super) writable: crate::grant::Allowed,
    /// What tells this machine and user from others, for a daemon that keeps folders of them.
    pub(super) client_id: String,
    /// The secret by which sessions of this run prove to be ours.
    pub(super) seed: [u8; 32],
    /// What jobs that have ended have carried.
    pub(super) sent: Mutex<SentBytes>,
}

/// An OCI layout of this machine that builds read an image of.
pub(super) struct OpenLayout {
    pub(super) sent: SentLayout,
    /// By which daemons ask for it.
    pub(super) store: String,
    pub(super) folder: Arc<OwnedFd>,
    /// Of the image.
    pub(super) digest: Digest,
}

/// The shared caches of a build.
#[derive(Clone, Debug, Default)]
pub(super) struct BuildCaches {
    pub(super) from: Vec<Arc<OptionItem<CacheImport>>>,
    pub(super) to: Vec<Arc<OptionItem<CacheExport>>>,
    /// A build argument asks for the inline cache.
    pub(super) is_inline: bool,
}

impl FleetWorld {
    /// Builds, and all those whose results they read, each once.
    pub(super) fn with_linked(&self, builds: &[NodeIndex]) -> Vec<NodeIndex> {
        let mut all = builds.to_vec();
        let mut at = 0;
        while let Some(build) = all.get(at).copied() {
            for (_, from) in &self.requests[&build].linked {
                if !all.contains(from) {
                    all.push(*from);
                }
            }
            at += 1;
        }
        all
    }

    /// Whether a job sends only parts of a folder.
    pub(super) fn sends_parts(&self, job: &JobSpec) -> bool {
        self.with_linked(&job.builds).iter().any(|build| {
            let request = &self.requests[build];
            let main = match request.main {
                MainContext::Folder(folder) => Some(folder),
                MainContext::Elsewhere => None,
            };
            let named = request.folders.iter().map(|(_, folder)| *folder);
            main.into_iter().chain(named).any(|folder| !self.folders.get(folder).follow(false).is_empty())
        })
    }

    /// Adds what a session has carried to the sum.
    pub(super) fn count(&self, more: SentBytes) {
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        sent.files += more.files;
        sent.syncs += more.syncs;
        sent.blobs_sent += more.blobs_sent;
        sent.blobs_received += more.blobs_received;
        sent.results_received += more.results_received;
    }

    /// The attestations of a job as options of the frontend: `attest:provenance`, `attest:sbom`.
    pub(super) fn attestations(&self, job: &JobSpec) -> BTreeMap<String, String> {
        let mut options = BTreeMap::new();
        let Some(wanted) = job.export.and_then(|export| self.attestations.get(&export)) else { return options };
        if let Some(provenance) = &wanted.provenance {
            options.insert("attest:provenance".to_owned(), provenance_text(&provenance.options));
        }
        if let Some(SbomOptions { generator, parameters }) = &wanted.sbom {
            let given = parameters.iter().map(|(key, value)| format!(",{key}={value}"));
            options.insert("attest:sbom".to_owned(), format!("generator={generator}{}", given.collect::<String>()));
        }
        options
    }
}

fn provenance_text(options: &ProvenanceOptions) -> String {
    let ProvenanceOptions { mode, version, builder_id, filename: _, reproducible, inline_only } = options;
    let mode = match mode {
        ProvenanceMode::Min => "min",
        ProvenanceMode::Max => "max",
    };
    let version = match version {
        SlsaVersion::V02 => ",version=v0.2",
        // That is what newer daemons write by themselves, and older ones do not know the option.
        SlsaVersion::V1 => "",
    };
    let builder = if builder_id.is_empty() { String::new() } else { format!(",builder-id={builder_id}") };
    let flag = |name: &str, is_set: bool| if is_set { format!(",{name}=true") } else { String::new() };
    format!("mode={mode}{version}{builder}{}{}", flag("reproducible", *reproducible), flag("inline-only", *inline_only))
}
