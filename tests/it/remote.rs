//! Definitions by URL: nothing of this machine is theirs without a grant; what the command line names is.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
};

use crate::support::{Bake, GitServer, Ran};

const SECRET: &str = "of-this-machine";

/// A server of texts by path. Its address.
fn http(files: Vec<(String, String)>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(stream.try_clone().expect("open"));
            let mut request = String::new();
            while reader.read_line(&mut request).is_ok_and(|n| n > 2) {}
            let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
            let found = files.iter().find(|(name, _)| *name == path).map(|(_, text)| text.as_str());
            let head = if found.is_some() { "200 OK" } else { "404 Not Found" };
            let body = found.unwrap_or_default();
            let answer =
                format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
            (&stream).write_all(answer.as_bytes()).ok();
        }
    });
    format!("http://{address}")
}

/// A caller's folder `p` with files that are nobody else's business.
fn caller() -> Bake {
    let bake = Bake::new();
    bake.write("p/Dockerfile", "FROM scratch\nCOPY file /file\n");
    bake.write("p/file", &format!("{SECRET}\n"));
    bake.write("p/private.yaml", &format!("services:\n  x:\n    build:\n      args: {{A: {SECRET}}}\n"));
    bake.write("p/private.env", &format!("A={SECRET}\n"));
    bake
}

fn folder(bake: &Bake) -> String {
    bake.path("p").canonicalize().expect("it exists").display().to_string()
}

#[track_caller]
fn asks(bake: &Bake, args: &[&str], flag: &str) {
    let ran = bake.run_in("p", args);
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    assert!(ran.stderr.contains(flag), "wanted {flag}: {ran:#?}");
    assert!(!format!("{}{}", ran.stdout, ran.stderr).contains(SECRET), "{ran:#?}");
}

/// Files of a repository, and what each definition in it asks for.
const DEFINITIONS: [(&str, &str, &str); 5] = [
    ("context.hcl", "context = \"cwd://.\"\n  dockerfile = \"cwd://Dockerfile\"", "--allow=fs.read={}"),
    ("dest.hcl", "output = [\"type=local,dest=x\"]", "--allow=fs.write={}/x"),
    ("secret.hcl", "secret = [\"id=s,src=file\"]", "--allow=fs.read={}/file"),
    ("cache.hcl", "cache-from = [\"type=local,src=c\"]", "--allow=fs.read={}/c"),
    ("dockerfile.hcl", "dockerfile = \"cwd://Dockerfile\"", "--allow=fs.read={}/Dockerfile"),
];

fn definition(line: &str) -> String {
    format!("target \"default\" {{\n  {line}\n}}\n")
}

#[test]
fn a_definition_from_git_asks_for_every_path_of_the_caller() {
    let bake = caller();
    for (name, line, _) in DEFINITIONS {
        bake.write(&format!("r/{name}"), &definition(line));
    }
    bake.write("r/Dockerfile", "FROM scratch\nCOPY Dockerfile /of-the-repository\n");
    let git = GitServer::new(&bake, "r");
    let url = git.url();
    for (name, _, flag) in DEFINITIONS {
        let flag = flag.replace("{}", &folder(&bake));
        asks(&bake, &["--progress=plain", "-f", name, &url], &flag);
        // It is shown without being built.
        let _ran = bake.run_in("p", &["--print", "-f", name, &url]).ok();
    }
    assert!(!bake.path("p/x").exists());
    // With the flag that was asked for it is done.
    let allow = format!("--allow=fs.write={}/x", folder(&bake));
    let _ran = bake.run_in("p", &["--progress=plain", &allow, "-f", "dest.hcl", &url]).ok();
    assert!(bake.path("p/x/of-the-repository").is_file());
    // What the command line names is the user's own word.
    fs::remove_dir_all(bake.path("p/x")).expect("it is there");
    let set = "default.output=type=local,dest=x";
    let _ran = bake
        .run_in("p", &["--progress=plain", "--set", set, "-f", "secret.hcl", "--set", "!default.secret", &url])
        .ok();
    assert!(bake.path("p/x/of-the-repository").is_file());
    let sets = ["default.context=cwd://.", "default.dockerfile=cwd://Dockerfile", "default.output=type=local,dest=y"];
    let sets = sets.map(|set| format!("--set={set}"));
    let _ran = bake.run_in("p", &["--progress=plain", &sets[0], &sets[1], &sets[2], "-f", "dest.hcl", &url]).ok();
    assert!(bake.read("p/y/file").contains(SECRET));
}

#[test]
fn a_definition_over_http_asks_for_every_path_of_the_caller() {
    let bake = caller();
    let files = DEFINITIONS.iter().map(|(name, line, _)| (format!("/{name}"), definition(line)));
    let server = http(files.collect());
    for (name, _, flag) in DEFINITIONS {
        asks(&bake, &["--progress=plain", &format!("{server}/{name}")], &flag.replace("{}", &folder(&bake)));
    }
}

#[test]
fn a_local_file_beside_a_remote_definition_is_the_users_own() {
    let bake = caller();
    bake.write("r/docker-bake.hcl", "target \"default\" {}\n");
    bake.write(
        "p/mine.hcl",
        &definition("context = \"cwd://.\"\n  dockerfile = \"cwd://Dockerfile\"\n  output = [\"type=local,dest=x\"]"),
    );
    let git = GitServer::new(&bake, "r");
    let args = ["--progress=plain", "-f", "docker-bake.hcl", "-f", "cwd://mine.hcl"];
    let _ran = bake.run_in("p", &[&args[..], &[&git.url()]].concat()).ok();
    assert!(bake.read("p/x/file").contains(SECRET));
}

#[test]
fn a_compose_file_by_url_reads_no_local_file_without_a_grant() {
    let bake = caller();
    let place = folder(&bake);
    let service = "services:\n  x:\n    build:\n      args: [A]\n";
    let files = vec![
        ("/extends.yaml".to_owned(), "services:\n  x:\n    extends: {file: private.yaml, service: x}\n".to_owned()),
        ("/include.yaml".to_owned(), format!("include: [{place}/private.yaml]\n")),
        ("/env.yaml".to_owned(), format!("{service}    env_file: private.env\n")),
        ("/none.yaml".to_owned(), "services:\n  x:\n    build:\n      args: {A: \"${A:-nothing}\"}\n".to_owned()),
        ("/file.hcl".to_owned(), definition("args = { A = file(\"cwd://file\") }")),
    ];
    let server = http(files);
    for (name, file) in [("extends", "private.yaml"), ("include", "private.yaml"), ("env", "private.env")] {
        let flag = format!("--allow=fs.read={place}/{file}");
        let url = format!("{server}/{name}.yaml");
        asks(&bake, &["--print", &url, "x"], &flag);
        asks(&bake, &["plan", &url, "x"], &flag);
        let ran: Ran = bake.run_in("p", &["--print", &flag, &url, "x"]).ok();
        assert!(ran.stdout.contains(SECRET), "{ran:#?}");
    }
    // The `.env` of the caller's folder is not the definition's.
    bake.write("p/.env", &format!("A={SECRET}\n"));
    let url = format!("{server}/none.yaml");
    let ran = bake.run_in("p", &["--print", &url, "x"]).ok();
    assert!(ran.stdout.contains("\"nothing\""), "{ran:#?}");
    assert!(ran.stderr.contains(&format!("--allow=fs.read={place}/.env")), "{ran:#?}");
    let flag = format!("--allow=fs.read={place}/.env");
    let ran = bake.run_in("p", &["--print", &flag, &url, "x"]).ok();
    assert!(ran.stdout.contains(SECRET), "{ran:#?}");
    // The same for functions.
    let url = format!("{server}/file.hcl");
    asks(&bake, &["--print", &url], &format!("--allow=fs.read={place}/file"));
}

#[test]
fn contexts_of_a_definition_lie_in_its_repository_however_the_url_says_its_folder() {
    let bake = Bake::new();
    bake.write("r/src/context/file", "c\n");
    bake.write("r/src/Dockerfile", "FROM scratch\nCOPY --from=add . /\n");
    bake.write("r/src/nested/Dockerfile", "FROM scratch\nCOPY . /\n");
    bake.write("r/Dockerfile", "FROM scratch\nCOPY src/context/file /root\n");
    bake.write(
        "r/src/docker-bake.hcl",
        "target \"default\" {\n  contexts = { add = \"./context\" }\n  output = [\"type=local,dest=out/a\"]\n}\n\
         target \"n\" {\n  context = \"./nested\"\n  output = [\"type=local,dest=out/n\"]\n}\n\
         target \"up\" {\n  context = \"..\"\n  output = [\"type=local,dest=out/up\"]\n}\n",
    );
    let git = GitServer::new(&bake, "r");
    crate::support::git(&bake, "r", &["tag", "v1"]);
    fs::create_dir(bake.path("p")).expect("it is not there");
    for form in ["#v1:src", "?tag=v1&subdir=src", "?subdir=src#v1"] {
        let url = format!("{}{form}", git.url());
        let _ran = bake.run_in("p", &["--progress=plain", "--allow=fs.write=out", &url, "default", "n", "up"]).ok();
        for file in ["a/file", "n/Dockerfile", "up/root"] {
            assert!(bake.path("p/out").join(file).is_file(), "{form}: {file}");
        }
        fs::remove_dir_all(bake.path("p/out")).expect("it was written");
    }
}

#[test]
fn a_dockerfile_is_downloaded_from_its_address() {
    let bake = Bake::new();
    let text = "FROM scratch\nCOPY file /copied\n".to_owned();
    let base =
        http(vec![("/docker/Dockerfile.app?raw=1".to_owned(), text), ("/bad".to_owned(), "FORM scratch\n".to_owned())]);
    bake.write("app/file", "of the context\n");
    let url = format!("{base}/docker/Dockerfile.app?raw=1");
    bake.run(&["build", "-f", &url, "-o", "type=local,dest=out", "app"]).ok();
    assert_eq!(bake.read("out/copied"), "of the context\n");
    bake.write(
        "docker-bake.hcl",
        &format!("target \"default\" {{\n  context = \"app\"\n  dockerfile = \"{base}/bad\"\n}}\n"),
    );
    let ran = bake.run(&["--progress=plain"]);
    assert!(ran.code == Some(1) && ran.stderr.contains("FORM") && ran.stderr.contains("/bad:1"), "{ran:#?}");
    let checked = bake.run(&["check"]);
    assert!(!checked.stderr.contains("cannot be read"), "{checked:#?}");
}
