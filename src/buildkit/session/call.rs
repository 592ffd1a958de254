//! A call of the daemon and its answers: what every service takes and gives. Knows no service.

use std::pin::Pin;

use bytes::Bytes;
use futures_util::stream::{Stream, unfold};
use prost::Message;
use tokio::sync::mpsc;
use tonic::{Request, Status, Streaming, metadata::MetadataMap};

/// Longest message that is taken from a daemon.
pub(super) const LONGEST_MESSAGE: usize = 32 << 20;

/// `BytesMessage` of several services: a piece of a stream.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct BytesMessage {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) data: Bytes,
}

/// The answers to a call, encoded.
pub(super) type Answers = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

/// A call of the daemon.
pub(super) struct Call {
    pub(super) metadata: MetadataMap,
    messages: Streaming<Bytes>,
}

impl Call {
    /// The call that a request begins.
    pub(super) fn new(request: Request<Streaming<Bytes>>) -> Self {
        let (metadata, _, messages) = request.into_parts();
        Self { metadata, messages }
    }

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
