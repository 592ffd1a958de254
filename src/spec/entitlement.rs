//! `entitlements` of a target and grants of `--allow`.

use super::fault::OptionFault;
use crate::report::suggest;

/// What a target declares that it needs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Entitlement {
    NetworkHost,
    SecurityInsecure,
    /// All devices, or those of a name.
    Device(Option<String>),
}

impl Entitlement {
    /// Reads `network.host`, `security.insecure`, `device[=NAME]`.
    ///
    /// # Errors
    /// On anything else.
    pub(crate) fn parse(text: &str) -> Result<Self, OptionFault> {
        match text.split_once('=') {
            None if text == "network.host" => Ok(Self::NetworkHost),
            None if text == "security.insecure" => Ok(Self::SecurityInsecure),
            None if text == "device" => Ok(Self::Device(None)),
            Some(("device", name)) => Ok(Self::Device(Some(name.to_owned()))),
            _ => {
                let known = ["network.host", "security.insecure", "device"];
                let help = suggest::did_you_mean(text, known)
                    .unwrap_or_else(|| format!("known entitlements: {}", known.join(", ")));
                Err(OptionFault::new(format!("not an entitlement: {text}")).help(help))
            }
        }
    }
}

/// What the user allows by `--allow`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Grant {
    Need(Entitlement),
    Ssh,
    /// `mode=delete` of a local output.
    LocalDelete,
    /// `special=keep` of a local output.
    SpecialFiles,
    /// Paths that may be read and written; `*` is all.
    Read(String),
    Write(String),
    ReadWrite(String),
    /// `image`, `image.push`, `image.load`: accepted, nothing is asked for.
    Image,
}

/// What `--allow` takes.
pub(crate) const GRANTS: [&str; 13] = [
    "network.host",
    "security.insecure",
    "device",
    "ssh",
    "buildx.local.delete",
    "fs",
    "fs.read",
    "fs.write",
    "fs.special",
    "image",
    "image.push",
    "image.load",
    "local.delete",
];

impl Grant {
    /// Reads the value of `--allow`.
    ///
    /// # Errors
    /// On an unknown key, a value where none belongs or none where one does.
    pub(crate) fn parse(text: &str) -> Result<Self, OptionFault> {
        let (key, value) = text.split_once('=').map_or((text, None), |(key, value)| (key, Some(value)));
        let path = |make: fn(String) -> Self| match value {
            Some(path) if !path.is_empty() => Ok(make(path.to_owned())),
            _ => Err(OptionFault::new(format!("`{key}` wants a path: {text}"))
                .help(format!("write --allow={key}=PATH, * means all"))),
        };
        let plain = |grant: Self| match value {
            None => Ok(grant),
            Some(_) => {
                Err(OptionFault::new(format!("`{key}` takes no value: {text}")).help(format!("write --allow={key}")))
            }
        };
        match key {
            "network.host" => plain(Self::Need(Entitlement::NetworkHost)),
            "security.insecure" => plain(Self::Need(Entitlement::SecurityInsecure)),
            "device" => Ok(Self::Need(Entitlement::Device(value.filter(|it| !it.is_empty()).map(str::to_owned)))),
            "ssh" => plain(Self::Ssh),
            "buildx.local.delete" | "local.delete" => plain(Self::LocalDelete),
            "fs.special" => plain(Self::SpecialFiles),
            "fs" => path(Self::ReadWrite),
            "fs.read" => path(Self::Read),
            "fs.write" => path(Self::Write),
            "image" | "image.push" | "image.load" => Ok(Self::Image),
            _ => {
                let help = suggest::did_you_mean(key, GRANTS)
                    .unwrap_or_else(|| format!("known grants: {}", GRANTS[..12].join(", ")));
                Err(OptionFault::new(format!("unknown entitlement: {text}")).help(help))
            }
        }
    }
}
