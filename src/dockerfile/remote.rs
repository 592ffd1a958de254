//! Sources that are URLs: git repositories and downloads of ADD and of contexts
//! (<https://docs.docker.com/build/concepts/context/#url-fragments>,
//! <https://docs.docker.com/reference/dockerfile/#add>).

use crate::graph::GitOp;

/// A git repository as a Dockerfile or a context names it: the vertex, and whether the text said to keep `.git`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GitReference {
    pub(crate) git: GitOp,
    pub(crate) keep_git_dir: Option<bool>,
}

/// Whether a text is an `http://` or `https://` URL.
pub(crate) fn is_http(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}

/// Parses a git source: `git://`, `ssh://`, `user@host:path`, `http(s)://….git`, each with `#ref:subdir` and `?query`
/// (<https://docs.docker.com/build/concepts/context/#git-repositories>).
///
/// `None` when the text is not a git source. `github.com/…` without a scheme is one only if `context` is set.
///
/// # Errors
/// When it is a repository, but its query is malformed.
pub(crate) fn git(text: &str, context: bool) -> Option<Result<GitReference, String>> {
    let (whole, fragment) = text.split_once('#').unwrap_or((text, ""));
    let (remote, query) = whole.split_once('?').unwrap_or((whole, ""));
    if context && remote.starts_with("github.com/") {
        return Some(source(format!("https://{remote}"), query, fragment));
    }
    let known = match remote.split_once("://") {
        Some((scheme, rest)) => match scheme.to_ascii_lowercase().as_str() {
            "git" | "ssh" => true,
            "http" | "https" => rest.split_once('/').is_some_and(|(_, path)| path.ends_with(".git")),
            _ => false,
        },
        None => is_scp(remote),
    };
    known.then(|| source(remote.to_owned(), query, fragment))
}

/// `user@host:path`.
fn is_scp(text: &str) -> bool {
    let word = |text: &str, more: &[char]| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(&c))
    };
    text.split_once('@')
        .and_then(|(user, rest)| Some((user, rest.split_once(':')?.0)))
        .is_some_and(|(user, host)| word(user, &['-', '_']) && word(host, &['-', '.']))
}

fn source(url: String, query: &str, fragment: &str) -> Result<GitReference, String> {
    let fragment = decode(fragment);
    let (reference, subdir) = fragment.split_once(':').unwrap_or((&fragment, ""));
    let mut found = GitReference {
        git: GitOp {
            url,
            reference: given(reference),
            subdir: clean_subdir(subdir),
            checksum: None,
            keep_git_dir: false,
            submodules: true,
            mtime_commit: false,
        },
        keep_git_dir: None,
    };
    let mut seen: Vec<String> = Vec::new();
    let (mut tag, mut branch) = (None, None);
    for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let (key, value) = (key.into_owned(), value.into_owned());
        if seen.contains(&key) {
            return Err(format!("query key given more than once: {key}"));
        }
        let is_switch = matches!(key.as_str(), "submodules" | "keep-git-dir" | "fetch-by-commit");
        if value.is_empty() && !is_switch {
            return Err(format!("query key has no value: {key}"));
        }
        let switch = || match value.as_str() {
            "" => Ok(true),
            text => super::value::boolean(text).ok_or_else(|| format!("`{key}` is true or false, not: {text}")),
        };
        let git = &mut found.git;
        match key.as_str() {
            "ref" => merge(&mut git.reference, value, "ref")?,
            "subdir" => merge(&mut git.subdir, clean_subdir(&value).unwrap_or_default(), "subdir")?,
            "tag" => tag = Some(prefixed(&value, "refs/tags/")),
            "branch" => branch = Some(prefixed(&value, "refs/heads/")),
            "checksum" | "commit" => merge(&mut git.checksum, value, "checksum")?,
            "keep-git-dir" => {
                git.keep_git_dir = switch()?;
                found.keep_git_dir = Some(git.keep_git_dir);
            }
            "submodules" => git.submodules = switch()?,
            "fetch-by-commit" => drop(switch()?),
            "mtime" => match value.as_str() {
                "commit" => git.mtime_commit = true,
                "checkout" => git.mtime_commit = false,
                other => return Err(format!("`mtime` is checkout or commit, not: {other}")),
            },
            _ => return Err(format!("unexpected query key: {key}")),
        }
        seen.push(key);
    }
    match (tag, branch) {
        (Some(_), Some(_)) => return Err("branch conflicts with tag".to_owned()),
        (Some(name), None) | (None, Some(name)) => merge(&mut found.git.reference, name, "ref")?,
        (None, None) => (),
    }
    Ok(found)
}

fn merge(slot: &mut Option<String>, value: String, what: &str) -> Result<(), String> {
    match slot {
        Some(old) if *old != value => Err(format!("{what} conflicts: `{old}` and `{value}`")),
        _ => {
            *slot = given(&value);
            Ok(())
        }
    }
}

fn given(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn prefixed(name: &str, prefix: &str) -> String {
    if name.starts_with(prefix) { name.to_owned() } else { format!("{prefix}{name}") }
}

fn clean_subdir(text: &str) -> Option<String> {
    let clean = crate::spec::path::clean(&format!("/{text}"));
    given(&clean[1..])
}

/// The name that the file of a download gets: the last segment of the URL's path.
pub(crate) fn file_name(url: &str) -> String {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let path = path.split_once("://").map_or(path, |(_, rest)| rest);
    let path = path.split_once('/').map_or("", |(_, path)| path);
    let name = decode(path.trim_end_matches('/').rsplit('/').next().unwrap_or_default());
    if matches!(name.as_str(), "" | "." | "..") || name.contains(['/', '\0']) { "__unnamed__".to_owned() } else { name }
}

/// Percent escapes to bytes; what is malformed stays as it is.
fn decode(text: &str) -> String {
    let digit = |byte: Option<&u8>| byte.and_then(|it| (*it as char).to_digit(16)).and_then(|it| u8::try_from(it).ok());
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        match (bytes[i], digit(bytes.get(i + 1)), digit(bytes.get(i + 2))) {
            (b'%', Some(high), Some(low)) => {
                out.push(high << 4 | low);
                i += 3;
            }
            (byte, ..) => {
                out.push(byte);
                i += 1;
            }
        }
    }
    String::from_utf8(out).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> String {
        match git(text, false) {
            None => "no".to_owned(),
            Some(Err(why)) => why,
            Some(Ok(GitReference { git, .. })) => {
                let parts = [git.reference, git.subdir, git.checksum].map(Option::unwrap_or_default);
                format!("{} {} keep={} mtime={}", git.url, parts.join(","), git.keep_git_dir, git.mtime_commit)
            }
        }
    }

    #[test]
    fn git_sources_are_told_from_others() {
        let table = [
            ("https://h/r.git", "https://h/r.git ,, keep=false mtime=false"),
            ("http://h:1/r.git#main:sub", "http://h:1/r.git main,sub, keep=false mtime=false"),
            ("git@h.x:a/b.git#v1", "git@h.x:a/b.git v1,, keep=false mtime=false"),
            ("ssh://git@h/x", "ssh://git@h/x ,, keep=false mtime=false"),
            ("http://h/r.git?tag=v1&keep-git-dir&mtime=commit", "http://h/r.git refs/tags/v1,, keep=true mtime=true"),
            ("http://h/r.git?branch=side&subdir=sub", "http://h/r.git refs/heads/side,sub, keep=false mtime=false"),
            ("http://h/r.git?x=1", "unexpected query key: x"),
            ("http://h/r.git?ref=a#b", "ref conflicts: `b` and `a`"),
            ("http://h/r.git?ref=a&ref=a", "query key given more than once: ref"),
            ("http://h/r.git?tag=a&branch=b", "branch conflicts with tag"),
            ("http://h/r.git?ref=", "query key has no value: ref"),
            ("http://h/r.tar", "no"),
            ("github.com/a/b", "no"),
            ("./a@b:c", "no"),
            ("dir/file", "no"),
            ("ftp://h/r.git", "no"),
        ];
        table.iter().for_each(|(text, expected)| assert_eq!(check(text), *expected, "{text}"));
        assert!(
            git("github.com/a/b#main", true)
                .is_some_and(|it| it.is_ok_and(|it| it.git.url == "https://github.com/a/b"))
        );
    }

    #[test]
    fn downloads_are_named_by_their_path() {
        let table = [
            ("http://h/a/f.txt?x=/y", "f.txt"),
            ("http://h", "__unnamed__"),
            ("http://h/", "__unnamed__"),
            ("http://h/a%20b", "a b"),
        ];
        table.iter().for_each(|(url, name)| assert_eq!(file_name(url), *name));
    }
}
