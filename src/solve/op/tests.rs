//! Tests of the file op over real directories: what COPY, ADD and WORKDIR write.

use std::{
    fmt::Write as _,
    fs,
    io::Write,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::fs::{CWD, FileType, XattrFlags, makedev, mknodat, setxattr};
use tempfile::TempDir;

use super::{error::FileError, file::run, tree_writer::TreeWriter};
use crate::{
    graph::{self, CopyAction, FileAction, OwnerChange},
    layer::view::{EntryKind, Follow, LayerView, ViewEntry, at},
    oci::ModeChange,
    solve::content::{
        hash,
        local::{LocalTree, NoDigests},
        select::CopyWarning,
        source::{ContentSource, ContentTree},
    },
};

/// When the run began, in seconds since 1970.
const BEGUN: i64 = 1_700_000_000;

/// A context, lower layers and the layer that is written.
struct Bench {
    tmp: TempDir,
    n_layers: usize,
    n_uppers: usize,
    ignore: Vec<String>,
}

impl Bench {
    fn new() -> Self {
        let tmp = tempfile::tempdir().unwrap();
        fs::create_dir(tmp.path().join("ctx")).unwrap();
        Self { tmp, n_layers: 0, n_uppers: 0, ignore: Vec::new() }
    }

    fn ctx(&self, path: &str) -> PathBuf {
        self.tmp.path().join("ctx").join(path)
    }

    fn put(&self, path: &str, text: &str) -> &Self {
        write(&self.ctx(path), text);
        self
    }

    /// Adds a layer below and gives its directory.
    fn layer(&mut self) -> PathBuf {
        let dir = self.tmp.path().join(format!("layer{}", self.n_layers));
        fs::create_dir(&dir).unwrap();
        self.n_layers += 1;
        dir
    }

    fn layers(&self) -> Vec<PathBuf> {
        (0..self.n_layers).map(|i| self.tmp.path().join(format!("layer{i}"))).collect()
    }

    fn context(&self) -> ContentSource {
        let local = graph::Local {
            folder: self.ctx("").to_str().unwrap().to_owned(),
            name: "context".to_owned(),
            ignore: self.ignore.clone(),
            ignore_file: Some(".dockerignore".to_owned()),
        };
        let tree = LocalTree::open(&local, Arc::new(NoDigests)).unwrap();
        ContentSource { name: "the build context".to_owned(), tree: ContentTree::Local(Arc::new(tree)) }
    }

    /// Runs actions as one op and makes the result the topmost layer.
    fn try_run(&mut self, actions: &[FileAction], source: &ContentSource) -> Result<Vec<CopyWarning>, FileError> {
        let upper = self.tmp.path().join(format!("upper{}", self.n_uppers));
        self.n_uppers += 1;
        fs::create_dir(&upper).unwrap();
        let mut writer = TreeWriter::new(&upper, LayerView::open(&self.layers()).unwrap()).unwrap();
        let sources = [source.clone(), source.clone()];
        for action in actions {
            if let FileAction::Copy(copy) = action {
                hash::of_copy(source, copy)?;
            }
        }
        let warnings = run(actions, &mut writer, &sources, BEGUN)?;
        fs::rename(&upper, self.tmp.path().join(format!("layer{}", self.n_layers))).unwrap();
        self.n_layers += 1;
        Ok(warnings)
    }

    fn run(&mut self, actions: &[FileAction]) -> &mut Self {
        let context = self.context();
        self.try_run(actions, &context).unwrap();
        self
    }

    fn fail(&mut self, actions: &[FileAction]) -> String {
        let context = self.context();
        let err = self.try_run(actions, &context).expect_err("it must fail");
        let text = format!("{err} ({})", err.hint().unwrap_or_default());
        assert!(!text.contains(self.tmp.path().to_str().unwrap()), "a host path: {text}");
        text
    }

    fn view(&self) -> LayerView {
        LayerView::open(&self.layers()).unwrap()
    }

    fn top(&self, path: &str) -> PathBuf {
        self.layers().last().unwrap().join(path)
    }

    /// All of the tree, one line for each entry.
    fn listing(&self) -> String {
        list(&self.view())
    }
}

fn list(view: &LayerView) -> String {
    fn walk(view: &LayerView, dir: &Path, out: &mut String) {
        for (name, entry) in view.read_dir(dir).unwrap() {
            let path = dir.join(name);
            let what = match entry.kind {
                EntryKind::File => String::from_utf8_lossy(&view.read(&path, 1 << 20).unwrap()).replace('\n', ""),
                EntryKind::Symlink => format!("-> {}", view.read_link(&path).unwrap().display()),
                EntryKind::Dir => "dir".to_owned(),
                other => format!("{other:?}"),
            };
            let mode = if entry.kind == EntryKind::Symlink { 0 } else { entry.mode };
            let path_text = path.display();
            writeln!(out, "{path_text} {mode:o} {}:{} {what}", entry.uid, entry.gid).unwrap();
            if entry.kind == EntryKind::Dir {
                walk(view, &path, out);
            }
        }
    }
    let mut out = String::new();
    walk(view, Path::new("/"), &mut out);
    out
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Whether files can be given to anyone here; says so loudly if not.
#[expect(clippy::print_stderr, reason = "a skipped test must be seen")]
fn may_chown(test: &str) -> bool {
    let file = tempfile::NamedTempFile::new().unwrap();
    let may = std::os::unix::fs::chown(file.path(), Some(12), Some(34)).is_ok();
    if !may {
        eprintln!("SKIPPED, needs root or a range of ids: {test}");
    }
    may
}

fn act(copy: CopyAction) -> FileAction {
    FileAction::Copy(Box::new(copy))
}

fn cp(source: &str, dest: &str) -> FileAction {
    act(CopyAction::of_paths(source, dest))
}

fn owner(user: &str, group: Option<&str>) -> OwnerChange {
    OwnerChange { user: user.to_owned(), group: group.map(str::to_owned), at_workdir: false }
}

fn entry(view: &LayerView, path: &str) -> ViewEntry {
    view.lookup(path, Follow::No).unwrap().unwrap()
}

fn sample() -> Bench {
    let bench = Bench::new();
    bench.put("a.txt", "a").put("b.txt", "b").put("c.md", "c").put("dir/x", "x").put("dir/sub/y", "y");
    bench.put("dir/sub/deep/z.txt", "z");
    bench
}

const DIR: &str = "/d 755 0:0 dir\n/d/sub 755 0:0 dir\n/d/sub/deep 755 0:0 dir\n/d/sub/deep/z.txt 644 0:0 z\n\
                   /d/sub/y 644 0:0 y\n/d/x 644 0:0 x\n";

#[test]
fn a_directory_means_its_content_and_keeps_its_own_metadata_to_itself() {
    for source in ["dir", "dir/", "dir/.", "/dir", "../../dir", "di*"] {
        for dest in ["/d", "/d/", "/d/.", "//d", "/x/../d"] {
            let mut bench = sample();
            chmod(&bench.ctx("dir"), 0o700);
            let dest = if dest == "/x/../d" { "/d" } else { dest };
            assert_eq!(bench.run(&[cp(source, dest)]).listing(), DIR, "{source} {dest}");
        }
    }
}

#[test]
fn files_go_where_the_destination_says() {
    let table = [
        // source, destination, result
        ("a.txt", "/new/name", "/new 755 0:0 dir\n/new/name 644 0:0 a\n"),
        ("a.txt", "/new/", "/new 755 0:0 dir\n/new/a.txt 644 0:0 a\n"),
        ("a.txt", "/", "/a.txt 644 0:0 a\n"),
        ("dir/sub/y", "/y", "/y 644 0:0 y\n"),
        ("a*", "/t", "/t 644 0:0 a\n"),
        ("dir/*/y", "/t/", "/t 755 0:0 dir\n/t/y 644 0:0 y\n"),
        ("[^ab].*", "/t/", "/t 755 0:0 dir\n/t/c.md 644 0:0 c\n"),
        ("*.txt", "/t", "/t 644 0:0 b\n"),
        ("*.nope", "/t/", ""),
        ("**/*.txt", "/t/", ""),
    ];
    for (source, dest, result) in table {
        assert_eq!(sample().run(&[cp(source, dest)]).listing(), result, "{source} {dest}");
    }
}

#[test]
fn entries_that_are_in_the_way_follow_the_table() {
    let lower = |bench: &mut Bench| {
        let dir = bench.layer();
        write(&dir.join("f"), "old");
        write(&dir.join("d/x/in"), "old");
        write(&dir.join("target"), "old");
        fs::create_dir(dir.join("real")).unwrap();
        symlink("target", dir.join("link")).unwrap();
        symlink("real", dir.join("dirlink")).unwrap();
        symlink("no/where", dir.join("dangling")).unwrap();
        symlink("/target", dir.join("real/a.txt")).unwrap();
    };
    type Outcome = Result<(&'static str, &'static str), &'static str>;
    let table: &[(&str, &str, Outcome)] = &[
        // source, destination, Ok(path, content) or Err(part of the message)
        ("a.txt", "/f", Ok(("f", "a"))),
        ("a.txt", "/link", Ok(("target", "a"))),
        ("a.txt", "/dangling", Ok(("no/where", "a"))),
        ("a.txt", "/dirlink", Ok(("real/a.txt", "a"))),
        ("a.txt", "/dirlink/named", Ok(("real/named", "a"))),
        ("a.txt", "/../../f", Ok(("f", "a"))),
        ("a.txt", "/d", Ok(("d/a.txt", "a"))),
        ("a.txt", "/f/g", Err("not a directory in the image: /f")),
        ("a.txt", "/f/", Err("not a directory in the image: /f")),
        ("dir", "/f", Err("not a directory in the image: /f")),
        ("dir", "/f/g/h", Err("not a directory in the image: /f")),
        ("dir", "/d", Err("cannot replace a directory of the image by a file: /d/x")),
        ("dir", "/dirlink", Ok(("real/sub/y", "y"))),
    ];
    for (source, dest, result) in table {
        let mut bench = sample();
        lower(&mut bench);
        match result {
            Err(part) => {
                let text = bench.fail(&[cp(source, dest)]);
                assert!(text.contains(part), "{source} {dest}: {text}");
            }
            Ok((path, content)) => {
                bench.run(&[cp(source, dest)]);
                let view = bench.view();
                assert_eq!(entry(&view, path).kind, EntryKind::File, "{source} {dest}");
                assert_eq!(view.read(path, 100).unwrap(), content.as_bytes(), "{source} {dest}");
                if *path != "target" {
                    assert_eq!(view.read("target", 100).unwrap(), b"old", "{source} {dest}");
                }
            }
        }
    }
}

#[test]
fn a_link_inside_a_copied_tree_is_replaced_by_a_file_and_stops_a_directory() {
    let mut bench = Bench::new();
    bench.put("t/l", "new").put("u/l/in", "new");
    let dir = bench.layer();
    write(&dir.join("d/kept"), "kept");
    symlink("kept", dir.join("d/l")).unwrap();
    let text = bench.fail(&[cp("u", "/d")]);
    assert!(text.contains("not a directory in the image: /d/l"), "{text}");
    bench.run(&[cp("t", "/d")]);
    assert_eq!(bench.view().read("d/kept", 10).unwrap(), b"kept");
    assert_eq!(entry(&bench.view(), "d/l").kind, EntryKind::File);
}

#[test]
fn merged_directories_take_metadata_of_the_source_but_the_top_one() {
    if !may_chown("merged_directories_take_metadata_of_the_source_but_the_top_one") {
        return;
    }
    let mut bench = Bench::new();
    bench.put("t/n/f", "1");
    chmod(&bench.ctx("t"), 0o700);
    chmod(&bench.ctx("t/n"), 0o750);
    let dir = bench.layer();
    write(&dir.join("d/n/old"), "old");
    chmod(&dir.join("d"), 0o711);
    std::os::unix::fs::chown(dir.join("d"), Some(3), Some(4)).unwrap();
    bench.run(&[cp("t", "/d")]);
    let expected = "/d 711 3:4 dir\n/d/n 750 0:0 dir\n/d/n/f 644 0:0 1\n/d/n/old 644 0:0 old\n";
    assert_eq!(bench.listing(), expected);
    assert!(!bench.top("d/n/old").exists(), "what did not change is not in the layer");
}

#[test]
fn modes_owners_times_and_special_bits_are_those_of_the_source() {
    if !may_chown("modes_owners_times_and_special_bits_are_those_of_the_source") {
        return;
    }
    let mut bench = Bench::new();
    bench.put("m/suid", "s").put("m/d/f", "f");
    chmod(&bench.ctx("m/suid"), 0o4711);
    chmod(&bench.ctx("m/d"), 0o1770);
    std::os::unix::fs::chown(bench.ctx("m/suid"), Some(7), Some(8)).unwrap();
    chmod(&bench.ctx("m/suid"), 0o4711);
    let time = std::time::UNIX_EPOCH + std::time::Duration::new(1_234_567_890, 123_456_789);
    for path in ["m/suid", "m/d"] {
        fs::File::open(bench.ctx(path)).unwrap().set_modified(time).unwrap();
    }
    let chowned = CopyAction { owner: Some(owner("12", Some("34"))), ..CopyAction::of_paths("m", "/c") };
    bench.run(&[cp("m", "/m"), act(chowned)]);
    let expected = "/c 755 12:34 dir\n/c/d 1770 12:34 dir\n/c/d/f 644 12:34 f\n/c/suid 4711 12:34 s\n\
                    /m 755 0:0 dir\n/m/d 1770 0:0 dir\n/m/d/f 644 0:0 f\n/m/suid 4711 0:0 s\n";
    assert_eq!(bench.listing(), expected);
    for path in ["m/suid", "m/d", "c/d"] {
        assert_eq!(entry(&bench.view(), path).mtime, (1_234_567_890, 123_456_789), "{path}");
    }
}

#[test]
fn chmod_is_for_files_and_directories_and_new_parents() {
    let mut bench = sample();
    symlink("x", bench.ctx("dir/l")).unwrap();
    let octal =
        |source, dest| act(CopyAction { mode: Some(ModeChange::Octal(0o640)), ..CopyAction::of_paths(source, dest) });
    bench.run(&[octal("dir", "/p/d")]);
    let lines = bench.listing();
    for line in ["/p 640 0:0 dir", "/p/d 640", "/p/d/sub 640", "/p/d/x 640", "/p/d/l 0 0:0 -> x"] {
        assert!(lines.contains(line), "{line} in {lines}");
    }
    let mut bench = sample();
    let symbolic = ModeChange::Symbolic("u=rwX,go=".to_owned());
    bench.run(&[act(CopyAction { mode: Some(symbolic), ..CopyAction::of_paths("dir", "/p/d") })]);
    let lines = bench.listing();
    for line in ["/p 755", "/p/d 755", "/p/d/sub 700", "/p/d/x 600"] {
        assert!(lines.contains(line), "{line} in {lines}");
    }
    let mut bench = sample();
    bench.run(&[act(CopyAction { default_file_mode: Some(0o600), ..CopyAction::of_paths("a.txt", "/p/") })]);
    assert_eq!(bench.listing(), "/p 755 0:0 dir\n/p/a.txt 600 0:0 a\n");
}

#[test]
fn owners_are_numbers_or_names_of_the_image() {
    if !may_chown("owners_are_numbers_or_names_of_the_image") {
        return;
    }
    let mut bench = sample();
    let dir = bench.layer();
    write(&dir.join("etc/passwd"), "root:x:0:0::/:/bin/sh\napp:x:1000:1001::/:\nbad:x:y:z\n");
    write(&dir.join("etc/group"), "root:x:0:\nstaff:x:50:app\n");
    let table = [
        ("app", None, Ok("1000:1001")),
        ("app", Some("staff"), Ok("1000:50")),
        ("app", Some("7"), Ok("1000:7")),
        ("5", None, Ok("5:5")),
        ("5", Some("staff"), Ok("5:50")),
        ("", Some("staff"), Ok("0:50")),
        ("root", None, Ok("0:0")),
        ("ghost", None, Err("no user of this name in the image: ghost")),
        ("bad", None, Err("no user of this name in the image: bad")),
        ("app", Some("ghosts"), Err("no group of this name in the image: ghosts")),
        ("4294967295", None, Err("4294967295")),
        ("99999999999999999999", None, Err("99999999999999999999")),
    ];
    for (user, group, result) in table {
        let action = [act(CopyAction { owner: Some(owner(user, group)), ..CopyAction::of_paths("a.txt", "/f") })];
        match result {
            Ok(ids) => {
                bench.run(&action);
                let found = entry(&bench.view(), "f");
                assert_eq!(format!("{}:{}", found.uid, found.gid), ids, "{user} {group:?}");
            }
            Err(part) => assert!(bench.fail(&action).contains(part), "{user} {group:?}"),
        }
    }
}

#[test]
fn owner_files_are_not_read_from_the_host_nor_from_devices() {
    for odd in ["link", "fifo", "none"] {
        let mut bench = sample();
        let dir = bench.layer();
        fs::create_dir(dir.join("etc")).unwrap();
        let outside = bench.tmp.path().join("passwd");
        write(&outside, "app:x:4242:4242::/:\n");
        match odd {
            "link" => symlink(&outside, dir.join("etc/passwd")).unwrap(),
            "fifo" => mknodat(CWD, dir.join("etc/passwd"), FileType::Fifo, 0o644.into(), 0).unwrap(),
            _ => (),
        }
        let text =
            bench.fail(&[act(CopyAction { owner: Some(owner("app", None)), ..CopyAction::of_paths("a.txt", "/f") })]);
        assert!(text.contains("no user of this name in the image: app"), "{odd}: {text}");
    }
}

#[test]
fn workdir_makes_missing_directories_for_the_user() {
    if !may_chown("workdir_makes_missing_directories_for_the_user") {
        return;
    }
    let mut bench = Bench::new();
    let dir = bench.layer();
    write(&dir.join("etc/passwd"), "app:x:1000:1001::/:\n");
    write(&dir.join("file"), "");
    fs::create_dir(dir.join("real")).unwrap();
    symlink("/real", dir.join("link")).unwrap();
    let mkdir = |path: &str, owner| FileAction::Mkdir { path: path.to_owned(), owner };
    bench.run(&[mkdir("/w/x", Some(OwnerChange { at_workdir: true, ..owner("app", None) })), mkdir("/link/y", None)]);
    let lines = bench.listing();
    for line in ["/w 755 1000:1001 dir", "/w/x 755 1000:1001 dir", "/real/y 755 0:0 dir"] {
        assert!(lines.contains(line), "{lines}");
    }
    assert!(bench.fail(&[mkdir("/file/x", None)]).contains("not a directory in the image: /file"));
    bench.run(&[mkdir("/w/x", None)]);
    assert_eq!(fs::read_dir(bench.top("")).unwrap().count(), 1, "the way to it, and nothing else");
}

#[test]
fn heredoc_files_are_made_like_copies() {
    if !may_chown("heredoc_files_are_made_like_copies") {
        return;
    }
    let mut bench = Bench::new();
    let make = |dest: &str, mode, owner| FileAction::Mkfile {
        dest: dest.to_owned(),
        name: "EOF".to_owned(),
        text: "hi\n".to_owned(),
        mode,
        owner,
    };
    bench.run(&[
        make("/d/", None, None),
        make("/e", Some(ModeChange::Symbolic("+x".to_owned())), Some(owner("3", None))),
        make("/d", None, None),
    ]);
    assert_eq!(bench.listing(), "/d 755 0:0 dir\n/d/EOF 644 0:0 hi\n/e 755 3:3 hi\n");
    // One time for all platforms of a run.
    assert_eq!(entry(&bench.view(), "d/EOF").mtime, (BEGUN, 0));
}

#[test]
fn sources_that_are_links_are_followed_inside_the_source() {
    let mut bench = sample();
    for (link, to) in [("l", "a.txt"), ("dl", "dir"), ("up", "../../../etc/hostname"), ("loop", "loop")] {
        symlink(to, bench.ctx(link)).unwrap();
    }
    symlink("/a.txt", bench.ctx("dir/abs")).unwrap();
    bench.run(&[cp("l", "/t"), cp("l", "/u/"), cp("dl/x", "/v"), cp("dl", "/w"), cp("dir/abs", "/abs")]);
    let lines = bench.listing();
    for line in ["/t 644 0:0 a", "/u/l 644 0:0 a", "/v 644 0:0 x", "/w/abs 0 0:0 -> /a.txt", "/abs 644 0:0 a"] {
        assert!(lines.contains(line), "{line} in {lines}");
    }
    assert!(bench.fail(&[cp("up", "/t2")]).contains("`/up` is a link to nothing"));
    bench.fail(&[cp("loop", "/t2")]);
}

#[test]
fn hard_links_are_kept_within_a_source_and_broken_across() {
    let mut bench = Bench::new();
    bench.put("d/f", "f");
    fs::hard_link(bench.ctx("d/f"), bench.ctx("d/g")).unwrap();
    bench.run(&[cp("d", "/t"), cp("d/*", "/u/")]);
    let ino = |path: &str| fs::metadata(bench.top(path)).unwrap().ino();
    assert_eq!(ino("t/f"), ino("t/g"));
    assert_ne!(ino("u/f"), ino("u/g"));
    assert_ne!(ino("t/f"), ino("u/f"));
    assert_ne!(ino("t/f"), fs::metadata(bench.ctx("d/f")).unwrap().ino());
}

#[test]
fn special_files_are_copied_and_sockets_left() {
    let mut bench = Bench::new();
    bench.put("d/f", "f");
    mknodat(CWD, bench.ctx("d/fifo"), FileType::Fifo, 0o640.into(), 0).unwrap();
    drop(std::os::unix::net::UnixListener::bind(bench.ctx("d/sock")).unwrap());
    let device = mknodat(CWD, bench.ctx("d/null"), FileType::CharacterDevice, 0o666.into(), makedev(1, 3)).is_ok();
    let context = bench.context();
    let warnings = bench.try_run(&[cp("d", "/t")], &context).unwrap();
    let told: Vec<&str> = warnings.iter().map(|warning| warning.message.as_str()).collect();
    let of_device = ["a device node of the build context is copied into the image: /d/null"];
    assert_eq!(told, if device { &of_device[..] } else { &[] });
    let lines = bench.listing();
    assert!(lines.contains("/t/fifo ") && !lines.contains("sock"), "{lines}");
    assert_eq!(lines.contains("/t/null "), device, "{lines}");
    mknodat(CWD, bench.ctx("d/white"), FileType::CharacterDevice, 0o666.into(), makedev(0, 0)).unwrap();
    assert!(bench.fail(&[cp("d", "/t2")]).contains("/t2/white"));
}

#[test]
fn attributes_are_copied_but_those_of_overlayfs() {
    let mut bench = Bench::new();
    bench.put("d/e/f", "f");
    for (path, name) in [("d/e/f", "user.mine"), ("d/e", "user.mine"), ("d/e", "trusted.overlay.opaque")] {
        if setxattr(bench.ctx(path), name, b"y", XattrFlags::empty()).is_err() {
            return;
        }
    }
    bench.run(&[cp("d", "/t")]);
    let view = bench.view();
    for path in ["t/e/f", "t/e"] {
        assert_eq!(view.xattrs(path).unwrap(), [("user.mine".into(), b"y".to_vec())], "{path}");
    }
    assert!(!at::is_opaque(fs::File::open(bench.top("t/e")).unwrap()).unwrap());
}

#[test]
fn exclude_is_for_what_is_inside_directories() {
    let with = |patterns: &[&str], source: &str, dest: &str| {
        let exclude = patterns.iter().map(|it| (*it).to_owned()).collect();
        sample().run(&[act(CopyAction { exclude, ..CopyAction::of_paths(source, dest) })]).listing()
    };
    let names = |text: String| text.lines().map(|it| it.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>();
    let table: &[(&[&str], &str, &str)] = &[
        (&["*.txt"], ".", "/t /t/c.md /t/dir /t/dir/sub /t/dir/sub/deep /t/dir/sub/deep/z.txt /t/dir/sub/y /t/dir/x"),
        (&["**/*.txt", "*.md"], ".", "/t /t/dir /t/dir/sub /t/dir/sub/deep /t/dir/sub/y /t/dir/x"),
        (&["sub"], "dir", "/t /t/x"),
        (&["sub", "!sub/y"], "dir", "/t /t/sub /t/sub/y /t/x"),
        (&["*", "!**/z.txt"], "dir", "/t /t/sub /t/sub/deep /t/sub/deep/z.txt"),
        (&["*.txt"], "*.txt", "/t /t/a.txt /t/b.txt"),
    ];
    for (patterns, source, expected) in table {
        assert_eq!(names(with(patterns, source, "/t/")).join(" "), *expected, "{patterns:?} {source}");
    }
}

#[test]
fn parents_keeps_the_path_from_the_pivot_on() {
    let table = [
        ("dir/sub/y", Some("/t /t/dir /t/dir/sub /t/dir/sub/y")),
        ("/dir/x", Some("/t /t/dir /t/dir/x")),
        ("dir/./sub/y", Some("/t /t/sub /t/sub/y")),
        ("./dir/./sub/**", Some("/t /t/sub /t/sub/deep /t/sub/deep/z.txt /t/sub/y")),
        ("/./dir/x", Some("/t /t/dir /t/dir/x")),
        ("dir/*/y", Some("/t /t/dir /t/dir/sub /t/dir/sub/y")),
        ("dir/*/", Some("/t /t/dir /t/dir/sub /t/dir/sub/deep /t/dir/sub/deep/z.txt /t/dir/sub/y /t/dir/x")),
        ("**/*.txt", Some("/t /t/a.txt /t/b.txt /t/dir /t/dir/sub /t/dir/sub/deep /t/dir/sub/deep/z.txt")),
        ("dir/l", Some("/t /t/dir /t/dir/l")),
        ("nope/x", None),
        ("dir/l/x", None),
        ("no/./x", None),
    ];
    for (source, expected) in table {
        let mut bench = sample();
        symlink("sub", bench.ctx("dir/l")).unwrap();
        chmod(&bench.ctx("dir"), 0o710);
        if source == "dir/*/" {
            fs::remove_file(bench.ctx("dir/l")).unwrap();
        }
        let action = [act(CopyAction { parents: true, ..CopyAction::of_paths(source, "/t/") })];
        let Some(expected) = expected else {
            assert!(bench.fail(&action).contains("not found in the build context"), "{source}");
            continue;
        };
        bench.run(&action);
        let listing = bench.listing();
        let names: Vec<&str> = listing.lines().map(|it| it.split(' ').next().unwrap()).collect();
        assert_eq!(names.join(" "), expected, "{source}");
        assert!(!expected.contains("/t/dir ") || listing.contains("/t/dir 710"), "{listing}");
    }
}

#[test]
fn what_is_missing_is_explained() {
    let mut bench = sample();
    bench.ignore = vec!["*.md".to_owned(), "dir/sub".to_owned(), "!dir/sub/y".to_owned()];
    let table = [
        ("a.tx", "did you mean `a.txt`?"),
        ("dir/sub/deep/z.txt", "hidden by pattern 2 of .dockerignore: dir/sub"),
        ("c.md", "hidden by pattern 1 of .dockerignore: *.md"),
        ("dri/x", "did you mean `dir`?"),
        ("a.txt/x", "`/a.txt` is not a directory"),
        ("zzzzzzzz", "source not found in the build context: zzzzzzzz"),
        ("[a", "a bracket is not closed: [a"),
    ];
    for (source, part) in table {
        let text = bench.fail(&[cp(source, "/t")]);
        assert!(text.contains(part), "{source}: {text}");
    }
    let context = bench.context();
    let warnings = bench.try_run(&[cp("*.nope", "/t/"), cp("*.txt", "/t")], &context).unwrap();
    assert!(warnings[0].message.contains("nothing in the build context matches `*.nope`"), "{warnings:?}");
    assert!(warnings[1].message.contains("2 files for one destination: /t"), "{warnings:?}");
    bench.run(&[act(CopyAction { optional: true, ..CopyAction::of_paths("zzz", "/none") })]);
}

#[test]
fn ignored_files_are_not_there() {
    let mut bench = sample();
    bench.ignore = vec!["*".to_owned(), "!a.txt".to_owned(), "!dir/sub/deep".to_owned()];
    bench.run(&[cp(".", "/t")]);
    let expected = "/t 755 0:0 dir\n/t/a.txt 644 0:0 a\n/t/dir 755 0:0 dir\n/t/dir/sub 755 0:0 dir\n\
                    /t/dir/sub/deep 755 0:0 dir\n/t/dir/sub/deep/z.txt 644 0:0 z\n";
    assert_eq!(bench.listing(), expected);
    bench.fail(&[cp("b.txt", "/x")]);
    bench.run(&[cp("*.txt", "/y/")]);
    assert!(bench.view().lookup("y/b.txt", Follow::No).unwrap().is_none());
}

#[test]
fn stages_keep_owners_and_their_files_are_linked_once_at_most() {
    if !may_chown("stages_keep_owners_and_their_files_are_linked_once_at_most") {
        return;
    }
    let mut bench = Bench::new();
    let stage = bench.tmp.path().join("stage");
    write(&stage.join("s/f"), "f");
    std::os::unix::fs::chown(stage.join("s/f"), Some(5), Some(6)).unwrap();
    let source = ContentSource {
        name: "stage `s`".to_owned(),
        tree: ContentTree::View(Arc::new(LayerView::open(std::slice::from_ref(&stage)).unwrap())),
    };
    let kept = |dest: &str| act(CopyAction { reset_owner: false, ..CopyAction::of_paths("/s", dest) });
    // Nothing below: it may be a `--link` layer that ends up above the stage itself.
    bench.try_run(&[kept("/x")], &source).unwrap();
    assert_eq!(fs::metadata(bench.top("x/f")).unwrap().nlink(), 1);
    bench.try_run(&[kept("/a"), kept("/b")], &source).unwrap();
    let ino = |path: &Path| fs::metadata(path).unwrap().ino();
    assert_eq!(ino(&bench.top("a/f")), ino(&stage.join("s/f")));
    assert_ne!(ino(&bench.top("b/f")), ino(&stage.join("s/f")));
    assert!(bench.listing().contains("/b/f 644 5:6 f"));
    bench.try_run(&[act(CopyAction::of_paths("/s", "/c"))], &source).unwrap();
    assert!(bench.listing().contains("/c/f 644 0:0 f"));
}

#[test]
fn a_file_that_changes_after_it_was_hashed_is_noticed() {
    let mut bench = sample();
    let context = bench.context();
    hash::of_copy(&context, &CopyAction::of_paths("dir", "/d")).unwrap();
    write(&bench.ctx("dir/x"), "something longer");
    let err = bench.try_run(&[cp("dir", "/d")], &context).expect_err("it changed");
    assert_eq!(err.to_string(), "a file of the build context changed while it was read: /dir/x");
}

/// A tar of members: path, type, content or link target, mode, uid.
fn tar(members: &[(&str, u8, &str, u32, u64)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, kind, text, mode, uid) in members {
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(tar::EntryType::new(*kind));
        header.set_mode(*mode);
        header.set_uid(*uid);
        header.set_gid(*uid);
        header.set_mtime(1_000_000);
        let data = if *kind == b'0' { text.as_bytes() } else { b"" };
        if matches!(*kind, b'1' | b'2') {
            header.as_old_mut().linkname[..text.len()].copy_from_slice(text.as_bytes());
        }
        header.set_size(data.len() as u64);
        header.set_cksum();
        builder.append(&header, data).unwrap();
    }
    builder.into_inner().unwrap()
}

fn add(source: &str, dest: &str) -> FileAction {
    act(CopyAction { unpack: true, ..CopyAction::of_paths(source, dest) })
}

const TOP: &[(&str, u8, &str, u32, u64)] = &[
    ("top/", b'5', "", 0o750, 0),
    ("top/f", b'0', "in tar", 0o640, 11),
    ("top/l", b'2', "f", 0o777, 0),
    ("top/h", b'1', "top/f", 0o644, 0),
    ("p/q/r", b'0', "r", 0o4755, 9),
];

#[test]
fn archives_of_every_compression_are_extracted() {
    if !may_chown("archives_of_every_compression_are_extracted") {
        return;
    }
    let plain = tar(TOP);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    let mut bzip = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bzip.write_all(&plain).unwrap();
    let zstd = zstd::encode_all(&plain[..], 1).unwrap();
    for bytes in [plain.clone(), gzip.finish().unwrap(), bzip.finish().unwrap(), zstd] {
        let mut bench = Bench::new();
        fs::write(bench.ctx("archive"), bytes).unwrap();
        bench.run(&[add("archive", "/x")]);
        let expected = "/x 755 0:0 dir\n/x/p 755 0:0 dir\n/x/p/q 755 0:0 dir\n/x/p/q/r 4755 9:9 r\n/x/top 750 0:0 dir\n\
                        /x/top/f 644 0:0 in tar\n/x/top/h 644 0:0 in tar\n/x/top/l 0 0:0 -> f\n";
        assert_eq!(bench.listing(), expected);
        let ino = |path: &str| fs::metadata(bench.top(path)).unwrap().ino();
        assert_eq!(ino("x/top/f"), ino("x/top/h"));
        assert_eq!(entry(&bench.view(), "x/top").mtime, (1_000_000, 0));
    }
}

#[test]
fn archives_take_owners_but_no_modes_and_copy_leaves_them_packed() {
    if !may_chown("archives_take_owners_but_no_modes_and_copy_leaves_them_packed") {
        return;
    }
    let mut bench = Bench::new();
    fs::write(bench.ctx("t.tar"), tar(TOP)).unwrap();
    fs::write(bench.ctx("no.tar.gz"), "not an archive").unwrap();
    fs::write(bench.ctx("zero.tar"), [0; 1024]).unwrap();
    let chowned = CopyAction {
        unpack: true,
        owner: Some(owner("3", None)),
        mode: Some(ModeChange::Octal(0o700)),
        ..CopyAction::of_paths("t.tar", "/x")
    };
    bench.run(&[act(chowned), add("no.tar.gz", "/y/"), add("zero.tar", "/y/")]);
    let lines = bench.listing();
    for line in ["/x 755 3:3", "/x/p 755 0:0", "/x/p/q/r 4755 3:3", "/x/top/l 0 3:3", "/y/no.tar.gz 644", "/y/zero.tar"]
    {
        assert!(lines.contains(line), "{line} in {lines}");
    }
    bench.run(&[cp("t.tar", "/z/")]);
    assert!(bench.listing().contains("/z/t.tar 644"));
}

#[test]
fn hostile_archives_stay_inside_the_destination() {
    if !may_chown("hostile_archives_stay_inside_the_destination") {
        return;
    }
    let mut bench = Bench::new();
    let outside = bench.tmp.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let dir = bench.layer();
    write(&dir.join("victim"), "victim");
    symlink(&outside, dir.join("dst")).unwrap();
    let up = "../../../../../../victim";
    let members = [
        (up, b'0', "1", 0o644, 0),
        ("abs", b'2', "/", 0o777, 0),
        ("abs/through", b'0', "2", 0o644, 0),
        ("up", b'2', "../../..", 0o777, 0),
        ("up/above", b'0', "3", 0o644, 0),
    ];
    fs::write(bench.ctx("t.tar"), tar(&members)).unwrap();
    bench.run(&[add("t.tar", "/d/"), add("t.tar", "/dst/")]);
    assert_eq!(bench.view().read("victim", 10).unwrap(), b"victim");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    for path in ["d/victim", "d/through", "d/above"] {
        assert_eq!(entry(&bench.view(), path).kind, EntryKind::File, "{path}");
    }
    fs::write(bench.ctx("link.tar"), tar(&[("h", b'1', "../victim", 0o666, 0)])).unwrap();
    assert!(bench.fail(&[add("link.tar", "/d/sub/")]).contains("member `h`"));
    fs::write(bench.ctx("cut.tar"), &tar(TOP)[..1100]).unwrap();
    assert!(bench.fail(&[add("cut.tar", "/c/")]).contains("cannot unpack the archive: /cut.tar"));
}

#[test]
fn archives_merge_directories_and_replace_the_rest() {
    if !may_chown("archives_merge_directories_and_replace_the_rest") {
        return;
    }
    let mut bench = Bench::new();
    let dir = bench.layer();
    write(&dir.join("x/top/old"), "old");
    write(&dir.join("x/p"), "a file");
    write(&dir.join("x/gone/deep/in"), "old");
    write(&dir.join("x/low"), "low");
    let members = [
        ("gone", b'0', "now a file", 0o644, 0),
        ("gone", b'5', "", 0o755, 0),
        ("gone/new", b'0', "n", 0o644, 0),
        ("hl", b'1', "low", 0o600, 4),
    ];
    fs::write(bench.ctx("a.tar"), tar(TOP)).unwrap();
    fs::write(bench.ctx("b.tar"), tar(&members)).unwrap();
    let err = bench.fail(&[add("a.tar", "/x")]);
    assert!(err.contains("not a directory in the image: /x/p"), "{err}");
    bench.run(&[add("b.tar", "/x")]);
    let expected = "/x 755 0:0 dir\n/x/gone 755 0:0 dir\n/x/gone/new 644 0:0 n\n/x/hl 600 4:4 low\n\
                    /x/low 600 4:4 low\n/x/p 644 0:0 a file\n/x/top 755 0:0 dir\n/x/top/old 644 0:0 old\n";
    assert_eq!(bench.listing(), expected);
}
