//! The state directory: who may own it, what is found damaged, and what stays valid after a reboot.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Bake, Ran, base_layout};

/// A target `made` whose only step writes the file `/made`, and a target `long` that waits on top of it.
fn project() -> Bake {
    let bake = Bake::new();
    bake.write(
        "Dockerfile",
        "FROM base AS run\nRUN echo content > /made\nFROM run AS long\nRUN echo it waits && sleep 1000\n\
         FROM scratch AS made\nCOPY --from=run /made /made\n",
    );
    let target = |name: &str| {
        format!(
            "target \"{name}\" {{\n  target = \"{name}\"\n  contexts = {{ base = \"oci-layout://{}\" }}\n  \
             output = [\"type=local,dest=out\"]\n}}\n",
            base_layout().display()
        )
    };
    bake.write("docker-bake.hcl", &(target("made") + &target("long")));
    bake
}

const ARGS: [&str; 2] = ["--progress=plain", "--allow=fs.read=*"];

fn build(bake: &Bake) -> Ran {
    let ran = bake.run(&[&ARGS[..], &["made"]].concat()).ok();
    assert_eq!(bake.read("out/made"), "content\n");
    ran
}

/// How many steps were run and how many files written.
fn n_done(ran: &Ran) -> usize {
    ran.stderr.matches(" DONE ").count()
}

/// The file `made` of all snapshots: that of the step, and that of the COPY behind it.
fn made(bake: &Bake) -> Vec<PathBuf> {
    let snapshots = fs::read_dir(bake.path("state/v1/snapshots")).expect("there are snapshots");
    let paths = snapshots.map(|entry| entry.expect("readable").path().join("fs/made"));
    let found: Vec<PathBuf> = paths.filter(|path| path.is_file()).collect();
    assert_eq!(found.len(), 2, "{found:?}");
    found
}

/// Puts other bytes of the same length into the file `made` of all snapshots, and puts the time of modification back.
fn damage(bake: &Bake) {
    made(bake).iter().for_each(|path| damage_file(path));
}

fn damage_file(path: &Path) {
    let time = fs::metadata(path).expect("it is there").modified().expect("times are kept");
    fs::write(path, "CONTENT\n").expect("it is ours");
    fs::File::options().write(true).open(path).and_then(|file| file.set_modified(time)).expect("it is ours");
}

#[test]
fn changed_bytes_with_the_old_time_are_found_and_made_again() {
    let bake = project();
    build(&bake);
    let ran = bake.run(&["cache", "verify"]).ok();
    assert!(ran.stderr.contains("all is as it should be"), "{ran:#?}");
    damage(&bake);
    let ran = bake.run(&["cache", "verify"]);
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    assert!(ran.stderr.contains("damaged (") && ran.stderr.contains("`bake cache verify --repair`"), "{ran:#?}");
    assert!(made(&bake).iter().all(|path| path.is_file()), "to verify is to look");
    let ran = bake.run(&["cache", "verify", "--repair"]).ok();
    assert!(ran.stderr.contains("damaged, and taken away"), "{ran:#?}");
    fs::remove_dir_all(bake.path("out")).expect("it is there");
    assert_ne!(n_done(&build(&bake)), 0);
    let _ran = bake.run(&["cache", "verify"]).ok();
}

#[test]
fn changed_bytes_are_not_exported_although_nobody_verified() {
    let bake = project();
    build(&bake);
    damage(&bake);
    fs::remove_dir_all(bake.path("out")).expect("it is there");
    build(&bake);
}

#[test]
fn a_changed_attribute_of_a_file_is_damage() {
    let bake = project();
    build(&bake);
    let name = "user.planted";
    let file = fs::File::open(&made(&bake)[0]).expect("it is there");
    rustix::fs::fsetxattr(&file, name, b"value", rustix::fs::XattrFlags::empty())
        .expect("the file system has attributes");
    let ran = bake.run(&["cache", "verify"]);
    assert!(ran.code == Some(1) && ran.stderr.contains("damaged"), "{ran:#?}");
    build(&bake);
}

#[test]
fn what_a_running_build_may_use_is_left() {
    let bake = project();
    build(&bake);
    let mut command = bake.command("", &[&ARGS[..], &["long"]].concat());
    let mut running = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the binary starts");
    let mut lines = BufReader::new(running.stderr.take().expect("it is piped")).lines();
    let mut shown = String::new();
    while !shown.contains("it waits\n") || shown.ends_with("sleep 1000\n") {
        shown += &lines.next().unwrap_or_else(|| panic!("it ended: {shown}")).expect("text");
        shown += "\n";
    }
    let paths = made(&bake);
    damage(&bake);
    let ran = bake.run(&["cache", "verify", "--repair"]);
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    assert!(ran.stderr.contains("left, as a running build may use it"), "{ran:#?}");
    assert!(paths.iter().all(|path| path.is_file()), "{ran:#?}");
    let pid = Pid::from_raw(i32::try_from(running.id()).expect("a process id")).expect("not zero");
    kill_process(pid, Signal::TERM).expect("it still runs");
    kill_process(pid, Signal::TERM).expect("it still runs");
    lines.for_each(drop);
    assert_eq!(running.wait().expect("it ended").code(), Some(130));
    let ran = bake.run(&["cache", "verify", "--repair"]);
    assert!(ran.stderr.contains("taken away"), "{ran:#?}");
    assert!(!paths.iter().any(|path| path.exists()));
}

/// Runs the build of `made` with another id of the boot, as after a reboot.
fn build_after_reboot(bake: &Bake, boot: &str) -> Ran {
    bake.write("boot", boot);
    let mounted = "mount --bind \"$1\" /proc/sys/kernel/random/boot_id && shift && exec \"$@\"";
    let ours = bake.command("", &[&ARGS[..], &["made"]].concat());
    let mut command = Command::new("unshare");
    command.args(if rustix::process::geteuid().is_root() { &["-m"][..] } else { &["-rm"] });
    command.args(["sh", "-c", mounted, "sh"]).arg(bake.path("boot")).arg(ours.get_program()).args(ours.get_args());
    command.current_dir(bake.dir.path()).env_clear();
    command.envs(ours.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = command.output().expect("util-linux is installed");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

#[test]
fn nothing_is_built_again_after_a_reboot_or_in_a_copied_store() {
    let bake = project();
    assert_ne!(n_done(&build(&bake)), 0);
    let ran = build_after_reboot(&bake, "11111111-2222-3333-4444-555555555555\n").ok();
    assert_eq!(n_done(&ran), 0, "{ran:#?}");
    // What was changed meanwhile is not believed.
    damage(&bake);
    fs::remove_dir_all(bake.path("out")).expect("it is there");
    let ran = build_after_reboot(&bake, "66666666-7777-8888-9999-000000000000\n").ok();
    assert_ne!(n_done(&ran), 0, "{ran:#?}");
    assert_eq!(bake.read("out/made"), "content\n");
    // A copy has other inodes and times of change.
    let status = Command::new("cp").args(["-a", "state", "copy"]).current_dir(bake.dir.path()).status().expect("there");
    assert!(status.success());
    fs::remove_dir_all(bake.path("state")).expect("it is there");
    fs::rename(bake.path("copy"), bake.path("state")).expect("one file system");
    let ran = build_after_reboot(&bake, "11111111-2222-3333-4444-666666666666\n").ok();
    assert_eq!(n_done(&ran), 0, "{ran:#?}");
}

#[test]
fn a_folder_that_others_can_write_to_is_refused() {
    let bake = Bake::new();
    bake.write("docker-bake.hcl", "target \"default\" {\n  dockerfile-inline = \"FROM scratch\\nCOPY x /\"\n}\n");
    bake.write("x", "");
    fs::create_dir(bake.path("open")).expect("writable");
    symlink(bake.path("open"), bake.path("link")).expect("writable");
    let run = |home: &str| bake.run_with("", &["--progress=plain"], &[("BAKE_HOME", home)]);
    let set_mode = |mode: u32| fs::set_permissions(bake.path("open"), fs::Permissions::from_mode(mode)).expect("ours");
    for home in ["open", "link"] {
        for mode in [0o777, 0o757, 0o702] {
            set_mode(mode);
            let ran = run(home);
            assert_eq!(ran.code, Some(1), "{mode:o} {ran:#?}");
            assert!(ran.stderr.contains("users other than its owner can write"), "{ran:#?}");
        }
        set_mode(0o700);
        let _ran = run(home).ok();
    }
}

/// The most memory that a build of a context with this archive has, in bytes: `ADD` unpacks it.
fn memory_of_unpacking(bake: &Bake) -> (u64, Option<i32>, String) {
    bake.write("Dockerfile", "FROM scratch\nADD a.tar.gz /\n");
    bake.write("docker-bake.hcl", "target \"default\" {\n  output = [\"type=local,dest=out\"]\n}\n");
    let mut child = bake.command("", &["--progress=plain"]);
    let child = child.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the binary starts");
    let status = PathBuf::from(format!("/proc/{}/status", child.id()));
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a process id")).expect("not zero");
    let handle = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).expect("it runs");
    let mut most = 0;
    let tick = rustix::event::Timespec { tv_sec: 0, tv_nsec: 2_000_000 };
    let mut polled = [rustix::event::PollFd::new(&handle, rustix::event::PollFlags::IN)];
    while rustix::event::poll(&mut polled, Some(&tick)).expect("it can be waited for") == 0 {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
        most = most.max(kib.unwrap_or(0) << 10);
    }
    let output = child.wait_with_output().expect("it ended");
    (most, output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// A tar with one extended header of `size` bytes, made of copies of `chunk`, and a file. Each part is a gzip member.
fn tar_with_records(chunk: &str, size: usize) -> Vec<u8> {
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).expect("in memory");
        encoder.finish().expect("in memory")
    };
    let header = |name: &str, kind: tar::EntryType, size: u64| {
        let mut header = tar::Header::new_ustar();
        header.set_path(name).expect("a short name");
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(0o644);
        header.set_cksum();
        header.as_bytes().to_vec()
    };
    let chunks = size / chunk.len();
    let mut archive = gzip(&header("x", tar::EntryType::XHeader, (chunks * chunk.len()) as u64));
    let packed = gzip(chunk.as_bytes());
    (0..chunks).for_each(|_| archive.extend_from_slice(&packed));
    let padding = vec![0; (chunks * chunk.len()).next_multiple_of(512) - chunks * chunk.len()];
    archive.extend(gzip(&padding));
    archive.extend(gzip(&[header("f", tar::EntryType::Regular, 0), vec![0; 1024]].concat()));
    archive
}

#[test]
fn memory_for_records_of_an_archive_is_bounded() {
    const MOST: u64 = 160 << 20;
    let bake = Bake::new();
    // 410 MB of records in about half a megabyte: short ones, and each an attribute of its own value.
    let short = "30 SCHILY.xattr.user.aaa=bbbb\n".repeat(1 << 15);
    let comments = "12 a=xxxxxx\n".repeat(1 << 16);
    for (chunk, size) in [(short, 410 << 20), (comments, 64 << 20)] {
        let archive = tar_with_records(&chunk, size);
        assert!(archive.len() < 2 << 20, "{} bytes", archive.len());
        fs::write(bake.path("a.tar.gz"), archive).expect("writable");
        let (most, code, stderr) = memory_of_unpacking(&bake);
        assert_eq!(code, Some(1), "{stderr}");
        assert!(stderr.contains("of one member"), "the limit is named: {stderr}");
        assert!(most < MOST, "{} MiB", most >> 20);
        assert_ne!(most, 0, "it was measured");
    }
    // A member with as much as real archives have is fine.
    let fine = tar_with_records("30 SCHILY.xattr.user.aaa=bbbb\n", 3000);
    fs::write(bake.path("a.tar.gz"), fine).expect("writable");
    let (_, code, stderr) = memory_of_unpacking(&bake);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(bake.path("out/f").is_file());
}

/// The bytes that `bake du` counts.
fn total(bake: &Bake, more: &[&str]) -> u64 {
    let ran = bake.run(&[&["du", "--format=json"], more].concat()).ok();
    serde_json::from_str::<serde_json::Value>(&ran.stdout).expect("JSON")["total"].as_u64().expect("a number")
}

#[test]
fn du_says_who_uses_a_layer_and_whether_it_is_shared() {
    let bake = Bake::new();
    bake.write("x", "x");
    bake.write("y", "y");
    let target = |name: &str, last: &str| {
        let output = format!("type=oci,dest={name}.tar");
        bake.write(&format!("{name}.Dockerfile"), &format!("FROM base\nCOPY x /\nCOPY {last}\n"));
        format!(
            "target \"{name}\" {{\n  dockerfile = \"{name}.Dockerfile\"\n  \
             contexts = {{ base = \"oci-layout://{}\" }}\n  output = [\"{output}\"]\n}}\n",
            base_layout().display()
        )
    };
    bake.write("docker-bake.hcl", &(target("one", "y /y") + &target("two", "y /z")));
    bake.run(&["--allow=fs.read=*", "one", "two"]).ok();
    let du = bake.run(&["du", "--verbose", "--format=json"]).ok();
    let du: serde_json::Value = serde_json::from_str(&du.stdout).expect("JSON");
    let items = du["items"].as_array().expect("a list");
    let of = |kind: &str, made_by: &str| {
        let found = items.iter().filter(|item| item["type"] == kind);
        let found: Vec<_> =
            found.filter(|item| item["madeBy"].as_str().is_some_and(|it| it.contains(made_by))).collect();
        assert!(!found.is_empty(), "{kind} {made_by}: {du:#}");
        found
            .into_iter()
            .map(|item| (item["builds"].clone(), item["shared"].clone(), item["targets"].clone()))
            .collect()
    };
    for kind in ["snapshot", "blob"] {
        let both: Vec<_> = of(kind, "COPY x /");
        assert_eq!(both, [(2.into(), true.into(), serde_json::json!(["one", "two"]))], "{kind}");
        let last: Vec<_> = of(kind, "COPY y /z");
        assert_eq!(last, [(1.into(), false.into(), serde_json::json!(["two"]))], "{kind}");
        let base: Vec<_> = of(kind, "pulled from ");
        assert!(base.iter().all(|(builds, ..)| *builds == 2), "{kind}: {base:?}");
    }
    let table = bake.run(&["du", "--verbose"]).ok().stdout;
    assert!(table.lines().any(|line| line.contains("one, two") && line.ends_with("COPY x /")), "{table}");
}

#[test]
fn limits_of_room_are_kept_by_prune_and_by_every_run_that_writes() {
    let bake = project();
    build(&bake);
    let all = total(&bake, &[]);
    let snapshots = total(&bake, &["--filter=type=snapshot"]);
    assert!(snapshots > 0 && snapshots < all, "{snapshots} of {all}");
    assert_eq!(total(&bake, &["--filter=until=24h"]), 0);
    let table = bake.run(&["du", "--verbose"]).ok().stdout;
    assert!(table.contains("snapshot") && table.contains("yes"), "{table}");
    let line = table.lines().find(|line| line.ends_with(" RUN echo content > /made"));
    assert!(line.is_some_and(|line| line.contains(" made ")), "{table}");
    // What fits stays.
    bake.run(&["prune", "-f", "--max-used-space=1gb"]).ok();
    assert_eq!(total(&bake, &[]), all);
    bake.run(&["prune", "-f", "--max-used-space=1kb", "--keep-storage=1gb"]).ok();
    assert_eq!(total(&bake, &[]), all);
    let removed = bake.run(&["prune", "-f", "--max-used-space", &(all / 2).to_string(), "--verbose"]).ok();
    assert!(removed.stderr.contains("LAST USED") && removed.stderr.contains("removed"), "{removed:#?}");
    assert!(total(&bake, &[]) <= all / 2);
    build(&bake);
    // A run that writes keeps the limit; one that finds everything does not even look.
    let limited = |bytes: &str| bake.run_with("", &[&ARGS[..], &["made"]].concat(), &[("BAKE_MAX_USED_SPACE", bytes)]);
    let quiet = limited("1").ok();
    assert!(!quiet.stderr.contains("to keep its limits"), "{quiet:#?}");
    fs::remove_dir_all(bake.path("state")).expect("it is there");
    let ran = limited("1kb").ok();
    assert!(ran.stderr.contains("from the cache to keep its limits"), "{ran:#?}");
    assert!(total(&bake, &[]) <= 1024);
    assert_eq!(bake.read("out/made"), "content\n");
    let bad = limited("lots");
    assert!(bad.code == Some(2) && bad.stderr.contains("BAKE_MAX_USED_SPACE"), "{bad:#?}");
    assert_eq!(bake.run(&["prune", "-f", "--max-used-space=lots"]).code, Some(2));
}

#[test]
fn a_store_goes_to_another_machine_as_one_archive() {
    let bake = Bake::new();
    let layout = base_layout().display();
    bake.write("docker-bake.hcl", &format!(
        "target \"default\" {{\n  contexts = {{ base = \"oci-layout://{layout}\" }}\n  output = [\"type=oci,dest=out.tar\"]\n}}\n"
    ));
    bake.write("Dockerfile", "FROM base\nRUN mkdir /d && echo a > /d/a\nRUN rm -r /d && mkdir /d && echo b > /d/b\n");
    let run = |args: &[&str], home: &str| {
        let home = bake.path(home).display().to_string();
        bake.run_with("", args, &[("BAKE_HOME", &home), ("BUILDX_BAKE_ENTITLEMENTS_FS", "0")])
    };
    let image = || -> String {
        let metadata: serde_json::Value = serde_json::from_str(&bake.read("metadata.json")).expect("JSON");
        metadata["default"]["containerimage.digest"].as_str().expect("a digest").to_owned()
    };
    run(&["--progress=plain", "--metadata-file=metadata.json"], "first").ok();
    let first = image();
    let told = run(&["cache", "export", "store.bake"], "first").ok().stderr;
    assert!(told.contains(" snapshots, ") && told.contains("store.bake ("), "{told}");
    std::fs::remove_file(bake.path("out.tar")).expect("it is there");

    let told = run(&["cache", "import", "store.bake"], "second").ok().stderr;
    assert!(told.starts_with("added ") && !told.contains(" 0 snapshots"), "{told}");
    let built = run(&["--progress=plain", "--metadata-file=metadata.json"], "second").ok();
    assert!(!built.stderr.contains(" DONE "), "{built:#?}");
    assert_eq!(image(), first);
    run(&["cache", "verify"], "second").ok();
    assert!(
        run(&["cache", "import", "store.bake"], "second")
            .ok()
            .stderr
            .starts_with("added 0 blobs, 0 snapshots, 0 records")
    );

    // Through a pipe; what is no archive changes nothing.
    let bytes = std::fs::read(bake.path("store.bake")).expect("it is written");
    std::fs::write(bake.path("cut.bake"), &bytes[..bytes.len() / 3]).expect("writable");
    let cut = run(&["cache", "import", "cut.bake"], "third");
    assert!(cut.code == Some(1) && cut.stderr.contains("not all of it was added: cut.bake"), "{cut:?}");
    assert!(run(&["cache", "verify"], "third").ok().stderr.contains("all is as it should be"));
    let none = run(&["cache", "export", "x"], "never");
    assert!(none.code == Some(1) && none.stderr.contains("there is no state directory yet"), "{none:?}");
    assert!(!bake.path("x").exists());
}
