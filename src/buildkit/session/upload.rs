//! What the daemon downloads from us as if by HTTP, such as an archive that came by standard input: `moby.upload.v1.Upload`.
//!
//! The daemon knows it by the address `http://buildkit-session/NAME`.

use std::{collections::BTreeMap, fs::File, os::unix::fs::FileExt as _, sync::Arc};

use bytes::Bytes;
use prost::Message as _;
use tonic::Status;

use super::call::{Answers, BytesMessage, Call, answers};

/// Bytes in one message.
const PIECE: usize = 1 << 20;

/// A file that the daemon may download, as often as it likes: from its start to its end, whatever its position is.
pub(crate) type SessionUpload = Arc<File>;

/// Sends what is behind an address.
pub(super) fn pull(uploads: &BTreeMap<String, SessionUpload>, call: &Call) -> Result<Answers, Status> {
    let path = call.header("urlpath").unwrap_or_default();
    let name = path.rsplit('/').next().unwrap_or_default();
    let missing = || Status::not_found(format!("this session does not offer {path}"));
    let upload = uploads.get(name).ok_or_else(missing)?.clone();
    let (sender, answers) = answers(4);
    tokio::task::spawn_blocking(move || {
        let send = |data: Bytes| sender.blocking_send(Ok(BytesMessage { data }.encode_to_vec().into())).is_ok();
        let (mut buffer, mut offset) = (vec![0; PIECE], 0);
        loop {
            match upload.read_at(&mut buffer, offset) {
                Ok(0) => break,
                Ok(n) if send(Bytes::copy_from_slice(&buffer[..n])) => offset += n as u64,
                Ok(_) => break,
                Err(error) => {
                    drop(sender.blocking_send(Err(Status::data_loss(format!("cannot read it: {error}")))));
                    break;
                }
            }
        }
    });
    Ok(answers)
}
