//! Contexts: what a text in `context` or `contexts` points at.

/// The source of a context.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum ContextSource {
    /// The result of another target.
    Target(String),
    /// `docker-image://REFERENCE`.
    Image(String),
    /// `oci-layout://PATH[:TAG][@DIGEST]`.
    OciLayout { path: String, tag: Option<String>, digest: Option<String> },
    /// A git repository, as written: `URL[#REF[:DIR]]`.
    Git(String),
    /// A file or archive of a server.
    Http(String),
    /// A directory, relative to the working directory.
    Local(String),
    /// Standard input, which bake refuses.
    Stdin,
}

impl ContextSource {
    /// Tells the kind by prefix and shape; what is nothing else is a directory.
    pub(crate) fn parse(text: &str) -> Self {
        if text == "-" {
            return Self::Stdin;
        }
        if text.starts_with("./") || text.starts_with("../") {
            return Self::Local(text.to_owned());
        }
        if let Some(name) = text.strip_prefix("target:") {
            return Self::Target(name.to_owned());
        }
        if let Some(reference) = text.strip_prefix("docker-image://") {
            return Self::Image(reference.to_owned());
        }
        if let Some(rest) = text.strip_prefix("oci-layout://") {
            return oci_layout(rest);
        }
        if let Some(path) = text.strip_prefix("cwd://") {
            return Self::Local(if path.is_empty() { ".".to_owned() } else { path.to_owned() });
        }
        if is_git(text) {
            return Self::Git(text.to_owned());
        }
        if text.starts_with("http://") || text.starts_with("https://") {
            return Self::Http(text.to_owned());
        }
        Self::Local(text.to_owned())
    }

    /// Whether the text is a path that `BUILDX_BAKE_FILE_RELATIVE_PATHS` moves and cleaning changes.
    pub(crate) fn is_local_path(text: &str) -> bool {
        matches!(Self::parse(text), Self::Local(_)) && !text.starts_with("cwd://")
    }
}

/// Whether a text names a git repository.
pub(crate) fn is_git(text: &str) -> bool {
    let (base, _) = text.split_once('#').unwrap_or((text, ""));
    if base.starts_with("git://")
        || base.starts_with("ssh://")
        || base.starts_with("git@")
        || base.starts_with("github.com/")
    {
        return true;
    }
    if let Some(rest) = base.strip_prefix("https://").or_else(|| base.strip_prefix("http://")) {
        let path = rest.split_once('?').map_or(rest, |(path, _)| path);
        return path.contains('/') && path.trim_end_matches('/').ends_with(".git");
    }
    // `user@host:path`, the form of scp.
    match base.split_once(':') {
        Some((host, path)) => {
            host.split_once('@').is_some_and(|(user, name)| {
                let word =
                    |it: &str| !it.is_empty() && it.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
                word(user) && word(name)
            }) && !path.is_empty()
        }
        None => false,
    }
}

fn oci_layout(rest: &str) -> ContextSource {
    let (rest, digest) = match rest.split_once('@') {
        Some((before, digest)) => (before, Some(digest.to_owned())),
        None => (rest, None),
    };
    let slash = rest.rfind('/').map_or(0, |it| it + 1);
    let (path, tag) = match rest[slash..].rfind(':') {
        Some(at) => (&rest[..slash + at], Some(rest[slash + at + 1..].to_owned())),
        None => (rest, None),
    };
    ContextSource::OciLayout { path: path.to_owned(), tag, digest }
}

/// Removes `.`, `..` and doubled slashes by the text alone; the empty path is `.`.
pub(crate) fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => (),
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if rooted => (),
            other => parts.push(other),
        }
    }
    match (rooted, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_are_told_apart() {
        let kind = |text: &str| format!("{:?}", ContextSource::parse(text));
        assert_eq!(kind("target:a"), r#"Target("a")"#);
        assert_eq!(kind("./target:a"), r#"Local("./target:a")"#);
        assert_eq!(kind("https://h/x.git#v1:sub"), r#"Git("https://h/x.git#v1:sub")"#);
        assert_eq!(kind("git@github.com:a/b"), r#"Git("git@github.com:a/b")"#);
        assert_eq!(kind("https://h/a.tar.gz"), r#"Http("https://h/a.tar.gz")"#);
        assert_eq!(kind("cwd://x"), r#"Local("x")"#);
        assert_eq!(
            kind("oci-layout://./l/o:1@sha256:aa"),
            r#"OciLayout { path: "./l/o", tag: Some("1"), digest: Some("sha256:aa") }"#
        );
        assert_eq!(kind("a/b"), r#"Local("a/b")"#);
        assert_eq!(kind("-"), "Stdin");
    }

    #[test]
    fn paths_are_cleaned_by_text() {
        for (path, expected) in [
            ("./src/../app/", "app"),
            ("", "."),
            ("/../a", "/a"),
            ("../../a", "../../a"),
            ("a//b/./c", "a/b/c"),
            ("a/..", "."),
        ] {
            assert_eq!(clean(path), expected);
        }
    }
}
