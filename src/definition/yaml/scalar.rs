//! Scalars: the YAML 1.2 core schema (<https://yaml.org/spec/1.2.2/#103-core-schema>), and forms of YAML 1.1 that old Compose
//! files hold: `017`, `1_000`. `yes` and `on` are strings, and so are dates.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use saphyr_parser::{ScalarStyle, Tag};

use super::node::{YamlAction, YamlNode, YamlNodeKind};
use crate::report::{Diagnostic, Span};

/// The merge action that a tag asks for: `!reset` or `!override`
/// (<https://github.com/compose-spec/compose-spec/blob/main/13-merge.md>).
pub(super) fn action(tag: Option<&Tag>) -> Option<YamlAction> {
    match tag {
        Some(tag) if tag.handle == "!" && tag.suffix == "reset" => Some(YamlAction::Reset),
        Some(tag) if tag.handle == "!" && tag.suffix == "override" => Some(YamlAction::Override),
        _ => None,
    }
}

/// Resolves a scalar by its tag, its quotes and its text.
///
/// # Errors
/// When the text does not fit the tag (`!!int`, `!!bool`, `!!binary`).
pub(super) fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>, at: Span) -> Result<YamlNode, Box<Diagnostic>> {
    let core = tag.filter(|tag| tag.is_yaml_core_schema()).map(|tag| tag.suffix.as_str());
    let kind = match core {
        Some("str") => YamlNodeKind::String(text.into()),
        Some("null") => YamlNodeKind::Null,
        Some("binary") => YamlNodeKind::String(binary(text, at)?.into()),
        Some(word @ ("int" | "float" | "bool")) => {
            let kind = plain(text);
            let fits = match word {
                "bool" => matches!(kind, YamlNodeKind::Bool(_)),
                _ => matches!(kind, YamlNodeKind::Number(_)),
            };
            if !fits {
                return Err(Box::new(
                    Diagnostic::error(
                        "bake::definition::yaml_tag",
                        format!("the value does not fit its tag `!!{word}`: {text}"),
                    )
                    .at(at, format!("not a value of `!!{word}`")),
                ));
            }
            kind
        }
        _ if style == ScalarStyle::Plain => plain(text),
        _ => YamlNodeKind::String(text.into()),
    };
    Ok(YamlNode { action: action(tag), ..YamlNode::new(kind, at) })
}

/// The text that a value of `!!binary` has in Base64 (<https://yaml.org/type/binary.html>); line breaks in it do not count.
fn binary(text: &str, at: Span) -> Result<String, Box<Diagnostic>> {
    let refuse = |what: &str, help: &str| {
        Box::new(
            Diagnostic::error("bake::definition::yaml_tag", format!("a value of `!!binary` {what}"))
                .at(at, "a binary value")
                .help(help),
        )
    };
    let digits: String = text.split_ascii_whitespace().collect();
    let bytes = BASE64.decode(digits).map_err(|error| {
        refuse("is not Base64", "encode it, or write the text itself without the tag").cause(&error)
    })?;
    String::from_utf8(bytes).map_err(|_| refuse("is not text in UTF-8", "only text can be used here"))
}

/// Resolves a plain (unquoted) scalar by the core schema.
pub(super) fn plain(text: &str) -> YamlNodeKind {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return YamlNodeKind::Null,
        "true" | "True" | "TRUE" => return YamlNodeKind::Bool(true),
        "false" | "False" | "FALSE" => return YamlNodeKind::Bool(false),
        _ => (),
    }
    if text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.'))
        && let Some(number) = number(text)
    {
        return YamlNodeKind::Number(number.into());
    }
    YamlNodeKind::String(text.into())
}

/// Parses a number of YAML 1.2 or 1.1 (`0x1f`, `0o17`, `017`, `1_000`, `1e3`) and returns it in decimal; `None` if it
/// is no number.
pub(super) fn number(text: &str) -> Option<String> {
    let compact = text.replace('_', "");
    let (sign, digits) = match compact.as_bytes().first()? {
        b'-' => ("-", &compact[1..]),
        b'+' => ("", &compact[1..]),
        _ => ("", &*compact),
    };
    let radix = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => 16,
        [b'0', b'o' | b'O', ..] => 8,
        [b'0', b'b' | b'B', ..] => 2,
        [b'0', b'0'..=b'7', ..] => 80,
        _ => 10,
    };
    let whole = match radix {
        80 => unsigned(&digits[1..], 8),
        10 => unsigned(digits, 10),
        radix => unsigned(&digits[2..], radix),
    };
    match whole {
        Some(0) => return Some("0".to_owned()),
        Some(whole) => return Some(format!("{sign}{whole}")),
        None => (),
    }
    let (mantissa, exponent) =
        digits.split_once(['e', 'E']).map_or((digits, None), |(mantissa, exponent)| (mantissa, Some(exponent)));
    let (before, after) = mantissa.split_once('.').map_or((mantissa, None), |(before, after)| (before, Some(after)));
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let exponent_fits = exponent.is_none_or(|exponent| {
        let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        !digits.is_empty() && all_digits(digits)
    });
    let digits_fit = all_digits(before) && all_digits(after.unwrap_or_default());
    if !digits_fit || !exponent_fits || (before.is_empty() && after.is_none_or(str::is_empty)) {
        return None;
    }
    let value: f64 = format!("{sign}{digits}").parse().ok()?;
    value.is_finite().then(|| float_text(value))
}

fn unsigned(digits: &str, radix: u32) -> Option<u64> {
    if digits.is_empty() || digits.starts_with('+') { None } else { u64::from_str_radix(digits, radix).ok() }
}

/// The shortest decimal text of a float; with an exponent where it would be longer than 21 digits.
fn float_text(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 || (1e-4..1e21).contains(&size) {
        return value.to_string();
    }
    let text = format!("{value:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
    format!("{mantissa}e{sign}{digits:0>2}")
}
