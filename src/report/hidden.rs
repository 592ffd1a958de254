//! Texts that must not be shown: values of sensitive variables, and texts that expressions derive from them.

use std::{borrow::Cow, collections::HashSet, fmt, sync::Arc};

/// What is shown instead.
pub(crate) const MASK: &str = "***";
/// A shorter text is hidden only where it stands alone: replaced everywhere it would hide half of what is said.
const MIN_PART: usize = 4;

/// The set of texts to mask in everything that is printed. Its own `Debug` output shows none of them.
#[derive(Clone, Default)]
pub(crate) struct Hidden {
    texts: HashSet<Arc<str>>,
    /// The texts that are also masked inside other texts, longest first.
    parts: Vec<Arc<str>>,
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hidden({})", self.texts.len())
    }
}

impl Hidden {
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

    /// Whether exactly this text is in the set.
    pub(crate) fn contains(&self, text: &str) -> bool {
        self.texts.contains(text)
    }

    /// The text with every hidden text masked.
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

    /// Hides also what the texts look like inside of JSON.
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
