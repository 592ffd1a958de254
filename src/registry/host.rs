//! Where a registry is and how its connections are secured: scheme, mirrors, certificates; and what its requests share.

use std::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering},
};

use hickory_resolver::TokioResolver;
use tokio::{sync::Semaphore, time::Instant};
use url::Url;

use super::{
    auth::RegistryAuth,
    connections::is_loopback,
    http::{HostSecurity, TransportSecurity},
    options::ClientOptions,
    settings::{self, HostSettings, MirrorSettings, RegistryAddress},
};

/// One registry or mirror: its address, how connections to it are secured, and the state that its requests share.
pub(super) struct Host {
    /// As in references and in credential files: `docker.io`.
    pub(super) name: String,
    /// Host and port that are connected to.
    authority: String,
    /// The path of the API, with a leading `/`: `/v2`, and more for mirrors with a path.
    base: String,
    /// `?ns=` of mirrors.
    namespace: Option<String>,
    secure: Secure,
    /// Nothing is said about the host: it may speak plain HTTP if its name leads to this machine alone.
    may_be_local: bool,
    /// Why nothing is sent to it.
    fault: Option<String>,
    /// An insecure host turned out to speak plain HTTP.
    fell_back: AtomicBool,
    /// It answered: no falling back any more.
    answered: AtomicBool,
    pub(super) auth: RegistryAuth,
    /// No request before this time (`Retry-After`).
    pub(super) not_before: Mutex<Option<Instant>>,
    /// Downloads at a time.
    pub(super) downloads: Semaphore,
    /// Uploads at a time. An upload may wait for a download from the same host, never the other way round.
    pub(super) uploads: Semaphore,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Secure {
    No,
    Tls(TransportSecurity),
    /// TLS with any certificate; plain HTTP if it does not speak TLS.
    IfPossible,
}

impl Host {
    /// The registry of a reference's domain; `docker.io` is reached at `registry-1.docker.io`.
    pub(super) fn origin(options: &ClientOptions, domain: &str, insecure: bool) -> Self {
        let (mut settings, mut fault) = match settings::of(options, domain) {
            Ok(settings) => (settings, None),
            Err(why) => (HostSettings::default(), Some(why)),
        };
        if settings.blocked {
            fault = Some(format!("the settings of registries block `{domain}`"));
        }
        settings.insecure |= insecure;
        let host = Self::at(options, domain, settings);
        Self { fault, ..host }
    }

    /// A mirror of a domain, or the host that takes its pushes.
    pub(super) fn mirror(options: &ClientOptions, domain: &str, mirror: MirrorSettings) -> Self {
        let MirrorSettings { address, mut settings } = mirror;
        let name = address.host.clone();
        let fault = match settings::of(options, &name) {
            Ok(said_elsewhere) => {
                settings.merge(&said_elsewhere);
                None
            }
            Err(why) => Some(why),
        };
        let host = Self::at(options, &name, HostSettings { location: Some(address), ..settings });
        Self { namespace: Some(domain.to_owned()), fault, ..host }
    }

    fn at(options: &ClientOptions, domain: &str, settings: HostSettings) -> Self {
        let address = settings.location.unwrap_or_else(|| {
            let host = if domain == "docker.io" { "registry-1.docker.io" } else { domain };
            RegistryAddress { host: host.to_owned(), base: "/v2".to_owned() }
        });
        // A host of this machine is spoken to in plain HTTP, unless there is something to tell its certificate by.
        let has_certificates = !settings.ca.is_empty() || settings.client.is_some();
        let is_plain = settings.http.unwrap_or_else(|| is_loopback(&address.host) && !has_certificates);
        let secure = match (settings.insecure, is_plain) {
            (true, _) => Secure::IfPossible,
            (false, true) => Secure::No,
            (false, false) => {
                Secure::Tls(TransportSecurity::Verified { authorities: settings.ca, client: settings.client })
            }
        };
        let may_be_local = settings.http.is_none() && !has_certificates && matches!(secure, Secure::Tls(_));
        // Credentials are kept under the name that references have, unless the registry is really elsewhere.
        let is_hub = domain == "docker.io" && address.host == "registry-1.docker.io";
        Self {
            name: if is_hub { domain.to_owned() } else { address.host.clone() },
            authority: address.host,
            base: address.base,
            namespace: None,
            secure,
            may_be_local,
            fault: None,
            fell_back: AtomicBool::new(false),
            answered: AtomicBool::new(false),
            auth: RegistryAuth::default(),
            not_before: Mutex::new(None),
            downloads: Semaphore::new(options.parallel.max(1)),
            uploads: Semaphore::new(options.parallel.max(1)),
        }
    }

    /// The URL of `rest` (`manifests/latest`, `blobs/sha256:…`) in a repository.
    ///
    /// # Errors
    /// Why nothing may be sent to this host, or what of the URL is wrong.
    pub(super) fn url(&self, repository: &str, rest: &str) -> Result<Url, String> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        let scheme = if self.is_plain() { "http" } else { "https" };
        let text = format!("{scheme}://{}{}/{repository}/{rest}", self.authority, self.base);
        let mut url = Url::parse(&text).map_err(|e| format!("not a URL ({e}): {text}"))?;
        if let Some(namespace) = &self.namespace {
            url.query_pairs_mut().append_pair("ns", namespace);
        }
        Ok(url)
    }

    /// The URL at which a registry says what authentication it asks for (`/v2/`).
    ///
    /// # Errors
    /// As [`url`](Self::url).
    pub(super) fn root_url(&self) -> Result<Url, String> {
        let mut url = self.url("-", "-")?;
        url.set_path(&format!("{}/", self.base));
        Ok(url)
    }

    /// Whether requests to this host go over plain HTTP now.
    pub(super) fn is_plain(&self) -> bool {
        match self.secure {
            Secure::No => true,
            Secure::Tls(_) | Secure::IfPossible => self.fell_back.load(Ordering::Relaxed),
        }
    }

    /// The security of this host, which bounds the hosts that it may name in redirects and challenges.
    pub(super) fn security(&self) -> HostSecurity {
        HostSecurity { is_plain: self.is_plain(), accepts_any_certificate: self.secure == Secure::IfPossible }
    }

    /// How connections to this host itself are secured.
    pub(super) fn transport_security(&self) -> TransportSecurity {
        match &self.secure {
            Secure::No => TransportSecurity::Plain,
            Secure::IfPossible => TransportSecurity::AnyCertificate,
            Secure::Tls(trust) => trust.clone(),
        }
    }

    /// Whether `url` is on this host.
    pub(super) fn holds(&self, url: &Url) -> bool {
        let scheme = if self.is_plain() { "http" } else { "https" };
        let own = Url::parse(&format!("{scheme}://{}/", self.authority));
        own.is_ok_and(|own| same_origin(&own, url))
    }

    /// Changes to plain HTTP, if that is allowed and the host has never answered; false if requests went there already.
    pub(super) fn fall_back(&self) -> bool {
        let may = self.secure == Secure::IfPossible && !self.answered.load(Ordering::Relaxed);
        may && !self.fell_back.swap(true, Ordering::Relaxed)
    }

    /// Changes to plain HTTP if nothing is said about the host and its name leads to this machine alone, as `docker` does with
    /// names in 127.0.0.0/8; false for all other hosts.
    pub(super) async fn fall_back_if_local(&self) -> bool {
        let may = self.may_be_local && !self.answered.load(Ordering::Relaxed);
        if !may || !leads_here(&self.authority).await {
            return false;
        }
        self.fell_back.store(true, Ordering::Relaxed);
        true
    }

    /// Notes that the host answered: from now on it does not fall back to plain HTTP.
    pub(super) fn note_answer(&self) {
        self.answered.store(true, Ordering::Relaxed);
    }

    /// Whether the address of the host has no port.
    pub(super) fn has_default_port(&self) -> bool {
        Url::parse(&format!("https://{}/", self.authority)).is_ok_and(|url| url.port().is_none())
    }
}

/// Whether all addresses of the name in `authority` are loopback addresses of this machine.
async fn leads_here(authority: &str) -> bool {
    let Ok(url) = Url::parse(&format!("https://{authority}/")) else { return false };
    let Some(url::Host::Domain(name)) = url.host() else { return false };
    let Ok(resolver) = TokioResolver::builder_tokio().and_then(|builder| builder.build()) else { return false };
    let found = resolver.lookup_ip(name).await;
    found.is_ok_and(|found| found.iter().next().is_some() && found.iter().all(|address| address.is_loopback()))
}

/// Whether two URLs have the same scheme, host and port, so that credentials may go along (RFC 6454).
pub(super) fn same_origin(a: &Url, b: &Url) -> bool {
    a.scheme() == b.scheme() && a.host_str() == b.host_str() && a.port_or_known_default() == b.port_or_known_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "never called")]
    fn command(program: &std::ffi::OsStr) -> std::process::Command {
        std::process::Command::new(program)
    }

    fn url(options: &ClientOptions, domain: &str, insecure: bool) -> String {
        Host::origin(options, domain, insecure).url("a/b", "manifests/x").expect("a URL").to_string()
    }

    #[test]
    fn a_name_of_this_machine_leads_here_and_an_address_is_no_name() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        assert!(runtime.block_on(leads_here("localhost:5000")));
        assert!(!runtime.block_on(leads_here("192.0.2.1:5000")) && !runtime.block_on(leads_here("not a host")));
    }

    #[test]
    fn schemes_follow_the_host() {
        let mut options = ClientOptions::new(command);
        options.hosts.insert("plain.example".into(), HostSettings { http: Some(true), ..HostSettings::default() });
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
        let address = RegistryAddress::parse("localhost:1/hub/");
        let mirror = MirrorSettings { address, settings: HostSettings::default() };
        let mirror = Host::mirror(&ClientOptions::new(command), "docker.io", mirror);
        let url = mirror.url("library/a", "blobs/x").expect("a URL");
        assert_eq!(url.as_str(), "http://localhost:1/v2/hub/library/a/blobs/x?ns=docker.io");
    }

    #[test]
    fn settings_lead_elsewhere_or_nowhere() {
        let mut options = ClientOptions::new(command);
        let location = Some(RegistryAddress::parse("harbor.example/proxy"));
        options.hosts.insert("a.example".into(), HostSettings { location, ..HostSettings::default() });
        options.hosts.insert("b.example".into(), HostSettings { blocked: true, ..HostSettings::default() });
        let ca = vec!["/ca.pem".into()];
        options.hosts.insert("localhost:5".into(), HostSettings { ca, ..HostSettings::default() });
        assert_eq!(url(&options, "a.example", false), "https://harbor.example/v2/proxy/a/b/manifests/x");
        assert_eq!(Host::origin(&options, "a.example", false).name, "harbor.example");
        Host::origin(&options, "b.example", false).url("a", "b").expect_err("it is blocked");
        assert_eq!(url(&options, "localhost:5", false), "https://localhost:5/v2/a/b/manifests/x");
    }

    #[test]
    fn default_ports_are_seen() {
        let default = |domain: &str| Host::origin(&ClientOptions::new(command), domain, false).has_default_port();
        assert!(default("example.com") && default("[::1]"));
        assert!(!default("example.com:5000") && !default("[::1]:5000"));
    }
}
