//! Text of others made fit for a terminal: nothing in it moves the cursor, changes the title, or turns the direction of
//! writing. Colours may stay.

/// What happens to colours and the like in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Colors {
    Keep,
    Drop,
}

/// One line of a program's output as it would be seen: of what was written over by a carriage return the last is kept,
/// control sequences are dropped, bytes that are not text are replaced.
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
            '\t' => out.push(c),
            '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}' => (),
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => out.push('\u{fffd}'),
            c => out.push(c),
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
