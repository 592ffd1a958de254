//! Targets and groups in the small: bake files in, what `--print` shows or the messages of all errors out.

use super::{field::TargetFields, typed::Target};
use crate::{
    definition::{
        attribute::{self, AttributeKind, ItemKind},
        hcl,
        load::Definition,
    },
    eval::{
        evaluate::{evaluate, tests::evaluated},
        input::Input,
        print::plan::PrintPlan,
    },
    report::SourceMap,
};

/// What `--print` shows of all that `names` ask for, in one line, or the messages of all errors.
fn print(text: &str, names: &[&str]) -> String {
    print_with(text, Input { names: names.iter().map(|it| (*it).to_owned()).collect(), ..Input::default() })
}

fn print_with(text: &str, input: Input) -> String {
    let mut sources = SourceMap::default();
    let (body, faults) = hcl::parse(sources.add("docker-bake.hcl", text), text);
    assert!(faults.is_empty(), "{faults:?}");
    let definition = Definition { files: vec![body], ..Definition::default() };
    let (evaluated, diagnostics) = evaluate(&definition, &input, "linux/amd64");
    let errors: Vec<&str> = diagnostics.iter().filter(|it| it.is_error()).map(|it| it.message.as_str()).collect();
    if !errors.is_empty() {
        return errors.join("; ");
    }
    let json = PrintPlan::new(&evaluated).to_json();
    let value: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let plain = ",\"context\":\".\",\"dockerfile\":\"Dockerfile\"";
    value.to_string().replace(plain, "").replace(&plain[1..], "").replace("{,", "{").replace('"', "")
}

const MATRIX: &str = "target \"app\" {\n name = \"t-${i}\"\n matrix = { i = [\"a\", \"b\"] }\n}\n";

#[test]
fn a_plain_block_of_a_matrix_label_is_a_member_of_its_group() {
    let plain = "target \"app\" { tags = [\"p\"] }\n";
    assert_eq!(
        print(&format!("{MATRIX}{plain}"), &["app"]),
        "{group:{app:{targets:[t-a,t-b,app]},default:{targets:[app]}},target:{app:{tags:[p]},t-a:{},t-b:{}}}"
    );
    assert_eq!(
        print(&format!("{plain}{MATRIX}"), &["app"]),
        "{group:{app:{targets:[app,t-a,t-b]},default:{targets:[app]}},target:{app:{tags:[p]},t-a:{},t-b:{}}}"
    );
    let renamed = "target \"t-a\" { tags = [\"p\"] }\n";
    assert_eq!(
        print(&format!("{MATRIX}{renamed}"), &["app"]),
        "{group:{app:{targets:[t-a,t-b]},default:{targets:[app]}},target:{t-a:{tags:[p]},t-b:{}}}"
    );
}

#[test]
fn a_group_names_each_member_once() {
    let text = "group \"g\" { targets = [\"b\", \"a\", \"b\"] }\ntarget \"a\" {}\ntarget \"b\" {}\n";
    assert_eq!(print(text, &["g"]), "{group:{default:{targets:[g]},g:{targets:[b,a]}},target:{a:{},b:{}}}");
}

#[test]
fn an_attribute_of_a_block_may_be_named_in_brackets() {
    let text = "target \"a\" { tags = [\"x\"] }\ntarget \"b\" { tags = target.a[\"tags\"] }\n";
    assert_eq!(print(text, &["b"]), "{group:{default:{targets:[b]}},target:{b:{tags:[x]}}}");
    let unknown = "target \"a\" {}\ntarget \"b\" { tags = target.a[\"tag\"] }\n";
    assert_eq!(print(unknown, &["b"]), "a target has no attribute `tag`");
    let matrix = "target \"a\" {}\ntarget \"b\" { args = target.a.matrix }\n";
    assert_eq!(print(matrix, &["b"]), "a target has no attribute `matrix`");
}

#[test]
fn functions_and_validations_have_no_unknown_attributes() {
    let function = "function \"f\" {\n params = []\n result = 1\n foo = 2\n}\ntarget \"a\" {}\n";
    assert_eq!(print(function, &["a"]), "a function has no attribute of this name: foo");
    let validation = "variable \"v\" {\n validation \"x\" {\n  condition = true\n  note = 1\n }\n}\ntarget \"a\" {}\n";
    assert_eq!(
        print(validation, &["a"]),
        "a `validation` block has no name; a validation has no attribute of this name: note"
    );
}

#[test]
fn values_given_as_json_have_no_undeclared_attributes() {
    let text = "variable \"V\" { \n type = list(object({a = number}))\n}\ntarget \"t\" { args = { A = V[0].a } }\n";
    let given = |json: &str| {
        let names = vec!["t".to_owned()];
        let mut input = Input { names, ..Input::default() };
        input.env.insert("V_JSON".to_owned(), json.to_owned());
        print_with(text, input)
    };
    assert_eq!(given("[{\"a\":5}]"), "{group:{default:{targets:[t]}},target:{t:{args:{A:5}}}}");
    let fault = given("[{\"a\":5,\"b\":6}]");
    assert!(fault.ends_with("does not fit variable `V`: its type has no attribute `b`"), "{fault}");
}

#[test]
fn an_attestation_always_shows_its_type() {
    let text = "target \"t\" { attest = [{ mode = \"max\" }] }\n";
    assert_eq!(print(text, &["t"]), "{group:{default:{targets:[t]}},target:{t:{attest:[{mode:max,type:}]}}}");
}

/// Every attribute of the table reaches the typed target: a row without a field is a value that is parsed and lost. But for
/// `pull`: what it asks for is done anyway, as a test of the binary shows.
#[test]
fn every_attribute_of_the_table_is_a_field_of_the_target() {
    let sample = |name: &str, kind: AttributeKind| match (name, kind) {
        ("context", _) => "\"other\"".to_owned(),
        ("network", _) => "\"none\"".to_owned(),
        ("call", _) => "\"check\"".to_owned(),
        ("shm-size", _) => "\"64m\"".to_owned(),
        ("platforms", _) => "[\"linux/arm64\"]".to_owned(),
        ("ulimits", _) => "[\"nofile=1:2\"]".to_owned(),
        ("annotations", _) => "[\"a=b\"]".to_owned(),
        ("entitlements", _) => "[\"network.host\"]".to_owned(),
        ("extra-hosts", _) => "{ h = \"10.0.0.1\" }".to_owned(),
        (_, AttributeKind::Text) => "\"x\"".to_owned(),
        (_, AttributeKind::Bool) => "true".to_owned(),
        (_, AttributeKind::Texts) => "[\"x\"]".to_owned(),
        (_, AttributeKind::Entries { .. }) => "{ x = \"y\" }".to_owned(),
        (_, AttributeKind::Items(ItemKind::Attest)) => "[\"type=sbom\"]".to_owned(),
        (_, AttributeKind::Items(ItemKind::CacheFrom | ItemKind::CacheTo)) => "[\"type=inline\"]".to_owned(),
        (_, AttributeKind::Items(ItemKind::Output)) => "[\"type=image\"]".to_owned(),
        (_, AttributeKind::Items(ItemKind::Policy)) => "[\"reset=true\"]".to_owned(),
        (_, AttributeKind::Items(ItemKind::Secret)) => "[\"id=a\"]".to_owned(),
        (_, AttributeKind::Items(ItemKind::Ssh)) => "[\"default\"]".to_owned(),
        (_, AttributeKind::Resources) => "{ memory = \"1g\" }".to_owned(),
        (_, AttributeKind::Matrix) => "{ v = [\"x\"] }".to_owned(),
    };
    // The fields of the target, without those that say where they were set and how they are printed.
    let typed = |line: &str| {
        let evaluated = evaluated(&format!("target \"t\" {{\n  {line}\n}}\n"), &["t"]);
        let (_, target) = evaluated.targets.first().unwrap_or_else(|| panic!("no target: {line}"));
        let (at, fields) = (target.at, TargetFields::default());
        assert!(target.faults.is_empty(), "{line}: {:?}", target.faults);
        format!("{:?}", Target { fields, at, ..target.clone() })
    };
    let plain = typed("");
    for row in attribute::TARGET.iter().filter(|row| (row.id as usize) < attribute::PRINTED) {
        let line = format!("{} = {}", row.name, sample(row.name, row.kind));
        assert_eq!(typed(&line) == plain, row.name == "pull", "`{line}` changes no field of the target");
    }
}
