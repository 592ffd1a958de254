//! Folders that a daemon sends: written, written again, and what an evil one sends.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::Path,
    sync::Arc,
};

use bytes::Bytes;
use prost::Message as _;
use tonic::{Code, Status};

use super::{
    filesend::Receiver,
    folder::FolderTarget,
    packet::{FileStat, Packet, PacketKind},
    receive::FolderReceiver,
    services::SessionServices,
    tests::Daemon,
};
use crate::{
    layer::view::at,
    spec::local::{LocalAccess, SpecialFiles},
};

const SEND: &str = "/moby.filesync.v1.FileSend/DiffCopy";
const DIR: u32 = 1 << 31;
const SYMLINK: u32 = 1 << 27;

struct Rig {
    folder: tempfile::TempDir,
}

impl Rig {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["out", "tmp", "outside"] {
            fs::create_dir(folder.path().join(name)).expect("writable");
        }
        Self { folder }
    }

    fn out(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join("out").join(name)
    }

    fn receiver(&self, known: Vec<FileStat>) -> Arc<FolderReceiver> {
        let open = |name: &str| at::host_dir(&self.folder.path().join(name)).expect("there");
        let access = LocalAccess { special: SpecialFiles::Drop, chmod: None, chown: None };
        let target = FolderTarget { root: open("out"), temporary: open("tmp"), kept: None, access };
        FolderReceiver::new(target, Box::new(move |_: &Path, stat: &FileStat| known.contains(stat)))
    }
}

fn stat(path: &str, mode: u32, link: &str, size: usize) -> FileStat {
    FileStat {
        path: path.as_bytes().to_vec(),
        mode,
        size: i64::try_from(size).expect("short"),
        modified: 1_500_000_000_000_000_007,
        link: link.as_bytes().to_vec(),
        ..FileStat::default()
    }
}

/// Sends as a daemon does: all descriptions, and contents as they are requested. Returns what was requested.
async fn send(
    receiver: &Arc<FolderReceiver>,
    stats: &[FileStat],
    contents: &BTreeMap<&str, &[u8]>,
) -> Result<BTreeSet<String>, Status> {
    let receivers = BTreeMap::from([(0, Receiver::Folder(receiver.clone()))]);
    let daemon = Daemon::with(SessionServices { receivers, ..SessionServices::default() }).await;
    let (sender, inbox) = tokio::sync::mpsc::unbounded_channel();
    let send = |packet: &Packet| drop(sender.send(packet.encode_to_vec().into()));
    for stat in stats {
        send(&Packet::stat(Some(stat.clone())));
    }
    send(&Packet::stat(None));
    let mut answers = daemon.stream(SEND, &[], inbox).await?;
    let mut requested = BTreeSet::new();
    while let Some(answer) = answers.message().await? {
        let packet = Packet::decode(answer).expect("well formed");
        match packet.kind() {
            PacketKind::Request => {
                let path = String::from_utf8_lossy(&stats[packet.id as usize].path).into_owned();
                let content = contents.get(path.as_str()).copied().unwrap_or_default();
                for piece in content.chunks(4).chain([&[][..]]) {
                    send(&Packet::data(packet.id, Bytes::copy_from_slice(piece)));
                }
                requested.insert(path);
            }
            PacketKind::Finish => send(&Packet::finish()),
            _ => panic!("not from a receiver"),
        }
    }
    Ok(requested)
}

#[tokio::test]
async fn a_folder_is_written_and_only_what_changed_is_requested() {
    let rig = Rig::new();
    fs::create_dir_all(rig.out("file/was/a/folder")).expect("writable");
    symlink(rig.folder.path().join("outside"), rig.out("sub")).expect("writable");
    fs::write(rig.out("stays"), "").expect("writable");
    let contents = BTreeMap::from([("file", &b"content"[..]), ("sub/exe", b"#!"), ("sub/empty", b"")]);
    let mut stats = vec![
        stat("dev", 1 << 26 | 1 << 21 | 0o666, "", 0),
        stat("file", 0o640, "", 7),
        stat("link", SYMLINK | 0o777, "../../outside/x", 15),
        stat("sub", DIR | 0o555, "", 0),
        stat("sub/empty", 0o600, "", 0),
        stat("sub/exe", 1 << 23 | 0o755, "", 2),
        stat("sub/name", 0o640, "file", 0),
    ];
    let receiver = rig.receiver(Vec::new());
    let requested = send(&receiver, &stats, &contents).await.expect("written");
    assert_eq!(requested.into_iter().collect::<Vec<_>>(), ["file", "sub/empty", "sub/exe"]);
    let written = receiver.take_written().expect("all of it");
    assert_eq!((written.entries.as_slice(), written.files, written.bytes), (stats.as_slice(), 3, 9));
    assert_eq!(written.dropped.iter().map(|it| it.display().to_string()).collect::<Vec<_>>(), ["dev", "sub/exe"]);
    let file = fs::metadata(rig.out("file")).expect("there");
    assert_eq!((file.mode() & 0o7777, file.mtime(), file.mtime_nsec(), file.nlink()), (0o640, 1_500_000_000, 7, 2));
    let sub = fs::symlink_metadata(rig.out("sub")).expect("there");
    assert_eq!((sub.is_dir(), sub.mode() & 0o7777, sub.mtime()), (true, 0o555, 1_500_000_000));
    assert_eq!(
        fs::metadata(rig.out("sub/exe")).expect("there").permissions().mode() & 0o7777,
        0o755,
        "without its bit"
    );
    assert_eq!(fs::read_link(rig.out("link")).expect("a link"), Path::new("../../outside/x"));
    assert!(!rig.out("dev").exists() && rig.out("stays").exists());
    assert_eq!(fs::read_dir(rig.folder.path().join("outside")).expect("there").count(), 0);
    assert_eq!(fs::read_dir(rig.folder.path().join("tmp")).expect("there").count(), 0);
    // Again: nothing travels but what changed, and what the user touched.
    let known = stats.clone();
    let again = send(&rig.receiver(known.clone()), &stats, &contents).await.expect("written");
    assert_eq!(again.len(), 0);
    assert_eq!(fs::metadata(rig.out("file")).expect("there").nlink(), 2);
    fs::write(rig.out("sub/exe"), "??").expect("writable");
    stats[1].modified += 1;
    let again = send(&rig.receiver(known), &stats, &contents).await.expect("written");
    assert_eq!(again.into_iter().collect::<Vec<_>>(), ["file", "sub/exe"]);
    assert_eq!(fs::read(rig.out("sub/name")).expect("there"), b"content");
}

#[tokio::test]
async fn the_trees_of_several_platforms_arrive_at_the_same_time() {
    let rig = Rig::new();
    let receiver = rig.receiver(Vec::new());
    let tree = |platform: &str| -> Vec<FileStat> {
        let at = |name: &str| format!("{platform}/{name}");
        let files = (0..200).map(|n| stat(&at(&format!("f{n:03}")), 0o644, "", 2));
        let links = (0..50).map(|n| stat(&at(&format!("l{n:02}")), SYMLINK | 0o777, "f000", 0));
        let device = stat(&at("a"), 1 << 26 | 1 << 21 | 0o666, "", 0);
        [stat(platform, DIR | 0o755, "", 0), device].into_iter().chain(files).chain(links).collect()
    };
    let (amd64, arm64) = (tree("linux_amd64"), tree("linux_arm64"));
    let paths: Vec<String> =
        amd64.iter().chain(&arm64).map(|it| String::from_utf8_lossy(&it.path).into_owned()).collect();
    let contents = paths.iter().map(|path| (path.as_str(), &b"ab"[..])).collect();
    let (one, two) = tokio::join!(send(&receiver, &amd64, &contents), send(&receiver, &arm64, &contents));
    assert_eq!((one.expect("written").len(), two.expect("written").len()), (200, 200));
    let written = receiver.take_written().expect("both");
    assert_eq!((written.entries.len(), written.files, written.dropped.len()), (504, 400, 2));
    assert_eq!(fs::read(rig.out("linux_arm64/f199")).expect("there"), b"ab");
    assert_eq!(fs::read_link(rig.out("linux_amd64/l49")).expect("a link"), Path::new("f000"));
}

#[tokio::test]
async fn an_evil_sender_gives_an_error_and_writes_nothing_outside() {
    let evil: &[&[FileStat]] = &[
        &[stat("../outside/x", 0o644, "", 1)],
        &[stat("/tmp/x", 0o644, "", 1)],
        &[stat("a", DIR | 0o755, "", 0), stat("a/../../outside/x", 0o644, "", 1)],
        &[stat("l", SYMLINK | 0o777, "../outside", 0), stat("l/x", 0o644, "", 1)],
        &[stat("l", SYMLINK | 0o777, "../outside", 0), stat("l", DIR | 0o755, "", 0), stat("l/x", 0o644, "", 1)],
        &[stat("h", 0o644, "../outside/secret", 0)],
        &[stat("l", SYMLINK | 0o777, "../outside/secret", 0), stat("m", 0o644, "l", 0)],
        &[stat("a", DIR | 0o755, "", 0), stat("b", 0o644, "a", 0)],
        &[stat("s", 1 << 24 | 0o644, "", 0)],
        &[stat("w", DIR | SYMLINK | 0o644, "/", 0)],
        &[stat("x", 0o644, "", 0)],
        &[stat("x", 0o644, "", 100)],
        &[stat("x", 0o644, "", 1), stat("x", 0o644, "", 1)],
    ];
    for stats in evil {
        let rig = Rig::new();
        fs::write(rig.folder.path().join("outside/secret"), "s").expect("writable");
        let receiver = rig.receiver(Vec::new());
        let contents = BTreeMap::from([("x", &b"1"[..]), ("l/x", b"1")]);
        let refused = send(&receiver, stats, &contents).await.expect_err("evil");
        assert!(matches!(refused.code(), Code::InvalidArgument), "{stats:?}: {refused}");
        assert!(receiver.take_written().is_none());
        let outside = fs::metadata(rig.folder.path().join("outside/secret")).expect("there");
        assert_eq!((outside.nlink(), outside.len()), (1, 1));
        assert_eq!(fs::read_dir(rig.folder.path().join("outside")).expect("there").count(), 1);
    }
}
