//! Access to registries for the daemon: `moby.filesync.v1.Auth`. Passwords stay here; the daemon gets tokens.
//!
//! The daemon keeps tokens for clients that prove to be the same: by a key (ed25519) made of a secret of ours and a salt of
//! the daemon's. Clients without credentials share one key.

use ring::{
    hmac,
    signature::{Ed25519KeyPair, KeyPair as _},
};
use tonic::Status;

use super::call::{Answers, Call, one};
use crate::registry;

/// How the daemon gets access to registries.
pub(crate) struct RegistryAccess {
    pub(crate) client: registry::Client,
    /// The secret by which this client proves to be the one that had a token. Kept between runs, a daemon that still has a
    /// token does not ask for another.
    pub(crate) seed: [u8; 32],
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct CredentialsRequest {
    #[prost(string, tag = "1")]
    pub(super) host: String,
}

/// Without `Debug`: it holds a password.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub(super) struct CredentialsAnswer {
    #[prost(string, tag = "1")]
    pub(super) user: String,
    #[prost(string, tag = "2")]
    pub(super) secret: String,
}

impl std::fmt::Debug for CredentialsAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct TokenRequest {
    #[prost(string, tag = "2")]
    pub(super) host: String,
    #[prost(string, tag = "3")]
    pub(super) realm: String,
    #[prost(string, repeated, tag = "5")]
    pub(super) scopes: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub(super) struct TokenAnswer {
    #[prost(string, tag = "1")]
    pub(super) token: String,
    /// Seconds.
    #[prost(int64, tag = "2")]
    pub(super) expires_in: i64,
}

impl std::fmt::Debug for TokenAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct AuthorityRequest {
    #[prost(string, tag = "1")]
    pub(super) host: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) salt: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct AuthorityAnswer {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) public_key: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct VerifyRequest {
    #[prost(string, tag = "1")]
    pub(super) host: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) payload: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    pub(super) salt: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct VerifyAnswer {
    /// The signature (64 bytes), then the payload.
    #[prost(bytes = "vec", tag = "1")]
    pub(super) signed: Vec<u8>,
}

/// The access that the session gives.
fn given(access: Option<&RegistryAccess>) -> Result<&RegistryAccess, Status> {
    access.ok_or_else(|| Status::unimplemented("this session gives no access to registries"))
}

/// Gives a token.
pub(super) async fn fetch_token(access: Option<&RegistryAccess>, call: Call) -> Result<Answers, Status> {
    let TokenRequest { host, realm, scopes } = call.only().await?;
    let found = given(access)?.client.delegate_token(&host, &realm, &scopes).await;
    let found = found.map_err(|why| Status::unauthenticated(format!("no token for {host}: {why}")))?;
    let expires_in = i64::try_from(found.life.as_secs()).unwrap_or(0).max(1);
    Ok(one(&TokenAnswer { token: found.token, expires_in }))
}

/// Gives a password, for registries that have no tokens.
pub(super) async fn credentials(access: Option<&RegistryAccess>, call: Call) -> Result<Answers, Status> {
    let CredentialsRequest { host } = call.only().await?;
    let found = given(access)?.client.delegate_password(&host).await;
    let found = found.map_err(|error| Status::unauthenticated(error.to_string()))?;
    Ok(one(&CredentialsAnswer { user: found.user, secret: found.secret }))
}

/// Gives the public half of the key for a registry.
pub(super) async fn token_authority(access: Option<&RegistryAccess>, call: Call) -> Result<Answers, Status> {
    let AuthorityRequest { host, salt } = call.only().await?;
    let key = key(given(access)?, &host, &salt).await?;
    Ok(one(&AuthorityAnswer { public_key: key.public_key().as_ref().to_vec() }))
}

/// Proves that the key for a registry is ours.
pub(super) async fn verify_token_authority(access: Option<&RegistryAccess>, call: Call) -> Result<Answers, Status> {
    let VerifyRequest { host, payload, salt } = call.only().await?;
    let key = key(given(access)?, &host, &salt).await?;
    let mut signed = key.sign(&payload).as_ref().to_vec();
    signed.extend(payload);
    Ok(one(&VerifyAnswer { signed }))
}

async fn key(access: &RegistryAccess, host: &str, salt: &[u8]) -> Result<Ed25519KeyPair, Status> {
    let has_credentials = access.client.has_credentials(host).await;
    let mut mac = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, salt));
    if has_credentials.map_err(|error| Status::unauthenticated(error.to_string()))? {
        mac.update(&access.seed);
        mac.update(host.as_bytes());
    }
    Ed25519KeyPair::from_seed_unchecked(mac.sign().as_ref()).map_err(|error| Status::internal(error.to_string()))
}
