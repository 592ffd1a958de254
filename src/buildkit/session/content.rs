//! Blobs for the daemon and from it: `containerd.services.content.v1.Content`, reduced to what BuildKit uses.
//!
//! Which place a call means is in the header `buildkit-attachable-store-id`. Messages are those of
//! <https://github.com/containerd/containerd/blob/main/api/services/content/v1/content.proto>.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use bytes::Bytes;
use prost::Message as _;
use tokio::{sync::mpsc, task::spawn_blocking};
use tonic::Status;

use super::{
    blobs::{ContentPlace, NewBlob},
    call::{Answers, Call, answers, one},
    traffic::Traffic,
};
use crate::oci::Digest;

/// Bytes of a blob in one message.
const PIECE: usize = 1 << 20;

/// `WriteAction`.
const STAT: i32 = 0;
const WRITE: i32 = 1;
const COMMIT: i32 = 2;

/// Places of blobs, by the id that calls have for them.
type ContentPlaces = BTreeMap<String, ContentPlace>;

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct BlobInfo {
    #[prost(string, tag = "1")]
    pub(super) digest: String,
    #[prost(int64, tag = "2")]
    pub(super) size: i64,
    #[prost(map = "string, string", tag = "5")]
    pub(super) labels: HashMap<String, String>,
}

/// Requests that name a blob: of `Info` and `Delete`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct BlobRequest {
    #[prost(string, tag = "1")]
    pub(super) digest: String,
}

/// Answers of `Info` and `Update`, requests of `Update`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct OneInfo {
    #[prost(message, optional, tag = "1")]
    pub(super) info: Option<BlobInfo>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ReadRequest {
    #[prost(string, tag = "1")]
    pub(super) digest: String,
    #[prost(int64, tag = "2")]
    pub(super) offset: i64,
    /// Zero: to the end.
    #[prost(int64, tag = "3")]
    pub(super) size: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ReadAnswer {
    #[prost(int64, tag = "1")]
    pub(super) offset: i64,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) data: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct WriteRequest {
    #[prost(int32, tag = "1")]
    pub(super) action: i32,
    #[prost(string, tag = "2")]
    pub(super) reference: String,
    #[prost(int64, tag = "3")]
    pub(super) total: i64,
    #[prost(string, tag = "4")]
    pub(super) expected: String,
    #[prost(int64, tag = "5")]
    pub(super) offset: i64,
    #[prost(bytes = "bytes", tag = "6")]
    pub(super) data: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct WriteAnswer {
    #[prost(int32, tag = "1")]
    pub(super) action: i32,
    #[prost(int64, tag = "4")]
    pub(super) offset: i64,
    #[prost(int64, tag = "5")]
    pub(super) total: i64,
    #[prost(string, tag = "6")]
    pub(super) digest: String,
}

fn place(places: &ContentPlaces, call: &Call) -> Result<ContentPlace, Status> {
    let id = call.header("buildkit-attachable-store-id");
    let id = id.ok_or_else(|| Status::invalid_argument("the call names no place of blobs"))?;
    let place = places.get(id);
    place.cloned().ok_or_else(|| Status::not_found(format!("this session has no place of blobs {id}")))
}

fn digest_of(text: &str) -> Result<Digest, Status> {
    text.parse().map_err(|_| Status::invalid_argument(format!("not a digest: {text:?}")))
}

/// Runs what blocks.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Status> + Send + 'static) -> Result<T, Status> {
    spawn_blocking(work).await.map_err(|error| Status::internal(error.to_string()))?
}

async fn size(place: ContentPlace, digest: Digest) -> Result<i64, Status> {
    let size = blocking(move || Ok(place.size(&digest))).await?;
    let size = size.ok_or_else(|| Status::not_found(format!("there is no blob {digest}")))?;
    i64::try_from(size).map_err(|_| Status::out_of_range("the blob is too long"))
}

/// Says whether a blob is there, and how long it is.
pub(super) async fn info(places: &ContentPlaces, call: Call) -> Result<Answers, Status> {
    let place = place(places, &call)?;
    let BlobRequest { digest } = call.only().await?;
    let size = size(place, digest_of(&digest)?).await?;
    Ok(one(&OneInfo { info: Some(BlobInfo { digest, size, ..BlobInfo::default() }) }))
}

/// Takes labels of a blob and forgets them: they are for garbage collection, which is ours.
pub(super) async fn update(places: &ContentPlaces, call: Call) -> Result<Answers, Status> {
    let place = place(places, &call)?;
    let OneInfo { info } = call.only().await?;
    let info = info.unwrap_or_default();
    let size = size(place, digest_of(&info.digest)?).await?;
    Ok(one(&OneInfo { info: Some(BlobInfo { size, ..info }) }))
}

/// Sends a part of a blob.
pub(super) async fn read(places: &ContentPlaces, traffic: &Arc<Traffic>, call: Call) -> Result<Answers, Status> {
    let place = place(places, &call)?;
    let request: ReadRequest = call.only().await?;
    let digest = digest_of(&request.digest)?;
    let blob = blocking(move || place.open(&digest)).await?;
    let start = u64::try_from(request.offset).unwrap_or(0);
    if start > blob.size {
        return Err(Status::out_of_range(format!("the blob is only {} bytes long", blob.size)));
    }
    let end = match u64::try_from(request.size) {
        Ok(0) | Err(_) => blob.size,
        Ok(size) => blob.size.min(start.saturating_add(size)),
    };
    let (sender, answers) = answers(4);
    let traffic = traffic.clone();
    drop(spawn_blocking(move || {
        let (mut buffer, mut at) = (vec![0; PIECE], start);
        while at < end {
            let wanted = usize::try_from(end - at).map_or(PIECE, |left| left.min(PIECE));
            let answer = match blob.read_at(&mut buffer[..wanted], at) {
                Ok(0) => Err(Status::data_loss("the blob has become shorter")),
                Ok(n) => {
                    traffic.add_blob_sent(n);
                    let data = Bytes::copy_from_slice(&buffer[..n]);
                    let offset = i64::try_from(at - start).unwrap_or(i64::MAX);
                    at += n as u64;
                    Ok(ReadAnswer { offset, data }.encode_to_vec().into())
                }
                Err(error) => Err(Status::data_loss(format!("cannot read the blob: {error}"))),
            };
            let is_last = answer.is_err();
            if sender.blocking_send(answer).is_err() || is_last {
                break;
            }
        }
    }));
    Ok(answers)
}

/// Takes a blob, unless it is there.
pub(super) async fn write(places: &ContentPlaces, traffic: &Arc<Traffic>, mut call: Call) -> Result<Answers, Status> {
    let place = place(places, &call)?;
    let missing = || Status::invalid_argument("a blob without a reference");
    let first = call.next::<WriteRequest>().await?.filter(|first| !first.reference.is_empty()).ok_or_else(missing)?;
    let upload = IncomingBlob { place, traffic: traffic.clone(), blob: None, offset: 0, total: 0, expected: None };
    // A known blob is answered before the call is accepted: the daemon then sends nothing.
    let (upload, answer) = upload.take(first).await?;
    let (sender, answers) = answers(4);
    drop(sender.send(Ok(answer.encode_to_vec().into())).await);
    if answer.action == COMMIT {
        return Ok(answers);
    }
    tokio::spawn(async move {
        tokio::select! {
            () = sender.closed() => {}
            result = upload.rest(call, &sender) => if let Err(status) = result {
                drop(sender.send(Err(status)).await);
            }
        }
    });
    Ok(answers)
}

/// A blob that a daemon writes.
struct IncomingBlob {
    place: ContentPlace,
    traffic: Arc<Traffic>,
    blob: Option<NewBlob>,
    offset: i64,
    total: i64,
    expected: Option<Digest>,
}

impl IncomingBlob {
    async fn rest(mut self, mut call: Call, sender: &mpsc::Sender<Result<Bytes, Status>>) -> Result<(), Status> {
        while let Some(request) = call.next::<WriteRequest>().await? {
            let (upload, answer) = self.take(request).await?;
            self = upload;
            let is_last = answer.action == COMMIT;
            if sender.send(Ok(answer.encode_to_vec().into())).await.is_err() || is_last {
                break;
            }
        }
        Ok(())
    }

    async fn take(self, request: WriteRequest) -> Result<(Self, WriteAnswer), Status> {
        blocking(move || self.take_blocking(&request)).await
    }

    fn take_blocking(mut self, request: &WriteRequest) -> Result<(Self, WriteAnswer), Status> {
        if !request.expected.is_empty() {
            let digest = digest_of(&request.expected)?;
            if self.expected != Some(digest)
                && let Some(size) = self.place.size(&digest)
            {
                self.place.note_known(digest, size);
                return Err(Status::already_exists(format!("the blob {digest} is there")));
            }
            self.expected = Some(digest);
        }
        if request.total > 0 {
            self.total = request.total;
        }
        let mut digest = String::new();
        match request.action {
            STAT => {}
            WRITE | COMMIT => {
                if request.offset == 0 && self.offset > 0 && !request.data.is_empty() {
                    (self.blob, self.offset) = (None, 0);
                }
                if request.offset > 0 && request.offset != self.offset {
                    return Err(Status::out_of_range(format!("the blob goes on at {}", self.offset)));
                }
                let mut blob = self.blob.take().map_or_else(|| self.place.create(), Ok)?;
                blob.write(&request.data)?;
                self.traffic.add_blob_received(request.data.len());
                self.offset = self.offset.saturating_add_unsigned(request.data.len() as u64);
                if request.action == COMMIT {
                    if self.total > 0 && self.total != self.offset {
                        let why = format!("the blob is {} bytes long, not {}", self.offset, self.total);
                        return Err(Status::failed_precondition(why));
                    }
                    digest = self.place.commit(blob, self.expected.as_ref())?.to_string();
                } else {
                    self.blob = Some(blob);
                }
            }
            _ => return Err(Status::invalid_argument("an unknown action")),
        }
        let answer = WriteAnswer { action: request.action, offset: self.offset, total: self.total, digest };
        Ok((self, answer))
    }
}
