//! Programs that carry a connection on their standard input and output: `ssh`, `kubectl`. They end with the connection: the
//! process is killed when the stream is dropped, and ends by itself when its input does, as when this process is killed.

use std::{
    io,
    os::unix::process::CommandExt as _,
    pin::Pin,
    process::Stdio,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf},
    process::{Child, ChildStdin, ChildStdout},
};

use super::{
    address::{PodPlace, SshPlace},
    connect_fault::ConnectCause,
    setup::ConnectSetup,
    stream::{BoxedStream, LastWords},
};

/// What a program is run as.
pub(super) struct Program {
    pub(super) name: &'static str,
    pub(super) args: Vec<String>,
}

impl Program {
    /// A command on another machine. `words` are quoted for its shell.
    pub(super) fn ssh(place: &SshPlace, words: &[&str]) -> Self {
        // In a process group of its own it could not ask for a password; what it has no key for is refused at once.
        let mut args: Vec<String> = ["-o", "BatchMode=yes", "-o", "ConnectTimeout=5", "-T"].map(str::to_owned).into();
        args.extend(place.user.iter().flat_map(|user| ["-l".to_owned(), user.clone()]));
        args.extend(place.port.iter().flat_map(|port| ["-p".to_owned(), port.to_string()]));
        args.extend(["--".to_owned(), place.host.clone()]);
        args.extend(words.iter().map(|word| quoted(word)));
        Self { name: "ssh", args }
    }

    /// `buildctl dial-stdio` of another machine.
    pub(super) fn of_ssh(place: &SshPlace) -> Self {
        match place.socket.as_ref().map(|socket| format!("unix://{socket}")) {
            Some(socket) => Self::ssh(place, &["buildctl", "--addr", &socket, "dial-stdio"]),
            None => Self::ssh(place, &["buildctl", "dial-stdio"]),
        }
    }

    /// `buildctl dial-stdio` in a pod.
    pub(super) fn of_pod(place: &PodPlace) -> Self {
        let mut args = kubectl_args(place.kubeconfig.as_deref(), place.context.as_deref(), place.namespace.as_deref());
        args.extend(["exec".to_owned(), "-i".to_owned(), place.pod.clone()]);
        args.extend(place.container.iter().map(|container| format!("--container={container}")));
        args.extend(["--", "buildctl", "dial-stdio"].map(str::to_owned));
        Self { name: "kubectl", args }
    }

    /// Starts the program. What it says on standard error goes to `words`.
    ///
    /// # Errors
    /// It is not installed.
    pub(super) fn start(self, setup: &ConnectSetup, words: &LastWords) -> Result<BoxedStream, ConnectCause> {
        let name = self.name;
        let mut command = self.command(setup);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| not_started(name, &error))?;
        let (Some(input), Some(output), Some(mut said)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(ConnectCause::new(format!("`{name}` has no pipes")));
        };
        let words = words.clone();
        drop(tokio::spawn(async move {
            let mut piece = [0; 1024];
            while let Ok(count @ 1..) = said.read(&mut piece).await {
                words.push(&piece[..count]);
            }
        }));
        Ok(Box::new(ProgramStream { _child: child, input, output }))
    }

    /// Runs the program to its end; what it wrote on standard output.
    ///
    /// # Errors
    /// It is not installed, or it failed, with what it said.
    pub(super) async fn output(self, setup: &ConnectSetup) -> Result<Vec<u8>, ConnectCause> {
        let name = self.name;
        let mut command = self.command(setup);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let ran = command.output().await.map_err(|error| not_started(name, &error))?;
        if ran.status.success() {
            return Ok(ran.stdout);
        }
        let words = LastWords::default();
        words.push(&ran.stderr);
        Err(ConnectCause::new(words.text().unwrap_or_else(|| format!("`{name}` failed"))))
    }

    fn command(self, setup: &ConnectSetup) -> tokio::process::Command {
        let mut command = (setup.command)(self.name.as_ref());
        // Ctrl-C is for us: the connection is needed to tell the daemon.
        command.args(self.args).envs(&*setup.env).process_group(0);
        let mut command = tokio::process::Command::from(command);
        command.kill_on_drop(true);
        command
    }
}

fn not_started(name: &str, error: &io::Error) -> ConnectCause {
    match error.kind() {
        io::ErrorKind::NotFound => {
            ConnectCause::new(format!("`{name}` is not installed")).help("install it, or put it on the PATH")
        }
        _ => ConnectCause::new(format!("`{name}` cannot be started: {error}")),
    }
}

/// The options that choose a cluster and a namespace.
pub(super) fn kubectl_args(kubeconfig: Option<&str>, context: Option<&str>, namespace: Option<&str>) -> Vec<String> {
    let options = [("kubeconfig", kubeconfig), ("context", context), ("namespace", namespace)];
    options.into_iter().filter_map(|(name, value)| Some(format!("--{name}={}", value?))).collect()
}

/// A word that a shell leaves as it is.
fn quoted(word: &str) -> String {
    let is_plain = word.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '-' | '_' | ':'));
    if is_plain { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

/// A program that runs, as a stream.
struct ProgramStream {
    /// Killed when it is dropped.
    _child: Child,
    input: ChildStdin,
    output: ChildStdout,
}

impl AsyncRead for ProgramStream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().output).poll_read(context, buffer)
    }
}

impl AsyncWrite for ProgramStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().input).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().input).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().input).poll_shutdown(context)
    }
}
