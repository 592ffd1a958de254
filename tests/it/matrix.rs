//! `bake matrix` and `--shard`: the jobs of a pipeline, and what runners that share a cache do together.

use std::process::{Child, Stdio};

use serde_json::{Value, json};

use crate::{
    docker_registry::Registry,
    support::{Bake, base_layout},
};

/// `svc1` to `svc6` are linked to `base`; `lint` and `fmt` stand alone.
fn project() -> Bake {
    let bake = Bake::new();
    let target = |name: &str, more: &str, dockerfile: &str| {
        format!(
            "target \"{name}\" {{\n  {more}\n  dockerfile-inline = \"{dockerfile}\"\n  output = [\"type=cacheonly\"]\n}}\n"
        )
    };
    let busy = format!("contexts = {{ busy = \"oci-layout://{}\" }}", base_layout().display());
    let groups = "group \"default\" {\n  targets = [\"svc\", \"tool\"]\n}\ngroup \"tool\" {\n  targets = [\"lint\", \"fmt\"]\n}\n";
    let svc = "name = \"svc${n}\"\n  matrix = { n = [1, 2, 3, 4, 5, 6] }\n  contexts = { base = \"target:base\" }";
    bake.write(
        "docker-bake.hcl",
        &[
            groups,
            &target("base", &busy, "FROM busy\\nRUN echo base > /base\\nRUN echo more >> /base"),
            &target("svc", svc, "FROM base\\nRUN echo ${n} > /n\\nRUN echo again >> /n"),
            &target("lint", &busy, "FROM busy\\nRUN echo lint > /n"),
            &target("fmt", &busy, "FROM busy\\nRUN echo fmt > /n"),
        ]
        .concat(),
    );
    bake
}

fn matrix(bake: &Bake, args: &[&str]) -> Value {
    let ran = bake.run(&[&["matrix", "--allow=fs.read=*"], args].concat()).ok();
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:#?}"))
}

/// The field of each job, as one text.
fn each(matrix: &Value, field: &str) -> Vec<String> {
    let jobs = matrix["include"].as_array().expect("a list");
    jobs.iter().map(|job| job[field].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn jobs_are_targets_platforms_or_groups_and_linked_ones_come_first() {
    let bake = project();
    let targets = matrix(&bake, &[]);
    assert_eq!(each(&targets, "target"), ["base", "lint", "fmt", "svc1", "svc2", "svc3", "svc4", "svc5", "svc6"]);
    assert_eq!(targets["include"][0], json!({ "name": "base", "target": "base", "wave": 1 }));
    assert_eq!(targets["include"][3]["wave"], 2);
    assert_eq!(each(&matrix(&bake, &["--wave=1"]), "target"), ["base", "lint", "fmt"]);
    // Without links there is one wave, which is not named.
    assert_eq!(matrix(&bake, &["lint"]), json!({ "include": [{ "name": "lint", "target": "lint" }] }));
    let two = ["--by=platform", "--set=lint.platform=linux/amd64,linux/arm64", "lint"];
    let platforms = matrix(&bake, &two);
    assert_eq!(each(&platforms, "platform"), ["linux/amd64", "linux/arm64"]);
    assert_eq!(
        platforms["include"][1],
        json!({
            "name": "lint (linux/arm64)", "target": "lint", "platform": "linux/arm64", "os": "linux", "arch": "arm64",
            "pair": "linux-arm64",
        })
    );
    assert_eq!(each(&matrix(&bake, &["--by=group"]), "target"), ["tool", "base", "svc"]);
    // What is left out of a group is in no job.
    assert_eq!(each(&matrix(&bake, &["--by=group", "tool", "!fmt"]), "target"), ["lint"]);
    let gitlab = bake.run(&["matrix", "--allow=fs.read=*", "--format=gitlab", "lint", "fmt"]).ok().stdout;
    let wanted = "\"bake lint\":\n  extends: .bake\n  variables:\n    BAKE_TARGETS: \"lint\"\n\
                  \"bake fmt\":\n  extends: .bake\n  variables:\n    BAKE_TARGETS: \"fmt\"\n";
    assert_eq!(gitlab.split_once('\n').expect("a first line").1, wanted);
}

#[test]
fn shards_are_balanced_by_recorded_times_and_keep_what_is_shared_together() {
    let bake = project();
    let shards = matrix(&bake, &["--shards=3", "--format=json"]);
    assert_eq!((&shards["waves"], &shards["targets"]), (&json!(2), &json!(8)));
    assert_eq!((&shards["recordedSteps"], &shards["repeatedSteps"]), (&json!(0), &json!(0)));
    let all = each(&shards, "targets").join(" ");
    let mut all: Vec<&str> = all.split(' ').collect();
    all.sort_unstable();
    assert_eq!(all, ["base", "fmt", "lint", "svc1", "svc2", "svc3", "svc4", "svc5", "svc6"]);
    // One runner has it all in one wave, with what is only linked built on the way.
    assert_eq!(each(&matrix(&bake, &["--shards=1"]), "targets"), ["svc1 svc2 svc3 svc4 svc5 svc6 lint fmt"]);
    // The times of a run are taken into account: one target needs as much as all others together.
    let slow = "FROM busy\\nRUN sleep 4";
    let bake_file = bake.read("docker-bake.hcl").replace("FROM busy\\nRUN echo lint > /n", slow);
    bake.write("docker-bake.hcl", &bake_file);
    bake.run(&["--allow=fs.read=*"]).ok();
    let shards = matrix(&bake, &["--shards=2", "--format=json"]);
    assert_eq!(shards["recordedSteps"], shards["steps"]);
    assert_eq!(each(&shards, "targets"), ["lint", "svc1 svc2 svc3 svc4 svc5 svc6 fmt"]);
    // Runners divide without them, as each has other ones.
    let print = |k: &str| bake.run(&["--allow=fs.read=*", "--shard", k, "--print"]).ok();
    assert!(print("1/2").stderr.contains("shard 1/2: "), "{:#?}", print("1/2"));
    assert_eq!(bake.run(&["--allow=fs.read=*", "--shard=3/2"]).code, Some(2));
    let empty = bake.run(&["--allow=fs.read=*", "--shard=2/2", "lint"]).ok();
    assert_eq!(empty.stderr, "shard 2/2: 0 of 1 targets\n");
    bake.write("m.json", "stale");
    bake.run(&["--allow=fs.read=*", "--shard=2/2", "--metadata-file=m.json", "lint"]).ok();
    assert_eq!(bake.read("m.json").trim(), "{}");
    let printed = bake.run(&["--allow=fs.read=*", "--shard=2/2", "--print", "lint"]).ok();
    assert_eq!(serde_json::from_str::<Value>(&printed.stdout).expect("JSON")["target"], json!({}));
}

#[test]
fn five_runners_with_a_shared_cache_run_each_step_once() {
    let bake = project();
    let registry = Registry::start(&bake);
    let alone = bake.run(&["--allow=fs.read=*", "--progress=plain"]).ok();
    let steps = |stderr: &str| stderr.matches(" DONE ").count();
    let n_alone = steps(&alone.stderr);
    assert_eq!(n_alone, 16, "{alone:#?}");
    let cache = format!("type=registry,ref={}/cache:main,mode=max", registry.address);
    let start = |wave: &str, shard: usize| -> Child {
        let (number, wave) = (format!("--shard={shard}/5"), format!("--wave={wave}"));
        let mut command = bake.command("", &["--allow=fs.read=*", "--progress=plain", &number, &wave]);
        command.env("BAKE_HOME", bake.path(&format!("runner-{shard}"))).env("BAKE_CACHE", &cache);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts")
    };
    let (mut n_together, mut most) = (0, 0);
    for wave in ["1", "2"] {
        let running: Vec<Child> = (1..=5).map(|shard| start(wave, shard)).collect();
        for child in running {
            let output = child.wait_with_output().expect("it ends");
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{stderr}");
            n_together += steps(&stderr);
            most = most.max(steps(&stderr));
        }
    }
    assert_eq!(n_together, n_alone);
    assert!(most <= 6, "the work is divided: one runner ran {most} steps in a wave");
}

#[test]
fn a_part_of_a_group_is_released_as_the_group_says() {
    let bake = Bake::new();
    let target = |name: &str, copied: &str| {
        format!(
            "target \"{name}\" {{\n  dockerfile-inline = \"FROM scratch\\nCOPY {copied} /\"\n  \
             output = [\"type=local,dest=out-{name}\"]\n}}\n"
        )
    };
    let group = "group \"all\" {\n  targets = [\"good\", \"bad\"]\n  release = \"defer-output\"\n}\n";
    bake.write("r/docker-bake.hcl", &[group, &target("good", "there"), &target("bad", "absent")].concat());
    bake.write("r/there", "1");
    crate::support::git(&bake, "r", &["init", "-q", "-b", "main"]);
    crate::support::commit(&bake, "r");
    bake.write("r/there", "2");
    let with_warning =
        bake.read("r/docker-bake.hcl").replacen("target \"good\" {", "target \"good\" {\n  nonsense = 1", 1);
    bake.write("r/docker-bake.hcl", &with_warning);
    bake.write("r/docker-bake.hcl", &bake.read("r/docker-bake.hcl").replace("COPY absent", "COPY missing"));
    for args in [&["all", "--shard=1/1"][..], &["all", "--affected", "--since=HEAD"]] {
        let ran = bake.run_in("r", args);
        assert_eq!(ran.code, Some(1), "{ran:#?}");
        assert!(ran.stderr.contains("missing"), "{ran:#?}");
        assert_eq!(ran.stderr.matches("no attribute of this name: nonsense").count(), 1, "{ran:#?}");
        assert!(!bake.path("r/out-good").exists(), "{args:?}: all or nothing");
    }
    // Asked for otherwise, the part that can be built is there.
    assert_eq!(bake.run_in("r", &["all", "--shard=1/1", "--execution=defer-error"]).code, Some(1));
    assert_eq!(bake.read("r/out-good/there"), "2");
}
