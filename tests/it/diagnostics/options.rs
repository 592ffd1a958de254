//! Faults of build options, grants and flags, and of Compose files.

use super::{Page, files::serve};
use crate::support::Bake;

fn target(line: &str) -> String {
    format!("target \"default\" {{\n  {line}\n}}\n")
}

#[test]
fn a_context_or_dockerfile_cannot_come_from_standard_input() {
    Page::new("o1_stdin")
        .hcl("context", &target("context = \"-\""))
        .hcl("dockerfile", &target("dockerfile = \"-\""))
        .check();
}

#[test]
fn an_option_that_cannot_be_read_is_shown_with_the_accepted_forms() {
    let build = |page: Page, title: &str, line: &str| {
        let text = target(&format!("{line}\n  output = [\"type=cacheonly\"]"));
        page.case(title, &[("docker-bake.hcl", &text), ("Dockerfile", "FROM scratch\n")], &["--progress=quiet"])
    };
    let page = Page::new("o2_bad_option")
        .hcl("a platform", &target("platforms = [\"linux/amd64\", \"linux/amd64/v1/x\"]"))
        .hcl("an architecture", &target("platforms = [\"linux/\"]"))
        .hcl("an annotation", &target("annotations = [\"no-value\"]"))
        .hcl("the place of an annotation", &target("annotations = [\"manfest:a=b\"]"))
        .hcl("a ulimit", &target("ulimits = [\"nofile=1:2\", \"nofiles=1\"]"))
        .hcl("a ulimit that is no number", &target("ulimits = [\"nofile=many\"]"))
        .hcl("shm-size", &target("shm-size = \"lots\""))
        .hcl("memory", &target("resources = {\n    memory = \"lots\"\n  }"))
        .hcl("a resource that there is not", &target("resources = {\n    memroy = \"1g\"\n  }"));
    let page = build(page, "a network, when building", "network = \"hosts\"");
    let page = build(page, "a call, when building", "call = \"outlien\"");
    let page = build(page, "an entitlement, when building", "entitlements = [\"network.hots\"]");
    let page = build(page, "a tag, when building", "tags = [\"ok:1\", \"App::1\"]");
    build(page, "a cache, when building", "cache-from = [\"type=lokal,src=x\"]").check();
}

#[test]
fn an_output_that_cannot_be_written_is_named_with_its_path() {
    let files = |line: &str| target(line);
    let at = |page: Page, title: &str, line: &str| {
        page.case(
            title,
            &[("docker-bake.hcl", &files(line)), ("folder/file", "x"), ("Dockerfile", "FROM scratch\n")],
            &["--print"],
        )
    };
    let page = Page::new("o3_output");
    let page = at(page, "no dest", "output = [\"type=local\"]");
    let page = at(page, "dest is a directory", "output = [\"type=tar,dest=folder\"]");
    let page = at(page, "dest is a file", "output = [\"type=image,name=x\", \"type=local,dest=folder/file\"]");
    let page = at(page, "two to standard output", "output = [\"type=tar,dest=-\", \"type=oci,dest=-\"]");
    let build = |page: Page, title: &str, line: &str| {
        page.case(title, &[("docker-bake.hcl", &files(line)), ("Dockerfile", "FROM scratch\n")], &["--progress=quiet"])
    };
    let page = build(page, "no dest, when building", "output = [\"type=local\"]");
    let page = build(page, "an unknown type, when building", "output = [\"type=tarr,dest=x\"]");
    let page = build(page, "an unknown option, when building", "output = [\"type=tar,dest=x,compresion=gzip\"]");
    build(page, "two to one file, when building", "output = [\"type=tar,dest=x\", \"type=oci,dest=x\"]").check();
}

/// `--print` warns of what a build refuses; `plan`, `check` and a build name the same, with the same place.
#[test]
fn an_option_that_a_build_refuses_is_known_everywhere() {
    let lines = [
        "output = [\"type=ocii,dest=x\"]",
        "output = [{ type = \"oci\", dest = \"x\", compression = \"zst\" }]",
        "cache-to = [\"type=local,dest=c,mod=max\"]",
        "attest = [\"type=provenance,mod=max\"]",
        "extra-hosts = { db = \"\" }",
        "tags = [\"App::1\"]",
        "network = \"hosts\"",
        "entitlements = [\"network.hots\"]",
        "output = [\"type=registry\"]",
    ];
    let text = |line: &str| {
        let output = if line.starts_with("output") { "" } else { "\n  output = [\"type=cacheonly\"]" };
        target(&format!("{line}{output}"))
    };
    let mut page = Page::new("o3_refused");
    for line in lines {
        page = page.hcl(line, &text(line));
        let bake = Bake::new();
        bake.write("docker-bake.hcl", &text(line));
        bake.write("Dockerfile", "FROM scratch\n");
        let shown = super::run(&bake, &["--print"], &[], b"");
        let place = |stderr: &str| {
            let line = stderr.lines().find(|it| it.contains("docker-bake.hcl:")).map(str::to_owned);
            line.unwrap_or_else(|| panic!("no place: {stderr}"))
        };
        for args in [&["plan"][..], &["check"], &["--progress=quiet"]] {
            let (code, stderr) = super::run(&bake, args, &[], b"");
            assert_eq!(code, Some(1), "{line} {args:?}: {stderr}");
            assert_eq!(place(&stderr), place(&shown.1), "{line} {args:?}");
        }
    }
    page.check();
}

#[test]
fn a_secret_or_key_that_cannot_be_read_is_named() {
    let large = "x".repeat(500 * 1024 + 1);
    Page::new("o4_secret")
        .hcl("a file that is not there", &target("secret = [\"id=a,src=gone\"]"))
        .hcl("neither file nor variable", &target("secret = [\"id=token\"]"))
        .case(
            "a large file",
            &[("docker-bake.hcl", &target("secret = [{ id = \"a\", src = \"large\" }]")), ("large", &large)],
            &["--print"],
        )
        .hcl("no agent", &target("ssh = [\"default\"]"))
        .hcl("no key", &target("ssh = [\"default=docker-bake.hcl\"]"))
        .hcl("no file", &target("ssh = [\"default=gone\"]"))
        .check();
}

#[test]
fn a_dockerfile_beside_a_remote_context_is_refused() {
    let (address, server) =
        serve(1, "200 OK", target("context = \"cwd://.\"\n  dockerfile = \"Dockerfile.ci\"").into());
    Page::new("o5_remote_dockerfile")
        .case(
            "a Dockerfile that is here",
            &[("Dockerfile.ci", "FROM scratch\n")],
            &[&format!("http://{address}/bake.hcl"), "default", "--progress=quiet"],
        )
        .replace(&address, "[HOST]")
        .check();
    server.join().expect("the server ends");
}

#[test]
fn a_context_that_is_not_there_is_named() {
    let build = |page: Page, title: &str, line: &str, dockerfile: &str| {
        page.case(
            title,
            &[("docker-bake.hcl", &target(line)), ("Dockerfile", dockerfile), ("file", "x")],
            &["--progress=quiet"],
        )
    };
    let cache_only = "output = [\"type=cacheonly\"]";
    let scratch = "FROM scratch\nCOPY . /\n";
    let named = "FROM base\n";
    let page = Page::new("o6_context");
    let page = build(page, "no such folder", &format!("context = \"gone\"\n  {cache_only}"), scratch);
    let page = build(page, "a file", &format!("context = \"file\"\n  {cache_only}"), scratch);
    let page = build(page, "no Dockerfile", &format!("dockerfile = \"Dockerfil\"\n  {cache_only}"), scratch);
    let contexts = |it: &str| format!("contexts = {{\n    base = \"{it}\"\n  }}\n  {cache_only}");
    let page = build(page, "a named one", &contexts("./gone"), "FROM scratch\nCOPY --from=base . /\n");
    let page = build(page, "no OCI layout", &contexts("oci-layout://gone"), named);
    build(page, "a reference that is none", &contexts("docker-image://A:b:c"), named).check();
}

#[test]
fn a_grant_that_there_is_not_is_named_with_those_that_there_are() {
    let files = [("docker-bake.hcl", "target \"default\" {}\n")];
    Page::new("p1_bad_grant")
        .case("misspelt", &files, &["--print", "--allow", "network.hots"])
        .case("nothing is near", &files, &["--print", "--allow", "everything"])
        .case("with a value", &files, &["--print", "--allow", "network.host=1"])
        .case("without a path", &files, &["--print", "--allow", "fs.read"])
        .check();
}

#[test]
fn privileges_that_are_missing_are_told_with_who_asks_and_the_flags() {
    let text = "target \"default\" {\n  network = \"host\"\n  context = \"..\"\n  entitlements = [\"security.insecure\"]\n  \
                ssh = [\"default\"]\n  output = [\"type=tar,dest=../out.tar\"]\n}\n";
    let bake = crate::support::Bake::new();
    bake.write("p/docker-bake.hcl", text);
    bake.write("p/agent", "-----BEGIN OPENSSH PRIVATE KEY-----\n");
    let agent = std::os::unix::net::UnixListener::bind(bake.path("agent.sock")).expect("a socket");
    let path = bake.path("agent.sock").to_string_lossy().into_owned();
    let args = ["-f", "p/docker-bake.hcl", "--progress=quiet"];
    Page::new("p2_privileges")
        .at(&bake, "five of them", &args, &[("SSH_AUTH_SOCK", &path)], b"")
        .replace(&path, "[DIR]/agent.sock")
        .replace(&bake.dir.path().parent().expect("it is in a folder").to_string_lossy(), "[TMP]")
        .check();
    drop(agent);
}

#[test]
fn a_flag_with_a_value_that_it_does_not_take_says_what_it_takes() {
    let files = [("docker-bake.hcl", "target \"default\" {}\n")];
    Page::new("l1_flags")
        .case("what to list", &files, &["--list", "groups"])
        .case("how to list", &files, &["--list", "type=targets,format=xml"])
        .case("a key of --list", &files, &["--list", "typ=targets"])
        .case("list and print", &files, &["--list", "targets", "--print"])
        .case("an option of --call", &files, &["--call", "check,formt=json"])
        .case("progress", &files, &["--progress", "loud"])
        .case("a flag that there is not", &files, &["--prnt"])
        .case("a boolean", &files, &["--push=perhaps", "--print"])
        .case("a policy", &files, &["--policy", "filename=x", "--print"])
        .check();
}

#[test]
fn a_fault_of_a_compose_file_is_shown_in_its_line() {
    Page::new("d1_compose")
        .compose("an unknown key of build", "services:\n  web:\n    build:\n      contxt: .\n")
        .compose("an unknown key of a service", "services:\n  web:\n    build: .\n    prots: []\n")
        .compose("an unknown key at the top", "service:\n  web:\n    build: .\nservices:\n  web:\n    build: .\n")
        .compose("a wrong type", "services:\n  web:\n    build:\n      tags: app\n")
        .compose("a wrong type of build", "services:\n  web:\n    build: [.]\n")
        .compose("a wrong type of services", "services: [web]\n")
        .compose(
            "an external secret",
            "services:\n  web:\n    build:\n      context: .\n      secrets: [token]\nsecrets:\n  token:\n    external: true\n",
        )
        .compose(
            "an unknown secret",
            "services:\n  web:\n    build:\n      context: .\n      secrets: [tokn]\nsecrets:\n  token:\n    environment: T\n",
        )
        .compose("neither image nor build", "services:\n  web:\n    environment: []\n")
        .compose("a variable that is required", "services:\n  web:\n    build: ${CONTEXT:?set it to the folder}\n")
        .compose("a variable that is not set", "services:\n  web:\n    build:\n      context: .\n      target: ${STAGE}\n")
        .compose("an interpolation that is none", "services:\n  web:\n    build: ${CONTEXT\n")
        .compose("a name", "services:\n  \"my web\":\n    build: .\n")
        .compose("an x-bake key", "services:\n  web:\n    build:\n      context: .\n      x-bake:\n        tag: [a]\n")
        .compose("a wrong value of x-bake", "services:\n  web:\n    build:\n      context: .\n      x-bake:\n        platforms: [1, {}]\n")
        .compose("a platform", "services:\n  web:\n    build:\n      context: .\n      platforms: [\"linux/a/b/c\"]\n")
        .compose("extends of nothing", "services:\n  web:\n    extends: bsae\n    build: .\n  base:\n    build: .\n")
        .compose("a file that is not there", "include: [gone.yaml]\nservices:\n  web:\n    build: .\n")
        .compose("no services", "volumes: {}\n")
        .case(
            ".env",
            &[("compose.yaml", "services:\n  web:\n    build: .\n"), (".env", "A=1\nB = \"x\n")],
            &["--print"],
        )
        .compose("several", "services:\n  web:\n    build:\n      contxt: .\n      tags: app\n  api:\n    image: [x]\n    build: 5\n  db:\n    environment: []\n")
        .check();
}
