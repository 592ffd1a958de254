//! A byte stream over the calls `Control/Session` of a daemon: each message of the stream is a piece of it.

use std::io;

use bytes::BytesMut;
use futures_util::stream::unfold;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex, split},
    sync::mpsc,
};
use tonic::{
    Request, Status, Streaming, client::Grpc, codegen::http::uri::PathAndQuery, metadata::MetadataMap,
    transport::Channel,
};
use tonic_prost::ProstCodec;

use super::call::{BytesMessage, LONGEST_MESSAGE};

/// Bytes that wait in each direction between the tunnel and the server.
const BUFFER: usize = 256 << 10;
/// Bytes in one message that we send.
const PIECE: usize = 64 << 10;

/// Asks the daemon to use this stream for a session.
///
/// Returns our end of the stream, and a future that carries the bytes: it must be polled all the time, and ends with the
/// reason when the connection breaks.
///
/// # Errors
/// The daemon refuses or cannot be reached.
pub(super) async fn open(
    channel: Channel,
    metadata: MetadataMap,
) -> Result<(DuplexStream, impl Future<Output = String> + Send + 'static), Status> {
    let mut grpc = Grpc::new(channel).max_decoding_message_size(LONGEST_MESSAGE);
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let (sender, receiver) = mpsc::channel::<BytesMessage>(8);
    let messages = unfold(receiver, |mut it| async { it.recv().await.map(|message| (message, it)) });
    let mut request = Request::new(messages);
    *request.metadata_mut() = metadata;
    let codec = ProstCodec::<BytesMessage, BytesMessage>::default();
    let method = PathAndQuery::from_static("/moby.buildkit.v1.Control/Session");
    let received = grpc.streaming(request, method, codec).await?.into_inner();
    let (ours, theirs) = duplex(BUFFER);
    Ok((ours, carry(theirs, received, sender)))
}

async fn carry(
    stream: DuplexStream,
    mut received: Streaming<BytesMessage>,
    sender: mpsc::Sender<BytesMessage>,
) -> String {
    let (mut from_server, mut to_server) = split(stream);
    let inward = async {
        loop {
            match received.message().await {
                Ok(Some(message)) if to_server.write_all(&message.data).await.is_err() => {
                    break "it was closed".to_owned();
                }
                Ok(Some(_)) => (),
                Ok(None) => break "the daemon ended the session".to_owned(),
                Err(status) => break format!("the connection to the daemon broke: {}", status.message()),
            }
        }
    };
    let outward = async {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(PIECE);
            let read: io::Result<usize> = from_server.read_buf(&mut buffer).await;
            if !read.is_ok_and(|n| n > 0) {
                break "it was closed".to_owned();
            }
            if sender.send(BytesMessage { data: buffer.split().freeze() }).await.is_err() {
                // The cause is told by the other direction, soon.
                std::future::pending::<()>().await;
            }
        }
    };
    tokio::select! { reason = inward => reason, reason = outward => reason }
}
