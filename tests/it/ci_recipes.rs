//! Every command line of docs/ci.md, run in the order of the page in a project of two targets with a registry: what can be run
//! without the services is.

use std::{fs, path::Path, process::Command};

use crate::{
    docker_registry::Registry,
    support::{Bake, base_layout, skipped},
};

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

/// A container as the pod of the page: an ordinary user without capabilities, and no new privileges.
fn pod(bake: &Bake, command: &[&str]) -> std::process::Output {
    let (soft, hard) = {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        (limit.current.unwrap_or(1024), limit.maximum.unwrap_or(1024))
    };
    let mut podman = Command::new("podman");
    podman.args(["--runtime", "runc", "run", "--rm", "--network=none", "--user=1000:1000", "--cap-drop=all"]);
    podman.args(["--security-opt=seccomp=unconfined", "--security-opt=no-new-privileges", "--pids-limit=0"]);
    podman.arg(format!("--ulimit=nofile={soft}:{hard}")).arg("--ulimit=nproc=1000:1000");
    let mount = |from: &Path, to: &str| format!("--volume={}:{to}", from.display());
    podman.arg(mount(&bake.path("work"), "/bake"));
    podman.arg(mount(Path::new(env!("CARGO_BIN_EXE_bake")), "/bin/bake:ro"));
    podman.arg(mount(base_layout(), "/base:ro"));
    for variable in ["BAKE_SINGLE_ID=1", "BAKE_NETWORK=host", "BAKE_HOME=/bake/state", "HOME=/bake"] {
        podman.arg(format!("--env={variable}"));
    }
    podman.arg("--workdir=/bake/source").arg("--rootfs").arg(bake.path("rootfs"));
    podman.args(command).output().expect("podman is there")
}

#[test]
fn a_pod_without_privileges_builds() {
    let is_there = Path::new("/usr/bin/podman").exists();
    if !is_there || !rustix::process::geteuid().is_root() {
        skipped("needs root and podman", (!is_there).then_some("podman"));
        return;
    }
    let bake = Bake::new();
    let args = ["build", "--allow=fs=*", "-o", "type=local,dest=rootfs", "-"];
    let context = format!("--build-context=base=oci-layout://{}", base_layout().display());
    let made = bake.run_reading("", &[&args[..4], &[&context, "-"]].concat(), "FROM base\n");
    assert_eq!(made.code, Some(0), "{made:#?}");
    bake.write("work/source/Dockerfile", "FROM base\nRUN echo hello > /x && id -u > /y\n");
    bake.write(
        "work/source/docker-bake.hcl",
        "target \"default\" {\n  contexts = { base = \"oci-layout:///base\" }\n  output = [\"type=local,dest=out\"]\n}\n",
    );
    let give = Command::new("chown").args(["-R", "1000:1000", "work"]).current_dir(bake.dir.path()).status();
    assert!(give.expect("it is there").success());
    // The temporary folder is its owner's alone.
    fs::set_permissions(bake.dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("it is ours");
    let able = pod(&bake, &["true"]);
    if !able.status.success() {
        skipped(&format!("podman runs nothing here: {}", String::from_utf8_lossy(&able.stderr).trim()), None);
        return;
    }
    let built = pod(&bake, &["bake", "--allow=fs.read=/base", "--progress=plain"]);
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    assert_eq!((bake.read("work/source/out/x"), bake.read("work/source/out/y")), ("hello\n".into(), "0\n".into()));
}
