//! Steps run by another runtime come out as in our own sandbox.

use crate::support::{Bake, Ran, base_layout};

const DOCKERFILE: &str = "FROM base AS run
ENV GREETING=hello
WORKDIR /srv/dir
RUN --mount=type=cache,target=/cache --mount=type=secret,id=tok --mount=type=tmpfs,target=/t \\
    --mount=type=bind,from=base,source=/bin,target=/b \\
    echo \"$GREETING $HOME $(pwd) $(id -u):$(id -g) $(hostname)\" > /got; grep -E 'Cap|Seccomp:' /proc/self/status >> /got; \\
    cat /run/secrets/tok; rev /run/secrets/tok >> /got; echo x >> /cache/n; wc -l < /cache/n >> /got; ls -l /b/sh >> /got; \\
    cat /etc/hosts >> /got; echo x > /dev/null; mknod /dev/disk b 8 0 && head -c 1 /dev/disk >> /got 2>&1; ls /t >> /got
RUN <<S
#!/bin/sh
echo heredoc >> /got
S
USER 1000:1001
RUN id; grep Cap /proc/self/status; cat /got > /dev/null; ! touch /got
USER root
RUN --network=none ip link >> /got; ! unshare -m true
FROM scratch AS result
COPY --from=run / /
FROM base AS fails
RUN echo output; exit 7
FROM base AS missing
RUN [\"no-such-program\"]
FROM base AS ghost
USER ghost
RUN true
";

fn bake() -> Bake {
    let bake = Bake::new();
    bake.write("Dockerfile", DOCKERFILE);
    bake.write("tok.txt", "hunter2\n");
    let base = base_layout().display();
    bake.write(
        "docker-bake.hcl",
        &format!(
            "target \"default\" {{\n  matrix = {{ stage = [\"result\", \"fails\", \"missing\", \"ghost\"] }}\n  name = stage\n  \
             target = stage\n  contexts = {{ base = \"oci-layout://{base}\" }}\n  secret = [\"id=tok,src=tok.txt\"]\n  \
             output = [stage == \"result\" ? \"type=tar,dest=out.tar\" : \"type=cacheonly\"]\n}}\n"
        ),
    );
    bake
}

#[must_use]
fn run(bake: &Bake, runtime: &str, target: &str) -> Ran {
    let args = ["--progress=plain", "--allow", "fs.read=*", target];
    bake.run_with("", &args, &[("BAKE_RUNTIME", runtime)])
}

/// What a step left and said.
fn outcome(runtime: &str) -> (Vec<(String, Vec<u8>)>, Vec<String>) {
    let bake = bake();
    let ran = run(&bake, runtime, "result").ok();
    assert!(!ran.stderr.contains("hunter2"), "{ran:#?}");
    let files = crate::support::tar_entries(&bake.path("out.tar"));
    // `#6 0.160 text` less number and time.
    let said = ran.stderr.lines().filter_map(|line| line.strip_prefix('#')?.splitn(3, ' ').nth(2).map(str::to_owned));
    let said = said.filter(|it| it.contains("Cap") || it.contains("uid=")).collect();
    // The cache does not know who ran the steps.
    let again = run(&bake, "embedded", "result").ok();
    assert_eq!(again.stderr.matches(" DONE ").count(), 0, "{again:#?}");
    (files, said)
}

#[test]
fn runc_runs_steps_as_the_sandbox_does() {
    let (ours, theirs) = (outcome("embedded"), outcome("runc"));
    let text = |it: &(Vec<(String, Vec<u8>)>, Vec<String>)| {
        let got = it.0.iter().find(|(name, _)| name == "got").map(|(_, content)| content.clone());
        String::from_utf8_lossy(&got.unwrap_or_default()).into_owned()
    };
    assert_eq!(text(&ours), text(&theirs));
    assert!(text(&ours).starts_with("hello /root /srv/dir 0:0 "), "{}", text(&ours));
    assert!(text(&ours).contains("2retnuh\n1\n"), "{}", text(&ours));
    assert_eq!(ours, theirs);
}

#[test]
fn faults_of_a_step_and_of_the_runtime_are_told_apart() {
    let bake = bake();
    let fails = run(&bake, "runc", "fails");
    assert_eq!(fails.code, Some(1));
    assert!(fails.stderr.contains("exit code: 7"), "{fails:#?}");
    let missing = run(&bake, "runc", "missing");
    assert!(
        missing.stderr.contains("runc` could not run it") && missing.stderr.contains("no-such-program"),
        "{missing:#?}"
    );
    let ghost = run(&bake, "runc", "ghost");
    assert!(ghost.stderr.contains("user not found in the image's /etc/passwd: `ghost`"), "{ghost:#?}");
    let typo = run(&bake, "rucn", "fails");
    assert_eq!(typo.code, Some(2));
    assert!(typo.stderr.contains("did you mean `runc`?"), "{typo:#?}");
}
