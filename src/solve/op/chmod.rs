//! Modes of `--chmod`: octal, or symbolic in the grammar of BSD chmod with umask 0.

use crate::graph::ModeChange;

/// The mode that a file or directory of mode `old` gets; `None` if the symbolic text is malformed.
pub(crate) fn apply(mode: &ModeChange, old: u32, is_dir: bool) -> Option<u32> {
    match mode {
        ModeChange::Octal(mode) => Some(mode & 0o7777),
        ModeChange::Symbolic(text) => {
            text.split(',').try_fold(old & 0o7777, |mode, clause| clause_on(clause, mode, old, is_dir))
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
            let got = apply(&ModeChange::Symbolic(text.to_owned()), old, is_dir);
            assert_eq!(got, Some(new), "{text} on {old:o} gives {:o}", got.unwrap_or(0));
        }
        assert_eq!(apply(&ModeChange::Octal(0o4755), 0o644, false), Some(0o4755));
    }

    #[test]
    fn malformed_modes_are_refused() {
        for text in ["", "u", "u+q", "z+r", "u+r,", "ü+r", "+ü"] {
            assert_eq!(apply(&ModeChange::Symbolic(text.to_owned()), 0o644, false), None, "{text}");
        }
    }
}
