//! A folder that the daemon sends: it describes every path, and we request the content of files that we do not have.
//!
//! The protocol alone; what is written, and where, is decided in `folder`.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::stream::unfold;
use prost::Message as _;
use tokio::{sync::mpsc, task::spawn_blocking};
use tonic::Status;

use super::{
    call::{Answers, Call},
    folder::{FolderTarget, FolderWriter, IsUnchanged, WrittenFolder},
    packet::{Packet, PacketKind},
    traffic::Traffic,
};

/// Packets that wait to be written.
const WAITING: usize = 32;

/// A folder that gets the result of an exporter.
pub(crate) struct FolderReceiver {
    target: FolderTarget,
    is_unchanged: IsUnchanged,
    written: Mutex<Option<WrittenFolder>>,
}

impl FolderReceiver {
    /// A receiver that writes into `target`.
    pub(crate) fn new(target: FolderTarget, is_unchanged: IsUnchanged) -> Arc<Self> {
        Arc::new(Self { target, is_unchanged, written: Mutex::new(None) })
    }

    /// Notes what one transfer has written: there is one for each platform.
    fn add(&self, more: WrittenFolder) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *written {
            Some(known) => known.add(more),
            None => *written = Some(more),
        }
    }

    /// What the folder got; `None` until the daemon has sent all of it.
    pub(crate) fn take_written(&self) -> Option<WrittenFolder> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Receives a folder.
pub(super) fn receive(receiver: Arc<FolderReceiver>, traffic: Arc<Traffic>, mut call: Call) -> Answers {
    // Requests never wait: while one did, the daemon might wait for us to take what it sends. There are no more of them
    // than files were described.
    let (answers, answered) = mpsc::unbounded_channel::<Result<Bytes, Status>>();
    let (packets, inbox) = mpsc::channel::<Packet>(WAITING);
    let writing = {
        let answers = answers.clone();
        spawn_blocking(move || write(&receiver, inbox, &answers, &traffic))
    };
    let feeding = async move {
        loop {
            let packet = call.next::<Packet>().await?;
            let packet = packet.ok_or_else(|| Status::cancelled("the daemon ended the transfer early"))?;
            match packet.kind() {
                PacketKind::Error => {
                    let why = String::from_utf8_lossy(&packet.data).into_owned();
                    return Err(Status::aborted(format!("the daemon cannot send the folder: {why}")));
                }
                PacketKind::Finish => return Ok(()),
                // An error is the writer's to tell.
                _ if packets.send(packet).await.is_err() => std::future::pending().await,
                _ => {}
            }
        }
    };
    tokio::spawn(async move {
        let written = async { writing.await.map_err(|error| Status::internal(error.to_string()))? };
        let result = tokio::select! {
            () = answers.closed() => return,
            result = async { tokio::try_join!(feeding, written) } => result,
        };
        match result {
            Ok(((), true)) => (),
            Ok(((), false)) => drop(answers.send(Err(Status::cancelled("the daemon ended the transfer early")))),
            Err(status) => drop(answers.send(Err(status))),
        }
    });
    Box::pin(unfold(answered, |mut it| async { it.recv().await.map(|answer| (answer, it)) }))
}

/// Writes what arrives until it is all there; `false` if it ended before.
fn write(
    receiver: &FolderReceiver,
    mut inbox: mpsc::Receiver<Packet>,
    answers: &mpsc::UnboundedSender<Result<Bytes, Status>>,
    traffic: &Traffic,
) -> Result<bool, Status> {
    let send = |packet: &Packet| drop(answers.send(Ok(packet.encode_to_vec().into())));
    let mut writer = FolderWriter::new(&receiver.target, &receiver.is_unchanged);
    while let Some(packet) = inbox.blocking_recv() {
        match (packet.kind(), packet.stat) {
            (PacketKind::Stat, Some(stat)) => {
                if let Some(id) = writer.describe(stat)? {
                    send(&Packet::request(id));
                }
            }
            (PacketKind::Stat, None) => writer.end_descriptions()?,
            (PacketKind::Data, _) => {
                traffic.add_result_bytes(packet.data.len());
                writer.data(packet.id, &packet.data)?;
            }
            _ => return Err(Status::invalid_argument("a packet that a sender does not send")),
        }
        if writer.is_complete() {
            // All of it is here; what the daemon says after that changes nothing about it.
            receiver.add(writer.finish()?);
            send(&Packet::finish());
            return Ok(true);
        }
    }
    Ok(false)
}
