//! The services of containerd that loading an image needs, over its socket: content, images, leases, snapshots, diffs.
//! Calls and messages only; in which order they are made is the subject of `containerd.rs`.
//!
//! Messages are those of <https://github.com/containerd/containerd/tree/main/api>, reduced to the fields that are used here.

use std::{collections::HashMap, io::Read, path::Path, time::Duration};

use futures_util::stream::unfold;
use tokio::sync::mpsc;
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;

/// Time for containerd to answer a question; uploads and the unpacking of layers take as long as they take.
const ASK: Duration = Duration::from_secs(20);
/// Bytes of a blob in one message; containerd takes 16 MiB.
const PIECE: usize = 1 << 20;

/// The action of a message that asks how far an upload is, in `WriteAction` of the content service.
const STAT: i32 = 0;
const WRITE: i32 = 1;
const COMMIT: i32 = 2;

type Labels = HashMap<String, String>;

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct EmptyMessage {}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct DescriptorMessage {
    #[prost(string, tag = "1")]
    pub(super) media_type: String,
    #[prost(string, tag = "2")]
    pub(super) digest: String,
    #[prost(int64, tag = "3")]
    pub(super) size: i64,
    #[prost(map = "string, string", tag = "5")]
    pub(super) annotations: Labels,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct MountMessage {
    #[prost(string, tag = "1")]
    kind: String,
    #[prost(string, tag = "2")]
    source: String,
    #[prost(string, tag = "3")]
    target: String,
    #[prost(string, repeated, tag = "4")]
    options: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ContentInfo {
    #[prost(string, tag = "1")]
    digest: String,
    #[prost(map = "string, string", tag = "5")]
    labels: Labels,
}

#[derive(Clone, PartialEq, prost::Message)]
struct InfoRequest {
    #[prost(string, tag = "1")]
    digest: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct FieldMask {
    #[prost(string, repeated, tag = "1")]
    paths: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct UpdateContentRequest {
    #[prost(message, optional, tag = "1")]
    info: Option<ContentInfo>,
    #[prost(message, optional, tag = "2")]
    update_mask: Option<FieldMask>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WriteContentRequest {
    #[prost(int32, tag = "1")]
    action: i32,
    #[prost(string, tag = "2")]
    reference: String,
    #[prost(int64, tag = "3")]
    total: i64,
    #[prost(string, tag = "4")]
    expected: String,
    #[prost(int64, tag = "5")]
    offset: i64,
    #[prost(bytes = "vec", tag = "6")]
    data: Vec<u8>,
    #[prost(map = "string, string", tag = "7")]
    labels: Labels,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WriteContentResponse {
    #[prost(int32, tag = "1")]
    action: i32,
    #[prost(int64, tag = "4")]
    offset: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ImageMessage {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "3")]
    target: Option<DescriptorMessage>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct GetImageRequest {
    #[prost(string, tag = "1")]
    name: String,
}

/// Answers of `Get`, and requests of `Create` and `Update`, which all have the image as their first field.
#[derive(Clone, PartialEq, prost::Message)]
struct OneImage {
    #[prost(message, optional, tag = "1")]
    image: Option<ImageMessage>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct CreateLeaseRequest {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(map = "string, string", tag = "3")]
    labels: Labels,
}

#[derive(Clone, PartialEq, prost::Message)]
struct DeleteLeaseRequest {
    #[prost(string, tag = "1")]
    id: String,
}

/// Requests of `Stat` and `Remove`.
#[derive(Clone, PartialEq, prost::Message)]
struct SnapshotRequest {
    #[prost(string, tag = "1")]
    snapshotter: String,
    #[prost(string, tag = "2")]
    key: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PrepareSnapshotRequest {
    #[prost(string, tag = "1")]
    snapshotter: String,
    #[prost(string, tag = "2")]
    key: String,
    #[prost(string, tag = "3")]
    parent: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Mounts {
    #[prost(message, repeated, tag = "1")]
    mounts: Vec<MountMessage>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct CommitSnapshotRequest {
    #[prost(string, tag = "1")]
    snapshotter: String,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, tag = "3")]
    key: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ApplyRequest {
    #[prost(message, optional, tag = "1")]
    diff: Option<DescriptorMessage>,
    #[prost(message, repeated, tag = "2")]
    mounts: Vec<MountMessage>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ApplyResponse {
    #[prost(message, optional, tag = "1")]
    applied: Option<DescriptorMessage>,
}

/// A connection to containerd, for one of its namespaces.
pub(super) struct ContainerdApi {
    grpc: Grpc<Channel>,
    namespace: MetadataValue<Ascii>,
    /// The lease that keeps what is made from being collected until an image names it.
    lease: Option<MetadataValue<Ascii>>,
}

impl ContainerdApi {
    /// Connects to the socket.
    ///
    /// # Errors
    /// Nothing answers there, or the namespace is no name.
    pub(super) async fn connect(socket: &Path, namespace: &str) -> Result<Self, Status> {
        let text = |why: &dyn std::fmt::Display| Status::unavailable(why.to_string());
        let endpoint = Endpoint::try_from(format!("unix://{}", socket.display())).map_err(|why| text(&why))?;
        let channel =
            endpoint.connect_timeout(ASK).connect().await.map_err(|error| Status::unavailable(innermost(&error)))?;
        let namespace = namespace.parse().map_err(|_| text(&format_args!("not a namespace: {namespace}")))?;
        Ok(Self { grpc: Grpc::new(channel), namespace, lease: None })
    }

    /// A request for our namespace, under our lease.
    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("containerd-namespace", self.namespace.clone());
        if let Some(lease) = &self.lease {
            request.metadata_mut().insert("containerd-lease", lease.clone());
        }
        request
    }

    async fn call<Q, A>(&self, method: &'static str, message: Q, time: Option<Duration>) -> Result<A, Status>
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        let mut grpc = self.grpc.clone();
        grpc.ready().await.map_err(|error| Status::unavailable(innermost(&error)))?;
        let mut request = self.request(message);
        if let Some(time) = time {
            request.set_timeout(time);
        }
        let answer = grpc.unary(request, PathAndQuery::from_static(method), ProstCodec::<Q, A>::default()).await?;
        Ok(answer.into_inner())
    }

    /// Whether containerd answers.
    pub(super) async fn version(&self) -> Result<(), Status> {
        let method = "/containerd.services.version.v1.Version/Version";
        self.call::<_, EmptyMessage>(method, EmptyMessage {}, Some(ASK)).await.map(drop)
    }

    /// The digest of what a name stands for; `None` if it is not there.
    pub(super) async fn image(&self, name: &str) -> Result<Option<String>, Status> {
        let method = "/containerd.services.images.v1.Images/Get";
        let found: Result<OneImage, _> = self.call(method, GetImageRequest { name: name.to_owned() }, Some(ASK)).await;
        match found {
            Ok(found) => Ok(found.image.and_then(|image| image.target).map(|target| target.digest)),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(status),
        }
    }

    /// Lets a name stand for an image whose content is there.
    pub(super) async fn set_image(&self, name: &str, target: DescriptorMessage) -> Result<(), Status> {
        let image = || OneImage { image: Some(ImageMessage { name: name.to_owned(), target: Some(target.clone()) }) };
        let create = "/containerd.services.images.v1.Images/Create";
        match self.call::<_, OneImage>(create, image(), Some(ASK)).await {
            Err(status) if status.code() == Code::AlreadyExists => {
                let update = "/containerd.services.images.v1.Images/Update";
                self.call::<_, OneImage>(update, image(), Some(ASK)).await.map(drop)
            }
            created => created.map(drop),
        }
    }

    /// Takes a lease, which ends by itself at `expires` (RFC 3339) if we cannot end it.
    pub(super) async fn take_lease(&mut self, id: &str, expires: String) -> Result<(), Status> {
        let labels = Labels::from([("containerd.io/gc.expire".to_owned(), expires)]);
        let request = CreateLeaseRequest { id: id.to_owned(), labels };
        self.call::<_, EmptyMessage>("/containerd.services.leases.v1.Leases/Create", request, Some(ASK)).await?;
        self.lease = id.parse().ok();
        Ok(())
    }

    /// Ends the lease: what no image names is collected.
    pub(super) async fn end_lease(&mut self) -> Result<(), Status> {
        let Some(lease) = self.lease.take() else { return Ok(()) };
        let request = DeleteLeaseRequest { id: lease.to_str().unwrap_or_default().to_owned() };
        self.call::<_, EmptyMessage>("/containerd.services.leases.v1.Leases/Delete", request, Some(ASK)).await.map(drop)
    }

    /// Whether a blob is there.
    pub(super) async fn has_blob(&self, digest: &str) -> Result<bool, Status> {
        let request = InfoRequest { digest: digest.to_owned() };
        let method = "/containerd.services.content.v1.Content/Info";
        match self.call::<_, EmptyMessage>(method, request, Some(ASK)).await {
            Ok(_) => Ok(true),
            Err(status) if status.code() == Code::NotFound => Ok(false),
            Err(status) => Err(status),
        }
    }

    /// Adds labels to a blob that is there.
    pub(super) async fn label_blob(&self, digest: &str, labels: Labels) -> Result<(), Status> {
        let paths = labels.keys().map(|key| format!("labels.{key}")).collect();
        let info = Some(ContentInfo { digest: digest.to_owned(), labels });
        let request = UpdateContentRequest { info, update_mask: Some(FieldMask { paths }) };
        let method = "/containerd.services.content.v1.Content/Update";
        self.call::<_, EmptyMessage>(method, request, Some(ASK)).await.map(drop)
    }

    /// Sends a blob of `size` bytes. containerd holds it against its digest.
    ///
    /// # Errors
    /// containerd refuses it, or it cannot be read.
    pub(super) async fn send_blob(
        &self,
        digest: &str,
        size: u64,
        labels: Labels,
        mut content: Box<dyn Read + Send>,
    ) -> Result<(), Status> {
        let total = i64::try_from(size).map_err(|_| Status::out_of_range("the blob is too long"))?;
        let blank = WriteContentRequest { total, expected: digest.to_owned(), ..WriteContentRequest::default() };
        let blank = WriteContentRequest { reference: format!("bake-{}-{digest}", uuid::Uuid::new_v4()), ..blank };
        let (sender, receiver) = mpsc::channel::<WriteContentRequest>(2);
        let messages = unfold(receiver, |mut it| async { it.recv().await.map(|message| (message, it)) });
        let gone = || Status::unavailable("the connection ended");
        sender.send(WriteContentRequest { action: STAT, ..blank.clone() }).await.map_err(|_| gone())?;
        let mut grpc = self.grpc.clone();
        grpc.ready().await.map_err(|error| Status::unavailable(innermost(&error)))?;
        let method = PathAndQuery::from_static("/containerd.services.content.v1.Content/Write");
        let codec = ProstCodec::<WriteContentRequest, WriteContentResponse>::default();
        let is_there = |status: Status| if status.code() == Code::AlreadyExists { Ok(()) } else { Err(status) };
        let mut answers = match grpc.streaming(self.request(messages), method, codec).await {
            Ok(answers) => answers.into_inner(),
            Err(status) => return is_there(status),
        };
        let first = match answers.message().await {
            Ok(first) => first.ok_or_else(gone)?,
            Err(status) => return is_there(status),
        };
        // What another namespace has is there in full: it is only committed.
        let is_whole = first.offset == total;
        let reading = tokio::task::spawn_blocking(move || {
            let mut offset = if is_whole { total } else { 0 };
            while offset < total {
                let mut data = vec![0; PIECE.min(usize::try_from(total - offset).unwrap_or(PIECE))];
                content.read_exact(&mut data)?;
                let n = data.len() as i64;
                let message = WriteContentRequest { action: WRITE, offset, data, ..blank.clone() };
                if sender.blocking_send(message).is_err() {
                    // Why is in the answers.
                    return Ok(());
                }
                offset += n;
            }
            drop(sender.blocking_send(WriteContentRequest { action: COMMIT, offset, labels, ..blank }));
            std::io::Result::Ok(())
        });
        let committed = loop {
            match answers.message().await {
                Ok(Some(answer)) if answer.action == COMMIT => break Ok(()),
                Ok(Some(_)) => (),
                Ok(None) => break Err(gone()),
                Err(status) => break is_there(status),
            }
        };
        drop(answers);
        let read = reading.await.map_err(|error| Status::internal(error.to_string()))?;
        read.map_err(|error| Status::internal(format!("cannot read {digest}: {error}")))?;
        committed
    }

    /// Whether a snapshot is there.
    pub(super) async fn has_snapshot(&self, snapshotter: &str, key: &str) -> Result<bool, Status> {
        let request = SnapshotRequest { snapshotter: snapshotter.to_owned(), key: key.to_owned() };
        let method = "/containerd.services.snapshots.v1.Snapshots/Stat";
        match self.call::<_, EmptyMessage>(method, request, Some(ASK)).await {
            Ok(_) => Ok(true),
            Err(status) if status.code() == Code::NotFound => Ok(false),
            Err(status) => Err(status),
        }
    }

    /// Makes the snapshot `name` of a layer on the snapshot `parent` (empty for the first layer). Returns the digest of the
    /// layer's tar, as containerd unpacked it.
    pub(super) async fn unpack_layer(
        &self,
        snapshotter: &str,
        parent: &str,
        name: &str,
        layer: DescriptorMessage,
    ) -> Result<String, Status> {
        let (snapshotter, parent) = (snapshotter.to_owned(), parent.to_owned());
        let key = format!("bake-{} {name}", uuid::Uuid::new_v4());
        let prepare = PrepareSnapshotRequest { snapshotter: snapshotter.clone(), key: key.clone(), parent };
        let method = "/containerd.services.snapshots.v1.Snapshots/Prepare";
        let Mounts { mounts } = self.call(method, prepare, Some(ASK)).await?;
        let apply = ApplyRequest { diff: Some(layer), mounts };
        let applied: Result<ApplyResponse, _> = self.call("/containerd.services.diff.v1.Diff/Apply", apply, None).await;
        let committed = match applied {
            Ok(applied) => {
                let digest = applied.applied.map(|it| it.digest).unwrap_or_default();
                let commit =
                    CommitSnapshotRequest { snapshotter: snapshotter.clone(), name: name.to_owned(), key: key.clone() };
                let method = "/containerd.services.snapshots.v1.Snapshots/Commit";
                self.call::<_, EmptyMessage>(method, commit, None).await.map(|_| digest)
            }
            Err(status) => Err(status),
        };
        if committed.is_err() {
            let method = "/containerd.services.snapshots.v1.Snapshots/Remove";
            // If it stays, the end of the lease takes it.
            drop(self.call::<_, EmptyMessage>(method, SnapshotRequest { snapshotter, key }, Some(ASK)).await);
        }
        committed
    }
}

/// The words of the last cause of an error.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    std::iter::successors(Some(error), |error| error.source()).last().map(ToString::to_string).unwrap_or_default()
}
