//! Registries as people have them: own authorities, client certificates, passwords, mirrors; settings of `bake` and of
//! other tools.

use base64::Engine as _;

use crate::{
    docker_registry::{Registry, certificates},
    small_registry::SmallRegistry,
    support::Bake,
};

const PUSH: &str = r#"
    variable "REGISTRY" {}
    target "default" {
      dockerfile-inline = "FROM scratch\nCOPY file /\n"
      tags = ["${REGISTRY}/app:1", "${REGISTRY}/app:2"]
      output = ["type=registry"]
      cache-to = ["type=registry,ref=${REGISTRY}/cache:1"]
    }
    target "pull" {
      dockerfile-inline = "ARG BASE\nFROM $BASE\nCOPY file /again\n"
      args = { BASE = "${REGISTRY}/app:2" }
      output = ["type=local,dest=out"]
      cache-from = ["type=registry,ref=${REGISTRY}/cache:1"]
    }"#;

/// A project beside a registry with TLS, client certificates and passwords, whose password it knows.
fn secured() -> (Bake, Registry) {
    let bake = Bake::new();
    certificates(&bake);
    let registry = Registry::secured(&bake);
    bake.write("docker-bake.hcl", PUSH);
    bake.write("file", "content");
    let auth = base64::engine::general_purpose::STANDARD.encode("me:secret");
    let config = format!(r#"{{"auths": {{"{}": {{"auth": "{auth}"}}}}}}"#, registry.address);
    bake.write("home/.docker/config.json", &config);
    (bake, registry)
}

#[must_use]
fn run(bake: &Bake, registry: &Registry, target: &str, env: &[(&str, &str)]) -> crate::support::Ran {
    let var = format!("REGISTRY={}", registry.address);
    bake.run_with("", &["--progress=plain", "--var", &var, target], env)
}

#[test]
fn one_settings_file_serves_push_pull_and_cache() {
    let (bake, registry) = secured();
    // Nothing is known about the authority: the registry is on this machine, so it is asked in plain HTTP.
    let failed = run(&bake, &registry, "default", &[]);
    assert!(failed.code == Some(1) && failed.stderr.contains("400: bad request"), "{failed:?}");
    let settings = format!("[registry.\"{}\"]\nca = [\"../ca.crt\"]\n", registry.address);
    bake.write("settings/registries.toml", &settings);
    let env = [("BAKE_REGISTRIES", "settings/registries.toml")];
    let failed = run(&bake, &registry, "default", &env);
    assert!(
        failed.code == Some(1) && failed.stderr.to_lowercase().contains("certificate"),
        "no client certificate: {failed:?}"
    );
    let settings = settings + "client-certificate = \"../client.crt\"\nclient-key = \"../client.key\"\n";
    bake.write("settings/registries.toml", &settings);
    run(&bake, &registry, "default", &env).ok();
    // Without what is in the state folder it has to be pulled.
    std::fs::remove_dir_all(bake.path("state")).expect("it was made");
    let pulled = run(&bake, &registry, "pull", &env).ok();
    assert_eq!((bake.read("out/file"), bake.read("out/again")), ("content".to_owned(), "content".to_owned()));
    assert!(!pulled.stderr.contains("secret"), "{pulled:?}");
}

#[test]
fn folders_of_docker_and_containerd_are_read() {
    let (bake, registry) = secured();
    let folder = format!("home/.config/docker/certs.d/{}", registry.address);
    for (from, to) in [("ca.crt", "ca.crt"), ("client.crt", "client.cert"), ("client.key", "client.key")] {
        bake.write(&format!("{folder}/{to}"), &bake.read(from));
    }
    run(&bake, &registry, "default", &[]).ok();
    // An image of a registry that does not exist comes from its mirror.
    let mirror = format!("server = \"https://mirrored.invalid\"\n[host.\"https://{}\"]\n", registry.address);
    bake.write("home/.config/docker/certs.d/mirrored.invalid/hosts.toml", &mirror);
    let text = "target \"default\" {\n  dockerfile-inline = \"FROM mirrored.invalid/app:1\"\n  output = [\"out\"]\n}\n";
    bake.write("mirrored.hcl", text);
    bake.run(&["-f", "mirrored.hcl", "--progress=plain"]).ok();
    assert_eq!(bake.read("out/file"), "content");
}

#[test]
fn the_file_of_podman_is_read_and_faults_name_their_line() {
    let bake = Bake::new();
    let registry = Registry::start(&bake);
    bake.write("docker-bake.hcl", PUSH);
    bake.write("file", "content");
    run(&bake, &registry, "default", &[]).ok();
    let conf = format!("[[registry]]\nprefix = \"elsewhere.invalid\"\nlocation = \"{}\"\n", registry.address);
    bake.write("home/.config/containers/registries.conf", &conf);
    let args = ["pull", "--progress=plain", "--var", "REGISTRY=elsewhere.invalid"];
    bake.run(&args).ok();
    assert_eq!(bake.read("out/again"), "content");
    bake.write("home/.config/bake/registries.toml", "[registry.\"a.example\"]\nmirror = [\"b.example\"]\n");
    let failed = bake.run(&args);
    let named = failed.stderr.contains("registries.toml`, line 2") && failed.stderr.contains("mirror");
    assert!(failed.code == Some(1) && named, "{failed:?}");
    bake.write("home/.config/bake/registries.toml", "[registry.\"elsewhere.invalid\"]\nblocked = true\n");
    std::fs::remove_dir_all(bake.path("state")).expect("it was made");
    let blocked = bake.run(&args);
    assert!(blocked.code == Some(1) && blocked.stderr.contains("block `elsewhere.invalid`"), "{blocked:?}");
}

#[test]
fn a_host_for_pushes_takes_them_in_place_of_the_registry() {
    let bake = Bake::new();
    let (registry, behind) = (SmallRegistry::start(), SmallRegistry::start());
    let text = format!("[host.\"http://{}\"]\ncapabilities = [\"push\"]\n", behind.address);
    bake.write(&format!("home/.config/docker/certs.d/{}/hosts.toml", registry.address), &text);
    bake.write("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    let name = format!("{}/app:1", registry.address);
    bake.run(&["build", "-t", &name, "--push", "."]).ok();
    assert!(behind.tag("app", "1").is_some() && registry.tag("app", "1").is_none());
    // Nothing is read from it.
    bake.write("again/Dockerfile", &format!("FROM {name}\nLABEL a=b\n"));
    let failed = bake.run(&["build", "again"]);
    assert!(failed.code == Some(1) && failed.stderr.contains("404"), "{failed:?}");
}
