//! The gRPC server of a session: HTTP/2 over a byte stream, and which service answers which method. It gives each service
//! only what that service needs of the session.
//!
//! Every method is served as a stream of raw messages in both directions, which a single message also is: one method of
//! BuildKit (`FileSend/DiffCopy`) carries two types of messages.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::{Buf as _, BufMut as _, Bytes};
use futures_util::stream::TryStreamExt as _;
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
    time::Instant,
};
use tonic::{
    Code, Request, Response, Status, Streaming,
    body::Body,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::{BoxFuture, http},
    server::{Grpc, StreamingService},
};

use super::{
    auth,
    call::{Answers, Call, LONGEST_MESSAGE, one},
    content, filesend, filesync,
    method::{METHODS, Method},
    secrets,
    services::SessionServices,
    ssh,
    traffic::Traffic,
    upload,
};

/// Longest headers of a call: ignore patterns arrive in them.
const LONGEST_HEADERS: u32 = 16 << 20;
/// Bytes that the daemon may send ahead, on one call and on all.
const CALL_WINDOW: u32 = 2 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
const MOST_CALLS: u32 = 10_000;
/// How many faults are kept.
const MOST_FAULTS: usize = 100;

/// What the calls of a session share.
pub(super) struct Served {
    services: SessionServices,
    pub(super) traffic: Arc<Traffic>,
    last_health_check: watch::Sender<Option<Instant>>,
    faults: Mutex<Vec<String>>,
}

impl Served {
    pub(super) fn new(services: SessionServices) -> Arc<Self> {
        let (last_health_check, _) = watch::channel(None);
        Arc::new(Self { services, traffic: Arc::default(), last_health_check, faults: Mutex::default() })
    }

    pub(super) fn faults(&self) -> Vec<String> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes an answer that says that something here failed, such as reading a file.
    fn note_fault(&self, status: &Status) {
        if matches!(status.code(), Code::FailedPrecondition | Code::DataLoss) {
            let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
            if faults.len() < MOST_FAULTS {
                faults.push(status.message().to_owned());
            }
        }
    }

    /// When the daemon last asked for our health.
    pub(super) fn health_checks(&self) -> watch::Receiver<Option<Instant>> {
        self.last_health_check.subscribe()
    }

    fn note_health_check(&self) {
        self.last_health_check.send_replace(Some(Instant::now()));
    }
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

async fn answer(served: &Served, method: Method, call: Call) -> Result<Answers, Status> {
    let (services, traffic) = (&served.services, &served.traffic);
    match method {
        Method::HealthCheck => {
            served.note_health_check();
            // SERVING, the field `status`.
            Ok(one(&HealthAnswer { status: 1 }))
        }
        Method::SyncFolder => filesync::sync(&services.folders, traffic, call),
        Method::SendResult => filesend::receive(&services.receivers, traffic, call).await,
        Method::GetSecret => secrets::get(services.secrets.as_deref(), call).await,
        Method::CheckAgent => ssh::check(services.ssh.as_deref(), call).await,
        Method::ForwardAgent => ssh::forward(services.ssh.as_deref(), call).await,
        Method::Pull => upload::pull(&services.uploads, &call),
        Method::Credentials => auth::credentials(services.registry.as_ref(), call).await,
        Method::FetchToken => auth::fetch_token(services.registry.as_ref(), call).await,
        Method::TokenAuthority => auth::token_authority(services.registry.as_ref(), call).await,
        Method::VerifyTokenAuthority => auth::verify_token_authority(services.registry.as_ref(), call).await,
        Method::BlobInfo => content::info(&services.content, call).await,
        Method::UpdateBlob => content::update(&services.content, call).await,
        Method::ReadBlob => content::read(&services.content, traffic, call).await,
        Method::WriteBlob => content::write(&services.content, traffic, call).await,
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
            let result = answer(&served, method, Call::new(request)).await;
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
