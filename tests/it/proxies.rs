//! Proxies of Docker's configuration: every step has them, and neither the cache nor the image knows them.

use std::fs;

use crate::support::{Bake, base_layout};

const PROXY: &str = "http://user:hidden@proxy.test:3128";

fn configured(bake: &Bake, proxy: &str) {
    let config = format!(r#"{{"proxies": {{"default": {{"httpProxy": "{proxy}", "noProxy": "127.0.0.1"}}}}}}"#);
    bake.write("docker/config.json", &config);
}

fn run(bake: &Bake, more: &[&str]) -> String {
    let args = [&["--progress=plain", "--allow", "fs.read=*"][..], more].concat();
    let config = bake.path("docker").display().to_string();
    let ran = bake.run_with("", &args, &[("DOCKER_CONFIG", &config)]).ok();
    ran.stderr
}

#[test]
fn steps_have_the_proxies_of_the_configuration_and_the_image_does_not() {
    let bake = Bake::new();
    configured(&bake, PROXY);
    bake.write(
        "docker-bake.hcl",
        &format!(
            "target \"default\" {{\n  contexts = {{ base = \"oci-layout://{}\" }}\n  \
             dockerfile-inline = \"FROM base\\nRUN env | grep -i proxy | cut -d@ -f2\\n\"\n  \
             attest = [\"type=provenance,mode=max\"]\n  output = [\"type=oci,dest=out,tar=false\"]\n}}\n",
            base_layout().display()
        ),
    );
    let shown = run(&bake, &[]);
    for line in ["proxy.test:3128", "NO_PROXY=127.0.0.1", "no_proxy=127.0.0.1"] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    for blob in fs::read_dir(bake.path("out/blobs/sha256")).expect("a layout was written") {
        let bytes = fs::read(blob.expect("it can be read").path()).expect("it can be read");
        assert!(!String::from_utf8_lossy(&bytes).contains("proxy.test"), "a proxy is in the image");
    }
    // Another proxy makes no other result.
    configured(&bake, "http://elsewhere.test");
    let again = run(&bake, &[]);
    assert!(!again.contains(" RUN ") || again.contains("CACHED"), "{again}");
    assert!(!again.contains("elsewhere"), "the step did not run: {again}");
}

#[test]
fn an_argument_goes_before_the_configuration() {
    let bake = Bake::new();
    configured(&bake, PROXY);
    bake.write(
        "docker-bake.hcl",
        &format!(
            "target \"default\" {{\n  contexts = {{ base = \"oci-layout://{}\" }}\n  args = {{ http_proxy = \"http://mine.test\" }}\n  \
             dockerfile-inline = \"FROM base\\nRUN env | grep -i proxy\\n\"\n  output = [\"type=cacheonly\"]\n}}\n",
            base_layout().display()
        ),
    );
    let shown = run(&bake, &[]);
    assert!(shown.contains("HTTP_PROXY=http://mine.test") && shown.contains("http_proxy=http://mine.test"), "{shown}");
    assert!(!shown.contains("proxy.test") && shown.contains("NO_PROXY=127.0.0.1"), "{shown}");
}

#[test]
fn a_configuration_that_cannot_be_read_is_told_without_its_text() {
    let bake = Bake::new();
    bake.write("docker/config.json", r#"{"proxies": "hunter2"}"#);
    bake.write("docker-bake.hcl", "target \"default\" {\n  dockerfile-inline = \"FROM scratch\\nCOPY f /\\n\"\n  output = [\"type=cacheonly\"]\n}\n");
    bake.write("f", "f");
    let shown = run(&bake, &[]);
    assert!(shown.contains("bake::cli::docker_config") && shown.contains("line 1"), "{shown}");
    assert!(!shown.contains("hunter2"), "{shown}");
}
