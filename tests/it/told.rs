//! What a run tells of its faults: whose they are, each once, warnings before the error, and as JSON for programs.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use crate::support::{Bake, base_layout};

/// Targets made from one Dockerfile, whose stages may begin with `base`.
fn project(dockerfile: &str, targets: &str) -> Bake {
    let bake = Bake::new();
    bake.write("Dockerfile", dockerfile);
    bake.write("docker-bake.hcl", &targets.replace("BASE", &format!("oci-layout://{}", base_layout().display())));
    bake
}

const MATRIX: &str = r#"target "t" {
  name     = "svc-${n}"
  matrix   = { n = ["a", "b"] }
  args     = { N = n }
  contexts = { base = "BASE" }
  output   = ["type=cacheonly"]
}
"#;

#[test]
fn a_failure_names_its_target_and_its_stage() {
    let bake = project("FROM base AS build\nARG N\nRUN test $N = a\nFROM scratch\nCOPY --from=build /bin /\n", MATRIX);
    let ran = bake.run(&["--progress=quiet", "--allow=fs.read=*", "t"]);
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    assert!(ran.stderr.ends_with("  target: svc-b\n  stage: build\n\n"), "{ran:#?}");
    let bake = project("FROM base AS build\nRUN false\n", MATRIX);
    let shared = bake.run(&["--progress=quiet", "--allow=fs.read=*", "t"]);
    assert!(shared.stderr.contains("  targets: svc-a, svc-b\n"), "the step is that of both targets: {shared:#?}");
}

#[test]
fn a_failure_is_that_of_the_target_that_failed_and_not_of_those_that_read_it() {
    let targets = r#"group "default" {
  targets = ["app"]
}
target "lib" {
  contexts          = { base = "BASE" }
  dockerfile-inline = "FROM base\nRUN false\n"
}
target "app" {
  contexts          = { lib = "target:lib" }
  dockerfile-inline = "FROM lib\nRUN true\n"
  output            = ["type=cacheonly"]
}
"#;
    let ran = project("", targets).run(&["--progress=quiet", "--allow=fs.read=*"]);
    assert!(ran.stderr.contains("  target: lib\n"), "{ran:#?}");
}

#[test]
fn warnings_name_their_targets_and_come_before_the_error() {
    let targets = r#"target "default" {
  args     = { UNKNOWN = "1" }
  contexts = { base = "BASE" }
  contxt   = "."
  output   = ["type=cacheonly"]
}
"#;
    let bake = project("FROM base\nMAINTAINER me\nRUN false\n", targets);
    let ran = bake.run(&["--progress=quiet", "--allow=fs.read=*"]);
    let stderr = &ran.stderr;
    let places: Vec<Option<usize>> =
        ["no attribute of this name: contxt", "MaintainerDeprecated", "declared by any ARG: UNKNOWN", "exit code: 1"]
            .map(|text| stderr.find(text))
            .into();
    assert!(places.iter().all(Option::is_some) && places[3] > places[1].max(places[2]), "{places:?} {ran:#?}");
    assert!(places[0] < places[1], "{ran:#?}");
    assert_eq!(stderr.matches("  target: default\n").count(), 4, "{ran:#?}");
    assert!(stderr.contains("Dockerfile:2:1") && stderr.contains("docker-bake.hcl:2:"), "{ran:#?}");
}

#[test]
fn equal_warnings_are_told_once_with_the_targets_that_have_them() {
    let numbers: Vec<String> = (10..50).map(|it| format!("\"{it}\"")).collect();
    let targets = format!(
        r#"target "t" {{
  name              = "t${{n}}"
  matrix            = {{ n = [{}] }}
  args              = {{ UNKNOWN = "1", N = n }}
  tags              = ["Bad Tag:${{n}}"]
  dockerfile-inline = "FROM scratch\nARG N\nMAINTAINER me\nCOPY a /$N\n"
}}
"#,
        numbers.join(", ")
    );
    let bake = project("", &targets);
    let printed = bake.run(&["--print", "t"]).ok();
    assert_eq!(printed.stderr.matches('⚠').count(), 1, "{}", printed.stderr);
    assert!(printed.stderr.contains("`tags[0]` of target `t10`"), "{}", printed.stderr);
    assert!(printed.stderr.contains("  targets: t10, t11, t12 and 37 more\n"), "{}", printed.stderr);
    let checked = bake.run(&["check"]);
    assert_eq!(checked.stderr.matches('⚠').count(), 2, "{}", checked.stderr);
    assert_eq!(checked.stderr.matches('×').count(), 1, "{}", checked.stderr);
    assert!(checked.stderr.rfind('⚠') < checked.stderr.find('×'), "errors stand last: {}", checked.stderr);
    assert!(checked.stderr.contains("  see: dockerfile-inline of t11:3, "), "{}", checked.stderr);
    assert_eq!(checked.stderr.matches("  targets: t10, t11, t12 and 37 more\n").count(), 3, "{}", checked.stderr);
}

#[test]
fn what_a_program_reads_is_json_to_the_last_line() {
    let targets = r#"target "default" {
  args     = { UNKNOWN = "1" }
  contexts = { base = "BASE" }
  contxt   = "."
}
"#;
    let bake = project("FROM base AS one\nMAINTAINER me\nRUN echo seen; false\nFROM one\n", targets);
    let lines = |args: &[&str], env: &[(&str, &str)]| -> Vec<Value> {
        let ran = bake.run_with("", args, env);
        assert_eq!(ran.code, Some(1), "{ran:#?}");
        let parsed =
            ran.stderr.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")));
        parsed.collect()
    };
    let told = lines(&["--progress=rawjson", "--allow=fs.read=*"], &[]);
    let error = &told.last().expect("there are lines")["errors"][0];
    assert_eq!((&error["code"], &error["line"]), (&"bake::solve::exit_code".into(), &3.into()), "{error}");
    assert_eq!((&error["targets"][0], &error["stage"]), (&"default".into(), &"one".into()), "{error}");
    assert!(error["output"].as_str().is_some_and(|it| it.contains("seen")), "{error}");
    let warnings: Vec<&Value> = told.iter().filter_map(|it| it["warnings"].get(0)).collect();
    let codes: Vec<&str> = warnings.iter().filter_map(|it| it["diagnostic"]["code"].as_str()).collect();
    let expected =
        ["unknown_attribute", "no_output", "maintainer_deprecated", "unused_build_arg"].map(|it| format!("::{it}"));
    assert!(codes.iter().zip(&expected).all(|(code, end)| code.ends_with(end)) && codes.len() == 4, "{codes:?}");
    assert_eq!(
        (&warnings[2]["sourceInfo"]["filename"], &warnings[2]["range"][0]["start"]["line"]),
        (&"Dockerfile".into(), &2.into())
    );
    let short = STANDARD.decode(warnings[2]["short"].as_str().expect("a text")).expect("base64");
    assert!(String::from_utf8_lossy(&short).starts_with("MaintainerDeprecated"));
    for env in [&[("BUILDKIT_PROGRESS", "rawjson")][..], &[]] {
        let args: &[&str] = if env.is_empty() { &["--progress=rawjson", "nobody"] } else { &["nobody"] };
        let unknown = lines(args, env);
        assert_eq!(unknown[unknown.len() - 1]["errors"][0]["code"], "bake::eval::unknown_target", "{unknown:?}");
    }
}

#[test]
fn what_replaces_the_image_of_another_target_is_told() {
    let targets = r#"target "t" {
  name              = "t${n}"
  matrix            = { n = ["1", "2", "3"] }
  dockerfile-inline = "FROM scratch\nARG N\nLABEL n=$N\n"
  args              = { N = n }
  tags              = ["r.invalid/app:latest", "r.invalid/app:${n}"]
  cache-to          = ["type=local,dest=cache", "type=registry,ref=r.invalid/cache"]
  output            = ["type=registry"]
}
target "same" {
  name              = "same${n}"
  matrix            = { n = ["1", "2"] }
  dockerfile-inline = "FROM scratch\nLABEL n=1\n"
  platforms         = ["linux/amd64", "linux/arm64"]
  tags              = ["r.invalid/same"]
  cache-to          = ["type=local,dest=same"]
  output            = ["type=registry"]
}
"#;
    let bake = project("", targets);
    let checked = bake.run(&["check"]).ok();
    let tag = "targets `t1`, `t2`, `t3` push different images to one tag, which keeps the last: r.invalid/app:latest\n";
    assert!(checked.stderr.contains(tag), "{checked:#?}");
    assert!(checked.stderr.ends_with("1 warning\n"), "equal images and joined caches are no fault: {checked:#?}");
    assert_eq!(bake.run(&["check", "t1", "same"]).ok().stderr.matches('⚠').count(), 0, "t1 is alone");
    let strict = bake.run(&["--strict", "t"]);
    assert_eq!(strict.code, Some(1), "{strict:#?}");
    assert!(strict.stderr.contains("bake::plan::same_tag") && strict.stderr.contains("×"), "{strict:#?}");
}

#[test]
fn a_context_under_a_name_that_the_peer_does_not_find_is_noted_once() {
    let targets = r#"target "t" {
  name      = "t-${replace(p, "/", "-")}"
  matrix    = { p = ["linux/amd64", "linux/arm64"] }
  platforms = [p]
  contexts  = { "library/alpine" = "BASE", unused = "BASE" }
  output    = ["type=cacheonly"]
}
"#;
    let bake = project("FROM alpine\nFROM alpine\n", targets);
    let ran = bake.run(&["--progress=quiet", "--strict", "--allow=fs.read=*", "t-linux-amd64"]).ok();
    assert_eq!(ran.stderr.matches("does not find a context of this name").count(), 1, "{ran:#?}");
    assert!(ran.stderr.contains("write it as `alpine`") && ran.stderr.contains("docker-bake.hcl:5:"), "{ran:#?}");
    let of_build = format!("--build-context=library/alpine=oci-layout://{}", base_layout().display());
    let build = bake.run(&["build", "--progress=quiet", "--output=type=cacheonly", &of_build, "."]).ok();
    assert!(!build.stderr.contains("does not find"), "docker buildx build finds it: {build:#?}");
}

#[test]
fn messages_keep_the_words_of_the_system() {
    let dockerfile = r#"FROM base AS one
RUN ["/no/such"]
FROM base AS two
COPY --chmod=644 <<E /script
#!/bin/sh
E
RUN ["/script"]
FROM base AS three
COPY --chmod=755 <<E /script
E
RUN ["/script"]
FROM base AS four
COPY --chmod=755 <<E /script
#!/no/such
E
RUN ["/script"]
FROM base AS five
RUN ["no-such"]
"#;
    let targets = r#"target "default" {
  contexts = { base = "BASE" }
  output   = ["type=cacheonly"]
}
"#;
    let bake = project(dockerfile, targets);
    let table = [
        ("one", "no such file or directory"),
        ("two", "permission denied"),
        ("three", "exec format error"),
        ("four", "no such file or directory"),
        ("five", "executable file not found in $PATH"),
    ];
    for (stage, words) in table {
        let ran = bake.run(&["--progress=quiet", "--allow=fs.read=*", "--set", &format!("default.target={stage}")]);
        assert_eq!(ran.code, Some(1), "{ran:#?}");
        assert!(ran.stderr.contains(words) && ran.stderr.contains(&format!("  stage: {stage}\n")), "{ran:#?}");
    }
    let missing = bake.run(&["-f", "gone.hcl", "--print"]);
    assert!(missing.stderr.contains("no such file or directory"), "{missing:#?}");
}

#[test]
fn the_layers_of_a_base_are_pulled_and_unpacked_in_sight_and_not_on_the_account_of_a_step() {
    let targets = r#"target "default" {
  contexts = { base = "BASE" }
  output   = ["type=image,name=x,rewrite-timestamp=true"]
}
"#;
    let bake = project("FROM base\nRUN true\n", targets);
    let ran = bake.run(&["--progress=plain", "--allow=fs.read=*"]).ok();
    let lines: Vec<&str> = ran.stderr.lines().collect();
    let place = |start: &str| {
        lines.iter().position(|line| line.starts_with(start)).unwrap_or_else(|| panic!("no line {start}: {ran:#?}"))
    };
    let (pulled, unpacked) = (lines[place("#1 pulling sha256:")], lines[place("#1 extracting sha256:")]);
    assert!(place("#1 extracting") < place("#2 ["), "the step begins when its base is there: {ran:#?}");
    for line in [pulled, unpacked] {
        assert!(ends_in_size_and_time(line), "a size and a time: {line}");
    }
    let warning = ran.stderr.split("bake::export::no_epoch").nth(1).expect("the warning of the output");
    assert!(warning.contains("docker-bake.hcl:3:"), "{warning}");
}

/// Whether a line ends in a number of bytes and a time: `12.3 MiB 0.1s`.
fn ends_in_size_and_time(line: &str) -> bool {
    let words: Vec<&str> = line.split(' ').rev().take(3).collect();
    let [time, unit, amount] = words.as_slice() else { return false };
    time.ends_with('s') && unit.ends_with('B') && amount.parse::<f64>().is_ok()
}
