//! How the store of each cloud is made from its place and access, and what the crate `object_store` cannot do with it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use object_store::{
    BackoffConfig, Error, ObjectStore, RetryConfig,
    aws::{AmazonS3, AmazonS3Builder, AwsAuthorizer},
    azure::{AzureAuthorizer, MicrosoftAzure, MicrosoftAzureBuilder},
    client::{HttpRequest, HttpRequestBody, HttpResponse, HttpService as _},
    gcp::GoogleCloudStorageBuilder,
    path::Path,
};
use url::Url;

use super::{
    aws_profile,
    error::{shown, words},
    settings::{ObjectAccess, ObjectCredentials},
    transport::Transport,
};
use crate::oci::ObjectPlace;

/// Variables of the environment that say with what S3 is accessed.
const AWS_CREDENTIALS: &[&str] = &[
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_ENDPOINT_URL_STS",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
];
/// The same for Azure.
const AZURE_CREDENTIALS: &[&str] = &[
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_SAS_KEY",
    "AZURE_CLIENT_ID",
    "AZURE_CLIENT_SECRET",
    "AZURE_TENANT_ID",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AZURE_AUTHORITY_HOST",
];
/// The same for Google Cloud.
const GOOGLE_CREDENTIALS: &[&str] =
    &["GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_KEY"];

/// What is done with a store beside reading and writing.
pub(super) enum Upkeep {
    /// S3 copies an object onto itself only if its metadata is replaced, which `object_store` cannot say.
    S3(Box<S3Copy>),
    /// BuildKit makes the container of a cache; `object_store` makes none.
    Azure(Box<AzureContainer>),
    Google,
}

/// What copying an object of S3 onto itself needs.
pub(super) struct S3Copy {
    s3: AmazonS3,
    bucket: String,
    /// That of the bucket.
    url: String,
    region: String,
    transport: Transport,
}

/// What making a container needs.
pub(super) struct AzureContainer {
    store: MicrosoftAzure,
    account: String,
    /// That of the container.
    url: String,
    transport: Transport,
}

type Opened = (Arc<dyn ObjectStore>, Upkeep);

/// Makes the store of a bucket or container; nothing is asked of the server.
///
/// # Errors
/// When settings or credentials are unusable as they are; the text is for the user.
pub(super) fn open(
    place: &ObjectPlace,
    access: &ObjectAccess,
    env: &BTreeMap<String, String>,
) -> Result<Opened, String> {
    let transport = Transport::new()?;
    let opened = match place {
        ObjectPlace::S3 { bucket, region, endpoint, is_path_style } => {
            let url = bucket_url(bucket, region, endpoint.as_deref(), *is_path_style)?;
            s3(bucket, region, &url, access, env, transport)
        }
        ObjectPlace::Azblob { url, account, container } => azure(url, account, container, access, env, transport),
        ObjectPlace::Gcs { bucket, endpoint } => google(bucket, endpoint.as_deref(), access, env, transport),
        ObjectPlace::Actions { .. } => return Err("it is no bucket".to_owned()),
    };
    opened.map_err(|error| words(&error))
}

fn s3(
    bucket: &str,
    region: &str,
    url: &str,
    access: &ObjectAccess,
    env: &BTreeMap<String, String>,
    transport: Transport,
) -> object_store::Result<Opened> {
    let mut builder = AmazonS3Builder::new();
    match &access.credentials {
        ObjectCredentials::AwsKeys { id, secret, token } => {
            let (id, secret) = (id.text(), secret.text());
            builder = builder.with_access_key_id(header_value("access_key_id", id)?).with_secret_access_key(secret);
            if let Some(token) = token {
                builder = builder.with_token(header_value("session_token", token.text())?);
            }
        }
        _ => {
            let mut known: BTreeMap<String, String> =
                given(AWS_CREDENTIALS, env).map(|(key, value)| (key.to_lowercase(), value.clone())).collect();
            if known.is_empty() {
                known = aws_profile::credentials(env);
            }
            for (key, value) in known {
                builder = builder.with_config(key.parse()?, header_value(&key, &value)?);
            }
        }
    }
    // The URL has the bucket in it, whatever the style.
    let s3 = builder
        .with_bucket_name(bucket)
        .with_region(region)
        .with_endpoint(url)
        .with_virtual_hosted_style_request(true)
        .with_retry(retry(access))
        .with_http_connector(transport.clone())
        .build()?;
    let copy = S3Copy { s3: s3.clone(), bucket: bucket.into(), url: url.into(), region: region.into(), transport };
    Ok((Arc::new(s3), Upkeep::S3(Box::new(copy))))
}

fn azure(
    url: &str,
    account: &str,
    container: &str,
    access: &ObjectAccess,
    env: &BTreeMap<String, String>,
    transport: Transport,
) -> object_store::Result<Opened> {
    let mut builder = MicrosoftAzureBuilder::new();
    if let ObjectCredentials::AzureKey(key) = &access.credentials {
        builder = builder.with_access_key(key.text());
    } else {
        for (key, value) in given(AZURE_CREDENTIALS, env) {
            builder = builder.with_config(key.to_lowercase().parse()?, header_value(key, value)?);
        }
    }
    let store = builder
        .with_account(account)
        .with_container_name(container)
        .with_endpoint(url.trim_end_matches('/').to_owned())
        .with_retry(retry(access))
        .with_http_connector(transport.clone())
        .build()?;
    let url = format!("{}/{container}", url.trim_end_matches('/'));
    let made = AzureContainer { store: store.clone(), account: account.to_owned(), url, transport };
    Ok((Arc::new(store), Upkeep::Azure(Box::new(made))))
}

fn google(
    bucket: &str,
    endpoint: Option<&str>,
    access: &ObjectAccess,
    env: &BTreeMap<String, String>,
    transport: Transport,
) -> object_store::Result<Opened> {
    let mut builder = GoogleCloudStorageBuilder::new();
    match &access.credentials {
        ObjectCredentials::GoogleKey(key) => {
            let fault = |why: String| Error::Generic { store: "GCS", source: why.into() };
            let json = STANDARD.decode(key.text().trim()).map_err(|_| fault("`gcp_json_key` is not base64".into()))?;
            let json = String::from_utf8(json).map_err(|_| fault("`gcp_json_key` is not the base64 of JSON".into()))?;
            builder = builder.with_service_account_key(json);
        }
        ObjectCredentials::Anonymous => builder = builder.with_skip_signature(true),
        _ => {
            for (key, value) in given(GOOGLE_CREDENTIALS, env) {
                builder = builder.with_config(key.to_lowercase().parse()?, value);
            }
        }
    }
    if let Some(endpoint) = endpoint {
        builder = builder.with_base_url(endpoint.trim_end_matches('/'));
    }
    let store = builder.with_bucket_name(bucket).with_retry(retry(access)).with_http_connector(transport).build()?;
    Ok((Arc::new(store), Upkeep::Google))
}

/// Those of these variables that are set.
fn given<'a>(
    names: &'static [&'static str],
    env: &'a BTreeMap<String, String>,
) -> impl Iterator<Item = (&'static str, &'a String)> {
    names.iter().filter_map(|name| Some((*name, env.get(*name).filter(|value| !value.is_empty())?)))
}

/// The value of a credential that becomes part of a header: others make `object_store` panic.
fn header_value(name: &str, value: &str) -> object_store::Result<String> {
    if value.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
        return Ok(value.to_owned());
    }
    let why = format!("`{name}` has characters that no credential has: is there a line break at its end?");
    Err(Error::Generic { store: "credentials", source: why.into() })
}

/// How requests are repeated after answers that say that it may help.
fn retry(access: &ObjectAccess) -> RetryConfig {
    let max_retries = access.attempts.unwrap_or(4).saturating_sub(1);
    let backoff = BackoffConfig { init_backoff: Duration::from_millis(200), ..BackoffConfig::default() };
    RetryConfig { backoff, max_retries, retry_timeout: Duration::from_secs(120) }
}

/// The URL of a bucket: its name is in the path, or the first part of the host. A host that is an address or `localhost` has
/// no parts.
fn bucket_url(bucket: &str, region: &str, endpoint: Option<&str>, is_path_style: bool) -> Result<String, String> {
    let default = format!("https://s3.{region}.amazonaws.com");
    let text = endpoint.unwrap_or(&default);
    let bad = |why: &str| format!("`endpoint_url` {why}: {}", shown(text));
    let mut url = Url::parse(text).map_err(|_| bad("is no URL"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(bad("is neither http nor https"));
    }
    let named = match url.host() {
        // Certificates of Amazon do not cover names with dots below them.
        Some(url::Host::Domain(host)) if !is_path_style && host != "localhost" && !bucket.contains('.') => {
            Some(format!("{bucket}.{host}"))
        }
        _ => None,
    };
    match named {
        Some(host) => url.set_host(Some(&host)).map_err(|_| format!("not the name of a bucket: {bucket}"))?,
        None => {
            let path = format!("{}/{bucket}", url.path().trim_end_matches('/'));
            url.set_path(&path);
        }
    }
    Ok(url.to_string().trim_end_matches('/').to_owned())
}

impl S3Copy {
    /// Copies an object onto itself with new metadata, which sets its time of change to now (S3 API, `CopyObject`).
    pub(super) async fn onto_itself(&self, path: &Path) -> Result<(), String> {
        let credential = self.s3.credentials().get_credential().await.map_err(|error| words(&error))?;
        let encoded = percent_encoded(path.as_ref());
        let mut request = put(format!("{}/{encoded}", self.url))?;
        let now = jiff::Timestamp::now().as_second().to_string();
        let source = format!("{}/{encoded}", self.bucket);
        let headers = [
            ("x-amz-copy-source", source.as_str()),
            ("x-amz-metadata-directive", "REPLACE"),
            ("x-amz-meta-refreshed", &now),
        ];
        for (name, value) in headers {
            let value = value.parse().map_err(|_| format!("not the value of a header: {value}"))?;
            request.headers_mut().insert(name, value);
        }
        let authorizer = AwsAuthorizer::new(&credential, "s3", &self.region);
        authorizer.try_authorize(&mut request, None).map_err(|error| words(&error))?;
        success(self.transport.call(request).await.map_err(|error| shown(&error.to_string()))?)
    }
}

impl AzureContainer {
    /// Makes the container, which may be there already (Blob service REST API, Create Container).
    pub(super) async fn make(&self) -> Result<(), String> {
        let credential = self.store.credentials().get_credential().await.map_err(|error| words(&error))?;
        let mut request = put(format!("{}?restype=container", self.url))?;
        request.headers_mut().insert("content-length", 0.into());
        let authorizer = AzureAuthorizer::new(&credential, &self.account);
        authorizer.try_authorize(&mut request).map_err(|error| words(&error))?;
        success(self.transport.call(request).await.map_err(|error| shown(&error.to_string()))?)
    }
}

/// A request without a body.
fn put(url: String) -> Result<HttpRequest, String> {
    let request = hyper::Request::builder().method("PUT").uri(url).body(HttpRequestBody::empty());
    request.map_err(|error| error.to_string())
}

fn success(answer: HttpResponse) -> Result<(), String> {
    let status = answer.status();
    if status.is_success() { Ok(()) } else { Err(format!("was answered with {status}")) }
}

/// A path as signatures of S3 have it: all but letters, digits and `-._~/` as percent signs and two digits.
fn percent_encoded(path: &str) -> String {
    let mut encoded = String::new();
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.extend(format!("%{byte:02X}").chars()),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_named_in_the_host_or_in_the_path() {
        let url = |bucket: &str, endpoint: Option<&str>, path| bucket_url(bucket, "eu", endpoint, path).expect("a URL");
        assert_eq!(url("b", None, false), "https://b.s3.eu.amazonaws.com");
        assert_eq!(url("b", None, true), "https://s3.eu.amazonaws.com/b");
        assert_eq!(url("b.c", None, false), "https://s3.eu.amazonaws.com/b.c");
        assert_eq!(url("b", Some("http://minio.example:9000/"), true), "http://minio.example:9000/b");
        assert_eq!(url("b", Some("http://minio.example:9000"), false), "http://b.minio.example:9000");
        assert_eq!(url("b", Some("http://127.0.0.1:9000"), false), "http://127.0.0.1:9000/b");
        assert!(bucket_url("b", "eu", Some("ftp://h"), true).is_err());
    }

    #[test]
    fn paths_are_encoded_as_signatures_want_it() {
        assert_eq!(percent_encoded("p é/sha256:a~b"), "p%20%C3%A9/sha256%3Aa~b");
    }
}
