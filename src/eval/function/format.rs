//! `format` and `formatlist`: text made from a pattern of verbs such as `%s`, `%5.2f`, `%[2]d`.

use std::cmp::Ordering;

use num_bigint::BigInt;
use num_traits::Signed;
use unicode_segmentation::UnicodeSegmentation;

use super::{
    builtin::{Builtin, FunctionCall, FunctionError, MAX_TEXT, ParamType, nullable, param, row},
    string::character_count,
};
use crate::eval::value::{
    convert::convert,
    number::Number,
    types::{Type, Value},
};

/// The widest field and the longest fraction that may be asked for.
const MAX_WIDTH: usize = 100_000;

pub(super) const FUNCTIONS: &[Builtin] = &[
    row(
        "format",
        &[param("format", ParamType::String)],
        Some(nullable("args", ParamType::Any)),
        "a text with `%s`, `%d`, `%05.2f`, `%q`, `%v`, … replaced by the arguments",
        |call| format(call.text(0), &call.args[1..]).map(Value::string),
    ),
    row(
        "formatlist",
        &[param("format", ParamType::String)],
        Some(nullable("args", ParamType::Any)),
        "a list of texts, one per item of the arguments that are lists",
        formatlist,
    ),
];

fn formatlist(call: &FunctionCall<'_>) -> Result<Value, FunctionError> {
    let args = &call.args[1..];
    let mut length: Option<(usize, usize)> = None;
    for (i, items) in args.iter().enumerate().filter_map(|(i, arg)| Some((i, arg.items()?))) {
        match length {
            None => length = Some((i, items.len())),
            Some((first, wanted)) if wanted != items.len() => {
                let message = format!(
                    "the lists must have the same length: argument {} has {wanted} items, argument {} has {}",
                    first + 2,
                    i + 2,
                    items.len()
                );
                return Err(FunctionError::at(i + 1, message));
            }
            Some(_) => (),
        }
    }
    let mut texts = Vec::new();
    for at in 0..length.map_or(1, |(_, length)| length) {
        let picked: Vec<Value> = args.iter().map(|arg| arg.items().map_or(arg, |items| &items[at]).clone()).collect();
        let text = format(call.text(0), &picked);
        texts.push(text.map_err(|error| FunctionError { message: format!("item {at}: {}", error.message), ..error })?);
    }
    Ok(Value::string_list(texts))
}

/// One `%` sequence.
#[derive(Debug, Default)]
struct Verb<'a> {
    raw: &'a str,
    letter: char,
    zero: bool,
    sharp: bool,
    plus: bool,
    minus: bool,
    space: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

fn format(pattern: &str, args: &[Value]) -> Result<String, FunctionError> {
    let mut out = String::new();
    let mut rest = pattern;
    let mut next = 0;
    let mut highest = 0;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("%%") {
            out.push('%');
            rest = after;
            continue;
        }
        let (verb, index, after) = parse_verb(rest)?;
        let index = index.unwrap_or(next);
        let arg = args.get(index).ok_or_else(|| {
            FunctionError::at(
                0,
                format!("`{}` needs argument {}, but there are only {}", verb.raw, index + 1, args.len()),
            )
        })?;
        append(&mut out, &verb, arg)
            .map_err(|message| FunctionError::at(index + 1, format!("`{}`: {message}", verb.raw)))?;
        if out.len() > MAX_TEXT {
            return Err(FunctionError::new("the result is too long"));
        }
        next = index + 1;
        highest = highest.max(next);
        rest = after;
    }
    out.push_str(rest);
    if highest < args.len() {
        return Err(FunctionError::at(
            highest + 1,
            format!("too many arguments: the format uses {highest} of {}", args.len()),
        ));
    }
    Ok(out)
}

/// The verb at the start of `text`, the index of the argument it asks for, and what follows.
fn parse_verb(text: &str) -> Result<(Verb<'_>, Option<usize>, &str), FunctionError> {
    let fault = |end: usize| {
        let end = text[end..].char_indices().nth(1).map_or(text.len(), |(at, _)| end + at);
        FunctionError::at(0, format!("not a format verb: `{}`; write `%%` for a percent sign", &text[..end]))
    };
    let bytes = text.as_bytes();
    let mut verb = Verb::default();
    let mut at = 1;
    while let Some(flag @ (b'0' | b'#' | b'-' | b'+' | b' ')) = bytes.get(at) {
        match flag {
            b'0' => verb.zero = true,
            b'#' => verb.sharp = true,
            b'-' => verb.minus = true,
            b'+' => verb.plus = true,
            _ => verb.space = true,
        }
        at += 1;
    }
    let number = |at: &mut usize| {
        let start = *at;
        while bytes.get(*at).is_some_and(u8::is_ascii_digit) {
            *at += 1;
        }
        (*at > start).then(|| text[start..*at].parse::<usize>().unwrap_or(usize::MAX))
    };
    verb.width = number(&mut at);
    if bytes.get(at) == Some(&b'.') {
        at += 1;
        verb.precision = Some(number(&mut at).unwrap_or(0));
    }
    if verb.width.max(verb.precision).is_some_and(|size| size > MAX_WIDTH) {
        return Err(FunctionError::at(0, format!("a width or precision over {MAX_WIDTH} in `{}`", &text[..at])));
    }
    let mut index = None;
    if bytes.get(at) == Some(&b'[') {
        at += 1;
        index = number(&mut at).filter(|index| *index > 0).map(|index| index - 1);
        if index.is_none() || bytes.get(at) != Some(&b']') {
            return Err(fault(at.min(text.len())));
        }
        at += 1;
    }
    match bytes.get(at) {
        Some(letter) if letter.is_ascii_alphabetic() => verb.letter = char::from(*letter),
        _ => return Err(fault(at.min(text.len()))),
    }
    at += 1;
    verb.raw = &text[..at];
    Ok((verb, index, &text[at..]))
}

fn append(out: &mut String, verb: &Verb<'_>, arg: &Value) -> Result<(), String> {
    if arg.is_null() && verb.letter != 'v' {
        return Err("null cannot be formatted, but with `%v`".to_owned());
    }
    let as_type = |ty: &Type| convert(arg, ty).map_err(|error| error.to_string());
    let as_number = || as_type(&Type::Number).map(|value| value.as_number().cloned().unwrap_or(Number::ZERO));
    match verb.letter {
        'v' => {
            let text = match arg {
                Value::String(text) if !verb.sharp => text.to_string(),
                Value::Number(number) if !verb.sharp => float_text(number, 'g', None),
                other => other.to_json_text(true),
            };
            out.push_str(&padded(verb, text));
        }
        't' => out.push_str(&as_type(&Type::Bool)?.to_text().unwrap_or_default()),
        's' | 'q' => {
            let text = as_type(&Type::String)?.to_text().unwrap_or_default();
            let text = match verb.precision {
                Some(most @ 1..) => text.graphemes(true).take(most).collect::<String>().into(),
                _ => text,
            };
            out.push_str(&padded(
                verb,
                if verb.letter == 'q' { Value::String(text).to_json_text(true) } else { text.to_string() },
            ));
        }
        'b' | 'd' | 'o' | 'x' | 'X' => {
            let number = as_number()?;
            let whole = number.to_big().ok_or_else(|| format!("a whole number is required, got {number}"))?;
            out.push_str(&integer(verb, &whole));
        }
        'e' | 'E' | 'f' | 'g' | 'G' => out.push_str(&float(verb, &as_number()?)),
        _ => return Err("there is no such verb".to_owned()),
    }
    Ok(())
}

/// The text filled up to the verb's width.
fn padded(verb: &Verb<'_>, text: String) -> String {
    let missing = verb.width.unwrap_or(0).saturating_sub(character_count(&text));
    let fill = if verb.zero { "0" } else { " " }.repeat(missing);
    if verb.minus { text + &fill } else { fill + &text }
}

const fn sign(verb: &Verb<'_>, negative: bool) -> &'static str {
    match (negative, verb.plus, verb.space) {
        (true, ..) => "-",
        (_, true, _) => "+",
        (_, _, true) => " ",
        _ => "",
    }
}

fn integer(verb: &Verb<'_>, value: &BigInt) -> String {
    let (base, prefix) = match verb.letter {
        'b' => (2, "0b"),
        'o' => (8, "0"),
        'x' => (16, "0x"),
        'X' => (16, "0X"),
        _ => (10, ""),
    };
    let mut digits = value.magnitude().to_str_radix(base);
    if verb.letter == 'X' {
        digits.make_ascii_uppercase();
    }
    if verb.precision == Some(0) && digits == "0" {
        digits.clear();
    }
    let lead = format!("{}{}", sign(verb, value.is_negative()), if verb.sharp { prefix } else { "" });
    let mut zeros = verb.precision.unwrap_or(0).saturating_sub(digits.len());
    let missing = verb.width.unwrap_or(0).saturating_sub(lead.len() + zeros + digits.len());
    let (mut left, mut right) = (0, 0);
    if verb.minus {
        right = missing;
    } else if verb.zero && verb.precision.is_none() {
        zeros = missing;
    } else {
        left = missing;
    }
    format!("{:left$}{lead}{:0<zeros$}{digits}{:right$}", "", "", "")
}

fn float(verb: &Verb<'_>, number: &Number) -> String {
    let precision = verb.precision.or(if verb.letter.eq_ignore_ascii_case(&'g') { None } else { Some(6) });
    let text = float_text(&number.abs(), verb.letter, precision);
    let sign = sign(verb, number.is_negative());
    let missing = verb.width.unwrap_or(0).saturating_sub(sign.len() + text.len());
    if verb.minus {
        format!("{sign}{text}{:missing$}", "")
    } else if verb.zero {
        format!("{sign}{:0<missing$}{text}", "")
    } else {
        format!("{:missing$}{sign}{text}", "")
    }
}

/// The number in form `e`, `f` or `g`; the precision is that of C's printf, none is the shortest exact form.
fn float_text(number: &Number, letter: char, precision: Option<usize>) -> String {
    let minus = if number.is_negative() { "-" } else { "" };
    let (digits, exponent) = number.decimal_digits();
    // value = 0.digits × 10^point
    let point = exponent + i64::try_from(digits.len()).unwrap_or(i64::MAX);
    let point = if number.is_zero() { 0 } else { point };
    let digits = if number.is_zero() { String::new() } else { digits };
    let tie = number.float_error();
    let e = if letter.is_ascii_uppercase() { 'E' } else { 'e' };
    let text = match (letter, precision) {
        ('f', precision) => {
            let places = precision.unwrap_or_default();
            let keep = point.saturating_add(i64::try_from(places).unwrap_or(i64::MAX));
            let (digits, point) = round(&digits, point, keep, tie);
            fixed(&digits, point, places)
        }
        ('e' | 'E', precision) => {
            let places = precision.unwrap_or_default();
            let (digits, point) =
                round(&digits, point, i64::try_from(places).unwrap_or(i64::MAX).saturating_add(1), tie);
            scientific(&digits, point, places, e)
        }
        (_, precision) => {
            let (digits, point) = match precision {
                Some(most) => round(&digits, point, i64::try_from(most.max(1)).unwrap_or(i64::MAX), tie),
                None => (digits, point),
            };
            let mut wanted = precision.map_or(digits.len(), |most| most.max(1));
            let mut limit = i64::try_from(wanted).unwrap_or(i64::MAX);
            let length = i64::try_from(digits.len()).unwrap_or(i64::MAX);
            if limit > length && length >= point {
                limit = length;
            }
            if precision.is_none() {
                limit = 6;
            }
            if point - 1 < -4 && !digits.is_empty() || point > limit {
                wanted = wanted.min(digits.len());
                scientific(&digits, point, wanted.saturating_sub(1), e)
            } else {
                let wanted = if i64::try_from(wanted).unwrap_or(i64::MAX) > point {
                    length
                } else {
                    i64::try_from(wanted).unwrap_or(i64::MAX)
                };
                fixed(&digits, point, usize::try_from(wanted - point).unwrap_or(0))
            }
        }
    };
    format!("{minus}{text}")
}

/// The first `keep` digits, rounded; a tie goes by `tie`, and to even where that is equal.
fn round(digits: &str, point: i64, keep: i64, tie: Ordering) -> (String, i64) {
    let Ok(keep) = usize::try_from(keep) else { return (String::new(), 0) };
    if keep >= digits.len() {
        return (digits.to_owned(), point);
    }
    let (kept, dropped) = digits.split_at(keep);
    let odd = kept.bytes().last().is_some_and(|digit| (digit - b'0') % 2 == 1);
    let up = match dropped.as_bytes() {
        [b'5'] => match tie {
            Ordering::Greater => true,
            Ordering::Less => false,
            Ordering::Equal => odd,
        },
        [first, ..] => *first >= b'5',
        [] => false,
    };
    let mut kept = kept.as_bytes().to_vec();
    let mut point = point;
    if up {
        let nines = kept.iter().rev().take_while(|digit| **digit == b'9').count();
        kept.truncate(kept.len() - nines);
        match kept.last_mut() {
            Some(last) => *last += 1,
            None => {
                kept.push(b'1');
                point += 1;
            }
        }
    }
    let text = String::from_utf8(kept).expect("only digits");
    let text = text.trim_end_matches('0').to_owned();
    if text.is_empty() { (text, 0) } else { (text, point) }
}

/// `123.450` with this many places.
fn fixed(digits: &str, point: i64, places: usize) -> String {
    let digit = |at: i64| {
        usize::try_from(at).ok().and_then(|at| digits.as_bytes().get(at)).map_or('0', |digit| char::from(*digit))
    };
    let mut out: String = if point > 0 { (0..point).map(digit).collect() } else { "0".to_owned() };
    if places > 0 {
        out.push('.');
        out.extend((0..i64::try_from(places).unwrap_or(0)).map(|i| digit(point + i)));
    }
    out
}

/// `1.2345e+04` with this many places.
fn scientific(digits: &str, point: i64, places: usize, e: char) -> String {
    let mut out = digits.get(..1).unwrap_or("0").to_owned();
    if places > 0 {
        let rest = digits.get(1..).unwrap_or_default();
        let rest = &rest[..rest.len().min(places)];
        out.push('.');
        out.push_str(rest);
        out.extend(std::iter::repeat_n('0', places - rest.len()));
    }
    let exponent = if digits.is_empty() { 0 } else { point - 1 };
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{out}{e}{sign}{:02}", exponent.abs())
}
