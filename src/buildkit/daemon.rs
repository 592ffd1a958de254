//! Calls to one daemon: builds of its control service, and the gateway at which the result of a build is held.
//!
//! A build with no frontend of its own waits at the gateway: what is solved there, under its id, becomes its result only when
//! it is returned. Exporters and cache exports run then and not before
//! (<https://github.com/moby/buildkit/blob/master/frontend/gateway/pb/gateway.proto>).

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use bollard_buildkit_proto::{
    google::rpc,
    moby::buildkit::v1::{
        InfoRequest, InfoResponse, SolveRequest, SolveResponse, StatusRequest, StatusResponse,
        frontend::{EvaluateRequest, EvaluateResponse, PingRequest, PongResponse, ReturnResponse},
    },
};
use prost::Message;
use tokio::time::timeout;
use tonic::{
    Code, Request, Status, Streaming,
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    metadata::{Ascii, MetadataValue},
    transport::Channel,
};
use tonic_prost::ProstCodec;

use super::connect_fault::ConnectCause;
use super::message::{
    CacheEntryMessage, GatewaySolveRequest, GatewaySolveResponse, ResultMessage, ReturnRequestMessage,
};

/// The metadata by which a call to the gateway says which build it belongs to.
const BUILD_ID: &str = "buildkit-controlapi-buildid";
/// The longest message that is read: a definition of many steps, or an error with its whole Dockerfile.
const LONGEST_MESSAGE: usize = 128 << 20;

/// Time for a daemon to say that it is there.
const ANSWER: Duration = Duration::from_secs(3);

/// A connection to a daemon, for calls.
#[derive(Clone)]
pub(crate) struct Daemon {
    channel: Channel,
}

/// What a frontend is asked to build.
#[derive(Clone, Debug, Default)]
pub(crate) struct FrontendRequest {
    /// Options of the frontend.
    pub(crate) options: BTreeMap<String, String>,
    /// Definitions, encoded, by the names under which options refer to them.
    pub(crate) inputs: BTreeMap<String, Vec<u8>>,
    pub(crate) cache_imports: Vec<CacheEntryMessage>,
}

/// A result that lies at the gateway: nothing of it is exported before it is returned.
#[derive(Clone, Debug)]
pub(crate) struct HeldResult {
    /// As the daemon sent it.
    raw: Vec<u8>,
    /// By platform; the key is empty where the frontend made one result without one.
    pub(crate) refs: BTreeMap<String, HeldRef>,
    pub(crate) metadata: BTreeMap<String, Vec<u8>>,
}

/// One tree of a held result.
#[derive(Clone, Debug)]
pub(crate) struct HeldRef {
    /// Empty for a tree without files.
    id: String,
    /// The steps that make it, encoded.
    pub(crate) definition: Vec<u8>,
}

impl Daemon {
    pub(crate) const fn new(channel: Channel) -> Self {
        Self { channel }
    }

    /// Whether the daemon answers within a few seconds.
    pub(crate) async fn answers(&self) -> bool {
        let path = PathAndQuery::from_static("/moby.buildkit.v1.Control/Info");
        let asked = unary::<InfoRequest, InfoResponse>(&self.channel, path, Request::new(InfoRequest {}));
        timeout(ANSWER, asked).await.is_ok_and(|answer| answer.is_ok())
    }

    /// Begins a build and waits for its end: what the exporters answer.
    ///
    /// # Errors
    /// The daemon refuses or fails; also when the connection is lost.
    pub(crate) async fn solve(&self, request: SolveRequest) -> Result<HashMap<String, String>, Status> {
        let path = PathAndQuery::from_static("/moby.buildkit.v1.Control/Solve");
        let answer: SolveResponse = unary(&self.channel, path, Request::new(request)).await?;
        Ok(answer.exporter_response)
    }

    /// Follows the steps of a build.
    ///
    /// # Errors
    /// As [`Self::solve`].
    pub(crate) async fn status(&self, id: &str) -> Result<Streaming<StatusResponse>, Status> {
        let path = PathAndQuery::from_static("/moby.buildkit.v1.Control/Status");
        let mut grpc = ready(&self.channel).await?;
        let request = Request::new(StatusRequest { r#ref: id.to_owned() });
        Ok(grpc.server_streaming(request, path, ProstCodec::default()).await?.into_inner())
    }

    /// The gateway of a build that was begun under this id.
    ///
    /// # Panics
    /// When the id is not ASCII.
    pub(crate) fn gateway(&self, id: &str) -> Gateway {
        Gateway { channel: self.channel.clone(), id: id.parse().expect("ids are letters and digits") }
    }
}

/// The gateway of one build.
#[derive(Clone)]
pub(crate) struct Gateway {
    channel: Channel,
    id: MetadataValue<Ascii>,
}

impl Gateway {
    /// Waits until the build has begun.
    ///
    /// # Errors
    /// The daemon knows no such build within its time, or is too old.
    pub(crate) async fn ping(&self) -> Result<(), Status> {
        self.call("/moby.buildkit.v1.frontend.LLBBridge/Ping", PingRequest {}).await.map(|_: PongResponse| ())
    }

    /// Runs the Dockerfile frontend; its steps run when the result is evaluated.
    ///
    /// # Errors
    /// The fault of the Dockerfile, with its place.
    pub(crate) async fn solve(&self, request: FrontendRequest) -> Result<HeldResult, Status> {
        let FrontendRequest { options, inputs, cache_imports } = request;
        let request = GatewaySolveRequest {
            frontend: "dockerfile.v0".to_owned(),
            frontend_opt: options.into_iter().collect(),
            allow_result_return: true,
            allow_result_array_ref: true,
            cache_imports,
            frontend_inputs: inputs.into_iter().collect(),
        };
        let answer: GatewaySolveResponse = self.call("/moby.buildkit.v1.frontend.LLBBridge/Solve", request).await?;
        HeldResult::decode(answer.result)
    }

    /// Runs the steps of one tree, unless the daemon knows their results.
    ///
    /// # Errors
    /// The fault of the first step that failed, with its place.
    pub(crate) async fn evaluate(&self, tree: &HeldRef) -> Result<(), Status> {
        if tree.id.is_empty() {
            return Ok(());
        }
        let request = EvaluateRequest { r#ref: tree.id.clone() };
        self.call("/moby.buildkit.v1.frontend.LLBBridge/Evaluate", request).await.map(|_: EvaluateResponse| ())
    }

    /// Makes a result that of the build: its exporters run now.
    ///
    /// # Errors
    /// The connection is lost, or the build has ended.
    pub(crate) async fn give_back(&self, result: &HeldResult) -> Result<(), Status> {
        self.end(ReturnRequestMessage { result: Some(result.raw.clone()), error: None }).await
    }

    /// Ends the build without a result: no exporter runs.
    ///
    /// # Errors
    /// As [`Self::give_back`].
    pub(crate) async fn give_up(&self, why: &str) -> Result<(), Status> {
        let error = rpc::Status { code: Code::Aborted as i32, message: why.to_owned(), details: Vec::new() };
        self.end(ReturnRequestMessage { result: None, error: Some(error) }).await
    }

    async fn end(&self, request: ReturnRequestMessage) -> Result<(), Status> {
        self.call("/moby.buildkit.v1.frontend.LLBBridge/Return", request).await.map(|_: ReturnResponse| ())
    }

    async fn call<Q, A>(&self, path: &'static str, message: Q) -> Result<A, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let mut request = Request::new(message);
        request.metadata_mut().insert(BUILD_ID, self.id.clone());
        unary(&self.channel, PathAndQuery::from_static(path), request).await
    }
}

impl HeldResult {
    fn decode(raw: Vec<u8>) -> Result<Self, Status> {
        let ResultMessage { one, several, metadata } = ResultMessage::decode(raw.as_slice())
            .map_err(|error| Status::internal(format!("the result cannot be read: {error}")))?;
        let several = several.into_iter().flat_map(|map| map.refs);
        let all = several.chain(one.map(|it| (String::new(), it)));
        let refs = all.map(|(platform, it)| (platform, HeldRef { id: it.id, definition: it.def })).collect();
        Ok(Self { raw, refs, metadata })
    }

    /// The tree and the image config of a platform, written as in `linux/arm64`.
    pub(crate) fn of_platform(&self, platform: &str) -> Option<(&HeldRef, Option<&[u8]>)> {
        const CONFIG: &str = "containerimage.config";
        let tree = self.refs.get(platform).or_else(|| self.refs.get(""))?;
        let config = self.metadata.get(&format!("{CONFIG}/{platform}")).or_else(|| self.metadata.get(CONFIG));
        Some((tree, config.map(Vec::as_slice)))
    }
}

async fn ready(channel: &Channel) -> Result<Grpc<Channel>, Status> {
    let mut grpc = Grpc::new(channel.clone()).max_decoding_message_size(LONGEST_MESSAGE);
    grpc.ready().await.map_err(|error| Status::unavailable(ConnectCause::of(&error).reason))?;
    Ok(grpc)
}

async fn unary<Q, A>(channel: &Channel, path: PathAndQuery, request: Request<Q>) -> Result<A, Status>
where
    Q: Message + 'static,
    A: Message + Default + 'static,
{
    let mut grpc = ready(channel).await?;
    Ok(grpc.unary(request, path, ProstCodec::default()).await?.into_inner())
}
