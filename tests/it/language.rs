//! The bake language as the whole binary speaks it: what no case of the corpus can ask.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::support::Bake;

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

#[test]
fn a_fault_in_an_unused_target_does_not_stop_the_others() {
    let bake = Bake::new();
    bake.write("docker-bake.hcl", "target \"a\" { tags = [\"x\"] }\ntarget \"b\" { tags = [NOPE] }\n");
    let ran = bake.run(&["--print", "a"]);
    assert_eq!(ran.code, Some(1));
    assert_eq!(parsed(&ran.stdout)["target"]["a"]["tags"], json!(["x"]));
    assert!(ran.stderr.contains("docker-bake.hcl:2:22") && ran.stderr.contains("goes on all the same"), "{ran:?}");
    let strict = bake.run(&["--print", "--strict", "a"]);
    assert_eq!((strict.code, strict.stdout.as_str()), (Some(1), ""));
    let needed = bake.run(&["--print", "b"]);
    assert_eq!((needed.code, needed.stdout.as_str()), (Some(1), ""));
}

#[test]
fn a_broken_matrix_hides_no_fault_and_stops_only_who_needs_it() {
    let bake = Bake::new();
    bake.write(
        "docker-bake.hcl",
        "target \"a\" {}\ntarget \"m\" {\n  name = \"m-${v}\"\n  matrix = { v = NOPE }\n}\ntarget \"c\" { inherits = [\"m-1\"] }\n",
    );
    let other = bake.run(&["--print", "a"]);
    assert_eq!((other.code, parsed(&other.stdout)["target"].get("a").is_some()), (Some(1), true));
    let needs_it = bake.run(&["--print", "c"]);
    assert_eq!((needs_it.code, needs_it.stdout.as_str()), (Some(1), ""));
    assert!(needs_it.stderr.contains("NOPE") && !needs_it.stderr.contains("not defined: m-1"), "{needs_it:?}");
}

#[test]
fn a_sensitive_value_is_nowhere_to_be_seen() {
    const SECRET: &str = "s3cr3t-\"value\"";
    let bake = Bake::new();
    bake.write(
        "docker-bake.hcl",
        "variable \"TOKEN\" {\n  default = \"\"\n  sensitive = true\n}\ntarget \"default\" {\n  context = \".\"\n  \
         contexts = { base = \"oci-layout://base\" }\n  args = { TOKEN = TOKEN, B = base64encode(TOKEN) }\n  \
         attest = [\"type=provenance,mode=max\"]\n  output = [\"type=oci,dest=out,tar=false\"]\n}\n",
    );
    bake.write(
        "Dockerfile",
        "FROM base\nARG TOKEN\nARG B\nRUN echo \"got $TOKEN and $B\" > /dev/null; echo \"said $TOKEN $B\"\n",
    );
    let layout = crate::support::base_layout();
    std::os::unix::fs::symlink(layout, bake.path("base")).expect("links can be made");
    let var = format!("TOKEN={SECRET}");
    let derived = "czNjcjN0LSJ2YWx1ZSI=";
    let base = layout.to_string_lossy();
    let allow = format!("fs.read={base}");
    for args in [
        &["--print"][..],
        &["--list", "variables"],
        &["--list", "type=variables,format=json"],
        &["plan", "--format", "json"],
        &["--call", "outline"],
        &["--progress", "plain"],
        &["--progress", "rawjson", "--no-cache"],
    ] {
        let ran = bake.run(&[args, &["--var", &var, "--allow", &allow]].concat()).ok();
        for text in [SECRET, r#"s3cr3t-\"value\""#, derived, "s3cr3t"] {
            assert!(!ran.stdout.contains(text) && !ran.stderr.contains(text), "{args:?}: {ran:#?}");
        }
    }
    // Neither the history of the image nor its provenance.
    let blobs = fs::read_dir(bake.path("out/blobs/sha256")).expect("a layout was written");
    for blob in blobs {
        let bytes = fs::read(blob.expect("it can be read").path()).expect("it can be read");
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains("s3cr3t") && !text.contains(derived), "{text}");
    }
}

#[test]
fn what_is_printed_prints_itself() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let folders = |path: &Path| -> Vec<_> {
        let entries = fs::read_dir(path).expect("the corpus is there");
        entries.map(|it| it.expect("it can be read").path()).filter(|it| it.is_dir()).collect()
    };
    let mut n_seen = 0;
    let mut lost = Vec::new();
    let bake = Bake::new();
    for group in ["bake", "beyond"].iter().flat_map(|it| folders(&root.join(it))) {
        for case in folders(&group) {
            let name = case.strip_prefix(&root).expect("below it").display().to_string();
            let case_file = parsed(&fs::read_to_string(case.join("case.json")).expect("a case"));
            let args = &case_file["args"];
            // Where the peer's answer is a defect, ours stands beside it.
            let expected = ["expected.alt.json", "expected.json"].map(|it| fs::read_to_string(case.join(it)));
            let Some(expected) = expected.into_iter().find_map(Result::ok) else { continue };
            let expected = parsed(&expected);
            let is_plan = args.as_array().is_some_and(|it| it.contains(&json!("--print")));
            // A tag with a `${` is printed as it is, as by the peer.
            let is_plan = is_plan && !name.ends_with("var-file/json");
            // Part of the peer's answer may be none: it is not compared, and not read back.
            if !is_plan || case_file.get("ignore").is_some() || expected["group"].get("default").is_none() {
                continue;
            }
            bake.write("docker-bake.json", &expected.to_string());
            // A missing file makes the exit code 1, and the plan is printed all the same.
            let ran = bake.run(&["--print"]);
            if serde_json::from_str::<Value>(&ran.stdout).ok() != Some(expected) {
                lost.push(format!("{name}: {ran:#?}"));
            }
            n_seen += 1;
        }
    }
    assert!(lost.is_empty(), "{}", lost.join("\n"));
    assert!(n_seen > 400, "only {n_seen} plans");
}

#[test]
fn a_fault_in_what_is_listed_or_printed_writes_nothing() {
    let bake = Bake::new();
    bake.write(
        "docker-bake.hcl",
        "variable \"V\" { default = 1 }\ntarget \"a\" { tags = [NOPE] }\ntarget \"b\" {\n  secret = [\"id=s,src=missing\"]\n}\n",
    );
    for args in [&["--list", "targets"][..], &["--list", "type=targets,format=json"], &["--print", "a"]] {
        let ran = bake.run(args);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{args:?}: {ran:#?}");
        assert!(ran.stderr.contains("NOPE"), "{ran:#?}");
    }
    // Variables are not targets; a file that is missing here may be there where it is built.
    let variables = bake.run(&["--list", "variables"]);
    assert!(variables.code == Some(1) && variables.stdout.contains("V "), "{variables:#?}");
    let shown = bake.run(&["--print", "b"]);
    assert!(shown.stdout.contains("\"missing\"") && shown.stderr.contains("does not exist: missing"), "{shown:#?}");
}

#[test]
fn texts_are_printed_as_the_peer_prints_them() {
    let bake = Bake::new();
    bake.write(
        "docker-bake.hcl",
        "group \"default\" {\n  description = \"g $${x}\"\n  targets = [\"a\"]\n}\ntarget \"a\" {\n  description = \"d $${x} %%{y}\"\n  \
         tags = [\"a:$${x}\"]\n  args = { A = \"$${x}\" }\n  labels = { L = \"%%{y}\" }\n  output = [\"type=local,dest=$${x}\"]\n}\n",
    );
    let plan = parsed(&bake.run(&["--print", "--check"]).ok().stdout);
    let target = &plan["target"]["a"];
    assert_eq!(plan["group"]["default"]["description"], "g ${x}");
    assert_eq!((&target["description"], &target["tags"]), (&json!("d ${x} %{y}"), &json!(["a:${x}"])));
    assert_eq!((&target["args"], &target["labels"]), (&json!({"A": "$${x}"}), &json!({"L": "%%{y}"})));
    assert_eq!((&target["output"][0]["dest"], &target["call"]), (&json!("${x}"), &json!("lint")));
    // The forms to keep read back.
    for format in ["hcl", "yaml"] {
        let kept = bake.run(&[&format!("--print={format}")]).ok().stdout;
        bake.write(&format!("kept.{format}"), &kept);
        let again = bake.run(&["-f", &format!("kept.{format}"), "--print"]).ok().stdout;
        assert_eq!(again, bake.run(&["--print"]).ok().stdout, "{kept}");
    }
}
