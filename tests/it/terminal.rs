//! What reaches a terminal: nothing of a definition or a Dockerfile steers it. What goes to a pipe stays as it is.

use std::{
    fs::{File, OpenOptions},
    io::Read as _,
    process::Stdio,
};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::support::Bake;

/// Clears the screen, sets the title, sets a colour in its eight-bit form, and turns the direction of text.
const HOSTILE: &str = "a\u{1b}[2J\u{1b}]0;title\u{7}\u{9b}31m\u{202e}b";

/// The same as an HCL string holds it.
const HOSTILE_HCL: &str = r"a\u001b[2J\u001b]0;title\u0007\u009b31m\u202eb";

/// Standard output of a run whose standard output is a terminal.
fn on_terminal(bake: &Bake, args: &[&str]) -> String {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("there are terminals");
    grantpt(&master).expect("it is ours");
    unlockpt(&master).expect("it is ours");
    let name = ptsname(&master, Vec::new()).expect("it has a name").into_string().expect("it is ASCII");
    let terminal = OpenOptions::new().read(true).write(true).open(name).expect("it can be opened");
    let mut child = {
        let mut command = bake.command("", args);
        command.stdin(Stdio::null()).stdout(terminal).stderr(Stdio::null()).spawn().expect("the binary starts")
    };
    let mut text = Vec::new();
    // The other end of a terminal that is closed gives an error in place of an end.
    let _closed = File::from(master).read_to_end(&mut text);
    assert!(child.wait().expect("it can be waited for").success());
    String::from_utf8(text).expect("UTF-8").replace("\r\n", "\n")
}

fn hostile() -> Bake {
    let bake = Bake::new();
    let text = format!(
        r#"
        variable "V" {{
          default = "{HOSTILE_HCL}"
          description = "{HOSTILE_HCL}"
        }}
        target "default" {{
          description = "{HOSTILE_HCL}"
          args = {{ A = V }}
        }}"#
    );
    bake.write("docker-bake.hcl", &text);
    bake.write("Dockerfile", &format!("# A is {HOSTILE}\nARG A={HOSTILE}\nFROM scratch\nCOPY x /\n"));
    bake
}

const WAYS: [&[&str]; 7] = [
    &["--print"],
    &["--list=targets"],
    &["--list=type=targets,format=json"],
    &["--list=variables"],
    &["plan"],
    &["--call=outline"],
    &["--call=targets,format=json"],
];

#[test]
fn nothing_steers_a_terminal() {
    let bake = hostile();
    for args in WAYS {
        let text = on_terminal(&bake, args);
        assert!(!text.is_empty(), "{args:?}");
        let bad = text.chars().find(|c| c.is_control() && !matches!(c, '\n' | '\t') || *c == '\u{202e}');
        assert_eq!(bad, None, "{args:?}: {text:?}");
    }
}

#[test]
fn json_on_a_terminal_means_the_same_as_in_a_pipe() {
    let bake = hostile();
    let piped = bake.run(&["--print"]).ok().stdout;
    assert!(piped.contains(['\u{9b}', '\u{202e}']), "a pipe gets the characters as they are: {piped}");
    let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
    assert_eq!(read(&on_terminal(&bake, &["--print"])), read(&piped));
}

/// A line break in a text of the definition begins no row of a table and no entry of a plan.
#[test]
fn a_line_break_makes_no_row() {
    let bake = Bake::new();
    bake.write("Dockerfile", "FROM scratch\nCOPY x /\n");
    bake.write(
        "docker-bake.hcl",
        "variable \"V\" {\n  default = \"a\\nforged V\"\n  description = \"a\\r\\nforged D\"\n}\n\
         target \"default\" {\n  description = \"a\\nforged  row\"\n  \
         dockerfile = \"a\\nforged path\"\n}\n",
    );
    for args in [&["--list=targets"][..], &["--list=variables"], &["plan"]] {
        for text in [on_terminal(&bake, args), bake.run(args).ok().stdout] {
            assert!(text.contains("forged"), "{args:?}: {text}");
            assert!(!text.lines().any(|line| line.trim_start().starts_with("forged")), "{args:?}: {text}");
        }
    }
}
