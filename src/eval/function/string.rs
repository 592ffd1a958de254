//! Functions of text. A character is what a reader sees as one: a grapheme cluster.

use unicode_segmentation::UnicodeSegmentation;

use super::builtin::{Builtin, FunctionCall, FunctionError, MAX_TEXT, Param, ParamType, param, row};
use crate::eval::value::types::{Type, Value};

const STR: Param = param("str", ParamType::String);

pub(super) const FUNCTIONS: &[Builtin] = &[
    row("chomp", &[STR], None, "the text without the line ends at its end", |call| {
        Ok(Value::string(call.text(0).trim_end_matches(['\r', '\n'])))
    }),
    row("indent", &[param("spaces", ParamType::Number), STR], None, "the text with spaces after each line end", indent),
    row(
        "join",
        &[param("separator", ParamType::String)],
        Some(param("lists", ParamType::Strings)),
        "the items of all lists as one text",
        join,
    ),
    row("lower", &[STR], None, "the text in lower case", |call| Ok(Value::string(lower(call.text(0))))),
    row(
        "replace",
        &[STR, param("substr", ParamType::String), param("replace", ParamType::String)],
        None,
        "the text with every occurrence of a part replaced",
        replace,
    ),
    row("reverse", &[STR], None, "the characters in reverse order", |call| {
        Ok(Value::string(call.text(0).graphemes(true).rev().collect::<String>()))
    }),
    row(
        "sanitize",
        &[param("name", ParamType::String)],
        None,
        "the text with `_` for all that a target name may not hold",
        sanitize,
    ),
    row(
        "split",
        &[param("separator", ParamType::String), STR],
        None,
        "the parts of the text between separators",
        split,
    ),
    row("strlen", &[STR], None, "how many characters the text has", |call| {
        Ok(Value::Number(crate::eval::value::number::Number::from_usize(character_count(call.text(0)))))
    }),
    row(
        "substr",
        &[STR, param("offset", ParamType::Number), param("length", ParamType::Number)],
        None,
        "a part of the text; a negative offset counts from the end, length -1 is all the rest",
        substr,
    ),
    row("title", &[STR], None, "the text with the first letter of each word in upper case", |call| {
        Ok(Value::string(title(call.text(0))))
    }),
    row(
        "trim",
        &[STR, param("cutset", ParamType::String)],
        None,
        "the text without these characters at its ends",
        trim,
    ),
    row("trimprefix", &[STR, param("prefix", ParamType::String)], None, "the text without this start", |call| {
        Ok(Value::string(call.text(0).strip_prefix(call.text(1)).unwrap_or(call.text(0))))
    }),
    row("trimspace", &[STR], None, "the text without blanks at its ends", |call| {
        Ok(Value::string(call.text(0).trim()))
    }),
    row("trimsuffix", &[STR, param("suffix", ParamType::String)], None, "the text without this end", |call| {
        Ok(Value::string(call.text(0).strip_suffix(call.text(1)).unwrap_or(call.text(0))))
    }),
    row("upper", &[STR], None, "the text in upper case", |call| Ok(Value::string(upper(call.text(0))))),
];

/// The number of characters as a reader counts them: extended grapheme clusters (Unicode annex 29).
pub(super) fn character_count(text: &str) -> usize {
    // Only CR LF joins two ASCII characters.
    if text.is_ascii() && !text.contains('\r') { text.len() } else { text.graphemes(true).count() }
}

/// The one-to-one upper case of a character: `ß` has none and stays.
fn upper_char(c: char) -> char {
    let mut upper = c.to_uppercase();
    match (upper.next(), upper.next()) {
        (Some(only), None) => only,
        _ => c,
    }
}

fn upper(text: &str) -> String {
    if text.is_ascii() { text.to_ascii_uppercase() } else { text.chars().map(upper_char).collect() }
}

fn lower(text: &str) -> String {
    let lower_char = |c: char| c.to_lowercase().next().unwrap_or(c);
    if text.is_ascii() { text.to_ascii_lowercase() } else { text.chars().map(lower_char).collect() }
}

fn title(text: &str) -> String {
    let mut starts_word = true;
    let each = |c: char| {
        let shown = if starts_word { upper_char(c) } else { c };
        starts_word = if c.is_ascii() {
            !(c.is_ascii_alphanumeric() || c == '_')
        } else {
            !c.is_alphanumeric() && c.is_whitespace()
        };
        shown
    };
    text.chars().map(each).collect()
}

fn indent(call: &FunctionCall<'_>) -> Result<Value, FunctionError> {
    let (spaces, text) = (call.integer(0)?, call.text(1));
    let lines = text.matches('\n').count();
    let size = usize::try_from(spaces).ok().and_then(|spaces| spaces.checked_mul(lines.max(1)));
    let Some(size) = size.filter(|size| size.saturating_add(text.len()) <= MAX_TEXT) else {
        return Err(FunctionError::at(0, format!("the number of spaces is negative or too large: {spaces}")));
    };
    let pad = " ".repeat(size / lines.max(1));
    Ok(Value::string(text.replace('\n', &format!("\n{pad}"))))
}

fn join(call: &FunctionCall<'_>) -> Result<Value, FunctionError> {
    if call.args.len() < 2 {
        return Err(FunctionError::new("at least one list is required"));
    }
    let separator = call.text(0);
    let mut out = String::new();
    let mut first = true;
    for list in 1..call.args.len() {
        for (i, item) in call.items(list).iter().enumerate() {
            let Some(text) = item.as_str() else {
                return Err(FunctionError::at(list, format!("item {i} is null and cannot be joined")));
            };
            if !first {
                out.push_str(separator);
            }
            first = false;
            out.push_str(text);
            if out.len() > MAX_TEXT {
                return Err(FunctionError::new("the result is too long"));
            }
        }
    }
    Ok(Value::string(out))
}

fn replace(call: &FunctionCall<'_>) -> Result<Value, FunctionError> {
    let (text, old, new) = (call.text(0), call.text(1), call.text(2));
    let size = text.matches(old).count().checked_mul(new.len()).and_then(|size| size.checked_add(text.len()));
    if size.is_none_or(|size| size > MAX_TEXT) {
        return Err(FunctionError::new("the result is too long"));
    }
    Ok(Value::string(text.replace(old, new)))
}

fn sanitize(call: &FunctionCall<'_>) -> Result<Value, FunctionError> {
    let allowed = |c: char| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '_' };
    Ok(Value::string(call.text(0).chars().map(allowed).collect::<String>()))
}

fn split(call: &FunctionCall<'_>) -> Result<Value, FunctionError> {
    let (separator, text) = (call.text(0), call.text(1));
    if separator.is_empty() {
        return Ok(Value::list(Type::String, text.chars().map(|c| Value::string(c.to_string())).collect()));
    }
    Ok(Value::string_list(text.split(separator)))
}

fn trim(call: &FunctionCall<'_>) -> Result<Value, FunctionError> {
    let cutset = call.text(1);
    Ok(Value::string(call.text(0).trim_matches(|c| cutset.contains(c))))
}

fn substr(call: &FunctionCall<'_>) -> Result<Value, FunctionError> {
    let (text, offset, length) = (call.text(0), call.integer(1)?, call.integer(2)?);
    let offset = if offset < 0 {
        let total = i64::try_from(character_count(text)).unwrap_or(i64::MAX);
        offset.saturating_add(total).max(0)
    } else {
        offset
    };
    let offset = usize::try_from(offset).unwrap_or(usize::MAX);
    let rest = after(text, offset);
    let Ok(length) = usize::try_from(length) else { return Ok(Value::string(rest)) };
    Ok(Value::string(&rest[..rest.len() - after(rest, length).len()]))
}

/// The text after its first `n` characters.
fn after(text: &str, n: usize) -> &str {
    if text.is_ascii() && !text.contains('\r') {
        return text.get(n..).unwrap_or_default();
    }
    text.grapheme_indices(true).nth(n).map_or("", |(at, _)| &text[at..])
}
