//! `--call` and `--check`: what is data, what is talk, and the exit code.

use serde_json::Value;

use crate::support::Bake;

fn bake() -> Bake {
    let bake = Bake::new();
    bake.write(
        "docker-bake.hcl",
        r#"
        target "clean" {
          description = "nothing to say"
          dockerfile-inline = "FROM scratch\nCOPY f /f\n"
          output = ["type=local,dest=out"]
        }
        target "old" {
          dockerfile-inline = "FROM scratch\nMAINTAINER me\n"
          platforms = ["linux/amd64", "linux/arm64"]
        }
        target "broken" {
          dockerfile-inline = "FROM scratch\nFOO x\n"
        }
        target "stages" {
          dockerfile-inline = "ARG V=1\n# base is it\nFROM scratch AS base\nARG V\nFROM base AS last\n"
          call = "targets"
        }
        "#,
    );
    bake.write("f", "x");
    bake
}

#[test]
fn a_clean_check_succeeds_and_writes_nothing() {
    let bake = bake();
    let ran = bake.run(&["--check", "clean"]).ok();
    assert_eq!(ran.stdout, "clean\nnothing to say\n\ncheck complete, no warnings\n");
    assert_eq!(ran.stderr, "");
    assert!(!bake.path("out").exists());
}

#[test]
fn a_warning_fails_unless_the_status_is_ignored() {
    let bake = bake();
    let ran = bake.run(&["--check", "old"]);
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    assert!(ran.stdout.contains("check complete, 1 warning\n"), "{ran:#?}");
    assert!(ran.stdout.contains("MaintainerDeprecated") && ran.stdout.contains("MAINTAINER me"), "{ran:#?}");
    let ran = bake.run(&["--call", "check,ignorestatus=true", "old"]).ok();
    assert!(ran.stdout.contains("MaintainerDeprecated"), "{ran:#?}");
}

#[test]
fn a_fault_of_one_target_hides_no_answer_of_another() {
    let ran = bake().run(&["--call", "check,format=json", "broken", "old"]);
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    assert!(ran.stderr.contains("unknown instruction: FOO"), "{ran:#?}");
    let json: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(json["target"]["old"]["check"]["warnings"][0]["ruleName"], "MaintainerDeprecated");
    assert_eq!(json["target"]["old"]["check"]["warnings"][0]["location"]["ranges"][0]["start"]["line"], 2);
    assert_eq!(json["target"]["old"]["build"]["call"], "lint");
    assert_eq!(json["target"]["broken"]["check"]["buildError"]["message"], "unknown instruction: FOO");
}

#[test]
fn stages_and_arguments_are_listed() {
    let bake = bake();
    let ran = bake.run(&["stages"]).ok();
    assert!(ran.stdout.contains("last (default)") && ran.stdout.contains("is it"), "{ran:#?}");
    let ran = bake.run(&["--call", "outline", "stages"]).ok();
    assert!(ran.stdout.contains("BUILD ARG") && ran.stdout.contains("V "), "{ran:#?}");
}

#[test]
fn what_is_not_asked_about_is_built() {
    let bake = bake();
    let ran = bake.run(&["stages", "clean"]).ok();
    assert!(ran.stdout.contains("last (default)") && !ran.stdout.contains("clean"), "{ran:#?}");
    assert_eq!(bake.read("out/f"), "x");
}
