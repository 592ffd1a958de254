//! Text of others made fit for a terminal: nothing in it moves the cursor, changes the title, or turns the direction of
//! writing. This is the one filter for every text that comes from a definition, a Dockerfile, an image config, a registry
//! or a process and is shown to a person. Data for programs is not changed here.

use std::{borrow::Cow, fmt::Write as _};

use crate::report::url::mask_credentials;

/// A class of characters that a terminal acts on instead of showing them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ControlClass {
    /// U+0000 to U+001F and U+007F; the tab is none of them here.
    C0,
    /// U+0080 to U+009F: the eight-bit forms of escape sequences (ECMA-48).
    C1,
    /// Marks, embeddings, overrides and isolates that change the direction of text (Unicode Standard Annex #9).
    Bidi,
}

fn control_class(c: char) -> Option<ControlClass> {
    match c {
        '\t' => None,
        '\u{0}'..='\u{1f}' | '\u{7f}' => Some(ControlClass::C0),
        '\u{80}'..='\u{9f}' => Some(ControlClass::C1),
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            Some(ControlClass::Bidi)
        }
        _ => None,
    }
}

/// What is shown in place of a control character: a character of the same length in UTF-8, so that spans stay true.
fn stand_in(c: char) -> char {
    match control_class(c) {
        None => c,
        Some(ControlClass::C0) => '?',
        Some(_) if c.len_utf8() == 2 => '·',
        Some(_) => '\u{fffd}',
    }
}

/// Makes one line of a text, in which nothing steers a terminal and no URL has a password; line breaks are replaced as
/// well. The length in bytes stays.
pub(crate) fn harmless(text: &str) -> String {
    mask_credentials(text).chars().map(stand_in).collect()
}

/// As [`harmless`], but line breaks stay; a carriage return becomes a blank.
pub(crate) fn harmless_lines(text: &str) -> Cow<'_, str> {
    let keep = |c: char| c == '\n' || control_class(c).is_none();
    let text = mask_credentials(text);
    if is_plain(&text) || text.chars().all(keep) {
        return text;
    }
    let one = |c: char| match c {
        '\n' => '\n',
        '\r' => ' ',
        other => stand_in(other),
    };
    Cow::Owned(text.chars().map(one).collect())
}

/// Whether a text is only printable ASCII and line breaks: most are, and a look at bytes is quick.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'\n' | b' '..=b'~'))
}

/// Escapes a JSON text so that nothing in it steers a terminal; its meaning stays.
///
/// Control characters are escaped as JSON escapes them (RFC 8259, section 7). In JSON text they can only occur inside
/// strings.
pub(crate) fn harmless_json(text: &str) -> Cow<'_, str> {
    let keep = |c: char| matches!(c, '\n' | '\r') || control_class(c).is_none();
    if is_plain(text) || text.chars().all(keep) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 64);
    for c in text.chars() {
        if keep(c) {
            out.push(c);
        } else {
            write!(out, "\\u{:04x}", u32::from(c)).expect("a string takes all");
        }
    }
    Cow::Owned(out)
}

/// The choice whether sequences that set colours and styles stay in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Colors {
    Keep,
    Drop,
}

/// Makes one line of a program's output what a terminal would show: of parts that a carriage return overwrites the last
/// one is kept, control sequences are dropped, bytes that are not UTF-8 are replaced.
pub(crate) fn line(bytes: &[u8], colors: Colors) -> String {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_end_matches(['\r', '\n']);
    let text = text.rsplit('\r').find(|part| !part.is_empty()).unwrap_or("");
    let mut out = String::with_capacity(text.len());
    let mut colored = false;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => {
                let rest = chars.as_str();
                let (len, is_color) = sequence(rest);
                if is_color && colors == Colors::Keep {
                    out.push(c);
                    out.push_str(&rest[..len]);
                    colored = true;
                }
                chars = rest[len..].chars();
            }
            c => match control_class(c) {
                None => out.push(c),
                Some(ControlClass::C0 | ControlClass::C1) => (),
                Some(ControlClass::Bidi) => out.push('\u{fffd}'),
            },
        }
    }
    if colored {
        out.push_str("\u{1b}[0m");
    }
    out
}

/// The length of the control sequence that begins after an escape character, and whether it only sets colours.
fn sequence(rest: &str) -> (usize, bool) {
    match rest.bytes().next() {
        // CSI: parameters, then a final character.
        Some(b'[') => match rest[1..].find(|c: char| !matches!(c, '\u{20}'..='\u{3f}')) {
            Some(at) => {
                let (end, parameters) = (1 + at, &rest[1..=at]);
                let last = rest[end..].chars().next().map_or(0, char::len_utf8);
                let plain = parameters.bytes().all(|b| b.is_ascii_digit() || matches!(b, b';' | b':'));
                (end + last, plain && rest[end..].starts_with('m'))
            }
            None => (rest.len(), false),
        },
        // OSC, DCS, SOS, PM, APC: text up to BEL or the string terminator.
        Some(b']' | b'P' | b'X' | b'^' | b'_') => match rest.find(['\u{7}', '\u{9c}', '\u{1b}']) {
            Some(at) if rest[at..].starts_with("\u{1b}\\") => (at + 2, false),
            Some(at) if rest[at..].starts_with('\u{1b}') => (at, false),
            Some(at) => (at + rest[at..].chars().next().map_or(0, char::len_utf8), false),
            None => (rest.len(), false),
        },
        // Two or more characters: intermediates, then a final one.
        Some(b' '..=b'/') => {
            let at = rest.find(|c: char| !matches!(c, ' '..='/')).unwrap_or(rest.len());
            (at + rest[at..].chars().next().map_or(0, char::len_utf8), false)
        }
        Some(_) => (rest.chars().next().map_or(0, char::len_utf8), false),
        None => (0, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every character that a terminal may act on.
    fn all_controls() -> impl Iterator<Item = char> {
        let bidi = ['\u{61c}', '\u{200e}', '\u{200f}'].into_iter().chain('\u{202a}'..='\u{202e}');
        ('\u{0}'..='\u{1f}').chain('\u{7f}'..='\u{9f}').chain(bidi).chain('\u{2066}'..='\u{2069}')
    }

    #[test]
    fn no_control_character_passes_and_lengths_stay() {
        for c in all_controls().filter(|c| *c != '\t') {
            let text = format!("a{c}ü");
            let (line, lines) = (harmless(&text), harmless_lines(&text).into_owned());
            assert!(!line.contains(c), "{c:?}");
            assert_eq!(lines.contains(c), c == '\n', "{c:?}");
            assert_eq!((line.len(), lines.len()), (text.len(), text.len()), "{c:?}");
        }
        assert_eq!(harmless("a\tb\u{1b}[2J\nc"), "a\tb?[2J?c");
        assert_eq!(harmless_lines("a\r\nb"), "a \nb");
        assert!(matches!(harmless_lines("a\n\tü"), Cow::Borrowed(_)));
    }

    #[test]
    fn json_keeps_its_meaning() {
        for c in all_controls() {
            let text = serde_json::to_string_pretty(&serde_json::json!({ "a": format!("x{c}y") })).unwrap();
            let shown = harmless_json(&text);
            assert!(shown.chars().all(|c| c == '\n' || control_class(c).is_none()), "{c:?}");
            let (was, is): (serde_json::Value, serde_json::Value) =
                (serde_json::from_str(&text).unwrap(), serde_json::from_str(&shown).unwrap());
            assert_eq!(was, is);
        }
    }

    #[test]
    fn only_text_and_colours_stay() {
        let plain = |text: &str| line(text.as_bytes(), Colors::Drop);
        let colored = |text: &str| line(text.as_bytes(), Colors::Keep);
        assert_eq!(plain("a\tb\u{1b}[31mred\u{1b}[0m\n"), "a\tbred");
        assert_eq!(colored("\u{1b}[1;31mred"), "\u{1b}[1;31mred\u{1b}[0m");
        assert_eq!(colored("\u{1b}[2J\u{1b}[10;5Hx\u{1b}[?25l"), "x");
        assert_eq!(colored("\u{1b}]0;title\u{7}x\u{1b}]8;;http://a\u{1b}\\link"), "xlink");
        assert_eq!(colored("\u{1b}]52;c;never ended"), "");
        assert_eq!(colored("\u{1b}Pq#1\u{1b}[31mx"), "\u{1b}[31mx\u{1b}[0m");
        assert_eq!(plain("\u{1b}(B\u{1b}7x\u{1b}"), "x");
        assert_eq!(plain("\u{9b}31mx\u{8}\u{7}"), "31mx");
        assert_eq!(plain("\u{202e}abc"), "\u{fffd}abc");
        assert_eq!(plain("\u{1b}é\u{1b}[é"), "");
    }

    #[test]
    fn what_was_written_over_is_not_shown() {
        assert_eq!(line(b"10%\r50%\r100%\r\n", Colors::Drop), "100%");
        assert_eq!(line(b"text\r\n", Colors::Drop), "text");
        assert_eq!(line(b"\xff\xfe", Colors::Drop), "\u{fffd}\u{fffd}");
        assert_eq!(line(b"", Colors::Drop), "");
    }
}
