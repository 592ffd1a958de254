//! One record of comma-separated values (RFC 4180), as all option strings use it: `type=image,"name=a:1,b:2"`.

use super::fault::OptionFault;

/// The fields of one record. Nothing is trimmed; one newline at the end is allowed; the empty text is one empty field.
///
/// # Errors
/// On a stray or unclosed quote, or a second record.
pub(crate) fn fields(text: &str) -> Result<Vec<String>, OptionFault> {
    let bad = |why: &str| OptionFault::new(format!("{why} in: {text}"));
    let line = text.strip_suffix('\n').map_or(text, |it| it.strip_suffix('\r').unwrap_or(it));
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        let field;
        if let Some(quoted) = rest.strip_prefix('"') {
            let mut value = String::new();
            let mut tail = quoted;
            loop {
                let Some(end) = tail.find('"') else {
                    return Err(
                        bad("a quote is not closed").help("write `\"` twice to mean one quote inside a quoted field")
                    );
                };
                value.push_str(&tail[..end]);
                tail = &tail[end + 1..];
                match tail.strip_prefix('"') {
                    Some(more) => {
                        value.push('"');
                        tail = more;
                    }
                    None => break,
                }
            }
            if !(tail.is_empty() || tail.starts_with(',')) {
                return Err(bad("a closing quote is not followed by a comma"));
            }
            field = value;
            rest = tail;
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            if rest[..end].contains('"') {
                return Err(bad("a quote stands inside a field that does not start with one")
                    .help("quote the whole field: \"key=value,with,commas\""));
            }
            if rest[..end].contains('\n') {
                return Err(bad("more than one line"));
            }
            field = rest[..end].to_owned();
            rest = &rest[end..];
        }
        fields.push(field);
        match rest.strip_prefix(',') {
            Some(more) => rest = more,
            None => return Ok(fields),
        }
    }
}

/// Splits one `key=value`; the key is trimmed and in lower case.
pub(super) fn key_value(field: &str) -> Option<(String, &str)> {
    field.split_once('=').map(|(key, value)| (key.trim().to_lowercase(), value))
}

/// The fault of a field that is not `key=value`.
pub(super) fn not_key_value(field: &str, all: &str) -> OptionFault {
    OptionFault::new(format!("`{field}` is not `key=value` in: {all}")).help(format!("write `{field}=VALUE`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_follow_rfc_4180() {
        let check = |text: &str, expected: &[&str]| assert_eq!(fields(text).expect("valid"), expected, "{text}");
        check("a=b,c=d", &["a=b", "c=d"]);
        check("", &[""]);
        check("a,", &["a", ""]);
        check("\"a,b\",c", &["a,b", "c"]);
        check("\"a\"\"b\"", &["a\"b"]);
        check("a b , c\n", &["a b ", " c"]);
        for bad in ["a\"b", "\"a", "\"a\"b", "a\nb"] {
            assert!(fields(bad).is_err(), "{bad}");
        }
    }
}
