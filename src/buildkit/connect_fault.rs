//! Why a node cannot be reached, with what to do about it. Faults of builds are the affair of others.

use std::{error::Error, fmt, io};

use rustls::{AlertDescription, CertificateError};

use crate::report::Diagnostic;

/// Longest text of others that a message has, in characters.
const LONGEST: usize = 500;

/// A node that cannot be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConnectFault {
    /// The address as it is shown.
    pub(crate) address: String,
    pub(crate) cause: ConnectCause,
}

/// Why, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConnectCause {
    /// Goes behind `: `, in lower case.
    pub(crate) reason: String,
    pub(crate) help: Option<String>,
}

impl ConnectCause {
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), help: None }
    }

    /// Sets what to do.
    #[must_use]
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// A fault of the system or of TLS, wherever in an error it is.
    pub(crate) fn of(error: &(dyn Error + 'static)) -> Self {
        if let Some(found) = find::<rustls::Error>(error) {
            return Self::of_tls(found);
        }
        match find::<io::Error>(error).map(io::Error::kind) {
            Some(io::ErrorKind::ConnectionRefused) => {
                Self::new("connection refused").help("start the daemon, or correct the address")
            }
            Some(io::ErrorKind::NotFound) => {
                Self::new("there is no such socket").help("start the daemon, or correct the address")
            }
            Some(io::ErrorKind::PermissionDenied) => {
                Self::new("permission denied").help("join the group that owns the socket, or run as root")
            }
            Some(
                io::ErrorKind::UnexpectedEof
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe,
            ) => Self::new("the connection was closed"),
            _ => Self::new(clean(&innermost(error).to_string())),
        }
    }

    fn of_tls(error: &rustls::Error) -> Self {
        let authority = "`cacert` must be the certificate of the authority that signed the daemon's";
        let certificate = "`cert` must be signed by the authority that the daemon trusts, for client authentication";
        let (reason, help) = match error {
            rustls::Error::InvalidCertificate(why) => match why {
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                    ("the certificate of the daemon has expired", "renew it, and set the clocks of both machines")
                }
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                    ("the certificate of the daemon is not valid yet", "set the clocks of both machines")
                }
                CertificateError::NotValidForName => {
                    ("the certificate of the daemon is for another name", "name what it is for with `servername`")
                }
                CertificateError::NotValidForNameContext { presented, .. } => {
                    let names: Vec<String> = presented.iter().map(|name| clean(&shown_name(name))).collect();
                    let known = if names.is_empty() { "no name".to_owned() } else { names.join(", ") };
                    let cause = Self::new(format!("the certificate of the daemon is for another name: {known}"));
                    return match names.first() {
                        Some(name) => cause.help(format!("write servername={name}")),
                        None => cause.help("make it again, with the name of the host as a subject alternative name"),
                    };
                }
                CertificateError::UnknownIssuer => {
                    ("the certificate of the daemon is signed by an unknown authority", authority)
                }
                CertificateError::BadSignature => ("the certificate of the daemon is badly signed", authority),
                _ => {
                    let reason = format!("the certificate of the daemon is not usable, {}", clean(&error.to_string()));
                    return Self::new(reason).help(authority);
                }
            },
            rustls::Error::AlertReceived(alert) => match alert {
                AlertDescription::CertificateRequired => {
                    ("the daemon wants a certificate of the client", "give one with `cert` and `key`")
                }
                AlertDescription::BadCertificate
                | AlertDescription::UnknownCA
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::CertificateUnknown
                | AlertDescription::AccessDenied => {
                    ("the daemon does not accept the certificate of the client", certificate)
                }
                AlertDescription::CertificateExpired => {
                    ("the certificate of the client has expired", "renew the one that `cert` names")
                }
                AlertDescription::NoApplicationProtocol => {
                    ("the daemon does not speak HTTP/2", "the address must be that of a BuildKit daemon")
                }
                _ => ("the daemon ended the handshake", "look into its log"),
            },
            rustls::Error::InvalidMessage(_) => {
                ("the daemon does not speak TLS", "leave out `cacert`, `cert`, `key` and `servername`")
            }
            _ => return Self::new(clean(&error.to_string())),
        };
        Self::new(reason).help(help)
    }
}

impl ConnectFault {
    /// As it is told.
    pub(crate) fn diagnostic(&self) -> Diagnostic {
        let mut diagnostic = Diagnostic::error("bake::builder::unreachable", self.to_string());
        diagnostic.help.clone_from(&self.cause.help);
        diagnostic
    }
}

impl fmt::Display for ConnectFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the node at {} cannot be reached: {}", self.address, self.cause.reason)
    }
}

impl Error for ConnectFault {}

/// The name in a certificate as it is written; the library shows it as `DnsName("box")`.
fn shown_name(name: &str) -> String {
    name.split_once("(\"").and_then(|(_, rest)| rest.strip_suffix("\")")).unwrap_or(name).to_owned()
}

/// The first error of a type in an error and its causes. What an I/O error carries is not among its causes.
fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            // One that only carries another is not what is looked for.
            let carried = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            let inner = carried.and_then(|carried| find::<T>(carried as &(dyn Error + 'static)));
            return Some(inner.unwrap_or(found));
        }
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(carried) => Some(carried as &(dyn Error + 'static)),
            None => error.source(),
        };
    }
    None
}

fn innermost<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    let mut last = error;
    while let Some(inner) = last.source() {
        last = inner;
    }
    last
}

/// Foreign text on one line, without control characters.
pub(crate) fn clean(text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    words.chars().filter(|c| !c.is_control()).take(LONGEST).collect()
}
