//! What a node that answers is: its platforms, its version, what it does now.

use std::{collections::BTreeMap, collections::BTreeSet, time::Duration};

use bollard_buildkit_proto::moby::buildkit::v1::{
    BuildHistoryEvent, BuildHistoryRequest, ListWorkersRequest, ListWorkersResponse,
    types::{BuildkitVersion, WorkerRecord},
};
use tokio::time::timeout;
use tonic::{Code, Request, Status, codegen::http::uri::PathAndQuery};
use tonic_prost::ProstCodec;

use crate::{
    buildkit::{
        connect::Connection,
        connect_fault::{ConnectCause, ConnectFault, clean},
    },
    oci::Platform,
    report::Diagnostic,
};

const WORKERS: &str = "/moby.buildkit.v1.Control/ListWorkers";
const HISTORY: &str = "/moby.buildkit.v1.Control/ListenBuildHistory";
/// Time for each answer.
const ANSWER: Duration = Duration::from_secs(3);

/// What a node is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NodeFacts {
    /// The platforms of its processors.
    pub(crate) native: Vec<Platform>,
    /// The platforms that it has an emulator for.
    pub(crate) emulated: Vec<Platform>,
    /// As the daemon says it; says nothing about what it can do.
    pub(crate) version: String,
    /// How many builds run now; `None` if the daemon does not know.
    pub(crate) active_builds: Option<usize>,
    /// Labels of its first worker.
    pub(crate) labels: BTreeMap<String, String>,
}

impl NodeFacts {
    /// Asks a node.
    ///
    /// # Errors
    /// It does not answer, has nothing that builds, or is too old.
    pub(crate) async fn ask(connection: &Connection) -> Result<Self, Diagnostic> {
        let unreachable = |reason: String| {
            let cause = ConnectCause::new(reason);
            ConnectFault { address: connection.address().to_string(), cause }.diagnostic()
        };
        let listed = timeout(ANSWER, connection.unary(WORKERS, ListWorkersRequest::default())).await;
        let ListWorkersResponse { record } = match listed {
            Ok(Ok(listed)) => listed,
            Ok(Err(status)) if status.code() == Code::Unimplemented => {
                let fault = unreachable("what answers there is no BuildKit daemon".to_owned());
                return Err(fault.help("correct the address"));
            }
            Ok(Err(status)) => return Err(unreachable(clean(status.message()))),
            Err(_) => return Err(unreachable(format!("no answer within {} seconds", ANSWER.as_secs()))),
        };
        let mut workers = record.into_iter();
        let Some(WorkerRecord { labels, platforms, buildkit_version, .. }) = workers.next() else {
            return Err(unreachable("it has nothing that runs builds".to_owned()));
        };
        let told = connection.info().and_then(|info| info.buildkit_version.clone()).or(buildkit_version);
        let version = told.map(|BuildkitVersion { version, .. }| clean(&version)).unwrap_or_default();
        // The first release with `Info` is also the first that can hold results.
        if connection.info().is_none() {
            return Err(too_old(connection, &version));
        }
        let mut known: Vec<Platform> = Vec::new();
        let others = workers.flat_map(|worker| worker.platforms);
        for platform in platforms.into_iter().chain(others) {
            let platform = Platform::normalised(&platform.os, &platform.architecture, Some(&platform.variant));
            if !known.contains(&platform) {
                known.push(platform);
            }
        }
        let first = known.first().cloned();
        let is_native = |it: &Platform| first.as_ref().is_some_and(|first| first.os == it.os && first.arch == it.arch);
        let (native, emulated) = known.into_iter().partition(is_native);
        let active_builds = timeout(ANSWER, active_builds(connection)).await.ok().and_then(Result::ok);
        Ok(Self { native, emulated, version, active_builds, labels: labels.into_iter().collect() })
    }
}

fn too_old(connection: &Connection, version: &str) -> Diagnostic {
    let version = if version.is_empty() { "of a version that it does not tell" } else { version };
    let message = format!("the BuildKit at {} is too old, {version}", connection.address());
    let fault = Diagnostic::error("bake::builder::too_old", message);
    fault.help("install BuildKit 0.13 or Docker 26, or later")
}

/// How many builds run.
async fn active_builds(connection: &Connection) -> Result<usize, Status> {
    let mut grpc = connection.grpc();
    grpc.ready().await.map_err(|error| Status::from_error(Box::new(error)))?;
    let question = BuildHistoryRequest { active_only: true, early_exit: true, ..BuildHistoryRequest::default() };
    let codec: ProstCodec<BuildHistoryRequest, BuildHistoryEvent> = ProstCodec::default();
    let asked = grpc.server_streaming(Request::new(question), PathAndQuery::from_static(HISTORY), codec).await;
    let mut events = asked?.into_inner();
    let mut running = BTreeSet::new();
    while let Some(event) = events.message().await? {
        running.extend(event.record.map(|record| record.r#ref));
    }
    Ok(running.len())
}
