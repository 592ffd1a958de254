//! Docker daemons for tests, and a relay that makes a plain BuildKit listener of one.
//!
//! A daemon runs from an unpacked package in network, mount and process namespaces of its own: when its first process ends,
//! by whatever, nothing of it is left but files, and these are in a temporary folder. It has no network and no registry; bases
//! are `scratch` or come as layouts.

use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, Weak, mpsc},
    thread,
    time::{Duration, Instant},
};

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, UnixListener, UnixStream},
    sync::watch,
};

use crate::support::{Bake, skipped};

/// Where a daemon keeps images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ImageStore {
    Containerd,
    Overlay2,
}

/// A Docker daemon that runs; stopped, with all that it left, when the last user drops it.
pub(crate) struct Dockerd {
    folder: tempfile::TempDir,
    process: Mutex<Child>,
}

/// The daemons that run now, which tests share.
static RUNNING: Mutex<[Weak<Dockerd>; 2]> = Mutex::new([Weak::new(), Weak::new()]);

/// The folder of the unpacked package; `None`, told, where there is none.
fn unpacked() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-tools/docker/usr");
    if !rustix::process::geteuid().is_root() {
        skipped("a Docker daemon needs root", None);
        return None;
    }
    if !folder.join("sbin/dockerd").is_file() {
        skipped("there is no Docker daemon in target/test-tools/docker", Some("dockerd"));
        return None;
    }
    Some(folder)
}

impl Dockerd {
    /// A daemon that other tests use as well; `None`, told, where there can be none.
    pub(crate) fn shared(store: ImageStore) -> Option<Arc<Self>> {
        let mut running = RUNNING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let slot = &mut running[usize::from(store == ImageStore::Overlay2)];
        if let Some(daemon) = slot.upgrade() {
            return Some(daemon);
        }
        let daemon = Arc::new(Self::start(store)?);
        *slot = Arc::downgrade(&daemon);
        Some(daemon)
    }

    /// A daemon of one's own, to be killed.
    pub(crate) fn start(store: ImageStore) -> Option<Self> {
        let tools = unpacked()?;
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let at = |name: &str| folder.path().join(name).display().to_string();
        let is_containerd = store == ImageStore::Containerd;
        fs::write(at("daemon.json"), format!(r#"{{"features":{{"containerd-snapshotter":{is_containerd}}}}}"#))
            .expect("files can be written");
        let flags = [("config-file", "daemon.json"), ("data-root", "data"), ("exec-root", "exec"), ("pidfile", "pid")];
        let flags = flags.map(|(flag, name)| format!("--{flag}={}", at(name))).join(" ");
        let script = format!(
            "ip link set lo up 2>/dev/null; exec dockerd {flags} --iptables=false --ip6tables=false \
             --userland-proxy=false -H unix://{}",
            at("docker.sock")
        );
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new("unshare");
        command
            .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", &script])
            .env("PATH", format!("{0}/bin:{0}/sbin:{path}", tools.display()));
        let log = fs::File::create(at("log")).expect("files can be made");
        let daemon = Self { process: Mutex::new(spawn(&command, log)), folder };
        let until = Instant::now() + Duration::from_secs(60);
        while daemon.ask(&["/_ping"]).as_deref() != Some("OK") {
            let ended = daemon.process.lock().expect("no other user yet").try_wait().expect("a child").is_some();
            assert!(!ended && Instant::now() < until, "the daemon does not start:\n{}", daemon.log());
            thread::sleep(Duration::from_millis(100));
        }
        Some(daemon)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("docker.sock")
    }

    /// What `DOCKER_HOST` is for it.
    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Its network, in which programs can be started that it is to reach.
    pub(crate) fn network(&self) -> PathBuf {
        let process = self.process.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        PathBuf::from(format!("/proc/{}/ns/net", process.id()))
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// The answer to a request, whose last part is the path: the rest are options of curl. `None` if there is none.
    pub(crate) fn ask(&self, request: &[&str]) -> Option<String> {
        let (path, options) = request.split_last().expect("a path");
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--max-time", "60", "--unix-socket"]).arg(self.socket());
        let output = command.args(options).arg(format!("http://docker{path}")).output().expect("these tests need curl");
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Connects its network with ours; returns our address there, which it reaches. `None` where that cannot be done.
    /// `number` tells networks apart that there are at one time.
    pub(crate) fn connect(&self, number: u8) -> Option<String> {
        let pid = self.process.lock().expect("no other user fails").id();
        let [ours, theirs] = ["h", "d"].map(|side| format!("bake{side}{number}-{}", pid % 10_000));
        let run = |line: String| Command::new("sh").args(["-c", &line]).output().is_ok_and(|it| it.status.success());
        let inside = format!("nsenter -t {pid} -n ip");
        let is_up = run(format!(
            "ip link add {ours} type veth peer name {theirs} netns {pid} && ip addr add 10.{number}.77.1/24 dev {ours} && \
             ip link set {ours} up && {inside} addr add 10.{number}.77.2/24 dev {theirs} && {inside} link set {theirs} up && \
             {inside} route replace default via 10.{number}.77.1"
        ));
        is_up.then(|| format!("10.{number}.77.1"))
    }

    /// Ends it at once, as a machine that loses power.
    pub(crate) fn kill(&self) {
        let mut process = self.process.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        process.kill().ok();
        process.wait().ok();
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        self.kill();
        // The mounts end with the last process, a moment later.
        for _ in 0..50 {
            if fs::remove_dir_all(self.folder.path()).is_ok() || !self.folder.path().exists() {
                return;
            }
            thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Starts a process that ends with this one, however that ends. What a kernel takes for the parent is a thread, so it is one
/// that never ends.
fn spawn(command: &Command, log: fs::File) -> Child {
    let mut bound = Command::new("setpriv");
    bound.args(["--pdeathsig", "KILL"]).arg(command.get_program()).args(command.get_args());
    bound.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    bound.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).process_group(0);
    let (sender, started) = mpsc::channel();
    thread::spawn(move || {
        sender.send(bound.spawn()).expect("somebody waits");
        loop {
            thread::park();
        }
    });
    started.recv().expect("the thread answers").expect("these tests need setpriv and unshare")
}

/// A BuildKit listener: each connection becomes one to the BuildKit of a Docker daemon.
pub(crate) struct Relay {
    address: String,
    /// Whether connections are let through.
    is_open: watch::Sender<bool>,
    _runtime: tokio::runtime::Runtime,
}

impl Relay {
    /// At a socket.
    pub(crate) fn unix(daemon: &Dockerd, socket: &Path) -> Self {
        let (target, path) = (daemon.socket(), socket.to_owned());
        Self::start(format!("unix://{}", socket.display()), move |open| async move {
            let listener = UnixListener::bind(path).expect("a socket can be made");
            loop {
                let (stream, _) = listener.accept().await.expect("connections can be taken");
                tokio::spawn(serve(stream, target.clone(), open.clone()));
            }
        })
    }

    /// At a port of the loopback device, with certificates of both sides: see [`Certificates`].
    pub(crate) fn tcp(daemon: &Dockerd, certificates: &Certificates, server: &str) -> Self {
        let acceptor = certificates.acceptor(server);
        let target = daemon.socket();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
        listener.set_nonblocking(true).expect("a socket can be set");
        let address = format!("tcp://{}", listener.local_addr().expect("it has an address"));
        Self::start(address, move |open| async move {
            let listener = TcpListener::from_std(listener).expect("a listener");
            loop {
                let (stream, _) = listener.accept().await.expect("connections can be taken");
                let (acceptor, target, open) = (acceptor.clone(), target.clone(), open.clone());
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        serve(stream, target, open).await;
                    }
                });
            }
        })
    }

    fn start<F: Future<Output = ()> + Send + 'static>(
        address: String,
        listen: impl FnOnce(watch::Receiver<bool>) -> F,
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime can be made");
        let (is_open, open) = watch::channel(true);
        // The listener is there when this returns.
        let _entered = runtime.enter();
        runtime.spawn(listen(open));
        let until = Instant::now() + Duration::from_secs(10);
        let socket = address.strip_prefix("unix://").map(PathBuf::from);
        while socket.as_ref().is_some_and(|path| !path.exists()) && Instant::now() < until {
            thread::sleep(Duration::from_millis(5));
        }
        Self { address, is_open, _runtime: runtime }
    }

    /// As `--builder` takes it.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Cuts all connections, and every new one, until it is opened again.
    pub(crate) fn set_open(&self, open: bool) {
        self.is_open.send_replace(open);
    }
}

/// Carries one connection.
async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, target: PathBuf, mut open: watch::Receiver<bool>) {
    let carried = async {
        let mut daemon = UnixStream::connect(&target).await?;
        daemon.write_all(b"POST /grpc HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n").await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(daemon.read_u8().await?);
        }
        copy_bidirectional(&mut stream, &mut daemon).await
    };
    tokio::select! {
        // A connection that ends is no fault of the relay.
        ended = carried => drop(ended),
        closed = open.wait_for(|is_open| !is_open) => drop(closed),
    }
}

/// What a certificate is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CertificateKind {
    OfNameAndLoopback,
    OfName,
    Expired,
}

/// An authority, with certificates for daemons and for clients in a folder of a test.
pub(crate) struct Certificates {
    folder: PathBuf,
}

impl Certificates {
    /// Makes `NAME.pem` and `NAME.key` of the authority, below the working folder.
    pub(crate) fn new(bake: &Bake, name: &str) -> Self {
        let folder = bake.path(name);
        fs::create_dir_all(&folder).expect("folders can be made");
        let all = Self { folder };
        all.openssl(&format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN={name} -keyout ca.key -out ca.pem"
        ));
        all
    }

    /// Signs a certificate for a name and the loopback address, or for the name alone.
    pub(crate) fn sign(&self, file: &str, subject: &str, kind: CertificateKind) {
        self.openssl(&format!(
            "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={subject} -keyout {file}.key -out {file}.csr"
        ));
        let also = if kind == CertificateKind::OfName { "" } else { ",IP:127.0.0.1" };
        let until = if kind == CertificateKind::Expired { "20200201000000Z" } else { "20991231235959Z" };
        let settings = "[ca]\ndefault_ca=d\n[d]\ndatabase=index\nserial=serial\nnew_certs_dir=.\ndefault_md=sha256\npolicy=p\n\
                        unique_subject=no\n[p]\ncommonName=supplied\n";
        fs::write(self.path("ca.cnf"), settings).expect("files can be written");
        fs::write(self.path("index"), "").expect("files can be written");
        fs::write(self.path("ca.ext"), format!("subjectAltName=DNS:{subject}{also}\n")).expect("files can be written");
        self.openssl(&format!(
            "ca -config ca.cnf -batch -rand_serial -in {file}.csr -cert ca.pem -keyfile ca.key -extfile ca.ext \
             -startdate 20200101000000Z -enddate {until} -notext -out {file}.pem"
        ));
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    /// The options of an address: the authority, and the certificate of a client.
    pub(crate) fn options(&self, client: &str) -> String {
        let at = |file: &str| self.path(file).display().to_string();
        format!("cacert={}&cert={}&key={}", at("ca.pem"), at(&format!("{client}.pem")), at(&format!("{client}.key")))
    }

    fn openssl(&self, line: &str) {
        let output = Command::new("openssl").args(line.split(' ')).current_dir(&self.folder).output();
        let output = output.expect("these tests need openssl");
        assert!(output.status.success(), "openssl {line}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Takes clients of the authority alone.
    fn acceptor(&self, server: &str) -> tokio_rustls::TlsAcceptor {
        let read = |file: &str| fs::read(self.path(file)).expect("the file is there");
        let certificates = |file: &str| -> Vec<CertificateDer<'static>> {
            CertificateDer::pem_slice_iter(&read(file)).collect::<Result<_, _>>().expect("certificates")
        };
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates(certificates("ca.pem"));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let clients = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let clients = clients.build().expect("an authority");
        let key = PrivateKeyDer::from_pem_slice(&read(&format!("{server}.key"))).expect("a key");
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_client_cert_verifier(clients)
            .with_single_cert(certificates(&format!("{server}.pem")), key)
            .expect("a certificate");
        config.alpn_protocols = vec![b"h2".to_vec()];
        tokio_rustls::TlsAcceptor::from(Arc::new(config))
    }
}
