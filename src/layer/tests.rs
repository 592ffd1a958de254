//! Tests of the whole way: tree ─► tar ─► tree, and archives that mean harm.
#![expect(clippy::print_stderr, reason = "a test that cannot run says so")]

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::{
        ffi::OsStrExt as _,
        fs::{MetadataExt as _, PermissionsExt as _, symlink},
    },
    path::{Path, PathBuf},
};

use proptest::prelude::*;

use super::{error::LayerError, pack::pack, *};
use crate::{
    archive::{ArchiveCompression, ArchiveError, TarEntry, TarMemberKind, decode, detect, tar_headers, tar_padding},
    oci::{Codec, Digest, codec::ESTARGZ_TOC},
};

/// A tar made entry by entry, with our own headers.
#[derive(Default)]
struct Archive(Vec<u8>);

impl Archive {
    fn add(mut self, kind: TarMemberKind, path: &str, link: &str, content: &[u8]) -> Self {
        let mode = if kind == TarMemberKind::Dir { 0o755 } else { 0o644 };
        self.push(&entry(kind, path, link, content, mode), content);
        self
    }

    fn push(&mut self, entry: &TarEntry<'_>, content: &[u8]) {
        self.0.extend_from_slice(&tar_headers(entry));
        self.0.extend_from_slice(content);
        self.0.extend_from_slice(tar_padding(content.len() as u64));
    }

    fn file(self, path: &str, content: &str) -> Self {
        self.add(TarMemberKind::File, path, "", content.as_bytes())
    }

    fn dir(self, path: &str) -> Self {
        self.add(TarMemberKind::Dir, path, "", b"")
    }

    fn link(self, path: &str, target: &str) -> Self {
        self.add(TarMemberKind::Symlink, path, target, b"")
    }

    fn hard(self, path: &str, target: &str) -> Self {
        self.add(TarMemberKind::HardLink, path, target, b"")
    }

    fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

fn entry<'a>(kind: TarMemberKind, path: &'a str, link: &'a str, content: &[u8], mode: u32) -> TarEntry<'a> {
    TarEntry {
        path: path.as_bytes(),
        kind,
        link: link.as_bytes(),
        mode,
        uid: nix_uid(),
        gid: nix_gid(),
        mtime: 1_600_000_000,
        size: content.len() as u64,
        device: (0, 0),
        xattrs: &[],
        sparse: None,
    }
}

fn nix_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn nix_gid() -> u32 {
    rustix::process::getegid().as_raw()
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

struct Rig {
    temp: tempfile::TempDir,
}

impl Rig {
    fn new() -> Self {
        Self { temp: tempfile::tempdir().unwrap() }
    }

    fn dir(&self, name: &str) -> PathBuf {
        let path = self.temp.path().join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    fn unpack(&self, tar: &[u8], name: &str, lowers: &[PathBuf]) -> Result<PathBuf, LayerError> {
        let dir = self.dir(name);
        unpack(tar, &dir, lowers, &UnpackLimits::default()).map(|_| dir)
    }
}

/// Every entry as one line, sorted: what two equal trees have in common.
fn listing(dir: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(path) = todo.pop() {
        for entry in fs::read_dir(&path).unwrap().flatten() {
            let meta = entry.metadata().unwrap();
            let content = if meta.is_file() {
                Digest::of(&fs::read(entry.path()).unwrap()).hex()[..8].to_owned()
            } else if meta.is_symlink() {
                fs::read_link(entry.path()).unwrap().to_string_lossy().into_owned()
            } else {
                String::new()
            };
            lines.push(format!(
                "{} {:o} {}:{} {} {content}",
                entry.path().strip_prefix(dir).unwrap().display(),
                meta.mode(),
                meta.uid(),
                meta.gid(),
                meta.mtime(),
            ));
            if meta.is_dir() {
                todo.push(entry.path());
            }
        }
    }
    lines.sort();
    lines
}

fn packed(upper: &Path, lowers: &[PathBuf]) -> Vec<u8> {
    let mut tar = Vec::new();
    pack(upper, lowers, &mut tar, PackOptions::default()).unwrap();
    tar
}

/// The names in a tar, by another implementation.
fn names(tar: &[u8]) -> Vec<String> {
    let mut archive = ::tar::Archive::new(tar);
    archive.entries().unwrap().map(|it| String::from_utf8_lossy(&it.unwrap().path_bytes()).into_owned()).collect()
}

#[test]
fn no_change_is_the_empty_tar() {
    let rig = Rig::new();
    let tar = packed(&rig.dir("upper"), &[]);
    assert_eq!(Digest::of(&tar).hex(), "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef");
}

#[test]
fn a_tree_comes_back_as_it_was() {
    let rig = Rig::new();
    let upper = rig.dir("upper");
    let deep = upper.join("a").join("x".repeat(120)).join("y".repeat(120));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("é\n".repeat(20)), vec![3; 700_000]).unwrap();
    fs::write(upper.join("a/su"), "x").unwrap();
    fs::set_permissions(upper.join("a/su"), fs::Permissions::from_mode(0o4755)).unwrap();
    fs::hard_link(upper.join("a/su"), upper.join("z-hard")).unwrap();
    symlink("l".repeat(300), upper.join("long-link")).unwrap();
    symlink("/etc/passwd", upper.join("link")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, upper.join("fifo"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    fs::write(upper.join(std::ffi::OsStr::from_bytes(b"not\xff\xfetext")), "").unwrap();
    let old = std::time::SystemTime::UNIX_EPOCH - std::time::Duration::from_secs(1000);
    for name in ["a/su", "a"] {
        fs::File::open(upper.join(name)).unwrap().set_modified(old).unwrap();
    }
    drop(std::os::unix::net::UnixListener::bind(upper.join("socket")).unwrap());
    let tar = packed(&upper, &[]);
    let again = rig.unpack(&tar, "again", &[]).unwrap();
    fs::remove_file(upper.join("socket")).unwrap();
    assert_eq!(listing(&again), listing(&upper));
    assert_eq!(fs::metadata(again.join("z-hard")).unwrap().nlink(), 2);
    assert_eq!(packed(&again, &[]), tar);
}

#[test]
fn the_epoch_cuts_later_times_only() {
    let rig = Rig::new();
    let upper = rig.dir("upper");
    for (name, time) in [("early", 1000), ("late", 9000)] {
        let file = fs::File::create(upper.join(name)).unwrap();
        file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(time)).unwrap();
    }
    let mut tar = Vec::new();
    pack(&upper, &[], &mut tar, PackOptions { epoch: Some(5000) }).unwrap();
    let mut archive = ::tar::Archive::new(&tar[..]);
    let times: Vec<_> = archive.entries().unwrap().map(|it| it.unwrap().header().mtime().unwrap()).collect();
    assert_eq!(times, [1000, 5000]);
}

/// Whiteout and opaque directory as overlayfs makes them; needs root.
fn whiteout(path: &Path) {
    let kind = rustix::fs::FileType::CharacterDevice;
    rustix::fs::mknodat(rustix::fs::CWD, path, kind, 0.into(), 0).unwrap();
}

fn make_opaque(path: &Path) {
    rustix::fs::setxattr(path, view::at::opaque_xattr(), b"y", rustix::fs::XattrFlags::empty()).unwrap();
}

fn opaque(path: &Path) -> bool {
    view::at::is_opaque(fs::File::open(path).unwrap()).unwrap()
}

#[test]
fn only_changes_are_packed_with_their_parents() {
    if !is_root() {
        eprintln!("SKIPPED: needs root");
        return;
    }
    let rig = Rig::new();
    let tar = Archive::default()
        .dir("same")
        .file("same/f", "1")
        .dir("d")
        .file("d/gone", "1")
        .file("d/kept", "1")
        .file("d/touched", "abc")
        .file("d/vanished", "1")
        .dir("w")
        .file("w/a", "1")
        .file("w/b", "1")
        .dir("w/sub")
        .file("w/sub/x", "1")
        .dir("todir-file")
        .link("tolink", "d");
    let lower = rig.unpack(&tar.end(), "lower", &[]).unwrap();
    let upper = rig.dir("upper");
    // As overlayfs copies up: directories with their metadata.
    let copy = |name: &str| {
        let (from, to) = (lower.join(name), upper.join(name));
        let meta = fs::symlink_metadata(&from).unwrap();
        if meta.is_dir() {
            fs::create_dir_all(&to).unwrap();
            fs::set_permissions(&to, meta.permissions()).unwrap();
        } else {
            fs::copy(&from, &to).unwrap();
            fs::File::open(&to).unwrap().set_modified(meta.modified().unwrap()).unwrap();
        }
    };
    copy("same");
    copy("same/f");
    copy("d");
    whiteout(&upper.join("d/gone"));
    whiteout(&upper.join("d/never-was"));
    copy("d/touched");
    fs::write(upper.join("d/new"), "new").unwrap();
    // Other content, equal size and time: times of whole seconds are not enough.
    fs::write(upper.join("d/kept"), "2").unwrap();
    fs::File::open(upper.join("d/kept"))
        .unwrap()
        .set_modified(fs::metadata(lower.join("d/kept")).unwrap().modified().unwrap())
        .unwrap();
    copy("w");
    make_opaque(&upper.join("w"));
    fs::create_dir(upper.join("w/sub")).unwrap();
    fs::write(upper.join("w/n"), "new").unwrap();
    fs::write(upper.join("todir-file"), "now a file").unwrap();
    let tar = packed(&upper, std::slice::from_ref(&lower));
    assert_eq!(
        names(&tar),
        [
            "d/",
            "d/.wh.gone",
            "d/kept",
            "d/new",
            "todir-file",
            "w/",
            "w/.wh.a",
            "w/.wh.b",
            "w/n",
            "w/sub/",
            "w/sub/.wh.x"
        ]
    );
    // What was packed means the same when it is unpacked.
    let again = rig.unpack(&tar, "again", std::slice::from_ref(&lower)).unwrap();
    let (a, b) =
        (view::LayerView::open(&[lower.clone(), upper]).unwrap(), view::LayerView::open(&[lower, again]).unwrap());
    for dir in ["", "d", "w", "w/sub", "same"] {
        let list =
            |view: &view::LayerView| -> Vec<_> { view.read_dir(dir).unwrap().into_iter().map(|it| it.0).collect() };
        assert_eq!(list(&a), list(&b), "{dir}");
    }
}

#[test]
fn whiteouts_take_overlay_form_whatever_their_order() {
    if !is_root() {
        eprintln!("SKIPPED: needs root");
        return;
    }
    let rig = Rig::new();
    let tar = Archive::default()
        .dir("d")
        .file("d/.wh.f", "")
        .file("d/.wh..wh..opq", "")
        .file("d/.wh..wh.plnk", "")
        .file(".wh.re", "")
        .dir("re")
        .file("re/new", "x")
        .dir("before")
        .file("before/x", "")
        .file(".wh.before", "")
        .file("kept", "")
        .file(".wh.kept", "");
    let dir = rig.unpack(&tar.end(), "layer", &[]).unwrap();
    let meta = fs::symlink_metadata(dir.join("d/f")).unwrap();
    assert_eq!((meta.mode() & 0o170_000, meta.rdev()), (0o020_000, 0));
    assert!(opaque(&dir.join("d")) && opaque(&dir.join("re")) && opaque(&dir.join("before")));
    assert!(!dir.join("d/.wh..wh.plnk").exists());
    assert!(dir.join("re/new").is_file() && dir.join("before/x").is_file() && dir.join("kept").is_file());
    for bad in [".wh.", "d/.wh...", "d/.wh.."] {
        let error = rig.unpack(&Archive::default().dir("d").file(bad, "").end(), &format!("bad{}", bad.len()), &[]);
        assert!(error.is_err(), "{bad}");
    }
}

#[test]
fn parents_that_an_archive_leaves_out_look_as_below() {
    if !is_root() {
        eprintln!("SKIPPED: needs root");
        return;
    }
    let rig = Rig::new();
    let mut lower = Archive::default();
    lower.push(&TarEntry { uid: 7, gid: 8, ..entry(TarMemberKind::Dir, "tmp", "", b"", 0o1777) }, b"");
    let lower =
        lower.dir("usr").dir("usr/lib").link("lib", "usr/lib").link("abs", "/usr").file("usr/lib/target", "content");
    let lower = rig.unpack(&lower.end(), "lower", &[]).unwrap();
    let tar = Archive::default()
        .file("tmp/f", "x")
        .file("lib/new", "x")
        .file("abs/lib/other", "x")
        .file("no/such/dir/f", "x")
        .hard("hard", "lib/target");
    let dir = rig.unpack(&tar.end(), "upper", &[lower]).unwrap();
    let tmp = fs::metadata(dir.join("tmp")).unwrap();
    assert_eq!((tmp.mode() & 0o7777, tmp.uid(), tmp.gid(), tmp.mtime()), (0o1777, 7, 8, 1_600_000_000));
    assert!(dir.join("usr/lib/new").is_file() && dir.join("usr/lib/other").is_file());
    assert!(!dir.join("lib").exists() && !dir.join("abs").exists());
    assert_eq!(fs::metadata(dir.join("no/such")).unwrap().mode() & 0o7777, 0o755);
    assert_eq!(fs::read_to_string(dir.join("hard")).unwrap(), "content");
    assert_eq!(fs::metadata(dir.join("hard")).unwrap().ino(), fs::metadata(dir.join("usr/lib/target")).unwrap().ino());
}

#[test]
fn evil_archives_reach_nothing_outside() {
    let rig = Rig::new();
    let canary = rig.dir("canary");
    fs::write(canary.join("victim"), "intact").unwrap();
    fs::set_permissions(&canary, fs::Permissions::from_mode(0o711)).unwrap();
    let can = canary.to_str().unwrap();
    let up = format!("{}{can}", "../".repeat(20));
    let cases = [
        Archive::default().file(&format!("{can}/pwn"), "x"),
        Archive::default().file(&format!("{up}/pwn"), "x"),
        Archive::default().link("x", can).file("x/pwn", "x").file("x/victim", "x"),
        Archive::default().link("x", &up).file("x/pwn", "x").dir("x/"),
        Archive::default().link("x", can).add(TarMemberKind::Dir, "x", "", b""),
        Archive::default().dir("d").link("d", can).file("d/pwn", "x"),
        Archive::default().link("x", can).hard("h", "x/victim").file("h", "overwritten"),
        Archive::default().hard("h", &format!("{can}/victim")).file("h", "overwritten"),
        Archive::default().hard("h", &format!("{up}/victim")),
        Archive::default().link("s", &format!("{can}/victim")).hard("h", "s").file("h", "overwritten"),
        Archive::default().link("x", &format!("{can}/victim")).file("x", "overwritten"),
        Archive::default().link("x", &format!("/proc/self/root{can}")).file("x/pwn", "x"),
        Archive::default().link("x", "/proc/self/cwd").file("x/pwn-in-cwd", "x"),
        Archive::default().link("x", can).file("x/.wh.victim", ""),
        Archive::default().link("x", can).file("x/.wh..wh..opq", ""),
        Archive::default().hard("h", "h"),
        Archive::default().dir("d").hard("h", "d"),
        Archive::default().link("a", "b").link("b", "a").file("a/f", "x"),
    ];
    for (i, case) in cases.into_iter().enumerate() {
        drop(rig.unpack(&case.end(), &format!("case{i}"), &[]));
        assert_eq!(fs::read_to_string(canary.join("victim")).unwrap(), "intact", "case {i}");
        assert_eq!(fs::metadata(canary.join("victim")).unwrap().nlink(), 1, "case {i}");
        assert_eq!(fs::read_dir(&canary).unwrap().count(), 1, "case {i}");
        assert_eq!(fs::metadata(&canary).unwrap().mode() & 0o7777, 0o711, "case {i}");
        assert!(!Path::new("pwn-in-cwd").exists());
    }
}

#[test]
fn attributes_of_overlayfs_are_never_taken_from_an_archive() {
    let rig = Rig::new();
    let names =
        ["trusted.overlay.opaque", "user.overlay.opaque", "trusted.overlay.redirect", "security.selinux", "user.", ""];
    let mut xattrs: Vec<(Vec<u8>, Vec<u8>)> =
        names.iter().map(|name| (name.as_bytes().to_vec(), b"y".to_vec())).collect();
    xattrs.push((b"user.kept".to_vec(), b"1".to_vec()));
    let mut archive = Archive::default();
    archive.push(&TarEntry { xattrs: &xattrs, ..entry(TarMemberKind::Dir, "d", "", b"", 0o755) }, b"");
    let dir = rig.unpack(&archive.end(), "layer", &[]).unwrap();
    let mut list = [0; 4096];
    let n = rustix::fs::listxattr(dir.join("d"), &mut list[..]).unwrap();
    let list = String::from_utf8_lossy(&list[..n]).into_owned();
    assert!(!list.contains("overlay"), "{list}");
    if list.contains("user.kept") {
        assert!(String::from_utf8_lossy(&packed(&dir, &[])).contains("SCHILY.xattr.user.kept=1\n"));
    }
}

#[test]
fn the_last_entry_of_a_name_wins() {
    let rig = Rig::new();
    let tar = Archive::default()
        .file("f", "first")
        .file("f", "second")
        .dir("d")
        .file("d/x", "1")
        .file("d", "file")
        .dir("d")
        .file("d/y", "2")
        .hard("same", "f")
        .hard("same", "same")
        .file("f", "third");
    let dir = rig.unpack(&tar.end(), "layer", &[]).unwrap();
    assert_eq!(fs::read_to_string(dir.join("f")).unwrap(), "third");
    assert_eq!(fs::read_to_string(dir.join("same")).unwrap(), "second");
    assert!(dir.join("d/y").exists() && !dir.join("d/x").exists());
}

#[test]
fn bad_archives_are_refused_with_the_name_of_the_entry() {
    let rig = Rig::new();
    let good = Archive::default().file("name-of-entry", "x");
    let header = |change: &dyn Fn(&mut [u8])| {
        let mut bytes = good.0.clone();
        change(&mut bytes[..512]);
        bytes[148..156].fill(b' ');
        let sum: u32 = bytes[..512].iter().map(|it| u32::from(*it)).sum();
        bytes[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        bytes
    };
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("checksum", {
            let mut b = good.0.clone();
            b[0] ^= 1;
            b
        }),
        ("negative size", header(&|h| h[124..136].fill(0xff))),
        ("negative owner", header(&|h| h[108..116].fill(0xff))),
        ("unknown type", header(&|h| h[156] = b'Z')),
        ("endless size", header(&|h| h[124..136].copy_from_slice(b"77777777777\0"))),
        (
            "device 0:0",
            header(&|h| {
                h[156] = b'3';
                h[124..136].copy_from_slice(b"00000000000\0");
            }),
        ),
        ("cut", good.0[..600].to_vec()),
        ("cut header", good.0[..300].to_vec()),
        ("long path", Archive::default().file(&format!("{}name-of-entry", "dir/".repeat(1100)), "").end()),
        ("root as file", Archive::default().file("..", "").end()),
    ];
    for (i, (what, bytes)) in cases.into_iter().enumerate() {
        let error = rig.unpack(&bytes, &format!("case{i}"), &[]).expect_err(what).to_string();
        assert!(error.contains("archive") || error.contains("name-of-entry"), "{what}: {error}");
    }
}

#[test]
fn limits_hold() {
    let rig = Rig::new();
    let tar = Archive::default().file("a", "12345").file("b", "12345").end();
    for limits in
        [UnpackLimits { entries: 1, ..UnpackLimits::default() }, UnpackLimits { bytes: 9, ..UnpackLimits::default() }]
    {
        assert!(unpack(&tar[..], &rig.dir("x"), &[], &limits).is_err());
    }
    let mut pax = Archive::default();
    let xattrs = [(b"user.big".to_vec(), vec![b'x'; 2 << 20])];
    pax.push(&TarEntry { xattrs: &xattrs, ..entry(TarMemberKind::File, "f", "", b"", 0o644) }, b"");
    assert!(matches!(rig.unpack(&pax.end(), "pax", &[]), Err(LayerError::Archive(ArchiveError::Limit { .. }))));
}

/// Many extension headers in front of one member, each of which is small enough: together they are refused, so that what
/// one member takes of memory has a bound.
#[test]
fn the_extension_headers_of_one_member_are_bounded_together() {
    let rig = Rig::new();
    let xattrs = |n: u32, length: usize| -> Vec<(Vec<u8>, Vec<u8>)> {
        (0..n).map(|i| (format!("user.{i}").into_bytes(), vec![b'x'; length])).collect()
    };
    let one = |xattrs: &[(Vec<u8>, Vec<u8>)]| {
        let headers = tar_headers(&TarEntry { xattrs, ..entry(TarMemberKind::File, "f", "", b"", 0o644) });
        // Without the header of the member, which follows the extension.
        headers[..headers.len() - 512].to_vec()
    };
    let unpack = |extensions: Vec<u8>, name: &str| {
        let mut archive = Archive(extensions);
        archive.push(&entry(TarMemberKind::File, "f", "", b"", 0o644), b"");
        rig.unpack(&archive.end(), name, &[])
    };
    // Within the bounds it is the file system that may refuse a value of this size.
    let within = unpack(one(&xattrs(1, 300 << 10)).repeat(3), "few");
    assert!(!matches!(within, Err(LayerError::Archive(_))), "{within:?}");
    for (what, extensions) in [
        ("bytes", one(&xattrs(1, 300 << 10)).repeat(4)),
        ("attributes", one(&xattrs(5000, 1))),
        ("headers", one(&xattrs(1, 1000)).repeat(2000)),
    ] {
        let result = unpack(extensions, what);
        assert!(matches!(result, Err(LayerError::Archive(ArchiveError::Limit { .. }))), "{what}: {result:?}");
    }
}

#[test]
fn sparse_files_of_all_forms_are_read() {
    let rig = Rig::new();
    // PAX 1.0: the map is in front of the data.
    let mut data = b"2\n1000\n3\n5000\n2\n".to_vec();
    data.resize(512, 0);
    data.extend_from_slice(b"abcde");
    let pax = |records: &[(&str, &str)], data: &[u8]| {
        let mut body = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while length != rest + length.to_string().len() {
                length = rest + length.to_string().len();
            }
            body.extend_from_slice(format!("{length} {key}={value}\n").as_bytes());
        }
        let mut archive = Archive::default();
        let mut header = tar_headers(&entry(TarMemberKind::File, "PaxHeaders/s", "", &body, 0o644));
        header[156] = b'x';
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|it| u32::from(*it)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        archive.0.extend_from_slice(&header);
        archive.0.extend_from_slice(&body);
        archive.0.extend_from_slice(tar_padding(body.len() as u64));
        archive.add(TarMemberKind::File, "GNUSparseFile.0/s", "", data).end()
    };
    let one = [
        ("GNU.sparse.major", "1"),
        ("GNU.sparse.minor", "0"),
        ("GNU.sparse.name", "s"),
        ("GNU.sparse.realsize", "6000"),
    ];
    let zero = [
        ("GNU.sparse.size", "6000"),
        ("GNU.sparse.numblocks", "2"),
        ("GNU.sparse.map", "1000,3,5000,2"),
        ("path", "s"),
    ];
    let mut want = vec![0; 6000];
    want[1000..1003].copy_from_slice(b"abc");
    want[5000..5002].copy_from_slice(b"de");
    for (i, tar) in [pax(&one, &data), pax(&zero, b"abcde")].iter().enumerate() {
        let dir = rig.unpack(tar, &format!("s{i}"), &[]).unwrap();
        assert_eq!(fs::read(dir.join("s")).unwrap(), want, "{i}");
    }
    // The old GNU form: two pieces in the header, a third in a block behind it.
    let mut gnu = tar_headers(&entry(TarMemberKind::File, "s", "", b"abcdef", 0o644));
    gnu[156] = b'S';
    gnu[257..265].copy_from_slice(b"ustar  \0");
    gnu[345..512].fill(0);
    let number = |n: u64| format!("{n:011o}\0").into_bytes();
    for (at, n) in [(386, 1000), (398, 3), (410, 5000), (422, 2), (483, 6001)] {
        gnu[at..at + 12].copy_from_slice(&number(n));
    }
    gnu[482] = 1;
    gnu[148..156].fill(b' ');
    let sum: u32 = gnu.iter().map(|it| u32::from(*it)).sum();
    gnu[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    let mut more = [0; 512];
    more[..12].copy_from_slice(&number(6000));
    more[12..24].copy_from_slice(&number(1));
    gnu.extend_from_slice(&more);
    gnu.extend_from_slice(b"abcdef");
    gnu.resize(gnu.len() + 506 + 1024, 0);
    want.push(b'f');
    let dir = rig.unpack(&gnu, "gnu", &[]).unwrap();
    assert_eq!(fs::read(dir.join("s")).unwrap(), want);
    let lie = [("GNU.sparse.size", "1152921504606846976"), ("GNU.sparse.map", "0,5"), ("path", "s")];
    assert!(matches!(
        rig.unpack(&pax(&lie, b"abcde"), "lie", &[]),
        Err(LayerError::Archive(ArchiveError::Limit { .. }))
    ));
    let overlap = [("GNU.sparse.size", "10"), ("GNU.sparse.map", "0,3,2,2"), ("path", "s")];
    assert!(rig.unpack(&pax(&overlap, b"abcde"), "overlap", &[]).is_err());
}

fn sample() -> Vec<u8> {
    let mut seed = 1_u64;
    let mut noise = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 60) as u8
    };
    let big: Vec<u8> = (0..5_000_000).map(|_| noise()).collect();
    let mut archive = Archive::default().dir("d").file("d/empty", "").file("d/small", "small");
    archive = archive.add(TarMemberKind::File, "d/big", "", &big).link("l", "d").hard("h", "d/small");
    for i in 0..300 {
        archive = archive.file(&format!("d/f{i}"), &format!("{i}").repeat(i));
    }
    archive.end()
}

#[test]
fn every_compression_gives_the_bytes_back_on_any_number_of_threads() {
    let tar = sample();
    for compression in Codec::ALL {
        let mut blobs = Vec::new();
        for threads in [1, 2, 5] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut blob = Vec::new();
            let encoded = pool.install(|| encode(compression, None, &tar[..], &mut blob)).unwrap();
            assert_eq!(encoded.digest, Digest::of(&blob));
            let mut plain = Vec::new();
            decode(&blob[..]).unwrap().read_to_end(&mut plain).unwrap();
            assert_eq!(encoded.diff_id.0, Digest::of(&plain));
            assert!(plain.starts_with(&tar), "{compression:?}");
            assert_eq!(plain.len() == tar.len(), compression != Codec::Estargz);
            blobs.push(blob);
        }
        assert!(blobs.iter().all(|blob| *blob == blobs[0]), "{compression:?}");
    }
}

#[test]
fn levels_matter_and_zero_stores() {
    let tar = sample();
    let size_of = |compression, level, plain: &[u8]| {
        let mut blob = Vec::new();
        encode(compression, level, plain, &mut blob).unwrap();
        blob.len()
    };
    let size = |compression, level| size_of(compression, Some(level), &tar[..]);
    assert!(size(Codec::Gzip, 0) > tar.len());
    assert!(size(Codec::Gzip, 1) > size(Codec::Gzip, 9));
    assert_eq!(size(Codec::Gzip, -1), size_of(Codec::Gzip, None, &tar[..]));
    assert_eq!(size(Codec::Gzip, 99), size(Codec::Gzip, 9));
    let text: String = (0..100_000).map(|i| format!("line {} of {}\n", i * 7919 % 1000, i % 97)).collect();
    let zstd = |level| size_of(Codec::Zstd, Some(level), text.as_bytes());
    assert!(zstd(1) > zstd(19));
    assert_eq!(zstd(-5), zstd(1));
}

#[test]
fn empty_input_is_valid_in_every_compression() {
    for compression in Codec::ALL {
        let mut blob = Vec::new();
        encode(compression, None, &[][..], &mut blob).unwrap();
        let mut plain = Vec::new();
        decode(&blob[..]).unwrap().read_to_end(&mut plain).unwrap();
        assert_eq!(plain.is_empty(), compression != Codec::Estargz, "{compression:?}");
    }
}

#[test]
fn gzip_headers_hold_nothing_of_the_machine() {
    let mut blob = Vec::new();
    encode(Codec::Gzip, None, &b"x"[..], &mut blob).unwrap();
    assert_eq!(blob[..8], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0]);
    assert_eq!(blob[9], 255);
}

#[test]
fn the_table_of_an_estargz_leads_to_every_file() {
    let tar = sample();
    let mut blob = Vec::new();
    let encoded = encode(Codec::Estargz, None, &tar[..], &mut blob).unwrap();
    let footer = &blob[blob.len() - 51..];
    assert!(footer.starts_with(&[0x1f, 0x8b, 0x08, 0x04]));
    assert_eq!((&footer[10..16], &footer[32..38]), (&[26, 0, b'S', b'G', 22, 0][..], &b"STARGZ"[..]));
    let at = usize::from_str_radix(std::str::from_utf8(&footer[16..32]).unwrap(), 16).unwrap();
    let gunzip = |bytes: &[u8]| {
        let mut plain = Vec::new();
        flate2::bufread::GzDecoder::new(bytes).read_to_end(&mut plain).unwrap();
        plain
    };
    let table = gunzip(&blob[at..]);
    let mut archive = ::tar::Archive::new(&table[..]);
    let mut entries = archive.entries().unwrap();
    let mut json = Vec::new();
    entries.next().unwrap().unwrap().read_to_end(&mut json).unwrap();
    assert_eq!(encoded.annotations[ESTARGZ_TOC], Digest::of(&json).to_string());
    let mut plain = Vec::new();
    decode(&blob[..]).unwrap().read_to_end(&mut plain).unwrap();
    assert_eq!(encoded.annotations["io.containers.estargz.uncompressed-size"], plain.len().to_string());
    let toc: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let toc = toc["entries"].as_array().unwrap();
    assert_eq!(toc.iter().filter(|it| it["name"] == "d/big").count(), 2);
    let mut seen = 0;
    for entry in toc.iter().filter(|it| it["chunkDigest"].is_string()) {
        let content = gunzip(&blob[entry["offset"].as_u64().unwrap() as usize..]);
        assert_eq!(entry["chunkDigest"], Digest::of(&content).to_string(), "{}", entry["name"]);
        seen += content.len();
    }
    assert!(seen > 5_000_000);
    assert!(encode(Codec::Estargz, None, decode(&blob[..]).unwrap(), std::io::sink()).is_err());
}

#[test]
fn packing_and_compressing_at_once_is_the_same_and_errors_come_through() {
    let rig = Rig::new();
    let upper = rig.dir("upper");
    fs::write(upper.join("f"), vec![1; 3_000_000]).unwrap();
    let tar = packed(&upper, &[]);
    let mut blob = Vec::new();
    let encoded = pack_encoded(&upper, &[], PackOptions::default(), Codec::Zstd, None, &mut blob).unwrap();
    assert_eq!(encoded.diff_id.0, Digest::of(&tar));
    let missing = rig.temp.path().join("missing");
    let error = pack_encoded(&missing, &[], PackOptions::default(), Codec::Gzip, None, &mut blob).unwrap_err();
    assert!(error.to_string().contains("missing"), "{error}");
    struct Full;
    impl std::io::Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("disk full"))
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    for compression in Codec::ALL {
        let error = pack_encoded(&upper, &[], PackOptions::default(), compression, None, Full).unwrap_err();
        assert!(error.to_string().contains("disk full"), "{error}");
    }
}

#[test]
fn compressed_layers_are_found_out_and_damage_is_an_error() {
    let rig = Rig::new();
    let tar = sample();
    for (i, compression) in Codec::ALL.into_iter().enumerate() {
        let mut blob = Vec::new();
        let encoded = encode(compression, None, &tar[..], &mut blob).unwrap();
        let dir = rig.dir(&format!("good{i}"));
        let diff_id = unpack(&blob[..], &dir, &[], &UnpackLimits::default()).unwrap();
        assert_eq!(diff_id, encoded.diff_id);
        assert_eq!(fs::metadata(dir.join("d/big")).unwrap().len(), 5_000_000);
        // Cut, or with another byte: an error, or at least another diff id.
        let mut flipped = blob.clone();
        flipped[blob.len() / 2] ^= 0x41;
        for (n, damaged) in [&blob[..blob.len() / 2], &flipped[..]].into_iter().enumerate() {
            let result = unpack(damaged, &rig.dir(&format!("bad{i}{n}")), &[], &UnpackLimits::default());
            assert!(result.is_err() || result.unwrap() != encoded.diff_id);
        }
    }
    let mut bz = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bz.write_all(&tar).unwrap();
    // Two streams after each other: `printf 'xz content' | xz`, twice.
    let xz = "fd377a585a000004e6d6b4460200210116000000742fe5a3010009787a20636f6e74656e74000000448dfa92290b574d0001220a151ae1671fb6f37d010000000004595a";
    let xz: Vec<u8> = (0..xz.len()).step_by(2).map(|i| u8::from_str_radix(&xz[i..i + 2], 16).unwrap()).collect();
    let cases = [
        (xz.repeat(2), ArchiveCompression::Xz, b"xz contentxz content".to_vec()),
        (bz.finish().unwrap(), ArchiveCompression::Bzip2, tar.clone()),
    ];
    for (blob, compression, want) in cases {
        assert_eq!(detect(&blob), compression);
        let mut plain = Vec::new();
        decode(&blob[..]).unwrap().read_to_end(&mut plain).unwrap();
        assert!(plain == want, "{compression:?}");
    }
}

/// One thing in a generated tree.
#[derive(Clone, Debug)]
enum Thing {
    File(Vec<u8>, u32),
    Dir(u32),
    Link(String),
    Hard(usize),
}

fn things() -> impl Strategy<Value = Vec<(Vec<String>, Thing)>> {
    let name = prop_oneof!["[a-c]", "[a-zé .]{1,12}x", "[n]{90,120}"];
    let path = prop::collection::vec(name, 1..4);
    let thing = prop_oneof![
        (prop::collection::vec(any::<u8>(), 0..2000), 0_u32..0o1000)
            .prop_map(|(content, mode)| Thing::File(content, mode)),
        (0_u32..0o1000).prop_map(|mode| Thing::Dir(mode | 0o700)),
        "[a-z/.]{1,150}".prop_map(Thing::Link),
        (0_usize..20).prop_map(Thing::Hard),
    ];
    prop::collection::vec((path, thing), 0..25)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn any_tree_comes_back_as_it_was(things in things()) {
        let rig = Rig::new();
        let upper = rig.dir("upper");
        let mut files: Vec<PathBuf> = Vec::new();
        for (path, thing) in things {
            let path = upper.join(path.join("/"));
            if fs::symlink_metadata(&path).is_ok() || fs::create_dir_all(path.parent().unwrap()).is_err() {
                continue;
            }
            match thing {
                Thing::File(content, mode) => {
                    fs::write(&path, content).unwrap();
                    fs::set_permissions(&path, fs::Permissions::from_mode(mode | 0o400)).unwrap();
                    files.push(path);
                }
                Thing::Dir(mode) => {
                    fs::create_dir(&path).unwrap();
                    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
                }
                Thing::Link(target) => symlink(target, &path).unwrap(),
                Thing::Hard(n) => {
                    if let Some(file) = files.get(n) {
                        fs::hard_link(file, &path).unwrap();
                    }
                }
            }
        }
        let tar = packed(&upper, &[]);
        let again = rig.unpack(&tar, "again", &[]).unwrap();
        prop_assert_eq!(listing(&again), listing(&upper));
        prop_assert!(packed(&again, &[]) == tar);
        // Above itself nothing has changed. (The second tree has the times of the first, cut to seconds.)
        prop_assert_eq!(packed(&again, std::slice::from_ref(&again)).len(), 1024);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..3000), flips in prop::collection::vec((0_usize..4000, any::<u8>()), 0..6)) {
        let rig = Rig::new();
        drop(rig.unpack(&bytes, "noise", &[]));
        let mut tar = Archive::default().dir("d").file("d/f", "content").link("l", "d").hard("h", "d/f").end();
        for (at, value) in flips {
            if let Some(byte) = tar.get_mut(at) {
                *byte = value;
            }
        }
        // With right checksums, so that the values are looked at.
        for block in tar.chunks_exact_mut(512).filter(|block| block[257..262] == *b"ustar") {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|it| u32::from(*it)).sum();
            block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        }
        drop(rig.unpack(&tar, "flipped", &[]));
    }
}
