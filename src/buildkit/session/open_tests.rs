//! A session opened on a daemon: what it says of itself, how it ends.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::stream;
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    sync::mpsc,
    time::timeout,
};
use tonic::{
    Request, Response, Status, Streaming,
    codegen::{BoxFuture, http},
    metadata::MetadataMap,
    server::{Grpc, StreamingService},
    transport::Endpoint,
};

use super::{
    call::{Answers, BytesMessage},
    open::{Session, SessionIdentity},
    server::RawCodec,
    services::SessionServices,
    tests::{Daemon, Once},
};

/// The method `Control/Session` of a daemon: hands over what was said at the opening, and the stream.
#[derive(Clone)]
struct Control(mpsc::UnboundedSender<(MetadataMap, DuplexStream)>);

impl StreamingService<Bytes> for Control {
    type Response = Bytes;
    type ResponseStream = Answers;
    type Future = BoxFuture<Response<Answers>, Status>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        let opened = self.0.clone();
        Box::pin(async move {
            let (metadata, _, mut messages) = request.into_parts();
            let (ours, theirs) = tokio::io::duplex(1 << 10);
            let (from, mut to) = tokio::io::split(ours);
            opened.send((metadata, theirs)).expect("the test waits");
            tokio::spawn(async move {
                while let Ok(Some(bytes)) = messages.message().await {
                    to.write_all(&BytesMessage::decode(bytes).expect("well formed").data).await.expect("open");
                }
                to.shutdown().await.expect("open");
            });
            let answers = stream::unfold(from, |mut from| async {
                let mut data = bytes::BytesMut::with_capacity(100);
                let n = from.read_buf(&mut data).await.unwrap_or(0);
                (n > 0).then(|| (Ok(BytesMessage { data: data.freeze() }.encode_to_vec().into()), from))
            });
            Ok(Response::new(Box::pin(answers) as Answers))
        })
    }
}

async fn open(services: SessionServices) -> (Session, MetadataMap, DuplexStream) {
    let (ours, theirs) = tokio::io::duplex(64 << 10);
    let (opened, mut streams) = mpsc::unbounded_channel();
    let service = service_fn(move |request: http::Request<Incoming>| {
        let control = Control(opened.clone());
        async move { Ok::<_, std::convert::Infallible>(Grpc::new(RawCodec).streaming(control, request).await) }
    });
    tokio::spawn(http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(theirs), service));
    let endpoint = Endpoint::from_static("http://daemon");
    let channel = endpoint.connect_with_connector(Once(Some(ours))).await.expect("it is served");
    let identity = SessionIdentity { uuid: "id".to_owned(), name: "name".to_owned(), shared_key: "key".to_owned() };
    let session = Session::open(channel, identity, services).await.expect("opened");
    let (metadata, stream) = streams.recv().await.expect("opened");
    (session, metadata, stream)
}

#[tokio::test]
async fn a_session_says_what_it_offers_and_answers_through_the_daemon() {
    let uploads = [("x".to_owned(), Arc::new(tempfile::tempfile().expect("a file")))].into();
    let (session, metadata, stream) = open(SessionServices { uploads, ..SessionServices::default() }).await;
    assert_eq!(session.id(), "id");
    let of = |name: &str| metadata.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    assert_eq!(of("x-docker-expose-session-uuid").as_deref(), Some("id"));
    assert_eq!(of("x-docker-expose-session-name").as_deref(), Some("name"));
    assert_eq!(of("x-docker-expose-session-sharedkey").as_deref(), Some("key"));
    let methods = metadata.get_all("x-docker-expose-session-grpc-method");
    let methods: BTreeSet<_> = methods.iter().map(|value| value.to_str().expect("text")).collect();
    assert_eq!(methods, BTreeSet::from(["/grpc.health.v1.Health/Check", "/moby.upload.v1.Upload/Pull"]));
    let daemon = Daemon::on(stream, None).await;
    daemon.ask::<()>("/grpc.health.v1.Health/Check", &[], &()).await.expect("healthy");
    timeout(Duration::from_millis(50), session.lost()).await.expect_err("it is there");
    drop(session);
    let call = async { while daemon.ask::<()>("/grpc.health.v1.Health/Check", &[], &()).await.is_ok() {} };
    timeout(Duration::from_secs(5), call).await.expect("closed");
}

#[tokio::test]
async fn a_session_whose_daemon_goes_is_lost() {
    let (session, _, stream) = open(SessionServices::default()).await;
    drop(stream);
    let reason = timeout(Duration::from_secs(5), session.lost()).await.expect("lost");
    assert_eq!(reason, "the daemon ended the session");
}

#[tokio::test]
async fn a_session_whose_daemon_is_silent_is_lost() {
    let (session, _, stream) = open(SessionServices::default()).await;
    let silence = Duration::from_millis(500);
    timeout(silence * 2, session.lost_after(silence)).await.expect_err("no check was ever made");
    let daemon = Daemon::on(stream, None).await;
    daemon.ask::<()>("/grpc.health.v1.Health/Check", &[], &()).await.expect("healthy");
    let reason = timeout(silence * 20, session.lost_after(silence)).await.expect("lost");
    assert!(reason.starts_with("the daemon was silent"), "{reason}");
}
