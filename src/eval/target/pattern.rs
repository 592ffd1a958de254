//! Shell patterns over names: `*`, `?`, `[a-z]`, `[^a]`, `\x`, as Go's `path.Match` has them
//! (<https://pkg.go.dev/path#Match>). A `*` does not match a `/`.

/// The pattern is malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GlobError;

/// Whether a text has a character that makes it a pattern.
pub(crate) fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '[', '\\'])
}

/// Whether `name` matches.
///
/// # Errors
/// When a bracket is not closed or a backslash ends the pattern.
pub(crate) fn matches(pattern: &str, name: &str) -> Result<bool, GlobError> {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    check(&pattern)?;
    // One remembered star is enough: a later star always subsumes an earlier one.
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        if p < pattern.len() && pattern[p] == '*' {
            star = Some((p, n));
            p += 1;
            continue;
        }
        if n == name.len() {
            return Ok(p == pattern.len());
        }
        if let Some(width) = one(&pattern[p..], name[n]) {
            p += width;
            n += 1;
            continue;
        }
        match star {
            Some((at, from)) if name[from] != '/' => {
                star = Some((at, from + 1));
                p = at + 1;
                n = from + 1;
            }
            _ => return Ok(false),
        }
    }
}

/// The length of the pattern's first element, if it takes `c`.
fn one(pattern: &[char], c: char) -> Option<usize> {
    match *pattern.first()? {
        '?' => (c != '/').then_some(1),
        '\\' => (pattern[1] == c).then_some(2),
        '[' => {
            let (mut at, negated) = if pattern[1] == '^' { (2, true) } else { (1, false) };
            let mut found = false;
            let mut first = true;
            while first || pattern[at] != ']' {
                first = false;
                let low = bound(pattern, &mut at);
                let high = if pattern[at] == '-' {
                    at += 1;
                    bound(pattern, &mut at)
                } else {
                    low
                };
                found |= (low..=high).contains(&c);
            }
            (found != negated).then_some(at + 1)
        }
        plain => (plain == c).then_some(1),
    }
}

/// One end of a range; the pattern has been checked.
fn bound(pattern: &[char], at: &mut usize) -> char {
    if pattern[*at] == '\\' {
        *at += 1;
    }
    *at += 1;
    pattern[*at - 1]
}

/// Walks the pattern once, so that matching may index without looking.
fn check(pattern: &[char]) -> Result<(), GlobError> {
    let mut at = 0;
    while at < pattern.len() {
        match pattern[at] {
            '\\' if at + 1 == pattern.len() => return Err(GlobError),
            '\\' => at += 2,
            '[' => at = check_bracket(pattern, at + 1)?,
            _ => at += 1,
        }
    }
    Ok(())
}

/// The place after the bracket.
fn check_bracket(pattern: &[char], mut at: usize) -> Result<usize, GlobError> {
    let get = |at: usize| pattern.get(at).copied().ok_or(GlobError);
    if get(at)? == '^' {
        at += 1;
    }
    let bound = |at: &mut usize| match get(*at)? {
        '-' | ']' => Err(GlobError),
        '\\' => {
            get(*at + 1)?;
            *at += 2;
            Ok(())
        }
        _ => {
            *at += 1;
            Ok(())
        }
    };
    loop {
        bound(&mut at)?;
        if get(at)? == '-' {
            at += 1;
            bound(&mut at)?;
        }
        if get(at)? == ']' {
            return Ok(at + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_the_peer() {
        let check = |pattern: &str, name: &str, expected: bool| {
            assert_eq!(matches(pattern, name), Ok(expected), "{pattern} {name}");
        };
        check("*", "", true);
        check("a*c", "abbc", true);
        check("a*b*c", "axbxbxc", true);
        check("a*", "ba", false);
        check("app?", "app", false);
        check("app?", "app2", true);
        check("n[1-3]", "n2", true);
        check("n[^1-3]", "n2", false);
        check("b-[xz]", "b-z", true);
        check("\\*", "*", true);
        check("a*", "a/b", false);
        for bad in ["[", "[]", "[a", "a\\", "[a-]", "[-a]"] {
            assert_eq!(matches(bad, "x"), Err(GlobError), "{bad}");
        }
    }
}
