//! Variables in Compose files and `.env` files: `$A`, `${A:-default}`, `${A:?message}`, `${A:+other}`, `$$`.

use crate::definition::kept::{ReferenceOperation, VariableReference};

/// How deep defaults may nest.
const MAX_DEPTH: usize = 50;

/// Why the variables of a text cannot be replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum InterpolateFault {
    /// The `${…}` at fault.
    Invalid(String),
    Required {
        variable: String,
        message: String,
    },
}

/// The variables that an interpolation sees; also records which of them are not set.
pub(super) trait Variables {
    fn get(&mut self, name: &str) -> Option<String>;
    /// Called for a variable that is used without a default and is not set.
    fn missing(&mut self, name: &str);
    /// Where variables are kept and not replaced: the texts of references.
    fn keeper(&mut self) -> Option<&mut dyn KeepVariables> {
        None
    }
}

/// Gives references the texts that stand for them in a file that is converted.
pub(super) trait KeepVariables {
    fn keep(&mut self, reference: VariableReference) -> String;
    /// Called for `${NAME:?message}`.
    fn require(&mut self, name: &str, message: &str);
}

/// Replaces every variable of a text by its value: `$NAME`, `${NAME}`, and the forms with defaults
/// (<https://github.com/compose-spec/compose-spec/blob/main/12-interpolation.md>).
pub(super) fn substitute(text: &str, variables: &mut dyn Variables) -> Result<String, InterpolateFault> {
    substitute_at(text, variables, 0)
}

fn substitute_at(text: &str, variables: &mut dyn Variables, depth: usize) -> Result<String, InterpolateFault> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(inside) = after.strip_prefix('{') {
            let invalid = || {
                let end = rest[at..].find('}').map_or(rest.len(), |end| at + end + 1);
                InterpolateFault::Invalid(rest[at..end].chars().take(80).collect())
            };
            if depth > MAX_DEPTH {
                return Err(invalid());
            }
            let end = closing_brace(inside).ok_or_else(invalid)?;
            out.push_str(&braced(&inside[..end], variables, depth).map_err(|fault| fault.unwrap_or_else(invalid))?);
            rest = &inside[end + 1..];
        } else {
            let name = &after[..name_length(after)];
            if name.is_empty() {
                out.push('$');
            } else {
                out.push_str(&plain(name, variables));
            }
            rest = &after[name.len()..];
        }
    }
    out.push_str(rest);
    Ok(out)
}

fn name_length(text: &str) -> usize {
    let fits = |(i, c): (usize, char)| c == '_' || c.is_ascii_alphabetic() || (i > 0 && c.is_ascii_digit());
    text.char_indices().find(|it| !fits(*it)).map_or(text.len(), |(at, _)| at)
}

fn plain(name: &str, variables: &mut dyn Variables) -> String {
    if let Some(keeper) = variables.keeper() {
        return keeper.keep(VariableReference { name: name.to_owned(), operation: ReferenceOperation::Value });
    }
    variables.get(name).unwrap_or_else(|| {
        variables.missing(name);
        String::new()
    })
}

/// Where the brace that is open at the start of `text` closes.
fn closing_brace(text: &str) -> Option<usize> {
    let mut open = 1;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => open += 1,
            b'}' => open -= 1,
            _ => (),
        }
        if open == 0 {
            return Some(at);
        }
    }
    None
}

/// Evaluates the text between the braces of `${…}`. The error is `None` for an unknown form.
fn braced(inside: &str, variables: &mut dyn Variables, depth: usize) -> Result<String, Option<InterpolateFault>> {
    let (name, operation) = inside.split_at(name_length(inside));
    if name.is_empty() {
        return Err(None);
    }
    if operation.is_empty() {
        return Ok(plain(name, variables));
    }
    let value = variables.get(name);
    let (not_empty, operation) = operation.strip_prefix(':').map_or((false, operation), |rest| (true, rest));
    let mut operator = operation.chars();
    let (kind, argument) = (operator.next(), operator.as_str());
    let present = value.as_ref().is_some_and(|value| !(not_empty && value.is_empty()));
    let argument = |variables: &mut dyn Variables| substitute_at(argument, variables, depth + 1).map_err(Some);
    if variables.keeper().is_some() && matches!(kind, Some('-' | '+' | '?')) {
        let text = argument(variables)?;
        return variables.keeper().map(|keeper| kept(name, kind, text, keeper)).ok_or(None);
    }
    match kind {
        Some('-') if !present => argument(variables),
        Some('+') if present => argument(variables),
        Some('?') if !present => {
            Err(Some(InterpolateFault::Required { variable: name.to_owned(), message: argument(variables)? }))
        }
        Some('-' | '+' | '?') => Ok(value.unwrap_or_default()),
        _ => Err(None),
    }
}

/// What stands for `${NAME:-text}`, `${NAME:+text}` and `${NAME:?text}` where variables are kept.
fn kept(name: &str, operator: Option<char>, text: String, keeper: &mut dyn KeepVariables) -> String {
    let operation = match operator {
        Some('-') => ReferenceOperation::Default(text),
        Some('+') => ReferenceOperation::Alternative(text),
        _ => {
            keeper.require(name, &text);
            ReferenceOperation::Value
        }
    };
    keeper.keep(VariableReference { name: name.to_owned(), operation })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(Vec<String>);

    impl Variables for Fixed {
        fn get(&mut self, name: &str) -> Option<String> {
            [("A", "a"), ("EMPTY", ""), ("B", "b$C")]
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        }

        fn missing(&mut self, name: &str) {
            self.0.push(name.to_owned());
        }
    }

    #[test]
    fn every_form_is_replaced() {
        for (text, expected) in [
            ("x$A-${A}y", "xa-ay"),
            ("$$A $5 $ ${B}", "$A $5 $ b$C"),
            ("${NO:-d}${NO-d}${EMPTY:-d}${EMPTY-d}", "ddd"),
            ("${NO:+x}${A:+x}${EMPTY:+x}${EMPTY+y}", "xy"),
            ("${NO:-${NO2:-${A}}}", "a"),
            ("${NO:-{x}}", "{x}"),
            ("${A:?m}${NO}", "a"),
        ] {
            assert_eq!(substitute(text, &mut Fixed(Vec::new())).as_deref(), Ok(expected), "{text}");
        }
        let mut seen = Fixed(Vec::new());
        substitute("$NO ${NO2} ${NO3:-x}", &mut seen).unwrap();
        assert_eq!(seen.0, ["NO", "NO2"]);
    }

    #[test]
    fn faults_name_what_is_wrong() {
        let fault = |text: &str| substitute(text, &mut Fixed(Vec::new())).unwrap_err();
        assert_eq!(fault("x ${A"), InterpolateFault::Invalid("${A".to_owned()));
        assert_eq!(fault("${}"), InterpolateFault::Invalid("${}".to_owned()));
        assert_eq!(fault("${A B}"), InterpolateFault::Invalid("${A B}".to_owned()));
        let required = InterpolateFault::Required { variable: "EMPTY".to_owned(), message: "set a".to_owned() };
        assert_eq!(fault("${EMPTY:?set $A}"), required);
        assert!(matches!(fault(&"${A:+".repeat(10_000)), InterpolateFault::Invalid(_)));
    }
}
