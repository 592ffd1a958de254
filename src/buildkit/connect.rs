//! A connection to a node: from its address to a gRPC channel that has answered once.
//!
//! A connection that is lost stays lost: calls fail, and nobody connects again behind the caller's back, as sessions and
//! builds were bound to it. [`Connection::again`] makes another one.

use std::{
    error::Error,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bollard_buildkit_proto::moby::buildkit::v1::{InfoRequest, InfoResponse};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpStream, UnixStream},
    time::{Instant, sleep, timeout_at},
};
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codegen::{Service, http::Uri, http::uri::PathAndQuery},
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;

use super::{
    address::NodeAddress,
    connect_fault::{ConnectCause, ConnectFault, clean},
    docker_transport::{ContainerState, DockerApi},
    process::Program,
    setup::ConnectSetup,
    stream::{BoxedStream, LastWords},
    tls::{self, Spoken},
};

/// Time for a node to answer.
const ANSWER: Duration = Duration::from_secs(5);
/// Time for a node whose container had to be started.
const START: Duration = Duration::from_secs(9);
/// How often a container that was started is asked whether its daemon listens, and how long a program may take to say why it
/// ended.
const TICK: Duration = Duration::from_millis(200);
/// Longest headers of an answer, in bytes: the details of an error are in them, with the whole Dockerfile.
const LONGEST_HEADERS: u32 = 16 << 20;
/// Longest message that is read, in bytes; BuildKit sends 16 MiB.
const LONGEST_MESSAGE: usize = 64 << 20;
/// The first question.
const INFO: &str = "/moby.buildkit.v1.Control/Info";

/// A connection to a node; clones share it.
#[derive(Clone)]
pub(crate) struct Connection {
    channel: Channel,
    address: Arc<NodeAddress>,
    setup: ConnectSetup,
    info: Option<Arc<InfoResponse>>,
}

impl Connection {
    /// Connects, and waits for a first answer.
    ///
    /// # Errors
    /// No answer within five seconds, or nine if a container had to be started.
    pub(crate) async fn open(address: &NodeAddress, setup: &ConnectSetup) -> Result<Self, ConnectFault> {
        let fault = |cause| ConnectFault { address: address.to_string(), cause };
        let begun = Instant::now();
        let mut limit = ANSWER;
        if let NodeAddress::DockerContainer { name, context } = address {
            let words = LastWords::default();
            let api = DockerApi::new(context.as_deref(), setup, &words).map_err(fault)?;
            let ran = timeout_at(begun + START, api.run_container(name)).await;
            if ran.unwrap_or_else(|_| Err(silent(START))).map_err(fault)? == ContainerState::Started {
                limit = START;
            }
        }
        loop {
            let words = LastWords::default();
            let opened = timeout_at(begun + limit, Self::try_open(address, setup, &words)).await;
            let opened = opened.unwrap_or_else(|_| Err(silent(limit)));
            match opened {
                Ok(connection) => return Ok(connection),
                // The daemon in it does not listen at once.
                Err(_) if limit == START && begun.elapsed() + TICK < limit => sleep(TICK).await,
                Err(cause) => return Err(fault(words.after(address).await.map_or(cause, ConnectCause::new))),
            }
        }
    }

    async fn try_open(address: &NodeAddress, setup: &ConnectSetup, words: &LastWords) -> Result<Self, ConnectCause> {
        let stream = stream(address, setup, words).await?;
        let endpoint = Endpoint::from_shared(format!("http://{}", authority(address)))
            .map_err(|error| ConnectCause::of(&error))?
            .http2_max_header_list_size(LONGEST_HEADERS);
        let channel = endpoint.connect_with_connector(OneStream(Some(stream))).await;
        let channel = channel.map_err(|error| closed(address, &error))?;
        let mut connection = Self { channel, address: Arc::new(address.clone()), setup: setup.clone(), info: None };
        match connection.unary(INFO, InfoRequest {}).await {
            Ok(info) => connection.info = Some(Arc::new(info)),
            // Whoever refuses has answered.
            Err(status) if status.code() == Code::Unimplemented => (),
            Err(status) => {
                let cause = status.source().map(|error| closed(address, error));
                return Err(cause.unwrap_or_else(|| ConnectCause::new(clean(status.message()))));
            }
        }
        Ok(connection)
    }

    /// The channel, for clients that are made elsewhere.
    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// A client for calls, which takes long messages.
    pub(crate) fn grpc(&self) -> Grpc<Channel> {
        Grpc::new(self.channel()).max_decoding_message_size(LONGEST_MESSAGE).max_encoding_message_size(LONGEST_MESSAGE)
    }

    /// What the node is.
    pub(crate) fn address(&self) -> &NodeAddress {
        &self.address
    }

    /// What `Control.Info` said; `None` if the daemon is too old for it.
    pub(crate) fn info(&self) -> Option<&InfoResponse> {
        self.info.as_deref()
    }

    /// One more connection to the same node.
    ///
    /// # Errors
    /// As of [`Self::open`].
    pub(crate) async fn again(&self) -> Result<Self, ConnectFault> {
        Self::open(&self.address, &self.setup).await
    }

    /// One question with one answer.
    pub(super) async fn unary<Q, A>(&self, path: &'static str, question: Q) -> Result<A, Status>
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        let mut grpc = self.grpc();
        grpc.ready().await.map_err(|error| Status::from_error(Box::new(error)))?;
        let path = PathAndQuery::from_static(path);
        let codec: ProstCodec<Q, A> = ProstCodec::default();
        Ok(grpc.unary(Request::new(question), path, codec).await?.into_inner())
    }
}

/// The stream that a node is reached by.
async fn stream(address: &NodeAddress, setup: &ConnectSetup, words: &LastWords) -> Result<BoxedStream, ConnectCause> {
    let failed = |error: io::Error| ConnectCause::of(&error);
    match address {
        NodeAddress::Unix(path) => Ok(Box::new(UnixStream::connect(path).await.map_err(failed)?)),
        NodeAddress::Tcp { host, port, tls } => {
            let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(failed)?;
            stream.set_nodelay(true).map_err(failed)?;
            match tls {
                None => Ok(Box::new(stream)),
                Some(files) => tls::encrypt(Box::new(stream), files, host, Spoken::Http2).await,
            }
        }
        NodeAddress::Docker { context } => DockerApi::new(context.as_deref(), setup, words)?.buildkit().await,
        NodeAddress::DockerContainer { name, context } => {
            DockerApi::new(context.as_deref(), setup, words)?.exec(name).await
        }
        NodeAddress::Ssh(place) => Program::of_ssh(place).start(setup, words),
        NodeAddress::KubePod(place) => Program::of_pod(place).start(setup, words),
    }
}

/// What requests name as the server: proxies and virtual hosts choose by it.
fn authority(address: &NodeAddress) -> String {
    match address {
        NodeAddress::Tcp { host, port, tls } => match tls.as_ref().and_then(|tls| tls.servername.as_deref()) {
            Some(name) => name.to_owned(),
            None if host.contains(':') => format!("[{host}]:{port}"),
            None => format!("{host}:{port}"),
        },
        _ => "localhost".to_owned(),
    }
}

/// Why a connection ended before its first answer.
fn closed(address: &NodeAddress, error: &(dyn Error + 'static)) -> ConnectCause {
    let cause = ConnectCause::of(error);
    match address {
        _ if cause.help.is_some() => cause,
        NodeAddress::Tcp { tls: None, .. } => {
            cause.help("it must be a BuildKit daemon; if it wants TLS, add ?cacert=FILE&cert=FILE&key=FILE")
        }
        NodeAddress::Tcp { .. } | NodeAddress::Unix(_) => cause.help("the address must be that of a BuildKit daemon"),
        _ => cause,
    }
}

fn silent(limit: Duration) -> ConnectCause {
    let cause = ConnectCause::new(format!("no answer within {} seconds", limit.as_secs()));
    cause.help("see whether the machine is up and a BuildKit daemon listens there")
}

impl LastWords {
    /// What was said where a connection has failed. A program says why it ended a little later than it ends.
    async fn after(&self, address: &NodeAddress) -> Option<String> {
        let may_say = !matches!(address, NodeAddress::Unix(_) | NodeAddress::Tcp { .. });
        if may_say && self.text().is_none() {
            sleep(TICK).await;
        }
        self.text()
    }
}

/// Gives a stream that is there already, once.
struct OneStream(Option<BoxedStream>);

impl Service<Uri> for OneStream {
    type Response = TokioIo<BoxedStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let stream = self.0.take().map(TokioIo::new);
        let lost = || io::Error::new(io::ErrorKind::ConnectionAborted, "the connection was lost");
        Box::pin(std::future::ready(stream.ok_or_else(lost)))
    }
}
