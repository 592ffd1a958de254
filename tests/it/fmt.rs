//! `bake fmt`: what is written, what is data, and the exit code.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
};

use crate::support::Bake;

const LOOSE: &str = "target \"a\"{\n\ttags=[\"x\"]# tag\n dockerfile=\"D\"\n}";
const NEAT: &str = "target \"a\" {\n  tags       = [\"x\"] # tag\n  dockerfile = \"D\"\n}\n";

#[test]
fn default_files_are_laid_out_in_place_and_named() {
    let bake = Bake::new();
    bake.write("docker-bake.hcl", LOOSE);
    bake.write("docker-bake.override.hcl", NEAT);
    bake.write("other.hcl", LOOSE);
    let ran = bake.run(&["fmt"]).ok();
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("docker-bake.hcl\n", ""));
    assert_eq!(bake.read("docker-bake.hcl"), NEAT);
    assert_eq!(bake.read("other.hcl"), LOOSE);
    let again = bake.run(&["fmt"]).ok();
    assert_eq!((again.stdout.as_str(), again.stderr.as_str()), ("", ""));
    assert!(!bake.path("state").exists(), "formatting needs no state");
}

#[test]
fn a_check_writes_nothing_and_fails_when_something_would_change() {
    let bake = Bake::new();
    bake.write("a.hcl", LOOSE);
    bake.write("b.hcl", NEAT);
    let ran = bake.run(&["fmt", "--check", "a.hcl", "-f", "b.hcl"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), "a.hcl\n"), "{ran:#?}");
    let ran = bake.run(&["fmt", "--check", "--diff", "a.hcl"]);
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    assert!(ran.stdout.starts_with("--- a.hcl\n+++ a.hcl\n@@ -1,4 +1,4 @@\n-target \"a\"{\n"), "{ran:#?}");
    assert_eq!(bake.read("a.hcl"), LOOSE);
    assert_eq!(bake.run(&["fmt", "--check", "b.hcl"]).ok().stdout, "");
}

#[test]
fn standard_input_goes_to_standard_output() {
    let bake = Bake::new();
    let ran = bake.run_reading("", &["fmt", "-"], LOOSE).ok();
    assert_eq!(ran.stdout, NEAT);
    let ran = bake.run_reading("", &["fmt", "-"], NEAT).ok();
    assert_eq!(ran.stdout, NEAT);
    let ran = bake.run_reading("", &["fmt", "--check", "-"], LOOSE);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), "-\n"), "{ran:#?}");
    let ran = bake.run_reading("", &["fmt", "-"], "{\"target\":{}}").ok();
    assert_eq!(ran.stdout, "{\n  \"target\": {}\n}\n");
}

#[test]
fn a_file_at_fault_stays_as_it_is_and_keeps_no_other_from_being_laid_out() {
    let bake = Bake::new();
    bake.write("bad.hcl", "target \"a\" {\n  tags = [\n");
    bake.write("bad.json", "{\"target\": ");
    bake.write("compose.yaml", "services: {}\n");
    bake.write("good.hcl", LOOSE);
    let ran = bake.run(&["fmt", "bad.hcl", "bad.json", "compose.yaml", "missing.hcl", "good.hcl"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), "good.hcl\n"), "{ran:#?}");
    for told in ["a list is not closed", "bad.json:1:", "YAML is not formatted", "does not exist: missing.hcl"] {
        assert!(ran.stderr.contains(told), "{told}: {}", ran.stderr);
    }
    assert_eq!(bake.read("bad.hcl"), "target \"a\" {\n  tags = [\n");
    assert_eq!(bake.read("good.hcl"), NEAT);
    let empty = Bake::new().run(&["fmt"]);
    assert_eq!(empty.code, Some(1));
    assert!(empty.stderr.contains("no bake file in HCL is found"), "{empty:#?}");
}

#[test]
fn permissions_and_links_stay() {
    let bake = Bake::new();
    bake.write("real/a.hcl", &format!("\u{feff}{LOOSE}"));
    let real = bake.path("real/a.hcl");
    fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).expect("permissions can be set");
    symlink("real/a.hcl", bake.path("link.hcl")).expect("links can be made");
    assert_eq!(bake.run(&["fmt", "link.hcl"]).ok().stdout, "link.hcl\n");
    assert_eq!(bake.read("real/a.hcl"), format!("\u{feff}{NEAT}"));
    assert!(bake.path("link.hcl").is_symlink());
    assert_eq!(fs::metadata(&real).expect("it is there").permissions().mode() & 0o7777, 0o640);
    assert_eq!(fs::read_dir(bake.path("real")).expect("it is there").count(), 1, "no temporary file is left");
    // What is neat is not touched.
    let before = fs::metadata(&real).expect("it is there");
    bake.run(&["fmt", "link.hcl"]).ok();
    let after = fs::metadata(&real).expect("it is there");
    assert_eq!(
        std::os::unix::fs::MetadataExt::ino(&before),
        std::os::unix::fs::MetadataExt::ino(&after),
        "the file was written again"
    );
}

#[test]
fn a_default_file_that_leads_out_of_the_project_is_left_alone() {
    let (bake, outside) = (Bake::new(), Bake::new());
    outside.write("x.hcl", LOOSE);
    symlink(outside.path("x.hcl"), bake.path("docker-bake.hcl")).expect("links can be made");
    let ran = bake.run(&["fmt"]);
    assert!(ran.code == Some(1) && ran.stderr.contains("--allow"), "{ran:#?}");
    assert_eq!(outside.read("x.hcl"), LOOSE);
    // Who names it means it.
    bake.run(&["fmt", "docker-bake.hcl"]).ok();
    assert_eq!(outside.read("x.hcl"), NEAT);
}
