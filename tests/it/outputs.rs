//! The options of outputs, each tried on what it writes.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    process::Command,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use crate::support::{Bake, Ran, base_layout, tar_entries};

/// A folder with a Dockerfile and with one target, which has the base layout as its context `base`.
fn project(bake: &Bake, folder: &str, dockerfile: &str, lines: &str) {
    bake.write(&format!("{folder}/Dockerfile"), dockerfile);
    let layout = base_layout().display();
    let target = format!("target \"app\" {{\n  contexts = {{ base = \"oci-layout://{layout}\" }}\n{lines}\n}}\n");
    bake.write(&format!("{folder}/docker-bake.hcl"), &target);
}

#[must_use]
fn run(bake: &Bake, folder: &str, args: &[&str]) -> Ran {
    bake.run_in(folder, &[&["--progress=plain", "--allow", "fs.read=*", "app"], args].concat())
}

fn names(bake: &Bake, path: &str) -> Vec<String> {
    tar_entries(&bake.path(path)).into_iter().map(|(name, _)| name).collect()
}

const TWO_STAGES: &str = "FROM base AS builder\nRUN mkdir /app && echo one > /app/all.txt\n\
                          FROM scratch\nCOPY --from=builder /app/all.txt /\n";

#[test]
fn source_exports_another_stage_with_every_exporter() {
    let bake = Bake::new();
    let outputs = "  output = [
    \"type=tar,dest=result.tar\", \"type=tar,dest=builder.tar,source=builder\", \"type=local,dest=folder,source=Builder\",
    \"type=oci,dest=builder.oci.tar,source=builder\", \"type=docker,dest=builder.docker.tar,source=builder,name=b\",
  ]";
    project(&bake, "p", TWO_STAGES, outputs);
    let ran = run(&bake, "p", &[]).ok();
    assert_eq!(names(&bake, "p/result.tar"), ["all.txt"]);
    let builder = names(&bake, "p/builder.tar");
    assert!(builder.contains(&"app/all.txt".to_owned()) && builder.contains(&"bin/busybox".to_owned()), "{builder:?}");
    assert_eq!(bake.read("p/folder/app/all.txt"), "one\n");
    for archive in ["p/builder.oci.tar", "p/builder.docker.tar"] {
        assert_eq!(config(&bake, archive)["rootfs"]["diff_ids"].as_array().map(Vec::len), Some(4), "{archive}");
    }
    assert_eq!(ran.stderr.matches("] RUN mkdir").count(), 1, "one build serves all exports of the stage: {ran:?}");
    let again = run(&bake, "p", &[]).ok();
    assert!(again.stderr.contains("nothing to do"), "{again:?}");
    let printed: Value = serde_json::from_str(&run(&bake, "p", &["--print"]).ok().stdout).expect("JSON");
    assert_eq!(printed["target"]["app"]["output"][1]["source"], "builder");
}

#[test]
fn a_stage_that_nobody_wants_is_not_built() {
    let bake = Bake::new();
    project(
        &bake,
        "p",
        "FROM scratch AS files\nCOPY <<EOF /file\nx\nEOF\nFROM base\nRUN exit 1\n",
        "  output = [\"type=tar,dest=files.tar,source=files\", \"type=cacheonly,source=files\"]",
    );
    run(&bake, "p", &[]).ok();
    assert_eq!(names(&bake, "p/files.tar"), ["file"]);
    let both = run(&bake, "p", &["--set", "app.output=type=cacheonly"]);
    assert_eq!(both.code, Some(1), "the last stage fails: {both:?}");
}

#[test]
fn an_unknown_source_is_shown_where_it_is_written() {
    let bake = Bake::new();
    for output in
        ["\"type=tar,dest=builder.tar,source=bulider\"", "{ type = \"tar\", dest = \"x\", source = \"bulider\" }"]
    {
        project(&bake, "p", TWO_STAGES, &format!("  output = [{output}]"));
        let ran = run(&bake, "p", &[]);
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(ran.stderr.contains("target stage could not be found: bulider"), "{ran:?}");
        assert!(ran.stderr.contains("did you mean `builder`?"), "{ran:?}");
        assert!(ran.stderr.contains("docker-bake.hcl:3:"), "{ran:?}");
    }
}

#[test]
fn a_tar_of_what_was_added_leaves_out_the_base_image() {
    let bake = Bake::new();
    let dockerfile = "FROM base
RUN mkdir -p /opt/new/empty && echo x > /opt/new/file && echo root:x:0:0:root:/:/bin/sh > /etc/passwd
RUN rm /bin/wget && touch /root/gone && rm /root/gone && mkdir /tmp && chmod 1777 /tmp
";
    project(
        &bake,
        "p",
        dockerfile,
        "  output = [\"type=tar,dest=min.tar,mode=min\", \"type=tar,dest=max.tar,mode=max\", \"type=tar,dest=whole.tar\"]",
    );
    run(&bake, "p", &[]).ok();
    let wanted =
        ["dev/", "etc/", "etc/passwd", "opt/", "opt/new/", "opt/new/empty/", "opt/new/file", "proc/", "sys/", "tmp/"];
    assert_eq!(names(&bake, "p/min.tar"), wanted, "no deletion, and no folder from which something was only deleted");
    let whole = fs::read(bake.path("p/whole.tar")).expect("written");
    assert!(whole == fs::read(bake.path("p/max.tar")).expect("written"), "max is the default");
    assert!(names(&bake, "p/whole.tar").contains(&"bin/busybox".to_owned()));
    let refused = run(&bake, "p", &["--set", "app.output=type=tar,dest=x.tar,mode=mni"]);
    assert!(refused.stderr.contains("did you mean `min`?"), "{refused:?}");
}

/// The image config of an archive with one image.
fn config(bake: &Bake, path: &str) -> Value {
    let blobs: BTreeMap<String, Vec<u8>> = tar_entries(&bake.path(path)).into_iter().collect();
    let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).expect("JSON");
    let blob = |value: &Value| {
        let digest = value["digest"].as_str().expect("a descriptor has a digest").replace(':', "/");
        json(&blobs[&format!("blobs/{digest}")])
    };
    let manifest = blob(&json(&blobs["index.json"])["manifests"][0]);
    blob(&manifest["config"])
}

fn build_info(bake: &Bake, path: &str) -> Option<Value> {
    let config = config(bake, path);
    let text = config["moby.buildkit.buildinfo.v0"].as_str()?;
    Some(serde_json::from_slice(&STANDARD.decode(text).expect("base64")).expect("JSON"))
}

#[test]
fn tag_names_an_image_as_name_does() {
    let bake = Bake::new();
    project(
        &bake,
        "p",
        "FROM scratch\nCOPY Dockerfile /\n",
        "  output = [\"type=docker,dest=x.tar,name=one:1,\\\"tag=two,example.com/three:3\\\"\"]",
    );
    run(&bake, "p", &[]).ok();
    let manifest = tar_entries(&bake.path("p/x.tar")).into_iter().find(|(name, _)| name == "manifest.json");
    let manifest: Value = serde_json::from_slice(&manifest.expect("it has one").1).expect("JSON");
    assert_eq!(manifest[0]["RepoTags"], serde_json::json!(["one:1", "two:latest", "example.com/three:3"]));
}

#[test]
fn build_info_has_the_sources_and_is_the_same_everywhere() {
    let archives = ["a/first", "b/c/second"].map(|folder| {
        let bake = Bake::new();
        let output = "  args = { WHO = \"nobody\" }
  output = [\"type=oci,dest=x.oci.tar\", \"type=docker,dest=x.docker.tar,rewrite-timestamp=true\"]";
        project(&bake, folder, "FROM base\nARG WHO\nCOPY <<EOF /who\n$WHO\nEOF\n", output);
        let env = [("SOURCE_DATE_EPOCH", "1700000000")];
        bake.run_with(folder, &["--progress=plain", "--allow", "fs.read=*", "app"], &env).ok();
        let info = build_info(&bake, &format!("{folder}/x.oci.tar")).expect("it is on by default");
        assert_eq!(build_info(&bake, &format!("{folder}/x.docker.tar")).as_ref(), Some(&info));
        let digest = serde_json::from_slice::<Value>(&fs::read(base_layout().join("index.json")).expect("a layout"))
            .expect("JSON")["manifests"][0]["digest"]
            .clone();
        let source = serde_json::json!({ "type": "oci-layout", "ref": "base", "pin": digest });
        assert_eq!(info, serde_json::json!({ "frontend": "dockerfile.v0", "sources": [source] }));
        let again = bake.run_with(folder, &["--progress=plain", "--allow", "fs.read=*", "app"], &env).ok();
        assert!(again.stderr.contains("nothing to do"), "{again:?}");
        config(&bake, &format!("{folder}/x.docker.tar"))
    });
    assert_eq!(archives[0]["moby.buildkit.buildinfo.v0"], archives[1]["moby.buildkit.buildinfo.v0"]);
}

#[test]
fn build_info_has_attributes_when_asked_and_no_secrets() {
    let bake = Bake::new();
    let write = |options: &str| {
        project(
            &bake,
            "p",
            "FROM scratch\nARG WHO\nARG PASSWORD\nCOPY Dockerfile /\n",
            &format!(
                "  args = {{ WHO = \"nobody\", PASSWORD = WORD }}\n  labels = {{ l = \"v\" }}\n  \
                 output = [\"type=oci,dest=x.tar{options}\"]\n}}\nvariable \"WORD\" {{\n  default = \"hunter2\"\n  sensitive = true"
            ),
        );
        run(&bake, "p", &[]).ok();
        build_info(&bake, "p/x.tar")
    };
    let attributes = write(",buildinfo-attrs=true").expect("on")["attrs"].clone();
    assert_eq!(
        attributes,
        serde_json::json!({
            "build-arg:PASSWORD": "***",
            "build-arg:WHO": "nobody",
            "context:base": "oci-layout:base",
            "filename": "Dockerfile",
            "label:l": "v",
        })
    );
    assert_eq!(write("").expect("on"), serde_json::json!({ "frontend": "dockerfile.v0" }));
    assert_eq!(write(",buildinfo=false"), None);
}

#[test]
fn build_info_of_a_base_image_is_not_inherited() {
    let bake = Bake::new();
    bake.write("base/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    bake.write("base/docker-bake.hcl", "target \"app\" {\n  output = [\"type=oci,dest=layout,tar=false\"]\n}\n");
    run(&bake, "base", &[]).ok();
    bake.write("p/Dockerfile", "FROM below\nCOPY Dockerfile /more\n");
    let target = |buildinfo: &str| {
        let text = "target \"app\" {\n  contexts = { below = \"oci-layout://../base/layout\" }\n  output = [";
        bake.write("p/docker-bake.hcl", &format!("{text}\"type=oci,dest=x.tar,buildinfo={buildinfo}\"]\n}}\n"));
        run(&bake, "p", &[]).ok();
        build_info(&bake, "p/x.tar")
    };
    assert_eq!(target("true").expect("on")["sources"][0]["ref"], "below");
    assert_eq!(target("false"), None);
}

/// Whether a log tells of a step that was not found in the cache.
fn ran_anything(log: &str) -> bool {
    log.lines().any(|line| line.contains("] RUN") && !line.contains(" CACHED "))
}

#[test]
fn an_image_and_then_a_folder_of_the_same_content_build_once() {
    let bake = Bake::new();
    let dockerfile = "FROM base\nRUN sleep 1 && dd if=/dev/urandom of=/data bs=1M count=8\n";
    project(&bake, "p", dockerfile, "");
    let timed = |output: &str| {
        let begun = Instant::now();
        let ran = run(&bake, "p", &["--set", &format!("app.output={output}")]).ok();
        (begun.elapsed(), ran.stderr)
    };
    let (first, log) = timed("type=image,tag=registry.example/app");
    assert!(ran_anything(&log), "{log}");
    let (second, log) = timed("type=local,dest=out");
    assert!(!ran_anything(&log), "{log}");
    assert!(second < first / 2 && second < Duration::from_secs(10), "first {first:?}, second {second:?}");
    assert_eq!(fs::metadata(bake.path("p/out/data")).expect("exported").len(), 8 << 20);
    let (_, log) = timed("type=image,tag=registry.example/app");
    assert!(!ran_anything(&log), "{log}");
}

#[test]
fn an_image_and_a_folder_of_one_command_are_one_build() {
    let bake = Bake::new();
    let dockerfile = "FROM base\nRUN dd if=/dev/urandom of=/data bs=1M count=1\n";
    let outputs =
        "  output = [\"type=image,tag=registry.example/app\", \"type=local,dest=out\", \"type=oci,dest=o.tar\"]";
    project(&bake, "p", dockerfile, outputs);
    let ran = run(&bake, "p", &[]).ok();
    assert_eq!(ran.stderr.matches("] RUN dd").count(), 1, "{ran:?}");
    assert_eq!(fs::metadata(bake.path("p/out/data")).expect("exported").len(), 1 << 20);
    let again = run(&bake, "p", &[]).ok();
    assert!(!ran_anything(&again.stderr) && again.stderr.contains("unchanged"), "{again:?}");
}

#[test]
fn without_an_output_the_result_stays_in_the_cache_with_a_warning() {
    let bake = Bake::new();
    project(&bake, "p", "FROM scratch\nCOPY Dockerfile /\n", "");
    let ran = run(&bake, "p", &[]).ok();
    for words in ["No output specified", "Build result will only remain in the build cache", "--push", "--load"] {
        assert!(ran.stderr.contains(words), "{words}: {ran:?}");
    }
    let quiet = run(&bake, "p", &["--set", "app.output=type=cacheonly"]).ok();
    assert!(!quiet.stderr.contains("No output specified"), "{quiet:?}");
}

/// Bytes on disk of a file.
fn allocated(bake: &Bake, path: &str) -> u64 {
    fs::metadata(bake.path(path)).unwrap_or_else(|e| panic!("{path}: {e}")).blocks() * 512
}

#[test]
fn sparse_files_keep_their_holes() {
    let bake = Bake::new();
    let dockerfile = "FROM base
RUN truncate -s 64M /hole && echo middle | dd of=/mixed bs=1M seek=20 conv=notrunc && truncate -s 40M /mixed
";
    project(&bake, "p", dockerfile, "  output = [\"type=local,dest=out\", \"type=tar,dest=out.tar\"]");
    run(&bake, "p", &[]).ok();
    for (name, size) in [("hole", 64 << 20), ("mixed", 40 << 20)] {
        assert_eq!(fs::metadata(bake.path(&format!("p/out/{name}"))).expect("exported").len(), size);
        assert!(allocated(&bake, &format!("p/out/{name}")) < 1 << 20, "{name} has lost its holes");
    }
    assert!(fs::metadata(bake.path("p/out.tar")).expect("exported").len() < 8 << 20);
    bake.write("p/read/keep", "");
    let done =
        Command::new("tar").args(["-xf", "../out.tar", "hole", "mixed"]).current_dir(bake.path("p/read")).status();
    assert!(done.expect("tar is there").success());
    for name in ["hole", "mixed"] {
        let read = |path: &str| fs::read(bake.path(path)).expect("there");
        assert!(read(&format!("p/read/{name}")) == read(&format!("p/out/{name}")), "{name} differs");
        assert!(allocated(&bake, &format!("p/read/{name}")) < 1 << 20, "{name} has lost its holes");
    }
    let python = "import tarfile
t = tarfile.open('p/out.tar')
m = t.getmember('mixed')
data = t.extractfile(m).read()
print(m.size, len(data), data[20 << 20:].rstrip(b'\\0') == b'middle\\n', data.count(b'\\0') == len(data) - 7)";
    let read =
        Command::new("python3").args(["-c", python]).current_dir(bake.path("")).output().expect("python3 is there");
    assert_eq!(String::from_utf8_lossy(&read.stdout), format!("{0} {0} True True\n", 40 << 20), "{read:?}");
}

#[test]
fn a_sparse_file_of_an_archive_is_added_again() {
    let bake = Bake::new();
    project(
        &bake,
        "p",
        "FROM base\nRUN echo begin > /mixed && truncate -s 8M /mixed\n",
        "  output = [\"type=tar,dest=a.tar\"]",
    );
    run(&bake, "p", &[]).ok();
    bake.write("q/Dockerfile", "FROM scratch\nADD a.tar /\n");
    bake.write("q/docker-bake.hcl", "target \"app\" {\n  output = [\"type=local,dest=out\"]\n}\n");
    fs::copy(bake.path("p/a.tar"), bake.path("q/a.tar")).expect("copied");
    run(&bake, "q", &[]).ok();
    let mixed = fs::read(bake.path("q/out/mixed")).expect("unpacked under its own name");
    assert_eq!((mixed.len(), &mixed[..6]), (8 << 20, b"begin\n".as_slice()));
}

fn mode(bake: &Bake, path: &str) -> u32 {
    fs::symlink_metadata(bake.path(path)).unwrap_or_else(|e| panic!("{path}: {e}")).permissions().mode() & 0o7777
}

#[test]
fn chmod_sets_the_modes_of_what_is_written() {
    let bake = Bake::new();
    let dockerfile = "FROM base\nRUN mkdir -p /f/sub && touch /f/plain /f/sub/tool && chmod 4711 /f/sub/tool\n\
                      FROM scratch\nCOPY --from=0 /f /\n";
    project(&bake, "p", dockerfile, "");
    let export =
        |options: &str| run(&bake, "p", &["--set", &format!("app.output=type=local,dest=out{options}")]).ok().stderr;
    export(",\"chmod=u=rwX,go=\"");
    let modes = || ["out/sub", "out/plain", "out/sub/tool"].map(|path| mode(&bake, &format!("p/{path}")));
    assert_eq!(modes(), [0o700, 0o600, 0o700]);
    assert!(export(",\"chmod=u=rwX,go=\"").contains("nothing to do"));
    export(",chmod=0750");
    assert_eq!(modes(), [0o750, 0o750, 0o750], "other modes are written though the content is the same");
    let log = export(",chmod=4755");
    assert_eq!(modes(), [0o4755, 0o755, 0o755], "files get no bits that give rights on this machine");
    assert!(log.contains("special=keep"), "{log}");
    export("");
    assert_eq!(modes(), [0o755, 0o644, 0o711]);
    let refused = run(&bake, "p", &["--set", "app.output=type=local,dest=out,chmod=rw"]);
    assert!(refused.stderr.contains("`chmod` cannot be: rw"), "{refused:?}");
}

#[test]
fn chown_sets_the_owner_where_that_is_permitted() {
    let bake = Bake::new();
    project(
        &bake,
        "p",
        "FROM base\nRUN mkdir -p /f/sub && touch /f/plain && ln -s plain /f/link\nFROM scratch\nCOPY --from=0 /f /\n",
        "",
    );
    let export = |owner: &str| run(&bake, "p", &["--set", &format!("app.output=type=local,dest=out,chown={owner}")]);
    let paths = ["sub", "plain", "link"].map(|path| bake.path(&format!("p/out/{path}")));
    let owners =
        || paths.each_ref().map(|path| fs::symlink_metadata(path).map(|it| (it.uid(), it.gid())).expect("there"));
    let own = fs::metadata(bake.path("p")).expect("there");
    export(&format!("{}:{}", own.uid(), own.gid())).ok();
    assert_eq!(owners(), [(own.uid(), own.gid()); 3]);
    let other = export("4321:99");
    if own.uid() == 0 {
        assert_eq!((other.code, owners()), (Some(0), [(4321, 99); 3]));
        assert!(export("4321:99").ok().stderr.contains("nothing to do"));
        export("7").ok();
        assert_eq!(owners(), [(7, 7); 3]);
    } else {
        assert_eq!(other.code, Some(1), "only root may give files away: {other:?}");
    }
    let refused = export("root");
    assert!(refused.stderr.contains("`chown` cannot be: root"), "{refused:?}");
}

#[test]
fn a_new_folder_follows_the_umask() {
    let bake = Bake::new();
    project(&bake, "p", "FROM scratch\nCOPY Dockerfile /\n", "  output = [\"type=local,dest=made/out\"]");
    let script = "umask 027 && exec \"$0\" \"$@\"";
    let plain = bake.command("p", &["--progress=plain", "--allow", "fs.read=*", "app"]);
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", script])
        .arg(plain.get_program())
        .args(plain.get_args())
        .current_dir(bake.path("p"))
        .env_clear();
    command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let done = command.output().expect("a shell is there");
    assert!(done.status.success(), "{done:?}");
    assert_eq!((mode(&bake, "p/made"), mode(&bake, "p/made/out")), (0o750, 0o750));
}

#[test]
fn delete_removes_what_is_not_in_the_export_and_nothing_beside_it() {
    let bake = Bake::new();
    project(
        &bake,
        "p",
        "FROM scratch\nCOPY Dockerfile /new/file\n",
        "  output = [\"type=local,dest=out,mode=delete\"]",
    );
    bake.write("p/out/old/file", "old");
    bake.write("p/out/other", "old");
    bake.write("p/beside/file", "mine");
    std::os::unix::fs::symlink("../beside", bake.path("p/out/link")).expect("links can be made");
    std::os::unix::fs::symlink("../beside", bake.path("p/out/new")).expect("links can be made");
    let refused = run(&bake, "p", &[]);
    assert_eq!(refused.code, Some(1), "it needs a grant: {refused:?}");
    assert_eq!(bake.read("p/out/old/file"), "old");
    run(&bake, "p", &["--allow", "buildx.local.delete"]).ok();
    let left: Vec<String> = fs::read_dir(bake.path("p/out"))
        .expect("there")
        .map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(left, ["new"]);
    assert!(bake.path("p/out/new/file").exists() && !bake.path("p/out/new").is_symlink());
    assert_eq!(bake.read("p/beside/file"), "mine", "links are removed, not followed");
}

#[test]
fn asking_for_a_push_that_does_not_happen_is_told() {
    let bake = Bake::new();
    bake.write("Dockerfile", "FROM scratch\nCOPY f /\n");
    bake.write("f", "content");
    for (output, flag, key) in [("type=local,dest=out", "--push", "push"), ("type=tar,dest=out.tar", "--load", "load")]
    {
        let ran = bake.run(&["build", "-t", "app:1", "-o", output, flag, "."]).ok();
        let told = format!("`{key}` has no effect on target `default`");
        assert!(ran.stderr.contains(&told), "{output} {flag}: {ran:#?}");
    }
    let fine = bake.run(&["build", "-o", "type=local,dest=out", "."]).ok();
    assert!(!fine.stderr.contains("has no effect"), "{fine:#?}");
}

#[test]
fn host_gateway_is_no_address_of_a_step_and_that_is_told() {
    let bake = Bake::new();
    project(&bake, "p", "FROM base\nRUN cat /etc/hosts > /hosts\nFROM scratch\nCOPY --from=0 /hosts /\n", "");
    let layout = format!("base=oci-layout://{}", base_layout().display());
    let args = ["build", "--add-host=gw:host-gateway", "--add-host=db:10.0.0.9", "--build-context", &layout];
    let ran = bake.run_in("p", &[&args[..], &["--allow=fs.read=*", "-o", "out", "."]].concat()).ok();
    assert!(ran.stderr.contains("there is no address for: gw"), "{ran:#?}");
    let hosts = bake.read("p/out/hosts");
    assert!(!hosts.contains("gw") && hosts.contains("10.0.0.9\tdb"), "{hosts}");
    let bad = bake.run_in("p", &["build", "--add-host=a b:10.0.0.9", "."]);
    assert!(bad.code == Some(1) && bad.stderr.contains("not the name of a host"), "{bad:#?}");
}

#[test]
fn an_image_that_was_built_for_several_platforms_is_exported_for_all_of_them() {
    let bake = Bake::new();
    bake.write("Dockerfile", "FROM scratch\nARG TARGETARCH\nCOPY f /$TARGETARCH\n");
    bake.write("f", "content");
    bake.run(&["build", "--platform=linux/amd64,linux/arm64", "-t", "both", "-o", "type=cacheonly", "."]).ok();
    bake.run(&["build", "-o", "out", "both"]).ok();
    assert!(bake.path("out/linux_amd64/amd64").is_file() && bake.path("out/linux_arm64/arm64").is_file());
    bake.run(&["build", "-o", "one", "--platform=linux/arm64", "both"]).ok();
    assert!(bake.path("one/arm64").is_file());
    // The platform of `docker build` when none is given.
    let args = ["build", "-o", "default", "."];
    bake.run_with("", &args, &[("DOCKER_DEFAULT_PLATFORM", "linux/arm64")]).ok();
    assert!(bake.path("default/arm64").is_file());
}

#[test]
fn an_output_in_what_a_step_reads_is_told_once_with_the_line_that_ignores_it() {
    let bake = Bake::new();
    bake.write(
        "Dockerfile",
        "FROM scratch AS all\nCOPY . /src\nFROM scratch AS named\nCOPY out/all /all\nCOPY *.txt /\n",
    );
    bake.write("a.txt", "a");
    bake.write(
        "docker-bake.hcl",
        "target \"default\" {\n  matrix = { stage = [\"all\", \"named\"] }\n  name = stage\n  target = stage\n  \
         output = [\"type=local,dest=out/${stage}\", \"type=oci,dest=${stage}.oci\"]\n}\n",
    );
    let notices = |targets: &[&str]| {
        let told = bake.run(&[&["--progress=plain"], targets].concat()).ok().stderr;
        let named = |line: &str| Some(line.split_once("the output `")?.1.split_once('`')?.0.to_owned());
        let mut names: Vec<String> = told.lines().filter_map(named).collect();
        names.sort();
        (names, told)
    };
    let (names, told) = notices(&["all"]);
    assert_eq!(names, ["all.oci", "out/all"], "{told}");
    for words in ["Dockerfile:2: this step reads it", "write a line `out/all` into .dockerignore"] {
        assert!(told.contains(words), "{words}: {told}");
    }
    // What is named is meant.
    assert_eq!(notices(&["named"]).0, [""; 0]);
    bake.write(".dockerignore", "out\n*.oci\nstate\n");
    assert_eq!(notices(&["all"]).0, [""; 0]);
    // Nothing of what was written is read: the second run has nothing to do.
    assert!(notices(&["all"]).1.contains("nothing to do"));
}
