//! What a definition reads of other definitions: free in its own git work tree, asked for elsewhere, by `--print`, `plan` and
//! `check` as well.

use std::{fs, os::unix::fs::symlink, path::Path};

use crate::support::{Bake, Ran};

const SECRET: &str = "of-somebody-else";

/// A project `p` without git beside a folder `outside`.
fn project() -> Bake {
    let bake = Bake::new();
    bake.write("outside/x.hcl", &format!("target \"x\" {{\n  args = {{ A = \"{SECRET}\" }}\n}}\n"));
    bake.write("outside/x.env", &format!("A={SECRET}\n"));
    bake.write(
        "outside/x.yaml",
        &format!("services:\n  x:\n    build:\n      context: .\n      args: {{A: {SECRET}}}\n"),
    );
    bake.write("p/Dockerfile", "FROM scratch\n");
    bake
}

fn real(path: &Path) -> String {
    path.canonicalize().expect("it exists").display().to_string()
}

fn shown(ran: &Ran) -> String {
    format!("{}{}", ran.stdout, ran.stderr)
}

/// The definition is refused by every command, without a word of the file `wanted`, and taken with the flag that the
/// message names.
#[track_caller]
fn asks(bake: &Bake, names: &[&str], wanted: &str, place: &str) {
    let flag = format!("--allow=fs.read={}", real(&bake.path(wanted)));
    for command in [&["--print"][..], &["plan"], &["check"], &["--list=targets"], &["--progress=plain"]] {
        let ran = bake.run_in("p", &[command, names].concat());
        assert_eq!(ran.code, Some(1), "{command:?} {ran:#?}");
        assert!(ran.stderr.contains(&flag), "{command:?}: wanted {flag}: {ran:#?}");
        assert!(ran.stderr.contains(place), "{command:?}: wanted {place}: {ran:#?}");
        assert!(!shown(&ran).contains(SECRET), "{command:?}: {ran:#?}");
    }
    is_read(&bake.run_in("p", &[&["--print", &flag], names].concat()));
    is_read(&bake.run_with("p", &[&["--print"], names].concat(), &[("BUILDX_BAKE_ENTITLEMENTS_FS", "0")]));
}

#[track_caller]
fn is_read(ran: &Ran) {
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert!(ran.stdout.contains(SECRET), "{ran:#?}");
}

#[test]
fn an_include_outside_asks() {
    let bake = project();
    fs::create_dir_all(bake.path("p/d/1/2/3")).expect("folders can be made");
    symlink("d/1/2/3", bake.path("p/l")).expect("links can be made");
    symlink("../outside/x.hcl", bake.path("p/inner.hcl")).expect("links can be made");
    // From d/1/2/3 five steps up is the folder above the project; as text it would be two folders higher.
    for file in ["../outside/x.hcl", "inner.hcl", "l/../../../../../outside/x.hcl"] {
        bake.write("p/docker-bake.hcl", &format!("include {{\n  file = \"{file}\"\n}}\n"));
        asks(&bake, &["x"], "outside/x.hcl", "docker-bake.hcl:2");
    }
}

#[test]
fn the_work_tree_of_the_definition_is_free_up_to_its_boundary() {
    let bake = project();
    bake.write("p/docker-bake.hcl", "include {\n  file = \"../outside/x.hcl\"\n}\n");
    fs::create_dir(bake.path(".git")).expect("folders can be made");
    is_read(&bake.run_in("p", &["--print", "x"]));
    // A repository inside another one ends at its own folder; a file `.git` is what submodules and work trees have.
    bake.write("p/.git", "gitdir: ../elsewhere\n");
    asks(&bake, &["x"], "outside/x.hcl", "docker-bake.hcl:2");
}

#[test]
fn the_tree_is_that_of_the_file_that_is_named() {
    let bake = project();
    bake.write("other/.git/HEAD", "");
    bake.write("other/deep/docker-bake.hcl", "include {\n  file = \"../x.hcl\"\n}\n");
    bake.write(
        "other/x.hcl",
        &format!("target \"x\" {{\n  args = {{ A = file(\"../other/y\"), B = \"{SECRET}\" }}\n}}\n"),
    );
    bake.write("other/y", "also here");
    // `-f` names it: it may read its own work tree, and the working directory.
    is_read(&bake.run_in("p", &["-f", "../other/deep/docker-bake.hcl", "--print", "x"]));
    // Without git it is the folder of the file.
    fs::remove_dir_all(bake.path("other/.git")).expect("it is there");
    asks(
        &bake,
        &["-f", "../other/deep/docker-bake.hcl", "x", "--allow=fs.read=../other/y"],
        "other/x.hcl",
        "docker-bake.hcl:2",
    );
}

#[test]
fn what_compose_reads_outside_asks() {
    let bake = project();
    let service = "services:\n  x:\n    build:\n      context: .\n      args: [A]\n";
    for (text, wanted, place) in [
        ("include:\n  - ../outside/x.yaml\n".to_owned(), "outside/x.yaml", "compose.yaml:2"),
        (
            "services:\n  x:\n    extends:\n      file: ../outside/x.yaml\n      service: x\n".to_owned(),
            "outside/x.yaml",
            "compose.yaml:4",
        ),
        (format!("{service}    env_file: ../outside/x.env\n"), "outside/x.env", "compose.yaml:6"),
        (format!("{service}    env_file: [{{path: link.env}}]\n"), "outside/x.env", "compose.yaml:6"),
    ] {
        bake.write("p/compose.yaml", &text);
        if text.contains("link.env") {
            symlink("../outside/x.env", bake.path("p/link.env")).expect("links can be made");
        }
        asks(&bake, &["x"], wanted, place);
    }
    bake.write("p/inner.yaml", "services:\n  x:\n    build:\n      context: .\n      args: {A: \"${A}\"}\n");
    bake.write("p/compose.yaml", "include:\n  - path: inner.yaml\n    env_file: ../outside/x.env\n");
    asks(&bake, &["x"], "outside/x.env", "compose.yaml:3");
}

#[test]
fn a_dotenv_that_leads_out_asks_and_one_of_the_work_tree_is_free() {
    let bake = project();
    bake.write("p/compose.yaml", "services:\n  x:\n    build:\n      context: .\n      args: {A: \"${A}\"}\n");
    symlink("../outside/x.env", bake.path("p/.env")).expect("links can be made");
    asks(&bake, &["x"], "outside/x.env", ".env");
    fs::create_dir(bake.path(".git")).expect("folders can be made");
    is_read(&bake.run_in("p", &["--print", "x"]));
    // A link that leads nowhere is no file.
    fs::remove_file(bake.path("outside/x.env")).expect("it is there");
    let ran = bake.run_in("p", &["--print", "x"]).ok();
    assert!(!ran.stdout.contains(SECRET), "{ran:#?}");
}

#[test]
fn a_file_of_a_default_name_that_leads_out_asks_and_one_that_is_named_does_not() {
    let bake = project();
    symlink("../outside/x.hcl", bake.path("p/docker-bake.hcl")).expect("links can be made");
    asks(&bake, &["x"], "outside/x.hcl", "docker-bake.hcl");
    is_read(&bake.run_in("p", &["-f", "docker-bake.hcl", "--print", "x"]));
    is_read(&bake.run_in("p", &["-f", "../outside/x.hcl", "--print", "x"]));
    fs::remove_file(bake.path("p/docker-bake.hcl")).expect("it is there");
    bake.write("p/docker-bake.hcl", "variable \"A\" {}\ntarget \"x\" {\n  args = { A = A }\n}\n");
    is_read(&bake.run_in("p", &["--var-file", "../outside/x.env", "--print", "x"]));
}

#[test]
fn functions_see_the_work_tree() {
    let bake = project();
    bake.write("outside/y", SECRET);
    symlink("../outside/y", bake.path("p/y")).expect("links can be made");
    for call in ["file(\"../outside/y\")", "file(\"y\")"] {
        bake.write("p/docker-bake.hcl", &format!("target \"x\" {{\n  args = {{ A = {call} }}\n}}\n"));
        asks(&bake, &["x"], "outside/y", "docker-bake.hcl:2");
    }
    for call in ["fileexists(\"../outside/y\")", "fileset(\"../outside\", \"*\")"] {
        bake.write("p/docker-bake.hcl", &format!("target \"x\" {{\n  args = {{ A = jsonencode({call}) }}\n}}\n"));
        let ran = bake.run_in("p", &["--print", "x"]);
        assert_eq!(ran.code, Some(1), "{ran:#?}");
        assert!(ran.stderr.contains("--allow=fs.read="), "{ran:#?}");
    }
    fs::create_dir(bake.path(".git")).expect("folders can be made");
    bake.write("p/docker-bake.hcl", "target \"x\" {\n  args = { A = file(\"../outside/y\") }\n}\n");
    is_read(&bake.run_in("p", &["--print", "x"]));
}
