//! The JSON Schema of the bake file: does it accept what `bake` accepts, and refuse what means nothing?

use std::{fs, path::Path};

use jsonschema::Validator;
use serde_json::{Value, json};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn validator() -> Validator {
    let schema = read(&root().join("schemas/bake.schema.json"));
    assert!(jsonschema::meta::is_valid(&schema), "the schema itself is at fault");
    jsonschema::draft202012::new(&schema).expect("the schema can be used")
}

fn faults(validator: &Validator, file: &Value) -> Vec<String> {
    validator.iter_errors(file).map(|it| format!("{}: {it}", it.instance_path())).collect()
}

#[test]
fn json_files_of_the_corpus_are_valid() {
    let validator = validator();
    let mut n_seen = 0;
    for entry in fs::read_dir(root().join("tests/corpus/bake/json")).expect("the corpus is there") {
        let folder = entry.expect("the corpus can be read").path();
        let file = folder.join("docker-bake.json");
        if folder.join("expected_error.json").exists() || !file.exists() {
            continue;
        }
        n_seen += 1;
        assert_eq!(faults(&validator, &read(&file)), Vec::<String>::new(), "{}", file.display());
    }
    assert!(n_seen > 5, "only {n_seen} files");
}

/// Every file that the corpora accept, as `--print` shows it: it is a bake file itself.
#[test]
fn plans_of_the_corpus_are_valid() {
    let validator = validator();
    let mut n_seen = 0;
    for corpus in ["bake", "beyond"] {
        for group in folders(&root().join("tests/corpus").join(corpus)) {
            for case in folders(&group) {
                // Where the peer's answer is a defect, ours stands beside it.
                let alternative = case.join("expected.alt.json");
                let expected = if alternative.exists() { alternative } else { case.join("expected.json") };
                let case_file = read(&case.join("case.json"));
                let prints = case_file["args"].as_array().is_some_and(|it| it.contains(&json!("--print")));
                // Part of the peer's answer may be none: it is not compared.
                if prints && expected.exists() && case_file.get("ignore").is_none() {
                    n_seen += 1;
                    assert_eq!(faults(&validator, &read(&expected)), Vec::<String>::new(), "{}", case.display());
                }
            }
        }
    }
    assert!(n_seen > 400, "only {n_seen} plans");
}

/// YAML says the same as JSON, so one schema is for both.
#[test]
fn yaml_files_of_the_corpus_are_valid() {
    let validator = validator();
    let mut n_seen = 0;
    for case in folders(&root().join("tests/corpus/beyond/yaml")) {
        for entry in fs::read_dir(&case).expect("the corpus can be read") {
            let file = entry.expect("the corpus can be read").path();
            if !file.extension().is_some_and(|it| it == "yaml" || it == "yml") {
                continue;
            }
            let text = fs::read_to_string(&file).expect("the corpus can be read");
            let mut value: yaml_reader::Value = yaml_reader::from_str(&text).expect("YAML");
            value.apply_merge().expect("merge keys are mappings");
            let all = faults(&validator, &serde_json::to_value(value).expect("the same in JSON"));
            assert_eq!(all.is_empty(), !case.join("expected_error.json").exists(), "{}: {all:?}", file.display());
            n_seen += 1;
        }
    }
    assert!(n_seen > 3, "only {n_seen} files");
}

fn folders(path: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    entries.map(|it| it.expect("the corpus can be read").path()).filter(|it| it.is_dir()).collect()
}

#[test]
fn all_forms_of_a_value_are_valid() {
    let validator = validator();
    let check = |target: Value| assert_eq!(faults(&validator, &json!({"target": {"a": target}})), Vec::<String>::new());
    check(json!({"tags": "${L}", "args": {"A": null, "B": 1, "C": true}, "no-cache": "${X}", "//": "why"}));
    check(
        json!({"output": ["type=local,dest=x", {"type": "oci", "tar": false}], "ssh": [{"id": "a", "paths": ["b"]}]}),
    );
    check(json!({"name": "a-${v}", "matrix": {"v": ["1", {"x": 2}], "w": "${L}"}, "resources": {"cpu-shares": 5}}));
    let file = |file: Value| assert_eq!(faults(&validator, &file), Vec::<String>::new());
    file(json!({"locals": {"a": 1}, "include": {"file": "x.hcl"}, "x": "any"}));
    file(json!({"locals": [{"a": 1}], "include": [{"file": "x.hcl"}, {"web": {"file": "y", "vars": {"A": 1}}}]}));
    check(json!([{"context": "x"}, {"secret": ["id=a,src=b", {"id": "a", "env": "A"}], "pull": null}]));
}

#[test]
fn what_means_nothing_is_refused() {
    let validator = validator();
    let check = |file: Value, place: &str| {
        let all = faults(&validator, &file);
        assert!(!all.is_empty(), "{file}");
        assert!(all.iter().any(|it| it.contains(place)), "{all:?}");
    };
    check(json!({"target": {"a": {"contxt": "x"}}}), "/target");
    check(json!({"target": {"a": {"tags": "x"}}}), "/target");
    check(json!({"target": {"a.b": {}}}), "/target");
    check(json!({"target": {"a": {"secret": [{"id": "x", "sorce": "y"}]}}}), "/target");
    check(json!({"group": {"a": {}}}), "/group");
    check(json!({"variable": {"a": {"defualt": 1}}}), "/variable");
    check(json!({"function": {"f": {"params": []}}}), "/function");
    check(json!({"include": {"web": {"file": "x", "var": {}}}}), "/include");
}
