//! Throwaway.
use super::{
    filesend::FileReceiver,
    open::{Session, SessionIdentity},
    services::{Receiver, SessionServices, SyncedFolder},
};
use crate::layer::view::at;
use bollard_buildkit_proto::moby::buildkit::v1::{Exporter, SolveRequest, SolveResponse};
use hyper_util::rt::TokioIo;
use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};
use tonic::{
    Request,
    client::Grpc,
    codegen::{Service, http},
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;

struct Hijack(&'static str);
impl Service<http::Uri> for Hijack {
    type Response = TokioIo<UnixStream>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }
    fn call(&mut self, _: http::Uri) -> Self::Future {
        let path = self.0;
        Box::pin(async move {
            let mut s = UnixStream::connect(path).await?;
            s.write_all(b"POST /grpc HTTP/1.1\r\nHost: docker\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n").await?;
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(s.read_u8().await?);
            }
            assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
            Ok(TokioIo::new(s))
        })
    }
}

pub(super) async fn channel(path: &'static str) -> Channel {
    Endpoint::from_static("http://docker")
        .http2_max_header_list_size(16 << 20)
        .connect_with_connector(Hijack(path))
        .await
        .expect("connected")
}
pub(super) fn identity() -> SessionIdentity {
    SessionIdentity { uuid: uuid::Uuid::new_v4().simple().to_string(), name: "bake".into(), shared_key: "k".into() }
}
pub(super) async fn solve(
    channel: &Channel,
    session: &Session,
    attrs: &[(&str, &str)],
    exporters: Vec<Exporter>,
) -> Result<SolveResponse, tonic::Status> {
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.unwrap();
    let request = SolveRequest {
        r#ref: uuid::Uuid::new_v4().simple().to_string(),
        session: session.id().to_owned(),
        frontend: "dockerfile.v0".into(),
        frontend_attrs: attrs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect(),
        exporters: exporters.clone(),
        exporter_deprecated: exporters.first().map(|it| it.r#type.clone()).unwrap_or_default(),
        exporter_attrs_deprecated: exporters.first().map(|it| it.attrs.clone()).unwrap_or_default(),
        ..SolveRequest::default()
    };
    Ok(grpc
        .unary(
            Request::new(request),
            http::uri::PathAndQuery::from_static("/moby.buildkit.v1.Control/Solve"),
            ProstCodec::<SolveRequest, SolveResponse>::default(),
        )
        .await?
        .into_inner())
}
pub(super) fn exporter(kind: &str, attrs: &[(&str, &str)]) -> Exporter {
    Exporter {
        r#type: kind.into(),
        attrs: attrs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect::<HashMap<_, _>>(),
        ..Default::default()
    }
}
pub(super) fn dir(name: &str, path: &Path) -> SyncedFolder {
    SyncedFolder { name: name.into(), root: Arc::new(at::host_dir(path).unwrap()), shown: path.display().to_string() }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore]
async fn tar() {
    for socket in ["/tmp/dk/a/docker.sock", "/tmp/dk/b/docker.sock"] {
        let ctx = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(ctx.path().join("sub/deep")).unwrap();
        std::fs::write(ctx.path().join("Dockerfile"), "FROM scratch\nCOPY . /all\n").unwrap();
        std::fs::write(ctx.path().join(".dockerignore"), "*.skip\n").unwrap();
        std::fs::write(ctx.path().join("x.skip"), "no").unwrap();
        std::fs::write(ctx.path().join("sub/deep/big"), vec![9; 5 << 20]).unwrap();
        std::fs::hard_link(ctx.path().join("sub/deep/big"), ctx.path().join("sub/again")).unwrap();
        std::os::unix::fs::symlink("deep/big", ctx.path().join("sub/l")).unwrap();
        let n: usize = std::env::var("N").ok().and_then(|n| n.parse().ok()).unwrap_or(300);
        for i in 0..n {
            std::fs::create_dir_all(ctx.path().join(format!("many/{}", i / 200))).unwrap();
            std::fs::write(ctx.path().join(format!("many/{}/f{i}", i / 200)), format!("{i}")).unwrap();
        }
        let channel = channel(socket).await;
        for run in 0..2 {
            let file = tempfile::tempfile().unwrap();
            let r = FileReceiver::new(
                file.try_clone().unwrap(),
                Box::new(|md| {
                    println!("md {md:?}");
                    false
                }),
            );
            let services = SessionServices {
                folders: vec![dir("context", ctx.path()), dir("dockerfile", ctx.path())],
                receivers: BTreeMap::from([(0, Receiver::File(r.clone()))]),
                ..Default::default()
            };
            let session = Session::open(channel.clone(), identity(), services).await.unwrap();
            let t = std::time::Instant::now();
            let answer = solve(&channel, &session, &[("filename", "Dockerfile")], vec![exporter("tar", &[])]).await;
            println!(
                "{socket} run {run} {:?} {:?} {:?} {:?}",
                answer.map(|a| a.exporter_response),
                session.sent(),
                r.received(),
                t.elapsed()
            );
            if n < 1000 {
                let mut a = tar::Archive::new(std::io::Seek::rewind(&mut &file).map(|()| &file).unwrap());
                println!("{} entries", a.entries().unwrap().count());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore]
async fn alive() {
    let channel = channel("/tmp/dk/b/docker.sock").await;
    let session = Session::open(channel.clone(), identity(), SessionServices::default()).await.unwrap();
    let t = std::time::Instant::now();
    tokio::select! { why = session.lost() => panic!("{why} {:?}", t.elapsed()), () = tokio::time::sleep(std::time::Duration::from_secs(45)) => println!("alive {:?}", session.health()) }
}
