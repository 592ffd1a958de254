//! Credentials inside of URLs, found in any text: what is shown or recorded goes without them.
//!
//! Follows the shape of a URL (`scheme://userinfo@host`, RFC 3986, section 3.2.1), not a full parser: a text may hold
//! several URLs, or one that is malformed. The URL that is fetched keeps its credentials.

use std::{borrow::Cow, ops::Range};

/// Removes user and password from all URLs in a text: `http://u:pw@h/x` becomes `http://h/x`.
///
/// A user name alone stays in `ssh://git@host`, where it is part of the address and no secret.
pub(crate) fn without_credentials(text: &str) -> Cow<'_, str> {
    replace(text, |shown, userinfo| {
        shown.truncate(shown.len() - userinfo.len() - 1);
    })
}

/// Replaces each byte of user and password in all URLs of a text by `*`. The length in bytes stays, so that places fit.
pub(crate) fn mask_credentials(text: &str) -> Cow<'_, str> {
    replace(text, |shown, userinfo| {
        shown.truncate(shown.len() - userinfo.len() - 1);
        shown.extend(std::iter::repeat_n('*', userinfo.len()));
        shown.push('@');
    })
}

/// Calls `hide` with the text up to and including each `userinfo@`.
fn replace(text: &str, hide: impl Fn(&mut String, &str)) -> Cow<'_, str> {
    let mut shown = String::new();
    let mut done = 0;
    while let Some(at) = text[done..].find("://").map(|at| done + at) {
        let scheme = text[..at].trim_end_matches(is_scheme).len();
        let userinfo = userinfo(text, at + 3).filter(|found| is_secret(&text[scheme..at], &text[found.clone()]));
        let next = userinfo.as_ref().map_or(at + 3, |found| found.end + 1);
        shown.push_str(&text[done..next]);
        if let Some(found) = userinfo {
            hide(&mut shown, &text[found]);
        }
        done = next;
    }
    if done == 0 {
        return Cow::Borrowed(text);
    }
    shown.push_str(&text[done..]);
    Cow::Owned(shown)
}

fn is_scheme(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.')
}

/// What stands before the last `@` of the authority that begins at `start`.
fn userinfo(text: &str, start: usize) -> Option<Range<usize>> {
    let rest = &text[start..];
    let end = rest.find(|c: char| c.is_whitespace() || matches!(c, '/' | '?' | '#' | '"' | '\\'));
    let authority = &rest[..end.unwrap_or(rest.len())];
    authority.rfind('@').map(|at| start..start + at)
}

/// Tokens are given as the user of a web URL; elsewhere a user alone is an account that everybody knows.
fn is_secret(scheme: &str, userinfo: &str) -> bool {
    userinfo.contains(':') || scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_passwords_are_taken_out_of_every_url() {
        assert_eq!(without_credentials("ADD http://u:p@h/g HTTPS://t@x:1 /"), "ADD http://h/g HTTPS://x:1 /");
        assert_eq!(without_credentials(r#"["http://u:p@q@h", "a@b"]"#), r#"["http://h", "a@b"]"#);
        assert_eq!(without_credentials("ssh://git@h/x ssh://u:p@h"), "ssh://git@h/x ssh://h");
        assert_eq!(without_credentials("“http://u:p@h” é://u:p@h"), "“http://h” é://h");
        for text in ["http://h/a@b", "git@h:a/b", "", "://", "a@b://c", "http://é/@", "é://a@b", "Ƌps://@"] {
            assert_eq!(without_credentials(text), text);
        }
    }

    #[test]
    fn masked_text_keeps_its_length() {
        let text = "see http://user:pässword@h/ and http://t@h";
        let shown = mask_credentials(text);
        assert_eq!(shown.len(), text.len());
        assert!(shown.starts_with("see http://***") && shown.ends_with("*@h/ and http://*@h"), "{shown}");
    }
}
