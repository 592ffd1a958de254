//! Image references: `[domain/]path[:tag][@digest]`, normalised as Docker does (`a` is `docker.io/library/a:latest`).

use std::fmt;

use super::digest::Digest;

/// A parsed, normalised image reference (`docker.io/library/alpine:3@sha256:…`).
///
/// *Invariant:* `domain` is never empty; `path` is lower case; at most one tag and one digest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Reference {
    /// Registry host with optional port; `docker.io` when none was written.
    pub(crate) domain: String,
    /// Repository inside the registry; `library/` is put before single names of `docker.io`.
    pub(crate) path: String,
    pub(crate) tag: Option<String>,
    pub(crate) digest: Option<Digest>,
}

/// A text that is not an image reference, and which part of it is wrong.
#[derive(Debug, Clone, thiserror::Error)]
#[error("not an image reference: {text} ({why})")]
pub(crate) struct BadReference {
    pub(crate) text: String,
    pub(crate) why: &'static str,
}

impl Reference {
    /// Parses an image reference as users write it.
    ///
    /// # Errors
    /// Names the part that breaks the grammar of the distribution specification.
    pub(crate) fn parse(text: &str) -> Result<Self, BadReference> {
        let bad = |why| BadReference { text: text.to_owned(), why };
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => {
                (name, Some(digest.parse::<Digest>().map_err(|_| bad("the digest is not sha256:<64 hex digits>"))?))
            }
            None => (text, None),
        };
        let slash = name.rfind('/').map_or(0, |at| at + 1);
        let (name, tag) = match name[slash..].find(':') {
            Some(at) => (&name[..slash + at], Some(&name[slash + at + 1..])),
            None => (name, None),
        };
        if let Some(tag) = tag {
            let mut chars = tag.chars();
            let first = chars.next().is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
            if !first || tag.len() > 128 || !chars.all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')) {
                return Err(bad("a tag has 1 to 128 of [A-Za-z0-9_.-] and does not start with . or -"));
            }
        }
        let (domain, path) = match name.split_once('/') {
            Some((first, rest))
                if first.contains(['.', ':']) || first == "localhost" || first.chars().any(char::is_uppercase) =>
            {
                (first, rest)
            }
            _ => ("docker.io", name),
        };
        if !is_host(domain) {
            return Err(bad("what stands before the first / is no registry host"));
        }
        if path.is_empty() {
            return Err(bad("the repository name is empty"));
        }
        if path.chars().any(char::is_uppercase) {
            return Err(bad("the repository name must be lower case"));
        }
        if !path.split('/').all(is_path_component) {
            return Err(bad("repository names are made of [a-z0-9], separated by single . _ - or /"));
        }
        let domain = if domain == "index.docker.io" { "docker.io" } else { domain };
        let path =
            if domain == "docker.io" && !path.contains('/') { format!("library/{path}") } else { path.to_owned() };
        if domain.len() + path.len() > 255 {
            return Err(bad("the name is longer than 255 characters"));
        }
        Ok(Self { domain: domain.to_owned(), path, tag: tag.map(str::to_owned), digest })
    }

    /// The tag, `latest` when neither tag nor digest was written.
    pub(crate) fn tag_or_latest(&self) -> Option<&str> {
        match (&self.tag, &self.digest) {
            (Some(tag), _) => Some(tag),
            (None, None) => Some("latest"),
            (None, Some(_)) => None,
        }
    }

    /// The short form of an image name without `:latest`; anything else as it is. Named contexts are found by it.
    pub(crate) fn short(name: &str) -> String {
        let Ok(reference) = Self::parse(name) else { return name.to_owned() };
        let text = reference.familiar();
        text.strip_suffix(":latest").map(str::to_owned).unwrap_or(text)
    }

    /// The short form of the name as users write it: without `docker.io/` and `library/`.
    pub(crate) fn familiar_name(&self) -> String {
        if self.domain == "docker.io" {
            self.path.strip_prefix("library/").unwrap_or(&self.path).to_owned()
        } else {
            format!("{}/{}", self.domain, self.path)
        }
    }

    /// The short form of the reference with its tag (`latest` when none) and digest.
    pub(crate) fn familiar(&self) -> String {
        let mut text = self.familiar_name();
        if let Some(tag) = self.tag_or_latest() {
            text = format!("{text}:{tag}");
        }
        if let Some(digest) = &self.digest {
            text = format!("{text}@{digest}");
        }
        text
    }
}

/// Full form: domain, path, tag (`latest` when neither tag nor digest was given), digest.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.domain, self.path)?;
        if let Some(tag) = self.tag_or_latest() {
            write!(f, ":{tag}")?;
        }
        self.digest.as_ref().map_or(Ok(()), |digest| write!(f, "@{digest}"))
    }
}

/// Whether a text is a host name or an address, with or without a port
/// (<https://pkg.go.dev/github.com/distribution/reference>, `domain`).
fn is_host(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    };
    let is_label = |label: &str| {
        let is_plain = |c: char| c.is_ascii_alphanumeric();
        label.starts_with(is_plain) && label.ends_with(is_plain) && label.chars().all(|c| is_plain(c) || c == '-')
    };
    let is_name = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => !address.is_empty() && address.chars().all(|c| c.is_ascii_hexdigit() || c == ':'),
        None => host.split('.').all(is_label),
    };
    is_name && port.is_none_or(|port| !port.is_empty() && port.chars().all(|c| c.is_ascii_digit()))
}

fn is_path_component(part: &str) -> bool {
    let alnum = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let mut separators = String::new();
    let mut seen = false;
    for c in part.chars() {
        if alnum(c) {
            if !separators.is_empty() {
                let dashes = separators.chars().all(|c| c == '-');
                if !seen || !(dashes || matches!(separators.as_str(), "." | "_" | "__")) {
                    return false;
                }
                separators.clear();
            }
            seen = true;
        } else if matches!(c, '.' | '_' | '-') {
            separators.push(c);
        } else {
            return false;
        }
    }
    seen && separators.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_normalised() {
        let full = |text: &str| Reference::parse(text).map_or_else(|e| e.to_string(), |it| it.to_string());
        assert_eq!(full("alpine"), "docker.io/library/alpine:latest");
        assert_eq!(full("me/app:1"), "docker.io/me/app:1");
        assert_eq!(full("localhost:5000/a/b:x"), "localhost:5000/a/b:x");
        assert_eq!(full("localhost/a"), "localhost/a:latest");
        assert!(full("INVALID::tag").contains("not an image reference"));
        assert!(full("Upper").contains("lower case"));
        assert!(full("a..b").contains("not an image reference"));
        for host in ["h.example", "h.example:5000", "127.0.0.1:1", "[::1]", "[fe80::1]:5000", "Upper", "a-b.c"] {
            assert_eq!(full(&format!("{host}/a")), format!("{host}/a:latest"));
        }
        for bad in
            ["./a", "../a", "-h.x/a", "h..x/a", "h.x:/a", "h.x:p/a", "h.x:1:2/a", "[.]/a", "[::1/a", "::1/a", ".:5/a"]
        {
            assert!(full(bad).contains("no registry host"), "{bad}: {}", full(bad));
        }
        assert_eq!(Reference::parse("alpine").expect("valid").familiar(), "alpine:latest");
    }
}
