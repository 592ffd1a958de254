//! What goes wrong with object stores, in words that hold no secret: URLs are shown without their queries, and of what a
//! server says only its code and message.

use std::error::Error as _;

use crate::oci::ObjectPlace;

/// A fault of an object store.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ObjectError {
    /// No request was sent.
    #[error("`{place}` cannot be used: {why}")]
    Unusable { place: ObjectPlace, why: String },
    #[error("`{place}`: cannot {action} `{key}`: {why}")]
    Request { place: ObjectPlace, action: &'static str, key: String, why: String },
    /// The content of this machine that was to be sent, or the file that was to be written.
    #[error("`{place}`: cannot {action} `{key}`, because of this machine: {why}")]
    Machine { place: ObjectPlace, action: &'static str, key: String, why: String },
}

/// Says what the crate `object_store` reports.
pub(super) fn words(error: &object_store::Error) -> String {
    match error {
        object_store::Error::NotFound { .. } => "it is not there".to_owned(),
        object_store::Error::PermissionDenied { .. } => with_cause("access is denied", error),
        object_store::Error::Unauthenticated { .. } => with_cause("the credentials are not accepted", error),
        _ => innermost(error),
    }
}

fn with_cause(text: &str, error: &object_store::Error) -> String {
    format!("{text} ({})", innermost(error))
}

/// The message of the innermost cause.
fn innermost(error: &object_store::Error) -> String {
    let mut last: &dyn std::error::Error = error;
    let mut next = error.source();
    while let Some(inner) = next {
        last = inner;
        next = inner.source();
    }
    shown(&last.to_string())
}

/// A text of a server or library, fit for a message: of XML the code and message alone, URLs without their queries, one
/// line, not long.
pub(super) fn shown(text: &str) -> String {
    const LONGEST: usize = 300;
    let element = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        Some(rest.split_once("</")?.0.to_owned())
    };
    let text = text.trim_start_matches("Server returned non-2xx status code: ").trim_end_matches([' ', ':']);
    let told = match (element("Code"), element("Message")) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code,
        _ => text.to_owned(),
    };
    let mut clean = String::new();
    for word in told.split_whitespace() {
        let word = if word.contains("://") { word.split(['?', '#']).next().unwrap_or_default() } else { word };
        if !clean.is_empty() {
            clean.push(' ');
        }
        clean.extend(word.chars().filter(|c| !c.is_control()));
        if clean.len() > LONGEST {
            let end = (0..=LONGEST).rev().find(|end| clean.is_char_boundary(*end)).unwrap_or(0);
            clean.truncate(end);
            clean.push('…');
            break;
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_signature_of_a_url_is_shown() {
        assert_eq!(shown("GET (https://h/p?sig=SECRET) failed"), "GET (https://h/p failed");
        let xml = "Server returned 403: <?xml?><Error><Code>AccessDenied</Code><Message>No  way</Message><Key>k</Key></Error>";
        assert_eq!(shown(xml), "AccessDenied: No way");
        assert!(shown(&"ä ".repeat(1000)).len() < 320);
    }
}
