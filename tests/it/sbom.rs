//! SBOMs: the scanner image runs as BuildKit's protocol says, and what it writes goes beside images and folders.

use serde_json::{Value, json};

use crate::{
    small_registry::SmallRegistry,
    support::{Bake, base_layout},
};

/// What a scanner of the tests does: lists what it sees.
const SCANNER: &str = r#"#!/bin/sh
set -e
write() {
    printf '{"_type":"https://in-toto.io/Statement/v1","predicateType":"https://spdx.dev/Document","subject":[],"predicate":{"name":"%s","files":"%s","flavour":"%s","stages":"%s"}}' \
        "$1" "$(ls "$2" | tr '\n' ' ')" "$BUILDKIT_SCAN_flavour" "${BUILDKIT_SCAN_SOURCE_EXTRAS-none}" > "$BUILDKIT_SCAN_DESTINATION/$1.spdx.json"
}
write "$(basename "$BUILDKIT_SCAN_SOURCE")" "$BUILDKIT_SCAN_SOURCE"
if [ -n "$BUILDKIT_SCAN_SOURCE_EXTRAS" ]; then
    for extra in "$BUILDKIT_SCAN_SOURCE_EXTRAS"/*; do write "$(basename "$extra")" "$extra"; done
fi
if touch "$BUILDKIT_SCAN_SOURCE/written" 2> /dev/null; then exit 3; fi
"#;

/// Pushes a scanner that runs this script, and returns its name.
fn push_scanner(bake: &Bake, registry: &SmallRegistry, script: &str) -> String {
    let name = format!("{}/scanner:1", registry.address);
    bake.write("scanner/scan", script);
    bake.write(
        "scanner/Dockerfile",
        "FROM base\nCOPY --chmod=755 scan /scan\nENTRYPOINT [\"/bin/sh\"]\nCMD [\"/scan\"]\n",
    );
    let layout = base_layout().display();
    let base = format!("base=oci-layout://{layout}");
    bake.run(&["build", "--provenance=false", "--build-context", &base, "--push", "-t", &name, "scanner"]).ok();
    name
}

fn json_of(bake: &Bake, file: &str) -> Value {
    serde_json::from_str(&bake.read(file)).expect("JSON")
}

#[test]
fn a_scanner_describes_what_was_built_for_images_and_folders() {
    let bake = Bake::new();
    let registry = SmallRegistry::start();
    let scanner = push_scanner(&bake, &registry, SCANNER);
    bake.write(
        "app/Dockerfile",
        "ARG BUILDKIT_SBOM_SCAN_CONTEXT=true\nFROM scratch AS tools\nARG BUILDKIT_SBOM_SCAN_STAGE=true\nCOPY tool /tool\n\
         FROM scratch AS other\nCOPY tool /unseen\nFROM scratch\nCOPY --from=tools /tool /app\nCOPY --from=other /unseen /b\n",
    );
    bake.write("app/tool", "a tool\n");
    let attest = format!("type=sbom,generator={scanner},flavour=plain");
    let args = |output: &'static str| {
        ["build", "--progress=plain", "--attest", &attest, "-o", output, "app"].map(str::to_owned)
    };
    let run = |output| bake.run(&args(output).iter().map(String::as_str).collect::<Vec<_>>());

    let first = run("type=local,dest=out").ok();
    assert!(first.stderr.contains(&format!("generating sbom using {scanner}")), "{first:#?}");
    let sbom = json_of(&bake, "out/sbom.spdx.json");
    assert_eq!(
        sbom["predicate"],
        json!({"name": "sbom", "files": "app b ", "flavour": "plain", "stages": "/run/src/extras"})
    );
    assert_eq!(sbom["_type"], "https://in-toto.io/Statement/v1");
    assert_eq!(sbom["subject"][0]["name"], "app");
    assert_eq!(json_of(&bake, "out/sbom-tools.spdx.json")["predicate"]["files"], "tool ");
    assert!(bake.read("out/sbom-context.spdx.json").contains("Dockerfile"));
    assert!(!bake.path("out/sbom-other.spdx.json").exists());

    // Nothing is scanned again, and nothing is written again.
    let again = run("type=local,dest=out").ok();
    assert!(again.stderr.contains("nothing to do"), "{again:#?}");

    // The same scan goes beside an image.
    let image = run("type=oci,dest=image,tar=false").ok();
    assert!(!image.stderr.contains("DONE"), "{image:#?}");
    let blob = |digest: &Value| {
        json_of(&bake, &format!("image/blobs/sha256/{}", &digest.as_str().expect("a digest")["sha256:".len()..]))
    };
    let index = blob(&json_of(&bake, "image/index.json")["manifests"][0]["digest"]);
    let manifests = index["manifests"].as_array().expect("an index");
    assert_eq!(manifests.len(), 2, "{index:#}");
    let attested = blob(&manifests[1]["digest"]);
    let layers = attested["layers"].as_array().expect("layers");
    assert_eq!(layers.len(), 3, "{attested:#}");
    for layer in layers {
        assert_eq!(layer["annotations"]["in-toto.io/predicate-type"], "https://spdx.dev/Document");
    }
    assert_eq!(blob(&layers[2]["digest"])["predicate"]["name"], "sbom");

    // Provenance names the scanner.
    let both = ["build", "--attest", &attest, "--provenance=true", "-o", "type=local,dest=both", "app"];
    bake.run(&both).ok();
    assert!(bake.read("both/provenance.json").contains("/scanner@1"), "{}", bake.read("both/provenance.json"));
    assert!(bake.path("both/sbom.spdx.json").exists());
}

#[test]
fn a_scanner_that_fails_or_writes_nonsense_is_named() {
    let bake = Bake::new();
    let registry = SmallRegistry::start();
    bake.write("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    for (script, told) in [
        ("exit 7\n", "exit code: 7"),
        ("true\n", "/run/out is empty"),
        ("echo '[' > $BUILDKIT_SCAN_DESTINATION/sbom.spdx.json\n", "sbom.spdx.json is no statement"),
    ] {
        let scanner = push_scanner(&bake, &registry, script);
        bake.write(
            "docker-bake.hcl",
            &format!(
                "target \"default\" {{\n  attest = [\"type=sbom,generator={scanner}\"]\n  output = [\"type=local,dest=out\"]\n}}\n"
            ),
        );
        let ran = bake.run(&["--progress=plain"]);
        assert_eq!(ran.code, Some(1), "{ran:#?}");
        assert!(ran.stderr.contains(told) && ran.stderr.contains("scanner"), "{ran:#?}");
        assert!(!bake.path("out").exists());
    }
    bake.write(
        "docker-bake.hcl",
        &format!("target \"default\" {{\n  attest = [\"type=sbom,generator={}/none:1\"]\n  output = [\"type=local,dest=out\"]\n}}\n", registry.address),
    );
    let ran = bake.run(&["--progress=plain"]);
    assert!(
        ran.code == Some(1) && ran.stderr.contains("docker-bake.hcl:2") && ran.stderr.contains("/none:1"),
        "{ran:#?}"
    );
}
