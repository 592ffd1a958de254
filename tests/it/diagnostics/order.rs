//! Several faults at once: all of them in one run, in the order of the files, and nothing that only follows from another.

use super::Page;

const ALL: &str = "\
variable \"TAG\" {
  default = MISSING
}

group \"default\" {
  targets = [\"web\", \"wbe\"]
}

target \"web\" {
  contxt = \".\"
  tags = \"app:${TAG}\"
  args = {
    A = uper(\"x\")
    B = 1 + \"y\"
  }
}

target \"api\" {
  inherits = [\"wbe\"]
  pull = \"yes\"
}

variable \"LAST\" {
  type = nubmer
}
";

#[test]
fn all_faults_of_a_file_are_told_in_its_order() {
    Page::new("all_in_order")
        .hcl("one file", ALL)
        .case(
            "two files",
            &[
                ("b.hcl", "target \"b\" {\n  tags = \"x\"\n}\n"),
                ("a.hcl", "A = B\ntarget \"default\" {\n  pull = 2\n}\n"),
            ],
            &["-f", "b.hcl", "-f", "a.hcl", "--print"],
        )
        .case(
            "two formats",
            &[
                ("docker-bake.json", "{\"target\": {\"b\": {\"tags\": \"x\", \"pull\": [1]}}}\n"),
                ("docker-bake.hcl", "target \"default\" {\n  pull = X\n}\n"),
            ],
            &["--print"],
        )
        .case(
            "syntax errors of two files",
            &[("a.hcl", "target \"a\" {\n  tags = [\n"), ("b.json", "{\"target\": }\n"), ("c.yaml", "services: [\n")],
            &["-f", "a.hcl", "-f", "b.json", "-f", "c.yaml", "--print"],
        )
        .check();
}

#[test]
fn what_follows_from_a_fault_is_not_told() {
    Page::new("no_follow_up")
        .hcl(
            "a broken variable that many use",
            "variable \"V\" {\n  default = X\n}\nW = V\ntarget \"default\" {\n  tags = [V, W]\n  context = upper(V)\n}\n\
             target \"b\" {\n  inherits = [\"default\"]\n  tags = target.default.tags\n}\n",
        )
        .hcl(
            "a broken matrix whose targets are named",
            "group \"default\" {\n  targets = [\"app-a\"]\n}\ntarget \"app\" {\n  name = \"app-${X}\"\n  matrix = {\n    v = [\"a\"]\n  }\n}\n\
             target \"b\" {\n  inherits = [\"app-a\"]\n}\n",
        )
        .hcl(
            "a broken function",
            "function \"f\" {\n  params = [x]\n  result = x + Y\n}\ntarget \"default\" {\n  args = {\n    A = f(1)\n    B = f(2)\n  }\n}\n",
        )
        .hcl(
            "a broken parent",
            "target \"base\" {\n  tags = \"x\"\n}\ntarget \"default\" {\n  inherits = [\"base\"]\n}\ntarget \"b\" {\n  inherits = [\"base\"]\n  contexts = {\n    x = \"target:base\"\n  }\n}\n",
        )
        .check();
}
