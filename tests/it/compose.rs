//! Compose files as the whole binary reads them, beside bake files and the environment.

use serde_json::Value;

use crate::support::{Bake, base_layout};

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

fn names(plan: &Value) -> Vec<&str> {
    plan["target"].as_object().expect("targets").keys().map(String::as_str).collect()
}

#[test]
fn a_matrix_of_the_name_of_a_service_replaces_it() {
    let bake = Bake::new();
    bake.write(
        "compose.yaml",
        "services:\n  app: {build: x}\n  user: {build: {context: u, additional_contexts: {a: 'service:app'}}}\n",
    );
    bake.write(
        "docker-bake.hcl",
        "target \"app\" {\n  name = \"app-${v}\"\n  matrix = { v = [\"1\", \"2\"] }\n}\n\
         target \"app\" { tags = [\"more\"] }\n",
    );
    let plan = parsed(&bake.run(&["--print", "app"]).ok().stdout);
    // The block without a matrix is a target of its own, as without a Compose file.
    assert_eq!(names(&plan), ["app", "app-1", "app-2"]);
    bake.write("docker-bake.hcl", "target \"app\" {\n  name = \"app-${v}\"\n  matrix = { v = [\"1\", \"2\"] }\n}\n");
    let plan = parsed(&bake.run(&["--print", "app"]).ok().stdout);
    assert_eq!(names(&plan), ["app-1", "app-2"]);
    assert_eq!(plan["group"]["app"]["targets"], serde_json::json!(["app-1", "app-2"]));
    // A service that is built on it has it still.
    let plan = parsed(&bake.run(&["--print", "user"]).ok().stdout);
    assert_eq!(names(&plan), ["app", "user"]);
}

#[test]
fn a_secret_of_a_variable_is_read_from_dotenv_below_the_environment() {
    let bake = Bake::new();
    let base = base_layout().display();
    bake.write(".env", "BAR=s3cret\nUNUSED=1\n");
    bake.write(
        "compose.yaml",
        &format!(
            "secrets:\n  foo:\n    environment: BAR\nservices:\n  test:\n    build:\n      secrets: [foo]\n      \
             additional_contexts:\n        base: oci-layout://{base}\n      dockerfile_inline: |\n        FROM base AS run\n        \
             RUN --mount=type=secret,id=foo rev /run/secrets/foo > /got\n        FROM scratch\n        COPY --from=run /got /\n"
        ),
    );
    let args = ["--progress=plain", "--allow", "fs.read=*", "--set", "test.output=type=local,dest=out"];
    for (env, expected) in [(&[][..], "terc3s"), (&[("BAR", "other")], "rehto")] {
        let ran = bake.run_with("", &[&args[..], &["--no-cache"]].concat(), env).ok();
        assert_eq!(bake.read("out/got").trim(), expected);
        assert!(!format!("{}{}", ran.stdout, ran.stderr).contains("s3cret"), "a secret is shown: {ran:#?}");
    }
    // Without it the build goes on, as with the peer, but not in silence.
    bake.write(".env", "");
    let ran = bake.run(&["--print"]).ok();
    assert!(ran.stderr.contains("the variable of secret `foo` is not set: BAR"), "{ran:#?}");
    assert_eq!(bake.run(&["--print", "--strict"]).code, Some(1));
}

#[test]
fn a_broken_include_is_told_alone() {
    let bake = Bake::new();
    bake.write("compose.yaml", "include: [no.yaml]\nservices:\n  w: {build: {args: {A: $NOT_SET, B: [1]}}}\n");
    let ran = bake.run(&["--print"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""));
    assert_eq!(ran.stderr.matches("bake::").count(), 1, "{ran:#?}");
    assert!(ran.stderr.contains("a file does not exist: no.yaml"), "{ran:#?}");
}

#[test]
fn yaml_that_other_readers_take_is_read() {
    let bake = Bake::new();
    bake.write(
        "compose.yaml",
        "services:\n  a:\n    build:\n      context:\t.\n      tags: [\n    'x:1',\n    ]\n      labels:\n        \
         l: \"one\n  two\"\n        b: !!binary aGk=\n",
    );
    let plan = parsed(&bake.run(&["--print"]).ok().stdout);
    let target = &plan["target"]["a"];
    assert_eq!(target["tags"], serde_json::json!(["x:1"]));
    assert_eq!(target["labels"], serde_json::json!({"b": "hi", "l": "one two"}));
}
