//! `bake log`: what a step wrote is kept whole, without secrets, whatever was shown of it.

use crate::support::{Bake, base_layout};

fn project() -> Bake {
    let bake = Bake::new();
    let layout = base_layout().display();
    bake.write(
        "docker-bake.hcl",
        &format!(
            "variable \"PASSWORD\" {{\n  default = \"sesame street\"\n  sensitive = true\n}}\n\
             target \"default\" {{\n  contexts = {{ base = \"oci-layout://{layout}\" }}\n  args = {{ P = \"is ${{PASSWORD}}\" }}\n  \
             secret = [\"id=token,env=TOKEN\"]\n  output = [\"type=cacheonly\"]\n}}\n"
        ),
    );
    bake
}

fn run(bake: &Bake, args: &[&str], env: &[(&str, &str)]) -> crate::support::Ran {
    bake.run_with("", args, &[&[("TOKEN", "xyzzy42"), ("BUILDX_BAKE_ENTITLEMENTS_FS", "0")], env].concat())
}

#[test]
fn the_whole_output_of_a_failed_step_is_shown_without_secrets() {
    let bake = project();
    bake.write(
        "Dockerfile",
        "FROM base AS tools\nRUN echo tools\nFROM base\nARG P\nCOPY --from=tools /bin/busybox /copy\n\
         RUN --mount=type=secret,id=token echo password $P; cat /run/secrets/token; seq 1 500000; exit 3\n",
    );
    let ran = run(&bake, &["--progress=plain"], &[]);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr.len());
    assert!(!ran.stderr.contains("499000") && ran.stderr.contains("`bake log` has it"), "{}", ran.stderr.len());
    let end: String = ran.stderr.chars().rev().take(900).collect::<Vec<_>>().into_iter().rev().collect();
    assert!(end.contains("help: `bake log 'default stage-1 3/3'` shows all of its output"), "{end}");
    let log = run(&bake, &["log", "default stage-1 3/3"], &[]).ok().stdout;
    assert!(log.starts_with("password ***\n***1\n") && log.ends_with("499999\n500000\n"), "{}", &log[..200]);
    assert!(!log.contains("sesame") && !log.contains("xyzzy42"));

    // Listed, and found by a part of the name.
    let list = run(&bake, &["log"], &[]).ok().stdout;
    let words: Vec<Vec<&str>> = list.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!((words.len(), words[1][0], words[2][0]), (3, "done", "failed"), "{list}");
    assert_eq!(run(&bake, &["log", "echo tools"], &[]).ok().stdout, "tools\n");
    let several = run(&bake, &["log", "RUN"], &[]);
    assert!(several.code == Some(2) && several.stderr.contains("default tools 2/2"), "{several:?}");
    let unknown = run(&bake, &["log", "default stage-1 3/4"], &[]);
    assert!(unknown.code == Some(2) && unknown.stderr.contains("default stage-1 3/3"), "{unknown:?}");

    // A later run does not hide an earlier one that had the step.
    bake.write("Dockerfile", "FROM base\nRUN echo other\n");
    run(&bake, &["--progress=plain"], &[]).ok();
    assert_eq!(run(&bake, &["log", "echo tools"], &[]).ok().stdout, "tools\n");
    assert_eq!(run(&bake, &["log", "--run=1", "echo tools"], &[]).code, Some(2));
    assert!(run(&bake, &["log", "--run=2"], &[]).ok().stdout.contains("failed"));
}

#[test]
fn what_is_kept_has_limits() {
    let bake = project();
    let steps = |n: u32| bake.write("Dockerfile", &format!("FROM base\nRUN echo run {n}; seq 1 1000\n"));
    let limits = [("BAKE_STEP_LOG_MAX_SIZE", "10"), ("BAKE_STEP_LOG_RUNS", "2")];
    for n in 1..4 {
        steps(n);
        run(&bake, &["--progress=plain"], &limits).ok();
    }
    assert_eq!(run(&bake, &["log", "echo run 3"], &[]).ok().stdout, "run 3\n1\n2\n");
    assert_eq!(run(&bake, &["log", "echo run 1"], &[]).code, Some(2));
    steps(4);
    run(&bake, &["--progress=plain"], &[("BAKE_STEP_LOG_RUNS", "0")]).ok();
    assert_eq!(run(&bake, &["log", "echo run 4"], &[]).code, Some(2));
    let bad = run(&bake, &["--progress=plain"], &[("BAKE_STEP_LOG_RUNS", "many")]);
    assert!(bad.code == Some(2) && bad.stderr.contains("`BAKE_STEP_LOG_RUNS` is not a number: many"), "{bad:?}");

    // It takes room, which `du` tells and `prune` frees.
    let du = run(&bake, &["du", "--verbose", "--filter=type=log"], &[]).ok().stdout;
    assert!(du.contains(" log "), "{du}");
    run(&bake, &["prune", "--force", "--filter=type=log"], &[]).ok();
    let none = run(&bake, &["log"], &[]);
    assert!(none.code == Some(1) && none.stderr.contains("no step has run here"), "{none:?}");
}

#[test]
fn the_critical_path_of_a_long_run_is_told_and_steps_are_as_nice_as_asked() {
    let bake = project();
    bake.write(
        "Dockerfile",
        "FROM base AS a\nRUN sleep 1.2; read a b c d e f g h i j k l m n o p q r s t < /proc/self/stat; echo $s\nFROM base AS b\nRUN sleep 0.1\nFROM base\nCOPY --from=b /bin/busybox /b\n\
         COPY --from=a /bin/busybox /a\nRUN sleep 1\n",
    );
    let ran = run(&bake, &["--progress=plain", "--nice=7"], &[]).ok();
    let told =
        ran.stderr.lines().find(|line| line.starts_with("critical path: ")).unwrap_or_else(|| panic!("{ran:#?}"));
    assert!(told.contains("default a 2/2 1.") && told.contains("default stage-2 4/4 1."), "{told}");
    assert!(!told.contains("default b"), "{told}");
    assert_eq!(run(&bake, &["log", "default a 2/2"], &[]).ok().stdout, "7\n");
}
