//! Where a registry is and how it is trusted: scheme, mirrors, certificates; and what its requests share.

use std::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering},
};

use tokio::{sync::Semaphore, time::Instant};
use url::Url;

use super::{
    auth::RegistryAuth,
    connections::{certificates, is_loopback},
    http::{HostSecurity, Trust},
    options::ClientOptions,
};

/// One registry (or mirror) as requests see it.
pub(super) struct Host {
    /// As in references and in credential files: `docker.io`.
    pub(super) name: String,
    /// Host and port that are connected to.
    authority: String,
    /// Put after `/v2`, with a leading `/`, for mirrors with a path.
    prefix: String,
    /// `?ns=` of mirrors.
    namespace: Option<String>,
    secure: Secure,
    /// An insecure host turned out to speak plain HTTP.
    fell_back: AtomicBool,
    /// It answered: no falling back any more.
    answered: AtomicBool,
    pub(super) auth: RegistryAuth,
    /// No request before this time (`Retry-After`).
    pub(super) not_before: Mutex<Option<Instant>>,
    /// Transfers at a time.
    pub(super) transfers: Semaphore,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Secure {
    No,
    Tls(Trust),
    /// TLS with any certificate; plain HTTP if it does not speak TLS.
    IfPossible,
}

impl Host {
    /// The registry of a reference's domain.
    pub(super) fn origin(options: &ClientOptions, domain: &str, insecure: bool) -> Self {
        let authority = if domain == "docker.io" { "registry-1.docker.io" } else { domain };
        Self::at(options, domain, authority, insecure)
    }

    /// The `index`th mirror of a domain, if there are that many.
    pub(super) fn mirror(options: &ClientOptions, domain: &str, index: usize) -> Option<Self> {
        let mirror = options.hosts.get(domain)?.mirrors.get(index)?;
        let mut host = Self::at(options, &mirror.host, &mirror.host, false);
        let path = mirror.path.trim_matches('/');
        host.prefix = if path.is_empty() { String::new() } else { format!("/{path}") };
        host.namespace = Some(domain.to_owned());
        Some(host)
    }

    fn at(options: &ClientOptions, name: &str, authority: &str, insecure: bool) -> Self {
        let settings = options.hosts.get(name).cloned().unwrap_or_default();
        let secure = if insecure || settings.insecure {
            Secure::IfPossible
        } else if settings.http || is_loopback(authority) {
            Secure::No
        } else {
            let (mut authorities, key_pair) = certificates(options, name);
            authorities.extend(settings.ca);
            Secure::Tls(Trust::System { authorities, key_pair })
        };
        Self {
            name: name.to_owned(),
            authority: authority.to_owned(),
            prefix: String::new(),
            namespace: None,
            secure,
            fell_back: AtomicBool::new(false),
            answered: AtomicBool::new(false),
            auth: RegistryAuth::default(),
            not_before: Mutex::new(None),
            transfers: Semaphore::new(options.parallel.max(1)),
        }
    }

    /// The URL of something in a repository: `manifests/latest`, `blobs/sha256:…`.
    pub(super) fn url(&self, repository: &str, rest: &str) -> Result<Url, String> {
        let scheme = if self.is_plain() { "http" } else { "https" };
        let text = format!("{scheme}://{}/v2{}/{repository}/{rest}", self.authority, self.prefix);
        let mut url = Url::parse(&text).map_err(|e| format!("not a URL ({e}): {text}"))?;
        if let Some(namespace) = &self.namespace {
            url.query_pairs_mut().append_pair("ns", namespace);
        }
        Ok(url)
    }

    /// Whether requests go over plain HTTP now.
    pub(super) fn is_plain(&self) -> bool {
        match self.secure {
            Secure::No => true,
            Secure::Tls(_) => false,
            Secure::IfPossible => self.fell_back.load(Ordering::Relaxed),
        }
    }

    /// What may be reached on this host's word.
    pub(super) fn security(&self) -> HostSecurity {
        HostSecurity { is_plain: self.is_plain(), accepts_any_certificate: self.secure == Secure::IfPossible }
    }

    /// How this host's own certificate is judged.
    pub(super) fn trust(&self) -> Trust {
        match &self.secure {
            Secure::No => Trust::Plain,
            Secure::IfPossible => Trust::Anyone,
            Secure::Tls(trust) => trust.clone(),
        }
    }

    /// Whether `url` is on this host.
    pub(super) fn holds(&self, url: &Url) -> bool {
        let scheme = if self.is_plain() { "http" } else { "https" };
        let own = Url::parse(&format!("{scheme}://{}/", self.authority));
        own.is_ok_and(|own| same_origin(&own, url))
    }

    /// Goes over to plain HTTP, if that is allowed and it never answered; false if requests went there already.
    pub(super) fn fall_back(&self) -> bool {
        let may = self.secure == Secure::IfPossible && !self.answered.load(Ordering::Relaxed);
        may && !self.fell_back.swap(true, Ordering::Relaxed)
    }

    /// Takes note of an answer.
    pub(super) fn note_answer(&self) {
        self.answered.store(true, Ordering::Relaxed);
    }

    /// Whether no port was given.
    pub(super) fn has_default_port(&self) -> bool {
        Url::parse(&format!("https://{}/", self.authority)).is_ok_and(|url| url.port().is_none())
    }
}

/// Same scheme, host and port.
pub(super) fn same_origin(a: &Url, b: &Url) -> bool {
    a.scheme() == b.scheme() && a.host_str() == b.host_str() && a.port_or_known_default() == b.port_or_known_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::options::{HostOptions, Mirror};

    #[expect(clippy::disallowed_methods, reason = "never called")]
    fn command(program: &std::ffi::OsStr) -> std::process::Command {
        std::process::Command::new(program)
    }

    fn url(options: &ClientOptions, domain: &str, insecure: bool) -> String {
        Host::origin(options, domain, insecure).url("a/b", "manifests/x").expect("a URL").to_string()
    }

    #[test]
    fn schemes_follow_the_host() {
        let mut options = ClientOptions::new(command);
        options.hosts.insert("plain.example".into(), HostOptions { http: true, ..HostOptions::default() });
        assert_eq!(url(&options, "docker.io", false), "https://registry-1.docker.io/v2/a/b/manifests/x");
        assert_eq!(url(&options, "localhost:5000", false), "http://localhost:5000/v2/a/b/manifests/x");
        assert_eq!(url(&options, "127.9.9.9", false), "http://127.9.9.9/v2/a/b/manifests/x");
        assert_eq!(url(&options, "[::1]:5", false), "http://[::1]:5/v2/a/b/manifests/x");
        assert_eq!(url(&options, "localhost:5000", true), "https://localhost:5000/v2/a/b/manifests/x");
        assert_eq!(url(&options, "plain.example", false), "http://plain.example/v2/a/b/manifests/x");
        assert_eq!(url(&options, "example.com", false), "https://example.com/v2/a/b/manifests/x");
    }

    #[test]
    fn an_insecure_host_falls_back_once() {
        let host = Host::origin(&ClientOptions::new(command), "h:5", true);
        assert!(!host.is_plain());
        assert!(host.fall_back());
        assert!(host.is_plain() && !host.fall_back());
        assert!(!Host::origin(&ClientOptions::new(command), "h:5", false).fall_back());
    }

    #[test]
    fn mirrors_carry_path_and_namespace() {
        let mut options = ClientOptions::new(command);
        let mirrors = vec![Mirror { host: "localhost:1".into(), path: "hub/".into() }];
        options.hosts.insert("docker.io".into(), HostOptions { mirrors, ..HostOptions::default() });
        let mirror = Host::mirror(&options, "docker.io", 0).expect("configured");
        let url = mirror.url("library/a", "blobs/x").expect("a URL");
        assert_eq!(url.as_str(), "http://localhost:1/v2/hub/library/a/blobs/x?ns=docker.io");
        assert!(Host::mirror(&options, "docker.io", 1).is_none());
    }

    #[test]
    fn default_ports_are_seen() {
        let default = |domain: &str| Host::origin(&ClientOptions::new(command), domain, false).has_default_port();
        assert!(default("example.com") && default("[::1]"));
        assert!(!default("example.com:5000") && !default("[::1]:5000"));
    }
}
