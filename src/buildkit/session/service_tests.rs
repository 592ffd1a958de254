//! Blobs, secrets, agents, downloads and access to registries, as a daemon asks for them.

use std::{collections::BTreeMap, io, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use prost::Message as _;
use ring::signature::{ED25519, UnparsedPublicKey};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::{Code, Status};

use super::{
    auth::{
        AuthorityAnswer, AuthorityRequest, CredentialsAnswer, CredentialsRequest, RegistryAccess, TokenAnswer,
        TokenRequest, VerifyAnswer, VerifyRequest,
    },
    blobs::{ContentPlace, ReceivedBlobs},
    call::BytesMessage,
    content::{BlobRequest, OneInfo, ReadAnswer, ReadRequest, WriteAnswer, WriteRequest},
    secrets::{SecretAnswer, SecretRequest, SecretSource},
    services::SessionServices,
    ssh::{CheckRequest, SshSource, SshStream},
    tests::Daemon,
};
use crate::{
    layer::view::at,
    oci::Digest,
    registry::{Client, ClientOptions},
    store::Store,
};

const CONTENT: &str = "buildkit-attachable-store-id";
const WRITE: &str = "/containerd.services.content.v1.Content/Write";
const READ: &str = "/containerd.services.content.v1.Content/Read";
const INFO: &str = "/containerd.services.content.v1.Content/Info";

/// Writes a blob as containerd's client does.
async fn write(daemon: &Daemon, place: &str, expected: &Digest, content: &[u8]) -> Result<(), Status> {
    let blank = WriteRequest {
        reference: "ref".to_owned(),
        total: i64::try_from(content.len()).expect("short"),
        expected: expected.to_string(),
        ..WriteRequest::default()
    };
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    let send = |request: WriteRequest| sender.send(Bytes::from(request.encode_to_vec())).expect("open");
    send(blank.clone());
    let mut answers = daemon.stream(WRITE, &[(CONTENT, place)], receiver).await?;
    let mut next = async || -> Result<WriteAnswer, Status> {
        let answer = answers.message().await?.expect("an answer");
        Ok(WriteAnswer::decode(answer).expect("well formed"))
    };
    assert_eq!(next().await?.offset, 0);
    let mut offset = 0;
    for data in content.chunks(3) {
        send(WriteRequest { action: 1, offset, data: Bytes::copy_from_slice(data), ..blank.clone() });
        offset = next().await?.offset;
    }
    send(WriteRequest { action: 2, offset, ..blank });
    assert_eq!(next().await?.digest, expected.to_string());
    Ok(())
}

#[tokio::test]
async fn blobs_are_written_once_and_under_their_digest() {
    let home = tempfile::tempdir().expect("a folder");
    let layout = tempfile::tempdir().expect("a folder");
    let (received, in_layout) = (ReceivedBlobs::default(), ReceivedBlobs::default());
    let store = Store::open(home.path()).expect("writable");
    let known = store.put_blob(b"known").expect("writable");
    let folder = Arc::new(at::host_dir(layout.path()).expect("there"));
    let read_only =
        ContentPlace::Layout { folder: folder.clone(), writable: false, received: ReceivedBlobs::default() };
    let content = BTreeMap::from([
        ("export".to_owned(), ContentPlace::Store { store: store.clone(), received: received.clone() }),
        ("local:x".to_owned(), ContentPlace::Layout { folder, writable: true, received: in_layout.clone() }),
        ("oci:y".to_owned(), read_only),
    ]);
    let daemon = Daemon::with(SessionServices { content, ..SessionServices::default() }).await;
    let new = Digest::of(b"a new blob");
    for place in ["export", "local:x"] {
        write(&daemon, place, &new, b"a new blob").await.expect("taken");
        let again = write(&daemon, place, &new, b"a new blob").await.expect_err("it is there");
        assert_eq!(again.code(), Code::AlreadyExists);
        let false_ = write(&daemon, place, &Digest::of(b"good"), b"evil").await.expect_err("another digest");
        assert_eq!(false_.code(), Code::FailedPrecondition, "{false_}");
        let headers = [(CONTENT, place)];
        let info = BlobRequest { digest: new.to_string() };
        let info: OneInfo = daemon.ask(INFO, &headers, &info).await.expect("there");
        assert_eq!(info.info.expect("one").size, 10);
        let part = ReadRequest { digest: new.to_string(), offset: 2, size: 3 };
        let part: ReadAnswer = daemon.ask(READ, &headers, &part).await.expect("readable");
        assert_eq!(part.data, &b"new"[..]);
        let missing = BlobRequest { digest: Digest::of(b"good").to_string() };
        let missing = daemon.ask::<OneInfo>(INFO, &headers, &missing).await.expect_err("not there");
        assert_eq!(missing.code(), Code::NotFound);
    }
    let exists = write(&daemon, "export", &known, b"known").await.expect_err("it is there");
    assert_eq!(exists.code(), Code::AlreadyExists);
    let read = ReadRequest { digest: known.to_string(), ..ReadRequest::default() };
    let refused = daemon.ask::<ReadAnswer>(READ, &[(CONTENT, "export")], &read).await.expect_err("never sent");
    assert_eq!(refused.code(), Code::NotFound, "what the daemon did not send it does not read");
    let refused = write(&daemon, "oci:y", &Digest::of(b"x"), b"x").await.expect_err("only read");
    assert_eq!(refused.code(), Code::PermissionDenied);
    let list: Vec<_> = received.list().iter().map(|blob| (blob.digest, blob.size, blob.was_known)).collect();
    assert_eq!(list, [(new, 10, false), (known, 5, true)]);
    assert_eq!(in_layout.list().len(), 1);
    let left: Vec<_> = std::fs::read_dir(layout.path()).expect("there").flatten().map(|it| it.file_name()).collect();
    assert_eq!(left, ["blobs"], "nothing half made stays");
    let odd = BlobRequest { digest: "sha256:../../etc/passwd".to_owned() };
    let odd = daemon.ask::<OneInfo>(INFO, &[(CONTENT, "local:x")], &odd).await.expect_err("no digest");
    assert_eq!(odd.code(), Code::InvalidArgument);
    let elsewhere = daemon.ask::<OneInfo>(INFO, &[(CONTENT, "other")], &BlobRequest::default()).await;
    assert_eq!(elsewhere.expect_err("no such place").code(), Code::NotFound);
}

struct Secrets;

#[async_trait]
impl SecretSource for Secrets {
    async fn get(&self, id: &str) -> Result<Option<Vec<u8>>, String> {
        match id {
            "token" => Ok(Some(b"s3cret".to_vec())),
            "bad" => Err("it cannot be read".to_owned()),
            _ => Ok(None),
        }
    }
}

/// An agent that answers everything with itself.
struct Echo;

#[async_trait]
impl SshSource for Echo {
    fn knows(&self, id: &str) -> bool {
        id == "default"
    }
    async fn connect(&self, _: &str) -> io::Result<Box<dyn SshStream>> {
        let (ours, theirs) = tokio::net::UnixStream::pair()?;
        tokio::spawn(async move {
            let mut theirs = theirs;
            let mut buffer = [0; 100];
            while let Ok(n @ 1..) = theirs.read(&mut buffer).await {
                theirs.write_all(&buffer[..n]).await.expect("open");
            }
        });
        Ok(Box::new(ours))
    }
}

#[tokio::test]
async fn secrets_agents_and_uploads_are_served() {
    let file = tempfile::tempfile().expect("a file");
    io::Write::write_all(&mut &file, &[5; 3 << 20]).expect("writable");
    let uploads = BTreeMap::from([("file".to_owned(), Arc::new(file))]);
    let (secrets, ssh) = (Some(Arc::new(Secrets) as _), Some(Arc::new(Echo) as _));
    let daemon = Daemon::with(SessionServices { secrets, ssh, uploads, ..SessionServices::default() }).await;
    let secret = async |id: &str| {
        let request = SecretRequest { id: id.to_owned() };
        daemon.ask::<SecretAnswer>("/moby.buildkit.secrets.v1.Secrets/GetSecret", &[], &request).await
    };
    let found = secret("token").await.expect("there");
    assert_eq!(found.data, b"s3cret");
    assert!(!format!("{found:?}").contains("3"), "it is not shown");
    assert_eq!(secret("none").await.expect_err("missing").code(), Code::NotFound);
    assert_eq!(secret("bad").await.expect_err("unreadable").code(), Code::FailedPrecondition);
    let check = "/moby.sshforward.v1.SSH/CheckAgent";
    daemon.ask::<()>(check, &[], &CheckRequest { id: String::new() }).await.expect("the default");
    let other = daemon.ask::<()>(check, &[], &CheckRequest { id: "other".to_owned() }).await;
    assert_eq!(other.expect_err("unknown").code(), Code::NotFound);
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    sender.send(BytesMessage { data: Bytes::from_static(b"hello") }.encode_to_vec().into()).expect("open");
    let forward = "/moby.sshforward.v1.SSH/ForwardAgent";
    let mut answers = daemon.stream(forward, &[("buildkit.ssh.id", "default")], receiver).await.expect("connected");
    let answer = answers.message().await.expect("no error").expect("an answer");
    assert_eq!(BytesMessage::decode(answer).expect("well formed").data, &b"hello"[..]);
    drop(sender);
    assert!(answers.message().await.expect("no error").is_none(), "the agent ends when it is closed");
    for (path, size) in [("/x/file", 3 << 20), ("file", 3 << 20)] {
        let (_sender, receiver) = tokio::sync::mpsc::unbounded_channel();
        let pull = daemon.stream("/moby.upload.v1.Upload/Pull", &[("urlpath", path)], receiver).await;
        let (mut pull, mut n) = (pull.expect("offered"), 0);
        while let Some(answer) = pull.message().await.expect("no error") {
            n += BytesMessage::decode(answer).expect("well formed").data.len();
        }
        assert_eq!(n, size);
    }
}

/// A registry on this machine with a token server; `realm` is what it names, if not its own.
fn registry(realm: Option<&'static str>) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    let own = realm.map_or_else(|| format!("http://{address}/token"), str::to_owned);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut head = vec![0; 8192];
            let n = io::Read::read(&mut stream, &mut head).expect("a request");
            let head = String::from_utf8_lossy(&head[..n]).into_owned();
            let answer = if head.contains("/token") {
                let body = r#"{"token":"t0ken","expires_in":300}"#;
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
            } else if own == "basic" {
                "HTTP/1.1 401 U\r\nWWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                    .to_owned()
            } else {
                let ask = format!("WWW-Authenticate: Bearer realm=\"{own}\",service=\"s\"");
                format!("HTTP/1.1 401 U\r\n{ask}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            };
            io::Write::write_all(&mut stream, answer.as_bytes()).expect("open");
        }
    });
    address
}

fn no_command(_: &std::ffi::OsStr) -> std::process::Command {
    unreachable!("no helper is asked")
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_given_and_passwords_are_not() {
    let (tokens, basic) = (registry(None), registry(Some("basic")));
    let config = tempfile::tempdir().expect("a folder");
    let auths = format!(r#"{{"auths":{{"{tokens}":{{"auth":"dTpw"}},"{basic}":{{"auth":"dTpw"}}}}}}"#);
    std::fs::write(config.path().join("config.json"), auths).expect("writable");
    let mut options = ClientOptions::new(no_command);
    options.docker_config = Some(config.path().to_owned());
    let access = RegistryAccess { client: Client::new(options), seed: [7; 32] };
    let daemon = Daemon::with(SessionServices { registry: Some(access), ..SessionServices::default() }).await;
    let token = async |realm: String| {
        let scopes = vec!["repository:a:pull".to_owned()];
        let request = TokenRequest { host: tokens.clone(), realm, scopes };
        daemon.ask::<TokenAnswer>("/moby.filesync.v1.Auth/FetchToken", &[], &request).await
    };
    let given = token(format!("http://{tokens}/token")).await.expect("a token");
    assert_eq!((given.token.as_str(), given.expires_in), ("t0ken", 270));
    let refused = token("http://127.0.0.1:1/token".to_owned()).await.expect_err("not the registry's own server");
    assert!(refused.message().contains("the registry names"), "{refused}");
    let password = async |host: &str| {
        let request = CredentialsRequest { host: host.to_owned() };
        let answer: CredentialsAnswer =
            daemon.ask("/moby.filesync.v1.Auth/Credentials", &[], &request).await.expect("answered");
        (answer.user, answer.secret)
    };
    assert_eq!(password(&tokens).await, (String::new(), String::new()));
    assert_eq!(password(&basic).await, ("u".to_owned(), "p".to_owned()));
    let authority = async |host: &str, salt: &[u8]| {
        let request = AuthorityRequest { host: host.to_owned(), salt: salt.to_vec() };
        let answer: AuthorityAnswer =
            daemon.ask("/moby.filesync.v1.Auth/GetTokenAuthority", &[], &request).await.expect("answered");
        answer.public_key
    };
    let key = authority(&tokens, b"salt").await;
    assert_eq!(key.len(), 32);
    assert_eq!(key, authority(&tokens, b"salt").await);
    assert_ne!(key, authority(&tokens, b"other").await);
    assert_ne!(key, authority(&basic, b"salt").await);
    // Clients without credentials are one.
    assert_eq!(authority("127.0.0.1:1", b"salt").await, authority("127.0.0.1:2", b"salt").await);
    let request = VerifyRequest { host: tokens.clone(), payload: b"payload".to_vec(), salt: b"salt".to_vec() };
    let VerifyAnswer { signed } =
        daemon.ask("/moby.filesync.v1.Auth/VerifyTokenAuthority", &[], &request).await.expect("answered");
    let (signature, payload) = signed.split_at(64);
    assert_eq!(payload, b"payload");
    UnparsedPublicKey::new(&ED25519, &key).verify(payload, signature).expect("signed by the key");
}
