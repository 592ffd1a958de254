//! Every example of `examples/` does what its README says.

use std::fs;

use crate::{
    load::engine,
    plugin::call_in,
    support::{Bake, base_layout, tar_entries},
};

/// A copy of one example beside the base layout.
fn example(name: &str) -> Bake {
    let bake = Bake::new();
    bake.copy(&format!("examples/{name}"), name);
    fs::create_dir_all(bake.path("base")).expect("folders can be made");
    std::os::unix::fs::symlink(base_layout(), bake.path("base/layout")).expect("links can be made");
    bake
}

/// Runs `bake` in an example; the base layout lies outside its folder.
#[must_use]
fn run(bake: &Bake, name: &str, args: &[&str]) -> crate::support::Ran {
    let mut all = vec!["--progress=plain", "--allow", "fs.read=*"];
    all.extend(args);
    bake.run_in(name, &all)
}

fn names(bake: &Bake, path: &str) -> Vec<String> {
    tar_entries(&bake.path(path)).into_iter().map(|(name, _)| name).collect()
}

#[test]
fn binaries_are_joined_and_exported_to_a_folder() {
    let bake = example("binaries");
    run(&bake, "binaries", &[]).ok();
    assert!(bake.read("binaries/bin/client").contains("hello from client"));
    assert!(bake.read("binaries/bin/server").contains("hello from server 1.0.0"));
    run(&bake, "binaries", &["images"]).ok();
    assert!(names(&bake, "binaries/out/client.tar").contains(&"oci-layout".to_owned()));
    assert!(names(&bake, "binaries/out/server.tar").contains(&"manifest.json".to_owned()));
}

#[test]
fn an_intermediate_stage_is_exported_as_a_tar() {
    let bake = example("tar");
    run(&bake, "tar", &[]).ok();
    let result = tar_entries(&bake.path("tar/out/result.tar"));
    assert_eq!(result, [("all.txt".to_owned(), b"one\ntwo\n".to_vec())]);
    let builder = names(&bake, "tar/out/builder.tar");
    assert!(builder.contains(&"app/all.txt".to_owned()) && builder.contains(&"bin/busybox".to_owned()), "{builder:?}");
    let added = names(&bake, "tar/out/added.tar");
    assert!(added.contains(&"app/all.txt".to_owned()) && !added.contains(&"bin/busybox".to_owned()), "{added:?}");
}

#[test]
fn results_appear_together_or_not_at_all() {
    let bake = example("all-or-nothing");
    let failed = run(&bake, "all-or-nothing", &["--var", "BROKEN=1"]);
    assert_eq!((failed.code, bake.path("all-or-nothing/out").exists()), (Some(1), false), "{failed:?}");
    run(&bake, "all-or-nothing", &[]).ok();
    assert_eq!(bake.read("all-or-nothing/out/docs/server.txt"), "the server\n");
    let client = names(&bake, "all-or-nothing/out/client.tar");
    assert_eq!(client, ["client.txt"]);
    bake.write("all-or-nothing/client.txt", "another client\n");
    assert_eq!(run(&bake, "all-or-nothing", &["--var", "BROKEN=1"]).code, Some(1));
    assert_eq!(tar_entries(&bake.path("all-or-nothing/out/client.tar"))[0].1, b"the client\n");
    assert_eq!(bake.read("all-or-nothing/out/docs/client.txt"), "the client\n");
}

#[test]
fn two_platforms_get_a_folder_each() {
    let bake = example("platforms");
    run(&bake, "platforms", &[]).ok();
    assert_eq!(bake.read("platforms/out/linux_amd64/hello"), "hello, linux on amd64\n");
    assert_eq!(bake.read("platforms/out/linux_arm64/hello"), "hello, linux on arm64\n");
}

#[test]
fn exports_after_a_cache_only_build_run_nothing() {
    let bake = example("cacheonly");
    run(&bake, "cacheonly", &["test"]).ok();
    let second = run(&bake, "cacheonly", &[]).ok();
    assert!(
        !second.stderr.contains("DONE RUN") && bake.read("cacheonly/out/report") == "all tests passed\n",
        "{second:?}"
    );
}

#[test]
fn the_same_content_is_exported_as_image_then_folder_then_not_at_all() {
    let bake = example("image-then-local");
    run(&bake, "image-then-local", &["image"]).ok();
    run(&bake, "image-then-local", &["local"]).ok();
    assert_eq!(bake.read("image-then-local/out/root/content"), "content\n");
    let before =
        fs::metadata(bake.path("image-then-local/out/content.tar")).expect("written").modified().expect("time");
    run(&bake, "image-then-local", &["image", "local"]).ok();
    let after = fs::metadata(bake.path("image-then-local/out/content.tar")).expect("written").modified().expect("time");
    assert_eq!(before, after, "an export of known content writes nothing");
}

#[test]
fn a_monorepo_builds_its_release_group() {
    let bake = example("monorepo");
    run(&bake, "monorepo", &["release"]).ok();
    for service in ["api", "web"] {
        assert!(names(&bake, &format!("monorepo/out/{service}.tar")).contains(&"index.json".to_owned()));
    }
}

#[test]
fn a_matrix_makes_one_image_for_each_combination() {
    let bake = example("matrix");
    run(&bake, "matrix", &[]).ok();
    for name in ["plain-small", "plain-large", "debug-small", "debug-large"] {
        assert!(bake.path(&format!("matrix/out/{name}.tar")).exists(), "{name}");
    }
}

#[test]
fn a_reproducible_release_has_the_same_bytes_from_another_state() {
    let (one, two) = (example("reproducible"), example("reproducible"));
    run(&one, "reproducible", &[]).ok();
    fs::write(two.path("reproducible/site/index.html"), one.read("reproducible/site/index.html")).expect("touched");
    run(&two, "reproducible", &[]).ok();
    let read = |bake: &Bake| fs::read(bake.path("reproducible/out/site.tar")).expect("written");
    assert!(read(&one) == read(&two), "two cold builds differ");
}

#[test]
fn a_compose_file_is_a_plan() {
    let bake = example("compose");
    run(&bake, "compose", &[]).ok();
    assert!(bake.path("compose/out/web.tar").exists() && bake.path("compose/out/worker.tar").exists());
}

#[test]
fn a_dockerfile_is_built_from_the_command_line_and_an_image_by_its_name() {
    let bake = example("build");
    let base = "--build-context=base=oci-layout://../base/layout";
    let run = |args: &[&str]| bake.run_in("build", &[&["build"], args].concat()).ok();
    run(&[base, "--output=.", "--target=server", "."]);
    assert!(bake.read("build/bin/server").contains("hello from server"));
    run(&[base, "--output=bin", "--target=binaries", "."]);
    assert!(bake.read("build/bin/client").contains("hello from client"));
    run(&[base, "-t", "myapp-image", "."]);
    run(&["--output", "type=tar,dest=myapp.tar", "myapp-image"]);
    assert_eq!(names(&bake, "build/myapp.tar"), ["client", "server"]);
}

#[test]
fn a_script_is_converted_to_a_bake_file_that_builds_the_same() {
    let bake = example("build");
    let converted = bake.run_in("build", &["convert", "build.sh"]).ok();
    bake.write("build/docker-bake.hcl", &converted.stdout);
    run(&bake, "build", &["--var", "VERSION=2"]).ok();
    assert!(names(&bake, "build/out/server-2.tar").contains(&"index.json".to_owned()));
    assert!(bake.read("build/out/bin/client").contains("hello from client"));
}

#[test]
fn a_pipeline_of_docker_commands_is_served_by_the_plugin() {
    let bake = example("plugin");
    let images = engine(&bake);
    let host = format!("unix://{}", bake.path("engine.sock").display());
    let script = bake.read("plugin/pipeline.sh");
    let lines: Vec<&str> = script.lines().filter_map(|line| line.strip_prefix("docker ")).collect();
    assert_eq!(lines.len(), 6, "{script}");
    for line in lines {
        let words: Vec<&str> = line.split(' ').collect();
        call_in(&bake, "plugin", "docker-buildx", &words, &[("DOCKER_HOST", &host)]).ok();
    }
    let loaded: Vec<String> = images.lock().expect("no thread panics").images.keys().cloned().collect();
    assert_eq!(loaded, ["registry.example.com/motd:latest"]);
    assert!(names(&bake, "plugin/image.tar").contains(&"oci-layout".to_owned()));
    assert!(names(&bake, "plugin/out/motd.tar").contains(&"etc/motd".to_owned()));
}
