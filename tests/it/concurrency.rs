//! `concurrency`: of the targets that have one name in common, one step runs at a time.

use crate::support::{Bake, base_layout};

/// Builds two targets whose steps say when they meet each other; whether they did.
fn meet(bake: &Bake, attributes: &str, more: &[&str], seconds: u32) -> bool {
    let layout = base_layout().display();
    let target = |name: &str| {
        format!(
            "target \"{name}\" {{\n  contexts = {{ base = \"oci-layout://{layout}\" }}\n  args = {{ N = \"{name}\" }}\n  \
             output = [\"type=cacheonly\"]\n{attributes}}}\n"
        )
    };
    bake.write("docker-bake.hcl", &(target("one") + &target("two")));
    bake.write(
        "Dockerfile",
        &format!(
            "FROM base\nARG N\nRUN --mount=type=cache,target=/shared if mkdir /shared/busy; then sleep {seconds}; rm -r /shared/busy; \
             else echo they meet; fi\n"
        ),
    );
    let args = [&["one", "two", "--jobs=4", "--progress=plain"], more].concat();
    let ran = bake.run_with("", &args, &[("BUILDX_BAKE_ENTITLEMENTS_FS", "0")]).ok();
    ran.stderr.lines().any(|line| line.ends_with("they meet"))
}

#[test]
fn steps_of_one_name_take_turns_and_others_do_not() {
    let bake = Bake::new();
    assert!(!meet(&bake, "  concurrency = \"database\"\n", &[], 1));
    assert!(!meet(&bake, "", &["--set=*.concurrency=database", "--no-cache"], 1));
    assert!(meet(&bake, "", &["--no-cache"], 4));
    let printed = bake.run(&["--print", "--set=*.concurrency=database", "one"]).ok().stdout;
    assert!(printed.contains("\"concurrency\": \"database\""), "{printed}");
}
