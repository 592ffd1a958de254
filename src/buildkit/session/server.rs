//! The gRPC server of a session: HTTP/2 over a byte stream, and the table of its methods.
//!
//! Every method is served as a stream of raw messages in both directions, which a single message also is: one method of
//! BuildKit (`FileSend/DiffCopy`) carries two types of messages.

use std::{convert::Infallible, pin::Pin, sync::Arc};

use bytes::{Buf as _, BufMut as _, Bytes};
use futures_util::stream::{Stream, TryStreamExt as _, unfold};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
};
use tonic::{
    Request, Response, Status, Streaming,
    body::Body,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::{BoxFuture, http},
    metadata::MetadataMap,
    server::{Grpc, StreamingService},
};

use super::{auth, content, filesend, filesync, open::Served, secrets, ssh, upload};

/// Longest message that is taken from a daemon.
pub(super) const LONGEST_MESSAGE: usize = 32 << 20;
/// Longest headers of a call: ignore patterns arrive in them.
const LONGEST_HEADERS: u32 = 16 << 20;
/// Bytes that the daemon may send ahead, on one call and on all.
const CALL_WINDOW: u32 = 2 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
const MOST_CALLS: u32 = 10_000;

/// A method that a session can serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    HealthCheck,
    SyncFolder,
    SendResult,
    GetSecret,
    CheckAgent,
    ForwardAgent,
    Pull,
    Credentials,
    FetchToken,
    TokenAuthority,
    VerifyTokenAuthority,
    BlobInfo,
    UpdateBlob,
    ReadBlob,
    WriteBlob,
    ListBlobs,
    BlobStatus,
    BlobStatuses,
    AbortBlob,
    DeleteBlob,
}

/// All methods with their paths.
pub(super) const METHODS: &[(Method, &str)] = &[
    (Method::HealthCheck, "/grpc.health.v1.Health/Check"),
    (Method::SyncFolder, "/moby.filesync.v1.FileSync/DiffCopy"),
    (Method::SendResult, "/moby.filesync.v1.FileSend/DiffCopy"),
    (Method::GetSecret, "/moby.buildkit.secrets.v1.Secrets/GetSecret"),
    (Method::CheckAgent, "/moby.sshforward.v1.SSH/CheckAgent"),
    (Method::ForwardAgent, "/moby.sshforward.v1.SSH/ForwardAgent"),
    (Method::Pull, "/moby.upload.v1.Upload/Pull"),
    (Method::Credentials, "/moby.filesync.v1.Auth/Credentials"),
    (Method::FetchToken, "/moby.filesync.v1.Auth/FetchToken"),
    (Method::TokenAuthority, "/moby.filesync.v1.Auth/GetTokenAuthority"),
    (Method::VerifyTokenAuthority, "/moby.filesync.v1.Auth/VerifyTokenAuthority"),
    (Method::BlobInfo, "/containerd.services.content.v1.Content/Info"),
    (Method::UpdateBlob, "/containerd.services.content.v1.Content/Update"),
    (Method::ReadBlob, "/containerd.services.content.v1.Content/Read"),
    (Method::WriteBlob, "/containerd.services.content.v1.Content/Write"),
    (Method::ListBlobs, "/containerd.services.content.v1.Content/List"),
    (Method::BlobStatus, "/containerd.services.content.v1.Content/Status"),
    (Method::BlobStatuses, "/containerd.services.content.v1.Content/ListStatuses"),
    (Method::AbortBlob, "/containerd.services.content.v1.Content/Abort"),
    (Method::DeleteBlob, "/containerd.services.content.v1.Content/Delete"),
];

/// The answers to a call, encoded.
pub(super) type Answers = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

/// A call of the daemon.
pub(super) struct Call {
    pub(super) metadata: MetadataMap,
    messages: Streaming<Bytes>,
}

impl Call {
    /// The first value of a header.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.metadata.get(name).and_then(|value| value.to_str().ok())
    }

    /// The next message; `None` after the last.
    ///
    /// # Errors
    /// The call was broken off, or the message is malformed.
    pub(super) async fn next<M: Message + Default>(&mut self) -> Result<Option<M>, Status> {
        let Some(bytes) = self.messages.message().await? else { return Ok(None) };
        M::decode(bytes).map(Some).map_err(|error| Status::invalid_argument(format!("a malformed message: {error}")))
    }

    /// The only message.
    ///
    /// # Errors
    /// As [`next`](Self::next), or there is none.
    pub(super) async fn only<M: Message + Default>(mut self) -> Result<M, Status> {
        self.next().await?.ok_or_else(|| Status::invalid_argument("a call without a message"))
    }
}

/// One answer.
pub(super) fn one(message: &impl Message) -> Answers {
    let bytes = Bytes::from(message.encode_to_vec());
    Box::pin(futures_util::stream::once(async { Ok(bytes) }))
}

/// A channel for answers that are made meanwhile; `n` of them wait for the daemon.
pub(super) fn answers(n: usize) -> (mpsc::Sender<Result<Bytes, Status>>, Answers) {
    let (sender, receiver) = mpsc::channel(n);
    (sender, Box::pin(unfold(receiver, |mut it| async { it.recv().await.map(|answer| (answer, it)) })))
}

/// Serves calls until the stream ends; returns why it did.
pub(super) async fn serve(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, served: Arc<Served>) -> String {
    let service = service_fn(move |request: http::Request<Incoming>| {
        let served = served.clone();
        async move { Ok::<_, Infallible>(route(request, served).await) }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .max_header_list_size(LONGEST_HEADERS)
        .initial_stream_window_size(CALL_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MOST_CALLS)
        .max_send_buf_size(1 << 20)
        .serve_connection(TokioIo::new(stream), service);
    match connection.await {
        Ok(()) => "the daemon ended the session".to_owned(),
        Err(error) => format!("the connection to the daemon broke: {error}"),
    }
}

async fn route(request: http::Request<Incoming>, served: Arc<Served>) -> http::Response<Body> {
    let path = request.uri().path();
    match METHODS.iter().find(|(method, known)| *known == path && served.services.offer(*method)) {
        Some((method, _)) => {
            let service = MethodService { served, method: *method };
            Grpc::new(RawCodec).max_decoding_message_size(LONGEST_MESSAGE).streaming(service, request).await
        }
        None => Status::unimplemented(format!("this session does not offer {path}")).into_http(),
    }
}

async fn answer(served: Arc<Served>, method: Method, call: Call) -> Result<Answers, Status> {
    match method {
        Method::HealthCheck => {
            served.note_health_check();
            // SERVING, the field `status`.
            Ok(one(&HealthAnswer { status: 1 }))
        }
        Method::SyncFolder => filesync::sync(&served, call),
        Method::SendResult => filesend::receive(&served, call).await,
        Method::GetSecret => secrets::get(&served, call).await,
        Method::CheckAgent => ssh::check(&served, call).await,
        Method::ForwardAgent => ssh::forward(&served, call).await,
        Method::Pull => upload::pull(&served, &call),
        Method::Credentials => auth::credentials(&served, call).await,
        Method::FetchToken => auth::fetch_token(&served, call).await,
        Method::TokenAuthority => auth::token_authority(&served, call).await,
        Method::VerifyTokenAuthority => auth::verify_token_authority(&served, call).await,
        Method::BlobInfo => content::info(&served, call).await,
        Method::UpdateBlob => content::update(&served, call).await,
        Method::ReadBlob => content::read(&served, call).await,
        Method::WriteBlob => content::write(&served, call).await,
        // What is here beyond what it asks for by digest is not the daemon's business; an upload lives as long as its call.
        Method::ListBlobs | Method::BlobStatuses | Method::AbortBlob => Ok(one(&())),
        Method::BlobStatus => Err(Status::not_found("there is no such upload")),
        Method::DeleteBlob => Err(Status::permission_denied("the daemon does not delete blobs here")),
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct HealthAnswer {
    #[prost(int32, tag = "1")]
    status: i32,
}

struct MethodService {
    served: Arc<Served>,
    method: Method,
}

impl StreamingService<Bytes> for MethodService {
    type Response = Bytes;
    type ResponseStream = Answers;
    type Future = BoxFuture<Response<Answers>, Status>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        let (served, method) = (self.served.clone(), self.method);
        Box::pin(async move {
            let (metadata, _, messages) = request.into_parts();
            let result = answer(served.clone(), method, Call { metadata, messages }).await;
            let answers = result.inspect_err(|status| served.note_fault(status))?;
            let answers = answers.inspect_err(move |status| served.note_fault(status));
            Ok(Response::new(Box::pin(answers) as Answers))
        })
    }
}

/// Messages as they are.
#[derive(Clone, Copy)]
pub(super) struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}
