//! Cases of the bake language: text in, value or faults out. Functions and the attributes of targets have their own.

use std::fmt::Write as _;

use super::{
    expression::scope::{Env, Scope},
    input::Input,
    value::types::Value,
};
use crate::{
    definition::{hcl, json, load::Definition, syntax::Body},
    report::{Diagnostic, SourceMap},
};

/// A run of the evaluator over one text.
struct Run {
    sources: SourceMap,
    definition: Definition,
    faults: Vec<Diagnostic>,
    input: Input,
}

impl Run {
    fn new(text: &str) -> Self {
        Self::parse(text, hcl::parse)
    }

    fn json(text: &str) -> Self {
        Self::parse(text, json::parse)
    }

    fn parse(text: &str, parse: fn(crate::report::SourceId, &str) -> (Body, Vec<Diagnostic>)) -> Self {
        let mut sources = SourceMap::default();
        let id = sources.add("f", text);
        let (body, faults) = parse(id, text);
        let input = Input { cmd_context: "cwd://".to_owned(), ..Input::default() };
        let definition = Definition { files: vec![body], ..Definition::default() };
        Self { sources, definition, faults, input }
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.input.env.insert(name.to_owned(), value.to_owned());
        self
    }

    fn var(mut self, name: &str, value: &str) -> Self {
        self.input.vars.insert(name.to_owned(), value.to_owned());
        self
    }

    /// `line:column message (label) [help]` of each fault, or what `show` makes of the scope.
    fn run(&self, show: impl Fn(&Scope<'_>) -> String) -> String {
        if !self.faults.is_empty() {
            return self.render(&self.faults);
        }
        let scope = Scope::new(&self.definition, &self.input, "linux/amd64");
        scope.check();
        let shown = show(&scope);
        let faults = scope.all_faults();
        if faults.is_empty() { shown } else { self.render(&faults) }
    }

    fn render(&self, faults: &[Diagnostic]) -> String {
        let mut out = String::new();
        for fault in faults {
            let at = fault.labels.first().map(|label| self.sources.line_column(label.at)).unwrap_or_default();
            let severity = if fault.is_error() { "" } else { "warning: " };
            writeln!(out, "{severity}{}:{} {}", at.0, at.1, fault.message).expect("writing to a string");
        }
        out.trim_end().to_owned()
    }

    /// The global attribute `x`.
    fn x(&self) -> String {
        self.run(|scope| {
            let at = self.definition.files[0].at;
            scope.variable(&"x".into(), at, Env::PLAIN).map_or_else(|_| "failed".to_owned(), |value| show(&value))
        })
    }

    /// All attributes of all targets.
    fn targets(&self) -> String {
        self.run(|scope| {
            let mut out = String::new();
            for expanded in scope.expanded().iter().filter(|it| it.is_target()) {
                write!(out, "{}:", expanded.name).expect("writing to a string");
                for attribute in &expanded.block.body.attributes {
                    if matches!(&*attribute.name.value, "matrix" | "name") {
                        continue;
                    }
                    let value = match scope.attribute(expanded, &attribute.name.value) {
                        Ok(Some(found)) => show(&found.value),
                        _ => "failed".to_owned(),
                    };
                    write!(out, " {}={value}", attribute.name.value).expect("writing to a string");
                }
                out.push('\n');
            }
            for (label, (_, members)) in scope.matrix_groups() {
                writeln!(out, "[{label}: {}]", members.join(" ")).expect("writing to a string");
            }
            out.trim_end().to_owned()
        })
    }
}

fn show(value: &Value) -> String {
    value.to_json_text(false)
}

/// An expression alone.
#[track_caller]
fn expr(text: &str, expected: &str) {
    assert_eq!(Run::new(&format!("x = {text}")).x(), expected, "{text}");
}

/// A file; `x` is looked at.
#[track_caller]
fn file(text: &str, expected: &str) {
    assert_eq!(Run::new(text).x(), expected, "{text}");
}

/// A file; its targets are looked at.
#[track_caller]
fn targets(text: &str, expected: &str) {
    assert_eq!(Run::new(text).targets(), expected, "{text}");
}

/// The same on a stack as large as that of the program.
fn on_large_stack(test: impl FnOnce() + Send + 'static) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).stack_size(256 << 20).build();
    pool.expect("a thread starts").install(test);
}

#[test]
fn operators() {
    expr("1 + 2 * 3", "7");
    expr("(1 + 2) * 3 - 1", "8");
    expr("-7 % 3", "-1");
    expr("10 % 4 - 1", "1");
    expr("2 - -2", "4");
    expr("!true || 1 < 2 && 2 <= 2", "true");
    expr("1 == 1.0", "true");
    expr("\"1\" == 1", "false");
    expr("[1] == [1]", "true");
    expr("null == null", "true");
    expr("\"3\" + 1", "4");
    expr("1 - 2 - 3", "-4");
    expr("1 == 1 != false", "true");
    expr("false && nope", "false");
    expr("true || nope", "true");
    expr("1 / 0", "1:9 `/` has no result: division by zero");
    expr("null + 1", "1:5 the operand of `+` must be a number, not null");
    expr("\"a\" < 1", "1:5 the operand of `<` must be a number, not a string");
    expr("true && \"maybe\"", "1:13 the operand of `&&` must be a bool, not a string");
    expr("![1]", "1:6 the operand of `!` must be a bool, not a tuple");
}

#[test]
fn conditionals_have_one_type() {
    expr("true ? 1 : \"x\"", "\"1\"");
    expr("true ? [1] : [\"a\", \"b\"]", "[\"1\"]");
    expr("false ? [1] : null", "null");
    expr("true ? null : [1]", "null");
    expr("true ? \"a\" : [1][5]", "\"a\"");
    expr("true ? \"a\" : undefined", "\"a\"");
    expr("\"1\" ? 2 : 3", "2");
    expr("null ? 2 : 3", "1:5 the condition must be a bool, not null");
    expr("true ? {} : [1]", "1:12 the two arms of a conditional have different types");
    expr("true ? 1 : false ? 2 : 3", "1");
}

#[test]
fn templates() {
    expr(r#""a${"b"}c${1 + 1}${true}""#, "\"abc2true\"");
    expr(r#""${[1]}""#, "[1]");
    expr(r#""${[1]} ""#, "1:8 a tuple cannot be part of a text");
    expr(r#""${null}x""#, "1:8 null cannot be part of a text");
    expr(r#""$${a} %%{b} $x %x $$x""#, "\"${a} %{b} $x %x $$x\"");
    expr(r#""%{ if true }a%{ else }b%{ endif }c""#, "\"ac\"");
    expr(r#""%{ if false }a%{ endif }c""#, "\"c\"");
    expr(r#""%{ for k, v in {a = 1, b = 2} }${k}=${v};%{ endfor }""#, "\"a=1;b=2;\"");
    expr(r#""%{ for i, x in ["p", "q"] }${i}${x}%{ endfor }""#, "\"0p1q\"");
    expr(r#""[  ${~ "x" ~}  ]""#, "\"[x]\"");
    expr(r#""a %{~ if true ~} b %{~ endif ~} c""#, "\"abc\"");
    expr(r#""${[1] ~} ""#, "1:8 a tuple cannot be part of a text");
    expr(r#""\u00e9\U0001F600\t\n\"\\""#, "\"é😀\\t\\n\\\"\\\\\"");
}

#[test]
fn heredocs() {
    file("x = <<EOT\n  a\n b\nEOT\n", "\"  a\\n b\\n\"");
    file("x = <<-EOT\n    a\n      b\n\n    ${1}\n  EOT\n", "\"a\\n  b\\n\\n1\\n\"");
    file("x = <<-E\n\ta\n\t\tb\n\tE\n", "\"a\\n\\tb\\n\"");
    file("x = <<E\r\na\r\nE\r\n", "\"a\\r\\n\"");
    file("x = [<<E\nname\nE\n, \"b\"]\n", "[\"name\\n\",\"b\"]");
    file("x = <<E\n%{ for p in [1, 2] ~}\nC ${p}\n%{ endfor ~}\ndone\nE\n", "\"C 1\\nC 2\\ndone\\n\"");
    // What `~` takes ends at the line break, and a line whose beginning was taken is not un-indented.
    file("x = <<-E\n  a\n  %{ if true ~}\n  b\n  %{ endif ~}\n  c\n  E\n", "\"a\\n  b\\n  c\\n\"");
    file("x = <<E\n${1 ~}\nE\n", "\"1\"");
}

#[test]
fn collections() {
    expr("[1, \"a\", null,]", "[1,\"a\",null]");
    expr("{ a = 1, \"b c\" : 2, (\"d\") = 3, 7 = 4 }", r#"{"7":4,"a":1,"b c":2,"d":3}"#);
    expr("{ a = 1, a = 2 }", "{\"a\":2}");
    expr("{\n a = 1\n\n b = 2 # c\n}", "{\"a\":1,\"b\":2}");
    expr("{ (null) = 1 }", "1:7 the key of an object must be a string, not null");
    expr("{ for = 1 }", "1:11 expected the name of a variable after `for`, found `=`");
}

#[test]
fn for_expressions() {
    expr("[for x in [1, 2, 3] : x * x if x != 2]", "[1,9]");
    expr("[for i, x in [\"a\"] : \"${i}${x}\"]", "[\"0a\"]");
    expr("{for k, v in {a = 1} : v => k}", "{\"1\":\"a\"}");
    expr("{for x in [1, 2, 3] : x % 2 => x...}", r#"{"0":[2],"1":[1,3]}"#);
    expr("{for x in [1, 2] : \"k\" => x}", "1:24 a `for` makes the key `k` twice");
    expr("[for x in \"abc\" : x]", "1:15 a `for` goes over a list or a map, not over a string");
    expr("[for x in null : x]", "1:15 a `for` goes over a list or a map, not over null");
    expr("[for a in [1, 2] : [for b in [3] : a + b]]", "[[4],[5]]");
    expr("[for x in [1, 2, 3] : x + y]", "1:31 variable `y` is not defined");
}

#[test]
fn access() {
    file("v = [10, 20]\nx = [v[0], v.1, v[1 - 1], v[\"1\"]]", "[10,20,10,20]");
    file("m = convert({a = 1}, map(number))\nx = [true ? m : {}, false ? m : {}]", "[{\"a\":1},{}]");
    file("m = {a = {b = 5}}\nk = \"a\"\nx = [m.a.b, m[\"a\"][\"b\"], m[k].b]", "[5,5,5]");
    file("l = [{a = 1}, {a = 2}]\nx = [l[*].a, l.*.a, null[*].a, {a = 3}[*].a]", "[[1,2],[1,2],[],[3]]");
    file("l = [{a = [1, 2]}, {a = [3]}]\nx = [l[*].a[*], l[*].a.*, l.*.a[*]]", "[[[1,2],[3]],[[1,2],[3]],[[1,2],[3]]]");
    file("l = [{a = 1}, {a = 2}]\nx = [l[*].a[*], l.*.a[*], l[*].a.*[0]]", "[[[1],[2]],[1,2],[1,2]]");
    expr("[\"a\"][3]", "1:11 the list has no element with the index 3");
    expr("[\"a\"][-1]", "1:11 the list has no element with the index -1");
    expr("[\"a\"][0.5]", "1:11 the list has no element with the index 0.5");
    expr("{a = 1}.b", "1:13 there is no key `b`");
    expr("{a = 1}[\"b\"]", "1:13 there is no key `b`");
    expr("\"s\".a", "1:9 a string has no attributes, hence no `a`");
    expr("\"s\"[0]", "1:5 a string has no elements");
    expr("null.a", "1:10 null has no attributes, hence no `a`");
    expr("[1].a", "1:9 a tuple has no attributes, hence no `a`");
}

#[test]
fn special_calls() {
    expr("try(nope, \"x\")", "\"x\"");
    expr("[try(nope, 1), try(nope, 2)]", "[1,2]");
    expr("[can(nope), can(1)]", "[false,true]");
    expr("try({}.a, {}.b)", "1:5 `try` failed: no expression succeeded; the last said: there is no key `b`");
    expr("convert([3, 1, 3], set(string))", "[\"1\",\"3\"]");
    expr("convert({a = 1, b = 2}, object({a = string, c = optional(bool)}))", "{\"a\":\"1\",\"c\":null}");
    expr("convert(\"x\", number)", "1:13 `convert` failed: number expected, got the string \"x\"");
    expr("convert(1, boolean)", "1:16 this is not a type");
    expr("nosuch(1)", "1:5 no function is called `nosuch`");
}

#[test]
fn several_faults_are_told_at_once() {
    file(
        "x = [a1, 1, b1]\ny = c1",
        "1:6 variable `a1` is not defined\n1:13 variable `b1` is not defined\n2:5 variable `c1` is not defined",
    );
    targets(
        "target \"a\" {\n args = { A = nope1, B = nope2 }\n}\ntarget \"b\" {\n tags = [nope3]\n context = target.a.args.A\n}",
        "2:15 variable `nope1` is not defined\n2:26 variable `nope2` is not defined\n5:10 variable `nope3` is not defined",
    );
}

#[test]
fn user_functions() {
    let tag = "function \"tag\" {\n params = [name]\n variadic_params = rest\n result = [name, rest]\n}\n";
    file(&format!("{tag}x = [tag(\"a\"), tag(\"a\", 1, 2)]"), "[[\"a\",[]],[\"a\",[1,2]]]");
    file(&format!("{tag}x = tag(\"a\", null)"), "6:14 the argument `rest` of `tag` must not be null");
    file("function \"f\" {\n params = [a, b]\n result = [a, b, v]\n}\nv = 3\nx = f([1, 2]...)", "[1,2,3]");
    file("function \"f\" {\n params = [v]\n result = v\n}\nv = 3\nx = f(1)", "1");
    file(
        "function \"f\" {\n params = [a, b]\n result = a\n}\nx = f(1)",
        "5:5 `f` takes 2 arguments, not 1, missing: \"b\"",
    );
    file(
        "function \"f\" {\n params = [a]\n result = a\n}\nx = f(null)",
        "5:7 the argument `a` of `f` must not be null",
    );
    file(
        "function \"f\" {\n params = [a]\n result = a + \"q\"\n}\nx = f(1)",
        "5:5 the operand of `+` must be a number, not a string",
    );
    file(
        "function \"f\" {\n params = []\n result = g()\n}\nfunction \"g\" {\n params = []\n result = f()\n}\nx = 1",
        "7:11 a cycle: a function calls itself: `f()` → `g()` → `f()`",
    );
    file(
        "function \"f\" {\n params = [n]\n result = n == 0 ? 0 : f(n - 1)\n}\nx = f(3)",
        "3:24 a cycle: a function calls itself: `f()` → `f()`",
    );
    file("function \"f\" {\n params = []\n result = nope\n}\nx = 1", "3:11 variable `nope` is not defined");
    file("function \"f\" {\n params = []\n result = nope()\n}\nx = 1", "3:11 no function is called `nope`");
    file("function \"f\" {\n result = 1\n}\nx = 1", "1:1 function `f` has no `params`");
    file("function \"f\" {\n params = [\"a\"]\n result = 1\n}\nx = 1", "2:12 a parameter is a plain name");
}

#[test]
fn cycles_are_told_with_every_step() {
    file("x = b\nb = c\nc = x", "3:5 a cycle: a value needs itself: `x` → `b` → `c` → `x`");
    file("variable \"A\" {\n default = \"${A}x\"\n}\nx = 1", "2:15 a cycle: a value needs itself: `A` → `A`");
    file("x = try(b, 1)\nb = try(x, 2)", "2:9 a cycle: a value needs itself: `x` → `b` → `x`");
    targets(
        "target \"a\" {\n tags = target.b.tags\n}\ntarget \"b\" {\n tags = target.a.tags\n}",
        "5:18 a cycle: a value needs itself: `target.a.tags` → `target.b.tags` → `target.a.tags`",
    );
    targets(
        "target \"a\" {\n matrix = { v = y }\n name = \"a-${v}\"\n}\ny = target.a-x.tags",
        "5:12 a cycle: a value needs itself: the names of the targets → `y` → the names of the targets",
    );
}

#[test]
fn variables_take_values_from_outside() {
    let run = |text: &str| Run::new(&format!("{text}\nx = V"));
    let plain = "variable \"V\" {\n default = \"d\"\n}";
    assert_eq!(run(plain).x(), "\"d\"");
    assert_eq!(run(plain).env("V", "e").x(), "\"e\"");
    assert_eq!(run(plain).env("V", "e").var("V", "v").x(), "\"v\"");
    assert_eq!(run(plain).env("V_JSON", "\"j\"").x(), "\"\\\"j\\\"\"");
    assert_eq!(run("variable \"V\" {}").x(), "\"\"");
    assert_eq!(run("variable \"V\" {\n type = string\n}").x(), "null");
    let list = "variable \"V\" {\n type = list(number)\n default = [1]\n}";
    assert_eq!(run(list).env("V", "3,4").x(), "[3,4]");
    assert_eq!(run(list).env("V", "").x(), "[]");
    assert_eq!(run(list).env("V", "3").env("V_JSON", "[5]").x(), "[5]");
    assert_eq!(
        run(list).env("V", "3,x").x(),
        "1:1 the value of the environment variable `V` does not fit variable `V`: value 2 is `x`: a number is wanted"
    );
    let bool = "variable \"V\" {\n default = true\n}";
    assert_eq!(run(bool).env("V", "F").x(), "false");
    assert_eq!(run(bool).var("V", "yes").x(), "1:1 the value of `--var V` does not fit variable `V`: a bool is wanted");
    let any = "variable \"V\" {\n type = any\n}";
    assert_eq!(run(any).env("V", "x,y").x(), "\"x,y\"");
    assert_eq!(run(any).env("V_JSON", "{\"a\":[1]}").x(), "{\"a\":[1]}");
    assert_eq!(run("variable \"V\" {\n type = map(number)\n}").env("V", "a:1,b:2").x(), "{\"a\":1,\"b\":2}");
    assert_eq!(run("variable \"V\" {\n type = tuple([number, bool])\n}").env("V", "1,t").x(), "[1,true]");
    assert_eq!(run("variable \"V\" {\n default = 1\n}\nV = 2").x(), "2");
    assert_eq!(run("variable \"V\" {\n default = 1\n}\nV = 2").env("V", "3").x(), "3");
    assert_eq!(run("V = 2").env("V", "3").x(), "2");
    assert_eq!(
        run("variable \"V\" {\n type = number\n default = \"q\"\n}").x(),
        "3:12 the default of variable `V` has the wrong type: number expected, got the string \"q\""
    );
    assert_eq!(run("variable \"V\" {\n type = \"string\"\n}").x(), "2:9 this is not a type");
    assert_eq!(Run::new("x = [BAKE_CMD_CONTEXT, BAKE_LOCAL_PLATFORM]").x(), "[\"cwd://\",\"linux/amd64\"]");
}

#[test]
fn validations() {
    let run = |condition: &str| {
        let text = format!(
            "variable \"V\" {{\n default = 5\n validation {{\n  condition = {condition}\n  error_message = \"V is ${{V}}\"\n }}\n}}\nx = 1"
        );
        Run::new(&text).x()
    };
    assert_eq!(run("V > 3"), "1");
    assert_eq!(run("V < 3"), "4:15 variable `V` is not valid: V is 5");
    assert_eq!(run("null"), "4:15 the condition of variable `V` is null");
    assert_eq!(run("\"true\""), "1");
    file(
        "variable \"V\" {\n description = [1]\n sensitive = \"perhaps\"\n}\nx = 1",
        "2:16 the description of variable `V` must be a string\n3:14 `sensitive` of variable `V` must be a bool, not a string",
    );
    let secret = Run::new("variable \"V\" {\n type = number\n sensitive = true\n}\nx = 1").env("V", "hunter2");
    let scope = Scope::new(&secret.definition, &secret.input, "linux/amd64");
    scope.check();
    assert!(!format!("{:?}", scope.all_faults()).contains("hunter2"));
    assert_eq!(run("OTHER"), "4:15 variable `OTHER` is not defined");
}

#[test]
fn blocks_have_one_name() {
    file("variable {\n}\nx = 1", "1:1 a `variable` block needs a name");
    file("target \"a\" \"b\" {\n}\nx = 1", "1:12 a `target` block has one name, not 2");
    file("target = 1\nx = 1", "1:1 `target` is a block, not an attribute");
    file("variable \"target\" {}\nx = 1", "warning: 1:10 a variable cannot be called `target`, and is ignored");
}

#[test]
fn references() {
    targets(
        "target \"app\" {\n context = target.base.context\n tags = [target.base.tags[0], target.app.target]\n target = \"s\"\n}\ntarget \"base\" {\n tags = [\"x\"]\n context = \"c\"\n}",
        "app: context=\"c\" tags=[\"x\",\"s\"] target=\"s\"\nbase: tags=[\"x\"] context=\"c\"",
    );
    targets(
        "target \"a\" {\n tags = target.b.tags\n args = {A = target.b.description, B = target.b.name}\n}\ntarget \"b\" {}",
        "a: tags=null args={\"A\":\"\",\"B\":\"b\"}\nb:",
    );
    targets("target \"a\" {\n tags = target.zzz.tags\n}", "2:16 no target is called `zzz`");
    targets("target \"a\" {\n tags = target.a.tgas\n}", "2:18 a target has no attribute `tgas`");
    targets("target \"a\" {\n tags = target[\"a\"]\n}", "2:9 `target` alone has no value");
    targets(
        "variable \"V\" {\n default = target.a.tags\n}\ntarget \"a\" {}",
        "2:12 `target.a.tags` cannot be used here",
    );
    file(
        "target \"a\" {\n tags = [\"t\"]\n}\ny = target.a.tags[0]\nx = [y, [for target in [{a = {tags = 1}}] : target.a.tags]]",
        "[\"t\",[1]]",
    );
}

#[test]
fn matrices() {
    targets(
        "target \"b\" {\n name = \"b-${v}${w}\"\n matrix = { v = [\"x\", \"y\"], w = [1, 2] }\n args = { V = v }\n}",
        "b-x1: args={\"V\":\"x\"}\nb-x2: args={\"V\":\"x\"}\nb-y1: args={\"V\":\"y\"}\nb-y2: args={\"V\":\"y\"}\n[b: b-x1 b-x2 b-y1 b-y2]",
    );
    targets("target \"b\" {\n name = \"only\"\n matrix = {}\n}", "only:\n[b: only]");
    targets("target \"b\" {\n name = v\n matrix = { v = [\"b\"] }\n}", "b:");
    targets(
        "v = 1\ntarget \"b\" {\n name = \"b${v}\"\n matrix = { v = [2] }\n tags = v\n}\ntarget \"c\" {\n tags = v\n}",
        "b2: tags=2\nc: tags=1\n[b: b2]",
    );
    targets(
        "target \"b\" {\n name = \"same\"\n matrix = { v = [1, 2] }\n}",
        "1:1 two combinations of the matrix have the name `same`",
    );
    targets("target \"b\" {\n name = \"b-${v}\"\n matrix = { v = [\"1.0\"] }\n}", "1:1 not a name for a target: b-1.0");
    targets("target \"b\" {\n name = \"c\"\n}", "1:1 `name` has a meaning only with `matrix`");
    targets("target \"b\" {\n matrix = [1]\n}", "2:11 `matrix` must be a map of lists, not a tuple");
    targets("target \"b\" {\n matrix = { v = 1 }\n}", "2:17 axis `v` of the matrix must be a list, not a number");
    targets(
        "target \"b\" {\n name = v\n matrix = { v = [\"x\"] }\n}\ntarget \"c\" {\n tags = target.b.tags\n}",
        "6:16 no target is called `b`",
    );
}

#[test]
fn json_files() {
    let run = |text: &str| Run::json(text).x();
    assert_eq!(
        run(r#"{"x": ["${1 + 1}", "a${1}", "$${b}", {"k${1}": null}, true, -1.5, "//"], "//": "c"}"#),
        r#"[2,"a1","${b}",{"k1":null},true,-1.5,"//"]"#
    );
    assert_eq!(run(r#"{"variable": {"V": {"type": "list(string)", "default": ["a"]}}, "x": "${V}"}"#), r#"["a"]"#);
    assert_eq!(
        run(
            r#"{"function": {"f": {"params": ["a"], "variadic_params": "r", "result": "${[a, r]}"}}, "x": "${f(1, \"q\")}"}"#
        ),
        r#"[1,["q"]]"#
    );
    assert_eq!(run("{\n \"x\": \"${nope}\"}"), "2:10 variable `nope` is not defined");
    assert_eq!(run("{\n \"x\": \"${1 +}\"}"), "2:13 expected a value, found `}`");
    assert_eq!(run("{\n \"x\": 1,\n \"x\": 2}"), "3:2 attribute `x` is set twice");
    assert_eq!(run("{\n \"target\": \"x\"}"), "2:12 `target` (names and their bodies) must be an object");
    assert_eq!(run("{\n // c\n}"), "2:2 expected a name in quotes, found `/`");
    assert_eq!(
        Run::json(r#"{"target": [{"a": [{"tags": ["1"]}, {"context": "."}]}, {"b": {}}], "target": {"c": {}}}"#)
            .targets(),
        "a: tags=[\"1\"]\na: context=\".\"\nb:\nc:"
    );
}

#[test]
fn long_chains_end() {
    on_large_stack(|| {
        let n = 10_000;
        let mut text = String::from("x = a0\n");
        for i in 0..n {
            writeln!(text, "variable \"a{i}\" {{\n  default = \"${{a{}}}\"\n}}", i + 1).expect("writing to a string");
        }
        file(&format!("{text}a{n} = \"end\""), "\"end\"");
        let mut text = String::from("x = f0(1)\n");
        for i in 0..1000 {
            writeln!(text, "function \"f{i}\" {{\n  params = [a]\n  result = f{}(a) + 1\n}}", i + 1)
                .expect("writing to a string");
        }
        file(&format!("{text}function \"f1000\" {{\n  params = [a]\n  result = a\n}}"), "1001");
        let mut text = String::new();
        for i in 0..5000 {
            writeln!(text, "target \"t{i}\" {{\n tags = target.t{}.tags\n}}", i + 1).expect("writing to a string");
        }
        let out = Run::new(&format!("{text}target \"t5000\" {{\n tags = [\"z\"]\n}}")).targets();
        assert!(out.starts_with("t0: tags=[\"z\"]\n"), "{}", &out[..100]);
    });
}

#[test]
fn hostile_input_ends_in_a_fault() {
    on_large_stack(|| {
        for open in ["(", "[", "{a = ", "-", "!", "\"${", "f(", "[for x in ", "a ? b : ", "x["] {
            let text = format!("x = {}", open.repeat(100_000));
            let run = Run::new(&text);
            assert!(run.render(&run.faults).contains("nested deeper"), "{open}: {}", run.render(&run.faults));
        }
        let json = Run::json(&format!("{{\"x\": {}", "[".repeat(100_000)));
        assert!(json.render(&json.faults).contains("nested deeper"));
        // Each doubles the one before.
        let mut text = String::from("v0 = \"0123456789\"\n");
        for i in 1..60 {
            writeln!(text, "v{i} = \"${{v{}}}${{v{}}}\"", i - 1, i - 1).expect("writing to a string");
        }
        assert!(Run::new(&format!("{text}x = 1")).x().contains("a text grows too large"));
        let mut text = String::from("v0 = [1, 2]\n");
        for i in 1..60 {
            writeln!(text, "v{i} = [v{}, v{}]", i - 1, i - 1).expect("writing to a string");
        }
        let all = format!("{text}x = v59 == v59 ? jsonencode(v59) : v59");
        assert!(Run::new(&all).x().contains("a value grows too large"));
    });
}

/// A file with faults; only these are told.
#[track_caller]
fn faults(text: &str, expected: &str) {
    let run = Run::new(text);
    assert_eq!(run.render(&run.faults), expected, "{text}");
}

#[test]
fn syntax_faults_are_all_told_and_nothing_that_follows_from_them() {
    faults(
        "target \"a\" {\n tags = [\"x\"\n context = \".\"\n}\ntarget \"b\" {\n context = \"\n}\n",
        "3:2 expected `,` or `]`, found `context`\n6:12 a string does not end on its line",
    );
    faults(
        "x = {\n a = [1,\n b = 2\n}\ny = \n",
        "3:4 expected `,` or `]`, found `=`\n5:5 expected a value, found the end of the line",
    );
    faults("x = (1\ny = 2\nz = 3 3\n", "2:1 expected `)`, found `y`\n3:7 expected the end of the line, found `3`");
    faults(
        "target \"a\" {\n dockerfile-inline = <<E\nfoo ${bar\nE\n}\nz = 1 1\n",
        "3:5 an interpolation is not closed\n6:7 expected the end of the line, found `1`",
    );
    faults(
        "x = {\n A = \"${1 +}\"\n B = \"b\"\n}\ny = \"\\q\"\n",
        "2:12 expected a value, found `}`\n5:6 an escape that is not known",
    );
    faults(
        "}\n}\n",
        "1:1 expected an attribute or a block, found `}`\n2:1 expected an attribute or a block, found `}`",
    );
    faults(
        "x = \"%{ if x }\"\ny = \"%{ else }\"",
        "1:6 a `%{ if }` is not closed\n2:6 `%{ else }` belongs to no `%{ if }`",
    );
}

#[test]
fn what_is_not_closed_is_shown_where_it_was_opened() {
    faults("x = [1, (2", "1:9 a parenthesis is not closed");
    faults("x = f(1", "1:6 a list of arguments is not closed");
    faults("x = {\n a = 1\n", "1:5 an object is not closed");
    faults("x = \"a${b", "1:7 an interpolation is not closed");
    faults("x = \"a", "1:5 a string is not closed");
    faults("x = <<E\n a\n", "1:5 a heredoc is not closed");
    faults("/* c\nx = 1", "1:1 a comment is not closed");
    faults("target \"a\" {\n args = {\n}\ntarget \"b\" {\n}\n", "1:12 a block is not closed");
}

#[test]
fn one_line_blocks_hold_one_attribute() {
    let rule = "a block on one line holds one attribute only";
    faults("target \"a\" { tags = [] }\ntarget \"b\" {}\ntarget c {\n}\n", "");
    faults("target \"a\" { x = 1, y = 2 }", &format!("1:19 {rule}"));
    faults("target \"a\" { x = 1 y = 2 }", &format!("1:20 {rule}"));
    faults("variable \"a\" { validation { } }", &format!("1:27 {rule}"));
    faults("target \"a\" {\n x = 1 }\n", "2:8 a closing brace stands on a line of its own");
    faults("x = 1\nx = 2", "2:1 attribute `x` is set twice");
}

#[test]
fn no_text_makes_the_parsers_panic() {
    let hcl = "a = 1 + -2 * (3 % x[0].b[*].c.*.d) ? \"é${~ f(x...) ~}\\u00e9\" : {k = [for i, v in l : v if c], (z) = null}\nb = <<-E\n  %{ for k in m ~}\n é ${k}\n%{ endfor }%{ if a }b%{ else }c%{ endif }\n  E\ntarget \"t\" {\n # c\n /* d */ // e\n v = { for k, v in x : k => v... }\n}\n";
    let json =
        "{\"target\": [{\"a\": {\"tags\": [\"${é}\\u00e9\\\"%{if x}\"], \"x\": -1.5e3}}], \"//\": null, \"t\": true}";
    for (text, parse) in [(hcl, Run::new as fn(&str) -> Run), (json, Run::json)] {
        let all: Vec<char> = text.chars().collect();
        for i in 0..all.len() {
            drop(parse(&all[..i].iter().collect::<String>()));
            drop(parse(&all[i..].iter().collect::<String>()));
            for replacement in ['"', '{', '}', '[', ']', '(', '$', '%', '\\', '\n', '<', 'é', '\0'] {
                let mut changed = all.clone();
                changed[i] = replacement;
                drop(parse(&changed.into_iter().collect::<String>()));
            }
        }
    }
    assert_eq!(Run::new(hcl).faults, []);
}
