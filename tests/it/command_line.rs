//! `bake build`: a Dockerfile built from the command line, as `docker build` does it; and what a first word means that is
//! both a command and a target.

use std::{fs, io::Write as _, process::Stdio};

use crate::support::{Bake, base_layout, tar_entries};

/// A context `app` with two files and a Dockerfile that copies one of them.
fn app() -> Bake {
    let bake = Bake::new();
    bake.write("app/hello", "hi\n");
    bake.write("app/other", "no\n");
    bake.write(
        "app/Dockerfile",
        "FROM scratch AS first\nARG GREETING=hi\nLABEL greeting=$GREETING\nCOPY hello /\nFROM first\nCOPY other /\n",
    );
    bake
}

fn config(bake: &Bake, archive: &str) -> serde_json::Value {
    let entries = tar_entries(&bake.path(archive));
    let content = |name: &str| {
        let found = entries.iter().find(|(entry, _)| entry == name).unwrap_or_else(|| panic!("{archive} lacks {name}"));
        serde_json::from_slice::<serde_json::Value>(&found.1).expect("it is JSON")
    };
    let manifest = content("manifest.json");
    content(manifest[0]["Config"].as_str().expect("an image has a config"))
}

#[test]
fn options_of_docker_build_make_one_target() {
    let bake = app();
    let args = [
        "build",
        "-t",
        "reg/app:1",
        "--target",
        "first",
        "--build-arg",
        "GREETING=hello",
        "--label",
        "a=b=c",
        "-o",
        "type=docker,dest=out/image.tar",
        "-o",
        "type=local,dest=out/files",
        "--metadata-file",
        "out.json",
        "--iidfile",
        "id",
        "--progress=plain",
        "app",
    ];
    bake.run(&args).ok();
    assert_eq!(bake.read("out/files/hello"), "hi\n");
    assert!(!bake.path("out/files/other").exists(), "the stage is `first`");
    let config = config(&bake, "out/image.tar");
    assert_eq!(config["config"]["Labels"], serde_json::json!({"greeting": "hello", "a": "b=c"}));
    let metadata: serde_json::Value = serde_json::from_str(&bake.read("out.json")).expect("it is JSON");
    assert_eq!(metadata["image.name"], "docker.io/reg/app:1");
    assert_eq!(metadata["containerimage.config.digest"].as_str(), Some(bake.read("id").as_str()));
    let second = bake.run(&args).ok();
    assert!(second.stderr.contains("nothing to do"), "{second:?}");
}

#[test]
fn the_context_is_the_working_directory_if_none_is_given() {
    let bake = app();
    bake.run_in("app", &["build", "-o", "../out"]).ok();
    assert_eq!((bake.read("out/hello"), bake.read("out/other")), ("hi\n".to_owned(), "no\n".to_owned()));
}

#[test]
fn the_dockerfile_is_relative_to_the_working_directory() {
    let bake = app();
    bake.write("docker/Dockerfile.web", "FROM scratch\nCOPY hello /web\n");
    bake.run(&["build", "-f", "docker/Dockerfile.web", "-o", "out", "app"]).ok();
    assert_eq!(bake.read("out/web"), "hi\n");
}

#[test]
fn standard_input_is_a_dockerfile_or_an_archive() {
    let bake = app();
    let text = "FROM scratch\nCOPY --from=files hello /from-stdin\n";
    bake.run_reading("", &["build", "-", "--build-context", "files=app", "-o", "one"], text).ok();
    assert_eq!(bake.read("one/from-stdin"), "hi\n");
    bake.run_reading("", &["build", "-f", "-", "-o", "two", "app"], "FROM scratch\nCOPY other /\n").ok();
    assert_eq!(bake.read("two/other"), "no\n");

    let mut archive = tar::Builder::new(Vec::new());
    archive.append_dir_all(".", bake.path("app")).expect("folders can be packed");
    let archive = archive.into_inner().expect("memory does not end");
    let run = |args: &[&str]| {
        let mut child = bake
            .command("", args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        child.stdin.take().expect("it is piped").write_all(&archive).expect("it is read");
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    run(&["build", "-o", "three", "-"]);
    assert_eq!(bake.read("three/hello"), "hi\n");
    let again = run(&["build", "--progress=plain", "-o", "three", "-"]);
    assert!(again.contains("nothing to do"), "the same archive is known: {again}");

    let twice = bake.run_reading("", &["build", "-f", "-", "-"], "FROM scratch\n");
    assert!(twice.code == Some(2) && twice.stderr.contains("can't use stdin for both"), "{twice:?}");
    let empty = bake.run(&["build", "-"]);
    assert!(empty.code == Some(1) && empty.stderr.contains("standard input is empty"), "{empty:?}");
}

#[test]
fn a_name_that_was_built_is_exported_without_a_dockerfile() {
    let bake = app();
    bake.run(&["build", "-t", "my-app", "app"]).ok();
    fs::remove_dir_all(bake.path("app")).expect("it is there");
    let first = bake.run(&["build", "--output", "type=tar,dest=app.tar", "--progress=plain", "my-app"]).ok();
    assert!(!first.stderr.contains("COPY"), "nothing is built: {first:?}");
    let names: Vec<String> = tar_entries(&bake.path("app.tar")).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["hello", "other"]);
    bake.run(&["build", "-o", "type=docker,dest=image.tar", "docker.io/library/my-app:latest"]).ok();
    assert_eq!(config(&bake, "image.tar")["config"]["Labels"]["greeting"], "hi");
    let told = bake.run(&["build", "--build-arg", "A=1", "-o", "out", "my-app"]).ok();
    assert!(told.stderr.contains("`--build-arg` has no effect"), "{told:?}");
    let unknown = bake.run(&["build", "-o", "out", "my-ap"]);
    assert!(unknown.code == Some(1) && unknown.stderr.contains("path \"my-ap\" not found"), "{unknown:?}");
}

#[test]
fn a_name_stands_for_what_was_built_last() {
    let bake = app();
    bake.run(&["build", "-t", "my-app", "app"]).ok();
    bake.write("app/hello", "changed\n");
    bake.run(&["build", "-t", "my-app:latest", "--platform", "linux/arm64", "app"]).ok();
    bake.run(&["build", "-o", "out", "my-app"]).ok();
    assert_eq!(bake.read("out/hello"), "changed\n");
    let other = bake.run(&["build", "-o", "out", "--platform", "linux/s390x", "my-app"]);
    assert!(other.code == Some(1) && other.stderr.contains("linux/arm64"), "{other:?}");
}

#[test]
fn quiet_prints_the_id_and_nothing_else() {
    let bake = app();
    let ran = bake.run(&["build", "-q", "app"]).ok();
    assert!(ran.stdout.starts_with("sha256:") && ran.stdout.len() == 72, "{ran:?}");
    assert_eq!(ran.stderr, "");
}

#[test]
fn faults_point_into_the_argument() {
    let bake = app();
    for (args, code, wanted) in [
        (["-o", "type=ocii,dest=x"], 1, ["did you mean `oci`", "[--output:1:1]"]),
        (["--secret", "id=a,sorce=b"], 1, ["did you mean `source`", "[--secret:1:"]),
        (["--cache-to", "type=local,mod=max,dest=x"], 1, ["did you mean `mode`", "[--cache-to:1:"]),
        (["--platform", "linux/amd65/x/y"], 1, ["linux/amd65/x/y", "[--platform:1:1]"]),
        (["--add-host", "nothing"], 2, ["NAME:ADDRESS", "nothing"]),
        (["--network", "hst"], 1, ["did you mean `host`", "[--network:1:1]"]),
    ] {
        let ran = bake.run(&[&["build"], args.as_slice(), &["app"]].concat());
        assert_eq!(ran.code, Some(code), "{ran:?}");
        assert!(wanted.iter().all(|word| ran.stderr.contains(word)), "{args:?}: {ran:#?}");
    }
}

#[test]
fn flags_without_a_meaning_here_are_told() {
    let bake = app();
    let ran = bake.run(&["build", "--squash", "--cgroup-parent=x", "--rm", "-o", "out", "app"]).ok();
    for flag in ["--squash", "--cgroup-parent", "--rm"] {
        assert!(ran.stderr.contains(&format!("`{flag}` has no effect")), "{ran:?}");
    }
}

#[test]
fn what_the_command_line_names_is_granted() {
    let bake = Bake::new();
    bake.write("outside/token", "secret\n");
    bake.write("outside/more/file", "more\n");
    bake.write(
        "work/Dockerfile",
        "FROM base\nCOPY --from=more file /\nRUN --mount=type=secret,id=t cat /run/secrets/t > /t\n",
    );
    let base = format!("base=oci-layout://{}", base_layout().display());
    let args = [
        "build",
        "--build-context",
        &base,
        "--build-context",
        "more=../outside/more",
        "--secret",
        "id=t,src=../outside/token",
        "-o",
        "type=local,dest=../out",
        ".",
    ];
    bake.run_in("work", &args).ok();
    assert_eq!(bake.read("out/t"), "secret\n");

    // `mode=delete` asks outside of the working directory, as with the peer.
    let delete = |dest: &str, more: &[&str]| {
        let output = format!("type=local,mode=delete,dest={dest}");
        bake.run_in(
            "work",
            &[
                &[
                    "build",
                    "--build-context",
                    &base,
                    "--build-context",
                    "more=../outside/more",
                    "--secret",
                    "id=t,src=../outside/token",
                    "-o",
                    &output,
                ],
                more,
                &["."],
            ]
            .concat(),
        )
    };
    let refused = delete("../out", &[]);
    assert!(refused.code == Some(1) && refused.stderr.contains("--allow=buildx.local.delete"), "{refused:?}");
    delete("../out", &["--allow", "buildx.local.delete"]).ok();
    delete("below", &[]).ok();

    // Nobody named where this link leads.
    bake.write("linked/x", "");
    std::os::unix::fs::symlink(bake.path("outside/token"), bake.path("linked/Dockerfile")).expect("links can be made");
    let linked = bake.run(&["build", "-o", "out", "linked"]);
    let above = bake.run_in("work", &["build", "-o", "out", "../linked"]);
    assert!(above.code == Some(1) && above.stderr.contains("--allow=fs.read="), "{above:?}");
    assert_eq!(linked.code, Some(1));
}

#[test]
fn the_build_is_printed_as_a_bake_file() {
    let bake = app();
    let args = [
        "-t",
        "x:1",
        "--build-arg",
        "GREETING=${y}",
        "--platform",
        "linux/amd64,linux/arm64",
        "-o",
        "type=oci,dest=x.tar",
    ];
    let print = |format: &str| bake.run(&[&["build", format], args.as_slice(), &["app"]].concat()).ok().stdout;
    let json = print("--print");
    for (format, name) in [("--print=json", "kept.json"), ("--print=hcl", "kept.hcl"), ("--print=yaml", "kept.yaml")] {
        bake.write(name, &print(format));
        assert_eq!(bake.run(&["-f", name, "--print"]).ok().stdout, json, "{name}");
    }
    let hcl = bake.read("kept.hcl");
    assert!(hcl.contains("GREETING = \"$${y}\"") && !hcl.contains("group"), "{hcl}");
    let inline = bake.run_reading("", &["build", "--print=hcl", "-"], "FROM scratch\nENV A=\"\\b\" B=${C}\n").ok();
    bake.write("inline.hcl", &inline.stdout);
    assert!(inline.stdout.contains("<<EOT\nFROM scratch\n"), "{inline:?}");
    let back: serde_json::Value =
        serde_json::from_str(&bake.run(&["-f", "inline.hcl", "--print"]).ok().stdout).expect("it is JSON");
    assert_eq!(back["target"]["default"]["dockerfile-inline"], "FROM scratch\nENV A=\"\\b\" B=$${C}\n");
}

#[test]
fn questions_about_the_dockerfile_are_answered_alone() {
    let bake = app();
    let outline = bake.run(&["build", "--call=outline,format=json", "app"]).ok();
    let answer: serde_json::Value = serde_json::from_str(&outline.stdout).expect("it is JSON");
    assert_eq!(answer["args"][0]["name"], "GREETING");
    bake.write("app/Dockerfile", "from scratch\nCOPY hello /\nENV a b\n");
    let check = bake.run(&["build", "--check", "app"]);
    assert!(check.code == Some(1) && check.stdout.contains("LegacyKeyValueFormat"), "{check:?}");
}

/// Every command: its name with a definition that has a target of this name, and with something that only the command has.
#[test]
fn a_word_is_a_target_if_the_definition_has_it_and_a_command_with_what_only_that_has() {
    let bake = app();
    for (word, command) in [
        ("build", &["build", "--print", "app"][..]),
        ("convert", &["convert", "script.sh"]),
        ("plan", &["plan", "--format=json"]),
        ("explain", &["explain", "--json"]),
        ("log", &["log", "--help"]),
        ("debug", &["debug", "--help"]),
        ("check", &["check", "--format=json"]),
        ("fmt", &["fmt", "--check", "docker-bake.hcl"]),
        ("du", &["du", "--format=json"]),
        ("prune", &["prune", "--older-than=7d", "--force"]),
        ("cache", &["cache", "verify"]),
        ("completions", &["completions", "bash"]),
        ("version", &["version", "--help"]),
        ("help", &["help", "plan"]),
    ] {
        bake.write("script.sh", "docker build .\n");
        bake.write(
            "docker-bake.hcl",
            &format!(
                "target \"{word}\" {{\n  context = \"app\"\n  output  = [\"type=local,dest=out-{word}\"]\n}}\n\
                 target \"also\" {{\n  context = \"app\"\n  output  = [\"type=local,dest=also-{word}\"]\n}}\n\
                 group \"default\" {{\n  targets = [\"also\"]\n}}\n"
            ),
        );
        let alone = bake.run(&[word]).ok();
        assert_eq!(bake.read(&format!("out-{word}/hello")), "hi\n");
        assert_eq!(alone.stderr.matches("is a target of this definition").count(), 1, "{alone:?}");
        bake.run(&[word, "also"]).ok();
        assert_eq!(bake.read(&format!("also-{word}/hello")), "hi\n");
        let command = bake.run(command).ok();
        assert!(!command.stderr.contains("is a target of this definition"), "{word}: {command:?}");
        fs::remove_file(bake.path("docker-bake.hcl")).expect("it is there");
        let without = bake.run(&[word]);
        assert!(!without.stderr.contains("is a target of this definition"), "{word}: {without:?}");
    }
}

#[test]
fn a_path_a_url_and_a_dash_mean_the_command() {
    let bake = app();
    bake.write("docker-bake.hcl", "target \"build\" {}\ntarget \"web\" {}\n");
    for args in [["build", "app"], ["build", "./app"], ["build", "-"], ["build", "https://example.invalid/x.git"]] {
        let ran = bake.run_reading("", &[args[0], "--print", args[1]], "FROM scratch\n").ok();
        assert!(ran.stdout.contains("\"default\"") && !ran.stderr.contains("is a target"), "{args:?}: {ran:?}");
    }
    let targets = bake.run(&["build", "--print", "web", "!web"]).ok();
    assert!(targets.stderr.contains("`build` is a target of this definition"), "{targets:?}");
}

#[test]
fn the_metadata_file_has_a_reference_the_named_builder_and_what_checks_found() {
    let bake = Bake::new();
    bake.write("Dockerfile", "FROM scratch as first\nCOPY Dockerfile /\n");
    let metadata = |args: &[&str], env: &[(&str, &str)]| -> serde_json::Value {
        bake.run_with("", &[args, &["--metadata-file=m.json"]].concat(), env).ok();
        serde_json::from_str(&bake.read("m.json")).expect("it is JSON")
    };
    let named = [
        "build",
        "--attest=type=provenance,mode=max,builder-id=https://ci.example/7",
        "-o",
        "type=oci,dest=a.tar",
        "-t",
        "app",
        ".",
    ];
    let first = metadata(&named, &[("BUILDX_METADATA_WARNINGS", "1")]);
    assert_eq!(first["buildx.build.provenance"]["builder"]["id"], "https://ci.example/7");
    assert_eq!(first["image.name"], "docker.io/library/app:latest");
    let warnings = first["buildx.build.warnings"].as_array().expect("there are warnings");
    let text = |value: &serde_json::Value| {
        use base64::Engine as _;
        let bytes = base64::engine::general_purpose::STANDARD.decode(value.as_str().expect("text")).expect("base64");
        String::from_utf8(bytes).expect("text")
    };
    assert_eq!(warnings.len(), 1, "{first}");
    let short = text(&warnings[0]["short"]);
    assert!(short.starts_with("FromAsCasing: ") && short.ends_with(" (line 1)"), "{short}");
    assert_eq!(text(&warnings[0]["sourceInfo"]["data"]), bake.read("Dockerfile"));
    assert_eq!((&warnings[0]["range"][0]["start"]["line"], &warnings[0]["level"]), (&1.into(), &1.into()));
    let by_option = metadata(&["build", "-o", "type=oci,dest=a.tar,tag=app", "."], &[]);
    assert_eq!(by_option["image.name"], first["image.name"]);
    assert!(by_option["buildx.build.warnings"].is_null(), "nobody asked for them");
    let reference = |it: &serde_json::Value| it["buildx.build.ref"].as_str().map(str::to_owned).expect("a reference");
    assert!(reference(&first) != reference(&by_option) && reference(&first).starts_with("default/default/"));
    bake.write("docker-bake.hcl", "target \"default\" {\n  output = [\"type=cacheonly\"]\n}\n");
    let baked = metadata(&[], &[("BUILDX_METADATA_WARNINGS", "true")]);
    assert_eq!(baked["buildx.build.warnings"].as_array().map(Vec::len), Some(1));
    assert!(baked["default"]["buildx.build.ref"].is_string(), "{baked}");
}
