//! Files of `NAME=value` lines: `.env`, `env_file`.

use std::collections::BTreeMap;

use super::interpolate::{self, Variables};

/// Why a file of variables cannot be parsed, and the byte offset of the error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::definition) struct DotenvError {
    pub(in crate::definition) what: String,
    pub(in crate::definition) at: usize,
}

/// Parses all lines. References in values are looked up in `outer` first, then among the lines above.
pub(in crate::definition) fn parse(
    text: &str,
    outer: &dyn Fn(&str) -> Option<String>,
) -> Result<BTreeMap<String, String>, DotenvError> {
    let mut values = BTreeMap::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            return Ok(values);
        }
        if rest.starts_with('#') {
            rest = rest.split_once('\n').map_or("", |(_, after)| after);
            continue;
        }
        rest = statement(text, rest, outer, &mut values)?;
    }
}

fn is_blank(c: char) -> bool {
    c.is_whitespace() && c != '\n'
}

/// Parses one `NAME=value`, or a lone name, which takes the value of the outer variable; returns the rest of the text.
fn statement<'t>(
    text: &'t str,
    rest: &'t str,
    outer: &dyn Fn(&str) -> Option<String>,
    values: &mut BTreeMap<String, String>,
) -> Result<&'t str, DotenvError> {
    let position = |rest: &str| text.len() - rest.len();
    let rest = match rest.strip_prefix("export") {
        Some(after) if after.starts_with(is_blank) => after.trim_start_matches(is_blank),
        _ => rest,
    };
    let end = rest.find(['=', ':', '\n']).unwrap_or(rest.len());
    let name = rest[..end].trim_end();
    let allowed = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | '[' | ']');
    if let Some(bad) = name.find(|c| !allowed(c)) {
        let what = format!(
            "a name cannot hold {:?}: {}",
            name[bad..].chars().next().unwrap_or(' '),
            rest.lines().next().unwrap_or_default()
        );
        return Err(DotenvError { what, at: position(rest) + bad });
    }
    let lone = rest[end..].starts_with('\n') || end == rest.len();
    let after = rest.get(end + 1..).unwrap_or_default();
    if lone {
        if let Some(value) = outer(name) {
            values.insert(name.to_owned(), value);
        }
        return Ok(after);
    }
    let after = after.trim_start_matches(is_blank);
    let (value, expands, following) = match after.as_bytes().first() {
        Some(quote @ (b'"' | b'\'')) => {
            let (inside, following) = quoted(after, *quote).ok_or_else(|| DotenvError {
                what: format!("a quoted value is not closed: {}", after.lines().next().unwrap_or_default()),
                at: position(after),
            })?;
            let double = *quote == b'"';
            (if double { escapes(&inside) } else { inside }, double, following)
        }
        _ => {
            let (line, following) = after.split_once('\n').unwrap_or((after, ""));
            let value = line.split_once(" #").map_or(line, |(value, _)| value).trim_end();
            (value.to_owned(), true, following)
        }
    };
    let value = if expands {
        let mut both = Both { outer, values };
        interpolate::substitute(&value, &mut both)
            .map_err(|fault| DotenvError { what: fault_text(&fault), at: position(after) })?
    } else {
        value
    };
    values.insert(name.to_owned(), value);
    Ok(following)
}

fn fault_text(fault: &interpolate::InterpolateFault) -> String {
    match fault {
        interpolate::InterpolateFault::Invalid(what) => format!("invalid interpolation: {what}"),
        interpolate::InterpolateFault::Required { variable, message } => {
            format!("variable `{variable}` is required: {message}")
        }
    }
}

struct Both<'a> {
    outer: &'a dyn Fn(&str) -> Option<String>,
    values: &'a BTreeMap<String, String>,
}

impl Variables for Both<'_> {
    fn get(&mut self, name: &str) -> Option<String> {
        (self.outer)(name).or_else(|| self.values.get(name).cloned())
    }

    fn missing(&mut self, _: &str) {}
}

/// The text between quotes, an escaped quote unescaped, and what follows.
fn quoted(text: &str, quote: u8) -> Option<(String, &str)> {
    let quote = char::from(quote);
    let mut inside = String::new();
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if c == quote && !escaped {
            return Some((inside, &text[at + 1..]));
        }
        if c == '\\' && !escaped {
            escaped = true;
            continue;
        }
        if escaped && c != quote {
            inside.push('\\');
        }
        inside.push(c);
        escaped = false;
    }
    None
}

/// `\n`, `\t`, … and `\0123` (octal); `\$` is a dollar that starts no variable.
fn escapes(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let simple = match after.chars().next() {
            Some('a') => "\u{7}",
            Some('b') => "\u{8}",
            Some('f') => "\u{c}",
            Some('n') => "\n",
            Some('r') => "\r",
            Some('t') => "\t",
            Some('v') => "\u{b}",
            Some('$') => "$$",
            Some('"') => "\"",
            Some('\\') => "\\",
            _ => "",
        };
        let octal = after
            .get(1..4)
            .filter(|digits| after.starts_with('0') && digits.bytes().all(|b| (b'0'..=b'7').contains(&b)));
        let octal = octal.and_then(|digits| u32::from_str_radix(digits, 8).ok()).and_then(char::from_u32);
        if !simple.is_empty() {
            out.push_str(simple);
            rest = &after[1..];
        } else if let Some(c) = octal {
            out.push(c);
            rest = &after[4..];
        } else {
            out.push('\\');
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<BTreeMap<String, String>, DotenvError> {
        parse(text, &|name| (name == "OUT").then(|| "outer".to_owned()))
    }

    #[test]
    fn lines_become_values() {
        let values = read(concat!(
            "# comment\nTAG=filetag\nA=abc # trailing\nB=a#b\r\nQ=\"a b\" # c\nexport X=1\nY: 2\n",
            "S='${A} \\n'\nD=\"x\\n\\$A ${A}\"\nM=\"l1\nl2\"\nE=\nOUT\nZ=${OUT}-${NO:-d}\nlast=end",
        ))
        .unwrap();
        let expected = [
            ("A", "abc"),
            ("B", "a#b"),
            ("D", "x\n$A abc"),
            ("E", ""),
            ("M", "l1\nl2"),
            ("OUT", "outer"),
            ("Q", "a b"),
            ("S", "${A} \\n"),
            ("TAG", "filetag"),
            ("X", "1"),
            ("Y", "2"),
            ("Z", "outer-d"),
            ("last", "end"),
        ];
        assert_eq!(values, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    }

    #[test]
    fn faults_are_located() {
        assert_eq!(read("A=1\nB C=2").unwrap_err().at, 5);
        assert_eq!(read("A=1\nB=\"x").unwrap_err().at, 6);
        assert!(read("A=${").is_err());
    }
}
