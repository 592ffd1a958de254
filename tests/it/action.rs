//! The GitHub action: `action.yml` and the scripts in `packaging/action`, run here with an environment like that of a runner.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::support::{Bake, Ran, git, skipped};

/// The inputs of the public bake action, at the time of its version 7; `workdir` is of versions before.
const PUBLIC_INPUTS: [&str; 16] = [
    "builder",
    "source",
    "allow",
    "call",
    "files",
    "workdir",
    "targets",
    "no-cache",
    "pull",
    "load",
    "provenance",
    "push",
    "sbom",
    "set",
    "vars",
    "github-token",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn action() -> Value {
    yaml_reader::from_str(&text("action.yml")).expect("YAML")
}

/// A program `bake` that tells how it was called, and writes metadata.
const FAKE: &str = r#"#!/bin/bash
printf '%s\n' "pwd=$PWD" "token=${BUILDX_BAKE_GIT_AUTH_TOKEN-}" "$@" > "$CALLED"
while (($#)); do
  if [[ $1 == --metadata-file ]]; then printf '{\n  "app": {}\n}\n' > "$2"; fi
  shift
done
exit "${FAKE_CODE:-0}"
"#;

struct Runner {
    bake: Bake,
}

impl Runner {
    /// A runner whose `bake` is the fake one.
    fn new() -> Self {
        let runner = Self { bake: Bake::new() };
        runner.program(FAKE);
        fs::create_dir_all(runner.bake.path("work/app")).expect("folders can be made");
        runner
    }

    fn program(&self, text: &str) {
        self.bake.write("bin/bake", text);
        fs::set_permissions(self.bake.path("bin/bake"), fs::Permissions::from_mode(0o755)).expect("ours");
    }

    fn script(&self, name: &str, env: &[(&str, &str)]) -> Ran {
        let path = format!("{}:{}", self.bake.path("bin").display(), std::env::var("PATH").unwrap_or_default());
        let mut command = Command::new("bash");
        command.arg(root().join("packaging/action").join(name)).current_dir(self.bake.path("work")).env_clear();
        command.env("PATH", path).env("HOME", self.bake.path("home")).env("CALLED", self.bake.path("called"));
        command.env("BAKE_HOME", self.bake.path("state"));
        for name in ["GITHUB_OUTPUT", "GITHUB_PATH"] {
            command.env(name, self.bake.path(name));
        }
        command.env("RUNNER_TOOL_CACHE", self.bake.path("tools"));
        command.env("GITHUB_SERVER_URL", "https://github.test").env("GITHUB_REPOSITORY", "me/app");
        command.env("GITHUB_SHA", "0123abc").env("GITHUB_REF", "refs/heads/main").env("GITHUB_RUN_ID", "7");
        let output = command.envs(env.iter().copied()).output().expect("bash is there");
        Ran {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// How the fake `bake` is called with these inputs: where, with which token, and its arguments.
    fn called(&self, env: &[(&str, &str)]) -> (String, String, Vec<String>) {
        self.script("run.sh", env).ok();
        let text = self.bake.read("called");
        let mut lines = text.lines().map(str::to_owned);
        let mut value = |name: &str| lines.next().expect("a line").trim_start_matches(name).to_owned();
        let (pwd, token) = (value("pwd="), value("token="));
        let place =
            Path::new(&pwd).strip_prefix(self.bake.path("work")).map_or(pwd.clone(), |it| it.display().to_string());
        let mut arguments: Vec<String> = lines.collect();
        // A path of its own for each run.
        let at = arguments.iter().position(|it| it == "--metadata-file").expect("it is always wanted");
        arguments.drain(at..at + 2);
        (place, token, arguments)
    }
}

#[test]
fn every_input_is_documented_and_used() {
    let action = action();
    let inputs = action["inputs"].as_object().expect("inputs");
    let scripts = text("packaging/action/run.sh") + &text("packaging/action/install.sh");
    let steps = action["runs"]["steps"].as_array().expect("steps");
    let passed: BTreeMap<String, String> = steps
        .iter()
        .flat_map(|step| step["env"].as_object().into_iter().flatten())
        .map(|(name, value)| (name.clone(), value.as_str().expect("a text").to_owned()))
        .collect();
    let docs = text("docs/reports.md");
    let (_, table) = docs.split_once("| input | meaning |").expect("the list of inputs");
    for (name, input) in inputs {
        let variable = format!("INPUT_{}", name.to_uppercase().replace('-', "_"));
        assert_eq!(passed.get(&variable), Some(&format!("${{{{ inputs.{name} }}}}")), "action.yml does not pass it on");
        assert!(scripts.contains(&format!("${{{variable}:-")), "no script reads: {variable}");
        let is_told = table.lines().filter(|line| line.starts_with('|')).any(|line| {
            line.split('|').nth(1).is_some_and(|cell| cell.split(',').any(|it| it.trim() == format!("`{name}`")))
        });
        assert!(is_told, "docs/reports.md does not tell of: {name}");
        assert!(input["description"].as_str().is_some_and(|text| !text.is_empty()), "{name}");
    }
    let missing: Vec<&&str> = PUBLIC_INPUTS.iter().filter(|name| !inputs.contains_key(**name)).collect();
    assert!(missing.is_empty(), "inputs of the public action: {missing:?}");
    for name in passed.keys().filter(|name| name.starts_with("INPUT_")) {
        let input = name.trim_start_matches("INPUT_").to_lowercase().replace('_', "-");
        assert!(inputs.contains_key(&input), "no input: {name}");
    }
    assert_eq!(action["outputs"]["metadata"]["value"], "${{ steps.bake.outputs.metadata }}");
    assert!(
        action["name"].is_string() && action["branding"]["icon"].is_string() && action["branding"]["color"].is_string()
    );
}

#[test]
fn inputs_become_arguments() {
    let runner = Runner::new();
    let (place, token, arguments) = runner.called(&[
        ("INPUT_SOURCE", "."),
        ("INPUT_FILES", "a.hcl, b.hcl\n c.hcl"),
        ("INPUT_TARGETS", "web,\n\nworker"),
        ("INPUT_SET", "*.tags=a,b\n web.args.X=1 2 "),
        ("INPUT_VARS", "A=1,2\nB=x"),
        ("INPUT_ALLOW", "network.host"),
        ("INPUT_CALL", "check"),
        ("INPUT_NO_CACHE", "true"),
        ("INPUT_PULL", "True"),
        ("INPUT_LOAD", "false"),
        ("INPUT_PUSH", "TRUE"),
        ("INPUT_SBOM", "generator=x"),
        ("INPUT_PROVENANCE", "mode=max"),
        ("INPUT_BUILDER", "ci"),
        ("INPUT_GITHUB_TOKEN", "t"),
        ("INPUT_REPORT", "sarif=a.sarif\njunit=b.xml"),
    ]);
    assert_eq!((place.as_str(), token.as_str()), ("", ""), "a folder gets no token");
    let expected = "--allow network.host --allow fs=* --file a.hcl --file b.hcl --file c.hcl --set *.tags=a,b --set web.args.X=1 2 --var \
                    A=1,2 --var B=x --report sarif=a.sarif --report junit=b.xml --call check --builder ci --sbom generator=x --no-cache \
                    --pull --push --provenance mode=max,builder-id=https://github.test/me/app/actions/runs/7 -- web worker";
    assert_eq!(arguments.join(" "), expected);
    let bad = runner.script("run.sh", &[("INPUT_PUSH", "yes"), ("INPUT_SOURCE", ".")]);
    assert_eq!(
        (bad.code, bad.stdout.as_str()),
        (Some(1), "::error title=bake::the input push is neither true nor false: yes\n")
    );
    for (given, told) in [
        ("true", "builder-id=https://github.test/me/app/actions/runs/7"),
        ("false", "false"),
        ("builder-id=x", "builder-id=x"),
    ] {
        let (.., arguments) = runner.called(&[("INPUT_SOURCE", "."), ("INPUT_PROVENANCE", given)]);
        assert_eq!(arguments[2..4], ["--provenance", told]);
    }
}

#[test]
fn the_source_is_a_folder_or_a_definition_that_gets_the_token_of_its_server() {
    let runner = Runner::new();
    let own = "https://github.test/me/app.git#0123abc";
    let source = |env: &[(&str, &str)]| {
        let (place, token, arguments) = runner.called(&[&[("INPUT_GITHUB_TOKEN", "t")], env].concat());
        (place, token, arguments.into_iter().next().expect("an argument"))
    };
    let at = |place: &str, token: &str, first: &str| (place.to_owned(), token.to_owned(), first.to_owned());
    assert_eq!(source(&[]), at("", "t", own));
    assert_eq!(source(&[("INPUT_SOURCE", "app")]), at("app", "", "--allow"));
    assert_eq!(source(&[("INPUT_WORKDIR", "app")]), at("app", "", "--allow"));
    assert_eq!(source(&[("INPUT_SOURCE", "{{ defaultContext }}:sub")]), at("", "t", &format!("{own}:sub")));
    assert_eq!(source(&[("INPUT_SOURCE", "https://else.test/a.git")]), at("", "", "https://else.test/a.git"));
    assert_eq!(source(&[("INPUT_SOURCE", "git@else.test:a/b")]), at("", "", "git@else.test:a/b"));
    assert_eq!(source(&[("BUILDX_BAKE_GIT_AUTH_TOKEN", "mine")]), at("", "mine", own));
    assert_eq!(
        source(&[("GITHUB_REF", "refs/pull/5/merge")]),
        at("", "t", "https://github.test/me/app.git#refs/pull/5/head")
    );
    let bad = runner.script("run.sh", &[("INPUT_SOURCE", "missing")]);
    assert!(
        bad.code == Some(1) && bad.stdout.contains("neither a folder nor the URL of a definition: missing"),
        "{bad:#?}"
    );
}

#[test]
fn the_output_has_the_metadata_and_the_exit_code_is_that_of_bake() {
    let runner = Runner::new();
    let failed = runner.script("run.sh", &[("INPUT_SOURCE", "."), ("FAKE_CODE", "3")]);
    assert_eq!(failed.code, Some(3), "{failed:#?}");
    let output = runner.bake.read("GITHUB_OUTPUT");
    let end =
        output.lines().next().and_then(|line| line.strip_prefix("metadata<<")).expect("the form of several lines");
    assert_eq!(output, format!("metadata<<{end}\n{{\n  \"app\": {{}}\n}}\n{end}\n"));
}

#[test]
fn the_program_takes_what_the_script_gives_it() {
    let runner = Runner::new();
    runner.program(&format!("#!/bin/sh\nexec {} \"$@\"\n", env!("CARGO_BIN_EXE_bake")));
    runner.bake.write("work/docker-bake.hcl", "variable \"T\" { default = \"x\" }\ntarget \"app\" {\n  dockerfile-inline = \"FROM scratch\\nCOPY a /a\\n\"\n  tags = [\"app:${T}\"]\n  output = [\"type=oci,dest=out.tar\"]\n}\n");
    runner.bake.write("work/a", "a");
    let env = [
        ("INPUT_SOURCE", "."),
        ("INPUT_TARGETS", "app"),
        ("INPUT_VARS", "T=7"),
        ("INPUT_SET", "app.args.X=1"),
        ("INPUT_PROVENANCE", "mode=min"),
        ("INPUT_NO_CACHE", "true"),
        ("INPUT_BUILDER", "embedded"),
        ("INPUT_REPORT", "summary=s.md"),
        ("GITHUB_ACTIONS", "true"),
    ];
    let ran = runner.script("run.sh", &env).ok();
    let output = runner.bake.read("GITHUB_OUTPUT");
    assert!(output.contains("\"image.name\": \"docker.io/library/app:7\""), "{output} {ran:#?}");
    assert!(runner.bake.read("work/s.md").contains("| `app` |"));
    // A remote definition comes before the flags.
    runner.bake.write("repo/docker-bake.hcl", "target \"app\" { dockerfile-inline = \"FROM scratch\" }\n");
    git(&runner.bake, "repo", &["init", "-q", "-b", "main"]);
    let url = runner.bake.path("repo").display().to_string();
    let remote =
        runner.script("run.sh", &[("INPUT_SOURCE", &format!("git://127.0.0.1:1{url}")), ("INPUT_TARGETS", "app")]);
    assert!(remote.stderr.contains("bake::definition::remote"), "{remote:#?}");
}

/// A server of releases, as a folder: that of version 0.1.0, with its checksum.
fn releases(runner: &Runner) -> String {
    let machine = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    let name = format!("bake-0.1.0-linux-{machine}.rootfs.tar");
    let folder: PathBuf = runner.bake.path("server/me/bake/releases/download/v0.1.0");
    runner.bake.write("release/bake", "#!/bin/sh\necho bake 0.1.0\n");
    fs::set_permissions(runner.bake.path("release/bake"), fs::Permissions::from_mode(0o755)).expect("ours");
    fs::create_dir_all(&folder).expect("folders can be made");
    let shell = format!(
        "tar -c -f '{0}/{name}' -C '{1}' bake && cd '{0}' && sha256sum {name} > SHA256SUMS",
        folder.display(),
        runner.bake.path("release").display()
    );
    assert!(Command::new("bash").args(["-c", &shell]).status().expect("bash is there").success());
    format!("file://{}", runner.bake.path("server").display())
}

#[test]
fn a_release_is_installed_once_if_its_checksum_is_right() {
    if Command::new("curl").arg("--version").output().is_err() {
        return skipped("curl fetches the release", Some("curl"));
    }
    let runner = Runner::new();
    let server = releases(&runner);
    let env = |version: &'static str| {
        [
            ("INPUT_VERSION", version),
            ("ACTION_SERVER_URL", server.as_str()),
            ("ACTION_REPOSITORY", "me/bake"),
            ("ACTION_REF", "v0.1.0"),
        ]
    };
    for version in ["0.1.0", "v0.1.0", ""] {
        let ran = runner.script("install.sh", &env(version)).ok();
        assert_eq!(ran.stdout, "bake 0.1.0\n", "{ran:#?}");
    }
    let folder = runner.bake.read("GITHUB_PATH").lines().last().expect("a line").to_owned();
    assert!(Path::new(&folder).join("bake").exists(), "{folder}");
    fs::remove_dir_all(runner.bake.path("server")).expect("ours");
    runner.script("install.sh", &env("0.1.0")).ok();

    let runner = Runner::new();
    let server = releases(&runner);
    let folder = runner.bake.path("server/me/bake/releases/download/v0.1.0");
    let sums = fs::read_to_string(folder.join("SHA256SUMS")).expect("there");
    let flipped = if sums.starts_with('0') { sums.replacen('0', "1", 1) } else { format!("0{}", &sums[1..]) };
    for (sums, told) in [(flipped, "does not have the checksum"), (String::new(), "does not list")] {
        fs::write(folder.join("SHA256SUMS"), sums).expect("writable");
        let env =
            [("INPUT_VERSION", "0.1.0"), ("ACTION_SERVER_URL", server.as_str()), ("ACTION_REPOSITORY", "me/bake")];
        let ran = runner.script("install.sh", &env);
        assert!(ran.code == Some(1) && ran.stdout.contains(told), "{ran:#?}");
        assert!(!runner.bake.path("GITHUB_PATH").exists(), "nothing is installed");
    }
    let missing = runner.script(
        "install.sh",
        &[("INPUT_VERSION", "9.9.9"), ("ACTION_SERVER_URL", server.as_str()), ("ACTION_REPOSITORY", "me/bake")],
    );
    assert!(missing.code == Some(1) && missing.stdout.contains("the release cannot be fetched"), "{missing:#?}");
    let bad = runner.script("install.sh", &[("INPUT_VERSION", "newest")]);
    assert!(bad.stdout.contains("version is not a release, as in 0.1.0: newest"), "{bad:#?}");
}

#[test]
fn without_a_release_it_is_built_from_the_sources_of_the_action() {
    let runner = Runner::new();
    runner.bake.write("bin/cargo", "#!/bin/bash\nprintf '%s\\n' \"$@\" > \"$CALLED\"\nmkdir -p \"${!#}/release\"\ncp \"$(dirname \"$0\")/version\" \"${!#}/release/bake\"\n");
    runner.bake.write("bin/version", "#!/bin/sh\necho built\n");
    for name in ["bin/cargo", "bin/version"] {
        fs::set_permissions(runner.bake.path(name), fs::Permissions::from_mode(0o755)).expect("ours");
    }
    let ran = runner.script("install.sh", &[("GITHUB_ACTION_PATH", "/action"), ("ACTION_REF", "main")]).ok();
    assert_eq!(ran.stdout, "built\n");
    assert!(
        runner.bake.read("called").starts_with("build\n--release\n--locked\n--manifest-path\n/action/Cargo.toml\n")
    );
    let there = runner.script("install.sh", &[("INPUT_VERSION", "installed")]).ok();
    assert_eq!(there.code, Some(0));
}
