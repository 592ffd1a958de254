//! Agents and sockets for steps: `moby.sshforward.v1.SSH`. Bytes are carried and not looked at.

use std::io;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use prost::Message as _;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf, split},
    sync::mpsc,
};
use tonic::Status;

use super::call::{Answers, BytesMessage, Call, answers, one};

/// The id of an agent that has none.
const DEFAULT: &str = "default";
/// Bytes in one message.
const PIECE: usize = 32 << 10;

/// A connection to an agent, or to another socket.
pub(crate) trait SshStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> SshStream for T {}

/// Where steps find agents.
#[async_trait]
pub(crate) trait SshSource: Send + Sync {
    /// Whether there is an agent of this id.
    fn knows(&self, id: &str) -> bool;
    /// A new connection to the agent of this id: one of the user through [`only_signing`](super::only_signing), since the
    /// daemon may ask it for anything.
    async fn connect(&self, id: &str) -> io::Result<Box<dyn SshStream>>;
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct CheckRequest {
    #[prost(string, tag = "1")]
    pub(super) id: String,
}

/// The source, if it knows an agent of this id.
fn knowing<'a>(source: Option<&'a dyn SshSource>, id: &str) -> Result<&'a dyn SshSource, Status> {
    let source = source.filter(|source| source.knows(id));
    source.ok_or_else(|| Status::not_found(format!("there is no ssh agent {id}")))
}

fn named(id: &str) -> &str {
    if id.is_empty() { DEFAULT } else { id }
}

/// Says whether there is an agent.
pub(super) async fn check(source: Option<&dyn SshSource>, call: Call) -> Result<Answers, Status> {
    let request: CheckRequest = call.only().await?;
    knowing(source, named(&request.id))?;
    Ok(one(&()))
}

/// Connects the daemon with an agent.
pub(super) async fn forward(source: Option<&dyn SshSource>, call: Call) -> Result<Answers, Status> {
    let id = named(call.header("buildkit.ssh.id").unwrap_or(DEFAULT)).to_owned();
    let stream = knowing(source, &id)?.connect(&id).await;
    let stream = stream.map_err(|error| Status::unavailable(format!("ssh agent {id}: {error}")))?;
    let (sender, answers) = answers(8);
    let (from_agent, to_agent) = split(stream);
    tokio::spawn(async move {
        // The agent ends the connection; the daemon may before, and then still reads what comes.
        tokio::select! {
            () = sender.closed() => {}
            () = from(from_agent, &sender) => {}
            () = to(call, to_agent) => {}
        }
    });
    Ok(answers)
}

async fn from(mut agent: ReadHalf<Box<dyn SshStream>>, sender: &mpsc::Sender<Result<Bytes, Status>>) {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(PIECE);
        match agent.read_buf(&mut buffer).await {
            Ok(0) => return,
            Ok(_) => {
                let message = BytesMessage { data: buffer.split().freeze() };
                if sender.send(Ok(message.encode_to_vec().into())).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                drop(sender.send(Err(Status::unavailable(format!("the ssh agent failed: {error}")))).await);
                return;
            }
        }
    }
}

/// Carries bytes to the agent; does not end before the call is broken off.
async fn to(mut call: Call, mut agent: WriteHalf<Box<dyn SshStream>>) {
    loop {
        match call.next::<BytesMessage>().await {
            Ok(Some(message)) => {
                if agent.write_all(&message.data).await.is_err() {
                    break;
                }
            }
            Ok(None) => {
                drop(agent.shutdown().await);
                break;
            }
            Err(_) => return,
        }
    }
    std::future::pending::<()>().await;
}
