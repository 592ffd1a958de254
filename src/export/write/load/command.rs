//! The command line of an engine: `docker load` and `podman load` here, `docker load` of another machine by ssh.

use std::{
    ffi::OsString,
    path::Path,
    process::{Command, Stdio},
};

use super::{endpoint::EngineEndpoint, http::clean};
use crate::{buildkit::SshPlace, registry::ClientOptions};

/// A command line that loads an archive.
pub(super) struct EngineCommand {
    make: fn(&std::ffi::OsStr) -> Command,
    env: Vec<(OsString, OsString)>,
    program: &'static str,
    args: Vec<String>,
    /// It runs elsewhere, and so reads the archive from its standard input.
    is_remote: bool,
}

impl EngineCommand {
    /// The command line that reaches an engine; `None` if the engine is reached by a socket.
    pub(super) fn of(options: &ClientOptions, endpoint: &EngineEndpoint) -> Option<Self> {
        let mut env = options.env.clone();
        let (program, args) = match endpoint {
            EngineEndpoint::Command { program, host } => {
                env.extend(host.iter().map(|host| ("DOCKER_HOST".into(), host.into())));
                (*program, Vec::new())
            }
            EngineEndpoint::Ssh(SshPlace { user, host, port, socket }) => {
                let mut args: Vec<String> = ["-o", "ConnectTimeout=30", "-T"].map(str::to_owned).into();
                args.extend(user.iter().flat_map(|user| ["-l".to_owned(), user.clone()]));
                args.extend(port.iter().flat_map(|port| ["-p".to_owned(), port.to_string()]));
                args.extend(["--".to_owned(), host.clone(), "docker".to_owned()]);
                args.extend(socket.iter().flat_map(|socket| ["--host".to_owned(), format!("unix://{socket}")]));
                ("ssh", args)
            }
            EngineEndpoint::Unix(_) | EngineEndpoint::Web { .. } | EngineEndpoint::Containerd(_) => return None,
        };
        let is_remote = matches!(endpoint, EngineEndpoint::Ssh(_));
        Some(Self { make: options.command, env, program, args, is_remote })
    }

    /// Whether the engine behind it answers: `version` asks the engine, and so fails where there is none.
    ///
    /// # Errors
    /// What the command says.
    pub(super) async fn ready(&self) -> Result<(), String> {
        let mut command = self.command();
        command.arg("version").stdin(Stdio::null());
        run(command).await
    }

    /// Loads an archive.
    ///
    /// # Errors
    /// What the command says.
    pub(super) async fn load(&self, archive: &Path) -> Result<(), String> {
        let mut command = self.command();
        command.args(["load", "-q"]);
        if self.is_remote {
            command.stdin(std::fs::File::open(archive).map_err(|error| error.to_string())?);
        } else {
            command.arg("-i").arg(archive).stdin(Stdio::null());
        }
        run(command).await
    }

    fn command(&self) -> Command {
        let mut command = (self.make)(self.program.as_ref());
        command.args(&self.args).envs(self.env.iter().map(|(key, value)| (key, value)));
        command
    }
}

async fn run(mut command: Command) -> Result<(), String> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let ran = tokio::task::spawn_blocking(move || command.output()).await.map_err(|e| e.to_string())?;
    match ran {
        Ok(out) if out.status.success() => Ok(()),
        Ok(out) => Err(clean(&String::from_utf8_lossy(&out.stderr))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err("not installed".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
