//! Wildcards of COPY and ADD sources: `*`, `?`, `[a-z]` and `\`, one path component at a time.
//!
//! Not the grammar of ignore files (`graph::pattern`): nothing here crosses a slash.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

/// The pattern of one component.
#[derive(Clone, Debug)]
pub(crate) struct SourceGlob(Vec<GlobToken>);

#[derive(Clone, Debug)]
enum GlobToken {
    Literal(u32),
    One,
    Any,
    Class { negated: bool, ranges: Vec<(u32, u32)> },
}

/// Whether a component has a wildcard at all; otherwise it is a name as it stands.
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

impl SourceGlob {
    /// Parses the pattern of one component.
    ///
    /// # Errors
    /// Says what is wrong with the pattern.
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
                Some((from, after)) if from < name.len() => {
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
            Self::One => true,
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
            ("?.txt", "a.txt ü.txt", "ab.txt .txt"),
            ("[ac].*", "a.x c.md", "b.x"),
            ("[^a].*", "b.x", "a.x"),
            ("[a-c]x", "ax bx cx", "dx"),
            ("a*b*c", "abc aXbXbc", "ab acb"),
            ("a\\*", "a*", "ab"),
            ("**", "a", ""),
            ("[\\]]", "]", "\\"),
        ];
        for (pattern, yes, no) in table {
            let glob = SourceGlob::parse(pattern).unwrap();
            yes.split_whitespace().for_each(|it| assert!(glob.matches(OsStr::new(it)), "{pattern} matches {it}"));
            no.split_whitespace().for_each(|it| assert!(!glob.matches(OsStr::new(it)), "{pattern} leaves {it}"));
        }
        assert!(SourceGlob::parse("?").unwrap().matches(OsStr::from_bytes(b"\xff")));
    }

    #[test]
    fn malformed_patterns_are_errors_and_escaped_ones_no_wildcards() {
        for bad in ["[", "[a", "[]", "[a-", "[a-]", "[-a]", "a*\\"] {
            assert!(SourceGlob::parse(bad).is_err(), "{bad}");
        }
        assert!(is_wild("a[b") && is_wild("\\\\*") && !is_wild("a\\*b") && !is_wild("plain"));
    }

    #[test]
    fn many_stars_take_bounded_time() {
        let glob = SourceGlob::parse(&"*a".repeat(100)).unwrap();
        assert!(!glob.matches(OsStr::new(&format!("{}b", "a".repeat(4000)))));
    }
}
