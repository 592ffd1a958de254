//! Variables that a text keeps: where a file is converted and not evaluated, a reference stands in the text as a mark, which
//! the parsers of options, paths and lists take for a part of a name and leave whole.
//!
//! Nothing is looked up here; what a reference becomes is decided by `bake convert`.

/// How a text refers to a variable, of the shell or of a Compose file
/// (<https://github.com/compose-spec/compose-spec/blob/main/12-interpolation.md>).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VariableReference {
    pub(crate) name: String,
    pub(crate) operation: ReferenceOperation,
}

/// What stands for a reference. The texts may keep further references.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ReferenceOperation {
    /// `$NAME`: the value, or nothing.
    Value,
    /// `${NAME:-text}`: the text, if there is no value.
    Default(String),
    /// `${NAME:+text}`: the text, if there is a value.
    Alternative(String),
    /// `--build-arg NAME`: the value; without one the whole entry is not given.
    Lookup,
}

/// A part of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KeptPart<'k> {
    Text(String),
    Reference(&'k VariableReference),
}

/// The references that texts keep.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeptVariables {
    references: Vec<VariableReference>,
    /// What a Compose file wants to be set: the name, and the message of `${NAME:?message}`.
    pub(crate) required: Vec<(String, String)>,
}

/// Around the number of a reference: characters for private use, which no file has.
const OPEN: char = '\u{f0000}';
const CLOSE: char = '\u{f0001}';
/// The digit 0 of a number.
const ZERO: u32 = 0x10_0000;

impl KeptVariables {
    /// The mark that stands for a reference in a text.
    pub(crate) fn keep(&mut self, reference: VariableReference) -> String {
        let known = self.references.iter().position(|it| *it == reference);
        let number = known.unwrap_or_else(|| {
            self.references.push(reference);
            self.references.len() - 1
        });
        let digit = |digit: char| char::from_u32(ZERO + digit.to_digit(10).unwrap_or(0)).unwrap_or(OPEN);
        std::iter::once(OPEN).chain(number.to_string().chars().map(digit)).chain([CLOSE]).collect()
    }

    /// The parts of a text; a mark that was not made here is text.
    pub(crate) fn parts(&self, text: &str) -> Vec<KeptPart<'_>> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once(OPEN) {
            plain.push_str(before);
            match after.split_once(CLOSE).and_then(|(number, after)| Some((self.numbered(number)?, after))) {
                Some((reference, after)) => {
                    if !plain.is_empty() {
                        parts.push(KeptPart::Text(std::mem::take(&mut plain)));
                    }
                    parts.push(KeptPart::Reference(reference));
                    rest = after;
                }
                None => {
                    plain.push(OPEN);
                    rest = after;
                }
            }
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(KeptPart::Text(plain));
        }
        parts
    }

    /// The variables that are referred to.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.references.iter().map(|reference| reference.name.as_str())
    }

    fn numbered(&self, number: &str) -> Option<&VariableReference> {
        let digit = |c: char| char::from_digit(u32::from(c).checked_sub(ZERO)?, 10);
        let number: String = number.chars().map(digit).collect::<Option<_>>()?;
        self.references.get(number.parse::<usize>().ok()?)
    }

    /// The text as a message shows it.
    pub(crate) fn shown(&self, text: &str) -> String {
        let part = |part: KeptPart<'_>| match part {
            KeptPart::Text(text) => text,
            KeptPart::Reference(reference) => format!("${{{}}}", reference.name),
        };
        self.parts(text).into_iter().map(part).collect()
    }
}

/// Whether a text keeps a reference.
pub(crate) fn has_reference(text: &str) -> bool {
    text.contains(OPEN)
}

/// The text without the references that it keeps.
pub(crate) fn without_references(text: &str) -> String {
    text.chars().filter(|c| u32::from(*c) < u32::from(OPEN)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_survives_where_texts_are_split() {
        let mut kept = KeptVariables::default();
        let operation = ReferenceOperation::Default("a,b=c:d/e".to_owned());
        let reference = VariableReference { name: "A".to_owned(), operation };
        let text = format!("x:{}-y", kept.keep(reference.clone()));
        assert_eq!(kept.keep(reference.clone()), kept.keep(reference.clone()));
        assert_eq!(text.split([',', '=', '/']).count(), 1);
        let text_part = |text: &str| KeptPart::Text(text.to_owned());
        assert_eq!(kept.parts(&text), [text_part("x:"), KeptPart::Reference(&reference), text_part("-y")]);
        assert_eq!((kept.shown(&text).as_str(), without_references(&text).as_str()), ("x:${A}-y", "x:-y"));
        let forged = "\u{f0000}\u{100007}\u{f0001}\u{f0000}";
        assert_eq!(kept.parts(forged), [text_part(forged)]);
    }
}
