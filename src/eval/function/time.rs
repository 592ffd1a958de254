//! Functions of time. Timestamps are RFC 3339 texts; the clock comes from the world.

use std::fmt::Write as _;

use jiff::{
    Timestamp,
    civil::{Date, DateTime, Time},
    tz::Offset,
};

use super::builtin::{Builtin, FunctionCall, FunctionError, Param, ParamType, param, row};
use crate::eval::value::{number::Number, types::Value};

const FORMAT: Param = param("format", ParamType::String);

pub(super) const FUNCTIONS: &[Builtin] = &[
    row(
        "formatdate",
        &[FORMAT, param("time", ParamType::String)],
        None,
        "a timestamp in another form; deprecated, use formattimestamp",
        |call| formatted(call.text(0), Moment::parse(call.text(1)).map_err(|why| FunctionError::at(1, why))?),
    ),
    row(
        "formattimestamp",
        &[FORMAT, param("time", ParamType::Any)],
        None,
        "a timestamp or Unix time in another form, such as `YYYY-MM-DD`; `X` is Unix time",
        formattimestamp,
    ),
    row(
        "timeadd",
        &[param("timestamp", ParamType::String), param("duration", ParamType::String)],
        None,
        "the timestamp a duration such as `1h30m` later",
        timeadd,
    ),
    row("timestamp", &[], None, "the time now, in UTC", |call| {
        Ok(Value::string(Moment::from_unix(call.world.now.0).map_err(FunctionError::new)?.rfc3339()))
    }),
    row(
        "unixtimestampparse",
        &[param("unix_timestamp", ParamType::Number)],
        None,
        "the parts of a Unix time: year, month, day, hour, …",
        unixtimestampparse,
    ),
];

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// A point in time, and the clock on the wall where it was written down.
#[derive(Clone, Copy)]
struct Moment {
    at: Timestamp,
    offset: Offset,
}

impl Moment {
    fn from_unix(seconds: i64) -> Result<Self, String> {
        let at = Timestamp::from_second(seconds).map_err(|_| format!("the time is out of range: {seconds}"))?;
        Ok(Self { at, offset: Offset::UTC })
    }

    /// Reads RFC 3339: `2024-02-29T13:05:09.5+02:00`.
    fn parse(text: &str) -> Result<Self, String> {
        Self::try_parse(text)
            .ok_or_else(|| format!("not an RFC 3339 timestamp such as `2024-02-29T13:05:09Z`: {text:?}"))
    }

    fn try_parse(text: &str) -> Option<Self> {
        let number = |from: usize, to: usize| {
            let digits = text.get(from..to)?;
            if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse::<i16>().ok() } else { None }
        };
        let small = |from: usize| number(from, from + 2).and_then(|value| i8::try_from(value).ok());
        let separators: String = text.get(..19)?.chars().filter(|c| !c.is_ascii_digit()).collect();
        let date = Date::new(number(0, 4)?, small(5)?, small(8)?).ok()?;
        let (rest, nanos) = fraction(text.get(19..)?)?;
        let time = Time::new(small(11)?, small(14)?, small(17)?, nanos).ok()?;
        if separators != "--T::" {
            return None;
        }
        let offset = match rest.as_bytes() {
            b"Z" => 0,
            [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
                let pair = |tens: u8, ones: u8| {
                    (tens.is_ascii_digit() && ones.is_ascii_digit())
                        .then(|| i32::from(tens - b'0') * 10 + i32::from(ones - b'0'))
                };
                let (hours, minutes) = (pair(*h1, *h2)?, pair(*m1, *m2)?);
                if hours > 23 || minutes > 59 {
                    return None;
                }
                (hours * 60 + minutes) * 60 * if *sign == b'-' { -1 } else { 1 }
            }
            _ => return None,
        };
        let offset = Offset::from_seconds(offset).ok()?;
        let at = offset.to_timestamp(DateTime::from_parts(date, time)).ok()?;
        Some(Self { at, offset })
    }

    fn local(self) -> DateTime {
        self.offset.to_datetime(self.at)
    }

    fn rfc3339(self) -> String {
        let t = self.local();
        let (date, time) = (t.date(), t.time());
        let mut out = format!("{:04}-{:02}-{:02}T", date.year(), date.month(), date.day());
        write!(out, "{:02}:{:02}:{:02}", time.hour(), time.minute(), time.second()).expect("writing to a string");
        out + &self.zone("Z", ":")
    }

    /// `utc` at no offset (if not empty), else `+02:00` with this separator.
    fn zone(self, utc: &str, separator: &str) -> String {
        let seconds = self.offset.seconds();
        if seconds == 0 && !utc.is_empty() {
            return utc.to_owned();
        }
        let minutes = seconds.abs() / 60;
        format!("{}{:02}{separator}{:02}", if seconds < 0 { '-' } else { '+' }, minutes / 60, minutes % 60)
    }
}

/// Nanoseconds of a `.123` that the text may start with, and the text after it.
fn fraction(text: &str) -> Option<(&str, i32)> {
    let Some(digits) = text.strip_prefix('.') else { return Some((text, 0)) };
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    let nanos = format!("{:0<9}", &digits[..end.min(9)]).parse().ok()?;
    (end > 0).then_some((&digits[end..], nanos))
}

fn formattimestamp(call: &FunctionCall<'_>) -> Result<Value, FunctionError> {
    let moment = match &call.args[1] {
        Value::String(text) => Moment::parse(text),
        Value::Number(number) => number
            .to_i64()
            .ok_or_else(|| format!("a Unix time is a whole number of seconds, got {number}"))
            .and_then(Moment::from_unix),
        other => Err(format!("a timestamp or a number is required, got {}", other.kind())),
    };
    let moment = moment.map_err(|why| FunctionError::at(1, why))?;
    if call.text(0) == "X" {
        return Ok(Value::string(moment.at.as_second().to_string()));
    }
    formatted(call.text(0), moment)
}

fn formatted(format: &str, moment: Moment) -> Result<Value, FunctionError> {
    let t = moment.local();
    let mut out = String::new();
    let mut rest = format;
    while let Some(first) = rest.chars().next() {
        if first == '\'' {
            let (literal, after) =
                quoted(rest).ok_or_else(|| FunctionError::at(0, "a quoted literal lacks its closing `'`"))?;
            out.push_str(&literal);
            rest = after;
        } else if first.is_ascii_alphabetic() {
            let end = rest.find(|c| c != first).unwrap_or(rest.len());
            let verb = &rest[..end];
            verb_text(verb, t, moment).map(|text| out.push_str(&text)).ok_or_else(|| {
                FunctionError::at(
                    0,
                    format!("unknown part of a date format: `{verb}`; put literal letters in single quotes"),
                )
            })?;
            rest = &rest[end..];
        } else {
            let end = rest.find(|c: char| c == '\'' || c.is_ascii_alphabetic()).unwrap_or(rest.len());
            out.push_str(&rest[..end]);
            rest = &rest[end..];
        }
    }
    Ok(Value::string(out))
}

/// The text of a `'…'` literal, where `''` is a quote, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    if let Some(after) = text.strip_prefix("''") {
        return Some(("'".to_owned(), after));
    }
    let mut literal = String::new();
    let mut rest = &text[1..];
    loop {
        let end = rest.find('\'')?;
        literal.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        let Some(after) = rest.strip_prefix('\'') else { return Some((literal, rest)) };
        literal.push('\'');
        rest = after;
    }
}

fn verb_text(verb: &str, t: DateTime, moment: Moment) -> Option<String> {
    let number = |value: i8| match verb.len() {
        1 => Some(value.to_string()),
        2 => Some(format!("{value:02}")),
        _ => None,
    };
    let month = MONTHS[usize::try_from(t.month() - 1).ok()?];
    let day = DAYS[usize::try_from(t.weekday().to_sunday_zero_offset()).ok()?];
    match (verb.as_bytes()[0], verb.len()) {
        (b'Y', 2) => Some(format!("{:02}", t.year().rem_euclid(100))),
        (b'Y', 4) => Some(format!("{:04}", t.year())),
        (b'M', 3) => Some(month[..3].to_owned()),
        (b'M', 4) => Some(month.to_owned()),
        (b'M', _) => number(t.month()),
        (b'D', _) => number(t.day()),
        (b'E', 3) => Some(day[..3].to_owned()),
        (b'E', 4) => Some(day.to_owned()),
        (b'h', _) => number(t.hour()),
        (b'H', _) => number(if t.hour() % 12 == 0 { 12 } else { t.hour() % 12 }),
        (b'A', 2) => Some(if t.hour() < 12 { "AM" } else { "PM" }.to_owned()),
        (b'a', 2) => Some(if t.hour() < 12 { "am" } else { "pm" }.to_owned()),
        (b'm', _) => number(t.minute()),
        (b's', _) => number(t.second()),
        (b'Z', 1) => Some(moment.zone("Z", ":")),
        (b'Z', 3) => Some(moment.zone("UTC", "")),
        (b'Z', 4) => Some(moment.zone("", "")),
        (b'Z', 5) => Some(moment.zone("", ":")),
        _ => None,
    }
}

fn timeadd(call: &FunctionCall<'_>) -> Result<Value, FunctionError> {
    let moment = Moment::parse(call.text(0)).map_err(|why| FunctionError::at(0, why))?;
    let nanos = duration_nanos(call.text(1))
        .ok_or_else(|| FunctionError::at(1, format!("not a duration such as `1h30m` or `-10s`: {:?}", call.text(1))))?;
    let total = moment.at.as_nanosecond().checked_add(i128::from(nanos));
    let at = total.and_then(|total| Timestamp::from_nanosecond(total).ok());
    let at = at.ok_or_else(|| FunctionError::new("the resulting time is out of range"))?;
    Ok(Value::string(Moment { at, ..moment }.rfc3339()))
}

/// Reads `1h30m`, `-1.5s`, `300ms`, `0`.
fn duration_nanos(text: &str) -> Option<i64> {
    let (sign, mut rest) = match text.as_bytes().first()? {
        b'-' => (-1, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => (1, text),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total = Number::ZERO;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let amount = Number::parse(&rest[..end])?;
        rest = &rest[end..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        total = total.add(&amount.mul(&Number::from_i64(unit)).ok()?).ok()?;
        rest = &rest[end..];
    }
    let nanos = total.truncate().ok()?.to_i64()?;
    (!text.trim_start_matches(['-', '+']).is_empty()).then_some(sign * nanos)
}

fn unixtimestampparse(call: &FunctionCall<'_>) -> Result<Value, FunctionError> {
    let moment = Moment::from_unix(call.integer(0)?).map_err(|why| FunctionError::at(0, why))?;
    let t = moment.local();
    let week = t.date().iso_week_date();
    let weekday = t.weekday().to_sunday_zero_offset();
    let name = |names: &[&str], at: i8| {
        usize::try_from(at).ok().and_then(|at| names.get(at).copied()).unwrap_or_default().to_owned()
    };
    let int = |value: i64| Value::int(value);
    let entries = [
        ("year", int(t.year().into())),
        ("year_day", int(t.day_of_year().into())),
        ("day", int(t.day().into())),
        ("month", int(t.month().into())),
        ("month_name", Value::string(name(&MONTHS, t.month() - 1))),
        ("weekday", int(weekday.into())),
        ("weekday_name", Value::string(name(&DAYS, weekday))),
        ("hour", int(t.hour().into())),
        ("minute", int(t.minute().into())),
        ("second", int(t.second().into())),
        ("rfc3339", Value::string(moment.rfc3339())),
        ("iso_year", int(week.year().into())),
        ("iso_week", int(week.week().into())),
    ];
    Ok(Value::object(entries.into_iter().map(|(key, value)| (key.into(), value)).collect()))
}
