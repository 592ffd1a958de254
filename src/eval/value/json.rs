//! JSON text to values, with every digit of numbers kept. Values to JSON text is a method of `Value`.
//!
//! `serde_json` is not used here: it keeps long numbers only with its feature `arbitrary_precision`, which would change the
//! numbers of every other user of the crate in the program, and it refuses more than 128 levels.

use std::{collections::BTreeMap, sync::Arc};

use super::{number::Number, types::Value};

/// How deep arrays and objects may nest.
const MAX_DEPTH: usize = 500;

/// Why a text is not valid JSON, and at which byte offset.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {at}")]
pub(crate) struct JsonError {
    pub(crate) what: &'static str,
    pub(crate) at: usize,
}

/// Parses one JSON value (RFC 8259). Arrays become tuples; the last of two equal keys of an object wins.
pub(crate) fn parse(text: &str) -> Result<Value, JsonError> {
    let mut reader = JsonValueReader { text, at: 0 };
    let value = reader.value(0)?;
    reader.blanks();
    if reader.at < text.len() { Err(reader.fault("unexpected text after the value")) } else { Ok(value) }
}

struct JsonValueReader<'a> {
    text: &'a str,
    at: usize,
}

impl JsonValueReader<'_> {
    const fn fault(&self, what: &'static str) -> JsonError {
        JsonError { what, at: self.at }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn value(&mut self, depth: usize) -> Result<Value, JsonError> {
        if depth > MAX_DEPTH {
            return Err(self.fault("too many nested arrays or objects"));
        }
        self.blanks();
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => self.string().map(Value::string),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true", Value::Bool(true)),
            Some(b'f') => self.word("false", Value::Bool(false)),
            Some(b'n') => self.word("null", Value::NULL),
            Some(_) => Err(self.fault("unexpected character")),
            None => Err(self.fault("unexpected end of the text")),
        }
    }

    fn word(&mut self, word: &str, value: Value) -> Result<Value, JsonError> {
        if !self.text[self.at..].starts_with(word) {
            return Err(self.fault("unknown word"));
        }
        self.at += word.len();
        Ok(value)
    }

    fn array(&mut self, depth: usize) -> Result<Value, JsonError> {
        self.at += 1;
        let mut items = Vec::new();
        self.blanks();
        if self.eat(b']') {
            return Ok(Value::tuple(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.blanks();
            if self.eat(b']') {
                return Ok(Value::tuple(items));
            }
            if !self.eat(b',') {
                return Err(self.fault("`,` or `]` expected"));
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Value, JsonError> {
        self.at += 1;
        let mut entries: BTreeMap<Arc<str>, Value> = BTreeMap::new();
        self.blanks();
        if self.eat(b'}') {
            return Ok(Value::object(entries));
        }
        loop {
            self.blanks();
            if self.peek() != Some(b'"') {
                return Err(self.fault("a key in double quotes expected"));
            }
            let key = self.string()?;
            self.blanks();
            if !self.eat(b':') {
                return Err(self.fault("`:` expected"));
            }
            let value = self.value(depth + 1)?;
            entries.insert(key.into(), value);
            self.blanks();
            if self.eat(b'}') {
                return Ok(Value::object(entries));
            }
            if !self.eat(b',') {
                return Err(self.fault("`,` or `}` expected"));
            }
        }
    }

    fn number(&mut self) -> Result<Value, JsonError> {
        let start = self.at;
        let digits = |reader: &mut Self| {
            let from = reader.at;
            while matches!(reader.peek(), Some(b'0'..=b'9')) {
                reader.at += 1;
            }
            reader.at > from
        };
        self.eat(b'-');
        let leading_zero = self.peek() == Some(b'0');
        let whole_start = self.at;
        let mut fine = digits(self) && !(leading_zero && self.at > whole_start + 1);
        if self.eat(b'.') {
            fine &= digits(self);
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            fine &= digits(self);
        }
        let fault = |what| JsonError { what, at: start };
        if !fine {
            return Err(fault("invalid number"));
        }
        Number::parse(&self.text[start..self.at]).map(Value::Number).ok_or_else(|| fault("number out of range"))
    }

    /// The string whose opening quote is next.
    fn string(&mut self) -> Result<String, JsonError> {
        self.at += 1;
        let mut out = String::new();
        loop {
            let plain = self.text[self.at..].find(|c: char| c == '"' || c == '\\' || c < ' ');
            let Some(plain) = plain else {
                self.at = self.text.len();
                return Err(self.fault("string without its closing quote"));
            };
            out.push_str(&self.text[self.at..self.at + plain]);
            self.at += plain;
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => out.push(self.escape()?),
                _ => return Err(self.fault("control character inside a string")),
            }
        }
    }

    fn escape(&mut self) -> Result<char, JsonError> {
        self.at += 1;
        let plain = match self.peek() {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode(),
            _ => return Err(self.fault("unknown escape")),
        };
        self.at += 1;
        Ok(plain)
    }

    /// The character of `uXXXX`, or of two of them that form a surrogate pair; a lone surrogate reads as U+FFFD.
    fn unicode(&mut self) -> Result<char, JsonError> {
        let first = self.unit()?;
        if (0xd800..0xdc00).contains(&first) && self.text[self.at..].starts_with("\\u") {
            let before = self.at;
            self.at += 1;
            let second = self.unit()?;
            if (0xdc00..0xe000).contains(&second) {
                let code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            self.at = before;
        }
        Ok(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn unit(&mut self) -> Result<u32, JsonError> {
        let digits =
            self.text.get(self.at + 1..self.at + 5).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        let unit = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let unit = unit.ok_or_else(|| self.fault("four hexadecimal digits expected"))?;
        self.at += 5;
        Ok(unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_as_they_were_written() {
        for text in [
            "null",
            "true",
            "-12.5",
            "12345678901234567890123",
            "[]",
            r#"[1,[2,{"a":null}],"x\"y\n"]"#,
            r#"{"a":{"b":[]},"c":"é😀"}"#,
        ] {
            assert_eq!(parse(text).unwrap().to_json_text(false), text);
        }
        assert_eq!(parse(r#" "\u00e9\ud83d\ude00\ud800" "#).unwrap(), Value::string("é😀\u{fffd}"));
    }

    #[test]
    fn faults_are_located() {
        for (text, at) in
            [("", 0), ("[1,]", 3), ("{\"a\" 1}", 5), ("01", 0), ("1 2", 2), ("\"a", 2), ("[1e]", 1), ("nul", 0)]
        {
            assert_eq!(parse(text).unwrap_err().at, at, "{text}");
        }
        assert!(parse(&"[".repeat(100_000)).is_err());
    }
}
