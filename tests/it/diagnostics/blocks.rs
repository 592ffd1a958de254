//! Faults of blocks: labels, names, attributes, types of values, matrices.

use super::Page;

#[test]
fn a_block_with_too_few_or_too_many_labels_is_shown_where_the_label_belongs() {
    Page::new("b1_labels")
        .hcl("none", "target {\n  context = \".\"\n}\n")
        .hcl("two", "target \"a\" \"b\" {\n}\n")
        .hcl("a variable", "variable {\n  default = 1\n}\ntarget \"default\" {}\n")
        .case("JSON", &[("b.json", "{\"target\": {\"context\": \".\"}}\n")], &["-f", "b.json", "--print"])
        .case("JSON, a string for a block", &[("b.json", "{\"target\": \"a\"}\n")], &["-f", "b.json", "--print"])
        .check();
}

#[test]
fn a_name_that_none_may_have_is_shown_with_what_it_is_made_of() {
    Page::new("b2_bad_name")
        .hcl("a target", "target \"my app\" {\n}\n")
        .hcl("a group", "group \"a/b\" {\n  targets = []\n}\n")
        .hcl(
            "made by a matrix",
            "target \"app\" {\n  name = \"app-${v}\"\n  matrix = {\n    v = [\"a\", \"1.2\"]\n  }\n}\n",
        )
        .hcl("a name that is no string", "target \"app\" {\n  name = v\n  matrix = {\n    v = [[\"a\"]]\n  }\n}\n")
        .hcl("a reserved name", "variable \"target\" {\n}\ngroup = 1\n")
        .check();
}

#[test]
fn an_attribute_that_is_set_twice_is_shown_in_both_places() {
    Page::new("b3_set_twice")
        .hcl("in a block", "target \"a\" {\n  context = \".\"\n  dockerfile = \"D\"\n  context = \"x\"\n}\n")
        .hcl("at the top", "A = 1\nA = 2\ntarget \"default\" {}\n")
        .case(
            "JSON",
            &[("b.json", "{\"target\": {\"a\": {\n  \"context\": \".\",\n  \"context\": \"x\"}}}\n")],
            &["-f", "b.json", "--print"],
        )
        .check();
}

#[test]
fn an_attribute_that_must_be_there_is_named() {
    Page::new("b4_missing_attribute")
        .hcl("targets of a group", "group \"default\" {\n}\n")
        .hcl("params of a function", "function \"f\" {\n  result = 1\n}\ntarget \"default\" {}\n")
        .hcl("result of a function", "function \"f\" {\n  params = []\n}\ntarget \"default\" {}\n")
        .hcl("params that are no names", "function \"f\" {\n  params = [\"a\", 1]\n  result = 1\n}\n")
        .check();
}

#[test]
fn an_unknown_attribute_or_block_is_a_warning_and_with_strict_an_error() {
    let text = "target \"default\" {\n  contxt = \".\"\n  args {\n    A = 1\n  }\n}\ntagret \"b\" {\n}\n\
                group \"g\" {\n  target = []\n  targets = []\n}\nvariable \"V\" {\n  defualt = 1\n}\n";
    let files = [("docker-bake.hcl", text)];
    Page::new("b5_unknown_name")
        .case("warnings", &files, &["--print"])
        .case("errors", &files, &["--print", "--strict"])
        .hcl("the name that --set has for it", "target \"default\" {\n  platform = [\"linux/arm64\"]\n}\n")
        .hcl("nothing is near", "target \"default\" {\n  colour = \"red\"\n}\n")
        .hcl("a block for an attribute of a block", "target = {}\n")
        .case(
            "a bake file in YAML",
            &[("bake.yaml", "target:\n  default:\n    contxt: .\n")],
            &["-f", "bake.yaml", "--print"],
        )
        .case(
            "JSON",
            &[("b.json", "{\"target\": {\"default\": {\n  \"contxt\": \".\"}}}\n")],
            &["-f", "b.json", "--print"],
        )
        .check();
}

#[test]
fn a_value_of_a_wrong_type_is_shown_with_the_path_to_it() {
    Page::new("b6_wrong_type")
        .hcl("a string for a list", "target \"default\" {\n  tags = \"app:1\"\n}\n")
        .hcl("a list for a string", "target \"default\" {\n  context = [\".\"]\n}\n")
        .hcl("an element", "target \"default\" {\n  tags = [\n    \"a\",\n    [\"b\"],\n  ]\n}\n")
        .hcl("null in a list", "target \"default\" {\n  tags = [\"a\", null]\n}\n")
        .hcl("a value of a map", "target \"default\" {\n  args = {\n    A = 1\n    B = [2]\n  }\n}\n")
        .hcl("null in contexts", "target \"default\" {\n  contexts = {\n    base = null\n  }\n}\n")
        .hcl("a string for a bool", "target \"default\" {\n  pull = \"yes\"\n}\n")
        .hcl("a number for a bool", "target \"default\" {\n  pull = 2\n}\n")
        .hcl("a list for a map", "target \"default\" {\n  args = [\"A=1\"]\n}\n")
        .hcl("a string for members", "group \"default\" {\n  targets = \"a\"\n}\ntarget \"a\" {}\n")
        .hcl("through a variable", "variable \"T\" {\n  default = \"a\"\n}\ntarget \"default\" {\n  tags = T\n}\n")
        .hcl("a resource", "target \"default\" {\n  resources = {\n    cpu-shares = \"many\"\n  }\n}\n")
        .case(
            "a bake file in YAML",
            &[("bake.yaml", "target:\n  default:\n    tags: app\n    args: [1]\n")],
            &["-f", "bake.yaml", "--print"],
        )
        .case(
            "JSON",
            &[("b.json", "{\"target\": {\"default\": {\n  \"tags\": [\"a\", {}]}}}\n")],
            &["-f", "b.json", "--print"],
        )
        .check();
}

#[test]
fn an_item_that_cannot_be_read_is_named_by_attribute_and_index() {
    let item = |line: &str| format!("target \"default\" {{\n  {line}\n}}\n");
    Page::new("b7_bad_item")
        .hcl("no type", &item("output = [\"dest=out\"]"))
        .hcl("no type in an object", &item("output = [{ type = \"image\" }, { dest = \"out\" }]"))
        .hcl("no type of a cache", &item("cache-from = [{ ref = \"x\" }]"))
        .hcl("no value", &item("output = [\"type=image,push\"]"))
        .hcl("a quote", &item("cache-to = [\"type=local,dest=\\\"x\"]"))
        .hcl("an unknown key of a secret", &item("secret = [\"id=a,sorce=x\"]"))
        .hcl("an unknown key of a secret object", &item("secret = [{ id = \"a\", sorce = \"docker-bake.hcl\" }]"))
        .hcl("a secret without an id", &item("secret = [\"src=docker-bake.hcl\"]"))
        .hcl("an unknown type of secret", &item("secret = [\"type=usb,id=a\"]"))
        .hcl("a key of ssh", &item("ssh = [{ id = \"default\", path = [\"k\"] }]"))
        .hcl("an ssh object without an id", &item("ssh = [{ paths = [] }]"))
        .hcl("no boolean", &item("attest = [\"type=sbom,disabled=perhaps\"]"))
        .hcl("no item", &item("output = [[1]]"))
        .check();
}

#[test]
fn name_goes_with_matrix_and_both_with_targets_only() {
    Page::new("b8_name_without_matrix")
        .hcl("name without matrix", "target \"a\" {\n  name = \"b\"\n}\ngroup \"default\" {\n  targets = [\"a\"]\n}\n")
        .hcl(
            "on a group",
            "group \"default\" {\n  name = \"b\"\n  matrix = { v = [1] }\n  targets = [\"a\"]\n}\ntarget \"a\" {}\n",
        )
        .check();
}

#[test]
fn a_matrix_that_makes_no_targets_or_equal_ones_is_shown() {
    let with = |lines: &str| format!("target \"app\" {{\n  {lines}\n}}\n");
    Page::new("b9_matrix")
        .hcl("not a map", &with("name = \"x\"\n  matrix = [\"a\"]"))
        .hcl("an axis that is no list", &with("name = \"x-${v}\"\n  matrix = {\n    v = \"a\"\n  }"))
        .hcl("no name", &with("matrix = {\n    v = [\"a\", \"b\"]\n  }"))
        .hcl(
            "an axis is not in the name",
            &with("name = \"app-${v}\"\n  matrix = {\n    v = [\"a\", \"b\"]\n    w = [1, 2]\n  }"),
        )
        .case(
            "an axis without values",
            &[("docker-bake.hcl", &with("name = \"app-${v}\"\n  matrix = {\n    v = []\n  }"))],
            &["app", "--print"],
        )
        .check();
}
