//! Faults of evaluation: operators, functions, types, values from outside, validations.

use super::Page;

/// A target with this expression as the value of an argument.
fn with(expr: &str) -> String {
    format!(
        "variable \"LIST\" {{\n  default = [\"a\", \"b\"]\n}}\nvariable \"MAP\" {{\n  default = {{ one = 1, two = 2 }}\n}}\n\
         variable \"NONE\" {{\n  type = string\n}}\ntarget \"default\" {{\n  args = {{\n    A = {expr}\n  }}\n}}\n"
    )
}

#[test]
fn an_operand_of_a_wrong_type_is_shown_with_its_kind() {
    Page::new("e1_operators")
        .hcl("a sum", &with("1 + \"x\""))
        .hcl("both operands", &with("LIST + MAP"))
        .hcl("a condition", &with("LIST ? 1 : 2"))
        .hcl("not", &with("!\"x\""))
        .hcl("a comparison with null", &with("NONE > 1"))
        .hcl("a remainder by zero", &with("1 % 0"))
        .hcl("an index that is too large", &with("LIST[2]"))
        .hcl("an index that is no number", &with("LIST[\"x\"]"))
        .hcl("a key that is not there", &with("MAP.tow"))
        .hcl("a key that is not there, in brackets", &with("MAP[\"three\"]"))
        .hcl("an attribute of a string", &with("\"x\".y"))
        .hcl("an attribute of a list", &with("LIST.name"))
        .hcl("an index of a number", &with("1[0]"))
        .hcl("a for over a string", &with("[for c in \"abc\" : c]"))
        .hcl("a splat of a number", &with("(1)[*].x"))
        .hcl("different arms", &with("true ? [1] : { a = 1 }"))
        .hcl("a key that is null", &with("{ (NONE) = 1 }"))
        .hcl("a list in a text", &with("\"x${LIST}\""))
        .hcl("null in a text", &with("\"x${NONE}\""))
        .hcl("a key twice in a for", &with("{ for v in LIST : \"k\" => v }"))
        .check();
}

#[test]
fn a_call_that_fails_is_shown_with_function_parameter_and_signature() {
    let own = "function \"half\" {\n  params = [n]\n  result = n / 2 + length(n)\n}\n\
               target \"default\" {\n  args = {\n    A = half(4)\n  }\n}\n";
    Page::new("e2_functions")
        .hcl("too few", &with("replace(\"a\", \"b\")"))
        .hcl("too many", &with("upper(\"a\", \"b\")"))
        .hcl("null", &with("upper(NONE)"))
        .hcl("a wrong type", &with("upper(LIST)"))
        .hcl("a wrong type of a later one", &with("join(\",\", 1)"))
        .hcl("its own fault", &with("parseint(\"xyz\", 10)"))
        .hcl("its own fault: a pattern", &with("regex(\"(\", \"a\")"))
        .hcl("its own fault: JSON", &with("jsondecode(\"{\")"))
        .hcl("the length of a string", &with("length(\"abc\")"))
        .hcl("what is expanded is no list", &with("upper(\"x\"...)"))
        .hcl("in a function of the user", own)
        .hcl("a function of the user with too few", &own.replace("half(4)", "half()"))
        .hcl("a function of the user with null", &own.replace("half(4)", "half(null)"))
        .check();
}

#[test]
fn a_type_that_is_none_or_does_not_fit_is_shown() {
    let with =
        |lines: &str| format!("variable \"V\" {{\n  {lines}\n}}\ntarget \"default\" {{\n  tags = [\"${{V}}\"]\n}}\n");
    Page::new("e3_types")
        .hcl("misspelt", &with("type = boolean"))
        .hcl("misspelt, near", &with("type = strnig"))
        .hcl("in quotes", &with("type = \"string\""))
        .hcl("a list of nothing", &with("type = list"))
        .hcl("an expression", &with("type = 1 + 2"))
        .hcl("the default does not fit", &with("type = number\n  default = \"x\""))
        .hcl("an element of the default does not fit", &with("type = list(number)\n  default = [1, \"x\"]"))
        .hcl("an attribute is missing", &with("type = object({ a = string, b = number })\n  default = { a = \"x\" }"))
        .check();
}

#[test]
fn a_value_from_outside_is_named_by_where_it_came_from() {
    let text = |ty: &str| format!("variable \"V\" {{\n  {ty}\n}}\ntarget \"default\" {{}}\n");
    let mut page = Page::new("e4_override");
    for (title, ty, value) in [
        ("a number", "type = number", "many"),
        ("a number, by its default", "default = 1", "many"),
        ("a bool", "type = bool", "yes"),
        ("a bool, by its default", "default = true", "yes"),
        ("an element of a list", "type = list(number)", "1,x"),
        ("CSV", "type = list(string)", "a,\"b"),
        ("a tuple", "type = tuple([string, number])", "a"),
        ("a map", "type = map(string)", "a"),
        ("an object", "type = object({ a = string })", "a"),
        ("a list of lists", "type = list(list(string))", "a"),
        ("a list without a type", "default = [\"a\"]", "a"),
    ] {
        let text = text(ty);
        page = page.with(title, &[("docker-bake.hcl", &text)], &["--print"], &[("V", value)], b"");
    }
    let number = text("type = number");
    let list = text("type = list(string)");
    page.case("by --var", &[("docker-bake.hcl", &number)], &["--print", "--var", "V=many"])
        .with("JSON", &[("docker-bake.hcl", &list)], &["--print"], &[("V_JSON", "[\"a\", ]")], b"")
        .with("JSON of another type", &[("docker-bake.hcl", &list)], &["--print"], &[("V_JSON", "{\"a\": [1]}")], b"")
        .case("JSON by --var", &[("docker-bake.hcl", &list)], &["--print", "--var", "V_JSON=["])
        .with(
            "a secret is not shown",
            &[("docker-bake.hcl", &text("type = number\n  sensitive = true"))],
            &["--print"],
            &[("V", "hunter2")],
            b"",
        )
        .check();
}

#[test]
fn a_validation_that_fails_says_what_its_author_wrote() {
    let with = |lines: &str| {
        format!(
            "variable \"V\" {{\n  default = \"x\"\n  validation {{\n    {lines}\n  }}\n}}\ntarget \"default\" {{}}\n"
        )
    };
    let good = with("condition = V != \"x\"\n    error_message = \"V must not be ${V}.\"");
    Page::new("e5_validation")
        .hcl("false", &good)
        .hcl("false, without a message", &with("condition = V != \"x\""))
        .with(
            "false, by the environment",
            &[("docker-bake.hcl", &good.replace("!= \"x\"", "== \"x\""))],
            &["--print"],
            &[("V", "y")],
            b"",
        )
        .hcl("null", &with("condition = null\n    error_message = \"m\""))
        .hcl("no condition", &with("error_message = \"m\""))
        .hcl("no bool", &with("condition = V\n    error_message = \"m\""))
        .hcl("a message that is no string", &with("condition = false\n    error_message = [1]"))
        .hcl("a fault in the condition", &with("condition = W == 1\n    error_message = \"m\""))
        .hcl("several of them", &format!("{good}{}", good.replace("\"V\"", "\"W\"").replace("default\" {}", "b\" {}")))
        .check();
}

#[test]
fn var_without_a_name_or_a_value_says_its_form() {
    let files = [("docker-bake.hcl", "variable \"TAG\" {}\ntarget \"default\" {}\n")];
    Page::new("e6_bad_var")
        .case("no value", &files, &["--print", "--var", "TAG"])
        .case("no name", &files, &["--print", "--var", "=1"])
        .case("a variable that there is not", &files, &["--print", "--var", "TGA=1"])
        .check();
}

#[test]
fn the_value_of_a_sensitive_variable_is_in_no_message() {
    let text = |line: &str| {
        format!(
            "variable \"TOKEN\" {{\n  sensitive = true\n  validation {{\n    condition = length(TOKEN) > 0\n    error_message = \"bad token: ${{TOKEN}}\"\n  }}\n}}\n\
             target \"default\" {{\n  {line}\n}}\n"
        )
    };
    let with = |page: Page, title: &str, text: &str| {
        page.with(title, &[("docker-bake.hcl", text)], &["--print"], &[("TOKEN", "hunter2")], b"")
    };
    let sound = |line: &str| text(line).replace("length(TOKEN) > 0", "TOKEN != \"\"");
    let page = Page::new("sensitive_is_hidden");
    let page = with(page, "a bool", &sound("pull = TOKEN"));
    let page = with(page, "a list", &sound("tags = \"x${TOKEN}\""));
    let page = with(page, "an operand", &sound("args = {\n    A = 1 + TOKEN\n  }"));
    let page = with(page, "a function", &sound("args = {\n    A = parseint(TOKEN, 10)\n  }"));
    let page = with(page, "an option", &sound("platforms = [TOKEN]"));
    let page = with(page, "a fault in a validation", &text("context = \".\""));
    let page = with(page, "a validation", &text("context = \".\"").replace("length(TOKEN) > 0", "TOKEN == \"\""));
    assert!(!page.text.replace("TOKEN=hunter2", "").contains("hunter2"), "{}", page.text);
    page.check();
}
