//! Secrets: each target gets its own, and none is shown.

use crate::support::{Bake, base_layout};

/// Targets `a` and `b` with one Dockerfile, whose step is the same for both but for where the secret `tok` comes from.
fn two_targets(sources: [&str; 2]) -> Bake {
    let bake = Bake::new();
    bake.write("a.txt", "value of a\n");
    bake.write("b.txt", "value of b\n");
    let target = |name: &str, source: &str| {
        format!(
            "target \"{name}\" {{\n  context = \".\"\n  contexts = {{ base = \"oci-layout://{}\" }}\n  \
             secret = [\"id=tok,{source}\"]\n  output = [\"type=local,dest=out-{name}\"]\n}}\n",
            base_layout().display()
        )
    };
    bake.write("docker-bake.hcl", &format!("{}{}", target("a", sources[0]), target("b", sources[1])));
    bake.write(
        "Dockerfile",
        "FROM base AS run\nRUN --mount=type=secret,id=tok --mount=type=secret,id=tok,env=TOK \
         cat /run/secrets/tok && echo \"$TOK\" && rev /run/secrets/tok > /got\n\
         FROM scratch\nCOPY --from=run /got /got\n",
    );
    bake
}

fn run(bake: &Bake, targets: &[&str]) -> String {
    let mut args = vec!["--progress=plain", "--allow", "fs.read=*", "--allow", "fs.write=*"];
    args.extend(targets);
    let ran = bake.run(&args).ok();
    assert!(!format!("{}{}", ran.stdout, ran.stderr).contains("value of"), "a secret is shown: {ran:#?}");
    ran.stderr
}

#[test]
fn equal_steps_of_two_targets_get_the_secret_of_their_own_target() {
    for sources in [["src=a.txt", "src=b.txt"], ["src=a.txt", "src=./b.txt"]] {
        let bake = two_targets(sources);
        for round in 0..2 {
            let shown = run(&bake, &["a", "b"]);
            assert_eq!(bake.read("out-a/got"), "a fo eulav\n", "round {round}");
            assert_eq!(bake.read("out-b/got"), "b fo eulav\n", "round {round}");
            assert_eq!(shown.matches(" DONE ").count(), if round == 0 { 4 } else { 0 }, "round {round}: {shown}");
        }
    }
}

#[test]
fn a_result_of_one_target_alone_is_not_taken_for_another_in_a_run_that_can_tell_them_apart() {
    let bake = two_targets(["src=a.txt", "src=b.txt"]);
    run(&bake, &["a"]);
    // Alone, a secret is known by its id, as the key says.
    run(&bake, &["b"]);
    assert_eq!(bake.read("out-b/got"), "a fo eulav\n");
    run(&bake, &["a", "b"]);
    assert_eq!(bake.read("out-a/got"), "a fo eulav\n");
    assert_eq!(bake.read("out-b/got"), "b fo eulav\n");
}

#[test]
fn equal_steps_with_one_source_are_one_step() {
    let bake = two_targets(["src=a.txt", "src=a.txt"]);
    let shown = run(&bake, &["a", "b"]);
    assert_eq!(bake.read("out-b/got"), "a fo eulav\n");
    assert_eq!(shown.matches(" DONE ").count(), 2, "{shown}");
}

#[test]
fn the_log_for_developers_has_the_spans_of_a_run_and_no_secret() {
    let bake = two_targets(["src=a.txt", "src=b.txt"]);
    let args = ["--progress=quiet", "--allow", "fs.read=*", "a"];
    let ran = bake.run_with(".", &args, &[("BAKE_LOG", "debug")]).ok().stderr;
    for span in
        [" load", " evaluate", " plan", " build", " step", "process of a step", " export", "not known: it is run"]
    {
        assert!(ran.contains(span), "{span}: {ran}");
    }
    assert!(!ran.contains("value of"), "{ran}");
}
