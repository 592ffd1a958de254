//! `secret`: a value that a step may read and no layer keeps.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use serde::Serialize;

use super::{
    csv::{self, key_value, not_key_value},
    fault::OptionFault,
};
use crate::report::suggest;

/// Where a secret comes from. With neither `src` nor `env`: the environment variable named `id`, else the file `id`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Secret {
    /// Of several with one id the last counts.
    pub(crate) id: String,
    /// A file.
    pub(crate) src: Option<String>,
    /// An environment variable.
    pub(crate) env: Option<String>,
}

/// Where a build takes the value of a secret, or an agent, from: a file (a socket, for an agent) or what an environment
/// variable says. Identifies the source within a run; the value is never part of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub(crate) enum SecretOrigin {
    /// A path of the host.
    File(PathBuf),
    Env(String),
}

impl fmt::Display for SecretOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Env(name) => write!(f, "env {name}"),
        }
    }
}

/// What a secret is written with.
pub(crate) const KEYS: [&str; 5] = ["id", "src", "source", "env", "type"];

impl Secret {
    /// Reads `id=I,src=FILE`, `id=I,env=NAME`, `type=env,id=I,src=NAME`.
    ///
    /// # Errors
    /// On an unknown key or type.
    pub(crate) fn parse(text: &str) -> Result<Self, OptionFault> {
        let mut secret = Self::default();
        let mut kind = String::new();
        for field in csv::fields(text)? {
            let (key, value) = key_value(&field).ok_or_else(|| not_key_value(&field, text))?;
            match key.as_str() {
                "id" => value.clone_into(&mut secret.id),
                "src" | "source" => secret.src = Some(value.to_owned()),
                "env" => secret.env = Some(value.to_owned()),
                "type" if matches!(value, "file" | "env") => value.clone_into(&mut kind),
                "type" => {
                    return Err(
                        OptionFault::new(format!("not a secret type: {value}")).help("write type=file or type=env")
                    );
                }
                _ => return Err(unknown_key(&key)),
            }
        }
        // `env=` names nothing.
        secret.src = secret.src.filter(|it| !it.is_empty());
        secret.env = secret.env.filter(|it| !it.is_empty());
        if kind == "env" && secret.env.is_none() {
            secret.env = secret.src.take();
        }
        Ok(secret)
    }

    /// Reads the object form; keys that mean nothing are handed back as warnings.
    pub(crate) fn from_entries(entries: &BTreeMap<String, String>) -> (Self, Vec<OptionFault>) {
        let get = |key: &str| entries.get(key).filter(|it| !it.is_empty()).cloned();
        let mut secret =
            Self { id: get("id").unwrap_or_default(), src: get("src").or_else(|| get("source")), env: get("env") };
        if entries.get("type").is_some_and(|it| it == "env") && secret.env.is_none() {
            secret.env = secret.src.take();
        }
        let unknown = entries.keys().filter(|key| !KEYS.contains(&key.as_str())).map(|key| unknown_key(key)).collect();
        (secret, unknown)
    }
}

fn unknown_key(key: &str) -> OptionFault {
    let help =
        suggest::did_you_mean(key, KEYS).unwrap_or_else(|| "a secret has the keys id, src, env and type".to_owned());
    OptionFault::new(format!("unknown secret key: {key}")).help(help)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_read_in_all_forms() {
        let print = |text: &str| Secret::parse(text).map_or_else(|fault| fault.message, |it| format!("{it:?}"));
        assert_eq!(print("id=a,env=A"), r#"Secret { id: "a", src: None, env: Some("A") }"#);
        assert_eq!(print("id=a,src=,env="), r#"Secret { id: "a", src: None, env: None }"#);
        assert_eq!(print("type=env,id=a,src=A"), r#"Secret { id: "a", src: None, env: Some("A") }"#);
        assert_eq!(print("type=usb,id=a"), "not a secret type: usb");
        assert_eq!(print("id=a,sorce=x"), "unknown secret key: sorce");
    }
}
