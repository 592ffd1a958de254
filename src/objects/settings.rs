//! Where a shared cache is and with what it is accessed: the options of a cache, and what the environment adds to them.
//!
//! Pure but for what comes in. The defaults and variables are those of BuildKit
//! (<https://docs.docker.com/build/cache/backends/>), the names of objects are its too, so that both find each other's.

use std::{collections::BTreeMap, fmt, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;

use crate::{
    oci::{Digest, ObjectPlace},
    spec::remote_cache::{AzblobCache, GcsCache, GhaCache, ObjectNames, RemoteCache, S3Cache},
};

/// After so long a blob that is found is made younger.
const REFRESH_AFTER: Duration = Duration::from_secs(24 * 60 * 60);
/// Blobs that are written at a time.
const PARALLEL_BLOBS: usize = 4;

/// A shared cache in an object store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ObjectCache {
    pub(crate) place: ObjectPlace,
    pub(crate) access: ObjectAccess,
    /// Names of the documents that are read.
    pub(crate) read: Vec<String>,
    /// Names of the documents that are written; for those without the right to write none.
    pub(crate) written: Vec<String>,
    /// The name of a blob is its digest after this.
    pub(crate) blobs: String,
    /// Blobs that are written at a time; at least 1.
    pub(crate) parallel: usize,
}

/// With what a place is accessed, and with how much patience.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct ObjectAccess {
    pub(super) credentials: ObjectCredentials,
    /// How often a request is sent at the most.
    pub(super) attempts: Option<usize>,
    /// How long the service may ask to wait, altogether.
    pub(super) patience: Option<Duration>,
    pub(super) refresh_after: Option<Duration>,
}

/// Credentials that a cache was given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum ObjectCredentials {
    /// None: those of the environment count.
    #[default]
    Environment,
    AwsKeys {
        id: SecretText,
        secret: SecretText,
        token: Option<SecretText>,
    },
    AzureKey(SecretText),
    GoogleKey(SecretText),
    Anonymous,
    ActionsToken(SecretText),
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct SecretText(String);

impl SecretText {
    pub(super) const fn new(text: String) -> Self {
        Self(text)
    }

    pub(super) fn text(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// Why there is no cache.
#[derive(Debug)]
pub(crate) enum Unavailable {
    /// It is one of a service that only jobs of this service have.
    Elsewhere,
    /// The text says what is missing, and how to give it.
    Unusable(String),
}

impl From<String> for Unavailable {
    fn from(text: String) -> Self {
        Self::Unusable(text)
    }
}

/// The environment of the user; empty variables are as if they were not set.
type Env = BTreeMap<String, String>;

fn set<'a>(env: &'a Env, name: &str) -> Option<&'a String> {
    env.get(name).filter(|value| !value.is_empty())
}

impl ObjectCache {
    /// The cache that these options mean in this environment.
    ///
    /// # Errors
    /// When something is missing that neither has.
    pub(crate) fn of(remote: &RemoteCache, env: &Env) -> Result<Self, Unavailable> {
        match remote {
            RemoteCache::S3(cache) => Ok(s3(cache, env)?),
            RemoteCache::Azblob(cache) => Ok(azblob(cache, env)?),
            RemoteCache::Gcs(cache) => Ok(gcs(cache)?),
            RemoteCache::Gha(cache) => actions(cache, env),
        }
    }
}

fn missing(option: &str, variable: &str) -> String {
    format!("it has no `{option}`: add {option}=…, or set the environment variable {variable}")
}

fn s3(cache: &S3Cache, env: &Env) -> Result<ObjectCache, String> {
    let S3Cache {
        bucket,
        region,
        objects,
        touch_refresh,
        endpoint_url,
        access_key_id,
        secret_access_key,
        session_token,
        use_path_style,
        upload_parallelism,
        retry_max_attempts,
    } = cache;
    let or = |option: &Option<String>, names: &[&str]| {
        option.clone().or_else(|| names.iter().find_map(|name| set(env, name).cloned()))
    };
    let bucket = or(bucket, &["AWS_BUCKET"]).ok_or_else(|| missing("bucket", "AWS_BUCKET"))?;
    let endpoint = or(endpoint_url, &["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]);
    // Servers at addresses of their own do not ask for it.
    let anywhere = || endpoint.as_ref().map(|_| "us-east-1".to_owned());
    let region = or(region, &["AWS_REGION", "AWS_DEFAULT_REGION"]).or_else(anywhere);
    let region = region.ok_or_else(|| missing("region", "AWS_REGION"))?;
    if let Some(url) = endpoint.as_deref().filter(|url| url.contains('@')) {
        let host = url.rsplit('@').next().unwrap_or_default();
        return Err(format!("credentials cannot be in `endpoint_url` (…@{host}): give them as options of their own"));
    }
    let credentials = match (access_key_id, secret_access_key) {
        (Some(id), Some(secret)) => ObjectCredentials::AwsKeys {
            id: SecretText(id.clone()),
            secret: SecretText(secret.clone()),
            token: session_token.clone().map(SecretText),
        },
        (None, None) => ObjectCredentials::Environment,
        (Some(_), None) => return Err("`access_key_id` is of no use without `secret_access_key`".to_owned()),
        (None, Some(_)) => return Err("`secret_access_key` is of no use without `access_key_id`".to_owned()),
    };
    let refresh_after = Some(touch_refresh.unwrap_or(REFRESH_AFTER));
    let access = ObjectAccess { credentials, attempts: *retry_max_attempts, patience: None, refresh_after };
    let place = ObjectPlace::S3 { bucket, region, endpoint, is_path_style: *use_path_style };
    let parallel = upload_parallelism.unwrap_or(PARALLEL_BLOBS);
    Ok(with_names(place, access, objects, parallel))
}

/// The documents and blobs of a bucket: prefixes that simply stand before names.
fn with_names(place: ObjectPlace, access: ObjectAccess, objects: &ObjectNames, parallel: usize) -> ObjectCache {
    let ObjectNames { prefix, manifests_prefix, blobs_prefix, names } = objects;
    let prefix = prefix.as_deref().unwrap_or_default();
    let manifests = manifests_prefix.as_deref().unwrap_or("manifests/");
    let names: Vec<String> = names.iter().map(|name| format!("{prefix}{manifests}{name}")).collect();
    let blobs = format!("{prefix}{}", blobs_prefix.as_deref().unwrap_or("blobs/"));
    ObjectCache { place, access, read: names.clone(), written: names, blobs, parallel }
}

fn azblob(cache: &AzblobCache, env: &Env) -> Result<ObjectCache, String> {
    let AzblobCache { account_url, account_name, container, objects, secret_access_key } = cache;
    let or = |option: &Option<String>, name: &str| option.clone().or_else(|| set(env, name).cloned());
    let variable = "BUILDKIT_AZURE_STORAGE_ACCOUNT_URL";
    let url = or(account_url, variable).ok_or_else(|| missing("account_url", variable))?;
    let parsed = url::Url::parse(&url).map_err(|_| format!("`account_url` is no URL: {url}"))?;
    if parsed.query().is_some() || !parsed.username().is_empty() {
        return Err("`account_url` cannot have credentials in it: give them as `secret_access_key`".to_owned());
    }
    let first = parsed.host_str().and_then(|host| host.split('.').next()).unwrap_or_default();
    let account = or(account_name, "BUILDKIT_AZURE_STORAGE_ACCOUNT_NAME").unwrap_or_else(|| first.to_owned());
    let container = or(container, "BUILDKIT_AZURE_STORAGE_CONTAINER").unwrap_or_else(|| "buildkit-cache".to_owned());
    let prefix = or(&objects.prefix, "BUILDKIT_AZURE_STORAGE_PREFIX").unwrap_or_default();
    // Prefixes are folders here.
    let joined = |folder: &str| {
        let parts = prefix.split('/').chain(folder.split('/')).filter(|part| !part.is_empty() && *part != ".");
        parts.map(|part| format!("{part}/")).collect::<String>()
    };
    let manifests = joined(objects.manifests_prefix.as_deref().unwrap_or("manifests"));
    let names: Vec<String> = objects.names.iter().map(|name| format!("{manifests}{name}")).collect();
    let credentials = match secret_access_key {
        Some(key) => ObjectCredentials::AzureKey(SecretText(key.clone())),
        None => ObjectCredentials::Environment,
    };
    Ok(ObjectCache {
        place: ObjectPlace::Azblob { url, account, container },
        access: ObjectAccess { credentials, ..ObjectAccess::default() },
        read: names.clone(),
        written: names,
        blobs: joined(objects.blobs_prefix.as_deref().unwrap_or("blobs")),
        parallel: PARALLEL_BLOBS,
    })
}

fn gcs(cache: &GcsCache) -> Result<ObjectCache, String> {
    let GcsCache { bucket, objects, touch_refresh, endpoint_url, without_auth, gcp_json_key } = cache;
    let bucket = bucket.clone().ok_or("it has no `bucket`: add bucket=…")?;
    let credentials = match gcp_json_key {
        _ if *without_auth => ObjectCredentials::Anonymous,
        Some(key) => ObjectCredentials::GoogleKey(SecretText(key.clone())),
        None => ObjectCredentials::Environment,
    };
    let refresh_after = Some(touch_refresh.unwrap_or(REFRESH_AFTER));
    let access = ObjectAccess { credentials, refresh_after, ..ObjectAccess::default() };
    let place = ObjectPlace::Gcs { bucket, endpoint: endpoint_url.clone() };
    Ok(with_names(place, access, objects, PARALLEL_BLOBS))
}

/// The cache service of GitHub Actions. Outside of jobs there is none, and BuildKit leaves such caches out as well.
fn actions(cache: &GhaCache, env: &Env) -> Result<ObjectCache, Unavailable> {
    let GhaCache { url, url_v2, token, scope, timeout, version } = cache;
    let is_second =
        |url: &&String| *version == Some(2) || url.contains("results-receiver.actions.githubusercontent.com");
    let url = url_v2.as_ref().or_else(|| url.as_ref().filter(is_second)).or_else(|| set(env, "ACTIONS_RESULTS_URL"));
    let token = token.as_ref().or_else(|| set(env, "ACTIONS_RUNTIME_TOKEN"));
    let (Some(url), Some(token)) = (url, token) else {
        if set(env, "GITHUB_ACTIONS").is_none() && cache.url.is_none() && cache.token.is_none() {
            return Err(Unavailable::Elsewhere);
        }
        let text = "it has no address or no token: pass ACTIONS_RESULTS_URL and ACTIONS_RUNTIME_TOKEN of the job to this \
                    step, as the action crazy-max/ghaction-github-runtime does";
        return Err(Unavailable::Unusable(text.to_owned()));
    };
    if *version == Some(1) {
        let text = "GitHub has ended the first version of its cache service: leave out version=1";
        return Err(Unavailable::Unusable(text.to_owned()));
    }
    let scopes = token_scopes(token).ok_or("its token is not one of a job of GitHub Actions".to_owned())?;
    let scope = scope.as_deref().unwrap_or("buildkit");
    let name = |of: &TokenScope| format!("index-{scope}-1-{}", &Digest::of(of.scope.as_bytes()).hex()[..8]);
    Ok(ObjectCache {
        place: ObjectPlace::Actions { url: url.trim_end_matches('/').to_owned() },
        access: ObjectAccess {
            credentials: ObjectCredentials::ActionsToken(SecretText(token.clone())),
            attempts: None,
            patience: *timeout,
            refresh_after: None,
        },
        read: scopes.iter().map(name).collect(),
        written: scopes.iter().rfind(|scope| scope.permission & 2 != 0).map(name).into_iter().collect(),
        blobs: "buildkit-blob-1-".to_owned(),
        parallel: PARALLEL_BLOBS,
    })
}

/// What a token of a job may access: a branch or tag, and whether it may read (1) and write (2).
#[derive(Deserialize)]
struct TokenScope {
    #[serde(rename = "Scope")]
    scope: String,
    #[serde(rename = "Permission")]
    permission: u32,
}

/// The scopes in the claims of a token, which is not verified: that is the affair of the service.
fn token_scopes(token: &str) -> Option<Vec<TokenScope>> {
    #[derive(Deserialize)]
    struct Claims {
        ac: String,
    }
    let payload = token.split('.').nth(1)?;
    let claims: Claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?).ok()?;
    serde_json::from_str(&claims.ac).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::cache::{CacheImport, CacheTarget};
    use crate::spec::{CacheExport, OptionItem};

    fn of(text: &str, env: &[(&str, &str)]) -> Result<ObjectCache, String> {
        let env = env.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let parsed = OptionItem::<CacheImport>::parse(text).expect("well formed").remove(0).value;
        let CacheImport::Remote(remote) = parsed else { panic!("{text}") };
        ObjectCache::of(&remote, &env).map_err(|why| format!("{why:?}"))
    }

    #[test]
    fn objects_have_the_names_that_buildkit_gives_them() {
        let s3 = of("type=s3,bucket=b,region=eu,prefix=p/,name=x;y", &[]).expect("complete");
        assert_eq!((s3.read, s3.blobs.as_str()), (vec!["p/manifests/x".into(), "p/manifests/y".into()], "p/blobs/"));
        let s3 = of("type=s3,manifests_prefix=m-", &[("AWS_BUCKET", "b"), ("AWS_REGION", "eu")]).expect("complete");
        assert_eq!((s3.written, s3.place.to_string()), (vec!["m-buildkit".to_owned()], "s3://b".to_owned()));
        let azure =
            of("type=azblob,account_url=https://a.blob.core.windows.net,prefix=p/,name=x", &[]).expect("complete");
        assert_eq!((azure.read, azure.blobs.as_str()), (vec!["p/manifests/x".to_owned()], "p/blobs/"));
        let ObjectPlace::Azblob { account, container, .. } = azure.place else { panic!() };
        assert_eq!((account.as_str(), container.as_str()), ("a", "buildkit-cache"));
        let gcs = of("type=gcs,bucket=b,endpoint_url=http://h:1/", &[]).expect("complete");
        assert_eq!(
            (gcs.read, gcs.place.to_string()),
            (vec!["manifests/buildkit".to_owned()], "http://h:1/b".to_owned())
        );
    }

    #[test]
    fn jobs_of_github_read_all_their_scopes_and_write_their_own() {
        let claims = r#"{"ac":"[{\"Scope\":\"refs/heads/main\",\"Permission\":1},{\"Scope\":\"refs/pull/1/merge\",\"Permission\":3}]"}"#;
        let token = format!("e30.{}.x", URL_SAFE_NO_PAD.encode(claims));
        let env = [("ACTIONS_RUNTIME_TOKEN", token.as_str()), ("ACTIONS_RESULTS_URL", "https://r/")];
        let gha = of("type=gha,scope=s", &env).expect("complete");
        let hash = |scope: &str| format!("index-s-1-{}", &Digest::of(scope.as_bytes()).hex()[..8]);
        assert_eq!(gha.read, [hash("refs/heads/main"), hash("refs/pull/1/merge")]);
        assert_eq!(gha.written, [hash("refs/pull/1/merge")]);
        assert!(!format!("{gha:?}").contains(&token));
        assert_eq!(of("type=gha", &[]).expect_err("nothing is known"), "Elsewhere");
        assert!(of("type=gha", &[("GITHUB_ACTIONS", "true")]).expect_err("no token").contains("ACTIONS_RUNTIME_TOKEN"));
        assert!(of("type=gha,version=1", &env).expect_err("ended").contains("first version"));
    }

    #[test]
    fn what_is_missing_is_named_and_secrets_are_not_shown() {
        let fault = |text| of(text, &[]).expect_err("incomplete");
        assert!(fault("type=s3").contains("AWS_BUCKET") && fault("type=s3,bucket=b").contains("AWS_REGION"));
        assert!(fault("type=azblob").contains("account_url") && fault("type=gcs").contains("bucket"));
        assert!(fault("type=s3,bucket=b,region=r,access_key_id=a").contains("secret_access_key"));
        assert!(!fault("type=s3,bucket=b,endpoint_url=http://u:SECRET@h").contains("SECRET"));
        let text = "type=s3,bucket=b,region=r,access_key_id=ID,secret_access_key=SECRET,mode=max,reset=true";
        let parsed = OptionItem::<CacheExport>::parse(text).expect("well formed").remove(0).value;
        let CacheTarget::Remote(remote, write) = parsed.to else { panic!() };
        let cache = ObjectCache::of(&remote, &Env::new()).expect("complete");
        assert!(write.reset && !format!("{cache:?}").contains("SECRET"));
    }
}
