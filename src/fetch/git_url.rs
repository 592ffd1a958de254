//! Git URLs as users write them: `URL#ref:subdir` and `URL?ref=…&subdir=…` (the forms of
//! <https://docs.docker.com/build/concepts/context/#git-repositories>).
//!
//! Text in, parts out; nothing is asked of a server.

use super::git::GitSource;

/// The parts of a git URL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct GitUrl {
    /// Without fragment and query.
    pub(crate) url: String,
    pub(crate) reference: Option<String>,
    pub(crate) subdir: Option<String>,
    pub(crate) checksum: Option<String>,
    pub(crate) keep_git_dir: Option<bool>,
    pub(crate) submodules: Option<bool>,
    /// `mtime=commit`.
    pub(crate) mtime_commit: bool,
}

impl GitUrl {
    /// The source that the URL names, with defaults for what it leaves out.
    pub(crate) fn source(self) -> GitSource {
        GitSource {
            url: self.url,
            reference: self.reference,
            subdir: self.subdir,
            checksum: self.checksum,
            keep_git_dir: self.keep_git_dir.unwrap_or(false),
            submodules: self.submodules.unwrap_or(true),
            mtime_commit: self.mtime_commit,
        }
    }
}

/// Whether a build context or a remote definition is a git URL: `github.com/…` counts.
pub(crate) fn is_git_url(text: &str) -> bool {
    let (rest, _) = text.split_once('#').unwrap_or((text, ""));
    let (rest, _) = rest.split_once('?').unwrap_or((rest, ""));
    let lower = rest.to_ascii_lowercase();
    if lower.starts_with("http://") || lower.starts_with("https://") {
        return rest.ends_with(".git");
    }
    lower.starts_with("git://") || lower.starts_with("ssh://") || lower.starts_with("github.com/") || is_scp(rest)
}

/// `user@host:path`, not a URL and not a file.
fn is_scp(text: &str) -> bool {
    let Some((user, rest)) = text.split_once('@') else { return false };
    let Some((host, path)) = rest.split_once(':') else { return false };
    let word = |text: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
    };
    word(user) && word(host) && !host.starts_with('-') && !path.is_empty() && !path.starts_with("//")
}

/// Parses a git URL; `None` when it is none.
///
/// # Errors
/// The text says what is wrong with fragment or query.
pub(crate) fn parse_git_url(text: &str) -> Option<Result<GitUrl, String>> {
    is_git_url(text).then(|| parse(text))
}

fn parse(text: &str) -> Result<GitUrl, String> {
    let (rest, fragment) = text.split_once('#').map_or((text, None), |(rest, it)| (rest, Some(it)));
    let (base, query) = rest.split_once('?').map_or((rest, None), |(rest, it)| (rest, Some(it)));
    let mut parts = GitUrl { url: base.to_owned(), ..GitUrl::default() };
    if base.to_ascii_lowercase().starts_with("github.com/") {
        parts.url = format!("https://{base}");
        if !base.ends_with(".git") {
            parts.url.push_str(".git");
        }
    }
    let (mut branch, mut tag) = (None, None);
    let mut seen: Vec<String> = Vec::new();
    for (key, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        if seen.iter().any(|it| *it == key) {
            return Err(format!("query `{key}` is given twice"));
        }
        let flag = || match value.as_ref() {
            "" => Ok(true),
            text => crate::spec::boolean(text).map_err(|_| format!("query `{key}` is neither true nor false: {text}")),
        };
        let full = || {
            if value.is_empty() { Err(format!("query `{key}` has no value")) } else { Ok(Some(value.to_string())) }
        };
        match key.as_ref() {
            "ref" => parts.reference = full()?,
            "branch" => branch = full()?,
            "tag" => tag = full()?,
            "subdir" => parts.subdir = full()?,
            "checksum" | "commit" => {
                let wanted = full()?;
                if parts.checksum.is_some() && parts.checksum != wanted {
                    return Err("`checksum` conflicts with `commit`".to_owned());
                }
                parts.checksum = wanted;
            }
            "keep-git-dir" => parts.keep_git_dir = Some(flag()?),
            "submodules" => parts.submodules = Some(flag()?),
            "mtime" => match value.as_ref() {
                "checkout" => parts.mtime_commit = false,
                "commit" => parts.mtime_commit = true,
                other => return Err(format!("query `mtime` is neither checkout nor commit: {other}")),
            },
            // All that is fetched is fetched by commit where the server can.
            "fetch-by-commit" => {
                flag()?;
            }
            other => return Err(format!("unexpected query \"{other}\"")),
        }
        seen.push(key.into_owned());
    }
    if branch.is_some() && tag.is_some() {
        return Err("branch conflicts with tag".to_owned());
    }
    let named = branch.map(|it| format!("refs/heads/{it}")).or(tag.map(|it| format!("refs/tags/{it}")));
    parts.reference = agree("ref", parts.reference.take(), named)?;
    if let Some(fragment) = fragment {
        let (reference, subdir) = fragment.split_once(':').unwrap_or((fragment, ""));
        let given = |it: &str| (!it.is_empty()).then(|| it.to_owned());
        parts.reference = agree("ref", parts.reference.take(), given(reference))?;
        parts.subdir = agree("subdir", parts.subdir.take(), given(subdir))?;
    }
    Ok(parts)
}

fn agree(what: &str, a: Option<String>, b: Option<String>) -> Result<Option<String>, String> {
    match (a, b) {
        (Some(a), Some(b)) if a != b => Err(format!("{what} conflicts: `{a}` and `{b}`")),
        (a, b) => Ok(a.or(b)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good(text: &str) -> GitUrl {
        parse_git_url(text).expect("a git URL").expect("a good one")
    }

    fn bad(text: &str) -> String {
        parse_git_url(text).expect("a git URL").expect_err("a bad one")
    }

    #[test]
    fn git_urls_are_told_from_others() {
        for text in ["https://h/a.git", "http://h/a.git#x", "git://h/a", "ssh://g@h/a", "git@h:a/b", "github.com/a/b"] {
            assert!(is_git_url(text), "{text}");
        }
        for text in ["https://h/a", "./a.git", "a@b", "/x/user@host:y", "https://h/a?b=.git", "C:/x@y:z"] {
            assert!(!is_git_url(text), "{text}");
        }
    }

    #[test]
    fn fragment_and_query_are_read() {
        let parts = good("https://h/a.git#main:sub/dir");
        assert_eq!((parts.reference.as_deref(), parts.subdir.as_deref()), (Some("main"), Some("sub/dir")));
        assert_eq!(good("https://h/a.git#:sub").reference, None);
        let parts = good("https://h/a.git?tag=v1&subdir=s&keep-git-dir&submodules=0&mtime=commit&commit=ab");
        assert_eq!(parts.reference.as_deref(), Some("refs/tags/v1"));
        assert_eq!((parts.keep_git_dir, parts.submodules, parts.mtime_commit), (Some(true), Some(false), true));
        assert_eq!(parts.checksum.as_deref(), Some("ab"));
        assert_eq!(good("github.com/a/b#x").url, "https://github.com/a/b.git");
    }

    #[test]
    fn contradictions_and_unknown_keys_are_refused() {
        assert!(bad("https://h/a.git?ref=a#b").contains("ref conflicts"));
        assert!(bad("https://h/a.git?subdir=a#:b").contains("subdir conflicts"));
        assert!(bad("https://h/a.git?branch=a&tag=b").contains("branch conflicts with tag"));
        assert!(bad("https://h/a.git?x=1").contains("unexpected query \"x\""));
        assert!(bad("https://h/a.git?ref=a&ref=a").contains("twice"));
        assert!(bad("https://h/a.git?ref=").contains("no value"));
        assert!(bad("https://h/a.git?submodules=maybe").contains("maybe"));
    }
}
