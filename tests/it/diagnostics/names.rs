//! Faults of names and references: what is not there, and what needs itself.

use super::Page;

#[test]
fn an_unknown_variable_or_function_is_shown_with_the_nearest_one() {
    let with = |expr: &str| {
        format!(
            "variable \"TAG\" {{\n  default = \"1\"\n}}\nfunction \"image\" {{\n  params = [x]\n  result = x\n}}\n\
                 target \"default\" {{\n  tags = [{expr}]\n}}\n"
        )
    };
    Page::new("r1_unknown_variable")
        .hcl("near", &with("\"app:${TGA}\""))
        .hcl("nothing is near", &with("\"app:${VERSION}\""))
        .hcl("several in one expression", &with("\"${A}\", \"${B}\", C"))
        .hcl("the same twice", &with("\"${VERSION}${VERSION}\""))
        .hcl("a function", &with("imgae(\"x\")"))
        .hcl("a function of the language", &with("uper(\"x\")"))
        .hcl("a function that is not near", &with("frobnicate(\"x\")"))
        .hcl("a function of another tool", &with("templatefile(\"x\")"))
        .hcl("a variable of a for", &with("join(\",\", [for item in [\"a\"] : itm])"))
        .hcl(
            "a parameter",
            "function \"f\" {\n  params = [name]\n  result = nam\n}\ntarget \"default\" {\n  tags = [f(\"x\")]\n}\n",
        )
        .hcl("a function as a variable", &with("image"))
        .hcl("a variable as a function", &with("TAG(1)"))
        .check();
}

#[test]
fn a_reference_to_what_is_not_there_is_shown_with_its_whole_path() {
    let with = |expr: &str| {
        format!(
            "target \"base\" {{\n  tags = [\"a\"]\n}}\ntarget \"app\" {{\n  name = \"app-${{v}}\"\n  matrix = {{\n    v = [\"a\", \"b\"]\n  }}\n}}\n\
                 group \"g\" {{\n  targets = [\"base\"]\n}}\ntarget \"default\" {{\n  tags = {expr}\n}}\n"
        )
    };
    Page::new("r2_unknown_reference")
        .hcl("a target", &with("target.bsae.tags"))
        .hcl("a target that is not near", &with("target.other.tags"))
        .hcl("an attribute", &with("target.base.tgas"))
        .hcl("a matrix", &with("target.app.tags"))
        .hcl("a group as a target", &with("target.g.tags"))
        .hcl("a group", &with("group.gg.targets"))
        .hcl("in a matrix", "target \"a\" {}\ntarget \"b\" {\n  name = \"b-${v}\"\n  matrix = {\n    v = target.a.tags\n  }\n}\n")
        .hcl("in a function", "target \"a\" {}\nfunction \"f\" {\n  params = []\n  result = target.a.tags\n}\ntarget \"default\" {\n  tags = f()\n}\n")
        .hcl("in a variable", "target \"a\" {}\nvariable \"V\" {\n  default = target.a.tags\n}\ntarget \"default\" {}\n")
        .check();
}

#[test]
fn a_block_without_an_attribute_has_no_value() {
    let with = |expr: &str| format!("target \"base\" {{}}\ntarget \"default\" {{\n  tags = {expr}\n}}\n");
    Page::new("r3_bare_reference")
        .hcl("target", &with("target"))
        .hcl("target.base", &with("target.base"))
        .hcl("target[\"base\"]", &with("target[\"base\"].tags"))
        .check();
}

#[test]
fn an_unknown_target_is_named_with_who_asked_for_it() {
    let text =
        "target \"web\" {\n}\ntarget \"api\" {\n  name = \"api-${v}\"\n  matrix = {\n    v = [\"a\", \"b\"]\n  }\n}\n";
    let with = |more: &str| format!("{text}{more}");
    let page = Page::new("r4_unknown_target");
    let plain = [("docker-bake.hcl", text)];
    page.case("on the command line", &plain, &["wbe", "--print"])
        .case("nothing is near", &plain, &["release", "--print"])
        .case("two of them", &plain, &["release", "apj", "--print"])
        .case("no default", &plain, &["--print"])
        .case("without any target", &[("docker-bake.hcl", "variable \"V\" {}\n")], &["--print"])
        .hcl("in a group", &with("group \"default\" {\n  targets = [\"web\", \"wbe\"]\n}\n"))
        .hcl(
            "in a group in a group",
            &with("group \"default\" {\n  targets = [\"g\"]\n}\ngroup \"g\" {\n  targets = [\"wbe\"]\n}\n"),
        )
        .hcl("in inherits", &with("target \"default\" {\n  inherits = [\"web\", \"wbe\"]\n}\n"))
        .hcl("in inherits: a matrix", &with("target \"default\" {\n  inherits = [\"api\"]\n}\n"))
        .hcl(
            "in inherits: a group",
            &with("group \"g\" {\n  targets = []\n}\ntarget \"default\" {\n  inherits = [\"g\"]\n}\n"),
        )
        .hcl(
            "in contexts",
            &with("target \"default\" {\n  contexts = {\n    a = \"target:web\"\n    b = \"target:wbe\"\n  }\n}\n"),
        )
        .hcl("in contexts: a matrix", &with("target \"default\" {\n  contexts = {\n    b = \"target:api\"\n  }\n}\n"))
        .case("in --set", &plain, &["web", "--set", "wbe.tags=x", "--print"])
        .case("in --set: a matrix", &plain, &["web", "--set", "api.tags=x", "--print"])
        .check();
}

#[test]
fn a_pattern_that_matches_nothing_or_is_none_is_named() {
    let files = [("docker-bake.hcl", "target \"web\" {\n}\n")];
    Page::new("r5_pattern")
        .case("matches nothing", &files, &["app-*", "--print"])
        .case("is no pattern", &files, &["we[b", "--print"])
        .case("matches nothing in --set", &files, &["web", "--set", "app-*.tags=x", "--print"])
        .case("is no pattern in --set", &files, &["web", "--set", "we[b.tags=x", "--print"])
        .check();
}

#[test]
fn a_cycle_of_variables_is_told_with_every_step() {
    Page::new("c1_variable_cycle")
        .hcl("three", "variable \"A\" {\n  default = B\n}\nvariable \"B\" {\n  default = \"${C}\"\n}\nC = upper(A)\ntarget \"default\" {\n  tags = [A]\n}\n")
        .hcl("itself", "A = A\ntarget \"default\" {}\n")
        .check();
}

#[test]
fn a_function_that_calls_itself_is_told_with_the_calls() {
    Page::new("c2_recursion")
        .hcl("itself", "function \"f\" {\n  params = [n]\n  result = f(n - 1)\n}\ntarget \"default\" {\n  tags = [f(1)]\n}\n")
        .hcl(
            "by another",
            "function \"f\" {\n  params = []\n  result = g()\n}\nfunction \"g\" {\n  params = []\n  result = f()\n}\ntarget \"default\" {\n  tags = [f()]\n}\n",
        )
        .check();
}

#[test]
fn a_cycle_of_attributes_is_told_with_every_step() {
    Page::new("c3_attribute_cycle")
        .hcl("two targets", "target \"default\" {\n}\ntarget \"a\" {\n  tags = target.b.tags\n}\ntarget \"b\" {\n  tags = target.a.tags\n}\n")
        .hcl("itself", "target \"default\" {\n  args = {\n    A = 1\n    B = target.default.args.A\n  }\n}\n")
        .check();
}

#[test]
fn a_cycle_of_parents_is_told_with_every_step() {
    Page::new("c4_inherits_cycle")
        .hcl(
            "three",
            "target \"default\" {\n  inherits = [\"a\"]\n}\ntarget \"a\" {\n  inherits = [\"b\"]\n}\ntarget \"b\" {\n  inherits = [\"default\"]\n}\n",
        )
        .hcl("itself", "target \"default\" {\n  inherits = [\"default\"]\n}\n")
        .check();
}

#[test]
fn a_cycle_of_groups_is_told_with_every_step() {
    Page::new("c5_group_cycle")
        .hcl("two", "group \"default\" {\n  targets = [\"b\"]\n}\ngroup \"b\" {\n  targets = [\"default\"]\n}\n")
        .hcl("itself", "group \"default\" {\n  targets = [\"default\"]\n}\n")
        .check();
}

#[test]
fn a_cycle_of_contexts_is_told_with_every_step() {
    Page::new("c6_link_cycle")
        .hcl(
            "two",
            "target \"default\" {\n  contexts = {\n    x = \"target:b\"\n  }\n}\ntarget \"b\" {\n  contexts = {\n    y = \"target:default\"\n  }\n}\n",
        )
        .hcl("itself", "target \"default\" {\n  contexts = {\n    x = \"target:default\"\n  }\n}\n")
        .check();
}

#[test]
fn a_target_without_the_platforms_of_its_user_is_named_with_both_lists() {
    Page::new("c7_link_platforms")
        .hcl(
            "one is missing",
            "target \"default\" {\n  platforms = [\"linux/amd64\", \"linux/arm64\"]\n  contexts = {\n    x = \"target:b\"\n  }\n}\n\
             target \"b\" {\n  platforms = [\"linux/amd64\", \"linux/s390x\"]\n}\n",
        )
        .check();
}
