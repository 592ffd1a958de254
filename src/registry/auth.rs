//! Answers to a registry's 401: challenges read, tokens fetched and kept until shortly before they expire.
//!
//! No credentials are looked up before a registry asks. Tokens are kept per set of scopes.

use std::{collections::BTreeMap, fmt, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::{
    StatusCode,
    header::{HeaderMap, WWW_AUTHENTICATE},
};
use serde::Deserialize;
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};
use url::Url;

use super::{
    connections::Connections,
    credentials::{self, Credentials},
    error::{RegistryError, registry_words},
    http::{BodyError, HostSecurity, TransportSecurity, cause, clean, is_unknown_host, read_body},
};

/// Longest answer of a token server.
const LONGEST_TOKEN: u64 = 1 << 20;
const TOKEN_TIME: Duration = Duration::from_secs(30);

/// The authentication that a registry asks for in `WWW-Authenticate` (RFC 9110, section 11.6.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    Bearer {
        realm: String,
        service: Option<String>,
        scope: Option<String>,
        /// Why the token shown was refused.
        error: Option<String>,
    },
}

/// The authentication state of one registry: its challenge, our credentials, and the tokens it gave.
#[derive(Default)]
pub(super) struct RegistryAuth {
    state: Mutex<AuthState>,
}

#[derive(Default)]
struct AuthState {
    credentials: Option<Credentials>,
    challenge: Option<Challenge>,
    /// By scopes, joined by spaces.
    tokens: BTreeMap<String, BearerToken>,
}

#[derive(Clone)]
struct BearerToken {
    header: AuthHeader,
    until: Instant,
}

/// The value of an `Authorization` header (RFC 9110, 11.6.2). Its `Debug` shows `***`, so that it is never printed.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct AuthHeader(String);

impl AuthHeader {
    /// The value itself: `Bearer …` or `Basic …`. Secret: only for the request.
    pub(super) fn header_value(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for AuthHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Why there is no `Authorization` header to send.
pub(super) enum Refused {
    /// The token server may answer if asked again.
    Transient {
        realm: String,
        why: String,
    },
    Final {
        realm: String,
        why: String,
    },
    Credentials(RegistryError),
}

impl RegistryAuth {
    /// The `Authorization` header for requests with `scopes`; `None` if the registry has not asked for one.
    ///
    /// Looks up credentials and fetches a token when it is first needed
    /// (<https://distribution.github.io/distribution/spec/auth/token/>).
    pub(super) async fn header(
        &self,
        connections: &Connections,
        registry: &str,
        security: HostSecurity,
        scopes: &str,
    ) -> Result<Option<AuthHeader>, Refused> {
        Ok(self.token(connections, registry, security, scopes).await?.map(|(header, _)| header))
    }

    /// The same, with the time for which the header may be used from now on.
    pub(super) async fn token(
        &self,
        connections: &Connections,
        registry: &str,
        security: HostSecurity,
        scopes: &str,
    ) -> Result<Option<(AuthHeader, Duration)>, Refused> {
        let mut state = self.state.lock().await;
        let Some(challenge) = state.challenge.clone() else { return Ok(None) };
        let now = Instant::now();
        if let Some(token) = state.tokens.get(scopes).filter(|token| token.until > now) {
            return Ok(Some((token.header.clone(), token.until - now)));
        }
        let credentials = state.credentials(connections, registry).await.map_err(Refused::Credentials)?;
        let far = Duration::from_secs(24 * 3600);
        let (header, life) = match (&challenge, credentials) {
            (_, Credentials::Bearer { token }) => (AuthHeader(format!("Bearer {token}")), far),
            (Challenge::Basic, Credentials::Basic { user, password }) => {
                (AuthHeader(format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))), far)
            }
            (Challenge::Basic, _) => {
                let why = format!("no credentials for `{registry}` are known; log in with `docker login {registry}`");
                return Err(Refused::Final { realm: registry.to_owned(), why });
            }
            (Challenge::Bearer { realm, service, .. }, credentials) => {
                let request = TokenRequest { realm, service: service.as_deref(), scopes, credentials: &credentials };
                let (token, life) = request.send(connections, security).await?;
                (AuthHeader(format!("Bearer {token}")), life)
            }
        };
        let life = life.mul_f32(0.9);
        let until = Instant::now() + life;
        state.tokens.insert(scopes.to_owned(), BearerToken { header: header.clone(), until });
        Ok(Some((header, life)))
    }

    /// What the registry asked for, if it has.
    pub(super) async fn challenge(&self) -> Option<Challenge> {
        self.state.lock().await.challenge.clone()
    }

    /// The credentials for the registry, looked up when first asked for.
    pub(super) async fn credentials(
        &self,
        connections: &Connections,
        registry: &str,
    ) -> Result<Credentials, RegistryError> {
        self.state.lock().await.credentials(connections, registry).await
    }

    /// Notes a 401 answer: its challenge, and that the header `shown` is not to be sent for `scopes` again.
    pub(super) async fn challenged(&self, challenge: Challenge, scopes: &str, shown: Option<&AuthHeader>) {
        let mut state = self.state.lock().await;
        if state.tokens.get(scopes).is_some_and(|token| Some(&token.header) == shown) {
            state.tokens.remove(scopes);
        }
        state.challenge = Some(challenge);
    }
}

impl AuthState {
    async fn credentials(&mut self, connections: &Connections, registry: &str) -> Result<Credentials, RegistryError> {
        if let Some(known) = &self.credentials {
            return Ok(known.clone());
        }
        let (options, host) = (connections.options.clone(), registry.to_owned());
        let found = tokio::task::spawn_blocking(move || credentials::find(&options, &host)).await;
        let found = found.expect("looking up credentials does not panic")?;
        self.credentials = Some(found.clone());
        Ok(found)
    }
}

struct TokenRequest<'a> {
    realm: &'a str,
    service: Option<&'a str>,
    scopes: &'a str,
    credentials: &'a Credentials,
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

impl TokenRequest<'_> {
    /// Asks the realm for a token. It must not be reached less securely than the registry that named it.
    async fn send(&self, connections: &Connections, security: HostSecurity) -> Result<(String, Duration), Refused> {
        let fail = |why: &str| Refused::Final { realm: clean(self.realm), why: why.to_owned() };
        let url = Url::parse(self.realm).map_err(|_| fail("the realm is not a URL"))?;
        let secret = !matches!(self.credentials, Credentials::Anonymous);
        match url.scheme() {
            "https" => {}
            "http" if security.is_plain => {}
            "http" => return Err(fail("a registry that is reached by TLS must not name a realm without TLS")),
            _ => return Err(fail("the realm is neither http nor https")),
        }
        let trust = connections.transport_security_of(&url, security).map_err(|why| fail(&why))?;
        if secret {
            let answer = self.post(connections, &trust, &url).await?;
            let basic = matches!(self.credentials, Credentials::Basic { .. });
            if !basic || !answer.0.is_client_error() || answer.0 == StatusCode::TOO_MANY_REQUESTS {
                return self.read(answer);
            }
        }
        let answer = self.get(connections, &trust, &url).await?;
        self.read(answer)
    }

    async fn post(
        &self,
        connections: &Connections,
        trust: &TransportSecurity,
        url: &Url,
    ) -> Result<(StatusCode, Vec<u8>), Refused> {
        let mut form = vec![("client_id", "bake"), ("scope", self.scopes)];
        if let Some(service) = self.service {
            form.push(("service", service));
        }
        match self.credentials {
            Credentials::Basic { user, password } => {
                form.extend([("grant_type", "password"), ("username", user), ("password", password)]);
            }
            Credentials::Identity { token } => {
                form.extend([("grant_type", "refresh_token"), ("refresh_token", token)]);
            }
            Credentials::Anonymous | Credentials::Bearer { .. } => {}
        }
        let http = self.http(connections, trust)?;
        self.answer(http.post(url.clone()).form(&form)).await
    }

    async fn get(
        &self,
        connections: &Connections,
        trust: &TransportSecurity,
        url: &Url,
    ) -> Result<(StatusCode, Vec<u8>), Refused> {
        let mut query: Vec<(&str, &str)> = self.service.map(|it| ("service", it)).into_iter().collect();
        query.extend(self.scopes.split(' ').filter(|it| !it.is_empty()).map(|it| ("scope", it)));
        let mut request = self.http(connections, trust)?.get(url.clone()).query(&query);
        if let Credentials::Basic { user, password } = self.credentials {
            request = request.basic_auth(user, Some(password));
        }
        self.answer(request).await
    }

    fn http(&self, connections: &Connections, trust: &TransportSecurity) -> Result<reqwest::Client, Refused> {
        connections.clients.get(trust).map_err(|why| Refused::Final { realm: clean(self.realm), why })
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> Result<(StatusCode, Vec<u8>), Refused> {
        let transient = |why: String| Refused::Transient { realm: clean(self.realm), why };
        let slow = |_| transient("timed out".to_owned());
        let response = timeout(TOKEN_TIME, request.send()).await.map_err(slow)?.map_err(|error| {
            let (realm, why) = (clean(self.realm), cause(&error));
            if is_unknown_host(&error) { Refused::Final { realm, why } } else { Refused::Transient { realm, why } }
        })?;
        let status = response.status();
        match read_body(response, LONGEST_TOKEN, TOKEN_TIME).await {
            Ok(body) => Ok((status, body)),
            Err(BodyError::Broken(why)) => Err(transient(why)),
            Err(BodyError::TooLong) => Err(Refused::Final {
                realm: clean(self.realm),
                why: "the token server's answer does not end".to_owned(),
            }),
        }
    }

    fn read(&self, (status, body): (StatusCode, Vec<u8>)) -> Result<(String, Duration), Refused> {
        let realm = clean(self.realm);
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            return Err(Refused::Transient { realm, why: format!("the token server answered {}", status.as_u16()) });
        }
        if !status.is_success() {
            let words = registry_words(&body);
            let words = if words.is_empty() { "unauthorized".to_owned() } else { words };
            let why = format!("the token server answered {} ({words})", status.as_u16());
            return Err(Refused::Final { realm, why });
        }
        let answer: TokenAnswer = serde_json::from_slice(&body).map_err(|_| Refused::Final {
            realm: realm.clone(),
            why: "the token server's answer cannot be read".to_owned(),
        })?;
        let token = [answer.token, answer.access_token].into_iter().flatten().find(|it| !it.is_empty());
        let usable = |it: &String| it.bytes().all(|b| (0x21..0x7f).contains(&b));
        let Some(token) = token.filter(usable) else {
            return Err(Refused::Final { realm, why: "the token server gave no token".to_owned() });
        };
        Ok((token, Duration::from_secs(answer.expires_in.unwrap_or(60).clamp(10, 24 * 3600))))
    }
}

/// Parses the challenge of an answer, Bearer before Basic; `None` when there is none that we know.
pub(super) fn challenge(headers: &HeaderMap) -> Option<Challenge> {
    let mut found = None;
    for value in headers.get_all(WWW_AUTHENTICATE) {
        let Ok(text) = value.to_str() else { continue };
        let (scheme, rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        if scheme.eq_ignore_ascii_case("bearer") {
            let mut parameters = parameters(rest);
            let realm = parameters.remove("realm")?;
            return Some(Challenge::Bearer {
                realm,
                service: parameters.remove("service"),
                scope: parameters.remove("scope"),
                error: parameters.remove("error"),
            });
        }
        if scheme.eq_ignore_ascii_case("basic") {
            found = Some(Challenge::Basic);
        }
    }
    found
}

/// `a="b c", d=e`; names in lower case.
fn parameters(text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut rest = text;
    while let Some((name, value)) = rest.split_once('=') {
        let name = name.trim_matches([' ', ',', '\t']).to_ascii_lowercase();
        let value = value.trim_start();
        if let Some(quoted) = value.strip_prefix('"') {
            let mut text = String::new();
            let mut end = quoted.len();
            let mut chars = quoted.char_indices();
            while let Some((at, c)) = chars.next() {
                match c {
                    '"' => {
                        end = at + 1;
                        break;
                    }
                    '\\' => text.extend(chars.next().map(|(_, c)| c)),
                    c => text.push(c),
                }
            }
            found.insert(name, text);
            rest = &quoted[end..];
        } else {
            let (value, after) = value.split_once(',').unwrap_or((value, ""));
            found.insert(name, value.trim().to_owned());
            rest = after;
        }
    }
    found
}

/// Sorts and merges token scopes: `repository:a:pull` and `repository:a:push` become `repository:a:pull,push`.
pub(super) fn merge_scopes<'a>(scopes: impl IntoIterator<Item = &'a str>) -> String {
    let mut merged: BTreeMap<&str, std::collections::BTreeSet<&str>> = BTreeMap::new();
    for scope in scopes.into_iter().filter(|it| !it.is_empty()) {
        let (resource, actions) = scope.rsplit_once(':').unwrap_or((scope, ""));
        merged.entry(resource).or_default().extend(actions.split(',').filter(|it| !it.is_empty()));
    }
    let text = |(resource, actions): (&str, std::collections::BTreeSet<&str>)| {
        format!("{resource}:{}", actions.into_iter().collect::<Vec<_>>().join(","))
    };
    merged.into_iter().map(text).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, value.parse().expect("a header value"));
        }
        challenge(&headers)
    }

    #[test]
    fn challenges_are_read() {
        let bearer =
            of(&["Basic realm=x", r#"Bearer realm="https://a/t",service="s, \"q\"",scope="repository:r:pull""#]);
        let wanted = Challenge::Bearer {
            realm: "https://a/t".into(),
            service: Some("s, \"q\"".into()),
            scope: Some("repository:r:pull".into()),
            error: None,
        };
        assert_eq!(bearer, Some(wanted));
        assert_eq!(of(&["basic"]), Some(Challenge::Basic));
        assert_eq!(of(&["Negotiate"]), None);
        assert_eq!(of(&["Bearer"]), None);
        assert!(of(&[r#"Bearer realm="unterminated"#]).is_some());
    }

    #[test]
    fn a_realm_without_tls_counts_only_for_a_registry_without_tls() {
        fn command(_: &std::ffi::OsStr) -> std::process::Command {
            unreachable!("no helper is asked")
        }
        let connections = Connections::new(crate::registry::ClientOptions::new(command));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let password = Credentials::Basic { user: "u".into(), password: "p".into() };
        for credentials in [&Credentials::Anonymous, &password] {
            let request = TokenRequest { realm: "http://127.0.0.1:1/t", service: None, scopes: "", credentials };
            let ask = |is_plain| {
                let security = HostSecurity { is_plain, accepts_any_certificate: !is_plain };
                runtime.block_on(request.send(&connections, security)).map(drop)
            };
            assert!(matches!(ask(false), Err(Refused::Final { why, .. }) if why.contains("without TLS")));
            assert!(matches!(ask(true), Err(Refused::Transient { .. })), "it is asked, and does not answer");
        }
    }

    #[test]
    fn scopes_are_sorted_and_merged() {
        let merged = merge_scopes(["repository:b:push", "repository:a:pull", "repository:b:pull"]);
        assert_eq!(merged, "repository:a:pull repository:b:pull,push");
    }
}
