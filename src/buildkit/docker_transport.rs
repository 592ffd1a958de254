//! Connections through a Docker daemon: its own BuildKit, by an upgrade of `/grpc`, and `buildctl dial-stdio` in one of its
//! containers (<https://docs.docker.com/reference/api/engine/>).

use std::{future::poll_fn, pin::Pin};

use hyper::{
    Method, Request, Response, StatusCode,
    body::{Body as _, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpStream, UnixStream};

use super::{
    connect_fault::{ConnectCause, clean},
    docker_host::{DockerHost, USUAL_SOCKET},
    process::Program,
    setup::ConnectSetup,
    stream::{BoxedStream, FramedStream, LastWords},
    tls::{self, Spoken},
};

/// Longest answer that is read, in bytes.
const LONGEST: usize = 1 << 20;

/// The interface of a Docker daemon.
pub(super) struct DockerApi<'a> {
    host: DockerHost,
    setup: &'a ConnectSetup,
    words: &'a LastWords,
}

/// Whether a container was started for the sake of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ContainerState {
    Ran,
    Started,
}

impl<'a> DockerApi<'a> {
    /// The daemon of a context, or the one that the environment or Docker's configuration chooses.
    ///
    /// # Errors
    /// What is chosen is no address, or no context.
    pub(super) fn new(
        context: Option<&str>,
        setup: &'a ConnectSetup,
        words: &'a LastWords,
    ) -> Result<Self, ConnectCause> {
        let host = setup.docker(|docker| docker.host(context));
        let host = host.map_err(|why| ConnectCause::new(why).help("`docker context ls` shows those that there are"))?;
        let host = host.unwrap_or_else(|| DockerHost::Unix(USUAL_SOCKET.into()));
        Ok(Self { host, setup, words })
    }

    /// The BuildKit of the daemon.
    pub(super) async fn buildkit(&self) -> Result<BoxedStream, ConnectCause> {
        self.hijack("/grpc", "h2c", None).await
    }

    /// Starts a container that does not run.
    ///
    /// # Errors
    /// There is no such container, or it cannot be started.
    pub(super) async fn run_container(&self, name: &str) -> Result<ContainerState, ConnectCause> {
        let (status, found) = self.ask(Method::GET, &format!("/containers/{name}/json"), None).await?;
        if status == StatusCode::NOT_FOUND {
            let cause = ConnectCause::new(format!("there is no such container: {name}"));
            return Err(cause.help("make it with `docker buildx inspect --bootstrap NAME`"));
        }
        if !status.is_success() {
            return Err(refused(status, &found));
        }
        let is = |field: &str| found.pointer(field).and_then(Value::as_bool) == Some(true);
        if is("/State/Paused") {
            let cause = ConnectCause::new(format!("the container is paused: {name}"));
            return Err(cause.help(format!("write `docker unpause {name}`")));
        }
        if is("/State/Running") {
            return Ok(ContainerState::Ran);
        }
        if !self.setup.starts_containers {
            let cause = ConnectCause::new(format!("the container is stopped: {name}"));
            return Err(cause.help("a build starts it"));
        }
        let (status, said) = self.ask(Method::POST, &format!("/containers/{name}/start"), None).await?;
        if status.is_success() || status == StatusCode::NOT_MODIFIED {
            return Ok(ContainerState::Started);
        }
        let ConnectCause { reason, help } = refused(status, &said);
        Err(ConnectCause { reason: format!("the container cannot be started, {reason}"), help })
    }

    /// `buildctl dial-stdio` in a container that runs.
    pub(super) async fn exec(&self, name: &str) -> Result<BoxedStream, ConnectCause> {
        let wanted = json!({
            "AttachStdin": true, "AttachStdout": true, "AttachStderr": true, "Tty": false,
            "Cmd": ["buildctl", "dial-stdio"],
        });
        let (status, made) = self.ask(Method::POST, &format!("/containers/{name}/exec"), Some(&wanted)).await?;
        let id = made.get("Id").and_then(Value::as_str).filter(|id| id.chars().all(|c| c.is_ascii_alphanumeric()));
        let Some(id) = id.filter(|_| status.is_success()) else { return Err(refused(status, &made)) };
        let start = json!({ "Detach": false, "Tty": false });
        let stream = self.hijack(&format!("/exec/{id}/start"), "tcp", Some(&start)).await?;
        Ok(Box::new(FramedStream::new(stream, self.words.clone())))
    }

    /// A connection to the daemon.
    async fn connect(&self) -> Result<BoxedStream, ConnectCause> {
        let failed = |error: std::io::Error, place: &str| {
            let ConnectCause { reason, help } = ConnectCause::of(&error);
            ConnectCause { reason: format!("the Docker daemon at {place}: {reason}"), help }
        };
        match &self.host {
            DockerHost::Unix(path) => {
                let stream = UnixStream::connect(path).await;
                Ok(Box::new(stream.map_err(|error| failed(error, &path.display().to_string()))?))
            }
            DockerHost::Tcp { place, tls } => {
                let place = place.split('/').next().unwrap_or_default();
                let stream = TcpStream::connect(place).await.map_err(|error| failed(error, place))?;
                let Some(tls) = tls else { return Ok(Box::new(stream)) };
                let host = place.rsplit_once(':').map_or(place, |(host, _)| host);
                let host = host.trim_start_matches('[').trim_end_matches(']');
                tls::encrypt(Box::new(stream), &tls.files(), host, Spoken::Http1).await
            }
            DockerHost::Ssh(place) => {
                let socket = place.socket.as_ref().map(|socket| format!("unix://{socket}"));
                let words: Vec<&str> = match &socket {
                    Some(socket) => vec!["docker", "--host", socket, "system", "dial-stdio"],
                    None => vec!["docker", "system", "dial-stdio"],
                };
                Program::ssh(place, &words).start(self.setup, self.words)
            }
            DockerHost::Foreign(address) => {
                let cause = ConnectCause::new(format!("Docker daemons are not reached this way here: {address}"));
                Err(cause.help("known: unix://, tcp://, ssh://"))
            }
        }
    }

    /// Sends one request on a connection of its own.
    async fn send(
        &self,
        method: Method,
        path: &str,
        upgrade: Option<&str>,
        body: Option<&Value>,
    ) -> Result<Response<Incoming>, ConnectCause> {
        let stream = self.connect().await?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.cause(&error))?;
        // It ends with the answer, or when what it is upgraded to ends.
        drop(tokio::spawn(connection.with_upgrades()));
        let mut request = Request::builder().method(method).uri(path).header("Host", "docker");
        if let Some(protocol) = upgrade {
            request = request.header("Connection", "Upgrade").header("Upgrade", protocol);
        }
        if body.is_some() {
            request = request.header("Content-Type", "application/json");
        }
        let request = request.body(body.map(Value::to_string).unwrap_or_default());
        let request = request.map_err(|error| ConnectCause::new(error.to_string()))?;
        sender.send_request(request).await.map_err(|error| self.cause(&error))
    }

    /// Asks for a document; `null` where the answer has none.
    async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<(StatusCode, Value), ConnectCause> {
        let answer = self.send(method, path, None, body).await?;
        let status = answer.status();
        let text = bounded(answer.into_body()).await?;
        Ok((status, serde_json::from_slice(&text).unwrap_or(Value::Null)))
    }

    /// Takes over the connection of a request.
    async fn hijack(&self, path: &str, protocol: &str, body: Option<&Value>) -> Result<BoxedStream, ConnectCause> {
        let answer = self.send(Method::POST, path, Some(protocol), body).await?;
        let status = answer.status();
        if status != StatusCode::SWITCHING_PROTOCOLS {
            let text = bounded(answer.into_body()).await?;
            return Err(refused(status, &serde_json::from_slice(&text).unwrap_or(Value::Null)));
        }
        let upgraded = hyper::upgrade::on(answer).await.map_err(|error| self.cause(&error))?;
        Ok(Box::new(TokioIo::new(upgraded)))
    }

    fn cause(&self, error: &hyper::Error) -> ConnectCause {
        self.words.text().map_or_else(|| ConnectCause::of(error), ConnectCause::new)
    }
}

/// What a daemon says when it refuses.
fn refused(status: StatusCode, answer: &Value) -> ConnectCause {
    match answer.get("message").and_then(Value::as_str) {
        Some(message) => ConnectCause::new(clean(message)),
        None => ConnectCause::new(format!("the Docker daemon answered {}", status.as_u16())),
    }
}

async fn bounded(mut body: Incoming) -> Result<Vec<u8>, ConnectCause> {
    let mut text = Vec::new();
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let frame = frame.map_err(|error| ConnectCause::of(&error))?;
        if let Ok(piece) = frame.into_data() {
            if text.len() + piece.len() > LONGEST {
                return Err(ConnectCause::new("the answer of the Docker daemon does not end"));
            }
            text.extend_from_slice(&piece);
        }
    }
    Ok(text)
}
