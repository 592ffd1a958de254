//! Connections of a run by how they are secured, and which certificates count for which host.
//!
//! Certificates are laid out as Docker does it, a folder for each host:
//! <https://docs.docker.com/engine/security/certificates/>. No request is sent here.

use std::{collections::BTreeSet, net::IpAddr, path::PathBuf};

use url::Url;

use super::{
    http::{Clients, HostSecurity, TransportSecurity},
    options::ClientOptions,
    settings::{self, ClientCertificate},
};

/// The options of a run, and the HTTP clients that were made for them so far.
pub(super) struct Connections {
    pub(super) options: ClientOptions,
    pub(super) clients: Clients,
}

impl Connections {
    /// No connections yet; nothing is read before the first is needed.
    pub(super) fn new(options: ClientOptions) -> Self {
        Self { options, clients: Clients::default() }
    }

    /// How connections to a host that a registry named are secured: a token server, the target of a redirect.
    ///
    /// Its certificate is verified unless the user called the registry insecure, or it is this machine itself.
    ///
    /// # Errors
    /// The settings of that host cannot be read.
    pub(super) fn transport_security_of(&self, url: &Url, named_by: HostSecurity) -> Result<TransportSecurity, String> {
        if url.scheme() == "http" {
            return Ok(TransportSecurity::Plain);
        }
        if named_by.accepts_any_certificate || named_by.is_plain && is_loopback(url.authority()) {
            return Ok(TransportSecurity::AnyCertificate);
        }
        let host = url.host_str().unwrap_or_default();
        let name = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let settings = settings::of(&self.options, &name)?;
        Ok(TransportSecurity::Verified { authorities: settings.ca, client: settings.client })
    }
}

/// Whether an authority is this machine: `localhost`, `127.0.0.0/8`, `[::1]`, with any port.
pub(super) fn is_loopback(authority: &str) -> bool {
    let Ok(url) = Url::parse(&format!("http://{authority}/")) else { return false };
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(ip)) => IpAddr::V4(ip).is_loopback(),
        Some(url::Host::Ipv6(ip)) => IpAddr::V6(ip).is_loopback(),
        None => false,
    }
}

/// Finds the certificate authorities and the first client key pair in the certificate folders of a host
/// (`certs.d/HOST`).
pub(super) fn certificates(options: &ClientOptions, host: &str) -> (Vec<PathBuf>, Option<ClientCertificate>) {
    let (mut authorities, mut key_pair) = (BTreeSet::new(), None);
    for folder in &options.certificate_folders {
        let Ok(entries) = std::fs::read_dir(folder.join(host)) else { continue };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|it| it.path()).collect();
        paths.sort();
        for path in paths {
            match path.extension().and_then(|it| it.to_str()) {
                Some("crt") => {
                    authorities.insert(path);
                }
                Some("cert") if key_pair.is_none() => {
                    let key = path.with_extension("key");
                    if key.is_file() {
                        key_pair = Some(ClientCertificate { certificate: path, key });
                    }
                }
                _ => {}
            }
        }
    }
    (authorities.into_iter().collect(), key_pair)
}
