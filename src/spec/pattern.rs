//! Path patterns in the grammar of `.dockerignore`, compiled once: for ignore files, `--exclude` and `--parents`.
//!
//! [`Patterns`] decides for a path in a list of patterns with `!` exceptions
//! (<https://docs.docker.com/build/concepts/context/#dockerignore-files>). It does not read ignore files
//! (`dockerfile::ignore`).
//!
//! It is not `spec::glob`, which matches one name and has no slash in it: here `**` crosses slashes, a class such as
//! `[^a]` may take a slash, and a pattern is taken apart so that the literal ones, which are nearly all, cost one
//! comparison in the walk of a context.

use super::path;

/// A compiled list of patterns; the last one that matches a path or one of its parents decides.
#[derive(Clone, Debug, Default)]
pub(crate) struct Patterns {
    list: Vec<Pattern>,
}

/// A malformed pattern of an ignore file or of `--exclude`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}: {pattern}")]
pub(crate) struct PatternError {
    pub(crate) pattern: String,
    pub(crate) why: &'static str,
}

/// The verdict on a directory, by which its children are decided without matching the parents again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// The path itself is matched.
    pub(crate) matched: bool,
    /// For each pattern: it matched the path or one of its parents.
    by_pattern: Vec<bool>,
}

#[derive(Clone, Debug)]
struct Pattern {
    /// `!pattern`.
    exception: bool,
    /// Every matching path starts with this.
    prefix: String,
    kind: PatternKind,
}

#[derive(Clone, Debug)]
enum PatternKind {
    /// The path is `prefix`.
    Exact,
    /// The path starts with `prefix`.
    Below,
    /// The path is this text, or ends in `/` and this text.
    Anywhere(String),
    /// The path is `prefix` followed by what these tokens match.
    General(Vec<PatternToken>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum PatternToken {
    Literal(char),
    /// `?`: one character that is not `/`.
    One,
    /// `*`: any characters that are not `/`.
    Some,
    /// `**/`: nothing, or anything that ends in `/`.
    Folders,
    /// `**` at the end: anything.
    Rest,
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Patterns {
    /// Compiles patterns; each may start with `!`.
    ///
    /// # Errors
    /// Names the first malformed pattern.
    pub(crate) fn new<T: AsRef<str>>(patterns: &[T]) -> Result<Self, PatternError> {
        let mut list = Vec::with_capacity(patterns.len());
        for pattern in patterns {
            list.extend(Pattern::parse(pattern.as_ref())?);
        }
        Ok(Self { list })
    }

    /// Whether there are no patterns.
    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether some pattern starts with `!`.
    pub(crate) fn has_exceptions(&self) -> bool {
        self.list.iter().any(|it| it.exception)
    }

    /// Whether the patterns of an ignore file hide `path` (relative, cleaned, with `/`; `.` or nothing for the root) and, if
    /// it is a directory, everything in it: the last pattern that takes the whole of it comes after all exceptions that could
    /// match it, a parent of it, or something in it.
    pub(crate) fn hide(&self, path: &str) -> bool {
        let is_root = matches!(path, "" | ".");
        let takes = |it: &Pattern| if is_root { it.takes_root() } else { parents(path).any(|part| it.matches(part)) };
        let excepts = |it: &Pattern| is_root || takes(it) || it.may_match_below(path);
        self.list.iter().fold(false, |hidden, it| match it.exception {
            false => hidden || takes(it),
            true => hidden && !excepts(it),
        })
    }

    /// Whether `path` (relative, cleaned, with `/`) is matched, by itself or through a parent.
    ///
    /// *Cost:* one test for each pattern and component; use [`enter`](Self::enter) and [`test`](Self::test) in a walk.
    pub(crate) fn matches(&self, path: &str) -> bool {
        self.list.iter().fold(false, |matched, pattern| {
            let hits = || parents(path).any(|it| pattern.matches(it));
            if matched == pattern.exception && hits() { !pattern.exception } else { matched }
        })
    }

    /// Computes the verdict for a directory inside `parent` (`Verdict::default()` for the root's children).
    pub(crate) fn enter(&self, parent: &Verdict, path: &str) -> Verdict {
        let mut matched = false;
        let mut by_pattern = Vec::with_capacity(self.list.len());
        for (i, pattern) in self.list.iter().enumerate() {
            let hit = parent.by_pattern.get(i).copied().unwrap_or(false) || pattern.matches(path);
            by_pattern.push(hit);
            if hit {
                matched = !pattern.exception;
            }
        }
        Verdict { matched, by_pattern }
    }

    /// Whether a path inside `parent` is matched.
    pub(crate) fn test(&self, parent: &Verdict, path: &str) -> bool {
        self.list.iter().enumerate().fold(false, |matched, (i, pattern)| {
            let hits = || parent.by_pattern.get(i).copied().unwrap_or(false) || pattern.matches(path);
            if matched == pattern.exception && hits() { !pattern.exception } else { matched }
        })
    }

    /// Whether an exception could match something below the directory `path`: a matched directory must then be walked
    /// all the same. May be true too often, never false wrongly.
    pub(crate) fn may_except_below(&self, path: &str) -> bool {
        self.list.iter().any(|it| it.exception && it.may_match_below(path))
    }

    /// Whether an ordinary pattern could match something below the directory `path`, which itself is not matched: with
    /// patterns that say what to include, another directory need not be walked.
    pub(crate) fn may_match_below(&self, path: &str) -> bool {
        self.list.iter().any(|it| !it.exception && it.may_match_below(path))
    }
}

impl Pattern {
    fn parse(text: &str) -> Result<Option<Self>, PatternError> {
        let bad = |why| PatternError { pattern: text.to_owned(), why };
        let trimmed = text.trim();
        if trimmed.is_empty() {
            return Ok(None);
        }
        let (exception, body) = match trimmed.strip_prefix('!') {
            Some("") => return Err(bad("an exception pattern has nothing after the exclamation mark")),
            Some(body) => (true, body.trim()),
            None => (false, trimmed),
        };
        let tokens = tokens(&path::clean(body)).map_err(bad)?;
        let n_literal = tokens.iter().take_while(|it| matches!(it, PatternToken::Literal(_))).count();
        let literal = |tokens: &[PatternToken]| -> Option<String> {
            tokens.iter().map(|token| if let PatternToken::Literal(c) = token { Some(*c) } else { None }).collect()
        };
        let prefix = literal(&tokens[..n_literal]).expect("these are literals");
        let rest = &tokens[n_literal..];
        let kind = match rest {
            [] => PatternKind::Exact,
            [PatternToken::Rest] => PatternKind::Below,
            [PatternToken::Folders, tail @ ..] if prefix.is_empty() && !tail.is_empty() && literal(tail).is_some() => {
                PatternKind::Anywhere(literal(tail).expect("just checked"))
            }
            _ => PatternKind::General(rest.to_vec()),
        };
        Ok(Some(Self { exception, prefix, kind }))
    }

    fn matches(&self, path: &str) -> bool {
        let Some(rest) = path.strip_prefix(self.prefix.as_str()) else { return false };
        match &self.kind {
            PatternKind::Exact => rest.is_empty(),
            PatternKind::Below => true,
            PatternKind::Anywhere(text) => {
                path.strip_suffix(text.as_str()).is_some_and(|before| before.is_empty() || before.ends_with('/'))
            }
            PatternKind::General(tokens) => run(tokens, rest),
        }
    }

    /// Whether it matches everything in the root: `*`, `**`, `**/*`.
    fn takes_root(&self) -> bool {
        use PatternToken::{Folders, Rest, Some};
        self.prefix.is_empty()
            && match &self.kind {
                PatternKind::Below => true,
                PatternKind::General(tokens) => matches!(tokens.as_slice(), [Some] | [Rest] | [Folders, Some]),
                _ => false,
            }
    }

    /// How many slashes every path has that the pattern matches, if that is the same for all.
    fn depth_of(&self, tokens: &[PatternToken]) -> Option<usize> {
        tokens.iter().try_fold(depth(&self.prefix), |slashes, token| match token {
            PatternToken::Literal('/') => Some(slashes + 1),
            PatternToken::Literal(_) | PatternToken::One | PatternToken::Some => Some(slashes),
            PatternToken::Folders | PatternToken::Rest | PatternToken::Class { .. } => None,
        })
    }

    fn may_match_below(&self, path: &str) -> bool {
        let inside = |text: &str| text.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'));
        match &self.kind {
            PatternKind::Exact => inside(&self.prefix),
            PatternKind::General(tokens) if self.depth_of(tokens).is_some_and(|it| it <= depth(path)) => false,
            _ => inside(&self.prefix) || path.starts_with(&self.prefix) || format!("{path}/").starts_with(&self.prefix),
        }
    }
}

/// The number of slashes in a path.
fn depth(path: &str) -> usize {
    path.matches('/').count()
}

/// `a`, `a/b`, `a/b/c` for `a/b/c`.
fn parents(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at]).chain(std::iter::once(path))
}

fn tokens(text: &str) -> Result<Vec<PatternToken>, &'static str> {
    let mut chars = text.chars().peekable();
    let mut tokens = Vec::new();
    while let Some(c) = chars.next() {
        tokens.push(match c {
            '*' if chars.peek() == Some(&'*') => {
                chars.next();
                if chars.peek() == Some(&'/') {
                    chars.next();
                }
                if chars.peek().is_none() { PatternToken::Rest } else { PatternToken::Folders }
            }
            '*' => PatternToken::Some,
            '?' => PatternToken::One,
            '[' => class(&mut chars)?,
            '\\' => PatternToken::Literal(chars.next().ok_or("syntax error in pattern, it ends in a backslash")?),
            c => PatternToken::Literal(c),
        });
    }
    Ok(tokens)
}

/// The rest of `[^a-z]` after the bracket.
fn class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<PatternToken, &'static str> {
    const OPEN: &str = "syntax error in pattern, a bracket is not closed";
    let negated = chars.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    let one = |chars: &mut std::iter::Peekable<std::str::Chars<'_>>| match chars.next() {
        Some('\\') => chars.next().ok_or(OPEN),
        Some('-') => Err("syntax error in pattern, a range has no start"),
        Some(c) => Ok(c),
        None => Err(OPEN),
    };
    loop {
        if chars.peek() == Some(&']') {
            chars.next();
            return if ranges.is_empty() {
                Err("syntax error in pattern, a class is empty")
            } else {
                Ok(PatternToken::Class { negated, ranges })
            };
        }
        let low = one(chars)?;
        let high = if chars.next_if_eq(&'-').is_some() {
            match chars.peek() {
                Some(']') | None => return Err("syntax error in pattern, a range has no end"),
                Some(_) => one(chars)?,
            }
        } else {
            low
        };
        ranges.push((low, high));
    }
}

/// Whether the tokens match all of `text`: all positions that can be reached are followed at once, so that the time is
/// bounded by length × tokens whatever the pattern.
fn run(tokens: &[PatternToken], text: &str) -> bool {
    let n = tokens.len();
    let mut now = vec![false; n + 1];
    let mut next = vec![false; n + 1];
    reach(tokens, &mut now, 0);
    for c in text.chars() {
        next.fill(false);
        for (i, token) in tokens.iter().enumerate().filter(|(i, _)| now[*i]) {
            match token {
                PatternToken::Literal(it) if *it == c => reach(tokens, &mut next, i + 1),
                PatternToken::One if c != '/' => reach(tokens, &mut next, i + 1),
                PatternToken::Some if c != '/' => reach(tokens, &mut next, i),
                PatternToken::Rest => reach(tokens, &mut next, i),
                // Having read something, only a `/` leads on.
                PatternToken::Folders => {
                    next[i] = true;
                    if c == '/' {
                        reach(tokens, &mut next, i + 1);
                    }
                }
                PatternToken::Class { negated, ranges }
                    if ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != *negated =>
                {
                    reach(tokens, &mut next, i + 1);
                }
                _ => (),
            }
        }
        std::mem::swap(&mut now, &mut next);
        if !now.contains(&true) {
            return false;
        }
    }
    now[n]
}

/// Marks a position, and those after it that need no character.
fn reach(tokens: &[PatternToken], states: &mut [bool], mut i: usize) {
    states[i] = true;
    while matches!(tokens.get(i), Some(PatternToken::Some | PatternToken::Rest | PatternToken::Folders)) {
        i += 1;
        states[i] = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(patterns: &[&str], path: &str) -> bool {
        let compiled = Patterns::new(patterns).expect("the patterns are fine");
        let whole = compiled.matches(path);
        let mut verdict = Verdict::default();
        let parts: Vec<&str> = parents(path).collect();
        for parent in &parts[..parts.len() - 1] {
            verdict = compiled.enter(&verdict, parent);
        }
        assert_eq!(compiled.test(&verdict, path), whole, "{patterns:?} {path}");
        assert_eq!(compiled.enter(&verdict, path).matched, whole, "{patterns:?} {path}");
        whole
    }

    #[test]
    fn patterns_match_as_the_table_says() {
        let table: &[(&[&str], &str, &str)] = &[
            // patterns, matched paths, paths that are not
            (&["a.txt"], "a.txt a.txt/x", "d/a.txt a.txtx"),
            (&["*.md"], "a.md .md", "d/a.md a.mdx"),
            (&["**/*.md"], "a.md d/a.md d/e/a.md", "a.mdx"),
            (&["**/node_modules"], "node_modules a/node_modules a/node_modules/b", "xnode_modules a/xnode_modules"),
            (&["d/**"], "d/a d/a/b", "d dx"),
            (&["**"], "a a/b", ""),
            (&["*"], "a a/b", ""),
            (&["d/**/*.txt"], "d/a.txt d/e/a.txt d/e/f/a.txt", "a.txt d/a.txtx"),
            (&["a/**/b"], "a/b a/x/b a/x/y/b", "ab a/xb"),
            (&["?.txt"], "a.txt", "ab.txt /.txt"),
            (&["[ab].*"], "a.txt b.x", "c.txt ab"),
            (&["[^a-c].x"], "d.x", "a.x b.x"),
            (&["a\\*b"], "a*b", "axb"),
            (&["*/e"], "d/e d/e/f", "e d/x/e"),
            (&["*", "!a.txt", "!d/e"], "b d d/f", "a.txt d/e d/e/f"),
            (&["!a.txt", "*.txt"], "a.txt", "b"),
            (&["d", "!d/e/f.txt"], "d d/e d/x", "d/e/f.txt"),
            (&["**", "!**/*.txt"], "a d/b", "a.txt d/e/f.txt"),
            (&["a", "!a/b", "a/b/c"], "a a/x a/b/c a/b/c/d", "a/b a/b/d"),
            (&["/b/"], "/b", "b"),
            (&["../a"], "../a", "a"),
            (&["a**b"], "ab ax/b", "axb"),
        ];
        for (patterns, yes, no) in table {
            yes.split_whitespace().for_each(|path| assert!(decide(patterns, path), "{patterns:?} matches {path}"));
            no.split_whitespace().for_each(|path| assert!(!decide(patterns, path), "{patterns:?} leaves {path}"));
        }
    }

    #[test]
    fn what_an_ignore_file_hides_as_a_whole_is_known() {
        let hidden = |patterns: &[&str], path: &str| Patterns::new(patterns).expect("fine").hide(path);
        let table: &[(&[&str], &str, &str)] = &[
            (&["*", "!a.txt", "!sub/keep"], "secret.txt other/x", "a.txt sub sub/keep ."),
            (&["*", "!sub", "sub/no"], "sub/no sub/no/x", "sub sub/yes"),
            (&["!a", "*"], "a . b", ""),
            (&["d", "!d/e", "d"], "d d/e", "."),
            (&["*", "!**/*.c"], "", "src d/src a.c ."),
            (&["**/x", "!keep"], "x d/x", "keep d ."),
            (&["a.txt"], "a.txt", "b ."),
        ];
        for (patterns, yes, no) in table {
            yes.split_whitespace().for_each(|path| assert!(hidden(patterns, path), "{patterns:?} hide {path}"));
            no.split_whitespace().for_each(|path| assert!(!hidden(patterns, path), "{patterns:?} leave {path}"));
        }
        assert!(hidden(&["**"], "") && !hidden(&[], ""));
    }

    #[test]
    fn malformed_patterns_are_named() {
        let fault = |it: &str| Patterns::new(&[it]).expect_err("it is malformed").to_string();
        assert_eq!(fault("[a"), "syntax error in pattern, a bracket is not closed: [a");
        assert_eq!(fault("!"), "an exception pattern has nothing after the exclamation mark: !");
        assert_eq!(fault("a\\"), "syntax error in pattern, it ends in a backslash: a\\");
        assert!(fault("[]").contains("empty"));
    }

    #[test]
    fn a_long_pattern_takes_bounded_time() {
        let pattern = "*a".repeat(200);
        let path = "a".repeat(5000);
        assert!(decide(&[&pattern], &path));
        assert!(!decide(&[&pattern], &format!("{path}b")));
    }

    #[test]
    fn directories_that_may_hold_exceptions_are_walked() {
        let patterns = Patterns::new(&["d", "!d/e/f", "!**/z"]).expect("fine");
        assert!(patterns.may_except_below("d") && patterns.may_except_below("d/e") && patterns.may_except_below("q"));
        let patterns = Patterns::new(&["*", "!d/e/f", "!src/*.c"]).expect("fine");
        assert!(patterns.may_except_below("d") && patterns.may_except_below("src"));
        assert!(!patterns.may_except_below("q") && !patterns.may_except_below("dx"));
        assert!(!patterns.may_except_below("src/deep"));
        let patterns = Patterns::new(&["*", "!*.md", "!*/*/?x", "![ab]/c"]).expect("fine");
        assert!(patterns.may_except_below("q/r") && patterns.may_except_below("a/b/c/d"), "a class may take a slash");
        let patterns = Patterns::new(&["*", "!*.md", "!*/*/?x"]).expect("fine");
        assert!(patterns.may_except_below("q/r") && !patterns.may_except_below("q/r/s"));
    }
}
