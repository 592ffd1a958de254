//! The user's SSH agent as a daemon may use it: keys are listed and sign, nothing else. And one that answers with keys of files.
//!
//! Without this, a daemon could add, remove or lock keys of the user, or use extensions of the agent. Messages:
//! <https://datatracker.ietf.org/doc/html/draft-miller-ssh-agent>.

use std::{io, sync::Arc};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

use super::ssh::SshStream;
use crate::ssh::KeyRing;

const FAILURE: u8 = 5;
const REQUEST_IDENTITIES: u8 = 11;
const SIGN_REQUEST: u8 = 13;
/// Longest message in bytes: that of OpenSSH.
const LONGEST: usize = 256 << 10;
const BUFFER: usize = 64 << 10;

/// A connection to an agent on which all but listing keys and signing fails.
pub(crate) fn only_signing(agent: impl SshStream + 'static) -> Box<dyn SshStream> {
    let (ours, theirs) = duplex(BUFFER);
    tokio::spawn(async move {
        // Either side ends it, at any time.
        relay(ours, agent).await.ok();
    });
    Box::new(theirs)
}

/// A connection to an agent that answers with these keys.
pub(crate) fn of_keys(keys: Arc<KeyRing>) -> Box<dyn SshStream> {
    let (mut ours, theirs) = duplex(BUFFER);
    tokio::spawn(async move {
        while let Ok(request) = message(&mut ours).await {
            if send(&mut ours, &keys.answer(&request)).await.is_err() {
                break;
            }
        }
    });
    Box::new(theirs)
}

async fn relay(mut daemon: DuplexStream, mut agent: impl SshStream) -> io::Result<()> {
    loop {
        let request = message(&mut daemon).await?;
        let answer = match request.first() {
            Some(&(REQUEST_IDENTITIES | SIGN_REQUEST)) => {
                send(&mut agent, &request).await?;
                message(&mut agent).await?
            }
            _ => vec![FAILURE],
        };
        send(&mut daemon, &answer).await?;
    }
}

async fn message(stream: &mut impl SshStream) -> io::Result<Vec<u8>> {
    let length = stream.read_u32().await? as usize;
    if length > LONGEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

async fn send(stream: &mut impl SshStream, message: &[u8]) -> io::Result<()> {
    let length = u32::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    stream.write_all(&[&length.to_be_bytes(), message].concat()).await?;
    stream.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn keys_are_listed_and_sign_and_nothing_else_reaches_the_agent() {
        let (agent, mut requests) = duplex(1 << 10);
        let mut daemon = only_signing(agent);
        tokio::spawn(async move {
            while let Ok(request) = message(&mut requests).await {
                send(&mut requests, &[&b"answer to "[..], &request].concat()).await.expect("open");
            }
        });
        for (request, answer) in [
            (&[11][..], &b"answer to \x0b"[..]),
            (&[13, 1, 2], b"answer to \x0d\x01\x02"),
            (&[17, 1], &[FAILURE]),
            (&[19], &[FAILURE]),
            (&[27, 1], &[FAILURE]),
            (&[], &[FAILURE]),
        ] {
            send(&mut daemon, request).await.expect("open");
            assert_eq!(message(&mut daemon).await.expect("an answer"), answer, "{request:?}");
        }
        daemon.write_u32(u32::MAX).await.expect("open");
        message(&mut daemon).await.expect_err("too long");
    }
}
