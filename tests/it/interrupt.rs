//! SIGINT and SIGTERM end the binary with 130, whatever it waits for. A server of the test's own that accepts a connection and
//! never answers shows when the run has come to the place where it is interrupted; nothing sleeps.

use std::{
    net::{TcpListener, TcpStream},
    process::{Child, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::Bake;

/// A server that accepts and never answers.
struct Silent(TcpListener);

impl Silent {
    fn start() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").expect("a port is free"))
    }

    fn url(&self) -> String {
        format!("http://{}/file", self.0.local_addr().expect("it is bound"))
    }

    /// Waits for a connection, which stays open while the result lives.
    fn accept(&self) -> TcpStream {
        self.0.accept().expect("the run connects").0
    }
}

fn start(bake: &Bake, definition: &str) -> Child {
    bake.write("docker-bake.hcl", definition);
    let mut command = bake.command("", &["--progress", "plain"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the binary starts")
}

fn send(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a process id")).expect("not zero");
    kill_process(pid, signal).expect("it still runs");
}

/// The exit code and what was written to standard error.
fn end(child: Child) -> (Option<i32>, String) {
    let output = child.wait_with_output().expect("it can be waited for");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_step_that_waits_for_a_server_is_interrupted() {
    for signal in [Signal::INT, Signal::TERM] {
        let (bake, server) = (Bake::new(), Silent::start());
        let text = format!(
            r#"target "default" {{
                dockerfile-inline = "FROM scratch\nADD {} /file\n"
                output = ["type=local,dest=out"]
            }}"#,
            server.url()
        );
        let child = start(&bake, &text);
        let _open = server.accept();
        send(&child, signal);
        let (code, stderr) = end(child);
        assert_eq!(code, Some(130), "{signal:?}: {stderr}");
        assert!(stderr.contains("interrupted"), "{stderr}");
        assert!(!bake.path("out").exists(), "nothing was exported");
    }
}

#[test]
fn a_context_that_is_fetched_before_the_run_is_interrupted() {
    let (bake, server) = (Bake::new(), Silent::start());
    let text = format!(r#"target "default" {{ context = "{}" }}"#, server.url());
    let child = start(&bake, &text);
    let _open = server.accept();
    send(&child, Signal::TERM);
    let (code, stderr) = end(child);
    assert_eq!(code, Some(130), "{stderr}");
}

#[test]
fn a_definition_that_never_comes_is_interrupted() {
    let bake = Bake::new();
    let mut command = bake.command("", &["-f", "-"]);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let child = command.spawn().expect("the binary starts");
    // Before the signals are watched they end the process in the way that the system does.
    send(&child, Signal::TERM);
    let output = child.wait_with_output().expect("it can be waited for");
    assert!(!output.status.success());
}
