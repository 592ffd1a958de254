//! Regular expressions of RE2's syntax, run by the `regex` crate after a translation of where the two differ: `\d`, `\w`,
//! `\s`, `\b` are ASCII, `\Q…\E` quotes, `[` and doubled signs are plain inside a class, a `{` that counts nothing is plain.

use std::{collections::BTreeMap, sync::Arc};

use regex::{Captures, Regex};

use super::builtin::{Builtin, FunctionCall, FunctionError, FunctionWorld, MAX_TEXT, Param, ParamType, param, row};
use crate::eval::value::types::{Type, Value};

/// The longest compiled pattern, in bytes.
const MAX_COMPILED: usize = 4 << 20;
/// How many compiled patterns are kept.
const MAX_KEPT: usize = 500;

const PATTERN: Param = param("pattern", ParamType::String);
const STRING: Param = param("string", ParamType::String);

pub(super) const FUNCTIONS: &[Builtin] = &[
    row("regex", &[PATTERN, STRING], None, "the first match of a pattern: its text, or its groups", regex),
    row(
        "regex_replace",
        &[STRING, PATTERN, param("replace", ParamType::String)],
        None,
        "the text with all matches replaced; `$1` and `${name}` are groups",
        regex_replace,
    ),
    row("regexall", &[PATTERN, STRING], None, "all matches of a pattern", regexall),
];

/// Converts a match to a value.
enum CaptureShape {
    Text,
    Groups,
    Named(Vec<Arc<str>>),
}

fn compile(world: &FunctionWorld, pattern: &str, argument: usize) -> Result<Regex, FunctionError> {
    if let Some(known) = world.patterns.borrow().get(pattern) {
        return Ok(known.clone());
    }
    let compiled = regex::RegexBuilder::new(&translate(pattern)).octal(true).size_limit(MAX_COMPILED).build();
    let compiled = compiled.map_err(|error| {
        let why = error.to_string();
        let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        FunctionError::at(argument, format!("not a regular expression: {why}: {pattern:?}"))
    })?;
    let mut patterns = world.patterns.borrow_mut();
    if patterns.len() >= MAX_KEPT {
        patterns.clear();
    }
    patterns.insert(pattern.to_owned(), compiled.clone());
    Ok(compiled)
}

fn shape(regex: &Regex) -> Result<CaptureShape, FunctionError> {
    let groups = regex.captures_len() - 1;
    let names: Vec<Arc<str>> = regex.capture_names().flatten().map(Arc::from).collect();
    match (groups, names.len()) {
        (0, _) => Ok(CaptureShape::Text),
        (_, 0) => Ok(CaptureShape::Groups),
        (groups, named) if groups == named => Ok(CaptureShape::Named(names)),
        _ => Err(FunctionError::at(0, "a pattern cannot have both named and unnamed groups")),
    }
}

impl CaptureShape {
    fn ty(&self, groups: usize) -> Type {
        match self {
            Self::Text => Type::String,
            Self::Groups => Type::tuple(vec![Type::String; groups]),
            Self::Named(names) => {
                Type::Object(Arc::new(names.iter().map(|name| (name.clone(), (Type::String, false))).collect()))
            }
        }
    }

    fn value(&self, found: &Captures<'_>) -> Value {
        let group = |found: Option<regex::Match<'_>>| {
            found.map_or(Value::Null(Type::String), |found| Value::string(found.as_str()))
        };
        match self {
            Self::Text => group(found.get(0)),
            Self::Groups => Value::tuple(found.iter().skip(1).map(group).collect()),
            Self::Named(names) => Value::object(
                names.iter().map(|name| (name.clone(), group(found.name(name)))).collect::<BTreeMap<_, _>>(),
            ),
        }
    }
}

fn regex(call: &FunctionCall<'_>) -> Result<Value, FunctionError> {
    let regex = compile(call.world, call.text(0), 0)?;
    let shape = shape(&regex)?;
    let found = regex.captures(call.text(1));
    found
        .map(|found| shape.value(&found))
        .ok_or_else(|| FunctionError::at(1, "the pattern matches no part of the text"))
}

fn regexall(call: &FunctionCall<'_>) -> Result<Value, FunctionError> {
    let regex = compile(call.world, call.text(0), 0)?;
    let shape = shape(&regex)?;
    let found = regex.captures_iter(call.text(1)).map(|found| shape.value(&found)).collect();
    Ok(Value::list(shape.ty(regex.captures_len() - 1), found))
}

fn regex_replace(call: &FunctionCall<'_>) -> Result<Value, FunctionError> {
    let regex = compile(call.world, call.text(1), 1)?;
    let (text, replacement) = (call.text(0), call.text(2));
    let mut out = String::new();
    let mut last = 0;
    for found in regex.captures_iter(text) {
        let whole = found.get(0).expect("group 0 is the match");
        out.push_str(&text[last..whole.start()]);
        found.expand(replacement, &mut out);
        last = whole.end();
        if out.len() > MAX_TEXT {
            return Err(FunctionError::new("the result is too long"));
        }
    }
    out.push_str(&text[last..]);
    Ok(Value::string(out))
}

/// The pattern in the syntax of the `regex` crate.
fn translate(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut rest = pattern;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        rest = match c {
            '\\' => escape(after, false, &mut out),
            '[' => class(after, &mut out),
            '{' if !is_count(after) => {
                out.push_str("\\{");
                after
            }
            _ => {
                out.push(c);
                after
            }
        };
    }
    out
}

/// Whether the text after `{` is `2}`, `2,}` or `2,3}`.
fn is_count(text: &str) -> bool {
    let Some((inside, _)) = text.split_once('}') else { return false };
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    match inside.split_once(',') {
        Some((least, most)) => !least.is_empty() && digits(least) && digits(most),
        None => !inside.is_empty() && digits(inside),
    }
}

/// Translates the escape after a backslash.
fn escape<'a>(text: &'a str, in_class: bool, out: &mut String) -> &'a str {
    let Some(c) = text.chars().next() else {
        out.push('\\');
        return text;
    };
    let after = &text[c.len_utf8()..];
    let class = match c {
        'd' => "[:digit:]",
        'D' => "[:^digit:]",
        'w' => "[:word:]",
        'W' => "[:^word:]",
        's' => r"\t\n\x0C\r\x20",
        'S' if in_class => r"[^\t\n\x0C\r\x20]",
        'S' => r"^\t\n\x0C\r\x20",
        _ => "",
    };
    match c {
        _ if !class.is_empty() && in_class => out.push_str(class),
        _ if !class.is_empty() => {
            out.push('[');
            out.push_str(class);
            out.push(']');
        }
        'b' => out.push_str(r"(?-u:\b)"),
        'Q' => {
            let (quoted, rest) = after.split_once("\\E").unwrap_or((after, ""));
            out.push_str(&regex::escape(quoted));
            return rest;
        }
        _ => {
            out.push('\\');
            out.push(c);
        }
    }
    after
}

/// A class, after its `[`.
fn class<'a>(text: &'a str, out: &mut String) -> &'a str {
    out.push('[');
    let mut rest = text;
    if let Some(after) = rest.strip_prefix('^') {
        out.push('^');
        rest = after;
    }
    let mut first = true;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        rest = match c {
            ']' if !first => {
                out.push(']');
                return after;
            }
            ']' => {
                out.push_str("\\]");
                after
            }
            '\\' => escape(after, true, out),
            '[' => match after.strip_prefix(':').and_then(|named| named.find(":]")) {
                Some(end) => {
                    out.push('[');
                    out.push_str(&after[..end + 3]);
                    &after[end + 3..]
                }
                None => {
                    out.push_str("\\[");
                    after
                }
            },
            '&' | '~' => {
                out.push('\\');
                out.push(c);
                after
            }
            '-' if after.starts_with('-') || first => {
                out.push_str("\\-");
                after
            }
            _ => {
                out.push(c);
                after
            }
        };
        first = false;
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_ascii_and_quotes_work() {
        for (pattern, text, matches) in [
            (r"^\d+$", "123", true),
            (r"^\d+$", "١٢٣", false),
            (r"^[\w.-]+$", "a_b-c.d", true),
            (r"^\w$", "é", false),
            (r"^[^\s]+$", "a b", false),
            (r"^[\S]$", "x", true),
            (r"^\Qa.b\E$", "a.b", true),
            (r"^\Qa.b\E$", "axb", false),
            (r"^a{x}$", "a{x}", true),
            (r"^a{2}$", "aa", true),
            (r"^[a[]$", "[", true),
            (r"^[]a]$", "]", true),
            (r"^[[:alpha:]]+$", "ab", true),
            (r"^[a&&b]$", "&", true),
            (r"^[--/]$", ".", true),
            (r"\bfoo\b", "a foo b", true),
            (r"^\x41\x{42}\pL$", "ABc", true),
            (r"(?i)^ABC$", "abc", true),
        ] {
            let compiled = Regex::new(&translate(pattern)).unwrap_or_else(|error| panic!("{pattern}: {error}"));
            assert_eq!(compiled.is_match(text), matches, "{pattern} on {text}");
        }
    }
}
