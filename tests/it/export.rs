//! What is written is read by others' tools: a push to a real registry, and back.

use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::support::Bake;

/// Debian's `docker-registry` on a free port of this machine, stopped when dropped.
struct Registry {
    child: Child,
    address: String,
}

impl Registry {
    fn start(bake: &Bake) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a free port").port();
        let address = format!("127.0.0.1:{port}");
        let storage = bake.path("registry");
        bake.write(
            "registry.yml",
            &format!(
                "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '{address}'}}\nlog: {{level: error}}\n",
                storage.display()
            ),
        );
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(bake.path("registry.yml"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("these tests need Debian's package docker-registry");
        let begun = Instant::now();
        while std::net::TcpStream::connect(&address).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(20), "the registry does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { child, address }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.child.kill().expect("the registry was running");
        let _status = self.child.wait();
    }
}

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
