//! Foreign text and URLs as messages show them. Pure.

/// Makes a URL fit for a message: without user, password and the values of its query, without control characters.
pub(crate) fn shown_url(text: &str) -> String {
    let (rest, fragment) = text.split_once('#').map_or((text, None), |(rest, fragment)| (rest, Some(fragment)));
    let (rest, query) = rest.split_once('?').map_or((rest, false), |(rest, _)| (rest, true));
    let mut shown = match rest.split_once("://") {
        Some((scheme, after)) => {
            let (host, path) = after.find('/').map_or((after, ""), |at| after.split_at(at));
            format!("{scheme}://{}{path}", host.rsplit('@').next().unwrap_or(host))
        }
        None => rest.to_owned(),
    };
    if query {
        shown.push_str("?…");
    }
    if let Some(fragment) = fragment {
        shown.push('#');
        shown.push_str(fragment);
    }
    clean(&shown)
}

/// Makes a server's or program's text fit for a message: no control characters, at most a few hundred bytes.
pub(super) fn clean(text: &str) -> String {
    const LONGEST: usize = 600;
    let mut clean = String::new();
    for c in text.trim().chars() {
        if clean.len() >= LONGEST {
            clean.push('…');
            break;
        }
        clean.push(if c.is_control() { ' ' } else { c });
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_in_urls_are_not_shown() {
        assert_eq!(shown_url("https://u:p@h/x?token=s#r"), "https://h/x?…#r");
        assert_eq!(shown_url("git@h:a/b"), "git@h:a/b");
        assert_eq!(shown_url("http://h\u{7}/"), "http://h /");
    }
}
