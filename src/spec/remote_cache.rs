//! Shared caches in object stores (`type=s3`, `azblob`, `gcs`) and in the cache service of GitHub Actions (`type=gha`): what
//! their options mean. What the environment adds to them is decided in `objects`.
//!
//! The options are those of <https://docs.docker.com/build/cache/backends/>; `reset` is ours.

use std::time::Duration;

use super::{compression::LayerCompression, options::OptionReader};

/// A cache in an object store or service.
#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "unkeyed"), derive(PartialEq, Eq))]
pub(crate) enum RemoteCache {
    Gha(GhaCache),
    S3(S3Cache),
    Azblob(AzblobCache),
    Gcs(GcsCache),
}

/// How such a cache is written.
#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "unkeyed"), derive(PartialEq, Eq))]
pub(crate) struct RemoteCacheWrite {
    pub(crate) compression: LayerCompression,
    /// What earlier runs wrote is dropped.
    pub(crate) reset: bool,
}

/// `type=gha`.
#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "unkeyed"), derive(PartialEq, Eq))]
pub(crate) struct GhaCache {
    /// Of the first version of the service, or of any for those who do not know `url_v2`.
    pub(crate) url: Option<String>,
    pub(crate) url_v2: Option<String>,
    pub(crate) token: Option<String>,
    pub(crate) scope: Option<String>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) version: Option<u32>,
}

/// What caches in object stores have in common: the names of their objects.
#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "unkeyed"), derive(PartialEq, Eq))]
pub(crate) struct ObjectNames {
    pub(crate) prefix: Option<String>,
    pub(crate) manifests_prefix: Option<String>,
    pub(crate) blobs_prefix: Option<String>,
    /// Names of the manifest; never empty.
    pub(crate) names: Vec<String>,
}

/// `type=s3`.
#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "unkeyed"), derive(PartialEq, Eq))]
pub(crate) struct S3Cache {
    pub(crate) bucket: Option<String>,
    pub(crate) region: Option<String>,
    pub(crate) objects: ObjectNames,
    pub(crate) touch_refresh: Option<Duration>,
    pub(crate) endpoint_url: Option<String>,
    pub(crate) access_key_id: Option<String>,
    pub(crate) secret_access_key: Option<String>,
    pub(crate) session_token: Option<String>,
    pub(crate) use_path_style: bool,
    pub(crate) upload_parallelism: Option<usize>,
    pub(crate) retry_max_attempts: Option<usize>,
}

/// `type=azblob`.
#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "unkeyed"), derive(PartialEq, Eq))]
pub(crate) struct AzblobCache {
    pub(crate) account_url: Option<String>,
    pub(crate) account_name: Option<String>,
    pub(crate) container: Option<String>,
    pub(crate) objects: ObjectNames,
    pub(crate) secret_access_key: Option<String>,
}

/// `type=gcs`. No release of BuildKit documents it: the options are those of `cache/remotecache/gcs/gcs.go` in
/// <https://github.com/moby/buildkit> at commit 31f58031780801c78ed3c6880986575d0497e9ec.
#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "unkeyed"), derive(PartialEq, Eq))]
pub(crate) struct GcsCache {
    pub(crate) bucket: Option<String>,
    pub(crate) objects: ObjectNames,
    pub(crate) touch_refresh: Option<Duration>,
    pub(crate) endpoint_url: Option<String>,
    /// Requests carry no credentials.
    pub(crate) without_auth: bool,
    /// The key of a service account as JSON, in base64.
    pub(crate) gcp_json_key: Option<String>,
}

/// Options of workload identity federation, which is not there yet.
const OIDC: &[&str] =
    &["oidc_token_id", "oidc_project_id", "oidc_pool_id", "oidc_provider_id", "oidc_service_account_email"];

impl RemoteCache {
    /// `None` for a type that is not among them.
    pub(super) fn read(options: &mut OptionReader<'_>) -> Option<Self> {
        Some(match options.kind() {
            "gha" => Self::Gha(GhaCache::read(options)),
            "s3" => Self::S3(S3Cache::read(options)),
            "azblob" => Self::Azblob(AzblobCache::read(options)),
            "gcs" => Self::Gcs(GcsCache::read(options)),
            _ => return None,
        })
    }
}

impl RemoteCacheWrite {
    pub(super) fn read(options: &mut OptionReader<'_>) -> Self {
        Self { compression: LayerCompression::read(options), reset: options.flag("reset", false) }
    }
}

impl GhaCache {
    fn read(options: &mut OptionReader<'_>) -> Self {
        // They let BuildKit list all entries by the REST API at once; the service itself is asked for each layer here.
        for key in ["repository", "ghtoken"] {
            note(options, key, "the cache service itself is asked which layers are there");
        }
        Self {
            url: options.owned("url"),
            url_v2: options.owned("url_v2"),
            token: options.owned("token"),
            scope: options.owned("scope"),
            timeout: duration_option(options, "timeout"),
            version: options.number("version"),
        }
    }
}

impl ObjectNames {
    fn read(options: &mut OptionReader<'_>) -> Self {
        let names = options.text("name").unwrap_or("buildkit");
        Self {
            prefix: options.owned("prefix"),
            manifests_prefix: options.owned("manifests_prefix"),
            blobs_prefix: options.owned("blobs_prefix"),
            names: names.split(';').map(str::to_owned).collect(),
        }
    }
}

impl S3Cache {
    fn read(options: &mut OptionReader<'_>) -> Self {
        const IS_ADAPTIVE: &[(&str, bool)] = &[("standard", false), ("adaptive", true)];
        if options.choice("retry_mode", IS_ADAPTIVE, false, "not a retry mode") {
            let message =
                "`retry_mode=adaptive` has no effect: requests are repeated after waits that grow, as with standard";
            options.note("retry_mode", message);
        }
        note(options, "disable_accept_encoding", "no such header is sent");
        Self {
            bucket: options.owned("bucket"),
            region: options.owned("region"),
            objects: ObjectNames::read(options),
            touch_refresh: duration_option(options, "touch_refresh"),
            endpoint_url: options.owned("endpoint_url"),
            access_key_id: options.owned("access_key_id"),
            secret_access_key: options.owned("secret_access_key"),
            session_token: options.owned("session_token"),
            use_path_style: options.flag("use_path_style", false),
            upload_parallelism: positive(options, "upload_parallelism"),
            retry_max_attempts: positive(options, "retry_max_attempts"),
        }
    }
}

impl AzblobCache {
    fn read(options: &mut OptionReader<'_>) -> Self {
        Self {
            account_url: options.owned("account_url"),
            account_name: options.owned("account_name"),
            container: options.owned("container"),
            objects: ObjectNames::read(options),
            secret_access_key: options.owned("secret_access_key"),
        }
    }
}

impl GcsCache {
    fn read(options: &mut OptionReader<'_>) -> Self {
        for key in OIDC {
            note(options, key, "workload identity federation is not there yet");
        }
        Self {
            bucket: options.owned("bucket"),
            objects: ObjectNames::read(options),
            touch_refresh: duration_option(options, "touch_refresh"),
            endpoint_url: options.owned("endpoint_url"),
            without_auth: options.flag("without_auth", false),
            gcp_json_key: options.owned("gcp_json_key"),
        }
    }
}

/// Says that an option has no effect here, and why.
fn note(options: &mut OptionReader<'_>, key: &'static str, why: &str) {
    if options.text(key).is_some() {
        options.note(key, format!("`{key}` has no effect: {why}"));
    }
}

fn positive(options: &mut OptionReader<'_>, key: &'static str) -> Option<usize> {
    options.parsed(key, |text| text.parse().ok().filter(|number| *number > 0), "give a number from 1 on")
}

fn duration_option(options: &mut OptionReader<'_>, key: &'static str) -> Option<Duration> {
    options.parsed(key, duration, "give a time such as 10m or 1h30m")
}

/// Parses a duration as Go writes it: `1h30m`, `1.5s`, `0`. `None` for anything else, and for a negative one.
fn duration(text: &str) -> Option<Duration> {
    const UNITS: &[(&str, f64)] =
        &[("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let (mut rest, mut seconds) = (text, 0.0);
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|end| *end > 0)?;
        let (value, unit) = rest.split_at(number);
        let end = unit.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(unit.len());
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == &unit[..end])?;
        seconds += value.parse::<f64>().ok()? * factor;
        rest = &unit[end..];
    }
    Duration::try_from_secs_f64(seconds).ok().filter(|_| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        let seconds = |text| duration(text).map(|it| it.as_secs_f64());
        assert_eq!(seconds("1h30m"), Some(5400.0));
        assert_eq!(seconds("24h"), Some(86400.0));
        assert_eq!(seconds("1.5s"), Some(1.5));
        assert_eq!(seconds("250ms"), Some(0.25));
        assert_eq!(seconds("0"), Some(0.0));
        for text in ["", "10", "-1s", "h", "1d", "1..5s", "1h30"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }
}
