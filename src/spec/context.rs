//! Contexts: what a text in `context` or `contexts` points at.

/// The source of a context.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum ContextSource {
    /// The result of another target.
    Target(String),
    /// `docker-image://REFERENCE`.
    Image(String),
    /// `oci-layout://PATH[:TAG][@DIGEST]`, or `oci-layout://PATH?name=NAME` with the full name of an image, which `tag` has
    /// then.
    OciLayout { path: String, tag: Option<String>, digest: Option<String> },
    /// A git repository, as written: `URL[#REF[:DIR]]`.
    Git(String),
    /// A file or archive of a server.
    Http(String),
    /// A directory, relative to the working directory.
    Local(String),
    /// Standard input, which bake refuses.
    Stdin,
    /// `stdin://DIGEST`: the archive of this digest that `bake build -` read from standard input and put into the store.
    Archive(String),
    /// `built-image://NAME`: the image that was last built on this machine under this name. It is exported as it is.
    Built(String),
}

const ARCHIVE: &str = "stdin://";
const BUILT: &str = "built-image://";

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
        if let Some(digest) = text.strip_prefix(ARCHIVE) {
            return Self::Archive(digest.to_owned());
        }
        if let Some(name) = text.strip_prefix(BUILT) {
            return Self::Built(name.to_owned());
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

    /// The text of [`ContextSource::Archive`] for the digest of an archive in the store.
    pub(crate) fn archive_text(digest: &str) -> String {
        format!("{ARCHIVE}{digest}")
    }

    /// The text of a [`ContextSource::OciLayout`] behind `oci-layout://`.
    pub(crate) fn layout_text(path: &str, tag: Option<&str>, digest: Option<&str>) -> String {
        let tag = tag.map(|tag| if tag.contains([':', '/']) { format!("{NAMED}{tag}") } else { format!(":{tag}") });
        let digest = digest.map(|digest| format!("@{digest}"));
        [path, tag.as_deref().unwrap_or_default(), digest.as_deref().unwrap_or_default()].concat()
    }

    /// The text of [`ContextSource::Built`] for the name of an image.
    pub(crate) fn built_text(name: &str) -> String {
        format!("{BUILT}{name}")
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
                let word = |text: &str| {
                    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
                };
                word(user) && word(name)
            }) && !path.is_empty()
        }
        None => false,
    }
}

/// What stands between the path of a layout and the full name of an image in it.
pub(crate) const NAMED: &str = "?name=";

/// The parts of a layout's address. Folders may have an `@` in their names, as work spaces of CI systems do: only what is
/// written as a digest is one.
fn oci_layout(rest: &str) -> ContextSource {
    let is_digest = |text: &str| {
        text.split_once(':')
            .is_some_and(|(algorithm, hex)| matches!(algorithm, "sha256" | "sha384" | "sha512") && !hex.contains('/'))
    };
    let (rest, digest) = match rest.rsplit_once('@').filter(|(_, digest)| is_digest(digest)) {
        Some((before, digest)) => (before, Some(digest.to_owned())),
        None => (rest, None),
    };
    if let Some((path, name)) = rest.split_once(NAMED) {
        return ContextSource::OciLayout { path: path.to_owned(), tag: Some(name.to_owned()), digest };
    }
    let slash = rest.rfind('/').map_or(0, |it| it + 1);
    let (path, tag) = match rest[slash..].rfind(':') {
        Some(at) => (&rest[..slash + at], Some(rest[slash + at + 1..].to_owned())),
        None => (rest, None),
    };
    ContextSource::OciLayout { path: path.to_owned(), tag, digest }
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
        for (text, expected) in [
            ("/w@2/l@o", r#"OciLayout { path: "/w@2/l@o", tag: None, digest: None }"#),
            ("/w@2/l@2:1", r#"OciLayout { path: "/w@2/l@2", tag: Some("1"), digest: None }"#),
            ("/w@2/l:1@sha256:aa", r#"OciLayout { path: "/w@2/l", tag: Some("1"), digest: Some("sha256:aa") }"#),
            ("l?name=h.test/a:1", r#"OciLayout { path: "l", tag: Some("h.test/a:1"), digest: None }"#),
            ("w@sha256:aa/l", r#"OciLayout { path: "w@sha256:aa/l", tag: None, digest: None }"#),
        ] {
            assert_eq!(kind(&format!("oci-layout://{text}")), expected);
        }
        assert_eq!(kind("a/b"), r#"Local("a/b")"#);
        assert_eq!(kind("-"), "Stdin");
        assert_eq!(kind(&ContextSource::archive_text("sha256:aa")), r#"Archive("sha256:aa")"#);
        assert_eq!(kind(&ContextSource::built_text("app:1")), r#"Built("app:1")"#);
    }
}
