//! A shell in a step: after it has failed (`--on-error=shell`).

use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Write as _},
    os::fd::OwnedFd,
    process::{Command, Stdio},
};

use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

use crate::support::{Bake, Ran, base_layout, skipped};

const DOCKERFILE: &str = "FROM base AS tools
RUN mkdir /from && echo content > /from/file
FROM base
ENV GREETING=hello
WORKDIR /srv/dir
RUN echo below > below && chmod 777 /srv/dir
USER 1000:1001
RUN --mount=type=cache,target=/cache,mode=0777 --mount=type=secret,id=token,mode=0444 --mount=type=tmpfs,target=/t \\
    --mount=type=bind,from=tools,source=/from,target=/b --network=none \\
    echo changed > changed; echo step >> /cache/n; rm below; exit 7
";

fn project(dockerfile: &str) -> Bake {
    let bake = Bake::new();
    let layout = base_layout().display();
    bake.write("Dockerfile", dockerfile);
    bake.write(
        "docker-bake.hcl",
        &format!(
            "target \"default\" {{\n  contexts = {{ base = \"oci-layout://{layout}\" }}\n  \
             secret = [\"id=token,env=TOKEN\"]\n  output = [\"type=cacheonly\"]\n}}\n"
        ),
    );
    bake
}

/// A run whose standard input is a pipe with `input`.
fn piped(bake: &Bake, args: &[&str], env: &[(&str, &str)], input: &str) -> Ran {
    let mut child = bake
        .command("", args)
        .envs([("TOKEN", "xyzzy42"), ("BUILDX_BAKE_ENTITLEMENTS_FS", "0")])
        .envs(env.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut stdin = child.stdin.take().expect("it is a pipe");
    // One that reads nothing is no fault of the test.
    let _not_read = stdin.write_all(input.as_bytes());
    drop(stdin);
    let out = child.wait_with_output().expect("it can be waited for");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    Ran { code: out.status.code(), stdout: text(out.stdout), stderr: text(out.stderr) }
}

const LOOK: &str = "echo $GREETING; pwd; id -u; id -g; ls; cat changed; cat /cache/n; cat /run/secrets/token; echo; \
                    cat /b/file; grep -c ' /t tmpfs' /proc/mounts; ls /sys/class/net; echo shell >> /cache/n; \
                    echo told >&2; touch new; exit 5\n";
const SEEN: &str = "hello\n/srv/dir\n1000\n1001\nchanged\nchanged\nstep\nxyzzy42\ncontent\n1\nlo\n";

#[test]
fn a_shell_in_a_failed_step_sees_what_the_step_saw() {
    let bake = project(DOCKERFILE);
    for runtime in ["embedded", "runc"] {
        if runtime == "runc" && !has("runc") {
            skipped("a shell with runc", crate::support::installable("runc").as_deref());
            continue;
        }
        let env = [("BAKE_RUNTIME", runtime), ("BAKE_CACHE_NAMESPACE", runtime)];
        let ran = piped(&bake, &["--progress=plain", "--on-error=shell"], &env, LOOK);
        assert_eq!((ran.code, &*ran.stdout), (Some(1), SEEN), "{runtime}: {}", ran.stderr);
        let told = ran.stderr.find("exit code: 7").expect("the fault is shown");
        let shell = ran.stderr.find("the step was: /bin/sh -c 'echo changed > changed;").expect("the command is shown");
        assert!(told < shell && ran.stderr.ends_with("told\n"), "{runtime}: {}", ran.stderr);

        // Nothing of it is kept but what it did in cache mounts.
        let again = piped(&bake, &["--progress=plain", "--on-error=shell"], &env, "cat /cache/n; ls\n");
        assert_eq!(again.stdout, "step\nshell\nstep\nchanged\n", "{runtime}: {}", again.stderr);
    }
    let log = bake.run(&["log", "exit 7"]).ok().stdout;
    assert!(log.is_empty(), "{log}");
}

#[test]
fn without_a_user_the_run_goes_on_as_usual() {
    let bake = project(DOCKERFILE);
    let warning = "no shell is opened in the step that failed";
    let env = [("TOKEN", "x"), ("BUILDX_BAKE_ENTITLEMENTS_FS", "0")];
    let run = |stdin: Stdio, more: &[(&str, &str)]| {
        let mut command = bake.command("", &["--progress=plain", "--on-error=shell"]);
        let out = command.envs(env).envs(more.iter().copied()).stdin(stdin).output().expect("the binary starts");
        (out.status.code(), String::from_utf8(out.stderr).expect("UTF-8"))
    };
    bake.write("input", "touch /srv/dir/x\n");
    let file = File::open(bake.path("input")).expect("it was written");
    for stdin in [Stdio::null(), file.into()] {
        let (code, stderr) = run(stdin, &[]);
        assert!(code == Some(1) && stderr.contains(warning) && stderr.contains("exit code: 7"), "{stderr}");
    }
    // A pipe that nobody writes to, as CI systems have it.
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let (code, stderr) = run(reader.into(), &[("CI", "true")]);
    assert!(code == Some(1) && stderr.contains(warning), "{stderr}");
    drop(writer);
    // A step that is not there, and one that does not fail.
    let fails = "FROM base\nRUN rm /bin/sh && exit 1\n";
    bake.write("Dockerfile", fails);
    let ran = piped(&bake, &["--progress=plain", "--on-error=shell"], &[], "echo no\n");
    let told = "no shell can be opened, the file system of the step has none: /bin/sh";
    assert!(ran.code == Some(1) && ran.stdout.is_empty() && ran.stderr.contains(told), "{}", ran.stderr);
    bake.write("Dockerfile", "FROM base\nRUN true\n");
    piped(&bake, &["--progress=plain", "--on-error=shell"], &[], "echo no\n").ok();
}

/// A terminal: the side of the program, and ours.
fn terminal() -> (OwnedFd, File) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("there are terminals");
    grantpt(&master).expect("it is ours");
    unlockpt(&master).expect("it is ours");
    let name = ptsname(&master, Vec::new()).expect("it has a name").into_string().expect("it is ASCII");
    tcsetwinsize(&master, Winsize { ws_row: 33, ws_col: 111, ws_xpixel: 0, ws_ypixel: 0 }).expect("it has a size");
    let slave = OpenOptions::new().read(true).write(true).open(name).expect("it can be opened");
    (slave.into(), File::from(master))
}

/// Reads what the program writes until it has written `wanted`.
fn until(master: &mut File, seen: &mut String, wanted: &str) {
    let from = seen.len();
    let mut buffer = [0; 4096];
    while !seen[from..].contains(wanted) {
        let n = master.read(&mut buffer).unwrap_or(0);
        assert!(n > 0, "{wanted:?} is missing: {seen}");
        *seen += &String::from_utf8_lossy(&buffer[..n]);
    }
}

#[test]
fn on_a_terminal_the_shell_has_one_of_its_own() {
    for runtime in ["embedded", "runc"] {
        if runtime == "runc" && !has("runc") {
            skipped("a shell with runc", crate::support::installable("runc").as_deref());
            continue;
        }
        let bake = project("FROM base\nRUN --network=none echo made > /made; exit 7\n");
        let (slave, mut master) = terminal();
        let stream = || Stdio::from(slave.try_clone().expect("descriptors are left"));
        let mut command = bake.command("", &["--progress=plain", "--on-error=shell"]);
        command.env("BUILDX_BAKE_ENTITLEMENTS_FS", "0").env("BAKE_RUNTIME", runtime).env("TERM", "vt100");
        command.env("TOKEN", "x");
        let mut child = command.stdin(stream()).stdout(stream()).stderr(stream()).spawn().expect("the binary starts");
        drop(command);
        let mut seen = String::new();
        until(&mut master, &mut seen, "# ");
        let mut typed = |text: &str, wanted: &str| {
            master.write_all(text.as_bytes()).expect("it can be written to");
            until(&mut master, &mut seen, wanted);
        };
        typed("tty; stty size; echo $TERM $(cat /made)\r", "vt100 made");
        // Ctrl-C ends the command, not the shell, and not the build.
        typed("sleep 1000; echo not-$((1+1))\r", "sleep 1000");
        std::thread::sleep(std::time::Duration::from_millis(500));
        typed("\u{3}", "# ");
        typed("echo after-$((1+1))\r", "after-2");
        tcsetwinsize(&slave, Winsize { ws_row: 40, ws_col: 90, ws_xpixel: 0, ws_ypixel: 0 }).expect("it has a size");
        typed("sleep 1; stty size\r", "40 90");
        drop(slave);
        master.write_all(b"exit\r").expect("it can be written to");
        let code = child.wait().expect("it can be waited for").code();
        assert_eq!(code, Some(1), "{runtime}: {seen}");
        assert!(seen.contains("/dev/pts/0") && seen.contains("33 111"), "{runtime}: {seen}");
        assert!(!seen.contains("not-2"), "{runtime}: {seen}");
    }
}

fn has(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}

/// `piped`, with arguments of `bake debug`.
fn debug(bake: &Bake, args: &[&str], input: &str) -> Ran {
    piped(bake, &[&["debug", "--progress=plain"], args].concat(), &[], input)
}

#[test]
fn a_shell_is_opened_in_front_of_a_step() {
    let bake = project(DOCKERFILE);
    let ran = debug(&bake, &[], "ls; cat below /run/secrets/token; id -u; echo shell >> /cache/n; touch new; exit 5\n");
    assert_eq!((ran.code, &*ran.stdout), (Some(5), "below\nbelow\nxyzzy421000\n"), "{}", ran.stderr);
    let told = "a shell in front of the step: [default stage-1 4/4] RUN --mount=type=cache";
    assert!(
        ran.stderr.contains(told) && ran.stderr.contains("the step is: /bin/sh -c 'echo changed"),
        "{}",
        ran.stderr
    );

    // A command in place of the shell, an earlier step, a step of another stage; nothing of the first is left.
    let ran = debug(&bake, &["--", "/bin/sh", "-c", "cat /cache/n; cat; ls"], "typed\n").ok();
    assert_eq!(ran.stdout, "shell\ntyped\nbelow\n", "{}", ran.stderr);
    let ran = debug(&bake, &["--step=default stage-1 3/4", "default", "--", "ls"], "").ok();
    assert_eq!(ran.stdout, "", "{}", ran.stderr);
    let ran = debug(&bake, &["--step=mkdir /from", "--", "/bin/sh", "-c", "ls /from || pwd"], "").ok();
    assert_eq!(ran.stdout, "/\n", "{}", ran.stderr);

    // The first step that fails on the way.
    let before = DOCKERFILE.replace("RUN echo below > below", "RUN echo gone > gone; test -e /repaired");
    bake.write("Dockerfile", &before);
    let ran = debug(&bake, &[], "pwd; ls\n").ok();
    assert_eq!(ran.stdout, "/srv/dir\n", "{}", ran.stderr);
    assert!(ran.stderr.contains("a shell in front of the step: [default stage-1 3/4] RUN echo gone"), "{}", ran.stderr);
    assert!(ran.stderr.contains("exit code: 1"), "{}", ran.stderr);
}

#[test]
fn a_step_that_is_not_there_is_told() {
    let bake = project(DOCKERFILE);
    let fault = |args: &[&str], code: i32, told: &str| {
        let ran = debug(&bake, args, "echo no\n");
        assert_eq!((ran.code, &*ran.stdout), (Some(code), ""), "{}", ran.stderr);
        assert!(ran.stderr.contains(told), "{}", ran.stderr);
    };
    fault(&["--step=nope"], 1, "no RUN step of the target has this in its name: nope");
    fault(&["--step=RUN"], 1, "3 steps have this in their names: RUN");
    fault(&["--", "no-such-program"], 1, "executable file not found in $PATH");
    fault(&["nobody"], 1, "nobody");
    bake.write("Dockerfile", "FROM base\nCOPY Dockerfile /\n");
    fault(&[], 1, "the target has no RUN step");
    bake.write(
        "docker-bake.hcl",
        "target \"a\" {}\ntarget \"b\" {}\ngroup \"default\" {\n  targets = [\"a\", \"b\"]\n}\n",
    );
    fault(&[], 2, "a shell is opened in one target, not in 2");
}

#[test]
fn the_files_of_a_failed_step_are_kept_until_the_next() {
    let bake = project(DOCKERFILE);
    let fail = |args: &[&str]| {
        let ran = piped(&bake, &[&["--progress=plain", "--on-error=keep"], args].concat(), &[], "");
        assert_eq!(ran.code, Some(1), "{}", ran.stderr);
        let line = ran.stderr.lines().find_map(|it| it.strip_prefix("the file system of the failed step is kept at "));
        std::path::PathBuf::from(line.unwrap_or_else(|| panic!("it is told where: {}", ran.stderr)))
    };
    let first = fail(&[]);
    let read = |name: &str| std::fs::read_to_string(first.join(name)).ok();
    assert_eq!(read("srv/dir/changed").as_deref(), Some("changed\n"));
    assert!(read("srv/dir/below").is_none() && first.join("bin/busybox").exists());
    let about = read("../step.txt").expect("it is described");
    assert!(about.starts_with("step: [default stage-1 4/4] RUN ") && about.contains("user: 1000:1001\n"), "{about}");
    assert!(!about.contains("xyzzy42") && read("run/secrets/token").is_none());

    bake.write("Dockerfile", "FROM base\nRUN echo other > /other; exit 1\n");
    let second = fail(&[]);
    assert_eq!(first, second);
    assert!(read("srv/dir/changed").is_none() && read("other").is_some());
    let du = bake.run(&["du", "--verbose", "--filter=type=failed"]).ok().stdout;
    assert!(du.contains(" failed "), "{du}");
    bake.run(&["prune", "--force"]).ok();
    assert!(!second.exists());
}

#[test]
fn an_ordinary_user_gets_the_same() {
    const USER: &str = "65534";
    if !rustix::process::geteuid().is_root() || !has("setpriv") {
        return skipped("a shell in a step of an ordinary user", None);
    }
    let bake = project("FROM base\nWORKDIR /dir\nRUN --network=none echo changed > changed; exit 7\n");
    let system = |program: &str, args: &[&str]| {
        let done = Command::new(program).args(args).current_dir(bake.dir.path()).status();
        assert!(done.is_ok_and(|status| status.success()), "{program} {args:?}");
    };
    system("cp", &["-r", &base_layout().display().to_string(), "layout"]);
    let definition = bake.read("docker-bake.hcl").replace(&base_layout().display().to_string(), "layout");
    bake.write("docker-bake.hcl", &definition);
    system("chown", &["-R", &format!("{USER}:{USER}"), "."]);
    let run = |args: &[&str], input: &str| {
        let mut command = bake.command("", args);
        let program = command.get_program().to_owned();
        let envs: Vec<_> =
            command.get_envs().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))).collect();
        command = Command::new("setpriv");
        command.arg(format!("--reuid={USER}")).arg(format!("--regid={USER}")).arg("--clear-groups").arg(program);
        command.args(args).current_dir(bake.dir.path()).env_clear().envs(envs);
        command.env("TOKEN", "x").env("BUILDX_BAKE_ENTITLEMENTS_FS", "0");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary starts");
        let _not_read = child.stdin.take().expect("it is a pipe").write_all(input.as_bytes());
        let out = child.wait_with_output().expect("it can be waited for");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        Ran { code: out.status.code(), stdout: text(out.stdout), stderr: text(out.stderr) }
    };
    let ran = run(&["--progress=plain", "--on-error=shell"], "id -u; pwd; cat changed\n");
    if ran.stderr.contains("user namespace") {
        return skipped("a shell in a step of an ordinary user: there are no user namespaces", None);
    }
    assert_eq!((ran.code, &*ran.stdout), (Some(1), "0\n/dir\nchanged\n"), "{}", ran.stderr);
    let ran = run(&["debug", "--progress=plain"], "ls; exit 3\n");
    assert_eq!((ran.code, &*ran.stdout), (Some(3), ""), "{}", ran.stderr);
    let ran = run(&["--progress=plain", "--on-error=keep"], "");
    assert!(ran.stderr.contains("its files belong to you"), "{}", ran.stderr);
    assert_eq!(bake.read("state/v1/failed/last/fs/dir/changed"), "changed\n");
}
