//! What a definition may reach of this machine: each way out that was found once, and the honest uses beside it.

use std::{fs, os::unix::fs::symlink, path::Path};

use crate::support::{Bake, Ran};

/// A project `p` beside a folder `outside` with the file `secret`.
fn project(definition: &str) -> Bake {
    let bake = Bake::new();
    bake.write("outside/secret", "of somebody else\n");
    bake.write("p/docker-bake.hcl", definition);
    bake.write("p/Dockerfile", "FROM scratch\nCOPY file /file\n");
    bake.write("p/file", "of the project\n");
    bake
}

/// The folder `d/1/2/3/4/5/6/7/8` with the link `l` to it, and a decoy where the text `l/../../../../outside` points.
fn decoy(bake: &Bake) {
    fs::create_dir_all(bake.path("p/d/1/2/3/4/5/6/7/8")).expect("folders can be made");
    symlink("d/1/2/3/4/5/6/7/8", bake.path("p/l")).expect("links can be made");
    bake.write("p/d/1/2/3/4/outside/secret", "a decoy\n");
    bake.write("p/d/1/2/3/4/outside/Dockerfile", "FROM scratch\n");
}

fn run(bake: &Bake, args: &[&str]) -> Ran {
    let mut all = vec!["--progress=plain"];
    all.extend(args);
    bake.run_in("p", &all)
}

#[track_caller]
fn asks(bake: &Bake, args: &[&str], flag: &str) {
    let ran = run(bake, args);
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    assert!(ran.stderr.contains(flag), "wanted {flag}: {ran:#?}");
    assert!(!format!("{}{}", ran.stdout, ran.stderr).contains("of somebody else"), "{ran:#?}");
}

fn real(path: &Path) -> String {
    path.canonicalize().expect("it exists").display().to_string()
}

#[test]
fn a_secret_without_a_source_is_the_file_of_its_name() {
    let bake = project("");
    let secret = bake.path("outside/secret");
    for text in [format!("id={}", secret.display()), format!("type=file,id={}", secret.display())] {
        bake.write("p/docker-bake.hcl", &format!("target \"default\" {{\n  secret = [\"{text}\"]\n}}\n"));
        asks(&bake, &[], &format!("--allow=fs.read={}", real(&secret)));
    }
}

#[test]
fn parents_behind_a_link_are_those_of_what_it_leads_to() {
    for line in [
        "secret = [\"id=s,src=l/../../../../../../../../../../outside/secret\"]",
        "ssh = [\"default=l/../../../../../../../../../../outside/secret\"]",
        "contexts = { other = \"oci-layout://l/../../../../../../../../../../outside\" }",
    ] {
        let bake = project(&format!("target \"default\" {{\n  {line}\n}}\n"));
        decoy(&bake);
        // From d/1/…/8 ten steps up is the folder above the project.
        asks(&bake, &[], &format!("--allow=fs.read={}", real(&bake.path("outside"))));
    }
}

#[test]
fn a_context_is_cleaned_as_text_before_it_is_checked_and_opened() {
    let bake = project("target \"default\" {\n  context = \"l/../ctx\"\n  output = [\"type=local,dest=out\"]\n}\n");
    decoy(&bake);
    bake.write("p/ctx/Dockerfile", "FROM scratch\nCOPY which /which\n");
    bake.write("p/ctx/which", "as text\n");
    bake.write("p/d/1/2/3/4/5/6/7/ctx/Dockerfile", "FROM scratch\nCOPY which /which\n");
    bake.write("p/d/1/2/3/4/5/6/7/ctx/which", "as the kernel\n");
    let _ran = run(&bake, &[]).ok();
    assert_eq!(bake.read("p/out/which"), "as text\n");
}

#[test]
fn links_to_dockerfiles_and_ignore_files_outside_ask() {
    let bake = project("target \"default\" {}\n");
    for name in ["Dockerfile", "dockerfile", "Dockerfile.dockerignore", ".dockerignore"] {
        if name.eq_ignore_ascii_case("dockerfile") {
            fs::remove_file(bake.path("p/Dockerfile")).expect("it is there");
        } else {
            bake.write("p/Dockerfile", "FROM scratch\nCOPY file /file\n");
        }
        symlink(bake.path("outside/secret"), bake.path("p").join(name)).expect("links can be made");
        asks(&bake, &[], &format!("--allow=fs.read={}", real(&bake.path("outside/secret"))));
        let checked = bake.run_in("p", &["check"]);
        assert!(!format!("{}{}", checked.stdout, checked.stderr).contains("of somebody else"), "{name}: {checked:#?}");
        fs::remove_file(bake.path("p").join(name)).expect("it is there");
        bake.write("p/Dockerfile", "FROM scratch\nCOPY file /file\n");
    }
}

#[test]
fn ignore_files_in_the_same_work_tree_are_free() {
    let bake = project("target \"default\" {\n  output = [\"type=local,dest=out\"]\n}\n");
    fs::create_dir(bake.path(".git")).expect("folders can be made");
    bake.write("shared.ignore", "other\n");
    symlink("../shared.ignore", bake.path("p/.dockerignore")).expect("links can be made");
    let _ran = run(&bake, &[]).ok();
    assert_eq!(bake.read("p/out/file"), "of the project\n");
}

#[test]
fn what_another_target_writes_is_no_way_out() {
    let bake = project("");
    let outside = bake.path("outside");
    bake.write(
        "p/docker-bake.hcl",
        "target \"a\" {\n  context = \"a\"\n  output = [\"type=local,dest=out\"]\n}\n\
         target \"b\" {\n  context = \"b\"\n  contexts = { after = \"target:a\" }\n  secret = [\"id=s,src=out/s\"]\n  \
         output = [\"type=local,dest=got\"]\n}\n\
         target \"c\" {\n  contexts = { after = \"target:a\" }\n  output = [\"type=local,dest=out/evil/x\"]\n}\n",
    );
    bake.write("p/a/Dockerfile", "FROM scratch\nCOPY evil s /\n");
    symlink(&outside, bake.path("p/a/evil")).expect("links can be made");
    symlink(outside.join("secret"), bake.path("p/a/s")).expect("links can be made");
    bake.write("p/b/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    let both = run(&bake, &["a", "c"]);
    assert!(!outside.join("x").exists(), "{both:#?}");
    // The next run sees the links, and asks.
    if bake.path("p/out/evil").is_symlink() {
        asks(&bake, &["c"], "--allow=fs.write=");
        asks(&bake, &["b"], "--allow=fs.read=");
    }
    assert!(!outside.join("x").exists());
}

#[test]
fn a_destination_is_where_the_kernel_leads_to() {
    let bake = project("target \"default\" {\n  output = [\"type=local,dest=l/../../x\"]\n}\n");
    decoy(&bake);
    let _ran = run(&bake, &[]).ok();
    assert_eq!(bake.read("p/d/1/2/3/4/5/6/x/file"), "of the project\n");

    // `p2/m` does not exist; `l2/../..` is the folder above the project.
    bake.write(
        "p/docker-bake.hcl",
        "target \"default\" {\n  output = [\"type=local,dest=l2/../../p2/m/../../hit\"]\n}\n",
    );
    fs::create_dir_all(bake.path("p/sub")).expect("folders can be made");
    symlink("sub", bake.path("p/l2")).expect("links can be made");
    asks(&bake, &[], "--allow=fs.write=");
    assert!(!bake.path("hit").exists());
}

#[test]
fn a_layout_outside_asks() {
    let bake = project("");
    let outside = bake.path("outside");
    let line = format!("contexts = {{ base = \"oci-layout://{}:latest\" }}", outside.display());
    bake.write("p/docker-bake.hcl", &format!("target \"default\" {{\n  {line}\n}}\n"));
    asks(&bake, &[], &format!("--allow=fs.read={}", real(&outside)));
}
