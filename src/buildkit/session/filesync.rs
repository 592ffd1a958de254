//! Folders that the daemon reads: `moby.filesync.v1.FileSync/DiffCopy`.
//!
//! We describe every path that is asked for; the daemon requests the content of those that it does not have, while we still
//! walk. Content is sent in the order of the requests. At most a few pieces wait for the daemon, so that memory is bounded
//! whatever the folder is.

use std::{
    collections::HashMap,
    io::Read as _,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::ffi::OsStringExt as _,
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use prost::Message as _;
use tokio::{
    sync::mpsc,
    task::{JoinHandle, spawn_blocking},
};
use tonic::{Status, metadata::MetadataMap};

use super::{
    call::{Answers, Call, answers},
    follow::follow,
    packet::{FileStat, Packet, PacketKind, unix_mode},
    traffic::Traffic,
    walk::{FolderFilter, WalkFault, walk},
};
use crate::layer::view::at;

/// Bytes of content in one packet.
const PIECE: usize = 256 << 10;
/// Packets that wait for the daemon.
const WAITING: usize = 32;

/// A folder that the daemon may read: what it asks for, and nothing outside of it.
#[derive(Clone)]
pub(crate) struct SyncedFolder {
    /// The name by which the daemon asks for it.
    pub(crate) name: String,
    /// The folder, open for reading; no symbolic link is followed from here.
    pub(crate) root: Arc<OwnedFd>,
    /// The folder as the user knows it, for messages.
    pub(crate) shown: String,
}

/// The packets that go to the daemon.
type Packets = mpsc::Sender<Result<Bytes, Status>>;
/// Paths of regular files that were described and not requested yet, by the position of the description.
type Described = Arc<Mutex<HashMap<u32, PathBuf>>>;

/// Sends a folder.
///
/// # Errors
/// The session does not offer the folder that is asked for.
pub(super) fn sync(folders: &[SyncedFolder], traffic: &Arc<Traffic>, call: Call) -> Result<Answers, Status> {
    let name = values(&call.metadata, "dir-name").into_iter().next().unwrap_or_default();
    let folder = folders.iter().find(|folder| folder.name == name);
    let folder = folder.ok_or_else(|| Status::not_found(format!("this session does not offer the folder {name:?}")))?;
    traffic.add_sync();
    let (packets, answers) = answers(WAITING);
    let transfer = send_folder(folder.clone(), call, packets.clone(), traffic.clone());
    tokio::spawn(async move {
        tokio::select! {
            () = packets.closed() => (),
            result = transfer => if let Err(status) = result {
                drop(packets.send(Err(status)).await);
            }
        }
    });
    Ok(answers)
}

async fn send_folder(
    folder: SyncedFolder,
    mut call: Call,
    packets: Packets,
    traffic: Arc<Traffic>,
) -> Result<(), Status> {
    let described = Described::default();
    let walking = {
        let (folder, packets, described) = (folder.clone(), packets.clone(), described.clone());
        let asked = AskedPaths::of(&call.metadata);
        spawn_blocking(move || describe(&folder, &asked, &packets, &described))
    };
    // Not more than what was described.
    let (requests, queue) = mpsc::unbounded_channel();
    let reading = {
        let packets = packets.clone();
        spawn_blocking(move || send_files(&folder, queue, &packets, &traffic))
    };
    let requesting = async {
        // Dropped at the end, so that `reading` ends.
        let requests = requests;
        loop {
            let Some(packet) = call.next::<Packet>().await? else {
                return Err(Status::cancelled("the daemon ended the transfer early"));
            };
            match packet.kind() {
                PacketKind::Request => {
                    let path = described.lock().unwrap_or_else(PoisonError::into_inner).remove(&packet.id);
                    let path = path.ok_or_else(|| Status::invalid_argument("a request for what is no file"))?;
                    drop(requests.send((packet.id, path)));
                }
                PacketKind::Finish => return Ok(()),
                PacketKind::Error => {
                    let why = String::from_utf8_lossy(&packet.data).into_owned();
                    return Err(Status::aborted(format!("the daemon cannot take the folder: {why}")));
                }
                PacketKind::Stat | PacketKind::Data => {}
            }
        }
    };
    tokio::try_join!(requesting, ended(walking), ended(reading))?;
    drop(packets.send(Ok(encoded(&Packet::finish()))).await);
    Ok(())
}

async fn ended(task: JoinHandle<Result<(), Status>>) -> Result<(), Status> {
    task.await.map_err(|error| Status::internal(error.to_string()))?
}

fn encoded(packet: &Packet) -> Bytes {
    packet.encode_to_vec().into()
}

/// Which paths of a folder the daemon asks for, as headers.
struct AskedPaths {
    include: Vec<String>,
    exclude: Vec<String>,
    followed: Vec<String>,
}

impl AskedPaths {
    fn of(metadata: &MetadataMap) -> Self {
        Self {
            include: values(metadata, "include-patterns"),
            exclude: values(metadata, "exclude-patterns"),
            followed: values(metadata, "followpaths"),
        }
    }

    fn filter(&self, root: &OwnedFd) -> Result<FolderFilter, Status> {
        let mut include = self.include.clone();
        if !self.followed.is_empty() {
            let followed = follow(root, &self.followed);
            include.extend(followed.map_err(|error| unreadable(Path::new(""), &error))?.unwrap_or_default());
        }
        FolderFilter::new(&include, &self.exclude).map_err(|error| Status::invalid_argument(error.to_string()))
    }
}

/// The values of a header. Where `NAME-encoded` is true they are escaped as in the query of a URL.
fn values(metadata: &MetadataMap, name: &str) -> Vec<String> {
    let flag = metadata.get(format!("{name}-encoded"));
    let is_encoded =
        flag.is_some_and(|flag| matches!(flag.as_bytes(), b"1" | b"t" | b"T" | b"true" | b"TRUE" | b"True"));
    let text = |bytes: &[u8]| match is_encoded {
        true => {
            let query = [b"=", bytes].concat();
            url::form_urlencoded::parse(&query).next().map(|(_, value)| value.into_owned()).unwrap_or_default()
        }
        false => String::from_utf8_lossy(bytes).into_owned(),
    };
    metadata.get_all(name).iter().map(|value| text(value.as_bytes())).collect()
}

/// Describes what is asked for.
fn describe(folder: &SyncedFolder, asked: &AskedPaths, packets: &Packets, described: &Described) -> Result<(), Status> {
    let filter = asked.filter(&folder.root)?;
    let mut next = 0;
    let mut send = |stat: FileStat| {
        if unix_mode(stat.mode).0 == rustix::fs::FileType::RegularFile {
            let path = PathBuf::from(std::ffi::OsString::from_vec(stat.path.clone()));
            described.lock().unwrap_or_else(PoisonError::into_inner).insert(next, path);
        }
        next += 1;
        packets.blocking_send(Ok(encoded(&Packet::stat(Some(stat))))).is_ok()
    };
    match walk(&folder.root, &filter, &mut send) {
        Ok(()) => drop(packets.blocking_send(Ok(encoded(&Packet::stat(None))))),
        Err(WalkFault::Stopped) => {}
        Err(WalkFault::Io(path, error)) => return Err(unreadable(&Path::new(&folder.shown).join(path), &error)),
    }
    Ok(())
}

/// Sends the content of files until no more can be requested.
fn send_files(
    folder: &SyncedFolder,
    mut requests: mpsc::UnboundedReceiver<(u32, PathBuf)>,
    packets: &Packets,
    traffic: &Traffic,
) -> Result<(), Status> {
    let mut buffer = vec![0; PIECE];
    while let Some((id, path)) = requests.blocking_recv() {
        // A file that cannot be read is an error: sent empty, it would be in the result.
        let fault = |error| unreadable(&Path::new(&folder.shown).join(&path), &error);
        let mut file = at::file(folder.root.as_fd(), &path).map_err(fault)?;
        loop {
            let n = file.read(&mut buffer).map_err(fault)?;
            let packet = Packet::data(id, Bytes::copy_from_slice(&buffer[..n]));
            if packets.blocking_send(Ok(encoded(&packet))).is_err() {
                return Ok(());
            }
            traffic.add_file_bytes(n);
            if n == 0 {
                break;
            }
        }
    }
    Ok(())
}

fn unreadable(path: &Path, error: &std::io::Error) -> Status {
    Status::failed_precondition(format!("cannot read {}: {error}", path.display()))
}
