//! Changes of file modes, as `COPY --chmod` and the option `chmod` of an output write them: octal, or symbolic in the grammar
//! of BSD chmod with umask 0 (<https://man.freebsd.org/cgi/man.cgi?query=chmod>).
//!
//! No file is touched here.

use std::fmt;

use serde::Serialize;

use super::{digest::FieldHasher, key::KeyField};

/// A change of a file's mode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum ModeChange {
    /// Replaces the permission bits, set-id and sticky bits included.
    Octal(u32),
    /// Checked by [`parse`](Self::parse).
    Symbolic(String),
}

impl fmt::Display for ModeChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Octal(mode) => write!(f, "{mode:o}"),
            Self::Symbolic(text) => f.write_str(text),
        }
    }
}

impl KeyField for ModeChange {
    fn add_to(&self, hasher: &mut FieldHasher) {
        match self {
            Self::Octal(mode) => (0_u64, mode).add_to(hasher),
            Self::Symbolic(text) => (1_u64, text).add_to(hasher),
        }
    }
}

impl ModeChange {
    /// Parses octal digits up to 07777, or clauses such as `u=rwX,go=rX`; `None` for anything else.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            return u32::from_str_radix(text, 8).ok().filter(|bits| *bits <= 0o7777).map(Self::Octal);
        }
        for clause in text.split(',') {
            let mut rest = clause.trim_start_matches(['u', 'g', 'o', 'a']);
            if !rest.starts_with(['+', '-', '=']) {
                return None;
            }
            while let Some(after) = rest.strip_prefix(['+', '-', '=']) {
                let end = after.find(['+', '-', '=']).unwrap_or(after.len());
                let (letters, after) = after.split_at(end);
                if !letters.chars().all(|c| "rwxXstugo".contains(c)) {
                    return None;
                }
                rest = after;
            }
            if !rest.is_empty() {
                return None;
            }
        }
        Some(Self::Symbolic(text.to_owned()))
    }

    /// The mode that a file or directory of mode `old` gets; `None` if the symbolic text is malformed.
    pub(crate) fn apply(&self, old: u32, is_dir: bool) -> Option<u32> {
        match self {
            Self::Octal(mode) => Some(mode & 0o7777),
            Self::Symbolic(text) => {
                text.split(',').try_fold(old & 0o7777, |mode, clause| clause_on(clause, mode, old, is_dir))
            }
        }
    }
}

/// One clause, such as `u+x`, `go=`, `a=rX-w`.
fn clause_on(clause: &str, mut mode: u32, original: u32, is_dir: bool) -> Option<u32> {
    let n_who = clause.chars().take_while(|it| "ugoa".contains(*it)).count();
    let (who, mut actions) = clause.split_at(n_who);
    let mask = who.chars().fold(0, |mask, c| {
        mask | match c {
            'u' => 0o4700,
            'g' => 0o2070,
            'o' => 0o0007,
            _ => 0o7777,
        }
    });
    let mask = if mask == 0 { 0o7777 } else { mask };
    // Set-id and sticky mean nothing for "others" alone.
    let sticky = if mask == 0o0007 { 0 } else { 0o1000 };
    if actions.is_empty() {
        return None;
    }
    while let Some(operator) = actions.chars().next() {
        if !"+-=".contains(operator) {
            return None;
        }
        actions = &actions[1..];
        let n_bits = actions.find(['+', '-', '=']).unwrap_or(actions.len());
        let (letters, rest) = actions.split_at(n_bits);
        actions = rest;
        let bits = letters.chars().try_fold(0, |bits, c| {
            let class = |shift: u32| 0o111 * ((mode >> shift) & 0o7);
            Some(
                bits | match c {
                    'r' => 0o444 & mask,
                    'w' => 0o222 & mask,
                    'x' => 0o111 & mask,
                    'X' if is_dir || original & 0o111 != 0 => 0o111 & mask,
                    'X' => 0,
                    's' => 0o6000 & mask,
                    't' => sticky,
                    'u' => class(6) & mask,
                    'g' => class(3) & mask,
                    'o' => class(0) & mask,
                    _ => return None,
                },
            )
        })?;
        mode = match operator {
            '+' => mode | bits,
            '-' => mode & !bits,
            _ => mode & !mask | bits,
        };
    }
    Some(mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_change_as_the_table_says() {
        let table = [
            // mode, old, is directory, new
            ("u=rwX,go=rX", 0o755, true, 0o755),
            ("u=rwX,go=rX", 0o640, false, 0o644),
            ("u=rwX,go=rX", 0o100, false, 0o755),
            ("a+x", 0o644, false, 0o755),
            ("+x", 0o644, false, 0o755),
            ("go-r,u+s", 0o644, false, 0o4600),
            ("g=u", 0o750, false, 0o770),
            ("o=", 0o777, false, 0o770),
            ("u+x-w", 0o600, false, 0o500),
            ("+t", 0o777, true, 0o1777),
            ("o+t", 0o777, true, 0o777),
            ("g+s", 0o755, true, 0o2755),
            ("u=r", 0o4755, false, 0o455),
            ("=r", 0o7777, false, 0o444),
        ];
        for (text, old, is_dir, new) in table {
            let got = ModeChange::parse(text).expect("well formed").apply(old, is_dir);
            assert_eq!(got, Some(new), "{text} on {old:o} gives {:o}", got.unwrap_or(0));
        }
        assert_eq!(ModeChange::parse("4755").and_then(|mode| mode.apply(0o644, false)), Some(0o4755));
    }

    #[test]
    fn malformed_modes_are_refused() {
        for text in ["", "u", "u+q", "z+r", "u+r,", "ü+r", "+ü", "8", "10000", "u=gr "] {
            assert_eq!(ModeChange::parse(text), None, "{text}");
        }
        for text in ["", "u", "u+q", "z+r", "u+r,", "ü+r", "+ü"] {
            assert_eq!(ModeChange::Symbolic(text.to_owned()).apply(0o644, false), None, "{text}");
        }
    }
}
