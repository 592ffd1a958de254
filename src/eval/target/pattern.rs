//! Shell patterns over names of targets and files (`spec::glob`).

use std::ffi::OsStr;

use crate::spec::glob::NameGlob;

/// A pattern of target names is malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GlobError;

/// Whether a text has a character that makes it a pattern.
pub(crate) fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '[', '\\'])
}

/// Whether a name matches a pattern (see [`NameGlob`]).
///
/// # Errors
/// When a bracket is not closed or a backslash ends the pattern.
pub(crate) fn matches(pattern: &str, name: &str) -> Result<bool, GlobError> {
    let glob = NameGlob::parse(pattern).map_err(|_| GlobError)?;
    Ok(glob.matches(OsStr::new(name)))
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
