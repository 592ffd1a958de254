//! A session's server, spoken to by a client in this process, over a stream in memory.

use std::{
    collections::BTreeMap,
    os::unix::fs::symlink,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::stream;
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::{io::DuplexStream, sync::mpsc};
use tonic::{
    Code, Request, Status, Streaming,
    client::Grpc,
    codegen::{Service, http},
    transport::{Channel, Endpoint},
};

use super::{
    call::BytesMessage,
    filesend::{FileReceiver, ReceivedFile, Receiver},
    filesync::SyncedFolder,
    packet::{FileStat, Packet, PacketKind},
    server::{RawCodec, Served, serve},
    services::SessionServices,
};
use crate::layer::view::at;

/// Connects once, to a stream that is there.
pub(super) struct Once(pub(super) Option<DuplexStream>);

impl Service<http::Uri> for Once {
    type Response = TokioIo<DuplexStream>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Uri) -> Self::Future {
        let stream = self.0.take();
        Box::pin(async { stream.map(TokioIo::new).ok_or_else(|| std::io::Error::other("only once")) })
    }
}

/// A daemon that has a session.
pub(super) struct Daemon {
    channel: Channel,
    served: Option<Arc<Served>>,
}

impl Daemon {
    pub(super) async fn with(services: SessionServices) -> Self {
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        let served = Served::new(services);
        tokio::spawn(serve(ours, served.clone()));
        Self::on(theirs, Some(served)).await
    }

    /// A daemon that has the session at the other end of a stream.
    pub(super) async fn on(stream: DuplexStream, served: Option<Arc<Served>>) -> Self {
        let endpoint = Endpoint::from_static("http://session").http2_max_header_list_size(16 << 20);
        let channel = endpoint.connect_with_connector(Once(Some(stream))).await.expect("it is served");
        Self { channel, served }
    }

    pub(super) fn served(&self) -> &Served {
        self.served.as_ref().expect("a session of this test")
    }

    /// A call with headers and the messages that arrive in a channel.
    pub(super) async fn stream(
        &self,
        path: &'static str,
        headers: &[(&'static str, &str)],
        messages: mpsc::UnboundedReceiver<Bytes>,
    ) -> Result<Streaming<Bytes>, Status> {
        let messages = stream::unfold(messages, |mut it| async { it.recv().await.map(|message| (message, it)) });
        let mut request = Request::new(messages);
        for (name, value) in headers {
            request.metadata_mut().append(*name, value.parse().expect("a header"));
        }
        let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(32 << 20);
        grpc.ready().await.expect("it is served");
        let answers = grpc.streaming(request, http::uri::PathAndQuery::from_static(path), RawCodec).await;
        answers.map(tonic::Response::into_inner)
    }

    /// The same, with the sender of the channel.
    async fn call(
        &self,
        path: &'static str,
        headers: &[(&'static str, &str)],
    ) -> (mpsc::UnboundedSender<Bytes>, Result<Streaming<Bytes>, Status>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (sender, self.stream(path, headers, receiver).await)
    }

    /// A call with one message and one answer.
    pub(super) async fn ask<A: Message + Default>(
        &self,
        path: &'static str,
        headers: &[(&'static str, &str)],
        message: &impl Message,
    ) -> Result<A, Status> {
        let (sender, receiver) = mpsc::unbounded_channel();
        sender.send(message.encode_to_vec().into()).expect("open");
        drop(sender);
        let answer = self.stream(path, headers, receiver).await?.message().await?.expect("an answer");
        Ok(A::decode(answer).expect("well formed"))
    }
}

const SYNC: &str = "/moby.filesync.v1.FileSync/DiffCopy";
const SEND: &str = "/moby.filesync.v1.FileSend/DiffCopy";

fn folder(path: &Path) -> SessionServices {
    let root = Arc::new(at::host_dir(path).expect("there"));
    let folder = SyncedFolder { name: "context".to_owned(), root, shown: "ctx".to_owned() };
    SessionServices { folders: vec![folder], ..SessionServices::default() }
}

/// Takes a folder as a daemon does; returns descriptions and contents.
async fn take(
    daemon: &Daemon,
    headers: &[(&'static str, &str)],
) -> Result<(Vec<FileStat>, BTreeMap<String, Vec<u8>>), Status> {
    let mut all = vec![("dir-name", "context")];
    all.extend(headers);
    let (sender, answers) = daemon.call(SYNC, &all).await;
    let mut answers = answers?;
    let send = |packet: &Packet| drop(sender.send(packet.encode_to_vec().into()));
    let (mut stats, mut contents, mut wanted) = (Vec::<FileStat>::new(), BTreeMap::new(), 0);
    let mut is_listed = false;
    while let Some(bytes) = answers.message().await? {
        let packet = Packet::decode(bytes).expect("well formed");
        match packet.kind() {
            PacketKind::Stat => match packet.stat {
                Some(stat) => {
                    if stat.mode >> 19 == 0 && stat.link.is_empty() {
                        send(&Packet::request(stats.len() as u32));
                        wanted += 1;
                    }
                    stats.push(stat);
                }
                None => is_listed = true,
            },
            PacketKind::Data => {
                let path = String::from_utf8_lossy(&stats[packet.id as usize].path).into_owned();
                contents.entry(path).or_insert_with(Vec::new).extend(&packet.data);
                wanted -= i32::from(packet.data.is_empty());
            }
            PacketKind::Finish => return Ok((stats, contents)),
            PacketKind::Request | PacketKind::Error => panic!("not from a sender"),
        }
        if is_listed && wanted == 0 {
            send(&Packet::finish());
            wanted = -1;
        }
    }
    panic!("it ended early");
}

fn paths(stats: &[FileStat]) -> String {
    stats.iter().map(|stat| String::from_utf8_lossy(&stat.path).into_owned()).collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn health_is_checked_and_other_methods_are_refused() {
    let daemon = Daemon::with(SessionServices::default()).await;
    // The answer SERVING is the number 1 in its first field.
    let (sender, answers) = daemon.call("/grpc.health.v1.Health/Check", &[]).await;
    drop(sender);
    assert_eq!(answers.expect("served").message().await.expect("an answer").expect("one"), &b"\x08\x01"[..]);
    let refused = daemon.ask::<BytesMessage>(SYNC, &[], &()).await.expect_err("not offered");
    assert_eq!(refused.code(), Code::Unimplemented);
}

#[tokio::test]
async fn a_folder_travels_in_order_and_filtered() {
    let files = tempfile::tempdir().expect("a folder");
    let at = |name: &str| files.path().join(name);
    for dir in ["a", "a/deep", "b", "node_modules/x"] {
        std::fs::create_dir_all(at(dir)).expect("writable");
    }
    for file in ["a/1", "a/deep/2", "a.txt", "b/3.md", "node_modules/x/4", "a-b"] {
        std::fs::write(at(file), file).expect("writable");
    }
    std::fs::hard_link(at("a/1"), at("z-link")).expect("writable");
    symlink("a/deep/2", at("link")).expect("writable");
    let _socket = std::os::unix::net::UnixListener::bind(at("socket")).expect("a socket");
    let daemon = Daemon::with(folder(files.path())).await;
    let (stats, contents) = take(&daemon, &[]).await.expect("sent");
    let all = "a a/1 a/deep a/deep/2 a-b a.txt b b/3.md link node_modules node_modules/x node_modules/x/4 z-link";
    assert_eq!(paths(&stats), all);
    assert_eq!(contents["a/deep/2"], b"a/deep/2");
    let link = stats.last().expect("some");
    assert_eq!((link.link.as_slice(), link.size), (&b"a/1"[..], 0));
    assert_eq!((stats[8].link.as_slice(), stats[8].mode), (&b"a/deep/2"[..], 1 << 27 | 0o777));
    let table: &[(&[(&str, &str)], &str)] = &[
        (&[("exclude-patterns", "**/node_modules"), ("exclude-patterns", "a")], "a-b a.txt b b/3.md link z-link"),
        (&[("exclude-patterns", "*"), ("exclude-patterns", "!a/deep/2")], "a a/deep a/deep/2"),
        (&[("include-patterns", "b/*.md"), ("include-patterns", "node_modules/y")], "b b/3.md"),
        (&[("followpaths", "link"), ("followpaths", "b")], "a a/deep a/deep/2 b b/3.md link"),
        (&[("followpaths", "b%2F3.md"), ("followpaths-encoded", "1")], "b b/3.md"),
        (&[("followpaths", "a"), ("exclude-patterns", "a/deep")], "a a/1"),
        (&[("include-patterns", "z-link")], "z-link"),
    ];
    for (headers, wanted) in table {
        let (stats, contents) = take(&daemon, headers).await.expect("sent");
        assert_eq!(paths(&stats), *wanted, "{headers:?}");
        assert!(stats.iter().all(|stat| stat.mode >> 19 != 0 || !stat.link.is_empty() || stat.size > 0));
        // The first name of a file that is sent has its content.
        assert!(!wanted.contains("z-link") || !contents["z-link"].is_empty() || wanted.contains("a/1"));
    }
    assert_eq!(daemon.served().traffic.now().syncs, 8);
    let unknown = daemon.call(SYNC, &[("dir-name", "/etc")]).await.1.expect_err("not offered");
    assert_eq!(unknown.code(), Code::NotFound);
}

#[tokio::test]
async fn what_became_a_link_is_not_sent_and_only_files_are_requested() {
    let files = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(files.path().join("dir")).expect("writable");
    std::fs::write(files.path().join("file"), "mine").expect("writable");
    let daemon = Daemon::with(folder(files.path())).await;
    for (id, code) in [(0, Code::InvalidArgument), (7, Code::InvalidArgument), (1, Code::FailedPrecondition)] {
        let (sender, answers) = daemon.call(SYNC, &[("dir-name", "context")]).await;
        let mut answers = answers.expect("offered");
        for _ in 0..3 {
            answers.message().await.expect("no error").expect("a description");
        }
        if id == 1 {
            std::fs::remove_file(files.path().join("file")).expect("ours");
            symlink("/etc/passwd", files.path().join("file")).expect("writable");
        }
        sender.send(Packet::request(id).encode_to_vec().into()).expect("open");
        let refused = answers.message().await.expect_err("refused");
        assert_eq!(refused.code(), code, "{refused}");
    }
    let faults = daemon.served().faults();
    assert!(faults.len() == 1 && faults[0].starts_with("cannot read ctx/file: "), "{faults:?}");
}

#[tokio::test]
async fn headers_may_be_long_and_names_need_not_be_text() {
    let files = tempfile::tempdir().expect("a folder");
    let odd = std::os::unix::ffi::OsStringExt::from_vec(b"odd-\xff".to_vec());
    std::fs::write(files.path().join::<std::ffi::OsString>(odd), vec![7; 3 << 20]).expect("writable");
    let daemon = Daemon::with(folder(files.path())).await;
    let long = "x".repeat(1000);
    let headers: Vec<(&str, &str)> = (0..8000).map(|_| ("exclude-patterns", long.as_str())).collect();
    let (stats, contents) = take(&daemon, &headers).await.expect("8 MB of headers are taken");
    assert_eq!(stats[0].path, b"odd-\xff");
    assert_eq!(contents.values().next().expect("one").len(), 3 << 20);
    assert_eq!(daemon.served().traffic.now().files, 3 << 20);
}

#[tokio::test]
async fn a_result_arrives_once_and_a_known_one_does_not_travel() {
    let file = tempfile::tempfile().expect("a file");
    let is_known = |metadata: &BTreeMap<String, String>| {
        metadata.get("containerimage.digest").is_some_and(|digest| digest == "sha256:known")
    };
    let receiver = FileReceiver::new(file.try_clone().expect("open"), Box::new(is_known));
    let receivers = BTreeMap::from([(1, Receiver::File(receiver.clone()))]);
    let daemon = Daemon::with(SessionServices { receivers, ..SessionServices::default() }).await;
    let id = ("buildkit-attachable-exporter-id", "1");
    let known = daemon.call(SEND, &[id, ("exporter-md-containerimage.digest", "sha256:known")]).await.1;
    assert_eq!(known.expect_err("it is here").code(), Code::AlreadyExists);
    assert_eq!(receiver.received(), ReceivedFile::Known);
    assert_eq!(daemon.call(SEND, &[]).await.1.expect_err("not expected").code(), Code::NotFound);
    let messages = [&b"one"[..], b"two"].map(|data| BytesMessage { data: Bytes::copy_from_slice(data) });
    let (sender, inbox) = mpsc::unbounded_channel();
    for message in messages {
        sender.send(Bytes::from(message.encode_to_vec())).expect("open");
    }
    drop(sender);
    let mut answers = daemon.stream(SEND, &[id], inbox).await.expect("taken");
    assert!(answers.message().await.expect("no error").is_none());
    assert_eq!(receiver.received(), ReceivedFile::Whole(6));
    assert_eq!(
        std::io::read_to_string(std::io::Seek::rewind(&mut &file).map(|()| &file).expect("a file")).expect("text"),
        "onetwo"
    );
}
