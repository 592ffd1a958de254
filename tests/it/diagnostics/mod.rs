//! What the user reads when something is wrong: one page for each kind of fault, as the whole binary prints it.
//!
//! A page is a text in `expected/`, with the command, the exit code and all of standard error of every case; it is
//! compared, and rewritten when `BAKE_UPDATE=1`. Its name starts with the row of the table of errors that it shows.
//! Whether a message is good is for the reader of the page to judge: does it say what is wrong, where, what to type?

mod blocks;
mod evaluation;
mod files;
mod names;
mod options;
mod order;
mod overrides;

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
};

use crate::support::Bake;

/// Files and their texts.
type Files<'a> = &'a [(&'a str, &'a str)];

/// One page: cases that show the same kind of fault.
struct Page {
    name: &'static str,
    text: String,
}

impl Page {
    fn new(name: &'static str) -> Self {
        Self { name, text: String::new() }
    }

    /// Runs `bake` beside the files.
    fn case(self, title: &str, files: Files<'_>, args: &[&str]) -> Self {
        self.with(title, files, args, &[], b"")
    }

    /// Runs `bake --print` beside a `docker-bake.hcl` of this text.
    fn hcl(self, title: &str, text: &str) -> Self {
        self.case(title, &[("docker-bake.hcl", text)], &["--print"])
    }

    /// The same with a `compose.yaml`.
    fn compose(self, title: &str, text: &str) -> Self {
        self.case(title, &[("compose.yaml", text)], &["--print"])
    }

    /// Runs `bake` beside the files, with an environment and standard input.
    fn with(self, title: &str, files: Files<'_>, args: &[&str], env: &[(&str, &str)], stdin: &[u8]) -> Self {
        let bake = Bake::new();
        for (name, text) in files {
            bake.write(name, text);
        }
        self.at(&bake, title, args, env, stdin)
    }

    /// Runs `bake` in a folder that the test has made.
    fn at(mut self, bake: &Bake, title: &str, args: &[&str], env: &[(&str, &str)], stdin: &[u8]) -> Self {
        let (code, stderr) = run(bake, args, env, stdin);
        let folder = bake.dir.path().canonicalize().expect("the folder exists");
        let stderr = stderr.replace(&*folder.to_string_lossy(), "[DIR]");
        let command: Vec<String> = env
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .chain(["bake".to_owned()])
            .chain(args.iter().map(|it| (*it).to_owned()))
            .collect();
        let code = code.map_or_else(|| "killed".to_owned(), |it| it.to_string());
        let stderr = stderr.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
        write!(self.text, "=== {title}\n$ {}\n[exit {code}]\n{}\n\n", command.join(" "), stderr.trim_end())
            .expect("a string takes all");
        self
    }

    /// Replaces what differs from run to run.
    fn replace(mut self, from: &str, to: &str) -> Self {
        self.text = self.text.replace(from, to);
        self
    }

    /// Compares the page with what is expected.
    fn check(self) {
        let path = folder().join(format!("{}.txt", self.name));
        if std::env::var_os("BAKE_UPDATE").is_some() {
            fs::write(&path, &self.text).expect("pages can be written");
        }
        let expected = fs::read_to_string(&path).unwrap_or_default();
        if self.text != expected {
            let at = self.text.lines().zip(expected.lines()).position(|(a, b)| a != b);
            panic!(
                "{} differs from line {}; if that is right, run it again with BAKE_UPDATE=1\n{}",
                path.display(),
                at.map_or_else(|| "?".to_owned(), |it| (it + 1).to_string()),
                self.text
            );
        }
    }
}

/// Exit code and standard error of a run with more in its environment, and something on standard input.
fn run(bake: &Bake, args: &[&str], env: &[(&str, &str)], stdin: &[u8]) -> (Option<i32>, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_bake"))
        .args(args)
        .current_dir(bake.dir.path())
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", bake.path("home"))
        .env("BAKE_HOME", bake.path("state"))
        .env("NO_COLOR", "1")
        .envs(env.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut input = child.stdin.take().expect("it is piped");
    // A run that fails early does not read it.
    let _written = input.write_all(stdin);
    drop(input);
    let output = child.wait_with_output().expect("the binary ends");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/diagnostics/expected")
}

/// The rows of the table of errors. `o7` (two nodes of a builder) has no page: everything is built in one process.
const ROWS: &str = "f1 f2 f3 f4 f5 f6 f7 b1 b2 b3 b4 b5 b6 b7 b8 b9 r1 r2 r3 r4 r5 c1 c2 c3 c4 c5 c6 c7 \
                    e1 e2 e3 e4 e5 e6 s1 s2 s3 s4 o1 o2 o3 o4 o5 o6 p1 p2 l1 d1";

/// A row without a page is not shown; a page without a test is not checked.
#[test]
fn every_kind_of_fault_has_a_page_and_every_page_a_test() {
    let sources: String = ["blocks", "evaluation", "files", "names", "options", "order", "overrides"]
        .iter()
        .map(|it| folder().with_file_name(format!("{it}.rs")))
        .map(|path| fs::read_to_string(path).expect("the tests are there"))
        .collect();
    let pages: BTreeSet<String> = fs::read_dir(folder())
        .expect("there are pages")
        .map(|it| it.expect("readable").file_name().to_string_lossy().trim_end_matches(".txt").to_owned())
        .collect();
    let missing: Vec<&str> =
        ROWS.split_whitespace().filter(|row| !pages.iter().any(|it| it.starts_with(&format!("{row}_")))).collect();
    assert!(missing.is_empty(), "no page for: {missing:?}");
    let dead: Vec<&String> = pages.iter().filter(|it| !sources.contains(&format!("\"{it}\""))).collect();
    assert!(dead.is_empty(), "no test for: {dead:?}");
}
