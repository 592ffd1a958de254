//! Shared caches in the cache service of GitHub Actions, on a double of it.

use std::process::Stdio;

use crate::{
    actions_service::{ActionsService, ServiceFault},
    support::{Bake, Ran, noise, steps_and_targets},
};

const CACHE: &str = "type=gha,scope=s,mode=max";
const MAIN: &[&str] = &["refs/heads/main"];

fn run(bake: &Bake, home: &str, service: &ActionsService, scopes: &[&str], cache: &str, args: &[&str]) -> Ran {
    let env = service.env(scopes);
    let mut all: Vec<(&str, &str)> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
    all.extend([("BAKE_HOME", home), ("BAKE_CACHE", cache), ("BAKE_LOG", "bake=debug")]);
    let ran = bake.run_with("", &[&["--progress=plain"], args].concat(), &all);
    // The claims of the token, and signatures of URLs.
    assert!(!ran.stderr.contains(&env[1].1) && !ran.stderr.contains("SIGNATURE"), "{ran:#?}");
    ran
}

fn n_run(ran: &Ran) -> usize {
    ran.stderr.matches(" DONE ").count()
}

#[test]
fn a_second_job_builds_nothing_and_fetches_only_what_it_needs() {
    let bake = steps_and_targets();
    let service = ActionsService::start();
    let first = run(&bake, "h1", &service, MAIN, CACHE, &[]).ok();
    assert!(n_run(&first) == 2 && !first.stderr.contains('⚠'), "{first:#?}");
    service.log();
    let found = run(&bake, "h2", &service, MAIN, CACHE, &["--set=*.output=type=cacheonly"]).ok();
    let log = service.log();
    let fetched = log.iter().filter(|it| it.starts_with("GET") && it.contains("blob")).count();
    let written = log.iter().filter(|it| it.starts_with("PUT") || it.starts_with("Create")).count();
    assert_eq!((n_run(&found), fetched, written), (0, 0, 0), "{log:#?}");
    let found = run(&bake, "h3", &service, MAIN, CACHE, &[]).ok();
    assert_eq!((n_run(&found), bake.read("out/b").as_str()), (0, "content"), "{found:#?}");
    // The names of entries are those of BuildKit: the hash is that of `refs/heads/main`.
    let keys = service.keys();
    assert!(keys.contains(&"index-s-1-f921bd05#1".to_owned()), "{keys:?}");
    assert_eq!(keys.iter().filter(|key| key.starts_with("buildkit-blob-1-sha256:")).count(), 2, "{keys:?}");
    service.check();
}

#[test]
fn a_pull_request_reads_the_main_branch_and_writes_what_it_does_not_read() {
    let bake = steps_and_targets();
    let service = ActionsService::start();
    let _made = run(&bake, "h1", &service, MAIN, CACHE, &["t1"]).ok();
    let pull = ["refs/heads/main", "refs/pull/7/merge"];
    let ran = run(&bake, "h2", &service, &pull, CACHE, &["t1", "t2"]).ok();
    assert_eq!(n_run(&ran), 1, "{ran:#?}");
    let main = run(&bake, "h3", &service, MAIN, CACHE, &["t1", "t2"]).ok();
    assert_eq!(n_run(&main), 1, "{main:#?}");
    service.check();
}

#[test]
fn eight_jobs_that_write_at_once_lose_no_record() {
    let bake = steps_and_targets();
    let service = ActionsService::start();
    let names: Vec<String> = (1..=8).map(|n| format!("t{n}")).collect();
    let start = |name: &String| {
        let mut command = bake.command("", &["--progress=plain", name]);
        command.env("BAKE_HOME", bake.path(&format!("home-{name}"))).env("BAKE_CACHE", CACHE).envs(service.env(MAIN));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("the binary starts")
    };
    let running: Vec<_> = names.iter().map(start).collect();
    for child in running {
        let output = child.wait_with_output().expect("it was started");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !stderr.contains('⚠'), "{stderr}");
    }
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    let found = run(&bake, "other", &service, MAIN, CACHE, &all).ok();
    assert_eq!(n_run(&found), 0, "{found:#?}");
    service.check();
}

#[test]
fn a_writer_that_died_holds_back_nobody_for_ever() {
    let bake = steps_and_targets();
    let service = ActionsService::start();
    service.reserve("index-s-1-f921bd05#1");
    let _made = run(&bake, "h1", &service, MAIN, CACHE, &["t1"]).ok();
    assert!(service.keys().contains(&"index-s-1-f921bd05#2".to_owned()), "{:?}", service.keys());
    let found = run(&bake, "h2", &service, MAIN, CACHE, &["t1"]).ok();
    assert_eq!(n_run(&found), 0, "{found:#?}");
    service.check();
}

#[test]
fn a_service_that_is_busy_is_waited_for_and_one_that_is_broken_costs_a_warning() {
    let bake = steps_and_targets();
    let service = ActionsService::start();
    service.misbehave(ServiceFault::TooMany);
    let busy = run(&bake, "h1", &service, MAIN, CACHE, &["t1"]).ok();
    assert!(n_run(&busy) == 1 && !busy.stderr.contains('⚠'), "{busy:#?}");
    service.check();
    let service = ActionsService::start();
    let _made = run(&bake, "h1", &service, MAIN, CACHE, &[]).ok();
    service.misbehave(ServiceFault::WrongBytes);
    let wrong = run(&bake, "h2", &service, MAIN, CACHE, &[]).ok();
    let told = "a shared cache is left out, and what it has is built: its layer sha256:";
    assert!(wrong.stderr.contains(told) && n_run(&wrong) == 2, "{wrong:#?}");
    assert_eq!(bake.read("out/b"), "content");
    service.misbehave(ServiceFault::Down);
    let down = run(&bake, "h3", &service, MAIN, &format!("{CACHE},ignore-error=true"), &[]).ok();
    assert!(down.stderr.contains("⚠ a cache cannot be read: ") && n_run(&down) == 2, "{down:#?}");
    assert!(down.stderr.contains("⚠ a cache cannot be written: "), "{down:#?}");
    service.check();
}

#[test]
fn a_layer_longer_than_one_block_is_sent_in_blocks() {
    let bake = steps_and_targets();
    let service = ActionsService::start();
    // More than the 16 MiB of one block.
    let bytes = noise(20 << 20);
    std::fs::write(bake.path("f"), &bytes).expect("writable");
    let _made = run(&bake, "h1", &service, MAIN, CACHE, &[]).ok();
    let log = service.log();
    assert!(log.iter().filter(|it| it.starts_with("PUT buildkit-blob")).count() >= 6, "{log:#?}");
    let found = run(&bake, "h2", &service, MAIN, CACHE, &[]).ok();
    assert_eq!(n_run(&found), 0, "{found:#?}");
    assert!(std::fs::read(bake.path("out/b")).expect("it was built") == bytes);
    service.check();
}

#[test]
fn outside_of_jobs_there_is_no_such_cache_and_a_job_without_a_token_is_told() {
    let bake = steps_and_targets();
    let env = [("BAKE_HOME", "h1"), ("BAKE_CACHE", CACHE)];
    let ran = bake.run_with("", &["--progress=plain"], &env).ok();
    assert!(n_run(&ran) == 2 && !ran.stderr.contains('⚠'), "{ran:#?}");
    let ran = bake.run_with("", &["--progress=plain"], &[&env[..], &[("GITHUB_ACTIONS", "true")]].concat());
    assert!(
        ran.code == Some(1) && ran.stderr.contains("pass ACTIONS_RESULTS_URL and ACTIONS_RUNTIME_TOKEN"),
        "{ran:#?}"
    );
}
