//! The module map of `src/`, and what else ARCHITECTURE.md promises, as tests.
//!
//! Every file is read as Rust tokens and `use` trees, so that a name counts wherever it stands: in a nested group, behind
//! `self`, `super` or a rename, inside a macro, after a string that holds `//`. To add an edge, edit the table and give the
//! reason in the commit; to add a module, add a row. Order matters: a module may use only modules listed above it, so a
//! cycle cannot be written down.
//!
//! What is not seen: an effect that hides behind a method of a type that another module made.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use proc_macro2::{TokenStream, TokenTree};
use syn::{Item, UseTree, spanned::Spanned as _, visit::Visit};

/// (module, pure, modules it may use)
const MAP: &[(&str, bool, &[&str])] = &[
    ("oci", true, &[]),
    ("report", true, &["oci"]),
    ("spec", true, &["oci", "report"]),
    ("grant", false, &[]),
    ("fetch", false, &["oci", "spec"]),
    ("archive", true, &[]),
    ("definition", false, &["report", "spec", "grant", "fetch", "archive"]),
    ("eval", true, &["oci", "report", "spec", "definition"]),
    ("plan", true, &["oci", "report", "spec", "eval"]),
    ("shard", true, &[]),
    ("graph", true, &["oci", "report", "spec"]),
    ("dockerfile", true, &["oci", "report", "spec", "graph"]),
    ("affected", true, &["oci", "report", "spec", "eval", "plan", "graph", "dockerfile"]),
    ("layer", false, &["oci", "archive"]),
    ("registry", false, &["oci", "grant"]),
    // What the options of caches in object stores mean.
    ("objects", false, &["oci", "spec", "grant"]),
    ("ssh", false, &[]),
    // The agent of a step answers with keys.
    ("sandbox", false, &["spec", "ssh"]),
    // A whole store as one archive.
    ("store", false, &["oci", "archive"]),
    // Files that a daemon asks for, blobs that it sends, tokens for its registries.
    ("buildkit", false, &["oci", "report", "spec", "grant", "layer", "registry", "ssh", "store"]),
    (
        "solve",
        false,
        &[
            "oci", "report", "spec", "grant", "graph", "fetch", "archive", "layer", "registry", "objects", "ssh",
            "sandbox", "store",
        ],
    ),
    (
        "export",
        false,
        &[
            "oci", "report", "spec", "grant", "archive", "layer", "registry", "objects", "store",
            // Images are loaded into the Docker daemon that the user chose, wherever it is.
            "buildkit",
        ],
    ),
    (
        "engine",
        false,
        &[
            "oci",
            "report",
            "spec",
            "grant",
            "graph",
            "dockerfile",
            "plan",
            // What builds read, for `bake affected`.
            "affected",
            // The steps of targets that are divided among runners.
            "shard",
            "grant",
            "fetch",
            "layer",
            "registry",
            "objects",
            "store",
            // Plans go to daemons as well.
            "buildkit",
            "solve",
            "export",
        ],
    ),
    ("dispatch", false, &["report", "spec", "plan", "engine"]),
    ("ui", false, &["oci", "report"]),
    (
        "cli",
        false,
        &[
            "oci",
            "report",
            "spec",
            "grant",
            // Standard input of `bake build` is an archive or a Dockerfile.
            "archive",
            // Revisions of the user's git work tree are compared.
            "fetch",
            "definition",
            "eval",
            "plan",
            // `bake convert` links a Dockerfile that is FROM the image of another command.
            "dockerfile",
            // Builds of two revisions are lowered into one graph, where equal steps are one vertex.
            "graph",
            "affected",
            "shard",
            // Keys that cannot be used are refused before anything is built.
            "ssh",
            "sandbox",
            "registry",
            "store",
            // Builders are chosen, and listed.
            "buildkit",
            "engine",
            "dispatch",
            "ui",
        ],
    ),
    // Compiled for the fuzz targets alone.
    ("fuzz", false, &["oci", "report", "archive", "definition", "dockerfile", "layer", "registry"]),
];

/// Folders whose modules may use less than their row allows: (folder, what it must not use).
const NARROWER: &[(&str, &[&str])] = &[
    // Nothing is built, fetched or unpacked there.
    ("engine/fleet", &["fetch", "layer", "shard"]),
];

/// What a pure module must not name: paths, with everything below them.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::env",
    "std::net",
    "std::os::unix::net",
    "std::os::unix::fs",
    "std::process",
    "std::thread",
    "std::io::stdin",
    "std::io::stdout",
    "std::io::stderr",
    "std::time::Instant::now",
    "std::time::SystemTime::now",
    "jiff::Timestamp::now",
    "jiff::Zoned::now",
    "getrandom",
    "libc",
    "rayon",
    "reqwest",
    "rustix",
    "tempfile",
    "tokio",
];

/// Methods of `Path` that look at the disk; other types of this project do not use these names.
const IMPURE_METHODS: &[&str] = &["canonicalize", "read_dir", "read_link", "symlink_metadata", "try_exists"];

#[test]
fn modules_use_only_what_the_map_allows() {
    let mut faults = faults_of_the_map();
    let mut seen = Seen::default();
    for file in rust_files(&src()) {
        let name = file.strip_prefix(src()).expect("a file below src").to_string_lossy().into_owned();
        let text = fs::read_to_string(&file).expect("a readable file");
        faults.extend(faults_of_file(&name, &text, &mut seen));
    }
    for (module, _, uses) in MAP {
        if !seen.modules.contains(*module) {
            faults.push(format!("map: there is no module `{module}`"));
        }
        for used in uses.iter().filter(|used| !seen.edges.contains(&((*module).to_owned(), (**used).to_owned()))) {
            faults.push(format!("map: `{module}` lists `{used}`, which it does not use"));
        }
    }
    for (folder, _) in NARROWER.iter().filter(|(folder, _)| !src().join(folder).is_dir()) {
        faults.push(format!("map: there is no folder `{folder}`"));
    }
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

/// Each of these passed a test that read lines instead of tokens.
#[test]
fn evasions_are_found() {
    let planted = [
        ("use std::{fs, io};", "eval/x.rs:2: `eval` is pure, but names `std::fs`"),
        ("use std::{self as s}; fn f() { s::env::var(\"A\").ok(); }", "names `std::env::var`"),
        ("use std as s; use s::process::Command;", "names `std::process::Command`"),
        ("const A: &str = \"http://x\"; fn f() { std::fs::read(A).ok(); }", "names `std::fs::read`"),
        ("fn f() { println!(\"{:?}\", std::fs::read(\"a\")); }", "names `std::fs::read`"),
        ("macro_rules! m { () => { std::thread::spawn(|| ()) } }", "names `std::thread::spawn`"),
        ("use std::time::Instant as Clock; fn f() { Clock::now(); }", "names `std::time::Instant::now`"),
        ("use std::*;", "names everything in `std`"),
        ("fn f(p: &std::path::Path) { p.canonicalize().ok(); }", "calls `canonicalize`"),
        ("use crate::{oci::Digest, store};", "`eval` must not use `store`"),
        ("use crate::{self as all}; fn f() { all::store::open(); }", "`eval` must not use `store`"),
        ("use crate as all; fn f() { all::solve::run(); }", "`eval` must not use `solve`"),
        ("use super::super::solve::Solver;", "`eval` must not use `solve`"),
        ("use super::{super::cli, x};", "write `crate::`, not `super::super::`"),
        ("mod tests { use super::super::store::Store; }", "`eval` must not use `store`"),
        ("extern crate self as me; use me::store::Store;", "`extern crate`"),
        ("#[path = \"../store/mod.rs\"] mod store;", "`#[path]`"),
        ("include!(\"../store/blob.rs\");", "`include!`"),
        ("fn f() { r#crate_like(); crate::r#store::f(); }", "`eval` must not use `store`"),
    ];
    for (code, expected) in planted {
        let text = format!("//! A file.\n{code}\n");
        let faults = faults_of_file("eval/x.rs", &text, &mut Seen::default());
        assert!(faults.iter().any(|fault| fault.contains(expected)), "{code}\nwanted: {expected}\ngot: {faults:?}");
    }
    let clean =
        "//! A file.\n// std::fs\nuse crate::{oci::Digest, report};\nuse super::x;\nconst A: &str = \"std::fs\";\n";
    assert_eq!(faults_of_file("eval/y.rs", clean, &mut Seen::default()), Vec::<String>::new());
}

/// Files `mod.rs` with code, and why.
const MOD_FILES_WITH_CODE: &[&str] = &[
    // The entry of the program, and the exit codes that all commands share.
    "cli/mod.rs",
    // Its functions are what the fuzz targets call.
    "fuzz/mod.rs",
];

/// The face of a module is read in its `mod.rs`: what it declares and what it hands on, no code.
#[test]
fn mod_files_hold_declarations_only() {
    let is_declaration = |item: &Item| match item {
        Item::Use(_) => true,
        Item::Mod(module) => module.content.is_none(),
        _ => false,
    };
    let mut faults = Vec::new();
    let exempt = |file: &Path| MOD_FILES_WITH_CODE.iter().any(|name| file.ends_with(name));
    for file in rust_files(&src()).into_iter().filter(|file| file.ends_with("mod.rs") && !exempt(file)) {
        let text = fs::read_to_string(&file).expect("a readable file");
        let parsed = syn::parse_file(&text).expect("it compiles");
        let code = parsed.items.iter().filter(|item| !is_declaration(item));
        faults.extend(code.map(|item| format!("{}:{}", file.display(), item.span().start().line)));
    }
    assert!(faults.is_empty(), "a mod.rs holds only `mod` and `use`:\n{}\n", faults.join("\n"));
}

/// What the files were seen to use.
#[derive(Default)]
struct Seen {
    modules: BTreeSet<String>,
    edges: BTreeSet<(String, String)>,
}

fn faults_of_the_map() -> Vec<String> {
    let mut faults = Vec::new();
    for (index, (module, _, uses)) in MAP.iter().enumerate() {
        for used in *uses {
            if !MAP[..index].iter().any(|(above, ..)| above == used) {
                faults.push(format!("map: `{module}` lists `{used}`, which is not above it"));
            }
        }
    }
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("a manifest");
    for line in manifest.lines().filter(|line| line.contains("package = ")) {
        let hides = |crate_name: &&&str| line.contains(&format!("package = \"{crate_name}\""));
        if let Some(hidden) = IMPURE.iter().filter(|path| !path.contains("::")).find(hides) {
            faults.push(format!("Cargo.toml: `{hidden}` under another name cannot be told in a pure module"));
        }
    }
    faults
}

/// Everything that is wrong with one file; `name` is its path below `src`.
fn faults_of_file(name: &str, text: &str, seen: &mut Seen) -> Vec<String> {
    let mut faults = Vec::new();
    if !text.starts_with("//!") {
        faults.push(format!("{name}: say in a `//!` comment what this file is for"));
    }
    let module_path = module_path(name);
    let Some(module) = module_path.first().filter(|first| *first != "main") else { return faults };
    let Some((_, pure, uses)) = MAP.iter().find(|(row, ..)| row == module) else {
        faults.push(format!("{name}: module `{module}` has no row in the map"));
        return faults;
    };
    // What a test needs to be run, such as a large stack, is not part of the stage.
    let is_pure = *pure && !name.ends_with("tests.rs");
    seen.modules.insert(module.clone());
    let file = syn::parse_file(text).unwrap_or_else(|error| panic!("{name}: {error}"));
    let mut reader = PathReader {
        module_path: module_path.clone(),
        aliases: BTreeMap::new(),
        depth: 0,
        paths: Vec::new(),
        faults: Vec::new(),
    };
    reader.visit_file(&file);
    reader.read_tokens(file_tokens(text));
    faults.extend(reader.faults.iter().map(|(line, why)| format!("{name}:{line}: {why}")));
    let mut once = BTreeSet::new();
    for (line, path) in &reader.paths {
        if !once.insert((*line, path.clone())) {
            continue;
        }
        if let [first, used, ..] = path.as_slice()
            && first == "crate"
            && used != module
            && MAP.iter().any(|(row, ..)| row == used)
        {
            seen.edges.insert((module.clone(), used.clone()));
            let narrower =
                NARROWER.iter().any(|(folder, not)| name.starts_with(folder) && not.contains(&used.as_str()));
            if narrower || !uses.contains(&used.as_str()) {
                faults.push(format!("{name}:{line}: `{module}` must not use `{used}`"));
            }
        }
        let full = path.join("::");
        let is_impure = |banned: &&&str| full == **banned || full.starts_with(&format!("{banned}::"));
        if is_pure && IMPURE.iter().any(|banned| is_impure(&banned)) {
            faults.push(format!("{name}:{line}: `{module}` is pure, but names `{full}`"));
        }
    }
    if is_pure {
        for (line, method) in method_calls(file_tokens(text)) {
            if IMPURE_METHODS.contains(&method.as_str()) {
                faults.push(format!("{name}:{line}: `{module}` is pure, but calls `{method}`"));
            }
        }
    }
    faults
}

/// `store/op/mod.rs` ─► `["store", "op"]`.
fn module_path(name: &str) -> Vec<String> {
    let mut path: Vec<String> = name.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if matches!(path.last().map(String::as_str), Some("mod" | "lib")) {
        path.pop();
    }
    path
}

/// Collects every path of a file, made absolute: `crate::…` for our own, else from the name of the crate.
struct PathReader {
    module_path: Vec<String>,
    /// What the names that `use` brought in stand for.
    aliases: BTreeMap<String, Vec<String>>,
    /// Inline modules around what is read.
    depth: usize,
    paths: Vec<(usize, Vec<String>)>,
    faults: Vec<(usize, String)>,
}

impl PathReader {
    fn absolute(&self, path: &[String], depth: usize) -> Vec<String> {
        let mut base = vec!["crate".to_owned()];
        base.extend(self.module_path.iter().cloned());
        base.extend((0..depth).map(|_| "(inline)".to_owned()));
        let mut rest = path;
        match path.first().map(String::as_str) {
            Some("crate") => return path.to_vec(),
            Some("self") => rest = &path[1..],
            Some("super") => {
                while let [first, more @ ..] = rest
                    && first == "super"
                {
                    if base.len() > 1 {
                        base.pop();
                    }
                    rest = more;
                }
            }
            Some(first) => match self.aliases.get(first) {
                Some(found) => return found.iter().chain(&path[1..]).cloned().collect(),
                None => return path.to_vec(),
            },
            None => return Vec::new(),
        }
        base.extend(rest.iter().cloned());
        base
    }

    fn read_use(&mut self, prefix: &[String], tree: &UseTree, line: usize) {
        let mut path = prefix.to_vec();
        match tree {
            UseTree::Path(step) => {
                path.push(plain(&step.ident));
                self.read_use(&path, &step.tree, line);
            }
            UseTree::Group(group) => {
                group.items.iter().for_each(|item| self.read_use(prefix, item, item.span().start().line));
            }
            UseTree::Name(name) => self.record_use(path, &plain(&name.ident), &plain(&name.ident), line),
            UseTree::Rename(rename) => self.record_use(path, &plain(&rename.ident), &plain(&rename.rename), line),
            UseTree::Glob(_) => {
                if path.len() == 1 && ["std", "crate", "core"].contains(&path[0].as_str()) {
                    self.faults.push((line, format!("names everything in `{}`", path[0])));
                }
                self.check_supers(&path, line);
                let path = self.absolute(&path, self.depth);
                self.paths.push((line, path));
            }
        }
    }

    fn record_use(&mut self, mut path: Vec<String>, name: &str, alias: &str, line: usize) {
        let mut alias = alias.to_owned();
        if name == "self" {
            if alias == "self" {
                alias = path.last().cloned().unwrap_or_default();
            }
        } else {
            path.push(name.to_owned());
        }
        self.check_supers(&path, line);
        let path = self.absolute(&path, self.depth);
        // A crate's own name needs no entry; one for it would never end.
        if path.as_slice() != [alias.clone()] {
            self.aliases.insert(alias, path.clone());
        }
        self.paths.push((line, path));
    }

    fn check_supers(&mut self, path: &[String], line: usize) {
        let supers = path.iter().take_while(|step| *step == "super").count();
        if supers > 1 + self.depth {
            self.faults.push((line, "write `crate::`, not `super::super::`".to_owned()));
        }
    }

    /// Every `a::b::c` in the tokens, macros included. How deep it lies in inline modules is not known here: `super` is
    /// read from both levels that it can mean.
    fn read_tokens(&mut self, tokens: Vec<(usize, String)>) {
        let mut at = 0;
        while at < tokens.len() {
            let (line, first) = &tokens[at];
            let mut path = vec![first.clone()];
            let mut next = at + 1;
            while next + 1 < tokens.len() && tokens[next].1 == "::" && is_name(&tokens[next + 1].1) {
                path.push(tokens[next + 1].1.clone());
                next += 2;
            }
            if is_name(first) && path.len() > 1 && (at == 0 || tokens[at - 1].1 != "::") {
                let full = self.absolute(&path, 0);
                self.paths.push((*line, full));
            }
            at = next;
        }
    }
}

impl<'ast> Visit<'ast> for PathReader {
    fn visit_item(&mut self, item: &'ast Item) {
        match item {
            Item::Use(found) => self.read_use(&[], &found.tree, found.span().start().line),
            Item::Mod(found) if found.content.is_some() => {
                self.depth += 1;
                syn::visit::visit_item_mod(self, found);
                self.depth -= 1;
                return;
            }
            Item::Mod(found) if found.attrs.iter().any(|attribute| attribute.path().is_ident("path")) => {
                self.faults.push((found.span().start().line, "`#[path]` hides where a module lies".to_owned()));
            }
            Item::ExternCrate(found) => {
                self.faults.push((found.span().start().line, "`extern crate` hides what is used".to_owned()));
            }
            Item::Macro(found) if found.mac.path.is_ident("include") => {
                self.faults.push((found.span().start().line, "`include!` hides what is used".to_owned()));
            }
            _ => (),
        }
        syn::visit::visit_item(self, item);
    }
}

/// The name without `r#`.
fn plain(name: &proc_macro2::Ident) -> String {
    let text = name.to_string();
    text.strip_prefix("r#").map_or(text.clone(), str::to_owned)
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Identifiers, `::`, `.` and all else as `?`, with their lines; groups are opened.
fn file_tokens(text: &str) -> Vec<(usize, String)> {
    let mut tokens = Vec::new();
    flatten(text.parse().expect("a file that the compiler takes"), &mut tokens);
    tokens
}

fn flatten(stream: TokenStream, tokens: &mut Vec<(usize, String)>) {
    let mut colon = false;
    for token in stream {
        let line = token.span().start().line;
        let was_colon = std::mem::take(&mut colon);
        match token {
            TokenTree::Group(group) => {
                tokens.push((line, "?".to_owned()));
                flatten(group.stream(), tokens);
                tokens.push((line, "?".to_owned()));
            }
            TokenTree::Ident(name) => tokens.push((line, plain(&name))),
            TokenTree::Punct(mark) if mark.as_char() == ':' && was_colon => tokens.push((line, "::".to_owned())),
            TokenTree::Punct(mark) if mark.as_char() == ':' && mark.spacing() == proc_macro2::Spacing::Joint => {
                colon = true;
            }
            TokenTree::Punct(mark) if mark.as_char() == '.' => tokens.push((line, ".".to_owned())),
            _ => tokens.push((line, "?".to_owned())),
        }
    }
}

fn method_calls(tokens: Vec<(usize, String)>) -> Vec<(usize, String)> {
    tokens.windows(2).filter(|pair| pair[0].1 == ".").map(|pair| pair[1].clone()).collect()
}

#[test]
fn the_tree_of_architecture_md_is_there() {
    let page = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("the page");
    let (_, after) = page.split_once("\n## 2. The tree\n").expect("a section about the tree");
    let block = after.split("```").nth(1).expect("a block in it");
    let mut folders: Vec<(usize, PathBuf)> = Vec::new();
    let mut named = BTreeSet::new();
    let mut faults = Vec::new();
    for line in block.lines() {
        let indent = line.len() - line.trim_start().len();
        let words = line.trim_start().split("  ").next().unwrap_or_default();
        let names: Vec<&str> =
            words.split_whitespace().filter(|word| word.ends_with('/') || word.contains(".rs")).collect();
        if names.is_empty() {
            continue;
        }
        folders.retain(|(depth, _)| *depth < indent);
        let parent = folders.last().map_or_else(root, |(_, path)| path.clone());
        for name in names {
            let path = parent.join(name);
            if !path.exists() {
                faults.push(format!(
                    "ARCHITECTURE.md, section 2: there is no {}",
                    path.strip_prefix(root()).expect("below").display()
                ));
            }
            named.insert(path.clone());
            if name.ends_with('/') {
                folders.push((indent, path));
            }
        }
    }
    for (module, ..) in MAP.iter().filter(|(module, ..)| !named.contains(&src().join(format!("{module}/")))) {
        faults.push(format!("ARCHITECTURE.md, section 2: the tree leaves out src/{module}/"));
    }
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("a manifest");
    let (_, release) = manifest.split_once("[profile.release]\n").expect("a release profile");
    for option in release.lines().take_while(|line| !line.is_empty()) {
        if !page.contains(&format!("`{option}`")) {
            faults.push(format!("ARCHITECTURE.md, section 3: the release profile has `{option}`"));
        }
    }
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn src() -> PathBuf {
    root().join("src")
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}
