//! `bake convert`, `--print=hcl`, `--print=yaml`: what is written reads back to the same plan.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::support::Bake;

#[test]
fn a_script_of_docker_build_lines_becomes_a_bake_file_that_builds() {
    let bake = Bake::new();
    bake.write("web/Dockerfile", "FROM scratch\nARG V\nLABEL v=$V\nCOPY page /\n");
    bake.write("web/page", "hello\n");
    bake.write(
        "build.sh",
        "#!/bin/sh\nset -e\nV=${V:-1}\nif true; then\n  docker build \\\n    --build-arg V=\"$V\" -t \"web:$V\" \\\n    -o type=local,dest=out web\nfi\ndocker buildx build --load --progress plain web\n",
    );
    let ran = bake.run(&["convert", "build.sh"]).ok();
    assert!(ran.stderr.contains("build.sh:9:1") && ran.stderr.contains("`--progress` is left out"), "{ran:?}");
    bake.write("docker-bake.hcl", &ran.stdout);
    let printed = bake.run(&["--print", "--var", "V=7", "web"]).ok().stdout;
    assert!(printed.contains("web:7"), "{printed}");
    bake.run(&["web"]).ok();
    assert_eq!(bake.read("out/page"), "hello\n");
    bake.write("kept.yaml", &bake.run(&["convert", "--format=yaml", "build.sh"]).ok().stdout);
    assert_eq!(bake.run(&["-f", "kept.yaml", "--print", "--var", "V=7", "web"]).ok().stdout, printed);
    let none = bake.run_reading("", &["convert", "-"], "echo hello\n");
    assert!(none.code == Some(1) && none.stderr.contains("no line of `docker build`"), "{none:?}");
}

#[test]
fn compose_files_become_a_bake_file_of_the_same_plan() {
    let bake = Bake::new();
    bake.copy("examples/compose", "compose");
    let plan = bake.run_in("compose", &["--print"]).ok().stdout;
    for format in ["hcl", "yaml"] {
        let kept = format!("kept.{format}");
        let converted = bake.run_in("compose", &["convert", &format!("--format={format}")]).ok();
        bake.write(&format!("compose/{kept}"), &converted.stdout);
        if format == "hcl" {
            bake.run_in("compose", &["fmt", "--check", &kept]).ok();
        }
        let back = bake.run_in("compose", &["-f", &kept, "--print"]).ok().stdout;
        assert_eq!(back, plan, "{kept}");
    }
}

/// Functions whose value is another one a second later, or in every run.
const OF_THE_MOMENT: [&str; 3] = ["timestamp()", "uuidv4(", "bcrypt("];

/// Every bake file of the corpus that one run can print, printed in each format, reads back to what it was.
#[test]
fn printed_bake_files_of_the_corpus_read_back() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = |path: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let mut found: Vec<PathBuf> =
            entries.map(|entry| entry.expect("readable").path()).filter(|it| it.is_dir()).collect();
        found.sort();
        found
    };
    let cases = folders(&root.join("tests/corpus/bake")).iter().flat_map(|group| folders(group)).collect::<Vec<_>>();
    let mut n_printed = 0;
    // Every fourth case is enough.
    for case in cases.iter().filter(|case| case.join("docker-bake.hcl").exists()).step_by(4) {
        let name = case.strip_prefix(root).expect("it is below").to_string_lossy().into_owned();
        let bake = Bake::new();
        bake.copy(&name, "case");
        if OF_THE_MOMENT.iter().any(|function| bake.read("case/docker-bake.hcl").contains(function)) {
            continue;
        }
        let all = bake.run_in("case", &["-f", "docker-bake.hcl", "--print", "*"]);
        if all.code != Some(0) || all.stdout.contains("<sensitive>") {
            continue;
        }
        for format in ["hcl", "yaml"] {
            let kept = format!("kept.{format}");
            let printed = bake.run_in("case", &["-f", "docker-bake.hcl", &format!("--print={format}"), "*"]).ok();
            bake.write(&format!("case/{kept}"), &printed.stdout);
            if format == "hcl" {
                bake.run_in("case", &["fmt", "--check", &kept]).ok();
            }
            let back = bake.run_in("case", &["-f", &kept, "--print"]);
            assert_eq!(back.stdout, all.stdout, "{name} in {format}: {}\n{}", printed.stdout, back.stderr);
        }
        n_printed += 1;
    }
    assert!(n_printed > 20, "only {n_printed} cases were printed");
}

/// What `bake convert` writes of a script, and what it tells, each as `line: message`.
fn converted(bake: &Bake, script: &str) -> (String, Vec<String>) {
    bake.write("build.sh", script);
    let ran = bake.run(&["convert", "build.sh"]);
    bake.write("laid.hcl", &ran.stdout);
    bake.run(&["fmt", "--check", "laid.hcl"]).ok();
    let mut told = Vec::new();
    let mut message = String::new();
    for line in ran.stderr.lines().map(str::trim) {
        if let Some((_, place)) = line.split_once("[build.sh:") {
            let number = place.split(':').next().unwrap_or_default();
            told.push(format!("{number}: {}", message.trim()));
        } else if let Some(text) = line.strip_prefix("⚠ ") {
            text.clone_into(&mut message);
        } else if let Some(text) = line.strip_prefix("│ ") {
            message = format!("{message} {text}");
        }
    }
    (ran.stdout, told)
}

/// The targets of a bake file as `--print` has them, with the tags of each.
fn tags_of(bake: &Bake, file: &str) -> Vec<(String, Vec<String>)> {
    bake.write("kept.hcl", file);
    let printed = bake.run(&["-f", "kept.hcl", "--print"]).ok().stdout;
    let plan: serde_json::Value = serde_json::from_str(&printed).expect("JSON");
    let targets = plan["target"].as_object().expect("targets").iter().map(|(name, target)| {
        let tags = target["tags"].as_array().into_iter().flatten();
        (name.clone(), tags.map(|tag| tag.as_str().unwrap_or_default().to_owned()).collect())
    });
    targets.collect()
}

/// Every way to write the command is either a target or told with its line.
#[test]
fn a_build_is_found_under_whatever_stands_around_it() {
    for line in [
        "if test -f x; then docker build -t found .; fi",
        "! docker build -t found .",
        "time docker build -t found .",
        "time -p docker build -t found .",
        "exec docker build -t found .",
        "env X=1 docker build -t found .",
        "command docker build -t found .",
        "nice -n 5 docker build -t found .",
        "sudo -E docker build -t found .",
        "sudo -u root env -i A=1 docker build -t found .",
        "timeout -k 5 60 docker build -t found .",
        "/usr/bin/docker build -t found .",
        "$DOCKER build -t found .",
        "DOCKER='sudo podman'; $DOCKER build -t found .",
        "${DOCKER:-docker} buildx build -t found .",
        "docker -D build -t found .",
        "docker --context foo build -t found .",
        "docker -H tcp://x:1 --log-level=debug build -t found .",
        "docker buildx --builder foo build -t found .",
        "docker buildx b -t found .",
        "docker image build -t found .",
        "docker-buildx build -t found .",
        "{ docker build -t found .; }",
        "(docker build -t found . | tee log)",
        "f() { docker build -t found .; }",
        "false || docker build -t found .",
        "case $1 in a|b) docker build -t found . ;; esac",
        "while read x; do docker build -t found .; done < list",
        "if docker build -t found .\nthen echo yes\nfi",
        "[[ -n $A && $B < 2 ]] && docker build -t found .",
        "echo 'a # b' && docker build -t found . # docker build -t other .",
    ] {
        let bake = Bake::new();
        let (file, told) = converted(&bake, &format!("{line}\n"));
        assert_eq!(tags_of(&bake, &file), [("found".to_owned(), vec!["found".to_owned()])], "{line}: {told:?}");
    }
}

#[test]
fn what_a_bake_file_cannot_say_is_told_with_its_line() {
    let bake = Bake::new();
    bake.write("Dockerfile", "FROM scratch\n");
    let script = "npm test\n! docker build -t a .\nnice docker build -t b .\ndocker --context foo build -t c .\n\
        docker run a\ndocker tag unknown x\nif x; then docker build -t d .; else docker build -t e .; fi\n\
        for v in $LIST; do docker build -t f:$v .; done\ncat x | docker build -\nX=1 docker build -t g .\n\
        docker build -t h \"$@\" .\nmake() { docker build -t i .; }\nmake\ndocker build -o - . | cat\n\
        echo x > file\neval 'docker build .'\nsource env.sh\n(( n++ ))\ndocker buildx create --use\ndocker build -t j:${#TAG} .\n";
    let (file, told) = converted(&bake, script);
    let lines: Vec<&str> = told.iter().filter_map(|it| it.split_once(": ")).map(|(line, _)| line).collect();
    for line in 1..=20 {
        assert!(lines.contains(&line.to_string().as_str()), "line {line} is not told: {told:#?}");
    }
    assert!(told.iter().any(|it| it.contains("7: a branch of `if` (line 7)")), "{told:#?}");
    assert!(file.contains("j:${PART_OF_TAG}"), "{file}");
}

#[test]
fn loops_over_words_are_gone_through() {
    let bake = Bake::new();
    bake.write("Dockerfile", "FROM scratch\n");
    let script = "VERSIONS='1 2'\nfor v in $VERSIONS\ndo\n  for os in a b; do\n    IMAGE=app-$os\n    docker build -t $IMAGE:$v .\n  done\ndone\n";
    let (file, told) = converted(&bake, script);
    assert!(told.is_empty(), "{told:?}");
    let mut tags: Vec<String> = tags_of(&bake, &file).into_iter().flat_map(|(_, tags)| tags).collect();
    tags.sort();
    assert_eq!(tags, ["app-a:1", "app-a:2", "app-b:1", "app-b:2"], "{file}");
}

#[test]
fn variables_have_the_value_that_the_script_gives_them_there() {
    let bake = Bake::new();
    bake.write("Dockerfile", "FROM scratch\n");
    let script = ": ${B:=colon}\ndeclare F=3\nexport E=$'x\\ty'\nT=1\ndocker build -t a:$T --build-arg B=$B --build-arg F=$F --build-arg E=\"$E\" .\n\
        T=2\ndocker build -t b:$T --build-arg FROMENV --build-arg F -t c:${D:-x} -t d:${D:-y}${G:+g} .\nOPTS='--no-cache --pull'\ndocker build $OPTS -t e .\n";
    let (file, told) = converted(&bake, script);
    assert_eq!(told, ["9: `$OPTS` is more than a value: its words are written out: --no-cache --pull"]);
    bake.write("docker-bake.hcl", &file);
    let printed = |env: &[(&str, &str)]| -> serde_json::Value {
        let ran = bake.run_with(".", &["--print"], env).ok();
        serde_json::from_str(&ran.stdout).expect("JSON")
    };
    let plan = printed(&[]);
    assert_eq!(plan["target"]["a"]["tags"], serde_json::json!(["a:1"]));
    assert_eq!(plan["target"]["a"]["args"], serde_json::json!({"B": "colon", "F": "3", "E": "x\ty"}));
    assert_eq!(plan["target"]["b"]["tags"], serde_json::json!(["b:2", "c:x", "d:y"]));
    assert_eq!(plan["target"]["b"]["args"], serde_json::json!({"F": "3"}));
    assert_eq!(plan["target"]["e"]["no-cache"], serde_json::json!(true));
    let plan = printed(&[("FROMENV", "env"), ("D", "z"), ("G", "1")]);
    assert_eq!(plan["target"]["b"]["tags"], serde_json::json!(["b:2", "c:z", "d:zg"]));
    assert_eq!(plan["target"]["b"]["args"], serde_json::json!({"FROMENV": "env", "F": "3"}));
}

#[test]
fn standard_input_and_output_become_files_and_texts() {
    let bake = Bake::new();
    let script = "docker build -t inline - <<EOF\nFROM scratch\nLABEL v=$V\nRUN docker build -t none .\nEOF\n\
        docker build -t quoted -f - . <<'EOF'\nFROM scratch\nENV A=$A\nEOF\n\
        docker build -o - . > x.tar\ndocker build -t oci -o type=oci,dest=- . >\"y z.tar\"\ndocker build -t file - < Dockerfile.x\n\
        cat <<EOF\ndocker build -t text .\nEOF\n";
    bake.write("Dockerfile", "FROM scratch\n");
    bake.write("Dockerfile.x", "FROM scratch\n");
    let (file, told) = converted(&bake, script);
    assert_eq!(told, ["13: `cat` is not translated: a bake file runs no commands of the host"]);
    bake.write("docker-bake.hcl", &file);
    let printed = bake.run(&["--print", "--var", "V=1"]);
    let plan: serde_json::Value = serde_json::from_str(&printed.stdout).expect("JSON");
    let target = &plan["target"];
    assert_eq!(target.as_object().map(serde_json::Map::len), Some(5), "{file}");
    assert_eq!(target["inline"]["dockerfile-inline"], "FROM scratch\nLABEL v=1\nRUN docker build -t none .\n");
    assert_eq!(target["quoted"]["dockerfile-inline"], "FROM scratch\nENV A=$A\n");
    assert_eq!(target["image"]["output"], serde_json::json!([{"dest": "x.tar", "type": "tar"}]));
    assert_eq!(target["oci"]["output"], serde_json::json!([{"dest": "y z.tar", "type": "oci"}]));
    assert_eq!(target["file"]["dockerfile"], "cwd://Dockerfile.x");
}

#[test]
fn images_of_the_script_are_linked_to_their_targets() {
    let bake = Bake::new();
    bake.write("Dockerfile", "FROM scratch\nCOPY base /\n");
    bake.write("base", "base\n");
    bake.write("app/Dockerfile", "ARG BASE=mybase\nFROM ${BASE}:latest AS build\nCOPY app /\nFROM scratch\nCOPY --from=build / /\nCOPY --from=tools / /\n");
    bake.write("app/app", "app\n");
    let script = "docker build -t mybase -t tools:1 .\ndocker tag tools:1 tools\ndocker build -t app -o out app\n\
        docker build --output type=tar,dest=base.tar mybase\n";
    let (file, told) = converted(&bake, script);
    assert!(told.is_empty(), "{told:?}");
    bake.write("docker-bake.hcl", &file);
    bake.run(&[]).ok();
    assert_eq!((bake.read("out/base"), bake.read("out/app")), ("base\n".to_owned(), "app\n".to_owned()));
    assert!(bake.path("base.tar").exists() && !file.contains("context = \"mybase\""), "{file}");
    bake.write("other.sh", "docker build -t mybase .\ndocker build -t far ../elsewhere\n");
    let far = bake.run(&["convert", "other.sh"]).ok();
    assert!(far.stderr.contains("the Dockerfile of `far` is not read"), "{}", far.stderr);
}

#[test]
fn compose_variables_are_kept_and_no_value_of_this_machine_is_written() {
    let bake = Bake::new();
    bake.write("web/Dockerfile", "FROM scratch\n");
    bake.write(".env", "TAG=hidden-tag\nTOKEN=hidden-token\n");
    bake.write("web.env", "FILED=hidden-file\n");
    bake.write(
        "compose.yaml",
        "services:\n  web:\n    image: \"web:${TAG:-1}\"\n    env_file: web.env\n    environment:\n      SET: text\n      OUTER:\n    build:\n      context: ./web\n      \
         shm_size: ${SHM:-64MiB}\n      no_cache: ${FRESH:-false}\n      args:\n        TOKEN:\n        OUTER:\n        SET:\n        FILED:\n        PLAIN: a${X}\n        COST: $${A}\n        OTHER: ${TAG:-2}${Y:+y}\n",
    );
    let env = [("TOKEN", "hidden-env"), ("X", "hidden-x"), ("OUTER", "hidden-outer")];
    for format in ["hcl", "yaml"] {
        let ran = bake.run_with(".", &["convert", &format!("--format={format}")], &env).ok();
        assert!(!ran.stdout.contains("hidden-") && !ran.stderr.contains("hidden-"), "{ran:?}");
        assert!(
            ran.stderr.contains("values of `.env` are not written") && ran.stderr.contains("`env_file`"),
            "{ran:?}"
        );
        let kept = format!("kept.{format}");
        bake.write(&kept, &ran.stdout);
        let all = [("TAG", "7"), ("TOKEN", "t"), ("X", "x"), ("Y", "1"), ("FRESH", "true")];
        for env in [&all[..], &[]] {
            let plan = |args: &[&str]| -> serde_json::Value {
                let ran = bake.run_with(".", args, env).ok();
                serde_json::from_str(&ran.stdout).expect("JSON")
            };
            let back = plan(&["-f", &kept, "--print"]);
            let file = [("TAG", "hidden-tag"), ("TOKEN", "hidden-token"), ("FILED", "hidden-file")];
            let given: Vec<String> = file
                .iter()
                .filter(|(name, _)| !env.iter().any(|(of, _)| of == name))
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            let vars: Vec<&str> = given.iter().flat_map(|it| ["--var", it.as_str()]).collect();
            let with_file = plan(&[&["-f", kept.as_str(), "--print"], &vars[..]].concat());
            let mut compose = plan(&["-f", "compose.yaml", "--print"]);
            if compose["target"]["web"]["no-cache"].is_null() {
                compose["target"]["web"]["no-cache"] = serde_json::Value::Bool(false);
            }
            assert_eq!(with_file, compose, "{}", ran.stdout);
            assert_eq!(back["target"]["web"]["args"]["SET"], "text");
        }
    }
}

#[test]
fn a_sensitive_value_that_is_not_written_is_told_by_name() {
    let bake = Bake::new();
    bake.write("Dockerfile", "FROM scratch\n");
    bake.write(
        "docker-bake.hcl",
        "variable \"SECRET\" {\n  default = \"hunter22\"\n  sensitive = true\n}\ntarget \"default\" {\n  args = { S = SECRET, T = \"x-${SECRET}\", U = \"u\" }\n}\n",
    );
    let ran = bake.run(&["--print=hcl"]).ok();
    assert!(!ran.stdout.contains("hunter22") && !ran.stderr.contains("hunter22"), "{ran:?}");
    let told: Vec<&str> = ran.stderr.lines().filter(|line| line.contains("is not written")).collect();
    assert_eq!(told.len(), 2, "{}", ran.stderr);
    assert!(ran.stderr.contains("`SECRET`") && ran.stderr.contains("target.default.args.S"), "{}", ran.stderr);
    assert!(!bake.run(&["--print"]).ok().stderr.contains("not written"));
}

#[test]
fn platforms_are_one_each_and_what_is_allowed_twice_is_written_once() {
    let bake = Bake::new();
    bake.write("Dockerfile", "FROM scratch\n");
    let args = ["--platform=linux/amd64,linux/arm64", "--network=host", "--allow=network.host", "."];
    let printed = bake.run(&[&["build", "--print=hcl"], &args[..]].concat()).ok().stdout;
    let (file, _) = converted(&bake, &format!("docker build {}\n", args.join(" ")));
    for text in [&printed, &file] {
        assert!(text.contains("\"linux/amd64\",\n    \"linux/arm64\"\n"), "{text}");
        assert_eq!(text.matches("network.host").count(), 1, "{text}");
    }
}
