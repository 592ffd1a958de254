//! The binary as a plugin of the Docker CLI, called as that calls it.

use std::{fs, os::unix::process::CommandExt as _, process::Command};

use crate::{
    docker_registry::Registry,
    load::engine,
    small_registry::SmallRegistry,
    support::{Bake, Ran},
};

/// Calls the plugin of a name as the Docker CLI does.
#[must_use]
fn call(bake: &Bake, plugin: &str, args: &[&str], env: &[(&str, &str)]) -> Ran {
    call_in(bake, "", plugin, args, env)
}

/// As [`call`], in a folder below the working folder.
#[must_use]
pub(crate) fn call_in(bake: &Bake, folder: &str, plugin: &str, args: &[&str], env: &[(&str, &str)]) -> Ran {
    let link = bake.path(plugin);
    if !link.exists() {
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_bake"), &link).expect("links can be made");
    }
    let made = bake.command("", args);
    let mut command = Command::new(&link);
    command.arg0(&link).args(made.get_args()).current_dir(bake.path(folder)).env_clear();
    command.envs(made.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = command.envs(env.iter().copied()).output().expect("the binary starts");
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

#[test]
fn the_docker_cli_learns_who_it_is() {
    let bake = Bake::new();
    for plugin in ["docker-buildx", "docker-bake"] {
        let ran = call(&bake, plugin, &["docker-cli-plugin-metadata"], &[]).ok();
        let metadata: serde_json::Value = serde_json::from_str(&ran.stdout).expect("it is JSON");
        assert_eq!(metadata["SchemaVersion"], "0.1.0");
        assert_ne!(metadata["Vendor"], "");
    }
    let version = call(&bake, "docker-buildx", &["buildx", "version"], &[]).ok().stdout;
    assert!(version.starts_with("github.com/docker/buildx v0."), "{version}");
}

/// What the actions of public CI call before and after a build.
#[test]
fn scripts_that_prepare_a_builder_succeed() {
    let bake = Bake::new();
    let run = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        call(&bake, "docker-buildx", &words, &[]).ok()
    };
    let created = run("buildx create --name ci --driver docker-container --buildkitd-flags --debug --use");
    assert_eq!(created.stdout, "ci\n");
    assert!(created.stderr.contains("nothing to do"), "{created:?}");
    let inspected = run("buildx inspect --bootstrap --builder ci").stdout;
    assert!(inspected.contains("Name:   ci") && inspected.contains("Platforms:"), "{inspected}");
    for line in [
        "buildx ls",
        "buildx ls --format json",
        "buildx install",
        "buildx uninstall",
        "buildx use ci",
        "buildx stop ci",
        "buildx du",
        "buildx prune -af",
        "buildx history ls",
        "buildx history rm --all",
        "buildx rm -f ci",
    ] {
        let ran = run(line);
        assert!(
            !ran.stdout.is_empty() || ran.stderr.contains("nothing to do") || line.contains("prune"),
            "{line}: {ran:?}"
        );
    }
    run("buildx prune -f --keep-storage=1GB --verbose").ok();
    let logs = call(&bake, "docker-buildx", &["buildx", "history", "logs"], &[]);
    assert!(logs.code == Some(1) && logs.stderr.contains("not recorded"), "{logs:?}");
}

#[test]
fn builders_are_shown_as_templates_say() {
    let bake = Bake::new();
    let run = |args: &[&str]| call(&bake, "docker-buildx", &[&["buildx"], args].concat(), &[]);
    let all: serde_json::Value =
        serde_json::from_str(&run(&["ls", "--format", "{{json .}}"]).ok().stdout).expect("one JSON object");
    assert_eq!((&all["Name"], &all["Nodes"][0]["Status"]), (&"embedded".into(), &"running".into()));
    assert_eq!(run(&["ls", "--format", "{{.Name}}\\t{{.DriverEndpoint}}"]).ok().stdout, "embedded\tbake\n");
    assert_eq!(run(&["inspect", "ci", "--format", "{{.Name}} {{json .Current}}"]).ok().stdout, "ci true\n");
    let failed = run(&["ls", "--format", "{{range .Nodes}}x{{end}}"]);
    assert!(failed.code == Some(1) && failed.stderr.contains("`range` is not known here"), "{failed:?}");
    let help = run(&["bake", "--help"]).ok().stdout;
    assert!(help.contains("docker buildx bake [OPTIONS] [TARGET]...") && help.contains("--set"), "{help}");
    assert!(!help.contains("Commands") && !help.contains("bake plan"), "no command of `bake` itself: {help}");
}

#[test]
fn what_has_no_output_is_loaded_into_an_engine_that_answers() {
    let bake = Bake::new();
    let images = engine(&bake);
    let host = format!("unix://{}", bake.path("engine.sock").display());
    bake.write("Dockerfile", "FROM scratch\nCOPY file /\n");
    bake.write("file", "content\n");
    bake.write("docker-bake.hcl", "target \"default\" {\n  tags = [\"baked:1\"]\n}\ntarget \"kept\" {\n  tags = [\"kept:1\"]\n  output = [\"type=cacheonly\"]\n}\n");
    let loaded = || images.lock().expect("no thread panics").images.keys().cloned().collect::<Vec<_>>();
    call(&bake, "docker-buildx", &["--host", &host, "buildx", "build", "-t", "built:1", "."], &[]).ok();
    assert_eq!(loaded(), ["built:1"]);
    let env = [("DOCKER_HOST", host.as_str())];
    call(&bake, "docker-buildx", &["buildx", "bake", "default", "kept"], &env).ok();
    assert_eq!(loaded(), ["baked:1", "built:1"]);
    images.lock().expect("no thread panics").images.clear();
    call(&bake, "docker-bake", &["bake"], &env).ok();
    assert_eq!(loaded(), ["baked:1"]);
    let id = call(&bake, "docker-buildx", &["buildx", "build", "-q", "-t", "quiet:1", "."], &env).ok().stdout;
    assert_eq!(images.lock().expect("no thread panics").images["quiet:1"], id.trim_end());

    // By its own name it loads only what it is told to.
    bake.run_with("", &["build", "-t", "own:1", "."], &env).ok();
    assert!(!loaded().contains(&"own:1".to_owned()));
    // Where no engine answers Build result will only remain in the build cache.
    let none = format!("unix://{}", bake.path("none.sock").display());
    let silent = call(&bake, "docker-buildx", &["buildx", "build", "."], &[("DOCKER_HOST", &none)]).ok();
    assert!(silent.stderr.contains("Build result will only remain in the build cache"), "{silent:?}");
}

#[test]
fn images_of_a_registry_are_shown_and_put_under_one_name() {
    let bake = Bake::new();
    let registry = Registry::start(&bake);
    bake.write("Dockerfile", "FROM scratch\nARG TARGETARCH\nLABEL arch=$TARGETARCH\nCOPY Dockerfile /\n");
    let name = |tag: &str| format!("{}/app:{tag}", registry.address);
    for arch in ["amd64", "arm64"] {
        let platform = format!("linux/{arch}");
        let args = ["build", "--provenance=false", "--platform", &platform, "-t", &name(arch), "--push", "."];
        bake.run(&args).ok();
    }
    let tools = |args: &[&str]| call(&bake, "docker-buildx", &[&["buildx", "imagetools"], args].concat(), &[]);
    tools(&["create", "-t", &name("all"), &name("amd64"), &name("arm64")]).ok();
    let shown = tools(&["inspect", &name("all")]).ok().stdout;
    assert!(shown.contains("Platform:  linux/amd64") && shown.contains("Platform:  linux/arm64"), "{shown}");
    let raw: serde_json::Value =
        serde_json::from_str(&tools(&["inspect", "--raw", &name("all")]).ok().stdout).expect("it is JSON");
    assert_eq!(raw["manifests"].as_array().map(Vec::len), Some(2));
    let manifest: serde_json::Value =
        serde_json::from_str(&tools(&["inspect", "--format", "{{json .Manifest}}", &name("all")]).ok().stdout)
            .expect("it is JSON");
    assert_eq!(manifest["manifests"], raw["manifests"]);
    tools(&["create", "-t", &name("again"), &name("all")]).ok();
    assert_eq!(
        tools(&["inspect", "--format", "{{.Manifest.Digest}}", &name("again")]).ok().stdout.trim_end(),
        manifest["digest"]
    );
    fs::write(bake.path("Dockerfile"), format!("FROM --platform=linux/arm64 {}\nLABEL more=1\n", name("all")))
        .expect("writable");
    bake.run(&["build", "-o", "out", "."]).ok();
}

/// What `imagetools` shows in JSON.
fn shown(bake: &Bake, name: &str, template: &str) -> serde_json::Value {
    let args = ["buildx", "imagetools", "inspect", "--format", template, name];
    serde_json::from_str(&call(bake, "docker-buildx", &args, &[]).ok().stdout).expect("it is JSON")
}

#[test]
fn images_are_copied_to_other_repositories_and_registries() {
    let bake = Bake::new();
    let (registry, elsewhere) = (Registry::start(&bake), SmallRegistry::start());
    bake.write("Dockerfile", "FROM scratch\nARG TARGETARCH\nLABEL arch=$TARGETARCH\nCOPY Dockerfile /\n");
    let all = format!("{}/app:all", registry.address);
    bake.run(&["build", "--platform=linux/amd64,linux/arm64", "-t", &all, "--push", "."]).ok();
    let digest = shown(&bake, &all, "{{json .Manifest}}")["digest"].as_str().expect("a digest").to_owned();
    let tools = |args: &[&str]| call(&bake, "docker-buildx", &[&["buildx", "imagetools"], args].concat(), &[]);
    let (near, far) = (format!("{}/team/other:1", registry.address), format!("{}/far/app:1", elsewhere.address));
    tools(&["create", "-t", &near, "-t", &far, "--metadata-file", "made.json", &all]).ok();
    assert_eq!(elsewhere.tag("far/app", "1").as_deref(), Some(digest.as_str()));
    let metadata: serde_json::Value = serde_json::from_str(&bake.read("made.json")).expect("it is JSON");
    assert_eq!(
        (&metadata["containerimage.digest"], &metadata["image.name"]),
        (&digest.as_str().into(), &format!("{near},{far}").into())
    );
    // Everything came along: the image is built from, of either platform.
    for name in [&near, &far] {
        let text = format!("FROM {name}\nCOPY Dockerfile /more\n");
        bake.write("more/Dockerfile", &text);
        bake.run(&["build", "--platform=linux/arm64", "-o", "out", "more"]).ok();
        assert_eq!(bake.read("out/more"), text);
        assert!(bake.read("out/Dockerfile").starts_with("FROM scratch"));
        fs::remove_dir_all(bake.path("out")).expect("it was made");
        fs::remove_dir_all(bake.path("state")).expect("it was made");
    }
    let images = shown(&bake, &far, "{{json .Image}}");
    assert_eq!(images["linux/arm64"]["config"]["Labels"]["arch"], "arm64");
    let provenance = shown(&bake, &far, r#"{{json (index .Provenance "linux/amd64").SLSA}}"#);
    assert!(provenance["buildDefinition"].is_object() || provenance["buildType"].is_string(), "{provenance}");
    assert_eq!(shown(&bake, &far, "{{json .SBOM}}"), serde_json::json!({}));
    let name = tools(&["inspect", "--format", "{{.Name}}", &far]).ok().stdout;
    assert_eq!(name.trim_end(), far);
    let failed = tools(&["inspect", "--format", "{{.BuildInfo}}", &far]);
    assert!(failed.code == Some(1) && failed.stderr.contains(".BuildInfo"), "{failed:?}");
}

#[test]
fn an_index_is_annotated_filtered_and_added_to() {
    let bake = Bake::new();
    let registry = SmallRegistry::start();
    let name = |rest: &str| format!("{}/{rest}", registry.address);
    bake.write("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    for arch in ["amd64", "arm64"] {
        let platform = format!("linux/{arch}");
        bake.run(&[
            "build",
            "--provenance=false",
            "--platform",
            &platform,
            "-t",
            &name(&format!("app:{arch}")),
            "--push",
            ".",
        ])
        .ok();
    }
    let tools = |args: &[&str]| call(&bake, "docker-buildx", &[&["buildx", "imagetools"], args].concat(), &[]);
    let platforms = |name: &str| {
        let manifest = shown(&bake, name, "{{json .Manifest}}");
        let entries = manifest["manifests"].as_array().cloned().unwrap_or_default();
        entries
            .iter()
            .map(|it| it["platform"]["architecture"].as_str().unwrap_or_default().to_owned())
            .collect::<Vec<_>>()
    };
    let all = name("all:1");
    // The first is made, the second is added.
    tools(&["create", "--append", "-t", &all, &name("app:amd64")]).ok();
    assert_eq!(platforms(&all), ["amd64"]);
    tools(&["create", "--append", "-t", &all, &name("app:arm64")]).ok();
    assert_eq!(platforms(&all), ["amd64", "arm64"]);
    let annotate =
        ["--annotation", "index:org.example.a=1", "--annotation", "manifest-descriptor[linux/arm64]:org.example.b=2"];
    tools(&[&["create", "-t", &name("all:2")], &annotate[..], &[&all]].concat()).ok();
    let manifest = shown(&bake, &name("all:2"), "{{json .Manifest}}");
    assert_eq!(manifest["annotations"]["org.example.a"], "1");
    assert_eq!(manifest["manifests"][1]["annotations"]["org.example.b"], "2");
    assert!(manifest["manifests"][0]["annotations"]["org.example.b"].is_null(), "{manifest}");
    tools(&["create", "-t", &name("all:3"), "--platform=linux/arm64", &all]).ok();
    assert_eq!(platforms(&name("all:3")), ["arm64"]);
    tools(&["create", "-t", &name("one:1"), "--prefer-index=false", &name("app:amd64")]).ok();
    assert_eq!(registry.tag("one", "1"), registry.tag("app", "amd64"));
    let failed = tools(&["create", "-t", &name("all:4"), "--annotation", "manifest:a=1", &all]);
    assert!(failed.code == Some(1) && failed.stderr.contains("manifest-descriptor:"), "{failed:?}");
    let failed = tools(&["create", "-t", &name("all:4"), "--platform=linux/s390x", &all]);
    assert!(failed.code == Some(1) && failed.stderr.contains("linux/s390x"), "{failed:?}");
    assert_eq!(registry.tag("all", "4"), None);
}
