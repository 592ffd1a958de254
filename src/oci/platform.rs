//! Platforms: `os/arch[/variant]`, parsed and normalised as containerd does (<https://pkg.go.dev/github.com/containerd/platforms>).

use std::fmt;

use serde::{Deserialize, Serialize};

/// A normalised platform. Two equal platforms print equally.
///
/// *Invariant:* `x86_64` is `amd64`, `aarch64` is `arm64`; `arm64/v8` and `amd64/v1` carry no variant; `arm` has one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Platform {
    pub(crate) os: String,
    #[serde(rename = "architecture")]
    pub(crate) arch: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) variant: Option<String>,
    #[serde(default, rename = "os.version", skip_serializing_if = "Option::is_none")]
    pub(crate) os_version: Option<String>,
}

/// A text that is not a platform.
#[derive(Debug, Clone, thiserror::Error)]
#[error("not a platform: {0}")]
pub(crate) struct BadPlatform(pub(crate) String);

impl Platform {
    /// The platform that this binary was built for.
    pub(crate) fn host() -> Self {
        Self::normalised("linux", if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }, None)
    }

    /// Makes a platform of its parts, spelled in any known way.
    pub(crate) fn normalised(os: &str, arch: &str, variant: Option<&str>) -> Self {
        let variant = variant.filter(|it| !it.is_empty());
        let arch = arch.to_ascii_lowercase();
        let (arch, variant) = match (arch.as_str(), variant) {
            ("x86_64" | "x86-64" | "amd64", None | Some("v1")) => ("amd64", None),
            ("x86_64" | "x86-64" | "amd64", other) => ("amd64", other),
            ("aarch64" | "arm64", None | Some("8" | "v8")) => ("arm64", None),
            ("aarch64" | "arm64", other) => ("arm64", other),
            ("armhf", _) => ("arm", Some("v7")),
            ("armel", _) => ("arm", Some("v6")),
            ("arm", None | Some("" | "7")) => ("arm", Some("v7")),
            ("arm", Some("5")) => ("arm", Some("v5")),
            ("arm", Some("6")) => ("arm", Some("v6")),
            ("arm", Some("8")) => ("arm", Some("v8")),
            ("i386", _) => ("386", None),
            (other, variant) => (other, variant),
        };
        let os = os.to_ascii_lowercase();
        Self {
            os: if os == "macos" { "darwin".to_owned() } else { os },
            arch: arch.to_owned(),
            variant: variant.map(str::to_ascii_lowercase),
            os_version: None,
        }
    }

    /// Parses a platform: `os/arch[/variant]`, `os(version)/arch`, `os`, `arch` or `local`.
    ///
    /// # Errors
    /// When a part is empty, has a character outside `[A-Za-z0-9_.-]`, or a lone word is neither an os nor an arch.
    pub(crate) fn parse(text: &str) -> Result<Self, BadPlatform> {
        let bad = || BadPlatform(text.to_owned());
        if text == "local" {
            return Ok(Self::host());
        }
        let parts: Vec<&str> = text.split('/').collect();
        let (os, version) = match parts[0].split_once('(') {
            Some((os, rest)) => (os, Some(rest.strip_suffix(')').ok_or_else(bad)?)),
            None => (parts[0], None),
        };
        let word = |text: &str| {
            !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
        };
        if !word(os) || !parts[1..].iter().all(|it| word(it)) {
            return Err(bad());
        }
        let mut platform = match parts.len() {
            1 if KNOWN_OS.contains(&os.to_ascii_lowercase().as_str()) => {
                let host = Self::host();
                Self::normalised(os, &host.arch, host.variant.as_deref())
            }
            1 if KNOWN_ARCH.contains(&os.to_ascii_lowercase().as_str()) => Self::normalised("linux", os, None),
            2 => Self::normalised(os, parts[1], None),
            3 => Self::normalised(os, parts[1], Some(parts[2])),
            _ => return Err(bad()),
        };
        platform.os_version = version.map(str::to_owned);
        Ok(platform)
    }
}

const KNOWN_OS: &[&str] = &[
    "linux",
    "windows",
    "darwin",
    "macos",
    "freebsd",
    "netbsd",
    "openbsd",
    "dragonfly",
    "solaris",
    "illumos",
    "aix",
    "android",
    "plan9",
    "wasip1",
    "js",
    "wasi",
];
const KNOWN_ARCH: &[&str] = &[
    "amd64", "x86_64", "x86-64", "arm64", "aarch64", "arm", "armhf", "armel", "386", "i386", "ppc64", "ppc64le",
    "s390x", "riscv64", "mips", "mipsle", "mips64", "mips64le", "loong64", "wasm",
];

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.os)?;
        if let Some(version) = &self.os_version {
            write!(f, "({version})")?;
        }
        write!(f, "/{}", self.arch)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_are_normalised() {
        let print = |text: &str| Platform::parse(text).map_or_else(|e| e.to_string(), |it| it.to_string());
        assert_eq!(print("linux/arm64/v8"), "linux/arm64");
        assert_eq!(print("linux/arm"), "linux/arm/v7");
        assert_eq!(print("linux/amd64/v2"), "linux/amd64/v2");
        assert_eq!(print("Linux/x86_64"), "linux/amd64");
        assert_eq!(print("arm64"), "linux/arm64");
        assert_eq!(print("windows(10.0.17763)/amd64"), "windows(10.0.17763)/amd64");
        assert_eq!(print("linux/"), "not a platform: linux/");
        assert_eq!(print("nonsense"), "not a platform: nonsense");
        assert_eq!(print("a/b/c/d"), "not a platform: a/b/c/d");
    }
}
