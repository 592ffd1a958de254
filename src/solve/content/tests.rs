//! Tests of content hashes: what changes them and what does not.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::{
    hash::{of_copy, of_path},
    local::{FileDigests, LocalTree, NoDigests},
    source::{ContentSource, ContentTree},
    walk::MAX_DEPTH,
};
use crate::{
    graph,
    layer::view::{LayerView, ViewEntry},
    oci::Digest,
};

fn context(dir: &Path, ignore: &[&str]) -> ContentSource {
    with_digests(dir, ignore, Arc::new(NoDigests))
}

fn with_digests(dir: &Path, ignore: &[&str], digests: Arc<dyn FileDigests>) -> ContentSource {
    let local = graph::Local {
        folder: dir.to_str().unwrap().to_owned(),
        name: "context".to_owned(),
        ignore: ignore.iter().map(|it| (*it).to_owned()).collect(),
        ignore_file: None,
    };
    let tree = LocalTree::open(&local, digests).unwrap();
    ContentSource { name: "the build context".to_owned(), tree: ContentTree::Local(Arc::new(tree)) }
}

fn copy(source: &str) -> graph::CopyAction {
    graph::CopyAction { input: 0, ..graph::CopyAction::of_paths(source, "/d") }
}

fn sample() -> tempfile::TempDir {
    let tmp = tempfile::tempdir().unwrap();
    for (path, text) in [("d/a", "a"), ("d/sub/b", "b"), ("other", "o"), ("x.txt", "x"), ("y.txt", "y")] {
        let path = tmp.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    symlink("a", tmp.path().join("d/l")).unwrap();
    tmp
}

#[test]
fn only_what_is_selected_and_only_content_counts() {
    type Change = (&'static str, fn(&Path), bool);
    let table: &[Change] = &[
        // what changes, how, whether the hash of `d` does
        ("nothing", |_| (), false),
        ("a file beside", |dir| fs::write(dir.join("other"), "changed").unwrap(), false),
        ("a time", |dir| fs::File::open(dir.join("d/a")).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap(), false),
        (
            "the mode of the top",
            |dir| fs::set_permissions(dir.join("d"), PermissionsExt::from_mode(0o700)).unwrap(),
            false,
        ),
        ("an owner", |dir| drop(std::os::unix::fs::chown(dir.join("d/a"), Some(5), None)), false),
        (
            "the mode of a file",
            |dir| fs::set_permissions(dir.join("d/a"), PermissionsExt::from_mode(0o600)).unwrap(),
            true,
        ),
        (
            "the mode below",
            |dir| fs::set_permissions(dir.join("d/sub"), PermissionsExt::from_mode(0o700)).unwrap(),
            true,
        ),
        ("content", |dir| fs::write(dir.join("d/sub/b"), "c").unwrap(), true),
        ("a name", |dir| fs::rename(dir.join("d/a"), dir.join("d/z")).unwrap(), true),
        ("a new empty directory", |dir| fs::create_dir(dir.join("d/new")).unwrap(), true),
        (
            "a link",
            |dir| {
                fs::remove_file(dir.join("d/l")).unwrap();
                symlink("b", dir.join("d/l")).unwrap();
            },
            true,
        ),
    ];
    for (what, change, changes) in table {
        let tmp = sample();
        let before = of_copy(&context(tmp.path(), &[]), &copy("d")).unwrap();
        change(tmp.path());
        let after = of_copy(&context(tmp.path(), &[]), &copy("d")).unwrap();
        assert_eq!(before != after, *changes, "{what}");
    }
}

#[test]
fn the_same_content_elsewhere_has_the_same_hash() {
    let (one, two) = (sample(), sample());
    fs::rename(two.path().join("d"), two.path().join("e")).unwrap();
    let a = of_copy(&context(one.path(), &[]), &copy("d")).unwrap();
    assert_eq!(a, of_copy(&context(two.path(), &["q"]), &copy("/e/")).unwrap());
    let view = LayerView::open(&[one.path().to_owned()]).unwrap();
    let stage = ContentSource { name: "stage".to_owned(), tree: ContentTree::View(Arc::new(view)) };
    assert_eq!(a, of_copy(&stage, &copy("d")).unwrap(), "in a stage too");
    assert_eq!(of_path(&stage, "/d").unwrap(), of_path(&context(two.path(), &[]), "e").unwrap());
    assert_ne!(a, of_copy(&context(one.path(), &["d/a"]), &copy("d")).unwrap(), "less what is ignored");
}

#[test]
fn filters_hash_as_if_the_rest_were_not_there() {
    let (one, two) = (sample(), sample());
    fs::remove_dir_all(two.path().join("d/sub")).unwrap();
    let excluding = graph::CopyAction { exclude: vec!["sub".to_owned()], ..copy("d") };
    let expected = of_copy(&context(two.path(), &[]), &copy("d")).unwrap();
    assert_eq!(of_copy(&context(one.path(), &[]), &excluding).unwrap(), expected);
    assert_eq!(of_copy(&context(one.path(), &["d/sub"]), &copy("d")).unwrap(), expected);
}

#[test]
fn wildcards_count_the_names_they_find() {
    let tmp = sample();
    let hash = |source: &str| of_copy(&context(tmp.path(), &[]), &copy(source)).unwrap();
    let before = hash("*.txt");
    fs::write(tmp.path().join("other"), "changed").unwrap();
    assert_eq!(hash("*.txt"), before);
    fs::rename(tmp.path().join("x.txt"), tmp.path().join("z.txt")).unwrap();
    assert_ne!(hash("*.txt"), before);
    assert_ne!(hash("*.txt"), hash("*.nope"));
    symlink("other", tmp.path().join("link1")).unwrap();
    let before = hash("link*");
    fs::rename(tmp.path().join("link1"), tmp.path().join("link2")).unwrap();
    assert_ne!(hash("link*"), before, "a link is copied under its own name");
}

/// Remembers digests by path and size; counts what it was asked.
#[derive(Default)]
struct Memory {
    known: Mutex<std::collections::HashMap<PathBuf, (u64, Digest)>>,
    n_new: AtomicUsize,
}

impl FileDigests for Memory {
    fn get(&self, path: &Path, entry: &ViewEntry) -> Option<Digest> {
        self.known.lock().unwrap().get(path).filter(|it| it.0 == entry.size).map(|it| it.1)
    }
    fn put(&self, path: &Path, entry: &ViewEntry, digest: Digest) {
        self.n_new.fetch_add(1, Ordering::Relaxed);
        self.known.lock().unwrap().insert(path.to_owned(), (entry.size, digest));
    }
}

#[test]
fn files_are_read_once_and_only_where_something_is_selected() {
    let tmp = sample();
    let memory = Arc::new(Memory::default());
    let source = with_digests(tmp.path(), &[], memory.clone());
    let first = of_copy(&source, &copy("d")).unwrap();
    assert_eq!(memory.n_new.load(Ordering::Relaxed), 2);
    of_copy(&source, &copy("d")).unwrap();
    of_copy(&source, &copy("d/sub")).unwrap();
    assert_eq!(memory.n_new.load(Ordering::Relaxed), 2);
    let again = with_digests(tmp.path(), &[], memory.clone());
    assert_eq!(of_copy(&again, &copy("d")).unwrap(), first);
    assert_eq!(memory.n_new.load(Ordering::Relaxed), 2);
    assert_eq!(memory.known.lock().unwrap().keys().filter(|it| !it.starts_with("d")).count(), 0);
}

#[test]
fn a_directory_nested_too_deep_is_an_error() {
    let tmp = tempfile::tempdir().unwrap();
    let mut dir = rustix::fs::open(tmp.path(), rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
    for _ in 0..=MAX_DEPTH + 1 {
        rustix::fs::mkdirat(&dir, "d", 0o755.into()).unwrap();
        dir = rustix::fs::openat(&dir, "d", rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
    }
    assert!(of_copy(&context(tmp.path(), &[]), &copy("/")).is_err());
    let view = LayerView::open(&[tmp.path().to_owned()]).unwrap();
    let stage = ContentSource { name: "stage".to_owned(), tree: ContentTree::View(Arc::new(view)) };
    let err = of_copy(&stage, &copy("/")).unwrap_err().to_string();
    assert_eq!(err, "the directories of stage are nested too deep below: /d/d/d/d");
}

#[test]
#[expect(clippy::print_stderr, reason = "a measurement for people")]
fn a_large_unchanged_context_is_fast() {
    let tmp = tempfile::tempdir().unwrap();
    for i in 0..100 {
        let dir = tmp.path().join(format!("d{}/e{i}", i / 10));
        fs::create_dir_all(&dir).unwrap();
        (0..50).for_each(|j| fs::write(dir.join(format!("f{j}")), format!("{i} {j}")).unwrap());
    }
    let memory = Arc::new(Memory::default());
    let first = of_copy(&with_digests(tmp.path(), &[], memory.clone()), &copy("/")).unwrap();
    let start = std::time::Instant::now();
    assert_eq!(of_copy(&with_digests(tmp.path(), &[], memory), &copy("/")).unwrap(), first);
    eprintln!("5000 files: {:?}", start.elapsed());
}
