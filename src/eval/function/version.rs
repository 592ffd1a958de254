//! Semantic versions and constraints on them, as Masterminds/semver for Go has them
//! (<https://github.com/Masterminds/semver>).
//!
//! The crate `semver` (1.0.28) was tried and not taken. Of 16 questions to which Masterminds/semver has an answer it refuses six
//! (blanks between comparators, `||`, `!=`, `1.2 - 1.4.5`, the versions `1.2` and `v1.2.3`) and answers three otherwise: a lone
//! `1.2.3` means `^1.2.3` there, and a pre-release fits only comparators of the same three numbers.

use std::{cmp::Ordering, iter::Peekable, str::Chars};

use super::builtin::{Builtin, FunctionCall, FunctionError, ParamType, param, row};
use crate::eval::value::types::Value;

pub(super) const FUNCTIONS: &[Builtin] = &[row(
    "semvercmp",
    &[param("version", ParamType::String), param("constraint", ParamType::String)],
    None,
    "whether a version satisfies a constraint such as `>=1.2, <2 || ^3`",
    semvercmp,
)];

fn semvercmp(call: &FunctionCall<'_>) -> Result<Value, FunctionError> {
    let version = Version::parse(call.text(0))
        .ok_or_else(|| FunctionError::at(0, format!("not a version such as `1.2.3`: {:?}", call.text(0))))?;
    let groups: Option<Vec<_>> = call.text(1).split("||").map(parse_group).collect();
    let groups = groups.ok_or_else(|| {
        FunctionError::at(1, format!("not a version constraint such as `>=1.2, <2`: {:?}", call.text(1)))
    })?;
    // A pre-release satisfies only a group that itself names one.
    let fits = |group: &Vec<Constraint>| {
        (version.pre.is_empty() || group.iter().any(|constraint| !constraint.version.pre.is_empty()))
            && group.iter().all(|constraint| constraint.allows(&version))
    };
    Ok(Value::Bool(groups.iter().any(fits)))
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Version {
    numbers: [u64; 3],
    pre: String,
}

impl Version {
    /// Tolerates a leading `v` and missing parts.
    fn parse(text: &str) -> Option<Self> {
        let mut reader = VersionReader { rest: text.chars().peekable() };
        let partial = reader.partial()?;
        let none_open = reader.rest.next().is_none() && partial.wildcard_from.is_none();
        none_open.then_some(partial.version)
    }

    fn compare(&self, other: &Self) -> Ordering {
        self.numbers.cmp(&other.numbers).then_with(|| compare_pre(&self.pre, &other.pre))
    }
}

/// Pre-releases come before the release; their parts compare as numbers where both are.
fn compare_pre(a: &str, b: &str) -> Ordering {
    match (a.is_empty(), b.is_empty()) {
        (true, true) => return Ordering::Equal,
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        (false, false) => (),
    }
    let number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let (mut a, mut b) = (a.split('.'), b.split('.'));
    loop {
        let order = match (a.next(), b.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => Ordering::Less,
            (Some(_), None) => Ordering::Greater,
            (Some(a), Some(b)) => match (number(a), number(b)) {
                // Without leading zeros the longer number is the larger.
                (true, true) => a.len().cmp(&b.len()).then_with(|| a.cmp(b)),
                (true, false) => Ordering::Less,
                (false, true) => Ordering::Greater,
                (false, false) => a.cmp(b),
            },
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum VersionOperator {
    Equal,
    NotEqual,
    Greater,
    GreaterEqual,
    Less,
    LessEqual,
    Tilde,
    Caret,
}

/// A version with the index of the first part that is missing or a wildcard.
struct Partial {
    version: Version,
    open_from: Option<usize>,
    /// As `open_from`, but only for a wildcard that was written.
    wildcard_from: Option<usize>,
}

struct Constraint {
    op: VersionOperator,
    version: Version,
    open_from: Option<usize>,
}

impl Constraint {
    fn allows(&self, version: &Version) -> bool {
        let order = version.compare(&self.version);
        let same = |parts: usize| version.numbers[..parts] == self.version.numbers[..parts];
        // Parts that must agree where the rest is open.
        let fixed = self.open_from.unwrap_or(3);
        match self.op {
            VersionOperator::Equal => {
                if self.open_from.is_some() {
                    self.tilde(version, order)
                } else {
                    order.is_eq()
                }
            }
            VersionOperator::NotEqual => match self.open_from {
                None => order.is_ne(),
                Some(2) if same(2) => {
                    (!version.pre.is_empty() || !self.version.pre.is_empty())
                        && compare_pre(&version.pre, &self.version.pre).is_ne()
                }
                Some(fixed) => !same(fixed),
            },
            VersionOperator::Greater => {
                if self.open_from.is_some() {
                    version.numbers[..fixed] > self.version.numbers[..fixed]
                } else {
                    order.is_gt()
                }
            }
            VersionOperator::GreaterEqual => order.is_ge(),
            VersionOperator::Less => order.is_lt(),
            VersionOperator::LessEqual => {
                if self.open_from.is_some() {
                    version.numbers[..fixed] <= self.version.numbers[..fixed]
                } else {
                    order.is_le()
                }
            }
            VersionOperator::Tilde => self.tilde(version, order),
            VersionOperator::Caret => order.is_ge() && same(self.caret_parts()),
        }
    }

    /// At least the version, with the same major and, unless it is open, minor part.
    fn tilde(&self, version: &Version, order: Ordering) -> bool {
        let anything = self.open_from == Some(0) || (self.open_from.is_none() && self.version.numbers == [0, 0, 0]);
        let parts = if self.open_from == Some(1) { 1 } else { 2 };
        order.is_ge() && (anything || version.numbers[..parts] == self.version.numbers[..parts])
    }

    /// How many leading parts `^` keeps: up to the first that is not zero.
    fn caret_parts(&self) -> usize {
        let [major, minor, _] = self.version.numbers;
        if self.open_from == Some(0) {
            return 0;
        }
        if major > 0 || self.open_from == Some(1) {
            1
        } else if minor > 0 || self.open_from == Some(2) {
            2
        } else {
            3
        }
    }
}

/// Constraints that all must hold, separated by commas or blanks; `a - b` is a range.
fn parse_group(text: &str) -> Option<Vec<Constraint>> {
    let mut reader = VersionReader { rest: text.chars().peekable() };
    let mut group = Vec::new();
    loop {
        reader.blanks();
        let op = reader.op()?;
        reader.blanks();
        let Partial { version, open_from, .. } = reader.partial()?;
        let spaced = reader.blanks();
        if spaced && reader.rest.peek() == Some(&'-') {
            reader.rest.next();
            if op.is_some() || !reader.blanks() {
                return None;
            }
            group.push(Constraint { op: VersionOperator::GreaterEqual, version, open_from });
            let Partial { version, open_from, .. } = reader.partial()?;
            group.push(Constraint { op: VersionOperator::LessEqual, version, open_from });
        } else {
            group.push(Constraint { op: op.unwrap_or(VersionOperator::Equal), version, open_from });
        }
        let spaced = reader.blanks() || spaced;
        match reader.rest.peek() {
            None => return Some(group),
            Some(',') => {
                reader.rest.next();
            }
            Some(_) if spaced => (),
            Some(_) => return None,
        }
    }
}

struct VersionReader<'a> {
    rest: Peekable<Chars<'a>>,
}

impl VersionReader<'_> {
    fn blanks(&mut self) -> bool {
        let mut any = false;
        while self.rest.next_if(|c| c.is_ascii_whitespace()).is_some() {
            any = true;
        }
        any
    }

    /// The operator, `None` inside for none written; `None` outside for an unknown one.
    fn op(&mut self) -> Option<Option<VersionOperator>> {
        let mut written = String::new();
        while let Some(c) = self.rest.next_if(|c| "=!<>~^".contains(*c)) {
            written.push(c);
        }
        Some(Some(match written.as_str() {
            "" => return Some(None),
            "=" => VersionOperator::Equal,
            "!=" => VersionOperator::NotEqual,
            ">" => VersionOperator::Greater,
            ">=" | "=>" => VersionOperator::GreaterEqual,
            "<" => VersionOperator::Less,
            "<=" | "=<" => VersionOperator::LessEqual,
            "~" | "~>" => VersionOperator::Tilde,
            "^" => VersionOperator::Caret,
            _ => return None,
        }))
    }

    /// `v1.2.3-pre+meta`, any part after the first missing, any part `x`, `X` or `*`.
    fn partial(&mut self) -> Option<Partial> {
        self.rest.next_if_eq(&'v');
        let mut numbers = [0; 3];
        let mut open_from = None;
        let mut wildcard_from = None;
        for (i, number) in numbers.iter_mut().enumerate() {
            if i > 0 && self.rest.next_if_eq(&'.').is_none() {
                open_from = open_from.or(Some(i));
                break;
            }
            if self.rest.next_if(|c| matches!(c, 'x' | 'X' | '*')).is_some() {
                open_from = open_from.or(Some(i));
                wildcard_from = wildcard_from.or(Some(i));
                continue;
            }
            let digits = self.run(|c| c.is_ascii_digit());
            let value = digits.parse().ok()?;
            *number = if open_from.is_some() { 0 } else { value };
        }
        let pre = if self.rest.next_if_eq(&'-').is_some() { self.identifiers(true)? } else { String::new() };
        if self.rest.next_if_eq(&'+').is_some() {
            self.identifiers(false)?;
        }
        Some(Partial { version: Version { numbers, pre }, open_from, wildcard_from })
    }

    fn run(&mut self, keep: fn(&char) -> bool) -> String {
        let mut out = String::new();
        while let Some(c) = self.rest.next_if(keep) {
            out.push(c);
        }
        out
    }

    /// Dot-separated identifiers; in a pre-release numbers have no leading zero.
    fn identifiers(&mut self, pre: bool) -> Option<String> {
        let text = self.run(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'));
        let fine = |part: &str| {
            let numeric = part.bytes().all(|byte| byte.is_ascii_digit());
            let padded = numeric && part.len() > 1 && part.starts_with('0');
            let refused = part.is_empty() || (pre && padded);
            !refused
        };
        text.split('.').all(fine).then_some(text)
    }
}
