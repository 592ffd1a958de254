//! An S3 server on a free port of this machine: `moto_server` of the Python package moto, which `.ci/run` installs.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::support::{Bake, skipped};

/// Who may send requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admitted {
    Everybody,
    /// One user, whose signatures are verified.
    OneUser,
}

/// A server with one bucket, `cache`; stopped when dropped.
pub(crate) struct ObjectServer {
    child: Child,
    log: PathBuf,
    /// Host and port.
    pub(crate) address: String,
    /// The id and the secret of the user that is admitted.
    pub(crate) key: (String, String),
}

impl ObjectServer {
    /// `None` where there is no such program, which is told.
    pub(crate) fn start(bake: &Bake, admitted: Admitted) -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a free port").port();
        let log = bake.path("moto.log");
        let mut command = Command::new(program());
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
        if admitted == Admitted::OneUser {
            // The requests of `admit` and the creation of the bucket.
            command.env("INITIAL_NO_AUTH_ACTION_COUNT", "4");
        }
        let stderr = File::create(&log).expect("writable");
        let started = command.stdout(Stdio::null()).stderr(stderr).spawn();
        let Ok(child) = started else {
            skipped("needs the program moto_server of the Python package moto", Some("moto_server"));
            return None;
        };
        let mut server =
            Self { child, log, address: format!("127.0.0.1:{port}"), key: ("id".to_owned(), "secret".to_owned()) };
        let begun = Instant::now();
        while TcpStream::connect(&server.address).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(60), "moto_server does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
        server.request("PUT", "/cache", b"");
        if admitted == Admitted::OneUser {
            server.admit();
        }
        Some(server)
    }

    /// Makes a user that may do everything.
    fn admit(&mut self) {
        let policy = "%7B%22Version%22%3A%222012-10-17%22%2C%22Statement%22%3A%5B%7B%22Effect%22%3A%22Allow%22%2C%22\
                      Action%22%3A%22s3%3A%2A%22%2C%22Resource%22%3A%22%2A%22%7D%5D%7D";
        let ask = |action: &str| {
            let body = format!("Version=2010-05-08&Action={action}");
            self.request_to("iam", "POST", "/", "Content-Type: application/x-www-form-urlencoded\r\n", body.as_bytes())
        };
        ask("CreateUser&UserName=u");
        ask(&format!("PutUserPolicy&UserName=u&PolicyName=p&PolicyDocument={policy}"));
        let answer = ask("CreateAccessKey&UserName=u");
        let element = |name: &str| {
            let (_, rest) = answer.split_once(&format!("<{name}>")).expect("an access key");
            rest.split_once('<').expect("XML").0.to_owned()
        };
        self.key = (element("AccessKeyId"), element("SecretAccessKey"));
    }

    /// Sends one request whose signature is wrong, and returns the body of the answer, which must be a success.
    pub(crate) fn request(&self, method: &str, path: &str, body: &[u8]) -> String {
        self.request_to("s3", method, path, "", body)
    }

    fn request_to(&self, service: &str, method: &str, path: &str, headers: &str, body: &[u8]) -> String {
        let mut stream = TcpStream::connect(&self.address).expect("the server listens");
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{headers}\
             Authorization: AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/{service}/aws4_request, \
             SignedHeaders=host, Signature=x\r\nContent-Length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        stream.write_all(&[head.as_bytes(), body].concat()).expect("the server reads");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("the server answers");
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.starts_with("HTTP/1.1 20"), "{method} {path}: {answer}");
        answer.split_once("\r\n\r\n").expect("a head").1.to_owned()
    }

    /// The options of a cache in the bucket.
    pub(crate) fn cache(&self) -> String {
        format!("type=s3,bucket=cache,region=us-east-1,endpoint_url=http://{},use_path_style=true", self.address)
    }

    /// The environment that has the key of the user.
    pub(crate) fn env(&self) -> [(&str, &str); 2] {
        [("AWS_ACCESS_KEY_ID", &self.key.0), ("AWS_SECRET_ACCESS_KEY", &self.key.1)]
    }

    /// The requests whose method, path and status, `GET /cache/k 200`, have all of these words.
    pub(crate) fn requests(&self, words: &[&str]) -> Vec<String> {
        let log = fs::read_to_string(&self.log).expect("the log of the server");
        let plain = |line: &str| {
            // Statuses other than 200 are coloured.
            let mut parts = line.split('\u{1b}');
            let mut text = parts.next().unwrap_or_default().to_owned();
            text.extend(parts.filter_map(|part| Some(part.split_once('m')?.1)));
            let (_, rest) = text.split_once('"')?;
            let (request, status) = rest.split_once(" HTTP/1.1")?;
            Some(format!("{request} {}", status.trim_start_matches(['"', ' ']).trim_end_matches(" -")))
        };
        log.lines().filter_map(plain).filter(|line| words.iter().all(|word| line.contains(word))).collect()
    }
}

/// `moto_server`: where `.ci/run` installs it, or in the path.
pub(crate) fn program() -> PathBuf {
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-tools/moto/bin/moto_server");
    if installed.exists() { installed } else { "moto_server".into() }
}

impl Drop for ObjectServer {
    fn drop(&mut self) {
        self.child.kill().expect("the server was running");
        let _status = self.child.wait();
    }
}
