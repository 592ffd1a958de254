//! No option is passed over in silence: each changes the result, is refused, or is told to have no effect.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use crate::{
    small_registry::SmallRegistry,
    support::{Bake, GitServer, Ran, base_layout, git},
};

/// A definition of one target whose result is small.
fn target(bake: &Bake, lines: &str) {
    bake.write("docker-bake.hcl", &format!("target \"default\" {{\n  {lines}\n}}\n"));
}

#[track_caller]
fn refused(ran: &Ran, words: &str) {
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    assert!(ran.stderr.contains(words), "wanted {words}: {ran:#?}");
}

#[track_caller]
fn told(ran: &Ran, words: &str) {
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert!(ran.stderr.contains(words), "wanted {words}: {ran:#?}");
}

#[track_caller]
fn silent(ran: &Ran) {
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert!(!ran.stderr.contains("warning"), "{ran:#?}");
}

const CANNOT_JUDGE: &str = "a policy is to be kept, which this engine cannot judge and does not build past";

#[test]
fn no_build_goes_past_a_policy() {
    let bake = Bake::new();
    bake.write("Dockerfile", "FROM scratch\nCOPY <<EOF /file\ntext\nEOF\n");
    target(&bake, "policy = [{ filename = \"sources.rego\" }]\n  output = [\"type=local,dest=out\"]");
    refused(&bake.run(&[]), &format!("{CANNOT_JUDGE}: sources.rego"));
    refused(&bake.run_with("", &["build", "--policy", "filename=sources.rego", "."], &[]), CANNOT_JUDGE);
    assert!(!bake.path("out").exists());
    // It is shown all the same.
    assert_eq!(bake.run(&["--print"]).code, Some(0));
    silent(&bake.run(&["--policy", "disabled=true"]));
    fs::remove_dir_all(bake.path("out")).expect("it was written");

    target(&bake, "policy = [\"filename=a.rego\", \"reset=true\"]\n  output = [\"type=local,dest=out\"]");
    bake.write("Dockerfile.rego", "package docker\n");
    silent(&bake.run(&[]));
    target(&bake, "output = [\"type=local,dest=out\"]");
    refused(&bake.run(&[]), &format!("{CANNOT_JUDGE}: Dockerfile.rego"));
    refused(&bake.run(&["build", "."]), &format!("{CANNOT_JUDGE}: Dockerfile.rego"));
    fs::remove_file(bake.path("Dockerfile.rego")).expect("it is there");
    fs::rename(bake.path("Dockerfile"), bake.path("dockerfile")).expect("it is there");
    bake.write("dockerfile.rego", "package docker\n");
    refused(&bake.run(&[]), &format!("{CANNOT_JUDGE}: dockerfile.rego"));
    silent(&bake.run(&["--policy", "disabled=true"]));
    fs::remove_file(bake.path("dockerfile.rego")).expect("it is there");
    silent(&bake.run(&[]));

    for name in ["EXPERIMENTAL_BUILDKIT_SOURCE_POLICY", "BUILDX_DEFAULT_POLICY"] {
        refused(&bake.run_with("", &[], &[(name, "1")]), &format!("of the environment variable {name}"));
    }
    silent(&bake.run_with("", &["--policy", "disabled=true"], &[("BUILDX_DEFAULT_POLICY", "1")]));
}

#[test]
fn a_policy_in_a_repository_counts_too() {
    let bake = Bake::new();
    bake.write("repo/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    bake.write("repo/Dockerfile.rego", "package docker\n");
    let server = GitServer::new(&bake, "repo");
    refused(&bake.run(&["build", &server.url()]), &format!("{CANNOT_JUDGE}: Dockerfile.rego"));
    told(&bake.run(&["build", "--policy=disabled=true", "-o", "out", &server.url()]), "");
}

/// Seconds since 1970 of a file that was exported.
fn time(bake: &Bake, name: &str) -> i64 {
    fs::metadata(bake.path(name)).unwrap_or_else(|e| panic!("{name}: {e}")).mtime()
}

/// A server of one file, with or without `Last-Modified`.
fn http(body: Vec<u8>, modified: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(stream.try_clone().expect("open"));
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|n| n > 2) {}
            let length = body.len();
            let head = format!("HTTP/1.1 200 OK\r\n{modified}Content-Length: {length}\r\nConnection: close\r\n\r\n");
            (&stream).write_all(&[head.as_bytes(), &body].concat()).ok();
        }
    });
    format!("http://{address}/file")
}

const EPOCH: &str = "1234567890";
const MODIFIED: &str = "Last-Modified: Fri, 13 Feb 2009 23:31:30 GMT\r\n";

#[test]
fn source_date_epoch_is_the_time_of_what_it_names() {
    let bake = Bake::new();
    bake.write("repo/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    let server = GitServer::new(&bake, "repo");
    git(
        &bake,
        "repo",
        &["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-q", "--allow-empty", "-m", "d", "--date=@1"],
    );
    let committed: i64 = {
        let shown = std::process::Command::new("git")
            .args(["log", "-1", "--format=%ct"])
            .current_dir(bake.path("repo"))
            .output();
        String::from_utf8_lossy(&shown.expect("git is installed").stdout).trim().parse().expect("a number")
    };
    bake.write("Dockerfile", "FROM scratch\nCOPY <<EOF /file\ntext\nEOF\n");

    // The commit of the main context.
    let args = ["build", "--build-arg", "SOURCE_DATE_EPOCH=context", "-o", "main", &server.url()];
    silent(&bake.run(&args));
    assert_eq!(time(&bake, "main/Dockerfile"), committed);

    // That of a named context.
    let named = format!("--build-context=src={}", server.url());
    silent(&bake.run(&["build", "--build-arg=SOURCE_DATE_EPOCH=src", &named, "-o", "named", "."]));
    assert_eq!(time(&bake, "named/file"), committed);

    // A download: what the server says, else its newest file.
    let told_by_server = format!("--build-context=src={}", http(b"text".to_vec(), MODIFIED));
    silent(&bake.run(&["build", "--build-arg=SOURCE_DATE_EPOCH=src", &told_by_server, "-o", "told", "."]));
    assert_eq!(time(&bake, "told/file").to_string(), EPOCH);
    let mut archive = tar::Builder::new(Vec::new());
    for (name, mtime) in [("a", 7), ("b/c", 1_234_567_890), ("d", 5)] {
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        header.set_mode(0o644);
        header.set_mtime(mtime);
        archive.append_data(&mut header, name, &[][..]).expect("in memory");
    }
    let url = http(archive.into_inner().expect("in memory"), "");
    silent(&bake.run(&[
        "build",
        "--build-arg=SOURCE_DATE_EPOCH=src",
        &format!("--build-context=src={url}"),
        "-o",
        "newest",
        ".",
    ]));
    assert_eq!(time(&bake, "newest/file").to_string(), EPOCH);

    // A stage that adds one.
    let url = http(b"text".to_vec(), MODIFIED);
    let stages = format!(
        "ARG SOURCE_DATE_EPOCH=Src\nFROM scratch AS src\nARG URL={url}\nADD ${{URL}} /\nFROM scratch\nCOPY <<EOF /file\ntext\nEOF\n"
    );
    bake.write("staged/Dockerfile", &stages);
    silent(&bake.run(&["build", "-o", "stage", "staged"]));
    assert_eq!(time(&bake, "stage/file").to_string(), EPOCH);
    bake.write("twice/Dockerfile", &stages.replace("ADD", "COPY Dockerfile /\nADD"));
    refused(
        &bake.run(&["build", "-o", "stage", "twice"]),
        "SOURCE_DATE_EPOCH names a stage that is not one source: Src",
    );

    // A folder has no time, and that is told.
    let ran = bake.run(&["build", "--build-arg=SOURCE_DATE_EPOCH=context", "-o", "folder", "."]);
    told(&ran, "SOURCE_DATE_EPOCH has no effect, because what it names has no time: context");
    refused(&bake.run(&["build", "--build-arg=SOURCE_DATE_EPOCH=now", "."]), "invalid SOURCE_DATE_EPOCH");
}

#[test]
fn one_platform_can_be_one_of_several() {
    let bake = Bake::new();
    bake.write("Dockerfile", "FROM scratch\nCOPY <<EOF /file\ntext\nEOF\n");
    let several = "args = { BUILDKIT_MULTI_PLATFORM = \"1\" }\n  platforms = [\"linux/arm64\"]";
    target(&bake, &format!("{several}\n  output = [\"type=local,dest=out\", \"type=oci,tar=false,dest=layout\"]"));
    silent(&bake.run(&[]));
    assert_eq!(bake.read("out/linux_arm64/file"), "text\n");
    assert!(
        bake.read("layout/index.json").contains("\"mediaType\":\"application/vnd.oci.image.index.v1+json\",\"digest\"")
    );
    target(&bake, &format!("{several}\n  output = [\"type=docker,dest=image.tar\"]"));
    refused(&bake.run(&[]), "a docker archive cannot hold several platforms");
    target(&bake, "args = { BUILDKIT_MULTI_PLATFORM = \"perhaps\" }");
    refused(&bake.run(&[]), "not a boolean: perhaps");
    target(&bake, "args = { BUILDKIT_MULTI_PLATFORM = \"0\" }\n  platforms = [\"linux/amd64\", \"linux/arm64\"]");
    refused(&bake.run(&[]), "a result of several platforms is one of several platforms: 0");
}

#[test]
fn a_stage_that_is_not_there_is_told() {
    let bake = Bake::new();
    bake.write("Dockerfile", "FROM scratch AS build\nCOPY Dockerfile /\nFROM scratch\nCOPY --from=build / /\n");
    target(&bake, "no-cache-filter = [\"biuld\", \"BUILD,stage-1\"]");
    let ran = bake.run(&[]);
    told(&ran, "no stage of the Dockerfile has the name in `no-cache-filter`: biuld");
    assert!(ran.stderr.contains("did you mean `build`?"), "{ran:#?}");
    assert_eq!(ran.stderr.matches("no stage of the Dockerfile").count(), 1, "{ran:#?}");
    assert!(bake.run(&["check"]).stderr.contains("no stage of the Dockerfile"), "{ran:#?}");
    assert!(!bake.run(&["--set", "default.no-cache-filter=build"]).stderr.contains("no stage"));
}

#[test]
fn options_of_an_image_store_are_told_when_they_ask_for_something() {
    let bake = Bake::new();
    bake.write("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    for option in
        ["unpack=true", "store=true", "name-canonical=true", "danging-name-empty-only=true", "dangling-name-prefix=x"]
    {
        target(&bake, &format!("output = [\"type=image,name=a,{option}\"]"));
        let name = option.split('=').next().expect("a name");
        told(&bake.run(&[]), &format!("`{name}` has no effect: there is no image store of a container engine here"));
    }
    target(
        &bake,
        "output = [\"type=image,name=a,unpack=false,store=false,name-canonical=false,dangling-name-prefix=\"]",
    );
    silent(&bake.run(&[]));
}

#[test]
fn devices_are_told_not_to_be_there() {
    let bake = Bake::new();
    bake.write("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    target(&bake, "entitlements = [\"device=vendor.example/gpu=0\"]");
    let ran = bake.run(&["--allow", "device"]);
    told(&ran, "`entitlements[0]` of target `default`: no step can use a device here: device=vendor.example/gpu=0");
    assert!(ran.stderr.contains("`--allow device` has no effect"), "{ran:#?}");
    bake.write("Dockerfile", "FROM scratch\nRUN --device=vendor.example/gpu true\n");
    target(&bake, "");
    let ran = bake.run(&[]);
    refused(&ran, "unknown flag: --device");
    assert!(ran.stderr.contains("devices of the machine are not handed to steps"), "{ran:#?}");
}

#[test]
fn limits_that_do_not_hold_are_told() {
    let bake = Bake::new();
    bake.write("Dockerfile", "FROM base\nRUN echo a > /a\nRUN echo b > /b\n");
    let base = base_layout().display();
    target(
        &bake,
        &format!(
            "contexts = {{ base = \"oci-layout://{base}\" }}\n  resources = {{ memory = \"64m\", cpu-shares = 512 }}"
        ),
    );
    let grants = ["--allow", &format!("fs.read={base}"), "--progress=plain"];
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() || Path::new("/sys/fs/cgroup/memory").exists() {
        silent(&bake.run(&grants));
    }
    // The same where no control group can be made.
    let inner = bake.command("", &grants);
    let mut command = std::process::Command::new("unshare");
    command.args(["-m", "sh", "-c", "mount -t tmpfs -o ro none /sys/fs/cgroup && exec \"$@\"", "sh"]);
    command
        .arg(inner.get_program())
        .args(inner.get_args())
        .args(["--no-cache", "--max-memory=1g"])
        .current_dir(bake.dir.path());
    command.env("HOME", bake.path("home")).env("BAKE_HOME", bake.path("state")).env("NO_COLOR", "1");
    let output = command.output().expect("unshare is there");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    for limit in ["memory", "cpu-shares", "--max-memory"] {
        let words = format!("steps run without a limit that is asked for: {limit}");
        assert_eq!(stderr.matches(&words).count(), 1, "{stderr}");
    }
}

#[test]
fn the_memory_of_all_steps_together_is_limited() {
    let bake = Bake::new();
    // Two together have more than the limit, one has less.
    let step = "dd if=/dev/zero of=/dev/null bs=100M count=1 && echo enough";
    let long = "dd if=/dev/zero of=/dev/null bs=100M count=30";
    bake.write("Dockerfile", &format!("FROM base AS one\nRUN {step}\nFROM base AS two\nRUN {long} | ({long}; cat)\n"));
    let base = base_layout().display();
    let contexts = format!("contexts = {{ base = \"oci-layout://{base}\" }}");
    let one = |name: &str| {
        format!("target \"{name}\" {{\n  target = \"{name}\"\n  {contexts}\n  output = [\"type=cacheonly\"]\n}}\n")
    };
    bake.write("docker-bake.hcl", &(one("one") + &one("two")));
    let run = |name: &str, limit: &str| {
        let grants = format!("--allow=fs.read={base}");
        bake.run(&[&grants, "--progress=plain", "--no-cache", "--max-memory", limit, name])
    };
    let fits = run("one", "160m").ok();
    if fits.stderr.contains("steps run without a limit") {
        crate::support::skipped("needs control groups that limit memory", None);
        return;
    }
    let failed = run("one", "50m");
    assert_eq!(failed.code, Some(1), "{failed:#?}");
    assert!(failed.stderr.contains("because memory ran out"), "{failed:#?}");
    assert!(failed.stderr.contains("`--max-memory` leaves 52428800 bytes to all steps together"), "{failed:#?}");
    // The limit is that of all processes of the run.
    let both = run("two", "160m");
    assert!(both.stderr.matches("Killed").count() >= 1, "{both:#?}");
    assert!(!run("two", "400m").stderr.contains("Killed"));
    assert_eq!(run("one", "much").code, Some(2));
}

/// Which is all that `pull` asks for.
#[test]
fn a_tag_is_looked_up_in_every_run_whatever_pull_says() {
    let bake = Bake::new();
    let registry = SmallRegistry::start();
    let name = format!("{}/base:1", registry.address);
    let push = |text: &str| {
        bake.write("base/Dockerfile", &format!("FROM scratch\nCOPY <<EOF /file\n{text}\nEOF\n"));
        bake.run(&["build", "--push", "-t", &name, "base"]).ok();
    };
    bake.write("app/Dockerfile", &format!("FROM {name}\nCOPY Dockerfile /\n"));
    for (text, pull) in [("first", "--pull=true"), ("second", "--pull=false"), ("third", "--pull=true")] {
        push(text);
        for _ in 0..2 {
            registry.refuse_after(None);
            bake.run(&["build", pull, "-o", "out", "app"]).ok();
            assert_eq!(bake.read("out/file"), format!("{text}\n"));
            let asked = registry.log().iter().filter(|it| *it == "HEAD /v2/base/manifests/1").count();
            assert_eq!(asked, 1, "{:?}", registry.log());
        }
    }
}

#[test]
fn what_has_no_effect_is_told_by_name() {
    let bake = Bake::new();
    bake.write("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    let cases = [
        ("cache-to = [\"type=inline,mode=max\"]", "`mode=max` has no effect with type=inline"),
        (
            "args = { BUILDKIT_BUILD_NAME = \"x\" }",
            "build argument has no effect in this engine, and no ARG declares it: BUILDKIT_BUILD_NAME",
        ),
        ("args = { BUILDKIT_ATTEST_SBOM = \"\" }", "no ARG declares it: BUILDKIT_ATTEST_SBOM"),
        ("cache-from = [\"type=gha,repository=o/r\"]", "`repository` has no effect: the cache service itself is asked"),
    ];
    for (line, words) in cases {
        target(&bake, line);
        told(&bake.run(&[]), words);
    }
    target(&bake, "cache-to = [\"type=local,dest=c,reset=false\"]\n  args = { BUILDKIT_INLINE_CACHE = \"t\" }");
    silent(&bake.run(&[]));
}

#[test]
fn an_output_that_keeps_a_target_from_being_loaded_or_pushed_is_told() {
    let bake = Bake::new();
    bake.write("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    target(&bake, "output = [\"type=local,dest=out\"]");
    told(&bake.run(&["--load"]), "`load` has no effect on target `default`, whose output is of type: local");
    told(&bake.run(&["--push"]), "`push` has no effect on target `default`, whose output is of type: local");
    target(&bake, "output = [\"type=cacheonly\"]");
    silent(&bake.run(&["--push", "--load"]));
    target(&bake, "output = [\"type=local,dest=out\"]");
    silent(&bake.run(&["--load=false"]));
}

#[test]
fn output_of_steps_is_limited_as_the_variables_say_and_the_cut_is_told_once() {
    let bake = Bake::new();
    bake.write("Dockerfile", "FROM base\nARG N\nRUN for i in $(seq 1 2000); do echo line $i of $N; done\n");
    let base = base_layout().display();
    let text = format!(
        "target \"default\" {{\n  contexts = {{ base = \"oci-layout://{base}\" }}\n  output = [\"type=cacheonly\"]\n}}\n"
    );
    bake.write("docker-bake.hcl", &text);
    let run = |n: &str, env: &[(&str, &str)]| {
        let set = format!("--set=*.args.N={n}");
        bake.run_with("", &["--progress=plain", "--allow=fs=*", &set], env)
    };
    let cut = run("a", &[("BUILDKIT_STEP_LOG_MAX_SIZE", "4k")]).ok();
    let note = "[more than 4 KiB of output: the rest is not shown; BUILDKIT_STEP_LOG_MAX_SIZE=-1 shows all, `bake log` has it]";
    assert_eq!(cut.stderr.matches(note).count(), 1, "{}", cut.stderr);
    assert!(cut.stderr.contains("line 100 of a\n") && !cut.stderr.contains("line 1000 of a\n"), "{}", cut.stderr);
    let whole = run("b", &[("BUILDKIT_STEP_LOG_MAX_SIZE", "-1"), ("BUILDKIT_STEP_LOG_MAX_SPEED", "-1")]).ok();
    assert!(whole.stderr.contains("line 2000 of b\n"), "{}", whole.stderr);
    let slow = run("c", &[("BUILDKIT_STEP_LOG_MAX_SPEED", "1000")]).ok();
    assert_eq!(slow.stderr.matches("[more than 1000 bytes a second of output").count(), 1, "{}", slow.stderr);
    let bad = run("d", &[("BUILDKIT_STEP_LOG_MAX_SIZE", "much")]);
    assert_eq!(bad.code, Some(2), "{bad:#?}");
    assert!(bad.stderr.contains("`BUILDKIT_STEP_LOG_MAX_SIZE` is not a size: much"), "{bad:#?}");
}
