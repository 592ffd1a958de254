//! Tokens for a program that speaks to a registry itself and must not have our password: a BuildKit daemon.
//!
//! Only the token server that the registry itself names gets a password, whatever server the program asks about.

use std::time::Duration;

use reqwest::StatusCode;
use tokio::time::timeout;

use super::{
    auth::{self, Challenge, Refused, merge_scopes},
    client::Client,
    credentials::Credentials,
    error::RegistryError,
    host::Host,
    http::{cause, clean},
};

/// How long a registry may take to say what it asks for.
const ASK_TIME: Duration = Duration::from_secs(15);

/// A token for requests to a registry. It has no `Debug`, so that it is never printed.
pub(crate) struct DelegatedToken {
    pub(crate) token: String,
    /// How long it may be used from now on.
    pub(crate) life: Duration,
}

/// A user's name, and a password or refresh token; both empty when there is nothing to give.
#[derive(Default)]
pub(crate) struct DelegatedPassword {
    pub(crate) user: String,
    pub(crate) secret: String,
}

impl Client {
    /// A token of `registry` for these scopes, with the user's credentials if there are any.
    ///
    /// # Errors
    /// The registry does not name `realm` as its token server, or no token can be had: a clause that says why.
    pub(crate) async fn delegate_token(
        &self,
        registry: &str,
        realm: &str,
        scopes: &[String],
    ) -> Result<DelegatedToken, String> {
        let host = self.origin(registry, false);
        match self.challenge_of(&host).await? {
            Some(Challenge::Bearer { realm: own, .. }) if own == realm => {}
            Some(Challenge::Bearer { realm: own, .. }) => {
                return Err(format!(
                    "a token of {} is asked for, but the registry names {}",
                    clean(realm),
                    clean(&own)
                ));
            }
            Some(Challenge::Basic) | None => return Err("the registry does not ask for tokens".to_owned()),
        }
        let scopes = merge_scopes(scopes.iter().flat_map(|scopes| scopes.split(' ')));
        let found = host.auth.token(&self.shared.connections, &host.name, host.security(), &scopes).await;
        let (header, life) = found.map_err(said)?.ok_or("the registry does not ask for tokens")?;
        let token = header.header_value().strip_prefix("Bearer ").ok_or("there is no token, only a password")?;
        Ok(DelegatedToken { token: token.to_owned(), life })
    }

    /// The user's credentials for `registry`, if it can do without them no other way: nothing for one that has tokens.
    ///
    /// # Errors
    /// The configuration or a credential helper fails.
    pub(crate) async fn delegate_password(&self, registry: &str) -> Result<DelegatedPassword, RegistryError> {
        let host = self.origin(registry, false);
        // A registry that cannot be reached from here may need them where it can be.
        if matches!(self.challenge_of(&host).await, Ok(None | Some(Challenge::Bearer { .. }))) {
            return Ok(DelegatedPassword::default());
        }
        Ok(match host.auth.credentials(&self.shared.connections, &host.name).await? {
            Credentials::Basic { user, password } => DelegatedPassword { user, secret: password },
            Credentials::Identity { token } => DelegatedPassword { user: String::new(), secret: token },
            Credentials::Anonymous | Credentials::Bearer { .. } => DelegatedPassword::default(),
        })
    }

    /// Whether the user has credentials for `registry`.
    ///
    /// # Errors
    /// The configuration or a credential helper fails.
    pub(crate) async fn has_credentials(&self, registry: &str) -> Result<bool, RegistryError> {
        let host = self.origin(registry, false);
        let found = host.auth.credentials(&self.shared.connections, &host.name).await?;
        Ok(!matches!(found, Credentials::Anonymous))
    }

    /// What the registry asks for; `None` if it asks for nothing. It is asked once.
    async fn challenge_of(&self, host: &Host) -> Result<Option<Challenge>, String> {
        if let Some(known) = host.auth.challenge().await {
            return Ok(Some(known));
        }
        loop {
            let url = host.root_url()?;
            let http = self.shared.connections.clients.get(&host.transport_security())?;
            let response = match timeout(ASK_TIME, http.get(url).send()).await {
                Err(_) => return Err(format!("`{}` does not answer", host.name)),
                Ok(Err(_)) if host.fall_back() || host.fall_back_if_local().await => continue,
                Ok(Err(error)) => return Err(format!("`{}` cannot be reached: {}", host.name, cause(&error))),
                Ok(Ok(response)) => response,
            };
            // Only the registry itself may ask for the credentials that are kept for it.
            if response.status() != StatusCode::UNAUTHORIZED || !host.holds(response.url()) {
                return Ok(None);
            }
            host.note_answer();
            let challenge = auth::challenge(response.headers());
            if let Some(challenge) = challenge.clone() {
                host.auth.challenged(challenge, "", None).await;
            }
            return Ok(challenge);
        }
    }
}

fn said(refused: Refused) -> String {
    match refused {
        Refused::Transient { realm, why } | Refused::Final { realm, why } => format!("{realm}: {why}"),
        Refused::Credentials(error) => error.to_string(),
    }
}
