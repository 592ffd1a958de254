//! Builds of an ordinary user who has no further ids (`BAKE_SINGLE_ID`): owners of the files of images are kept in their layers.
#![expect(clippy::print_stderr, reason = "a test that is left out says so")]

use std::{fs, path::Path, process::Command};

use crate::support::{Bake, Ran, base_layout};

/// The user and group `nobody`, who has no range in /etc/subuid.
const NOBODY: u32 = 65534;

/// Whether a test can be `nobody`; says so loudly if not.
fn can_be_nobody() -> bool {
    let is_root = fs::metadata("/proc/self").is_ok_and(|it| std::os::unix::fs::MetadataExt::uid(&it) == 0);
    let ranges = fs::read_to_string("/etc/subuid").unwrap_or_default();
    let has_ids = ranges.lines().any(|line| line.starts_with("nobody:") || line.starts_with("65534:"));
    let can = is_root && Path::new("/usr/bin/setpriv").exists() && !has_ids;
    if !can {
        eprintln!("SKIPPED: needs root, the program setpriv, and a user `nobody` without subordinate ids");
    }
    can
}

/// A folder that belongs to `nobody`, with a base image whose files belong to several users.
fn project(dockerfile: &str) -> Bake {
    let bake = Bake::new();
    bake.write(
        "make/Dockerfile",
        "FROM base\n\
         RUN mkdir -p /srv/app /var/mail /etc && echo secret > /etc/shadow && echo x > /srv/app/f && \
             echo 'root:x:0:0::/:/bin/sh' > /etc/passwd && echo 'app:x:1000:50::/srv/app:/bin/sh' >> /etc/passwd && \
             chown 0:42 /etc/shadow && chmod 0640 /etc/shadow && chown 0:8 /var/mail && chmod 2775 /var/mail && \
             chown -R 1000:50 /srv/app && chmod 4755 /srv/app/f\n",
    );
    let layout = base_layout().display();
    let target = |base: &str, output: &str| {
        format!(
            "target \"default\" {{\n  contexts = {{ base = \"oci-layout://{base}\" }}\n  output = [\"{output}\"]\n}}\n"
        )
    };
    bake.write("make/docker-bake.hcl", &target(&layout.to_string(), "type=oci,dest=layout,tar=false"));
    let _made = bake.run_in("make", &["--progress=plain", "--allow", "fs.read=*"]).ok();
    let moved = fs::rename(bake.path("make/layout"), bake.path("layout"));
    moved.and_then(|()| fs::create_dir(bake.path("p"))).expect("folders can be made");
    bake.write("p/Dockerfile", dockerfile);
    bake.write("p/f", "content");
    bake.write("p/docker-bake.hcl", &target("../layout", "type=tar,dest=out.tar"));
    let chown = Command::new("chown").args(["-R", "65534:65534"]).arg(bake.dir.path()).status();
    assert!(chown.is_ok_and(|status| status.success()));
    bake
}

/// Runs `bake` as `nobody`.
fn run(bake: &Bake, env: &[(&str, &str)]) -> Ran {
    let mut command = Command::new("setpriv");
    command.arg(format!("--reuid={NOBODY}")).arg(format!("--regid={NOBODY}")).arg("--clear-groups");
    command.arg(env!("CARGO_BIN_EXE_bake")).args(["--progress=plain", "--allow=fs=*"]).current_dir(bake.path("p"));
    command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", bake.path("home"));
    command.env("BAKE_HOME", bake.path("state")).env("BAKE_NETWORK", "host").env("NO_COLOR", "1");
    let output = command.envs(env.iter().copied()).output().expect("the binary starts");
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// `NAME MODE UID:GID` of entries of the tar file of the project.
fn owners(bake: &Bake, wanted: &[&str]) -> Vec<String> {
    let mut archive = tar::Archive::new(fs::File::open(bake.path("p/out.tar")).expect("it was written"));
    let mut found = std::collections::BTreeMap::new();
    for entry in archive.entries().expect("a tar file") {
        let entry = entry.expect("a whole tar file");
        let header = entry.header();
        let name = entry.path().expect("a name").to_string_lossy().trim_end_matches('/').to_owned();
        let owner = (header.mode().expect("a mode"), header.uid().expect("an id"), header.gid().expect("an id"));
        found.insert(name, owner);
    }
    let line = |name: &&str| {
        let (mode, uid, gid) = found.get(*name).unwrap_or_else(|| panic!("no {name}: {found:?}"));
        format!("{name} {mode:o} {uid}:{gid}")
    };
    wanted.iter().map(line).collect()
}

#[test]
fn owners_of_the_base_and_of_copies_are_kept_without_further_ids() {
    if !can_be_nobody() {
        return;
    }
    let bake = project(
        "FROM base\n\
         COPY --chown=app f /srv/app/new\n\
         COPY --link --chown=7:8 f /var/mail/linked\n\
         RUN echo more >> /etc/shadow && mv /srv/app/f /srv/app/moved && echo y > /made && \
             chown 1000:1000 /made && chgrp 42 /var/mail && [ \"$(stat -c %u:%g /etc/shadow)\" = 0:0 ]\n\
         FROM scratch\n\
         COPY --from=0 /etc /etc\nCOPY --from=0 /srv /srv\nCOPY --from=0 /var /var\nCOPY --from=0 /made /\n",
    );
    let refused = run(&bake, &[]);
    let told = refused.stderr.contains("BAKE_SINGLE_ID=1") && refused.stderr.contains("/etc/subuid");
    assert!(refused.code == Some(1) && told, "{refused:?}");
    let _ran = run(&bake, &[("BAKE_SINGLE_ID", "1")]).ok();
    let wanted = ["etc/shadow", "srv/app", "srv/app/moved", "srv/app/new", "var/mail", "var/mail/linked", "made"];
    let expected = [
        "etc/shadow 640 0:42",
        "srv/app 755 1000:50",
        "srv/app/moved 4755 1000:50",
        "srv/app/new 644 1000:50",
        "var/mail 2775 0:8",
        "var/mail/linked 644 7:8",
        "made 644 0:0",
    ];
    assert_eq!(owners(&bake, &wanted), expected);
    // Nothing of it is known where owners are the kernel's.
    assert!(bake.path("state/single-id/v1/snapshots").is_dir());
    assert_eq!(run(&bake, &[]).code, Some(1));
}

#[test]
fn a_step_that_needs_another_user_fails_and_is_told_what_to_install() {
    if !can_be_nobody() {
        return;
    }
    let bake = project(
        "FROM base\nRUN mv /srv /moved && cat /moved/app/f && [ ! -e /srv ]\nRUN --mount=type=cache,target=/c,uid=5 touch /c/f && echo no >&2 && exit 3\n",
    );
    let failed = run(&bake, &[("BAKE_SINGLE_ID", "1")]);
    let told = failed.stderr.contains("`uidmap`") && failed.stderr.contains("USER:100000:65536");
    assert!(failed.code == Some(1) && told, "{failed:?}");
    bake.write("p/Dockerfile", "FROM base\nUSER app\nRUN true\n");
    let failed = run(&bake, &[("BAKE_SINGLE_ID", "1")]);
    assert!(failed.code == Some(1) && failed.stderr.contains("`uidmap`"), "{failed:?}");
}
