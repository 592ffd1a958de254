//! Outputs go where they were allowed to go: links that a result brings are not followed, nothing that gives rights on
//! this machine is made, and what is no file does not block.

use std::{
    fs,
    os::unix::fs::{MetadataExt, symlink},
    process::Command,
};

use crate::support::Bake;

const COPY: &str = "dockerfile-inline = \"FROM scratch\\nCOPY . /\\n\"";

#[test]
fn links_that_a_result_brings_lead_no_other_output_outside() {
    let bake = Bake::new();
    fs::create_dir_all(bake.path("outside")).expect("writable");
    fs::create_dir_all(bake.path("p/links")).expect("writable");
    symlink(bake.path("outside"), bake.path("p/links/evil")).expect("writable");
    bake.write("p/links/a", "a\n");
    bake.write("p/files/b", "b\n");
    let outputs = ["type=local,dest=out/evil/x", "type=tar,dest=out/evil/t.tar", "type=oci,dest=out/evil/o.tar"];
    for output in outputs.into_iter().chain(["type=oci,tar=false,dest=out/evil/lay", "type=local,dest=out/evil"]) {
        let bake_file = format!(
            "target \"a\" {{\n  context = \"links\"\n  {COPY}\n  output = [\"type=local,dest=out\"]\n}}\n\
             target \"c\" {{\n  context = \"files\"\n  contexts = {{ dep = \"target:a\" }}\n  dockerfile-inline = \
             \"FROM scratch\\nCOPY --from=dep a /\\nCOPY . /\\n\"\n  output = [\"{output}\"]\n}}\n"
        );
        bake.write("p/docker-bake.hcl", &bake_file);
        // Which of the two is written first is not said: it must hold in both orders, and in the next run.
        for _ in 0..2 {
            drop(bake.run_in("p", &["--progress=plain", "a", "c"]));
            assert_eq!(fs::read_dir(bake.path("outside")).expect("there").count(), 0, "{output}");
        }
        // Where the link is there first, the other has to ask.
        fs::remove_dir_all(bake.path("p/out")).expect("ours");
        bake.run_in("p", &["--progress=plain", "a"]).ok();
        let ran = bake.run_in("p", &["--progress=plain", "c"]);
        assert_ne!(ran.code, Some(0), "what is outside now is asked for: {ran:#?}");
        assert!(ran.stderr.contains("--allow=fs.write="), "{ran:#?}");
        fs::remove_dir_all(bake.path("p/out")).expect("ours");
    }
}

#[test]
fn two_outputs_that_reach_one_file_by_different_links_are_refused() {
    let bake = Bake::new();
    fs::create_dir_all(bake.path("real")).expect("writable");
    symlink("real", bake.path("l1")).expect("writable");
    symlink("l1", bake.path("l2")).expect("writable");
    bake.write("files/b", "b\n");
    let two = |one: &str, other: &str| {
        let target = |name: &str, output: &str| {
            let args = format!("args = {{ N = \"{name}\" }}");
            format!("target \"{name}\" {{\n  context = \"files\"\n  {args}\n  {COPY}\n  output = [\"{output}\"]\n}}\n")
        };
        bake.write("docker-bake.hcl", &format!("{}{}", target("a", one), target("c", other)));
        bake.run(&["--progress=plain", "--allow", "buildx.local.delete", "a", "c"])
    };
    for (one, other) in
        [("type=tar,dest=l1/x", "type=oci,dest=l2/x"), ("type=tar,dest=real/x", "type=local,mode=delete,dest=l2/x")]
    {
        let ran = two(one, other);
        assert!(ran.code == Some(1) && ran.stderr.contains("bake::plan::same_dest"), "{ran:#?}");
        assert!(ran.stderr.contains("targets `a` and `c` write different things to: l2/x"), "{ran:#?}");
        assert_eq!(fs::read_dir(bake.path("real")).expect("there").count(), 0, "nothing was written");
    }
    let ran = two("type=local,dest=l1", "type=local,dest=l2").ok();
    assert!(ran.stderr.contains("bake::plan::shared_directory"), "{ran:#?}");
}

#[test]
fn a_path_through_a_link_and_back_is_where_the_kernel_finds_it() {
    let bake = Bake::new();
    fs::create_dir_all(bake.path("deep/er/est")).expect("writable");
    symlink("deep/er/est", bake.path("l")).expect("writable");
    bake.write("files/b", "b\n");
    for output in ["type=tar,dest=l/../../x", "type=local,dest=l/../../y", "type=oci,tar=false,dest=l/../z"] {
        let bake_file =
            format!("target \"default\" {{\n  context = \"files\"\n  {COPY}\n  output = [\"{output}\"]\n}}\n");
        bake.write("docker-bake.hcl", &bake_file);
        bake.run(&["--progress=plain"]).ok();
    }
    assert!(bake.path("deep/x").is_file() && bake.path("deep/er/z/index.json").is_file());
    assert_eq!(bake.read("deep/y/b"), "b\n");
}

#[test]
fn folders_get_no_set_user_id_files_unless_asked_and_allowed() {
    let bake = Bake::new();
    bake.write("files/su", "su\n");
    let of = |output: &str| {
        format!(
            "target \"default\" {{\n  context = \"files\"\n  dockerfile-inline = \"FROM scratch\\nCOPY --chmod=6755 su \
             /bin/su\\n\"\n  output = [\"{output}\"]\n}}\n"
        )
    };
    let mode = |path: &str| fs::metadata(bake.path(path)).expect("written").mode() & 0o7777;
    bake.write("docker-bake.hcl", &of("type=local,dest=out"));
    for _ in 0..2 {
        let ran = bake.run(&["--progress=plain"]).ok();
        assert!(ran.stderr.contains("bake::export::special_files") && ran.stderr.contains("bin/su"), "{ran:#?}");
        assert_eq!(mode("out/bin/su"), 0o755);
    }
    bake.write("docker-bake.hcl", &of("type=local,dest=out,special=keep"));
    let ran = bake.run(&["--progress=plain"]);
    assert!(ran.code == Some(1) && ran.stderr.contains("--allow=fs.special"), "{ran:#?}");
    assert_eq!(mode("out/bin/su"), 0o755);
    bake.run(&["--progress=plain", "--allow=fs.special"]).ok();
    assert_eq!(mode("out/bin/su"), 0o6755);
    // The same folder once more without them: an earlier export does not hide the bits.
    bake.write("docker-bake.hcl", &of("type=local,dest=out"));
    bake.run(&["--progress=plain"]).ok();
    assert_eq!(mode("out/bin/su"), 0o755);
}

#[test]
fn pipes_beside_outputs_do_not_block() {
    let bake = Bake::new();
    bake.write("files/b", "b\n");
    fs::create_dir_all(bake.path("lay")).expect("writable");
    for pipe in [".out.tar.bake-1-2", "lay/index.json.lock"] {
        assert!(Command::new("mkfifo").arg(bake.path(pipe)).status().expect("mkfifo").success());
    }
    let of = |output: &str| {
        format!("target \"default\" {{\n  context = \"files\"\n  {COPY}\n  output = [\"{output}\"]\n}}\n")
    };
    bake.write("docker-bake.hcl", &of("type=tar,dest=out.tar"));
    bake.run(&["--progress=plain"]).ok();
    assert!(bake.path("out.tar").is_file());
    bake.write("docker-bake.hcl", &of("type=oci,tar=false,dest=lay"));
    let ran = bake.run(&["--progress=plain"]);
    assert!(ran.code == Some(1) && ran.stderr.contains("index.json.lock"), "{ran:#?}");
}
