//! The HTTP client of all object stores: TLS by rustls with ring, proxies of the environment, no redirects.
//!
//! It is that of the rest of the program. The crate `object_store` takes it as its connector: with its features `aws`,
//! `azure` and `gcp` it would bring a client with aws-lc, which needs cmake and does not link statically everywhere.

use std::{sync::OnceLock, time::Duration};

use async_trait::async_trait;
use object_store::{
    ClientOptions,
    client::{HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService},
};
use reqwest::redirect;
use tokio::time::timeout;

const NO_CREDENTIALS: &str = "there are no credentials: neither the options of the cache nor the environment have any, and \
                              this is no machine of a cloud that gives them";
/// How long an answer, or the next bytes of one, are waited for.
pub(super) const SILENCE: Duration = Duration::from_secs(30);
/// Bytes that are sent within a second, at the least.
const SLOWEST: u64 = 32 << 10;

/// Services of machines of a cloud that give credentials. Elsewhere nobody answers there, often not even with a refusal.
const METADATA_HOSTS: &[&str] = &["169.254.169.254", "169.254.170.2", "metadata.google.internal", "metadata"];
const METADATA_SILENCE: Duration = Duration::from_secs(2);

/// How long a request with so many bytes may take until it is answered.
pub(super) fn patience(n_bytes: u64) -> Duration {
    SILENCE + Duration::from_secs(n_bytes / SLOWEST)
}

/// The client; made when it is first asked for.
///
/// # Errors
/// The text is for the user.
pub(super) fn client() -> Result<reqwest::Client, String> {
    static CLIENT: OnceLock<Result<reqwest::Client, String>> = OnceLock::new();
    CLIENT
        .get_or_init(|| {
            // Err means that another caller was first.
            rustls::crypto::ring::default_provider().install_default().ok();
            reqwest::Client::builder()
                .user_agent(concat!("bake/", env!("CARGO_PKG_VERSION")))
                .redirect(redirect::Policy::none())
                .connect_timeout(Duration::from_secs(15))
                .pool_idle_timeout(Duration::from_secs(20))
                .referer(false)
                .http1_only()
                .build()
                .map_err(|error| format!("{error} (install the package ca-certificates, or set SSL_CERT_FILE)"))
        })
        .clone()
}

/// The client as the crate `object_store` takes it.
#[derive(Clone, Debug)]
pub(super) struct Transport {
    client: reqwest::Client,
}

impl Transport {
    /// # Errors
    /// As [`client`].
    pub(super) fn new() -> Result<Self, String> {
        Ok(Self { client: client()? })
    }
}

impl HttpConnector for Transport {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Transport {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (method, host) = (request.method().clone(), request.uri().host().unwrap_or_default().to_owned());
        if METADATA_HOSTS.contains(&host.as_str()) {
            return match timeout(METADATA_SILENCE, HttpService::call(&self.client, request)).await {
                Ok(Ok(answer)) => Ok(answer),
                _ => Err(HttpError::new(HttpErrorKind::Unknown, std::io::Error::other(NO_CREDENTIALS))),
            };
        }
        let most = patience(request.body().content_length() as u64);
        match timeout(most, HttpService::call(&self.client, request)).await {
            Ok(answer) => {
                let status = answer.as_ref().map_or(0, |answer| answer.status().as_u16());
                tracing::debug!(%method, host, status, "object store answered");
                answer
            }
            Err(_) => {
                let text = format!("there was no answer within {} s", most.as_secs());
                Err(HttpError::new(HttpErrorKind::Timeout, std::io::Error::other(text)))
            }
        }
    }
}
