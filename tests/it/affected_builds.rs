//! `bake affected` leaves out no target that a build runs again: random changes of a small monorepo, each held against real
//! builds of the states before and after.
//!
//! `BAKE_TEST_ROUNDS` is the number of changes that are tried, `BAKE_TEST_SEED` chooses which.
#![expect(clippy::print_stderr, reason = "how much was tried is told")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::{
    affected::affected,
    support::{Bake, commit, git},
};

/// Numbers that are the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // The low bits of such a sequence repeat.
        usize::try_from(self.0 >> 33).expect("31 bits") % n
    }

    fn one<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

/// What a service may read. `S` is its folder; contexts are the folder itself or the top.
const OWN: [&str; 10] = [
    "COPY . /own/",
    "COPY src /src/",
    "COPY *.txt /texts/",
    "COPY --exclude=**/*.md . /no-md/",
    "COPY --parents */*.txt /parents/",
    "COPY lin[k] /linked/",
    "COPY link* /linked/",
    "COPY src/../src/a.txt /a",
    "ADD src/a.txt src/b.md /added/",
    "COPY --parents ./src/./*.md /pivot/",
];

const SHARED: [&str; 5] = [
    "COPY --from=lib . /lib/",
    "COPY --from=lib /c.txt /lib-c",
    "COPY --from=lib --exclude=*.md src /lib-src/",
    "COPY --from=base /own /of-base/",
    "COPY --from=lib src/* /lib-any/",
];

const SERVICES: [&str; 6] = ["s0", "s1", "s2", "s3", "s4", "s5"];
const NAMES: [&str; 7] = ["a.txt", "b.md", "c.txt", "d", "src/a.txt", "src/b.md", "src/deep/c.txt"];
const FOLDERS: [&str; 8] = ["s0", "s1", "s2", "s3", "s4", "s5", "lib", "elsewhere"];

struct Monorepo {
    bake: Bake,
    dice: Dice,
    version: usize,
    /// The value of an argument of each service, and of the variable that all have.
    args: Vec<usize>,
}

impl Monorepo {
    fn new(seed: u64) -> Self {
        let mut repo = Self { bake: Bake::new(), dice: Dice(seed), version: 0, args: vec![0; SERVICES.len() + 2] };
        for folder in FOLDERS {
            for name in NAMES {
                repo.bake.write(&format!("r/{folder}/{name}"), &format!("{folder} {name}\n"));
            }
            symlink("src", repo.path(&format!("{folder}/link"))).expect("links can be made");
        }
        symlink("lib", repo.path("liblink")).expect("links can be made");
        repo.bake.write("r/.dockerignore", ".git\n");
        repo.bake.write("r/version.txt", "0\n");
        for n in 0..SERVICES.len() {
            repo.dockerfile(n);
        }
        repo.definition();
        fs::create_dir_all(repo.bake.path("out")).expect("writable");
        git(&repo.bake, "r", &["init", "-q", "-b", "main"]);
        commit(&repo.bake, "r");
        repo
    }

    fn path(&self, name: &str) -> PathBuf {
        self.bake.path("r").join(name)
    }

    /// Services of even numbers have their folder as context, the others the top.
    fn dockerfile(&mut self, n: usize) {
        let mut text = "FROM scratch AS one\nARG A\n".to_owned();
        let prefix = |line: &str| match n % 2 {
            0 => line.to_owned(),
            _ => line.split(' ').map(|word| of_service(word, SERVICES[n])).collect::<Vec<_>>().join(" "),
        };
        for _ in 0..=self.dice.below(2) {
            let line = *self.dice.one(&OWN);
            writeln!(text, "{}", prefix(line)).expect("a string takes any text");
        }
        if n == 0 {
            text.push_str("COPY . /own/\n");
        } else if self.dice.below(2) == 0 {
            writeln!(text, "{}", self.dice.one(&SHARED)).expect("a string takes any text");
        }
        match self.dice.below(3) {
            0 => text.push_str("FROM scratch\nCOPY --from=one / /\n"),
            1 => text.push_str("LABEL a=$A\n"),
            _ => (),
        }
        let path = self.path(&format!("{}/Dockerfile", SERVICES[n]));
        fs::remove_file(&path).ok();
        if self.dice.below(5) == 0 {
            self.bake.write(&format!("r/elsewhere/Dockerfile.{n}"), &text);
            symlink(format!("../elsewhere/Dockerfile.{n}"), &path).expect("links can be made");
        } else {
            fs::write(&path, &text).expect("files can be written");
        }
    }

    fn definition(&self) {
        let mut text = "variable \"ALL\" {\n  default = \"0\"\n}\ninclude {\n  file = \"common.hcl\"\n}\n".to_owned();
        let services = SERVICES.map(|name| format!("\"{name}\"")).join(", ");
        writeln!(text, "group \"default\" {{\n  targets = [{services}]\n}}").expect("a string takes any text");
        for (n, name) in SERVICES.iter().enumerate() {
            let context = if n % 2 == 0 {
                format!("context = \"{name}\"")
            } else {
                format!("dockerfile = \"{name}/Dockerfile\"")
            };
            let base = if n == 0 { "" } else { ", base = \"target:s0\"" };
            let version = if n == 2 { ", VERSION = file(\"version.txt\")" } else { "" };
            writeln!(
                text,
                "target \"{name}\" {{\n  inherits = [\"_common\"]\n  {context}\n  contexts = {{ lib = \"liblink\"{base} }}\n  \
                 args = {{ A = \"{}-${{ALL}}\"{version} }}\n  output = [\"type=oci,dest=../out/{name}.tar\"]\n}}",
                self.args[n]
            )
            .expect("a string takes any text");
        }
        let text = text.replace("default = \"0\"", &format!("default = \"{}\"", self.args[SERVICES.len()]));
        self.bake.write("r/docker-bake.hcl", &text);
        let label = self.args[SERVICES.len() + 1];
        self.bake.write("r/common.hcl", &format!("target \"_common\" {{\n  labels = {{ l = \"{label}\" }}\n}}\n"));
    }

    /// Makes a random change; returns what it is.
    fn change(&mut self) -> String {
        self.version += 1;
        let version = self.version;
        let folder = *self.dice.one(&FOLDERS);
        let name = *self.dice.one(&NAMES);
        let file = format!("{folder}/{name}");
        let path = self.path(&file);
        match self.dice.below(18) {
            0..=3 => {
                self.put(&path, &format!("{version}\n"));
                format!("content of {file}")
            }
            4 => {
                let new = self.path(&format!("{folder}/src/new{version}.txt"));
                self.put(&new, "new\n");
                format!("{} is new", new.display())
            }
            5 => match fs::metadata(&path) {
                Ok(meta) if meta.is_file() => {
                    let mode = if meta.permissions().mode() & 0o111 == 0 { 0o755 } else { 0o644 };
                    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("it is ours");
                    format!("mode of {file}")
                }
                _ => "no file to change the mode of".to_owned(),
            },
            6 => {
                let (folder, name) = (*self.dice.one(&FOLDERS), *self.dice.one(&NAMES));
                let other = self.path(&format!("{folder}/{name}"));
                if path.symlink_metadata().is_ok_and(|meta| meta.is_file())
                    && !other.is_dir()
                    && other.parent().is_some_and(Path::is_dir)
                {
                    fs::rename(&path, &other).expect("both are ours");
                }
                format!("{file} is now {}", other.display())
            }
            7 => {
                let target = *self.dice.one(&["src", "a.txt", "src/deep", "../lib/a.txt", "nowhere", "/src", "d"]);
                let link = self.path(&format!("{folder}/link"));
                fs::remove_file(&link).ok();
                symlink(target, &link).expect("links can be made");
                format!("{folder}/link leads to {target}")
            }
            8 => {
                fs::remove_file(&path).ok();
                format!("{file} is removed")
            }
            kind @ (9..=14 | 16 | 17) => self.change_of_builds(kind, version, folder),
            _ => {
                // A file becomes a folder, or the other way round.
                if path.is_dir() {
                    fs::remove_dir_all(&path).expect("it is ours");
                    self.put(&path, "was a folder\n");
                } else if path.symlink_metadata().is_ok() {
                    fs::remove_file(&path).expect("it is ours");
                    self.put(&path.join("inside"), "was a file\n");
                }
                format!("{file} is the other kind")
            }
        }
    }

    /// Changes what builds are made of: ignore files, Dockerfiles, the definition and what it reads.
    fn change_of_builds(&mut self, kind: usize, version: usize, folder: &str) -> String {
        match kind {
            9 => {
                let pattern = *self.dice.one(&[
                    "**/*.md",
                    "src/b.md",
                    "link",
                    "**/deep",
                    "!src/deep/c.txt",
                    "s1/src",
                    "*.txt",
                    "d",
                ]);
                let place = if self.dice.below(2) == 0 {
                    ".dockerignore".to_owned()
                } else {
                    format!("{folder}/.dockerignore")
                };
                let before = fs::read_to_string(self.path(&place)).unwrap_or_default();
                self.bake.write(&format!("r/{place}"), &format!("{before}{pattern}\n"));
                format!("{place} has {pattern}")
            }
            10 => {
                fs::remove_file(self.path(&format!("{folder}/.dockerignore"))).ok();
                self.bake.write("r/.dockerignore", ".git\n");
                format!("ignore files of the top and of {folder} are reset")
            }
            11 => {
                let n = self.dice.below(SERVICES.len());
                self.dockerfile(n);
                format!("{}/Dockerfile", SERVICES[n])
            }
            12 | 13 => {
                let n = self.dice.below(self.args.len());
                self.args[n] = version;
                self.definition();
                format!("argument {n}")
            }
            16 => {
                let n = self.dice.below(SERVICES.len());
                let dockerfile = self.path(&format!("{}/Dockerfile", SERVICES[n]));
                let text = fs::read_to_string(&dockerfile).expect("it is always there");
                fs::write(&dockerfile, format!("{text}# {version}\nENV V={version}\n")).expect("it is ours");
                format!("{}/Dockerfile has more", SERVICES[n])
            }
            17 => {
                let target = *self.dice.one(&["lib", "elsewhere", "./lib"]);
                fs::remove_file(self.path("liblink")).expect("it is always there");
                symlink(target, self.path("liblink")).expect("links can be made");
                format!("liblink leads to {target}")
            }
            _ => {
                self.bake.write("r/version.txt", &format!("{version}\n"));
                "version.txt".to_owned()
            }
        }
    }

    /// Writes a file where nothing else stands.
    fn put(&self, path: &Path, text: &str) {
        let parent = path.parent().expect("a file has a parent");
        if parent.ancestors().take_while(|it| it.starts_with(self.bake.dir.path())).any(Path::is_file) || path.is_dir()
        {
            return;
        }
        fs::create_dir_all(parent).expect("folders can be made");
        fs::write(path, text).expect("files can be written");
    }

    /// The digest of the image of each service, as a build makes it; none for those that fail.
    fn build(&self) -> BTreeMap<&'static str, String> {
        let env = [("SOURCE_DATE_EPOCH", "0"), ("BUILDX_NO_DEFAULT_ATTESTATIONS", "1")];
        let args = ["--allow=fs.write=../out", "--progress=quiet", "--metadata-file=../out/metadata.json"];
        let digests = |names: &[&'static str]| -> Option<BTreeMap<&'static str, String>> {
            fs::remove_file(self.bake.path("out/metadata.json")).ok();
            let ran = self.bake.run_with("r", &[&args[..], names].concat(), &env);
            if ran.code != Some(0) {
                return None;
            }
            let metadata: Value = serde_json::from_str(&self.bake.read("out/metadata.json")).expect("JSON");
            let digest = |name: &&'static str| {
                let digest = metadata[*name]["containerimage.digest"].as_str().expect("a digest");
                (*name, digest.to_owned())
            };
            Some(names.iter().map(digest).collect())
        };
        digests(&SERVICES).unwrap_or_else(|| SERVICES.iter().filter_map(|name| digests(&[name])).flatten().collect())
    }

    /// The services of which a build would run a step.
    fn would_run(&self) -> BTreeSet<String> {
        let env = [("SOURCE_DATE_EPOCH", "0"), ("BUILDX_NO_DEFAULT_ATTESTATIONS", "1")];
        let mut found = BTreeSet::new();
        for name in SERVICES {
            let ran = self.bake.run_with("r", &["explain", "--json", "--allow=fs.write=../out", name], &env);
            let Ok(answer) = serde_json::from_str::<Value>(&ran.stdout) else { continue };
            let steps = answer["steps"].as_array().expect("a list");
            if steps.iter().any(|step| step["state"] == "runs") {
                found.insert(name.to_owned());
            }
        }
        found
    }
}

/// A word of an instruction for a context that is the top: paths of the service get its folder.
fn of_service(word: &str, service: &str) -> String {
    let is_source = ["src", "*", ".", "lin"].iter().any(|start| word.starts_with(start));
    match word {
        "./src/./*.md" => format!("{service}/src/./*.md"),
        _ if is_source => format!("{service}/{word}"),
        _ => word.to_owned(),
    }
}

#[test]
fn no_target_is_left_out_that_a_build_runs_again() {
    let n_rounds = std::env::var("BAKE_TEST_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(24);
    let seed = std::env::var("BAKE_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(11);
    let (mut n_affected, mut n_different, mut n_ran) = (0, 0, 0);
    let mut repo = Monorepo::new(seed);
    let mut before = repo.build();
    assert!(before.len() > 2, "{before:?}");
    for round in 0..n_rounds {
        if round % 12 == 11 {
            // What was broken by earlier changes is made whole.
            repo = Monorepo::new(seed + round);
            before = repo.build();
        }
        let mut changes = vec![repo.change()];
        while repo.dice.below(3) == 0 {
            changes.push(repo.change());
        }
        let args: &[&str] = match repo.dice.below(3) {
            0 => &["--since=HEAD"],
            1 => &["--since=HEAD~1"],
            _ => &["--since=HEAD~1", "--until=HEAD"],
        };
        if args[0] == "--since=HEAD~1" {
            commit(&repo.bake, "r");
        }
        let answer = affected(&repo.bake, &[args, &SERVICES[..]].concat());
        let named: BTreeSet<String> = answer.iter().map(|(name, _)| name.clone()).collect();
        let runs = repo.would_run();
        let after = repo.build();
        let different: BTreeSet<String> = SERVICES
            .iter()
            .filter(|name| before.get(*name) != after.get(*name))
            .map(|name| (*name).to_owned())
            .collect();
        let left_out: Vec<&String> = runs.union(&different).filter(|name| !named.contains(*name)).collect();
        assert!(
            left_out.is_empty(),
            "round {round} of seed {seed}: {changes:#?}\n{args:?}\nleft out: {left_out:?}\n{answer:#?}"
        );
        (n_affected, n_different, n_ran) =
            (n_affected + named.len(), n_different + different.len(), n_ran + runs.len());
        if args == ["--since=HEAD"] {
            commit(&repo.bake, "r");
        }
        before = after;
    }
    eprintln!("{n_rounds} rounds: {n_affected} affected, {n_different} differ, {n_ran} run a step");
    let n_targets = usize::try_from(n_rounds).expect("few rounds") * SERVICES.len();
    assert!(n_affected * 10 < n_targets * 9, "nearly everything is affected: {n_affected} of {n_targets}");
    assert!(n_different > 0 && n_ran > 0);
}
