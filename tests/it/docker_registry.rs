//! Debian's `docker-registry` on a free port of this machine, plain or with TLS and passwords.

use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::support::Bake;

/// A registry, stopped when dropped.
pub(crate) struct Registry {
    child: Child,
    /// Host and port.
    pub(crate) address: String,
}

impl Registry {
    /// Plain HTTP, for everybody.
    pub(crate) fn start(bake: &Bake) -> Self {
        Self::with(bake, "127.0.0.1", "", "")
    }

    /// Plain HTTP, at an address of this machine.
    pub(crate) fn at(bake: &Bake, host: &str) -> Self {
        Self::with(bake, host, "", "")
    }

    /// TLS by the certificate of [`certificates`], a client certificate asked for, and the user `me` with the password
    /// `secret`.
    pub(crate) fn secured(bake: &Bake) -> Self {
        let hash = bcrypt::hash("secret", 4).expect("a short password");
        bake.write("htpasswd", &format!("me:{hash}\n"));
        let file = |name: &str| bake.path(name).display().to_string();
        let tls = format!(
            ", tls: {{certificate: {}, key: {}, clientcas: [{}]}}",
            file("server.crt"),
            file("server.key"),
            file("ca.crt")
        );
        let auth = format!("auth: {{htpasswd: {{realm: here, path: {}}}}}\n", file("htpasswd"));
        Self::with(bake, "localhost", &tls, &auth)
    }

    fn with(bake: &Bake, host: &str, tls: &str, auth: &str) -> Self {
        let port = TcpListener::bind((host, 0)).and_then(|it| it.local_addr()).expect("a free port").port();
        let storage = bake.path("registry");
        bake.write(
            "registry.yml",
            &format!(
                "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '{host}:{port}'{tls}}}\n\
                 {auth}log: {{level: error}}\n",
                storage.display()
            ),
        );
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(bake.path("registry.yml"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("these tests need Debian's package docker-registry");
        let begun = Instant::now();
        while std::net::TcpStream::connect((host, port)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(20), "the registry does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { child, address: format!("{host}:{port}") }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.child.kill().expect("the registry was running");
        let _status = self.child.wait();
    }
}

/// Makes an authority (`ca.crt`), and keys with certificates of it for a server on this machine (`server.crt`,
/// `server.key`) and for a client (`client.crt`, `client.key`).
pub(crate) fn certificates(bake: &Bake) {
    let openssl = |args: &[&str]| {
        let output = Command::new("openssl").args(args).current_dir(bake.dir.path()).output();
        let output = output.expect("these tests need openssl");
        assert!(output.status.success(), "openssl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let mut authority = vec!["req", "-x509", "-days", "2", "-subj", "/CN=authority of a test", "-out", "ca.crt"];
    authority.extend(["-keyout", "ca.key"].iter().chain(&key));
    openssl(&authority);
    bake.write("server.ext", "subjectAltName=DNS:localhost,IP:127.0.0.1\n");
    bake.write("client.ext", "extendedKeyUsage=clientAuth\n");
    for name in ["server", "client"] {
        let [request, certificate, private, more] = ["csr", "crt", "key", "ext"].map(|end| format!("{name}.{end}"));
        let mut asked = vec!["req", "-subj", "/CN=localhost", "-out", &request, "-keyout", &private];
        asked.extend(key);
        openssl(&asked);
        let mut signed = vec!["x509", "-req", "-days", "2", "-in", &request, "-CA", "ca.crt", "-CAkey", "ca.key"];
        signed.extend(["-CAcreateserial", "-extfile", &more, "-out", &certificate]);
        openssl(&signed);
    }
}
