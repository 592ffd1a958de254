//! Functions between values and their encodings: base64, URL, JSON, CSV.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::Arc,
};

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose},
};

use super::builtin::{Builtin, FunctionCall, FunctionError, Param, ParamType, nullable, param, row};
use crate::eval::value::{
    json,
    types::{Type, Value},
};

const STR: Param = param("str", ParamType::String);

pub(super) const FUNCTIONS: &[Builtin] = &[
    row("base64decode", &[STR], None, "the text that base64 encodes", base64decode),
    row("base64encode", &[STR], None, "the text in base64", |call| {
        Ok(Value::string(general_purpose::STANDARD.encode(call.text(0))))
    }),
    row("byteslen", &[param("buf", ParamType::Any)], None, "how many bytes a buffer has", no_bytes),
    row(
        "bytesslice",
        &[param("buf", ParamType::Any), param("offset", ParamType::Number), param("size", ParamType::Number)],
        None,
        "a part of a buffer",
        no_bytes,
    ),
    row("csvdecode", &[STR], None, "the rows of a CSV table, as objects named by its first row", csvdecode),
    row("jsondecode", &[STR], None, "the value that a JSON text describes", |call| {
        json::parse(call.text(0)).map_err(|error| FunctionError::at(0, format!("not JSON: {error}")))
    }),
    row("jsonencode", &[nullable("val", ParamType::Any)], None, "the value as JSON", |call| {
        Ok(Value::string(call.args[0].to_json_text(true)))
    }),
    row("urlencode", &[STR], None, "the text as it stands in the query of a URL", |call| {
        Ok(Value::string(urlencode(call.text(0))))
    }),
];

/// Standard base64 with padding; line ends inside are skipped.
pub(super) fn decode_base64(text: &str) -> Option<Vec<u8>> {
    const ENGINE: GeneralPurpose = GeneralPurpose::new(
        &alphabet::STANDARD,
        GeneralPurposeConfig::new()
            .with_decode_allow_trailing_bits(true)
            .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
    );
    let compact: Vec<u8> = text.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect();
    ENGINE.decode(compact).ok()
}

fn base64decode(call: &FunctionCall<'_>) -> Result<Value, FunctionError> {
    let bytes =
        decode_base64(call.text(0)).ok_or_else(|| FunctionError::at(0, format!("not base64: {:?}", call.text(0))))?;
    String::from_utf8(bytes)
        .map(Value::string)
        .map_err(|_| FunctionError::at(0, "the decoded bytes are not UTF-8 text"))
}

fn no_bytes(call: &FunctionCall<'_>) -> Result<Value, FunctionError> {
    Err(FunctionError::at(
        0,
        format!("a byte buffer is required, and no expression makes one; got {}", call.args[0].kind()),
    ))
}

fn urlencode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            _ => write!(out, "%{byte:02X}").expect("writing to a string"),
        }
    }
    out
}

/// Checks the quotes of a CSV text, because the reader accepts misplaced quotes and would return fields that were not
/// meant.
fn bad_quote(text: &str) -> Option<String> {
    enum At {
        Start,
        Plain,
        Quoted,
        Closed,
    }
    let mut at = At::Start;
    let mut line = 1;
    let mut opened = 1;
    for c in text.chars() {
        at = match (at, c) {
            (At::Quoted, '"') => At::Closed,
            (At::Quoted, _) => At::Quoted,
            (At::Closed, '"') => At::Quoted,
            (_, ',' | '\n') => At::Start,
            (At::Closed, '\r') => At::Closed,
            (At::Closed, _) => return Some(format!("a closing quote is not followed by a comma in line {line}")),
            (At::Start, '"') => {
                opened = line;
                At::Quoted
            }
            (At::Plain, '"') => {
                return Some(format!("a quote stands inside a field that does not start with one in line {line}"));
            }
            _ => At::Plain,
        };
        line += usize::from(c == '\n');
    }
    matches!(at, At::Quoted).then(|| format!("a quote is not closed in line {opened}"))
}

fn csvdecode(call: &FunctionCall<'_>) -> Result<Value, FunctionError> {
    let fault = |message: String| FunctionError::at(0, message);
    if let Some(why) = bad_quote(call.text(0)) {
        return Err(fault(format!("not CSV: {why}")));
    }
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(call.text(0).as_bytes());
    let mut records = reader.records();
    let header = records.next().ok_or_else(|| fault("the header line is missing".to_owned()))?;
    let header = header.map_err(|error| fault(format!("not CSV: {error}")))?;
    let names: Vec<Arc<str>> = header.iter().map(Arc::from).collect();
    let mut seen = BTreeSet::new();
    if let Some(twice) = names.iter().find(|name| !seen.insert(Arc::clone(name))) {
        return Err(fault(format!("two columns have the name `{twice}`")));
    }
    let mut rows = Vec::new();
    for record in records {
        let record = record.map_err(|error| fault(format!("not CSV: {error}")))?;
        let cells = record.iter().map(Value::string);
        rows.push(Value::object(names.iter().cloned().zip(cells).collect::<BTreeMap<_, _>>()));
    }
    let columns = names.into_iter().map(|name| (name, (Type::String, false))).collect();
    Ok(Value::list(Type::Object(Arc::new(columns)), rows))
}
