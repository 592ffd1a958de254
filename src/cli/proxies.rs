//! `proxies` of Docker's `config.json`: build arguments that every build gets
//! (<https://docs.docker.com/engine/cli/proxy/#configure-the-docker-client>).

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{registries, settings::Settings};
use crate::{grant::read_file_or_shell_pipe, report::Diagnostic};

/// Longest file that is read, in bytes.
const LONGEST: u64 = 4 << 20;

/// The entry for engines that have none of their own.
const DEFAULT: &str = "default";

#[derive(Default, Deserialize)]
#[serde(default)]
struct ConfigWithProxies {
    /// By the address of the engine, as `DOCKER_HOST` has it.
    proxies: BTreeMap<String, Option<Proxies>>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Proxies {
    http_proxy: Option<String>,
    https_proxy: Option<String>,
    ftp_proxy: Option<String>,
    no_proxy: Option<String>,
    all_proxy: Option<String>,
}

/// The proxies that builds get, by the name of their variable in upper case. None without a configuration.
///
/// # Errors
/// When there is one that cannot be read; its text is not shown, because it may have credentials.
pub(crate) fn of_docker_config(settings: &Settings) -> Result<BTreeMap<String, String>, Box<Diagnostic>> {
    let path = registries::docker_config(settings).join("config.json");
    let fault = || {
        let message = format!("the proxies of Docker's configuration are not used: {}", path.display());
        Diagnostic::warning("bake::cli::docker_config", message)
    };
    let bytes = match read_file_or_shell_pipe(&path, LONGEST) {
        Ok(bytes) => bytes,
        Err(error) if error.is_missing() => return Ok(BTreeMap::new()),
        Err(error) => return Err(Box::new(fault().cause(&error))),
    };
    let host = settings.env.get("DOCKER_HOST").map(String::as_str);
    proxies(&bytes, host).map_err(|why| {
        let place = format!("it is not valid at line {}, column {}", why.line(), why.column());
        let mut fault = fault();
        fault.causes.push(place);
        Box::new(fault)
    })
}

fn proxies(config: &[u8], host: Option<&str>) -> Result<BTreeMap<String, String>, serde_json::Error> {
    if config.iter().all(u8::is_ascii_whitespace) {
        return Ok(BTreeMap::new());
    }
    let ConfigWithProxies { proxies } = serde_json::from_slice(config)?;
    let of_host = host.and_then(|host| proxies.get(host)).or_else(|| proxies.get(DEFAULT));
    let Proxies { http_proxy, https_proxy, ftp_proxy, no_proxy, all_proxy } =
        of_host.cloned().flatten().unwrap_or_default();
    let named = [
        ("HTTP_PROXY", http_proxy),
        ("HTTPS_PROXY", https_proxy),
        ("FTP_PROXY", ftp_proxy),
        ("NO_PROXY", no_proxy),
        ("ALL_PROXY", all_proxy),
    ];
    let set = named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.filter(|it| !it.is_empty())?)));
    Ok(set.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proxies_of_the_engine_or_the_default_ones_are_taken() {
        let config = r#"{"auths": {"h": {}}, "proxies": {
            "default": {"httpProxy": "http://p:1", "noProxy": "a,b", "ftpProxy": "", "other": 1},
            "tcp://e:2375": {"allProxy": "socks5://q", "httpsProxy": "http://s"}, "none": null}}"#;
        let of = |host: Option<&str>| {
            let all = proxies(config.as_bytes(), host).expect("valid");
            all.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(of(None), "HTTP_PROXY=http://p:1 NO_PROXY=a,b");
        assert_eq!(of(Some("unix:///other")), "HTTP_PROXY=http://p:1 NO_PROXY=a,b");
        assert_eq!(of(Some("tcp://e:2375")), "ALL_PROXY=socks5://q HTTPS_PROXY=http://s");
        assert_eq!(of(Some("none")), "");
        for empty in ["", " \n", "{}", "{\"proxies\": {}}"] {
            assert!(proxies(empty.as_bytes(), None).expect("valid").is_empty());
        }
        assert!(proxies(b"{\"proxies\": 1}", None).is_err());
    }
}
