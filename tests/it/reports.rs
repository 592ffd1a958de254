//! `--report`: the reports of builds and checks as files and annotations, whether they succeed, fail or are interrupted.
//!
//! SARIF and code quality are held against schemas that are written here from their public documents, stricter than these: only
//! what `bake` writes is allowed. JUnit is read back by a reader of XML.

use std::{fs, net::TcpListener, process::Stdio};

use quick_xml::events::Event;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::{Bake, Ran, base_layout};

const DEFINITION: &str = r#"variable "TOKEN" {
  sensitive = true
  default   = "hunter2secret"
}
group "default" {
  targets = ["web", "bad", "after"]
}
target "web" {
  context = "app"
  tags    = ["example.test/web:1", "web:2"]
  output  = ["type=oci,dest=web.tar"]
}
target "bad" {
  dockerfile-inline = <<EOT
FROM scratch
COPY a /a
COPY missing-${TOKEN} /b
EOT
}
target "after" {
  contexts          = { dep = "target:bad" }
  dockerfile-inline = "FROM dep\nCOPY a /\n"
}
target "multi" {
  platforms         = ["linux/amd64", "linux/arm64"]
  dockerfile-inline = "FROM scratch\nCOPY a /a\n"
  output            = ["type=oci,dest=multi.tar"]
}
"#;

/// A repository whose definition lies in a folder of it.
fn repository() -> Bake {
    let bake = Bake::new();
    fs::create_dir_all(bake.path(".git")).expect("folders can be made");
    bake.write("sub/docker-bake.hcl", DEFINITION);
    bake.write("sub/app/Dockerfile", "FROM scratch\nMAINTAINER me\nCOPY a /a\n");
    bake.write("sub/app/a", "a");
    bake.write("sub/a", "a");
    bake
}

fn json_of(bake: &Bake, file: &str) -> Value {
    serde_json::from_str(&bake.read(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
}

/// The lines of a run that are workflow commands.
fn commands(ran: &Ran) -> Vec<&str> {
    ran.stderr.lines().filter(|line| line.starts_with("::")).collect()
}

#[test]
fn annotations_are_written_on_github_and_can_be_switched_off() {
    let bake = repository();
    let github = ("GITHUB_ACTIONS", "true");
    let ran = bake.run_with("sub", &["check", "web"], &[github]).ok();
    let expected = "::warning file=sub/app/Dockerfile,line=2,col=1,endLine=2,endColumn=13,\
                    title=bake%3A%3Acheck%3A%3Amaintainer_deprecated::MaintainerDeprecated: MAINTAINER is deprecated, use `LABEL \
                    org.opencontainers.image.authors=…`%0Ahelp: see \
                    https://docs.docker.com/go/dockerfile/rule/maintainer-deprecated/%0Atarget: web";
    assert_eq!(commands(&ran), [expected]);
    for (args, variable) in [
        (&["check", "web", "--report=none"][..], github),
        (&["check", "web"], ("BAKE_REPORT", "none")),
        (&["check", "web"], ("DOCKER_BUILD_CHECKS_ANNOTATIONS", "false")),
    ] {
        let off = bake.run_with("sub", args, &[github, variable]).ok();
        assert!(commands(&off).is_empty(), "{off:#?}");
    }
    assert!(commands(&bake.run_in("sub", &["check", "web"])).is_empty(), "elsewhere they are for nobody");
    let asked = bake.run_in("sub", &["--check", "web", "--report=github"]);
    assert_eq!(commands(&asked), [expected], "{asked:#?}");
    let printed = bake.run_with("sub", &["--print", "web"], &[github]).ok();
    assert!(commands(&printed).is_empty());
}

#[test]
fn what_would_end_an_annotation_is_escaped() {
    let bake = Bake::new();
    bake.write("a,b:c%.hcl", "target \"t\" {\n  odd = \"100%\"\n}\n");
    let ran = bake.run(&["-f", "a,b:c%.hcl", "--print", "t", "--report=github"]).ok();
    let all = commands(&ran);
    assert!(all[0].starts_with("::warning file=a%2Cb%3Ac%25.hcl,line=2,col=3,endLine=2,endColumn=5,title="), "{all:?}");
}

/// All reports of a run that fails, in one run.
fn failed_run(bake: &Bake) -> Ran {
    let args = ["gitlab=q.json", "sarif=s.sarif", "junit=j.xml", "summary=s.md", "github=g.txt"];
    let args: Vec<String> = args.iter().map(|report| format!("--report={report}")).collect();
    let args: Vec<&str> =
        ["--execution=defer-error", "default", "multi"].into_iter().chain(args.iter().map(String::as_str)).collect();
    let ran = bake.run_in("sub", &args);
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    ran
}

#[test]
fn sarif_has_rules_places_and_fingerprints() {
    let bake = repository();
    failed_run(&bake);
    let log = json_of(&bake, "sub/s.sarif");
    let faults: Vec<String> = validator(&sarif_schema()).iter_errors(&log).map(|it| it.to_string()).collect();
    assert_eq!(faults, Vec::<String>::new());
    let run = &log["runs"][0];
    let result = run["results"].as_array().and_then(|all| all.iter().find(|it| it["level"] == "error"));
    let result = result.expect("the fault is there");
    let rule = &run["tool"]["driver"]["rules"]
        [usize::try_from(result["ruleIndex"].as_u64().expect("a number")).expect("small")];
    assert_eq!((&rule["id"], &result["ruleId"]), (&json!("bake::solve::file"), &json!("bake::solve::file")));
    assert_eq!(
        result["locations"],
        json!([{"physicalLocation": {
            "artifactLocation": {"uri": "sub/docker-bake.hcl", "uriBaseId": "%SRCROOT%"},
            "region": {"startLine": 17, "startColumn": 1, "endLine": 17, "endColumn": 25},
        }}]),
        "a place in a heredoc is a place in the definition"
    );
    assert_eq!(run["invocations"][0]["executionSuccessful"], json!(false));
}

#[test]
fn code_quality_is_known_again_when_lines_have_moved() {
    let bake = repository();
    failed_run(&bake);
    let before = json_of(&bake, "sub/q.json");
    let faults: Vec<String> = validator(&quality_schema()).iter_errors(&before).map(|it| it.to_string()).collect();
    assert_eq!(faults, Vec::<String>::new());
    bake.write("sub/docker-bake.hcl", &format!("# new\n\n{DEFINITION}"));
    bake.write("sub/app/Dockerfile", "\nFROM scratch\nMAINTAINER me\nCOPY a /a\nMAINTAINER me\n");
    failed_run(&bake);
    let after = json_of(&bake, "sub/q.json");
    let prints = |all: &Value| -> Vec<Value> {
        all.as_array().expect("a list").iter().map(|issue| issue["fingerprint"].clone()).collect()
    };
    let (old, new) = (prints(&before), prints(&after));
    assert!(old.iter().all(|print| new.contains(print)), "{before:#} {after:#}");
    assert_eq!(new.len(), old.len() + 1, "the second MAINTAINER is another finding: {after:#}");
    let lines = |all: &Value| all[0]["location"]["lines"]["begin"].clone();
    assert_eq!((lines(&before), lines(&after)), (json!(17), json!(19)));
}

#[test]
fn junit_has_a_case_for_each_target_and_platform() {
    let bake = repository();
    failed_run(&bake);
    let text = bake.read("sub/j.xml");
    let cases = junit_cases(&text);
    let expected = [
        "web linux/amd64: passed",
        "bad linux/amd64: failure bake::solve::file",
        "after linux/amd64: skipped",
        "multi linux/amd64: passed",
        "multi linux/arm64: passed",
    ];
    assert_eq!(cases, expected, "{text}");
    assert!(text.contains("tests=\"5\" failures=\"1\" errors=\"0\" skipped=\"1\""), "{text}");
}

#[test]
fn junit_is_xml_whatever_a_step_or_a_file_says() {
    let bake = Bake::new();
    bake.write("docker-bake.hcl", "target \"default\" {\n  dockerfile = \"D\"\n}\n");
    bake.write("D", "FROM scratch\nFOO \u{1}\u{1b}[31m ]]> <a b=\"c\"> & \u{fffe}\n");
    let ran = bake.run(&["--report=junit=j.xml"]);
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    let text = bake.read("j.xml");
    assert_eq!(junit_cases(&text).len(), 2, "{text}");
    assert!(!text.contains(['\u{1}', '\u{1b}', '\u{fffe}']), "{text}");
}

#[test]
fn the_summary_of_a_job_is_appended_and_has_failures_first() {
    let bake = repository();
    bake.write("step.md", "# before\n");
    let path = bake.path("step.md");
    let summary = [("GITHUB_STEP_SUMMARY", path.to_str().expect("a path that is text"))];
    let run = |args: &[&str]| bake.run_with("sub", args, &summary);
    assert_eq!(run(&["--execution=defer-error"]).code, Some(1));
    let text = bake.read("step.md");
    let (failures, targets) =
        (text.find("### Failures").expect("failures"), text.find("### Targets").expect("targets"));
    assert!(text.starts_with("# before\n## bake: 1 of 3 targets failed in ") && failures < targets, "{text}");
    assert!(
        text.contains(
            "- **source not found in the build context\\: missing-\\*\\*\\*** in `sub/docker-bake.hcl:17` (`bad`)"
        ),
        "{text}"
    );
    let row = text.lines().find(|line| line.starts_with("| `web` ")).expect("a row");
    assert!(
        row.contains("| linux/amd64 | built | ") && row.contains("| `example.test/web:1`<br>`web:2` | `sha256:"),
        "{row}"
    );
    assert!(
        text.contains("| `bad` | linux/amd64 | ❌ failed |") && text.contains("| `after` | linux/amd64 | not run |"),
        "{text}"
    );
    run(&["web"]).ok();
    let again = bake.read("step.md");
    let row = again[text.len()..].lines().find(|line| line.starts_with("| `web` ")).expect("a row");
    assert!(row.contains("| linux/amd64 | cached | 0.0 s | "), "{row}");
    assert!(again.starts_with(&text), "it is appended");
    let gone = bake.run_with("sub", &["web"], &[("GITHUB_STEP_SUMMARY", "/missing/s.md")]).ok();
    assert!(gone.stderr.contains("the report `summary` cannot be written"), "{gone:#?}");
    bake.run_with("sub", &["web"], &[summary[0], ("DOCKER_BUILD_SUMMARY", "false")]).ok();
    run(&["--print", "web"]).ok();
    bake.write("clean/Dockerfile", "FROM scratch\n");
    bake.run_with("clean", &["build", "--check", "."], &summary).ok();
    assert_eq!(bake.read("step.md"), again, "nothing to tell is not told");
}

#[test]
fn sensitive_values_are_in_no_report() {
    let bake = repository();
    failed_run(&bake);
    for file in ["q.json", "s.sarif", "j.xml", "s.md", "g.txt"] {
        let text = bake.read(&format!("sub/{file}"));
        assert!(!text.contains("hunter2secret") && text.contains("missing-"), "{file}: {text}");
    }
}

#[test]
fn a_definition_that_cannot_be_read_is_reported_too() {
    let bake = Bake::new();
    bake.write("docker-bake.hcl", "target \"a\" {\n  tags = [\n}\n");
    for args in
        [&["check", "--report=junit=j.xml", "--report=sarif=-"][..], &["--report=junit=j.xml", "--report=sarif=-"]]
    {
        let ran = bake.run(args);
        assert_eq!(ran.code, Some(1), "{ran:#?}");
        assert!(junit_cases(&bake.read("j.xml"))[0].starts_with("bake docker-bake.hcl:"), "{}", bake.read("j.xml"));
        let log: Value = serde_json::from_str(&ran.stdout).expect("the report alone is on standard output");
        assert_eq!(log["runs"][0]["results"][0]["level"], json!("error"));
    }
}

#[test]
fn bad_usage_names_the_format_and_the_file() {
    let bake = repository();
    let ran = bake.run_in("sub", &["check", "--report=sarf=x"]);
    assert_eq!(ran.code, Some(2));
    assert!(
        ran.stderr.contains("`--report` knows no format: sarf=x") && ran.stderr.contains("did you mean `sarif`?"),
        "{ran:#?}"
    );
    let ran = bake.run_in("sub", &["check", "web", "--report=sarif=none/x"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("the report `sarif` cannot be written: none/x"), "{ran:#?}");
}

#[test]
fn an_interrupted_run_has_whole_reports() {
    let bake = Bake::new();
    let server = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let url = format!("http://{}/file", server.local_addr().expect("it is bound"));
    bake.write(
        "docker-bake.hcl",
        &format!(
            "group \"default\" {{ targets = [\"slow\", \"done\"] }}\ntarget \"slow\" {{\n  dockerfile-inline = \"FROM scratch\\nADD {url} /f\\n\"\n}}\n\
             target \"done\" {{\n  dockerfile-inline = \"FROM scratch\\n\"\n  output = [\"type=cacheonly\"]\n}}\n"
        ),
    );
    for n_signals in [1, 2] {
        bake.write("j.xml", "old");
        let mut command = bake.command("", &["--progress=plain", "--report=junit=j.xml", "--report=summary=s.md"]);
        let child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the binary starts");
        let open = server.accept().expect("the run connects");
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("a process id")).expect("not zero");
        for _ in 0..n_signals {
            // The process may have ended between the two.
            kill_process(pid, Signal::INT).ok();
        }
        let output = child.wait_with_output().expect("it can be waited for");
        drop(open);
        assert_eq!(output.status.code(), Some(130));
        let cases = junit_cases(&bake.read("j.xml"));
        assert_eq!(cases.len(), 2, "{cases:?}");
        assert_eq!(cases[0], format!("slow {}: skipped", host()), "{cases:?}");
        assert!(bake.read("s.md").contains("| `slow` |"), "{}", bake.read("s.md"));
    }
}

#[test]
fn a_failed_build_leaves_no_answers() {
    let bake = repository();
    bake.write("sub/id", "old");
    let args = ["build", "--iidfile=id", "--metadata-file=m.json", "-f", "app/Dockerfile", "--target=none", "app"];
    let ran = bake.run_in("sub", &args);
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    assert!(!bake.path("sub/id").exists() && !bake.path("sub/m.json").exists(), "{ran:#?}");
    failed_run(&bake);
    bake.run_in("sub", &["--metadata-file=m.json", "web", "multi"]).ok();
    let all = json_of(&bake, "sub/m.json");
    let names: Vec<&String> = all.as_object().expect("an object").keys().collect();
    assert_eq!(names, ["multi", "web"]);
    assert!(
        all["multi"]["containerimage.digest"].is_string() && all["multi"]["containerimage.config.digest"].is_null()
    );
    assert_eq!(all["web"]["image.name"], json!("example.test/web:1,docker.io/library/web:2"));
}

fn host() -> String {
    let machine = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    format!("linux/{machine}")
}

/// Reads a report back: class, name and result of each case. Only elements and attributes of the form are allowed.
fn junit_cases(text: &str) -> Vec<String> {
    let mut reader = quick_xml::Reader::from_str(text);
    let (mut cases, mut open) = (Vec::<String>::new(), Vec::<String>::new());
    loop {
        let event = reader.read_event().unwrap_or_else(|e| panic!("{e}: {text}"));
        let (start, is_empty) = match &event {
            Event::Start(start) => (start, false),
            Event::Empty(start) => (start, true),
            Event::End(_) => {
                open.pop();
                continue;
            }
            Event::Eof => break,
            _ => continue,
        };
        let name = String::from_utf8(start.name().as_ref().to_vec()).expect("UTF-8");
        let (parent, allowed): (&str, &[&str]) = match name.as_str() {
            "testsuites" => ("", &["name", "tests", "failures", "errors", "time"]),
            "testsuite" => ("testsuites", &["name", "tests", "failures", "errors", "skipped", "time"]),
            "testcase" => ("testsuite", &["classname", "name", "time"]),
            "failure" => ("testcase", &["message", "type"]),
            "skipped" => ("testcase", &[]),
            other => panic!("an element that the form does not have: {other}"),
        };
        assert_eq!(open.last().map_or("", String::as_str), parent, "{text}");
        let attributes: Vec<(String, String)> = start
            .attributes()
            .map(|attribute| {
                let attribute = attribute.expect("an attribute");
                let key = String::from_utf8(attribute.key.as_ref().to_vec()).expect("UTF-8");
                (key, String::from_utf8(attribute.value.to_vec()).expect("UTF-8"))
            })
            .collect();
        let names: Vec<&str> = attributes.iter().map(|(key, _)| key.as_str()).collect();
        assert!(names.iter().all(|key| allowed.contains(key)) && names.len() == allowed.len(), "{name}: {names:?}");
        let value = |key: &str| attributes.iter().find(|(name, _)| name == key).map_or("", |(_, value)| value);
        match name.as_str() {
            "testcase" => cases.push(format!("{} {}: passed", value("classname"), value("name"))),
            "failure" | "skipped" => {
                let case = cases.last_mut().expect("inside of a case");
                let result = format!("{name} {}", value("type"));
                *case = case.replace("passed", result.trim_end());
            }
            _ => (),
        }
        if !is_empty {
            open.push(name);
        }
    }
    assert!(open.is_empty());
    cases
}

fn validator(schema: &Value) -> jsonschema::Validator {
    assert!(jsonschema::meta::is_valid(schema), "the schema itself is at fault");
    jsonschema::draft202012::new(schema).expect("the schema can be used")
}

/// An object that has exactly these members, of which those that end with `?` may be missing.
fn object(members: &[(&str, Value)]) -> Value {
    let required: Vec<&str> = members.iter().map(|(name, _)| *name).filter(|name| !name.ends_with('?')).collect();
    let properties: serde_json::Map<String, Value> =
        members.iter().map(|(name, schema)| (name.trim_end_matches('?').to_owned(), schema.clone())).collect();
    json!({"type": "object", "required": required, "properties": properties, "additionalProperties": false})
}

/// The members of SARIF 2.1.0 that are written
/// (<https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html>, sections 3.13, 3.14, 3.19, 3.27, 3.29, 3.30, 3.49).
fn sarif_schema() -> Value {
    let (text, count) = (json!({"type": "string", "minLength": 1}), json!({"type": "integer", "minimum": 1}));
    let message = object(&[("text", text.clone())]);
    let rule = object(&[
        ("id", json!({"type": "string", "pattern": "^bake::[a-z0-9_]+::[a-z0-9_]+$"})),
        ("name", text.clone()),
        ("shortDescription", message.clone()),
        ("help", object(&[("text", text.clone()), ("markdown", text.clone())])),
    ]);
    let artifact = object(&[
        // A relative reference: no scheme, not from the root, nothing that a URI does not have.
        ("uri", json!({"type": "string", "pattern": "^([A-Za-z0-9._~/-]|%[0-9A-F]{2})+$"})),
        ("uriBaseId", json!({"const": "%SRCROOT%"})),
    ]);
    let region = object(&[
        ("startLine", count.clone()),
        ("startColumn", count.clone()),
        ("endLine", count.clone()),
        ("endColumn", count),
    ]);
    let location = object(&[("physicalLocation", object(&[("artifactLocation", artifact), ("region", region)]))]);
    let result = object(&[
        ("ruleId", text.clone()),
        ("ruleIndex", json!({"type": "integer", "minimum": 0})),
        ("level", json!({"enum": ["error", "warning", "note"]})),
        ("message", message),
        ("locations?", json!({"type": "array", "items": location, "minItems": 1})),
        ("partialFingerprints", object(&[("bakeFinding/v1", json!({"type": "string", "pattern": "^[0-9a-f]{64}$"}))])),
        ("properties?", object(&[("targets", json!({"type": "array", "items": {"type": "string"}}))])),
    ]);
    let driver = object(&[
        ("name", json!({"const": "bake"})),
        ("semanticVersion", text.clone()),
        ("rules", json!({"type": "array", "items": rule, "uniqueItems": true})),
    ]);
    let run = object(&[
        ("tool", object(&[("driver", driver)])),
        ("columnKind", json!({"const": "unicodeCodePoints"})),
        ("results", json!({"type": "array", "items": result})),
        (
            "invocations",
            json!({"type": "array", "items": object(&[("executionSuccessful", json!({"type": "boolean"}))])}),
        ),
    ]);
    object(&[
        ("$schema", text),
        ("version", json!({"const": "2.1.0"})),
        ("runs", json!({"type": "array", "items": run, "minItems": 1})),
    ])
}

/// The members that GitLab reads (<https://docs.gitlab.com/ci/testing/code_quality/#code-quality-report-format>), and `type` and
/// `categories` of Code Climate.
fn quality_schema() -> Value {
    let text = json!({"type": "string", "minLength": 1});
    let lines = object(&[
        ("begin", json!({"type": "integer", "minimum": 1})),
        ("end?", json!({"type": "integer", "minimum": 1})),
    ]);
    let issue = object(&[
        ("type", json!({"const": "issue"})),
        ("description", text.clone()),
        ("check_name", text.clone()),
        ("fingerprint", text),
        ("severity", json!({"enum": ["info", "minor", "major", "critical", "blocker"]})),
        ("categories", json!({"type": "array", "items": {"const": "Bug Risk"}, "minItems": 1})),
        ("location", object(&[("path", json!({"type": "string", "pattern": "^[^./]"})), ("lines", lines)])),
    ]);
    json!({"type": "array", "items": issue})
}

#[test]
fn a_failed_step_is_reported_with_its_last_lines() {
    let bake = Bake::new();
    let base = base_layout().display();
    bake.write(
        "docker-bake.hcl",
        &format!("target \"default\" {{\n  contexts = {{ base = \"oci-layout://{base}\" }}\n}}\n"),
    );
    bake.write("Dockerfile", "FROM base\nRUN echo begin; echo 'a | <b> ``` & c'; exit 7\n");
    let ran = bake.run(&["--allow=fs.read=/", "--report=junit=j.xml", "--report=summary=s.md", "--report=github"]);
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    let (junit, summary) = (bake.read("j.xml"), bake.read("s.md"));
    assert_eq!(junit_cases(&junit), [format!("default {}: failure bake::solve::exit_code", host())], "{junit}");
    assert!(junit.contains("a | &lt;b&gt; ``` &amp; c"), "{junit}");
    assert!(summary.contains("in `Dockerfile:2`") && summary.contains("\n  ````text\n"), "{summary}");
    assert!(summary.contains("\n  a | <b> ``` & c\n  ````\n"), "{summary}");
    let all = commands(&ran);
    assert!(all[0].starts_with("::error file=Dockerfile,line=2,col=1,endLine=2,endColumn=46,"), "{all:?}");
}

#[test]
fn two_reports_to_one_file_are_refused() {
    let bake = Bake::new();
    bake.write("docker-bake.hcl", "target \"default\" {\n  dockerfile-inline = \"FROM scratch\"\n}\n");
    let ran = bake.run(&["--report=sarif=out", "--report=junit=./out", "--print"]);
    assert_eq!(ran.code, Some(2), "{ran:#?}");
    assert!(ran.stderr.contains("names a file that has another report already: junit=./out"), "{ran:#?}");
}
