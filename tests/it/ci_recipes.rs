//! Every command line of docs/ci.md, run in the order of the page in a project of two targets with a registry: what can be run
//! without the services is.

use std::{fs, path::Path, process::Command};

use crate::{docker_registry::Registry, support::Bake};

/// The command lines of the fenced blocks, as a shell takes them.
fn commands(page: &str) -> Vec<String> {
    let mut is_code = false;
    let mut found = Vec::new();
    for line in page.lines() {
        if line.starts_with("```") {
            is_code = !is_code;
            continue;
        }
        let line = line.trim();
        let of_groovy = line.split_once("sh '").and_then(|(_, rest)| rest.split('\'').next());
        let of_step = line.trim_start_matches("- ").strip_prefix("run: ");
        let plain = line.trim_start_matches("$ ").trim_start_matches("- ");
        let command = of_groovy.or(of_step).unwrap_or(plain);
        if is_code && (command.starts_with("bake ") || command.contains("$(bake ") || line.starts_with("$ ")) {
            found.push(command.to_owned());
        }
    }
    found
}

/// What a service puts in place of its expressions.
fn filled_in(command: &str) -> String {
    let filled = command.replace("${{ matrix.targets }}", "app api").replace("$(params.targets)", "release");
    assert!(!filled.contains("{{") && !filled.contains("$(params"), "an expression is not known: {command}");
    filled
}

fn git(bake: &Bake, args: &[&str]) {
    let mut command = Command::new("git");
    command.args(["-c", "user.name=a", "-c", "user.email=a@b.invalid"]).args(args).current_dir(bake.path("project"));
    let output = command.output().expect("git is installed");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn project(bake: &Bake) {
    bake.write("project/app/Dockerfile", "FROM scratch\nARG TARGETARCH\nCOPY file /file-$TARGETARCH\n");
    bake.write("project/app/file", "first");
    bake.write("project/api/Dockerfile", "FROM scratch\nCOPY file /\n");
    bake.write("project/api/file", "api");
    let target = |name: &str, platforms: &str| {
        format!(
            "target \"{name}\" {{\n  context = \"{name}\"\n  tags = [\"${{REGISTRY}}/{name}:1\"]\n  \
             platforms = [{platforms}]\n}}\n"
        )
    };
    bake.write(
        "project/docker-bake.hcl",
        &[
            "variable \"REGISTRY\" {\n  default = \"\"\n}\n",
            "group \"default\" {\n  targets = [\"release\"]\n}\n",
            "group \"release\" {\n  targets = [\"app\", \"api\"]\n}\n",
            &target("app", "\"linux/amd64\", \"linux/arm64\""),
            &target("api", "\"linux/amd64\""),
        ]
        .concat(),
    );
    git(bake, &["init", "-q", "-b", "main"]);
    git(bake, &["add", "."]);
    git(bake, &["commit", "-q", "-m", "first"]);
    git(bake, &["update-ref", "refs/remotes/origin/main", "HEAD"]);
    bake.write("project/app/file", "second");
    git(bake, &["commit", "-q", "-a", "-m", "second"]);
}

#[test]
fn every_command_line_of_the_recipes_runs() {
    let bake = Bake::new();
    let registry = Registry::start(&bake);
    project(&bake);
    fs::create_dir(bake.path("bin")).expect("a new folder");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_bake"), bake.path("bin/bake")).expect("a new link");
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/ci.md")).expect("it is there");
    let commands = commands(&page);
    let n_named = page.lines().filter(|line| line.contains("bake release") || line.contains("bake matrix")).count();
    assert!(commands.len() > 20 && n_named > 10, "{commands:#?}");
    let mut outputs = String::new();
    for command in &commands {
        let mut shell = Command::new("sh");
        shell.args(["-ec", &filled_in(command)]).current_dir(bake.path("project")).env_clear();
        let path = std::env::var("PATH").unwrap_or_default();
        shell.env("PATH", format!("{}:{path}", bake.path("bin").display()));
        shell.env("HOME", bake.path("home")).env("BAKE_HOME", bake.path("state"));
        shell.env("REGISTRY", &registry.address).env("BAKE_TARGETS", "api").env("NO_COLOR", "1");
        shell.env("BAKE_CACHE", format!("type=registry,ref={}/cache:main,mode=max", registry.address));
        shell.env("GITHUB_OUTPUT", bake.path("outputs"));
        let output = shell.output().expect("a shell is there");
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{command}\n{stdout}\n{stderr}");
        outputs += &stdout;
    }
    // What they are there for has happened.
    assert!(outputs.contains("app  app/file: "), "{outputs}");
    let matrix = bake.read("outputs");
    assert!(matrix.starts_with("matrix={\"include\":[{\"name\":\"1/2\""), "{matrix}");
    assert!(bake.read("project/jobs.yml").contains("\"bake app\":\n  extends: .bake"));
    for report in ["bake.sarif", "bake.xml", "gl-code-quality-report.json", "metadata.json"] {
        assert!(bake.path(&format!("project/{report}")).is_file(), "{report}");
    }
}
