//! Shared caches in Azure Blob Storage and Google Cloud Storage, on doubles of them, and on Azurite where it is installed.

use std::{
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{
    bucket_double::{BucketDouble, Cloud},
    support::{Bake, Ran, noise, skipped, steps_and_targets},
};

fn run(bake: &Bake, home: &str, cache: &str, args: &[&str]) -> Ran {
    let env = [("BAKE_HOME", home), ("BAKE_CACHE", cache), ("BAKE_LOG", "debug")];
    let ran = bake.run_with("", &[&["--progress=plain"], args].concat(), &env);
    assert!(!ran.stderr.contains(KEY), "{ran:#?}");
    ran
}

fn n_run(ran: &Ran) -> usize {
    ran.stderr.matches(" DONE ").count()
}

/// A key that Azurite knows by default.
const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// What must hold of a cache in any bucket.
fn check_cache(cache: &str) -> Bake {
    let bake = steps_and_targets();
    let first = run(&bake, "h1", cache, &[]).ok();
    assert!(n_run(&first) == 2 && !first.stderr.contains('⚠'), "{first:#?}");
    let found = run(&bake, "h2", cache, &[]).ok();
    assert_eq!((n_run(&found), bake.read("out/b").as_str()), (0, "content"), "{found:#?}");
    let names: Vec<String> = (1..=8).map(|n| format!("t{n}")).collect();
    let start = |name: &String| {
        let mut command = bake.command("", &["--progress=plain", name]);
        command.env("BAKE_HOME", bake.path(&format!("home-{name}"))).env("BAKE_CACHE", cache);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("the binary starts")
    };
    let running: Vec<_> = names.iter().map(start).collect();
    for child in running {
        let output = child.wait_with_output().expect("it was started");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !stderr.contains('⚠'), "{stderr}");
    }
    let all: Vec<&str> = names.iter().map(String::as_str).chain(["default"]).collect();
    let found = run(&bake, "h3", cache, &all).ok();
    assert_eq!(n_run(&found), 0, "{found:#?}");
    // A layer that is sent in parts.
    let bytes = noise(20 << 20);
    std::fs::write(bake.path("f"), &bytes).expect("writable");
    let _made = run(&bake, "h1", cache, &[]).ok();
    let found = run(&bake, "long", cache, &[]).ok();
    assert_eq!(n_run(&found), 0, "{found:#?}");
    assert!(std::fs::read(bake.path("out/b")).expect("it was built") == bytes);
    bake.write("f", "content");
    bake
}

#[test]
fn a_container_of_azure_is_made_and_holds_a_cache() {
    let double = BucketDouble::start(Cloud::Azure);
    let cache = format!(
        "type=azblob,account_url=http://{},account_name=account,prefix=p,name=n,secret_access_key={KEY},mode=max",
        double.address
    );
    let bake = check_cache(&cache);
    let names = double.names();
    assert!(names.contains(&"p/manifests/n".to_owned()), "{names:?}");
    double.spoil();
    let wrong = run(&bake, "h4", &cache, &[]).ok();
    let told = "a shared cache is left out, and what it has is built: its layer sha256:";
    assert!(wrong.stderr.contains(told) && n_run(&wrong) == 2, "{wrong:#?}");
    double.check();
}

#[test]
fn a_bucket_of_google_holds_a_cache() {
    let double = BucketDouble::start(Cloud::Google);
    let cache = format!("type=gcs,bucket=b,endpoint_url=http://{},touch_refresh=0s,mode=max", double.address);
    let key = r#"{"private_key":"k","private_key_id":"i","client_email":"e","disable_oauth":true}"#;
    let key = STANDARD.encode(key);
    let bake = check_cache(&format!("{cache},gcp_json_key={key}"));
    let anonymous = run(&bake, "h4", &format!("{cache},without_auth=true"), &[]).ok();
    assert_eq!(n_run(&anonymous), 0, "{anonymous:#?}");
    let names = double.names();
    assert!(names.contains(&"manifests/buildkit".to_owned()), "{names:?}");
    let bad = run(&bake, "h5", &format!("{cache},gcp_json_key=???"), &[]);
    assert!(bad.code == Some(1) && bad.stderr.contains("`gcp_json_key` is not base64"), "{bad:#?}");
    double.check();
}

#[test]
fn azurite_takes_a_cache() {
    let installed =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-tools/azurite/node_modules/.bin/azurite-blob");
    let program = if installed.exists() { installed } else { "azurite-blob".into() };
    let port = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a free port").port();
    let mut command = Command::new(program);
    command.args(["--inMemoryPersistence", "--skipApiVersionCheck", "--silent", "--disableTelemetry", "--blobPort"]);
    let started = command.arg(port.to_string()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let Ok(mut azurite) = started else {
        // Debian has none, and its npm is large; the double stands for it in CI.
        skipped("needs the program azurite-blob of the npm package azurite", None);
        return;
    };
    let begun = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(60), "azurite does not answer");
        std::thread::sleep(Duration::from_millis(50));
    }
    let cache = format!(
        "type=azblob,account_url=http://127.0.0.1:{port}/devstoreaccount1,account_name=devstoreaccount1,\
         secret_access_key={KEY},mode=max"
    );
    let checked = std::panic::catch_unwind(|| check_cache(&cache));
    azurite.kill().expect("it was running");
    let _status = azurite.wait();
    drop(checked.unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
}
