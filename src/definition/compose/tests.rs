//! Compose files from end to end: texts in, target blocks or faults out.

use std::{collections::BTreeMap, sync::Arc};

use super::*;
use crate::{
    definition::{
        read::{ComposeFileReader, ReadReason},
        syntax::{Expr, ExprKind},
        yaml,
    },
    report::{Diagnostic, SourceId, SourceMap},
};

/// Files that exist, by path.
struct Disk {
    files: BTreeMap<String, String>,
    sources: SourceMap,
}

impl ComposeFileReader for Disk {
    fn read(&mut self, path: &str, _: ReadReason<'_>) -> Result<Option<(SourceId, Arc<str>)>, Box<Diagnostic>> {
        let Some(text) = self.files.get(path) else { return Ok(None) };
        let text: Arc<str> = text.as_str().into();
        Ok(Some((self.sources.add(path, text.clone()), text)))
    }
}

struct Outcome {
    blocks: Vec<String>,
    secret_env: BTreeMap<String, String>,
    faults: Vec<String>,
}

/// Loads `main` (and `over`, if it is there) of `files`, with `X=x` in the environment.
fn run(files: &[(&str, &str)]) -> Outcome {
    let files = files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
    let mut disk = Disk { files, sources: SourceMap::default() };
    let mut asked = Vec::new();
    for name in ["main", "over"] {
        let Some((source, text)) = disk.read(name, ReadReason::Dotenv(&[])).unwrap() else { continue };
        match yaml::parse(source, &text) {
            Ok(documents) => asked.push(ComposeFile { name: name.to_owned(), source, documents }),
            Err(fault) => panic!("{fault:?}"),
        }
    }
    let env = BTreeMap::from([("X".to_owned(), "x".to_owned()), ("HOME".to_owned(), "/home/me".to_owned())]);
    let LoadedCompose { body, diagnostics: faults, secret_env, .. } = load(&asked, &env, &BTreeMap::new(), &mut disk);
    let shown = |block: &crate::definition::syntax::Block| {
        let attributes = block.body.attributes.iter().map(|it| format!("{}={}", it.name.value, expr(&it.expr)));
        format!("{} {}: {}", block.kind.value, block.labels[0].value, attributes.collect::<Vec<_>>().join(" "))
    };
    Outcome {
        blocks: body.iter().flat_map(|body| &body.blocks).map(shown).collect(),
        secret_env,
        faults: faults.iter().map(|it| format!("{} {}", disk.sources.place(it.labels[0].at), it.message)).collect(),
    }
}

fn expr(value: &Expr) -> String {
    let list = |items: Vec<String>| items.join(",");
    match &value.kind {
        ExprKind::String(text) => format!("{text:?}"),
        ExprKind::Bool(value) => value.to_string(),
        ExprKind::Tuple(items) => format!("[{}]", list(items.iter().map(expr).collect())),
        ExprKind::Object(items) => {
            format!("{{{}}}", list(items.iter().map(|(key, value)| format!("{}:{}", expr(key), expr(value))).collect()))
        }
        other => format!("{other:?}"),
    }
}

#[track_caller]
fn check(files: &[(&str, &str)], expected: &[&str]) {
    let outcome = run(files);
    assert_eq!(outcome.faults, Vec::<String>::new());
    let targets: Vec<&String> = outcome.blocks.iter().filter(|block| block.starts_with("target")).collect();
    assert_eq!(targets, expected);
}

#[track_caller]
fn fails(files: &[(&str, &str)], expected: &[&str]) {
    assert_eq!(run(files).faults, expected);
}

#[test]
fn services_become_targets_and_a_group() {
    let outcome = run(&[("main", "services:\n  a.b: {build: ./x, image: 'i:1'}\n  db: {image: y}\n")]);
    assert_eq!(outcome.blocks, ["target a_b: context=\"x\" tags=[\"i:1\"]", "group default: targets=[\"a_b\"]"]);
}

#[test]
fn later_files_merge_onto_earlier_ones() {
    check(
        &[
            (
                "main",
                "services:\n  w:\n    build:\n      context: .\n      args: {A: 1, B: 2}\n      tags: [t]\n      extra_hosts: ['h=1', 'h=2']\n",
            ),
            (
                "over",
                "services:\n  w:\n    build:\n      args: [B=3, X]\n      tags: [t, u]\n      extra_hosts: {h: '2', i: '::1'}\n",
            ),
        ],
        &[concat!(
            "target w: context=\".\" args={\"A\":\"1\",\"B\":\"3\",\"X\":\"x\"} ",
            "extra-hosts={\"h\":\"1,2\",\"i\":\"::1\"} tags=[\"t\",\"u\"]",
        )],
    );
}

#[test]
fn reset_and_override_work_on_what_lies_below() {
    let base = "services:\n  w:\n    build: {context: a, target: t, args: {A: '1', B: '2'}}\n";
    check(
        &[("main", base), ("over", "services:\n  w:\n    build: {target: !reset null, args: !override {C: '3'}}\n")],
        &["target w: context=\"a\" args={\"C\":\"3\"}"],
    );
    check(
        &[("main", base), ("over", "services:\n  w:\n    build: {args: {A: !reset null}}\n")],
        &["target w: context=\"a\" target=\"t\" args={\"B\":\"2\"}"],
    );
    check(&[("main", base), ("over", "services: {w: !reset null, v: {build: v}}\n")], &["target v: context=\"v\""]);
    check(
        &[
            ("main", base),
            (
                "over",
                "services:\n  v: {extends: {service: u}, build: {args: !override {C: '3'}}}\n  u: {build: {context: u, args: {A: '9'}}}\n",
            ),
        ],
        &[
            "target w: context=\"a\" target=\"t\" args={\"A\":\"1\",\"B\":\"2\"}",
            "target v: context=\"u\" args={\"C\":\"3\"}",
            "target u: context=\"u\" args={\"A\":\"9\"}",
        ],
    );
}

#[test]
fn services_extend_others_here_and_elsewhere() {
    check(
        &[
            ("main", "services:\n  w: {extends: {file: sub/c.yml, service: mid}, build: {target: rel}}\n"),
            (
                "sub/c.yml",
                "services:\n  mid: {extends: low}\n  low: {extends: {file: d.yml, service: d}, build: {args: {A: $X}}}\n",
            ),
            ("sub/d.yml", "services:\n  d: {build: ./d}\n"),
        ],
        &["target w: context=\"sub/d\" target=\"rel\" args={\"A\":\"x\"}"],
    );
    fails(
        &[("main", "services:\n  x: {extends: {service: y}, build: .}\n  y: {extends: {service: x}, build: .}\n")],
        &["main:2 services extend one another in a circle: main:x -> main:y -> main:x"],
    );
    fails(
        &[("main", "services:\n  w:\n    extends:\n      service: ghost\n    build: .\n")],
        &["main:4 service `w` extends a service that is not there: ghost"],
    );
}

#[test]
fn files_include_others_with_their_own_folder_and_variables() {
    check(
        &[
            ("main", "include: [sub/i.yml]\nservices:\n  w: {build: .}\n  j: {build: {target: t}}\n"),
            ("sub/i.yml", "services:\n  i: {build: './${V}'}\n  j: {extends: i, build: {args: {A: '1'}}}\n"),
            ("sub/.env", "V=v\n"),
        ],
        &[
            "target i: context=\"sub/v\"",
            "target j: context=\"sub/v\" target=\"t\" args={\"A\":\"1\"}",
            "target w: context=\".\"",
        ],
    );
    let circle =
        run(&[("main", "include: [a]\nservices: {w: {build: .}}\n"), ("a", "include: [b]\n"), ("b", "include: [a]\n")]);
    assert_eq!(circle.faults, ["b:1 files include one another in a circle: a -> b -> a"]);
    fails(&[("main", "include: [no.yml]\nservices: {w: {build: .}}\n")], &["main:1 a file does not exist: no.yml"]);
}

#[test]
fn a_build_without_context_has_the_folder_of_its_included_file() {
    check(
        &[
            (
                "main",
                concat!(
                    "include:\n  - sub/c.yml\n  - path: [l/a.yml, l/b.yml]\n  - {path: p/c.yml, project_directory: q}\n",
                    "services:\n  w: {build: {target: t}}\n  c: {build: {target: t}}\n",
                ),
            ),
            (
                "sub/c.yml",
                "include: [deep/d.yml, ../up.yml]\nservices: {c: {build: {dockerfile: D}}, d: {build: {target: u}}}\n",
            ),
            ("sub/deep/d.yml", "services: {d: {build: {context: }}}\n"),
            ("up.yml", "services: {up: {build: {target: u}}}\n"),
            ("l/a.yml", "services: {l: {build: {context: own}}, m: {build: {target: m}}}\n"),
            ("l/b.yml", "services: {l: {build: {target: over}}}\n"),
            ("p/c.yml", "services: {p: {build: {target: p}}, i: {image: i}}\n"),
        ],
        &[
            "target p: context=\"q\" target=\"p\"",
            "target l: context=\"l/own\" target=\"over\"",
            "target m: context=\"l\" target=\"m\"",
            "target up: context=\".\" target=\"u\"",
            "target d: context=\"sub/deep\" target=\"u\"",
            "target c: context=\"sub\" dockerfile=\"D\" target=\"t\"",
            "target w: target=\"t\"",
        ],
    );
}

#[test]
fn a_broken_link_between_files_is_told_alone() {
    let rest = "  v: {}\n  u: {image: $NONE, build: {contxt: 1}}\n";
    let with = |service: &str| format!("services:\n  w: {service}\n{rest}");
    for (text, expected) in [
        (with("{extends: {service: no}}"), "main:2 service `w` extends a service that is not there: no"),
        (with("{extends: {file: no.yml, service: x}}"), "main:2 a file does not exist: no.yml"),
        (
            with("{extends: {file: bad.yml, service: x}}"),
            "bad.yml:1 invalid YAML: while parsing a flow mapping, did not find expected ',' or '}'",
        ),
        (with("{extends: {other: x}}"), "main:2 `extends` of service `w` names no service"),
        (format!("include: [no.yml]\n{}", with("{}")), "main:1 a file does not exist: no.yml"),
        (format!("include: no.yml\n{}", with("{}")), "main:1 `include` must be a list, got a string"),
    ] {
        fails(&[("main", &text), ("bad.yml", "{a")], &[expected]);
    }
}

#[test]
fn unset_variables_count_where_a_build_uses_them() {
    let outcome = run(&[
        (
            "main",
            concat!(
                "services:\n  db: {image: 'db:$A', environment: {P: $B}, env_file: []}\n",
                "  w:\n    image: 'i:$C'\n    environment: [\"D=$D\", \"E=$E\"]\n",
                "    build: {context: '$F', args: {E: , G: '${F}${G}', H: '${H:-}'}, secrets: [s], tags: [t], pull: false}\n",
                "  v: {image: 'i:$I', build: {context: v, args: {J: '$J'}}}\n",
                "secrets: {s: {file: $K}, t: {file: $L}}\n",
            ),
        ),
        ("over", "services:\n  v: {build: {args: {J: 'set'}}}\n"),
    ]);
    let unset = outcome.faults.iter().map(|fault| fault.trim_start_matches("main:"));
    let message = "a variable is not set and stands for nothing:";
    assert_eq!(
        unset.collect::<Vec<_>>(),
        ["F", "G", "E", "K", "I"].map(|name| {
            let line = match name {
                "E" => 5,
                "K" => 8,
                "I" => 7,
                _ => 6,
            };
            format!("{line} {message} {name}")
        })
    );
}

#[test]
fn variables_of_secrets_come_from_dotenv_too() {
    let outcome = run(&[
        (
            "main",
            "include: [i/i.yml]\nservices: {w: {build: {secrets: [a, b, c]}}}\nsecrets: {a: {environment: BAR}, b: {environment: X}, c: {environment: NO}}\n",
        ),
        ("i/i.yml", "secrets: {d: {environment: INNER}, e: {environment: BAR}}\n"),
        ("i/.env", "INNER=1\nBAR=2\n"),
        (".env", "BAR=success\nX=other\nUNUSED=1\n"),
    ]);
    assert_eq!(outcome.faults, Vec::<String>::new());
    let expected = [("BAR", "success"), ("INNER", "1"), ("X", "x")];
    assert_eq!(outcome.secret_env, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    check(
        &[("main", "services: {w: {build: ., pre_start: [], post_start: [], pre_stop: []}}\n")],
        &["target w: context=\".\""],
    );
}

#[test]
fn everything_of_a_build_is_mapped() {
    check(
        &[(
            "main",
            concat!(
                "services:\n  w:\n    build:\n      dockerfile_inline: FROM a\n      labels: [a=1, b]\n      no_cache: Yes\n      pull: false\n",
                "      shm_size: 64m\n      ulimits: {nproc: 5, nofile: {soft: 1, hard: 2}}\n      sbom: true\n      provenance: mode=max\n",
                "      secrets: [s, {source: t, target: x}]\n      ssh: [default, k=~/k]\n      cache_from: [c]\n",
                "      additional_contexts: [b=service:v.1, d=./d]\n",
                "      x-bake: {tags: a b, contexts: {d: e, f: g}, output: [type=docker], pull: false, ssh: a=p}\n",
                "  v.1: {build: v}\nsecrets:\n  s: {file: ./f}\n  t: {environment: E}\n",
            ),
        )],
        &[
            concat!(
                "target w: dockerfile-inline=\"FROM a\" labels={\"a\":\"1\",\"b\":\"\"} ulimits=[\"nofile=1:2\",\"nproc=5:5\"] shm-size=\"64MiB\" ",
                "attest=[\"type=sbom,disabled=false\",\"type=provenance,mode=max\"] ",
                "contexts={\"b\":\"target:v_1\",\"d\":\"d\",\"f\":\"g\"} tags=[\"a\",\"b\"] cache-from=[\"c\"] output=[\"type=docker\"] ",
                "secret=[{\"id\":\"s\",\"src\":\"f\"},{\"id\":\"t\",\"env\":\"E\"}] ",
                "ssh=[{\"id\":\"a\",\"paths\":[\"p\"]},{\"id\":\"default\"},{\"id\":\"k\",\"paths\":[\"/home/me/k\"]}] no-cache=true pull=false",
            ),
            "target v_1: context=\"v\"",
        ],
    );
}

#[test]
fn faults_name_the_service_the_key_and_the_line() {
    for (text, expected) in [
        ("services:\n  w:\n    build: {contxt: .}\n", "main:3 `build` of service `w` has no such key: contxt"),
        (
            "services:\n  w:\n    build: {args: 7}\n",
            "main:3 `args` of service `w` must be a mapping or a list, got a number",
        ),
        (
            "services:\n  w:\n    build: {target: 1.10}\n",
            "main:3 `target` of service `w` must be a string, got a number",
        ),
        (
            "services:\n  w:\n    build: [a]\n",
            "main:3 `build` of service `w` must be a string or a mapping, got a list",
        ),
        ("services:\n  w: {}\n", "main:2 service `w` has neither an image nor a build"),
        ("services:\n  - a\n", "main:2 `services` must be a mapping, got a list"),
        ("services:\n  w: {build: {secrets: [s]}}\n", "main:2 service `w` needs a secret that is not there: s"),
        (
            "services:\n  w: {build: {secrets: [s]}}\nsecrets: {s: {external: true}}\n",
            "main:3 an external secret cannot be used in a build: s",
        ),
        ("services:\n  w: {image: 'a:${T:?set it}', build: .}\n", "main:2 variable `T` is required: set it"),
        ("services:\n  w: {build: {context: '${A'}}\n", "main:2 an interpolation that cannot be read: ${A"),
        ("services:\n  w: {env_file: no.env, build: {args: [A]}}\n", "main:2 a file does not exist: no.env"),
        ("services:\n  'w!': {build: .}\n", "main:2 not a name for a service that is built: w!"),
        (
            "services:\n  w: {build: {additional_contexts: {a: 'service:no'}}}\n",
            "main:2 context `a` of service `w` is a service that is not there: no",
        ),
        (
            "services:\n  w: {build: {additional_contexts: [a]}}\n",
            "main:2 an entry of `additional_contexts` of service `w` is not `name=context`: a",
        ),
        ("services:\n  w: {colour: red, build: .}\n", "main:2 a key that is not known in service `w`: colour"),
        ("services:\n  w: {build: {x-bake: {tagz: [a]}}}\n", "main:2 `x-bake` of service `w` has no such key: tagz"),
        ("- a\n", "main:1 a Compose file is a mapping, got a list"),
        ("name: x\n", "main:1 a Compose file has no services: main"),
    ] {
        let faults = run(&[("main", text)]).faults;
        assert!(faults.iter().any(|fault| fault == expected), "{text}\nwanted {expected}\ngot {faults:?}");
    }
}

#[test]
fn no_change_of_a_file_makes_it_panic() {
    let good = concat!(
        "include: [{path: i.yml}]\nx-a: &a {b: [1, ~, \"ä${X:-y}\"]}\nservices:\n  w: {<<: *a, image: 'i:$X', extends: {service: v}}\n",
        "  v:\n    env_file: e\n    build: !override\n      args: [A=1, B]\n      ulimits: {n: {soft: 1, hard: 0x2}}\n      ssh: [default]\n",
        "      extra_hosts: {h: [\"[::1]\"]}\n      shm_size: 1.5g\n      dockerfile_inline: |-\n        FROM a\n      x-bake: {tags: a}\n---\nsecrets: {s: !reset null}\n",
    );
    let characters: Vec<char> = good.chars().collect();
    let mut state = 1u64;
    let mut random = |n: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % n
    };
    let pool: Vec<char> = "{}[]:,&*!|>-#'\"%@`\n \t?~$<=0aé\u{0}\u{feff}".chars().collect();
    for _ in 0..1000 {
        let mut text = characters.clone();
        for _ in 0..=random(4) {
            let at = random(text.len());
            match random(3) {
                0 => text[at] = pool[random(pool.len())],
                1 => text.insert(at, pool[random(pool.len())]),
                _ => {
                    let end = (at + 1 + random(20)).min(text.len());
                    text.drain(at..end);
                }
            }
        }
        let text: String = text.into_iter().collect();
        let mut sources = SourceMap::default();
        let source = sources.add("f", text.as_str());
        if let Ok(documents) = yaml::parse(source, &text) {
            documents.iter().for_each(|it| drop(yaml::body(source, &text, it)));
            let files = BTreeMap::from([("i.yml".to_owned(), text.clone()), ("e".to_owned(), text.clone())]);
            let mut disk = Disk { files, sources };
            drop(load(
                &[ComposeFile { name: "f".to_owned(), source, documents }],
                &BTreeMap::new(),
                &BTreeMap::new(),
                &mut disk,
            ));
        }
    }
}
