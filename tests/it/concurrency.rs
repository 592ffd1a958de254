//! `concurrency`: of the targets that have one name in common, one step runs at a time.

use std::time::Duration;

use crate::support::{Bake, base_layout};

/// Builds two targets whose steps take a second each; the time that the run took.
fn took(bake: &Bake, attributes: &str, more: &[&str]) -> Duration {
    let layout = base_layout().display();
    let target = |name: &str| {
        format!(
            "target \"{name}\" {{\n  contexts = {{ base = \"oci-layout://{layout}\" }}\n  args = {{ N = \"{name}\" }}\n  \
             output = [\"type=cacheonly\"]\n{attributes}}}\n"
        )
    };
    bake.write("docker-bake.hcl", &(target("one") + &target("two")));
    bake.write("Dockerfile", "FROM base\nARG N\nRUN sleep 1; echo $N\n");
    let begun = std::time::Instant::now();
    let args = [&["one", "two", "--jobs=4", "--no-cache", "--progress=plain"], more].concat();
    bake.run_with("", &args, &[("BUILDX_BAKE_ENTITLEMENTS_FS", "0")]).ok();
    begun.elapsed()
}

#[test]
fn steps_of_one_name_take_turns_and_others_do_not() {
    let bake = Bake::new();
    let together = took(&bake, "  concurrency = \"database\"\n", &[]);
    assert!(together >= Duration::from_secs(2), "{together:?}");
    let apart = took(&bake, "", &[]);
    assert!(apart < together, "{apart:?} and {together:?}");
    let set = took(&bake, "", &["--set=*.concurrency=database"]);
    assert!(set >= Duration::from_secs(2), "{set:?}");
    let printed = bake.run(&["--print", "--set=*.concurrency=database", "one"]).ok().stdout;
    assert!(printed.contains("\"concurrency\": \"database\""), "{printed}");
}
