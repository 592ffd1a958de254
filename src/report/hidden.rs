//! Texts that must not be shown: values of sensitive variables, and texts that expressions derive from them.

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashSet},
    fmt,
    sync::Arc,
};

/// The text that is shown in place of a sensitive value.
pub(crate) const MASK: &str = "***";
/// A shorter text is hidden only where it stands alone: replaced everywhere it would hide half of what is said.
const MIN_PART: usize = 4;

/// The set of texts to mask in everything that is printed. Its own `Debug` output shows none of them.
#[derive(Clone, Default)]
pub(crate) struct Hidden {
    texts: HashSet<Arc<str>>,
    /// The texts that are also masked inside other texts, longest first.
    parts: Vec<Arc<str>>,
    /// The values of sensitive variables, with the names of these.
    variables: Vec<(Arc<str>, Arc<str>)>,
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hidden({})", self.texts.len())
    }
}

impl Hidden {
    /// Whether there is nothing to mask.
    pub(crate) fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// Adds a text to the set; an empty text is ignored.
    pub(crate) fn insert(&mut self, text: &Arc<str>) {
        if text.is_empty() || !self.texts.insert(text.clone()) {
            return;
        }
        if text.len() >= MIN_PART {
            let at = self.parts.partition_point(|it| it.len() > text.len());
            self.parts.insert(at, text.clone());
        }
    }

    /// Adds the value of a sensitive variable.
    pub(crate) fn insert_variable(&mut self, text: &Arc<str>, name: &str) {
        self.insert(text);
        if !text.is_empty() && !self.variables.iter().any(|(known, of)| known == text && &**of == name) {
            self.variables.push((text.clone(), name.into()));
        }
    }

    /// The sensitive variables whose values are masked in a text.
    pub(crate) fn variables_in(&self, text: &str) -> BTreeSet<&str> {
        let is_in = |value: &str| value == text || (value.len() >= MIN_PART && text.contains(value));
        self.variables.iter().filter(|(value, _)| is_in(value)).map(|(_, name)| &**name).collect()
    }

    /// The texts that are masked wherever they stand.
    pub(crate) fn parts(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().map(|text| &**text)
    }

    /// Whether exactly this text is in the set.
    pub(crate) fn contains(&self, text: &str) -> bool {
        self.texts.contains(text)
    }

    /// Replaces every hidden text in a text by [`MASK`].
    pub(crate) fn mask<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if self.texts.is_empty() {
            return Cow::Borrowed(text);
        }
        if self.texts.contains(text) {
            return Cow::Borrowed(MASK);
        }
        let mut shown = Cow::Borrowed(text);
        for part in &self.parts {
            if shown.contains(&**part) {
                shown = Cow::Owned(shown.replace(&**part, MASK));
            }
        }
        shown
    }

    /// Also hides the forms that the texts have inside JSON strings.
    #[must_use]
    pub(crate) fn with_json(mut self) -> Self {
        for text in self.texts.clone() {
            let json = serde_json::Value::from(&*text).to_string();
            self.insert(&json[1..json.len() - 1].into());
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_texts_are_hidden_only_where_they_stand_alone() {
        let mut hidden = Hidden::default();
        ["hunter2", "ab", "", "hunter2-more"].into_iter().for_each(|it| hidden.insert(&it.into()));
        assert_eq!(hidden.mask("ab"), "***");
        assert_eq!(hidden.mask("cab"), "cab");
        assert_eq!(hidden.mask("x hunter2-more hunter2"), "x *** ***");
        assert_eq!(hidden.mask(""), "");
        assert!(!format!("{hidden:?}").contains("hunter2"));
        let mut quoted = Hidden::default();
        quoted.insert(&"a\"b\"c".into());
        assert_eq!(quoted.with_json().mask(r#"{"x":"a\"b\"c"}"#), r#"{"x":"***"}"#);
    }
}
