//! How a registry host is reached: mirrors, plain HTTP, certificates. The one place that decides it; every pull, push, cache
//! and attestation goes through [`of`].
//!
//! ```text
//! bake's registries.toml ───┐ own
//! registries.conf, conf.d ──┼ containers ─► load, once a run ─► ClientOptions::hosts ─┐
//! buildkitd.toml ───────────┘ buildkitd                                                │
//! certs.d/HOST/hosts.toml ─── hosts ──────► when the host is first needed ────────────┴► of ─► HostSettings
//! certs.d/HOST/*.crt, *.cert, *.key ─────► connections ──────────────────────────────────┘
//! ```
//!
//! The first of these files that says something about a host is the only one that counts for it; certificates of `certs.d`
//! count besides. No request is sent here.

mod buildkitd;
mod containers;
mod hosts;
mod own;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;

use super::{connections::certificates, options::ClientOptions};
use crate::grant::read_file;

/// Longest file of settings that is read, in bytes.
const LONGEST_FILE: u64 = 1 << 20;

/// How one host is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HostSettings {
    /// Plain HTTP only, or TLS only; `None`: plain HTTP on this machine, TLS elsewhere.
    pub(crate) http: Option<bool>,
    /// No verification of certificates; plain HTTP where the answer is not TLS.
    pub(crate) insecure: bool,
    /// PEM files of further certificate authorities.
    pub(crate) ca: Vec<PathBuf>,
    /// Shown to the host.
    pub(crate) client: Option<ClientCertificate>,
    /// Tried first, for reading only.
    pub(crate) mirrors: Vec<MirrorSettings>,
    /// Written to in place of the registry.
    pub(crate) push: Option<Box<MirrorSettings>>,
    /// Where the registry really is; `None` is the host itself.
    pub(crate) location: Option<RegistryAddress>,
    /// Nothing may be read or written there.
    pub(crate) blocked: bool,
}

/// A client certificate and its key: PEM files, which may be one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ClientCertificate {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// Host with port, and the path of the API there: `/v2`, `/v2/hub`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RegistryAddress {
    pub(crate) host: String,
    pub(crate) base: String,
}

/// A registry that has what another one has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MirrorSettings {
    pub(crate) address: RegistryAddress,
    /// What is said about it where it is named, besides what is said about its host elsewhere.
    pub(crate) settings: HostSettings,
}

/// The paths of the files with registry settings; each is read once a run, and missing ones are passed over.
#[derive(Clone, Debug, Default)]
pub(crate) struct SettingsFiles {
    /// `registries.toml` of `bake`, and whether the user named it, so that it must exist.
    pub(crate) own: Option<(PathBuf, bool)>,
    /// `registries.conf`: the first that exists counts.
    pub(crate) containers: Vec<PathBuf>,
    /// Folders with further `*.conf`; all of them count, later ones win.
    pub(crate) containers_more: Vec<PathBuf>,
    /// `buildkitd.toml`: the first that exists counts.
    pub(crate) buildkitd: Vec<PathBuf>,
}

/// The settings that the files of a run have, by host.
#[derive(Debug, Default)]
pub(crate) struct LoadedSettings {
    /// By host as in references.
    pub(crate) hosts: BTreeMap<String, HostSettings>,
    /// What was read and has no effect.
    pub(crate) ignored: Vec<String>,
}

impl RegistryAddress {
    /// Parses `host[:port][/path]`; the path is put after `/v2`.
    pub(crate) fn parse(text: &str) -> Self {
        let (host, path) = text.split_once('/').unwrap_or((text, ""));
        let path = path.trim_matches('/');
        let base = if path.is_empty() { "/v2".to_owned() } else { format!("/v2/{path}") };
        Self { host: host.to_owned(), base }
    }
}

impl HostSettings {
    /// Adds what is said about the same host at another place.
    pub(super) fn merge(&mut self, other: &Self) {
        self.http = self.http.or(other.http);
        self.insecure |= other.insecure;
        self.ca.extend(other.ca.iter().cloned());
        self.client = self.client.take().or_else(|| other.client.clone());
    }
}

/// Reads the files of a run.
///
/// # Errors
/// Names the file, the line, and what is wrong there.
pub(crate) fn load(files: &SettingsFiles) -> Result<LoadedSettings, String> {
    let mut loaded = LoadedSettings::default();
    buildkitd::load(&files.buildkitd, &mut loaded.hosts)?;
    containers::load(&files.containers, &files.containers_more, &mut loaded)?;
    if let Some((path, must_exist)) = &files.own {
        own::load(path, *must_exist, &mut loaded.hosts)?;
    }
    Ok(loaded)
}

/// How a host is reached: what the files of the run say, else its `hosts.toml`, and its certificates.
///
/// # Errors
/// A file of this host that cannot be read.
pub(super) fn of(options: &ClientOptions, host: &str) -> Result<HostSettings, String> {
    let mut found = match options.hosts.get(host) {
        Some(settings) => settings.clone(),
        None => hosts::find(&options.certificate_folders, host)?.unwrap_or_default(),
    };
    let (authorities, key_pair) = certificates(options, host);
    found.ca.extend(authorities);
    found.client = found.client.or(key_pair);
    Ok(found)
}

/// Parses a TOML file; `None` if there is none.
fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, String> {
    let text = match read_file(path, LONGEST_FILE) {
        Ok(bytes) => String::from_utf8(bytes).map_err(|_| format!("`{}` is no text", path.display()))?,
        Err(fault) if fault.is_missing() => return Ok(None),
        Err(fault) => return Err(format!("`{}`: {fault}", path.display())),
    };
    toml::from_str(&text).map(Some).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start).min(text.len());
        let line = text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
        format!("`{}`, line {line}: {}", path.display(), error.message().replace('\n', "; "))
    })
}

/// A path that a file names, relative to the folder of that file.
fn beside(file: &Path, path: &str) -> PathBuf {
    file.parent().unwrap_or(Path::new("/")).join(path)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[expect(clippy::disallowed_methods, reason = "never called")]
    fn command(program: &std::ffi::OsStr) -> std::process::Command {
        std::process::Command::new(program)
    }

    fn address(host: &str, base: &str) -> RegistryAddress {
        RegistryAddress { host: host.to_owned(), base: base.to_owned() }
    }

    #[test]
    fn the_own_file_wins_over_that_of_containers_and_says_everything() {
        let folder = tempfile::tempdir().expect("a folder");
        let (own, conf) = (folder.path().join("registries.toml"), folder.path().join("registries.conf"));
        let text = r#"
            [registry."docker.io"]
            mirrors = ["m.example/hub", "n.example:5000"]
            [registry."r.example"]
            ca = ["ca.crt"]
            client-certificate = "me.crt"
            client-key = "/keys/me.key"
            insecure = true
            location = "elsewhere.example/proxy""#;
        fs::write(&own, text).expect("writable");
        let text = r#"
            unqualified-search-registries = ["docker.io"]
            [[registry]]
            location = "docker.io"
            [[registry.mirror]]
            location = "lost.example"
            [[registry]]
            prefix = "c.example"
            location = "d.example/x"
            insecure = true
            [[registry.mirror]]
            location = "e.example/y"
            insecure = true
            [[registry]]
            prefix = "f.example/team"
            location = "g.example"
            [[registry]]
            location = "evil.example"
            blocked = true"#;
        fs::write(&conf, text).expect("writable");
        let files = SettingsFiles { own: Some((own, true)), containers: vec![conf], ..SettingsFiles::default() };
        let LoadedSettings { hosts, ignored } = load(&files).expect("good files");
        let mirrors: Vec<_> = hosts["docker.io"].mirrors.iter().map(|mirror| mirror.address.clone()).collect();
        assert_eq!(mirrors, [address("m.example", "/v2/hub"), address("n.example:5000", "/v2")]);
        let settings = &hosts["r.example"];
        assert_eq!(settings.ca, [folder.path().join("ca.crt")]);
        let client = settings.client.as_ref().expect("a client certificate");
        assert_eq!((&*client.certificate, &*client.key), (&*folder.path().join("me.crt"), Path::new("/keys/me.key")));
        assert!(settings.insecure && settings.location == Some(address("elsewhere.example", "/v2/proxy")));
        let settings = &hosts["c.example"];
        assert_eq!(settings.location, Some(address("d.example", "/v2/x")));
        assert!(settings.insecure && settings.mirrors[0].settings.insecure && hosts["evil.example"].blocked);
        assert_eq!(ignored.len(), 1);
        assert!(ignored[0].contains("f.example/team"), "{ignored:?}");
    }

    #[test]
    fn the_tables_of_buildkit_count_where_no_other_file_says_something() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        let text = r#"
            debug = true
            [worker.oci]
            gc = false
            [registry."r.example:5000"]
            http = true
            mirrors = ["m.example/hub"]
            [registry."s.example"]
            ca = ["ca.pem"]
            [[registry."s.example".keypair]]
            key = "/k.pem"
            cert = "c.pem"
            [registry."t.example"]
            insecure = true"#;
        fs::write(path("buildkitd.toml"), text).expect("writable");
        fs::write(path("registries.toml"), "[registry.\"t.example\"]\nhttp = false\n").expect("writable");
        let files = SettingsFiles {
            own: Some((path("registries.toml"), true)),
            buildkitd: vec![path("none.toml"), path("buildkitd.toml")],
            ..SettingsFiles::default()
        };
        let hosts = load(&files).expect("good files").hosts;
        assert_eq!(hosts["r.example:5000"].http, Some(true));
        assert_eq!(hosts["r.example:5000"].mirrors[0].address, address("m.example", "/v2/hub"));
        let client = hosts["s.example"].client.clone().expect("a client certificate");
        assert_eq!((client.certificate, client.key), (path("c.pem"), PathBuf::from("/k.pem")));
        assert_eq!(hosts["s.example"].ca, [path("ca.pem")]);
        assert!(!hosts["t.example"].insecure && hosts["t.example"].http == Some(false));
    }

    #[test]
    fn faults_name_file_and_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let own = folder.path().join("registries.toml");
        fs::write(&own, "[registry.\"a\"]\nmirors = [\"b\"]\n").expect("writable");
        let fault = load(&SettingsFiles { own: Some((own.clone(), false)), ..SettingsFiles::default() });
        let fault = fault.expect_err("no such key");
        assert!(fault.contains("registries.toml`, line 2") && fault.contains("mirors"), "{fault}");
        fs::write(&own, "[registry.\"a\"]\nclient-key = \"b\"\n").expect("writable");
        let fault = load(&SettingsFiles { own: Some((own.clone(), false)), ..SettingsFiles::default() });
        assert!(fault.expect_err("no certificate").contains("client-certificate"));
        let missing = SettingsFiles { own: Some((folder.path().join("none"), true)), ..SettingsFiles::default() };
        assert!(load(&missing).expect_err("it was named").contains("none"));
    }

    #[test]
    fn the_folder_of_a_host_is_read_when_it_is_needed() {
        let folder = tempfile::tempdir().expect("a folder");
        let (plain, port) = (folder.path().join("r.example"), folder.path().join("p.example_5000_"));
        fs::create_dir_all(&plain).expect("writable");
        fs::create_dir_all(&port).expect("writable");
        let text = r#"
            server = "https://really.example"
            ca = "own.pem"
            [host."https://m.example/proxy"]
            capabilities = ["pull", "resolve"]
            client = [["c.pem", "k.pem"]]
            [host."http://n.example:5000/x/v2"]
            override_path = true
            [host."https://push.example"]
            capabilities = ["push"]"#;
        fs::write(plain.join("hosts.toml"), text).expect("writable");
        fs::write(plain.join("more.crt"), "").expect("writable");
        fs::write(port.join("hosts.toml"), "skip_verify = true\n").expect("writable");
        let mut options = ClientOptions::new(command);
        options.certificate_folders = vec![folder.path().to_owned()];
        let settings = of(&options, "r.example").expect("a good file");
        assert_eq!(settings.location, Some(address("really.example", "/v2")));
        assert_eq!(settings.ca, [plain.join("own.pem"), plain.join("more.crt")]);
        let mirrors = &settings.mirrors;
        let addresses: Vec<_> = mirrors.iter().map(|mirror| mirror.address.clone()).collect();
        assert_eq!(addresses, [address("m.example", "/proxy/v2"), address("n.example:5000", "/x/v2")]);
        assert_eq!(mirrors[0].settings.client.as_ref().map(|client| client.key.clone()), Some(plain.join("k.pem")));
        assert!(mirrors[1].settings.http == Some(true) && mirrors[0].settings.http == Some(false));
        assert_eq!(settings.push.map(|push| push.address), Some(address("push.example", "/v2")));
        assert!(of(&options, "p.example:5000").expect("a good file").insecure);
        assert_eq!(of(&options, "other.example").expect("nothing is said"), HostSettings::default());
        fs::write(plain.join("hosts.toml"), "server = 1").expect("writable");
        assert!(of(&options, "r.example").expect_err("a number").contains("hosts.toml"));
    }
}
