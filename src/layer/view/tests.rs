//! Tests of the merged view, over real directories.

use std::{fs, os::unix::fs::symlink};

use rustix::fs::{CWD, FileType, Mode, XattrFlags, makedev, mknodat, setxattr};

use super::*;

fn write(dir: &Path, path: &str, text: &str) {
    let path = dir.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn whiteout(dir: &Path, path: &str) {
    fs::create_dir_all(dir.join(path).parent().unwrap()).unwrap();
    mknodat(CWD, dir.join(path), FileType::CharacterDevice, Mode::empty(), makedev(0, 0)).unwrap();
}

fn opaque(dir: &Path, path: &str) {
    fs::create_dir_all(dir.join(path)).unwrap();
    setxattr(dir.join(path), at::opaque_xattr(), b"y", XattrFlags::empty()).unwrap();
}

fn names(view: &LayerView, path: &str) -> String {
    let names: Vec<_> = view.read_dir(path).unwrap().into_iter().map(|it| it.0.into_string().unwrap()).collect();
    names.join(" ")
}

fn text(view: &LayerView, path: &str) -> String {
    String::from_utf8(view.read(path, 1000).unwrap()).unwrap()
}

#[test]
fn layers_are_merged_with_whiteouts_and_opaque_directories() {
    let tmp = tempfile::tempdir().unwrap();
    let dirs: Vec<PathBuf> = (0..3).map(|i| tmp.path().join(i.to_string())).collect();
    for path in ["d/a", "d/b", "o/x/y", "f/in", "gone/in"] {
        write(&dirs[0], path, "low");
    }
    write(&dirs[1], "d/b", "mid");
    write(&dirs[1], "f", "file over directory");
    whiteout(&dirs[1], "gone");
    opaque(&dirs[1], "o");
    write(&dirs[1], "o/new", "mid");
    whiteout(&dirs[2], "d/a");
    write(&dirs[2], "gone/again", "top");
    write(&dirs[2], "f/under", "directory over file");
    let view = LayerView::open(&dirs).unwrap();
    assert_eq!(names(&view, "/"), "d f gone o");
    assert_eq!(names(&view, "d"), "b");
    assert_eq!(text(&view, "/d/b"), "mid");
    assert_eq!(names(&view, "o"), "new");
    assert_eq!(names(&view, "gone"), "again");
    assert_eq!(names(&view, "f"), "under");
    assert_eq!(view.lookup("o/x/y", Follow::Last).unwrap(), None);
    assert_eq!(view.lookup("d/b", Follow::Last).unwrap().unwrap().layer, 1);
    assert_eq!(view.lookup("d/b/c", Follow::Last).unwrap(), None);
}

#[test]
fn links_are_followed_inside_the_root_only() {
    let tmp = tempfile::tempdir().unwrap();
    write(tmp.path(), "t/etc/passwd", "inside");
    let root = tmp.path().join("t");
    write(tmp.path(), "secret", "outside");
    for (link, to) in [
        ("abs", "/etc/passwd"),
        ("up", "../../../../etc/passwd"),
        ("dir", "etc"),
        ("host", "../secret"),
        ("loop", "loop"),
        ("dangling", "no/where"),
    ] {
        symlink(to, root.join(link)).unwrap();
    }
    let view = LayerView::open(std::slice::from_ref(&root)).unwrap();
    for path in ["abs", "up", "dir/passwd", "/dir/../abs", "../../etc/./passwd"] {
        assert_eq!(text(&view, path), "inside", "{path}");
    }
    assert_eq!(view.lookup("host", Follow::Last).unwrap(), None);
    assert_eq!(view.lookup("host", Follow::No).unwrap().unwrap().kind, EntryKind::Symlink);
    assert!(view.lookup("loop", Follow::Last).is_err());
    assert_eq!(view.locate("dangling", Follow::Last).unwrap().path, Path::new("/no/where"));
    assert_eq!(view.locate("dir/new/x", Follow::Last).unwrap().path, Path::new("/etc/new/x"));
    assert_eq!(view.locate("dir/..", Follow::Last).unwrap().path, Path::new("/"));
    assert_eq!(view.read_link("host").unwrap(), "../secret");
    let place = view.locate("etc/passwd/x/y", Follow::Last).unwrap();
    assert_eq!(place.through.as_deref(), Some(Path::new("/etc/passwd")));
}

#[test]
fn only_regular_files_are_opened() {
    let tmp = tempfile::tempdir().unwrap();
    mknodat(CWD, tmp.path().join("fifo"), FileType::Fifo, Mode::from(0o644), 0).unwrap();
    fs::create_dir(tmp.path().join("d")).unwrap();
    let view = LayerView::plain(tmp.path()).unwrap();
    assert!(view.open_file("fifo").is_err());
    assert!(view.open_file("d").is_err());
    write(tmp.path(), "big", "12345");
    assert!(view.read("big", 4).is_err());
    assert_eq!(view.read("big", 5).unwrap(), b"12345");
}

#[test]
fn a_tree_without_layers_is_an_empty_root() {
    let view = LayerView::open(&[]).unwrap();
    assert_eq!(names(&view, "/"), "");
    assert_eq!(view.lookup("/", Follow::Last).unwrap().unwrap().kind, EntryKind::Dir);
    assert_eq!(view.lookup("x", Follow::Last).unwrap(), None);
}

#[test]
fn overlay_marks_are_no_attributes_of_the_tree() {
    let tmp = tempfile::tempdir().unwrap();
    opaque(tmp.path(), "o");
    let user = setxattr(tmp.path().join("o"), "user.mine", b"1", XattrFlags::empty());
    let view = LayerView::open(&[tmp.path().to_owned()]).unwrap();
    let found = view.xattrs("o").unwrap();
    assert_eq!(found.len(), usize::from(user.is_ok()));
}
