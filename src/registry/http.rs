//! HTTP clients by transport security, reading of bodies within bounds, and words for what went wrong on the way.
//!
//! No time limit for answers is set here: how long is too long depends on what is sent (`api`) or read (`read_body`).
//! Knows nothing of registries. Redirects are never followed here: `api` does that, so that credentials stay home.

use std::{
    collections::HashMap,
    error::Error as _,
    io,
    path::{Path, PathBuf},
    sync::Mutex,
    time::Duration,
};

use hickory_resolver::net::NetError;
use reqwest::{Certificate, Identity, Response, redirect::Policy};
use tokio::time::{Instant, timeout};

use super::settings::ClientCertificate;
use crate::grant::read_file;

const CONNECT: Duration = Duration::from_secs(15);

/// How connections to a host are secured: plain HTTP, TLS with any certificate, or TLS with a verified one.
///
/// Also the key under which [`Clients`] keeps HTTP clients: hosts with equal security share one client and its
/// connections.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum TransportSecurity {
    /// Plain HTTP.
    #[default]
    Plain,
    /// TLS without verification: any certificate is accepted (registries that the user called insecure).
    AnyCertificate,
    /// TLS verified against the system's authorities and those in these PEM files. `client` is for hosts that ask
    /// for a certificate.
    Verified { authorities: Vec<PathBuf>, client: Option<ClientCertificate> },
}

/// How a registry itself is reached. It limits what else may be reached because the registry names it: redirects, token
/// servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HostSecurity {
    /// Requests go over plain HTTP: it may name plain HTTP servers. One that speaks TLS may not.
    pub(super) is_plain: bool,
    /// The user called the registry insecure: no certificate is verified, that of its token server neither.
    pub(super) accepts_any_certificate: bool,
}

/// The HTTP clients made so far, by the security of the connection.
#[derive(Default)]
pub(super) struct Clients {
    made: Mutex<HashMap<TransportSecurity, reqwest::Client>>,
}

impl Clients {
    /// The HTTP client for hosts with this security; made when it is first asked for.
    ///
    /// # Errors
    /// When a PEM file cannot be read or the client cannot be made; the text is for the user.
    pub(super) fn get(&self, trust: &TransportSecurity) -> Result<reqwest::Client, String> {
        let mut made = self.made.lock().expect("no holder of this lock panics");
        if let Some(client) = made.get(trust) {
            return Ok(client.clone());
        }
        let client = make(trust)?;
        made.insert(trust.clone(), client.clone());
        Ok(client)
    }
}

fn make(trust: &TransportSecurity) -> Result<reqwest::Client, String> {
    // Err means that another caller was first.
    rustls::crypto::ring::default_provider().install_default().ok();
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("bake/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .connect_timeout(CONNECT)
        .pool_idle_timeout(Duration::from_secs(20))
        .referer(false)
        .http1_only();
    builder = match trust {
        TransportSecurity::Plain | TransportSecurity::AnyCertificate => builder.tls_danger_accept_invalid_certs(true),
        TransportSecurity::Verified { authorities, client } => {
            for path in authorities {
                let pem = read(path)?;
                let found = Certificate::from_pem_bundle(&pem).map_err(|e| bad(path, &e))?;
                builder = builder.tls_certs_merge(found);
            }
            if let Some(ClientCertificate { certificate, key }) = client {
                let mut pem = read(certificate)?;
                if key != certificate {
                    pem.push(b'\n');
                    pem.extend(read(key)?);
                }
                builder = builder.identity(Identity::from_pem(&pem).map_err(|e| bad(certificate, &e))?);
            }
            builder
        }
    };
    builder.build().map_err(|e| {
        let cause = cause(&e);
        if matches!(trust, TransportSecurity::Verified { .. }) {
            format!("{cause} (install the package ca-certificates, or set SSL_CERT_FILE)")
        } else {
            cause
        }
    })
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    // Bundles of all authorities have about 250 kB.
    const LONGEST: u64 = 16 << 20;
    read_file(path, LONGEST).map_err(|fault| format!("cannot read `{}`: {fault}", path.display()))
}

fn bad(path: &Path, error: &reqwest::Error) -> String {
    format!("`{}` is not usable: {}", path.display(), cause(error))
}

/// The innermost message of an error, without the URL (its query may hold a secret).
pub(super) fn cause(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "timed out".to_owned();
    }
    let mut words: Vec<String> = Vec::new();
    let mut next = error.source();
    while let Some(inner) = next {
        let text = inner.to_string();
        if !words.iter().any(|it| it.contains(&text)) {
            words.push(text);
        }
        next = inner.source();
    }
    if words.is_empty() {
        words.push(
            if error.is_body() || error.is_decode() { "the body broke off" } else { "the request failed" }.into(),
        );
    }
    clean(&words.join(": "))
}

/// Whether an error says that the other side does not seem to speak TLS: it answered with something else, or hung up at
/// the greeting.
pub(super) fn is_not_tls(error: &reqwest::Error) -> bool {
    error.is_connect()
        && any_cause(error, |cause| {
            let hung_up = cause
                .downcast_ref::<io::Error>()
                .is_some_and(|io| matches!(io.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset));
            hung_up || matches!(cause.downcast_ref(), Some(rustls::Error::InvalidMessage(_)))
        })
}

/// Whether an error says that the other side answered a TLS greeting with something that is no TLS record, as servers of
/// plain HTTP do.
pub(super) fn is_plain_http(error: &reqwest::Error) -> bool {
    error.is_connect()
        && any_cause(error, |cause| matches!(cause.downcast_ref(), Some(rustls::Error::InvalidMessage(_))))
}

/// Whether the connection was refused.
pub(super) fn is_refused(error: &reqwest::Error) -> bool {
    any_cause(error, |cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|io| io.kind() == io::ErrorKind::ConnectionRefused)
    })
}

/// Whether an error says that the connection ended before the request was sent: the error of the connection is lost then.
pub(super) fn is_unsent(error: &reqwest::Error) -> bool {
    any_cause(error, |cause| cause.downcast_ref().is_some_and(hyper::Error::is_canceled))
}

/// Whether an error says that the name server knows no such host.
pub(super) fn is_unknown_host(error: &reqwest::Error) -> bool {
    any_cause(error, |cause| cause.downcast_ref().is_some_and(NetError::is_no_records_found))
}

/// Whether a test holds for an error or one of its sources. An `io::Error` does not list what it wraps as its source, so
/// that is looked at as well.
fn any_cause(error: &reqwest::Error, test: impl Fn(&(dyn std::error::Error + 'static)) -> bool) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = error.source();
    while let Some(cause) = next {
        if test(cause) {
            return true;
        }
        let wrapped = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => cause.source(),
        };
    }
    false
}

/// Makes a server's or system's text fit for a message: no control characters, at most a few hundred bytes.
pub(super) fn clean(text: &str) -> String {
    const LONGEST: usize = 400;
    let mut clean = String::new();
    for c in text.trim().chars() {
        if clean.len() >= LONGEST {
            clean.push('…');
            break;
        }
        clean.push(if c.is_control() { ' ' } else { c });
    }
    clean
}

/// Why the body of an answer could not be read.
#[derive(Debug)]
pub(super) enum BodyError {
    Broken(String),
    /// It is longer than allowed.
    TooLong,
}

/// Reads a whole body of at most `limit` bytes, within `time` altogether.
pub(super) async fn read_body(mut response: Response, limit: u64, time: Duration) -> Result<Vec<u8>, BodyError> {
    if response.content_length().is_some_and(|length| length > limit) {
        return Err(BodyError::TooLong);
    }
    let deadline = Instant::now() + time;
    let mut bytes = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match timeout(left, response.chunk()).await {
            Err(_) => return Err(BodyError::Broken(format!("the body did not end within {} s", time.as_secs()))),
            Ok(Err(error)) => return Err(BodyError::Broken(cause(&error))),
            Ok(Ok(None)) => return Ok(bytes),
            Ok(Ok(Some(chunk))) => {
                if bytes.len() as u64 + chunk.len() as u64 > limit {
                    return Err(BodyError::TooLong);
                }
                bytes.extend_from_slice(&chunk);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_servers_are_cleaned_and_cut() {
        assert_eq!(clean("bad \u{1b}[31mred\u{7}\n"), "bad  [31mred ");
        assert!(clean(&"x".repeat(10_000)).len() < 500);
    }

    #[test]
    fn clients_are_shared_by_transport_security() {
        let clients = Clients::default();
        clients.get(&TransportSecurity::Plain).expect("needs no certificates");
        clients.get(&TransportSecurity::AnyCertificate).expect("needs no certificates");
        assert_eq!(clients.made.lock().expect("not poisoned").len(), 2);
    }

    #[test]
    fn a_missing_authority_is_named() {
        let trust = TransportSecurity::Verified { authorities: vec!["/nonexistent/ca.crt".into()], client: None };
        let error = Clients::default().get(&trust).expect_err("the file does not exist");
        assert!(error.contains("/nonexistent/ca.crt"), "{error}");
    }
}
