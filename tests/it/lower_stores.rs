//! `BAKE_CACHE_FROM_DIR`: state directories that are read and never changed. And the number of the form of a store: what a
//! later `bake` has written is refused.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
    process::Command,
};

use crate::support::{Bake, Ran, base_layout};

/// A target of three steps, the last of which reads the file `late` of the context.
fn project() -> Bake {
    let bake = Bake::new();
    bake.write("Dockerfile", "FROM base\nRUN echo content > /made\nRUN rm /made && echo next > /next\nCOPY late /\n");
    bake.write("late", "late");
    let target = format!(
        "target \"default\" {{\n  contexts = {{ base = \"oci-layout://{}\" }}\n  \
         output = [\"type=oci,dest=out.tar\"]\n}}\n",
        base_layout().display()
    );
    bake.write("docker-bake.hcl", &target);
    bake
}

fn build(bake: &Bake, home: &str, lower: &str) -> Ran {
    // The index of an archive says when it was written.
    let env = [("BAKE_HOME", home), ("BAKE_CACHE_FROM_DIR", lower), ("SOURCE_DATE_EPOCH", "1700000000")];
    bake.run_with("", &["--progress=plain", "--allow=fs.read=*"], &env).ok()
}

fn conclusion(ran: &Ran) -> &str {
    ran.stderr.lines().rev().find(|line| line.starts_with("ran ") || line.contains("steps")).unwrap_or_default()
}

/// Every path below a folder with what would show a change of it. Left out is the mark of a sync, which a process writes that
/// may outlive its run.
fn listing(dir: &Path) -> Vec<(String, i64, i64, u64)> {
    let mut listed = Vec::new();
    let mut pending = vec![dir.to_owned()];
    while let Some(path) = pending.pop() {
        let meta = fs::symlink_metadata(&path).expect("it is there");
        listed.push((path.display().to_string(), meta.mtime(), meta.mtime_nsec(), meta.ino()));
        if meta.is_dir() && !path.ends_with("synced") {
            pending.extend(fs::read_dir(&path).expect("readable").map(|entry| entry.expect("readable").path()));
        }
    }
    listed.sort();
    listed
}

#[test]
fn what_a_lower_store_has_is_not_built_again_and_the_lower_store_is_not_changed() {
    let bake = project();
    let first = build(&bake, "warm", "");
    assert!(conclusion(&first).contains("ran 3 steps"), "{first:#?}");
    let image = fs::read(bake.path("out.tar")).expect("it was written");
    let before = listing(&bake.path("warm"));
    fs::remove_file(bake.path("out.tar")).expect("it is there");
    let second = build(&bake, "second", "absent-sub/../warm:warm");
    assert!(!second.stderr.contains("ran "), "{second:#?}");
    assert_eq!(fs::read(bake.path("out.tar")).expect("it was written"), image);
    // A step on top of layers that only the lower store has.
    bake.write("late", "later");
    let third = build(&bake, "third", "warm");
    assert!(conclusion(&third).contains("ran 1 step"), "{third:#?}");
    // And again, when the own store has a part of it.
    let again = build(&bake, "third", "warm");
    assert!(!again.stderr.contains("ran "), "{again:#?}");
    assert!(listing(&bake.path("warm")) == before, "something in it changed");
    // Without it, what it had is made again.
    fs::remove_file(bake.path("out.tar")).expect("it is there");
    let alone = build(&bake, "third", "");
    assert!(conclusion(&alone).contains("ran "), "{alone:#?}");
}

#[test]
fn a_copied_lower_store_counts_and_what_is_damaged_in_it_does_not() {
    let bake = project();
    let _first = build(&bake, "warm", "");
    let image = fs::read(bake.path("out.tar")).expect("it was written");
    let status = Command::new("cp").args(["-a", "warm", "copy"]).current_dir(bake.dir.path()).status().expect("there");
    assert!(status.success());
    fs::remove_file(bake.path("out.tar")).expect("it is there");
    let copied = build(&bake, "second", "copy");
    assert!(!copied.stderr.contains("ran "), "{copied:#?}");
    // Other bytes of the same length and time, in each blob and in the file of a step.
    let flip = |path: &Path| {
        let time = fs::metadata(path).expect("it is there").modified().expect("times are kept");
        let mut bytes = fs::read(path).expect("readable");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(path, bytes).expect("it is ours");
        fs::File::options().write(true).open(path).and_then(|file| file.set_modified(time)).expect("it is ours");
    };
    let list = |dir: &str| fs::read_dir(bake.path(dir)).expect("it is there").map(|entry| entry.expect("entry").path());
    list("copy/v1/blobs/sha256").for_each(|path| flip(&path));
    let next = list("copy/v1/snapshots").map(|path| path.join("fs/next")).filter(|path| path.is_file());
    next.for_each(|path| flip(&path));
    fs::remove_file(bake.path("out.tar")).expect("it is there");
    let damaged = build(&bake, "third", "copy");
    assert!(conclusion(&damaged).contains("ran "), "{damaged:#?}");
    // The image is another one by its times alone: the content of the files is right.
    let text = fs::read(bake.path("out.tar")).expect("it was written");
    assert_eq!(text.len(), image.len());
    let verified = bake.run_with("", &["cache", "verify"], &[("BAKE_HOME", "third")]).ok();
    assert!(verified.stderr.contains("all is as it should be"), "{verified:#?}");
}

#[test]
fn a_lower_store_that_cannot_be_trusted_or_read_is_left_out_with_a_warning() {
    let bake = project();
    let _first = build(&bake, "warm", "");
    fs::set_permissions(bake.path("warm"), fs::Permissions::from_mode(0o777)).expect("ours");
    let ran = build(&bake, "second", "warm:absent");
    assert!(conclusion(&ran).contains("ran 3 steps"), "{ran:#?}");
    for cause in ["users other than its owner can write", "cannot look at"] {
        assert!(ran.stderr.contains("`BAKE_CACHE_FROM_DIR` is not used"), "{ran:#?}");
        assert!(ran.stderr.contains(cause), "{cause}: {ran:#?}");
    }
    fs::set_permissions(bake.path("warm"), fs::Permissions::from_mode(0o700)).expect("ours");
    bake.write("warm/v1/format", "2\n");
    let later = build(&bake, "third", "warm");
    assert!(conclusion(&later).contains("ran 3 steps"), "{later:#?}");
    assert!(later.stderr.contains("a later `bake` has written to it"), "{later:#?}");
}

#[test]
fn what_a_later_bake_has_written_is_refused_by_every_command_and_left_as_it_is() {
    let bake = project();
    let _first = build(&bake, "warm", "");
    assert_eq!(bake.read("warm/v1/format"), "1\n");
    bake.write("warm/v1/format", "999999\n");
    let before = listing(&bake.path("warm"));
    for args in [
        &["--progress=plain", "--allow=fs.read=*"][..],
        &["du"],
        &["prune", "--all", "--force"],
        &["cache", "verify", "--repair"],
        &["cache", "export", "out.bake"],
        &["log"],
        &["explain", "--allow=fs.read=*"],
    ] {
        let ran = bake.run_with("", args, &[("BAKE_HOME", "warm")]);
        assert_eq!(ran.code, Some(1), "{args:?}: {ran:#?}");
        assert!(ran.stderr.contains("its format is 999999, this one knows up to 1"), "{args:?}: {ran:#?}");
        assert!(ran.stderr.contains("use that version of `bake`"), "{args:?}: {ran:#?}");
    }
    assert!(listing(&bake.path("warm")) == before, "something in it changed");
    // One from before there was a number, or that lost it, is of the first form.
    fs::remove_file(bake.path("warm/v1/format")).expect("it is there");
    let earlier = build(&bake, "warm", "");
    assert!(!earlier.stderr.contains("ran "), "{earlier:#?}");
}

#[test]
fn a_layer_that_is_damaged_in_one_store_is_taken_from_the_next() {
    let bake = project();
    let _first = build(&bake, "warm", "");
    for name in ["first", "own"] {
        let status =
            Command::new("cp").args(["-a", "warm", name]).current_dir(bake.dir.path()).status().expect("there");
        assert!(status.success());
        for layer in fs::read_dir(bake.path(&format!("{name}/v1/snapshots"))).expect("it is there") {
            let file = layer.expect("entry").path().join("fs/next");
            if file.is_file() {
                fs::write(file, "NEXT\n").expect("it is ours");
            }
        }
    }
    // A step on top needs the layer itself.
    bake.write("Dockerfile", &format!("{}RUN cat /next > /seen\n", bake.read("Dockerfile")));
    let target = bake.read("docker-bake.hcl").replace("type=oci,dest=out.tar", "type=local,dest=out");
    bake.write("docker-bake.hcl", &target);
    for (home, lower) in [("fresh", "first:warm"), ("own", "warm")] {
        let ran = build(&bake, home, lower);
        assert!(conclusion(&ran).contains("ran 1 step"), "{home}: {ran:#?}");
        assert_eq!((bake.read("out/seen"), bake.read("out/next")), ("next\n".into(), "next\n".into()), "{home}");
        fs::remove_dir_all(bake.path("out")).expect("it was written");
    }
}
