//! `ssh` with files: keys that a step signs with, and those that are refused before anything is built.

use std::process::Command;

use crate::support::{Bake, base_layout};

/// A folder `keys`, and a target with these agents that runs a command in which `$add` is the `ssh-add` of this machine.
fn prepared(ssh: &str, command: &str) -> Bake {
    let bake = Bake::new();
    bake.copy("src/ssh/test_keys", "keys");
    bake.write(
        "docker-bake.hcl",
        &format!(
            "target \"default\" {{\n  contexts = {{ base = \"oci-layout://{}\", tools = \"./tools\" }}\n  \
             ssh = [{ssh}]\n  output = [\"type=cacheonly\"]\n}}\n",
            base_layout().display()
        ),
    );
    bake.write(
        "Dockerfile",
        &format!(
            "FROM base\nRUN --mount=type=ssh,id=k --mount=from=tools,target=/tools add=\"/tools/loader --library-path /tools \
             /tools/ssh-add\"; {command}\n"
        ),
    );
    bake
}

/// Copies `ssh-add` and the libraries that it needs to `tools`.
fn copy_tools(bake: &Bake) {
    const TOOL: &str = "/usr/bin/ssh-add";
    let told = Command::new("ldd").arg(TOOL).output().expect("ldd is part of the C library");
    bake.write("tools/about", "ssh-add and what it needs\n");
    let mut copied = 0;
    for word in String::from_utf8_lossy(&told.stdout).split_whitespace().filter(|word| word.starts_with('/')) {
        let name = word.rsplit('/').next().expect("a name");
        let name = if name.starts_with("ld-linux") { "loader" } else { name };
        std::fs::copy(word, bake.path("tools").join(name)).expect("libraries can be read");
        copied += 1;
    }
    assert!(copied > 1, "these tests need Debian's package openssh-client");
    std::fs::copy(TOOL, bake.path("tools/ssh-add")).expect("it is installed");
}

const ARGS: [&str; 3] = ["--progress=plain", "--allow", "fs.read=*"];

#[test]
fn a_step_has_an_agent_with_the_keys_of_files() {
    let bake = prepared(
        "\"k=keys/ed25519,keys/rsa,keys/ec_sec1\"",
        // RSA with SHA-1, for which `-T` asks, is not signed with.
        "$add -l; for key in ed25519 ec_sec1; do $add -T /tools/$key.pub && echo is-signed-$key; done; $add -D",
    );
    copy_tools(&bake);
    for name in ["ed25519", "ec_sec1"] {
        bake.write(&format!("tools/{name}.pub"), &bake.read(&format!("keys/{name}.pub")));
    }
    // Keys are not removed by a step: `-D` fails, and the step with it.
    let ran = bake.run(&ARGS);
    let shown = &ran.stderr;
    for line in
        ["who@where (ED25519)", "keys/rsa (RSA)", "keys/ec_sec1 (ECDSA)", "is-signed-ed25519", "is-signed-ec_sec1"]
    {
        assert!(shown.contains(line), "{line}: {ran:#?}");
    }
    assert!(ran.code == Some(1) && !shown.contains("identities removed"), "{ran:#?}");
}

#[test]
fn keys_that_cannot_be_used_are_refused_by_name() {
    for (ssh, expected) in [
        ("k=keys/ed25519,keys/encrypted", "it has a passphrase, which nobody can be asked for: keys/encrypted"),
        ("k=keys/encrypted_pkcs8", "it has a passphrase, which nobody can be asked for: keys/encrypted_pkcs8"),
        ("k=keys/nistp521", "keys of its kind are not supported: ecdsa-sha2-nistp521: keys/nistp521"),
        ("k=keys/rsa,docker-bake.hcl", "neither an agent's socket nor a private key: docker-bake.hcl"),
        ("k=keys/no", "the ssh agent or key does not exist: keys/no"),
    ] {
        let bake = prepared(&format!("\"{ssh}\""), "echo never");
        bake.write("tools/about", "nothing\n");
        let ran = bake.run(&ARGS);
        let shown = ran.stderr.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ");
        assert!(ran.code == Some(1) && shown.contains(expected), "{ssh}: {ran:#?}");
        assert!(!shown.contains("never"), "nothing is built: {ran:#?}");
        // What is missing or cannot be used on this machine is told, and the plan is shown.
        let shown = bake.run(&["--print"]);
        assert!(shown.code == Some(1) && shown.stdout.contains("\"ssh\""), "{shown:#?}");
    }
    let bake = prepared("\"k=keys/rsa,socket\"", "echo never");
    bake.write("tools/about", "nothing\n");
    let _listener = std::os::unix::net::UnixListener::bind(bake.path("socket")).expect("a socket can be made");
    let ran = bake.run(&ARGS);
    assert!(ran.code == Some(1) && ran.stderr.contains("one of several paths: socket"), "{ran:#?}");
}
