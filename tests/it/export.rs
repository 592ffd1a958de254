//! What is written is read by others' tools: a push to a real registry, and back.

use std::process::Command;

use crate::{docker_registry::Registry, small_registry::SmallRegistry, support::Bake};

fn tool(name: &str, args: &[&str]) -> String {
    let output = Command::new(name).args(args).output().unwrap_or_else(|e| panic!("these tests need {name}: {e}"));
    assert!(output.status.success(), "{name} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_pushed_image_is_read_by_skopeo_and_pulled_back_as_a_base() {
    let bake = Bake::new();
    let registry = Registry::start(&bake);
    bake.copy("examples/push", "push");
    let name = format!("{}/motd", registry.address);
    let args = ["--push", "--var", &format!("REGISTRY={}", registry.address), "--progress=plain"];
    bake.run_in("push", &args).ok();
    let seen = tool("skopeo", &["inspect", "--tls-verify=false", &format!("docker://{name}:1.0")]);
    assert!(seen.contains("\"Layers\""), "{seen}");

    bake.write("pull/Dockerfile", &format!("FROM {name}:latest\nCOPY <<EOF /more\nmore\nEOF\n"));
    bake.write("pull/docker-bake.hcl", "target \"default\" { output = [\"type=local,dest=out\"] }\n");
    bake.run_in("pull", &["--progress=plain"]).ok();
    assert_eq!(bake.read("pull/out/etc/motd"), "welcome\n");
}

#[test]
fn a_push_of_what_was_pushed_asks_for_each_name_and_sends_nothing() {
    let bake = Bake::new();
    let registry = SmallRegistry::start();
    bake.write("Dockerfile", "FROM scratch\nCOPY <<EOF /etc/motd\nwelcome\nEOF\n");
    let tags = format!("tags = [\"{0}/motd:1\", \"{0}/motd:2\", \"{0}/other:1\"]", registry.address);
    bake.write(
        "docker-bake.hcl",
        &format!("target \"default\" {{\n  {tags}\n  attest = [\"type=provenance,mode=max\"]\n}}\n"),
    );
    for args in [&["--push"][..], &["--push", "--execution=defer-output"]] {
        bake.run(args).ok();
        let before = registry.tag("motd", "1");
        registry.refuse_after(None);
        let again = bake.run(&[args, &["--progress=plain", "--metadata-file=meta.json"]].concat()).ok();
        let log = registry.log();
        assert!(log.len() == 3 && log.iter().all(|it| it.starts_with("HEAD ")), "{log:?}");
        assert!(again.stderr.contains("nothing to do"), "{again:#?}");
        // Provenance has the times of its build: it is that of the push that was made.
        assert_eq!(registry.tag("motd", "1"), before);
        assert!(bake.read("meta.json").contains(&before.expect("it was pushed")), "the metadata is that of the push");

        // Another has set one of the tags meanwhile.
        bake.write("moved/Dockerfile", "FROM scratch\nLABEL a=b\n");
        let moved = format!("--set=*.tags={}/motd:2", registry.address);
        bake.run(&["--push", "--set=*.context=moved", &moved]).ok();
        bake.run(args).ok();
        assert_eq!(registry.tag("motd", "2"), registry.tag("motd", "1"), "the tag is set again");
    }
    let by_digest = format!("--set=*.output=type=image,push=true,push-by-digest=true,name={}/digest", registry.address);
    let by_digest = ["--set=*.tags=", by_digest.as_str()];
    bake.run(&by_digest).ok();
    registry.refuse_after(None);
    bake.run(&by_digest).ok();
    assert_eq!(registry.log().len(), 1, "{:?}", registry.log());
}

#[test]
fn an_oci_layout_is_copied_by_skopeo_and_unpacked_by_umoci() {
    let bake = Bake::new();
    bake.write("Dockerfile", "FROM scratch\nCOPY <<EOF /etc/motd\nwelcome\nEOF\n");
    for compression in ["gzip", "zstd", "uncompressed"] {
        bake.write(
            "docker-bake.hcl",
            &format!(
                "target \"default\" {{\n  tags = [\"motd:1\"]\n  output = [\"type=oci,tar=false,dest={compression},compression={compression}\", \
                 \"type=docker,dest={compression}.tar,compression={compression}\"]\n}}\n"
            ),
        );
        bake.run(&["--progress=plain"]).ok();
        let layout = bake.path(compression).display().to_string();
        let copied = bake.path(&format!("{compression}-copied")).display().to_string();
        tool("skopeo", &["copy", &format!("oci:{layout}:1"), &format!("oci:{copied}:1")]);
        let archive = bake.path(&format!("{compression}.tar")).display().to_string();
        tool("skopeo", &["inspect", &format!("docker-archive:{archive}")]);
        if compression != "zstd" {
            let bundle = bake.path(&format!("{compression}-bundle")).display().to_string();
            tool("umoci", &["unpack", "--rootless", "--image", &format!("{layout}:1"), &bundle]);
            assert_eq!(bake.read(&format!("{compression}-bundle/rootfs/etc/motd")), "welcome\n");
        }
    }
}

/// What a receipt stands for is all that was written: the Dockerfile is in provenance of `mode=max`, and not in `min`.
#[test]
fn a_change_of_what_provenance_tells_is_written() {
    let bake = Bake::new();
    let (max, min) = ("type=provenance,mode=max", "type=provenance,mode=min");
    let target = |name: &str, attest: &str, output: &str| {
        format!("target \"{name}\" {{\n  attest = [\"{attest}\"]\n  output = [\"{output}\"]\n}}\n")
    };
    bake.write(
        "docker-bake.hcl",
        &[
            target("folder", max, "type=local,dest=folder"),
            target("short", min, "type=local,dest=short"),
            target("layout", max, "type=oci,dest=layout,tar=false"),
        ]
        .concat(),
    );
    let dockerfile = |comment: &str| bake.write("Dockerfile", &format!("# {comment}\nFROM scratch\nCOPY file /\n"));
    bake.write("file", "x");
    dockerfile("first");
    let run = || bake.run_in("", &["folder", "short", "layout", "--progress=plain"]).ok().stderr;
    let told = |name: &str| {
        let text = bake.read(&format!("{name}/provenance.json"));
        let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let source = &value["predicate"]["runDetails"]["metadata"]["buildkit_metadata"]["source"];
        source["infos"][0]["data"].as_str().map(str::to_owned)
    };
    run();
    let (first, index) = (told("folder").expect("the Dockerfile is in it"), bake.read("layout/index.json"));
    let again = run();
    assert!(again.contains("nothing to do"), "{again}");
    let short = bake.read("short/provenance.json");
    dockerfile("second");
    let changed = run();
    assert!(!changed.contains("nothing to do"), "{changed}");
    assert_ne!(told("folder").expect("the Dockerfile is in it"), first);
    assert_ne!(bake.read("layout/index.json"), index);
    assert_eq!(told("short"), None);
    assert_eq!(bake.read("short/provenance.json"), short, "nothing that it tells has changed");
}
