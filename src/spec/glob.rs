//! Shell patterns over one name: `*`, `?`, `[a-z]`, `[^a]` and `\x`, for names of targets and for each component of a COPY
//! source. The grammar is that of Go's `path.Match` (<https://pkg.go.dev/path#Match>), which the peer uses for both.
//!
//! It is not the grammar of ignore files (`graph::pattern`), where `**` crosses slashes.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

/// The pattern of one name.
#[derive(Clone, Debug)]
pub(crate) struct NameGlob(Vec<GlobToken>);

const SLASH: u32 = '/' as u32;

#[derive(Clone, Debug)]
enum GlobToken {
    Literal(u32),
    One,
    Any,
    Class { negated: bool, ranges: Vec<(u32, u32)> },
}

/// Whether a component of a path has a wildcard; without one it is a name, with its backslashes.
pub(crate) fn is_wild(component: &str) -> bool {
    let mut chars = component.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => drop(chars.next()),
            '*' | '?' | '[' => return true,
            _ => (),
        }
    }
    false
}

impl NameGlob {
    /// Parses the pattern of one name.
    ///
    /// # Errors
    /// What is wrong with it: a bracket is not closed, a class is empty, a range has no start or end, or it ends in a
    /// backslash.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        let mut chars = text.chars().peekable();
        let mut tokens = Vec::new();
        while let Some(c) = chars.next() {
            tokens.push(match c {
                '*' => GlobToken::Any,
                '?' => GlobToken::One,
                '[' => {
                    let negated = chars.next_if_eq(&'^').is_some();
                    let mut ranges = Vec::new();
                    while ranges.is_empty() || chars.next_if_eq(&']').is_none() {
                        let low = class_char(&mut chars)?;
                        let high = match chars.next_if_eq(&'-') {
                            Some(_) => class_char(&mut chars)?,
                            None => low,
                        };
                        ranges.push((low, high));
                    }
                    GlobToken::Class { negated, ranges }
                }
                '\\' => GlobToken::Literal(chars.next().ok_or("it ends in a backslash")?.into()),
                c => GlobToken::Literal(c.into()),
            });
        }
        Ok(Self(tokens))
    }

    /// Whether a whole name matches.
    ///
    /// *Cost:* at most name length × pattern length.
    pub(crate) fn matches(&self, name: &OsStr) -> bool {
        let name = code_points(name);
        let (mut at, mut token) = (0, 0);
        // Where to go on when the last `*` takes one more character.
        let mut retry = None;
        loop {
            match self.0.get(token) {
                Some(GlobToken::Any) => {
                    token += 1;
                    retry = Some((at, token));
                    continue;
                }
                Some(it) if name.get(at).is_some_and(|c| it.takes(*c)) => {
                    (at, token) = (at + 1, token + 1);
                    continue;
                }
                None if at == name.len() => return true,
                _ => (),
            }
            match retry {
                Some((from, after)) if name.get(from).is_some_and(|c| *c != SLASH) => {
                    retry = Some((from + 1, after));
                    (at, token) = (from + 1, after);
                }
                _ => return false,
            }
        }
    }
}

impl GlobToken {
    fn takes(&self, c: u32) -> bool {
        match self {
            Self::Literal(it) => *it == c,
            Self::One => c != SLASH,
            Self::Any => false,
            Self::Class { negated, ranges } => ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != *negated,
        }
    }
}

fn class_char(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<u32, &'static str> {
    match chars.next() {
        None => Err("a bracket is not closed"),
        Some(']') => Err("a character class is empty or a range has no end"),
        Some('-') => Err("a range has no start"),
        Some('\\') => chars.next().map(u32::from).ok_or("a bracket is not closed"),
        Some(c) => Ok(c.into()),
    }
}

/// The characters of a name; a byte that is no UTF-8 counts as one of its own.
fn code_points(name: &OsStr) -> Vec<u32> {
    let mut points = Vec::with_capacity(name.len());
    for chunk in name.as_bytes().utf8_chunks() {
        points.extend(chunk.valid().chars().map(u32::from));
        points.extend(chunk.invalid().iter().map(|byte| 0x11_0000 + u32::from(*byte)));
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_match_as_the_table_says() {
        let table = [
            // pattern, names that match, names that do not
            ("*", "a .a ab", ""),
            ("*.txt", "a.txt .txt", "a.txtx a"),
            ("?.txt", "a.txt ü.txt", "ab.txt .txt /.txt"),
            ("a*", "a ab", "a/b"),
            ("[ac].*", "a.x c.md", "b.x"),
            ("[^a].*", "b.x", "a.x"),
            ("[a-c]x", "ax bx cx", "dx"),
            ("a*b*c", "abc aXbXbc", "ab acb"),
            ("a\\*", "a*", "ab"),
            ("**", "a", ""),
            ("[\\]]", "]", "\\"),
        ];
        for (pattern, yes, no) in table {
            let glob = NameGlob::parse(pattern).unwrap();
            yes.split_whitespace().for_each(|it| assert!(glob.matches(OsStr::new(it)), "{pattern} matches {it}"));
            no.split_whitespace().for_each(|it| assert!(!glob.matches(OsStr::new(it)), "{pattern} leaves {it}"));
        }
        assert!(NameGlob::parse("?").unwrap().matches(OsStr::from_bytes(b"\xff")));
    }

    #[test]
    fn malformed_patterns_are_errors_and_escaped_ones_no_wildcards() {
        for bad in ["[", "[a", "[]", "[a-", "[a-]", "[-a]", "a*\\"] {
            assert!(NameGlob::parse(bad).is_err(), "{bad}");
        }
        assert!(is_wild("a[b") && is_wild("\\\\*") && !is_wild("a\\*b") && !is_wild("plain"));
    }

    #[test]
    fn many_stars_take_bounded_time() {
        let glob = NameGlob::parse(&"*a".repeat(100)).unwrap();
        assert!(!glob.matches(OsStr::new(&format!("{}b", "a".repeat(4000)))));
    }
}
