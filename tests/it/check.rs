//! `bake check`: all faults of all targets in one run, what is data, and the exit code.

use serde_json::Value;

use crate::support::{Bake, Ran};

/// Code, file, line and targets of every finding.
fn findings(ran: &Ran) -> Vec<String> {
    let all: Vec<Value> = serde_json::from_str(&ran.stdout).unwrap_or_else(|e| panic!("{e}: {ran:#?}"));
    let one = |it: &Value| {
        let text = |key: &str| it[key].as_str().unwrap_or("-").to_owned();
        let targets: Vec<&str> = it["targets"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
        let code = text("code").rsplit("::").next().unwrap_or_default().to_owned();
        format!("{} {code} {}:{} {}", text("severity"), text("file"), it["line"], targets.join(","))
    };
    all.iter().map(one).collect()
}

fn bake(definition: &str) -> Bake {
    let bake = Bake::new();
    bake.write("docker-bake.hcl", definition);
    bake.write("app/Dockerfile", "FROM scratch AS base\nMAINTAINER me\nFROM base\nCOPY $WHAT /\n");
    bake
}

const CLEAN: &str = "target \"clean\" {\n  dockerfile-inline = \"FROM scratch\\nCOPY a /a\\n\"\n}\n";

#[test]
fn a_fault_of_one_target_hides_none_of_another() {
    let bake = bake(
        r#"target "web" {
  context = "app"
}
target "api" {
  context   = "app"
  platforms = ["linux/amd64", "linux/arm64"]
}
target "gone" {
  context = "missing"
}
target "lost" {
  dockerfile = "app/Missing"
}
target "odd" {
  platforms = ["x y"]
}
target "broken" {
  dockerfile-inline = "FROM scratch\nFOO x\n"
}
target "linked" {
  contexts          = { dep = "target:broken" }
  dockerfile-inline = "FROM dep\nRUN --mount=type=nothing x\n"
}
target "unused" {
  args              = { NOBODY = "1" }
  dockerfile-inline = "FROM scratch\nCOPY a /a\n"
}
target "typo" {
  dockerfil = "x"
  context   = "app"
}
"#,
    );
    let ran = bake.run(&["check", "--format=json"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(1), ""), "{ran:#?}");
    let expected = [
        "warning maintainer_deprecated app/Dockerfile:2 web,api,typo",
        "warning undefined_var app/Dockerfile:4 web,api,typo",
        "error context_missing docker-bake.hcl:9 gone",
        "error dockerfile_unreadable docker-bake.hcl:12 lost",
        "error bad_option docker-bake.hcl:15 odd",
        "warning unused_build_arg docker-bake.hcl:25 unused",
        "warning unknown_attribute docker-bake.hcl:29 typo",
        "error unknown_instruction dockerfile-inline of broken:2 broken",
        "error bad_mount dockerfile-inline of linked:2 linked",
    ];
    assert_eq!(findings(&ran), expected);
    let text = bake.run(&["check"]);
    assert_eq!((text.code, text.stdout.as_str()), (Some(1), ""), "{text:#?}");
    assert!(text.stderr.ends_with("checked 8 targets, 4 Dockerfiles: 5 errors, 4 warnings\n"), "{text:#?}");
    let named = bake.run(&["check", "--format=json", "web", "unused"]).ok();
    assert_eq!(findings(&named).len(), 4, "{named:#?}");
    assert!(!bake.path("state").exists(), "a check needs no state");
}

#[test]
fn places_are_those_of_an_editor() {
    let bake = bake("target \"a\" { context = \"app\" }\n");
    let ran = bake.run(&["check", "--format", "json"]).ok();
    let all: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    let expected = serde_json::json!({
        "code": "bake::check::undefined_var",
        "severity": "warning",
        "message": "UndefinedVar: use of an undefined variable: $WHAT",
        "file": "app/Dockerfile",
        "line": 4,
        "column": 1,
        "endLine": 4,
        "endColumn": 13,
        "help": "see https://docs.docker.com/go/dockerfile/rule/undefined-var/",
        "targets": ["a"],
    });
    assert_eq!(all[1], expected);
}

#[test]
fn warnings_fail_only_when_strict() {
    let bake = bake(&format!("{CLEAN}target \"old\" {{ context = \"app\" }}\n"));
    let ran = bake.run(&["check", "old"]).ok();
    assert!(ran.stderr.contains("MaintainerDeprecated") && ran.stderr.contains(": 2 warnings\n"), "{ran:#?}");
    let strict = bake.run(&["check", "--strict", "old"]);
    assert_eq!(strict.code, Some(1), "{strict:#?}");
    assert!(strict.stderr.contains(": 2 errors\n"), "{strict:#?}");
    let clean = bake.run(&["check", "--strict", "clean"]).ok();
    assert_eq!(clean.stderr, "checked 1 target, 1 Dockerfile: all is well\n");
    assert_eq!(bake.run(&["check", "--format=json", "clean"]).ok().stdout, "[]\n");
}

#[test]
fn what_only_an_image_could_tell_is_not_judged() {
    let bake = bake(
        r#"target "a" {
  dockerfile-inline = <<EOT
FROM image.invalid/base AS one
WORKDIR $HOME_OF_BASE
EXPOSE $PORT
COPY a $${DIR:?is set by the base}
FROM one
USER $NAME
FROM scratch
COPY a /$NAME
EOT
}
target "b" {
  contexts          = { up = "target:a", elsewhere = "docker-image://image.invalid/b" }
  dockerfile-inline = "FROM elsewhere\nUSER $X\nCOPY --from=up a /$Y\n"
}
target "far" {
  context   = "https://example.invalid/a.git"
  platforms = ["linux/amd64", "linux/arm64"]
}
"#,
    );
    let ran = bake.run(&["check", "--format=json"]).ok();
    assert_eq!(findings(&ran), ["warning undefined_var dockerfile-inline of a:8 a"], "{ran:#?}");
    assert_eq!(ran.stderr, "not looked at, the Dockerfile is fetched by the build: far\n");
}

#[test]
fn nothing_is_concluded_from_an_image_that_was_not_read() {
    let bake = bake(
        r#"target "a" {
  dockerfile-inline = <<EOT
FROM image.invalid/base
ENV COPY_OF=$SET_BY_BASE ALSO=x$SET_BY_BASE
ARG DEFAULT=$COPY_OF
USER $COPY_OF
WORKDIR $DEFAULT
VOLUME $COPY_OF
STOPSIGNAL $COPY_OF
EXPOSE $ALSO $${SET_BY_BASE:?base}
COPY $COPY_OF /x
ENV COPY_OF=known
WORKDIR $COPY_OF
STOPSIGNAL $COPY_OF
CMD a shell of the base runs it
FROM scratch
CMD a shell
EOT
}
"#,
    );
    bake.write(".dockerignore", "*\n");
    let ran = bake.run(&["check", "--format=json"]);
    let expected =
        ["error bad_signal dockerfile-inline of a:12 a", "warning json_args_recommended dockerfile-inline of a:15 a"];
    assert_eq!(findings(&ran), expected, "{ran:#?}");
}

#[test]
fn an_image_that_cannot_be_read_hides_no_other_stage() {
    let bake = bake(
        r#"target "a" {
  contexts          = { gone = "oci-layout://missing" }
  dockerfile-inline = <<EOT
FROM gone
USER $X
FROM Bad/Name AS bad
USER $X
FROM scratch AS good
COPY a $NAME
FROM bad
CMD x
FROM good
MAINTAINER me
EOT
}
"#,
    );
    let expected = [
        "error image dockerfile-inline of a:1 a",
        "error bad_reference dockerfile-inline of a:3 a",
        "warning undefined_var dockerfile-inline of a:6 a",
        "warning maintainer_deprecated dockerfile-inline of a:10 a",
    ];
    let ran = bake.run(&["check", "--format=json"]);
    assert_eq!(findings(&ran), expected, "{ran:#?}");
    let called = bake.run(&["--check", "a"]);
    assert_eq!(called.code, Some(1), "{called:#?}");
    assert!(called.stdout.contains("UndefinedVar") && called.stdout.contains("Bad/Name"), "{called:#?}");
}

#[test]
fn ignored_sources_are_found_among_exceptions() {
    let bake = bake("");
    bake.write("docker-bake.hcl", "target \"a\" {}\n");
    bake.write(".dockerignore", "*\n!a.txt\n!sub/keep\n!*.md\n");
    let dockerfile =
        "FROM scratch\nCOPY a.txt sub/keep /\nCOPY sub /sub\nCOPY *.md *.txt . /\nCOPY b.txt /\nADD other /\n";
    bake.write("Dockerfile", dockerfile);
    let ran = bake.run(&["check", "--format=json"]).ok();
    let expected = ["warning copy_ignored_file Dockerfile:5 a", "warning copy_ignored_file Dockerfile:6 a"];
    assert_eq!(findings(&ran), expected, "{ran:#?}");
}

#[test]
fn outputs_conflict_only_in_what_is_built_together() {
    let target = |name: &str| {
        format!(
            "target \"{name}\" {{\n  dockerfile-inline = \"FROM scratch\\nCOPY {name} /\\n\"\n  output = [\"type=tar,dest=o.tar\"]\n}}\n"
        )
    };
    let apart = format!("{}{}", target("a"), target("b"));
    bake(&apart).run(&["check"]).ok();
    let named = bake(&apart).run(&["check", "a", "b"]);
    assert_eq!(named.code, Some(1), "{named:#?}");
    let inner = "group \"inner\" { targets = [\"a\"] }\ngroup \"all\" { targets = [\"inner\", \"b\"] }\n";
    let grouped = bake(&format!("{apart}{inner}")).run(&["check", "--format=json"]);
    assert_eq!(findings(&grouped), ["error same_dest docker-bake.hcl:7 b"], "{grouped:#?}");
}

#[test]
fn a_fault_of_syntax_hides_no_dockerfile_of_a_whole_target() {
    let bake = bake(
        r#"target "whole" {
  context = "app"
}
target "torn" {
  tags    = [
  context = "app"
}
target "child" {
  inherits   = ["torn"]
  dockerfile = "nowhere"
}
"#,
    );
    let ran = bake.run(&["check", "--format=json"]);
    let expected = [
        "warning maintainer_deprecated app/Dockerfile:2 whole",
        "warning undefined_var app/Dockerfile:4 whole",
        "error syntax docker-bake.hcl:6 torn",
    ];
    assert_eq!((ran.code, findings(&ran)), (Some(1), expected.map(str::to_owned).to_vec()), "{ran:#?}");
}

#[test]
fn faults_of_syntax_and_usage_are_told() {
    let bake = bake("target \"a\" {\n  tags = [\n}\ntarget \"b\" { pull = }\n");
    let ran = bake.run(&["check", "--format=json"]);
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    assert!(findings(&ran).len() >= 2, "{ran:#?}");
    let missing = Bake::new().run(&["check", "--format=json"]);
    assert_eq!((missing.code, findings(&missing)), (Some(1), vec!["error none -:null ".to_owned()]), "{missing:#?}");
    let unknown = self::bake(CLEAN).run(&["check", "claen"]);
    assert!(unknown.code == Some(1) && unknown.stderr.contains("did you mean `clean`?"), "{unknown:#?}");
    self::bake("variable \"ONLY\" {}\n").run(&["check"]).ok();
    assert_eq!(bake.run(&["check", "--format=yaml"]).code, Some(2));
}

#[test]
fn what_is_only_inherited_needs_no_dockerfile() {
    let text = "target \"_common\" {\n  args = { A = \"1\" }\n}\n\
                target \"app\" {\n  inherits = [\"_common\"]\n  dockerfile = \"docker/D\"\n}\n";
    let bake = bake(text);
    bake.write("docker/D", "FROM scratch\nARG A\nLABEL a=$A\n");
    std::fs::remove_file(bake.path("Dockerfile")).ok();
    bake.run(&["check"]).ok();
    // Asked for by name, or by a group, it is built.
    assert_eq!(bake.run(&["check", "_common"]).code, Some(1));
    bake.write("docker-bake.hcl", &format!("{text}group \"all\" {{\n  targets = [\"_common\", \"app\"]\n}}\n"));
    assert_eq!(bake.run(&["check"]).code, Some(1));
}
