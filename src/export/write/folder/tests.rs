//! Trees written, written again and mirrored, in temporary folders.

use std::{
    collections::HashSet,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use super::walk::{FolderOptions, WrittenFolder, write};
use crate::{
    export::{
        remember::{FileMark, fingerprint},
        write::{dest::WriteFault, part::TreePart},
    },
    grant::{Allowed, GrantedWrite, resolve},
    layer::view::{LayerView, at},
    spec::local::{LocalAccess, SpecialFiles},
};

const HARMLESS: LocalAccess = LocalAccess { special: SpecialFiles::Drop, chmod: None, chown: None };
const COPY: FolderOptions = FolderOptions { delete: false, access: HARMLESS };

struct Rig {
    folder: tempfile::TempDir,
}

impl Rig {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::create_dir_all(folder.path().join("tree/sub")).expect("writable");
        fs::write(folder.path().join("tree/a"), "one").expect("writable");
        fs::write(folder.path().join("tree/sub/b"), "two").expect("writable");
        symlink("a", folder.path().join("tree/l")).expect("writable");
        Self { folder }
    }

    fn tree(&self, path: &str) -> PathBuf {
        self.folder.path().join("tree").join(path)
    }

    fn out(&self, path: &str) -> PathBuf {
        self.folder.path().join("out").join(path)
    }

    fn part(&self, tree: &str, folder: Option<&str>, platform: &str) -> TreePart {
        let view = LayerView::open(&[self.folder.path().join(tree)]).expect("there");
        TreePart {
            base: None,
            view,
            folder: folder.map(str::to_owned),
            platform: platform.to_owned(),
            epoch: None,
            extra: Vec::new(),
        }
    }

    fn write(&self, delete: bool, known: &[FileMark]) -> Result<WrittenFolder, WriteFault> {
        let known = known.iter().copied().collect();
        self.write_with(&FolderOptions { delete, access: HARMLESS }, &known)
    }

    fn write_with(&self, options: &FolderOptions, known: &HashSet<FileMark>) -> Result<WrittenFolder, WriteFault> {
        write(&[self.part("tree", None, "p")], &self.dest(), options, known, &|_| {})
    }

    fn dest(&self) -> GrantedWrite {
        let mut allowed = Allowed::default();
        allowed.allow(Path::new("*"), Path::new("/"));
        allowed.write(resolve(&self.out(""), Path::new("/")).expect("a path")).expect("all is allowed")
    }

    fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        let mut folders = vec![self.out("")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("there") {
                let path = entry.expect("readable").path();
                let name = path.strip_prefix(self.out("")).expect("below");
                names.push(name.to_string_lossy().into_owned());
                if path.is_dir() && !path.is_symlink() {
                    folders.push(path);
                }
            }
        }
        names.sort();
        names
    }
}

fn inode(path: &Path) -> (u64, i64) {
    let meta = fs::symlink_metadata(path).expect("there");
    (meta.ino(), meta.ctime_nsec())
}

#[test]
fn only_what_changed_is_written() {
    let rig = Rig::new();
    let first = rig.write(false, &[]).expect("written");
    assert_eq!(first.bytes, 6);
    assert_eq!(rig.names(), ["a", "l", "sub", "sub/b"]);
    let before = (inode(&rig.out("a")), inode(&rig.out("sub/b")));
    fs::write(rig.tree("sub/b"), "TWO").expect("writable");
    let second = rig.write(false, &first.marks).expect("written");
    assert_eq!((second.bytes, inode(&rig.out("a"))), (3, before.0));
    assert_ne!(inode(&rig.out("sub/b")), before.1);
    let third = rig.write(false, &[]).expect("compared");
    assert_eq!((third.bytes, inode(&rig.out("a"))), (0, before.0), "equal content is left alone without marks");
}

#[test]
fn a_file_that_the_user_changed_is_written_again() {
    let rig = Rig::new();
    let first = rig.write(false, &[]).expect("written");
    let meta = fs::metadata(rig.out("a")).expect("there");
    fs::write(rig.out("a"), "ONE").expect("writable");
    let file = fs::File::options().write(true).open(rig.out("a")).expect("there");
    file.set_modified(meta.modified().expect("known")).expect("ours");
    rig.write(false, &first.marks).expect("written");
    assert_eq!(fs::read(rig.out("a")).expect("there"), b"one");
}

#[test]
fn delete_mirrors_and_copy_keeps() {
    let rig = Rig::new();
    fs::create_dir_all(rig.out("stale/x")).expect("writable");
    fs::write(rig.out("mine"), "mine").expect("writable");
    rig.write(false, &[]).expect("written");
    assert!(rig.names().contains(&"mine".to_owned()));
    rig.write(true, &[]).expect("written");
    assert_eq!(rig.names(), ["a", "l", "sub", "sub/b"]);
}

#[test]
fn what_is_in_the_way_is_replaced_and_no_link_followed() {
    let rig = Rig::new();
    let outside = rig.folder.path().join("outside");
    fs::create_dir_all(&outside).expect("writable");
    fs::create_dir_all(rig.out("a/x")).expect("writable");
    symlink(&outside, rig.out("sub")).expect("writable");
    fs::create_dir_all(rig.out("l")).expect("writable");
    rig.write(false, &[]).expect("written");
    assert_eq!(rig.names(), ["a", "l", "sub", "sub/b"]);
    assert_eq!(fs::read_dir(&outside).expect("there").count(), 0);
}

#[test]
fn modes_times_and_hard_links_are_kept() {
    let rig = Rig::new();
    fs::set_permissions(rig.tree("a"), fs::Permissions::from_mode(0o4711)).expect("ours");
    fs::set_permissions(rig.tree("sub"), fs::Permissions::from_mode(0o1777)).expect("ours");
    fs::hard_link(rig.tree("a"), rig.tree("sub/c")).expect("writable");
    let keep = FolderOptions { access: LocalAccess { special: SpecialFiles::Keep, ..HARMLESS }, ..COPY };
    let first = rig.write_with(&keep, &HashSet::new()).expect("written");
    assert_eq!(first.dropped, None);
    let meta = fs::metadata(rig.out("a")).expect("there");
    assert_eq!((meta.mode() & 0o7777, meta.nlink()), (0o4711, 2));
    assert_eq!(meta.ino(), fs::metadata(rig.out("sub/c")).expect("there").ino());
    assert_ne!(meta.ino(), fs::metadata(rig.tree("a")).expect("there").ino());
    assert_eq!(meta.mtime_nsec(), fs::metadata(rig.tree("a")).expect("there").mtime_nsec());
    assert_eq!(fs::metadata(rig.out("sub")).expect("there").mode() & 0o7777, 0o1777);
    let second = rig.write_with(&keep, &first.marks.iter().copied().collect()).expect("written");
    assert_eq!((second.bytes, fs::metadata(rig.out("a")).expect("there").ino()), (0, meta.ino()));
    // The same folder, now without what gives rights: the marks of before do not hide the bits.
    let third = rig.write(false, &second.marks).expect("written");
    let dropped = third.dropped.expect("both names are told");
    assert_eq!((dropped.count, dropped.first.as_path()), (2, Path::new("a")));
    let meta = fs::metadata(rig.out("a")).expect("there");
    assert_eq!((meta.mode() & 0o7777, meta.nlink()), (0o711, 2));
}

#[test]
fn devices_are_not_made_and_bits_of_files_dropped() {
    let rig = Rig::new();
    fs::set_permissions(rig.tree("sub/b"), fs::Permissions::from_mode(0o2755)).expect("ours");
    fs::set_permissions(rig.tree("sub"), fs::Permissions::from_mode(0o2700)).expect("ours");
    let root = at::host_dir(&rig.tree("")).expect("there");
    let mode = rustix::fs::Mode::from_raw_mode(0o666);
    // Only root may make devices.
    let device = rustix::fs::makedev(1, 3);
    let made = rustix::fs::mknodat(&root, "null", rustix::fs::FileType::CharacterDevice, mode, device).is_ok();
    let written = rig.write(false, &[]).expect("written");
    let dropped = written.dropped.expect("a file lost a bit");
    let first = if made { "null" } else { "sub/b" };
    assert_eq!((dropped.count, dropped.first.as_path()), (1 + u64::from(made), Path::new(first)));
    assert_eq!(rig.names(), ["a", "l", "sub", "sub/b"]);
    assert_eq!(fs::metadata(rig.out("sub/b")).expect("there").mode() & 0o7777, 0o755);
    assert_eq!(fs::metadata(rig.out("sub")).expect("there").mode() & 0o7777, 0o2700, "folders keep theirs");
}

#[test]
fn platforms_have_folders_or_must_not_clash() {
    let rig = Rig::new();
    let split = [rig.part("tree", Some("linux_a"), "linux/a"), rig.part("tree", Some("linux_b"), "linux/b")];
    write(&split, &rig.dest(), &COPY, &HashSet::new(), &|_| {}).expect("written");
    assert!(rig.names().contains(&"linux_b/sub/b".to_owned()));
    let merged = [rig.part("tree", None, "linux/a"), rig.part("tree", None, "linux/b")];
    let (_, error) = write(&merged, &rig.dest(), &COPY, &HashSet::new(), &|_| {}).err().expect("they clash");
    let text = error.to_string();
    assert!(text.contains("linux/a") && text.contains("linux/b") && text.contains("cannot overwrite"), "{text}");
}

#[test]
fn the_fingerprint_sees_every_change() {
    let rig = Rig::new();
    rig.write(false, &[]).expect("written");
    let print = || fingerprint(&rig.out(""), 100).expect("readable").expect("not too much");
    let first = print();
    assert_eq!(first, print());
    assert_eq!(fingerprint(&rig.out(""), 3).expect("readable"), None);
    fs::write(rig.out("sub/new"), "").expect("writable");
    let second = print();
    assert_ne!(first, second);
    fs::set_permissions(rig.out("sub/b"), fs::Permissions::from_mode(0o600)).expect("ours");
    assert_ne!(second, print());
}
