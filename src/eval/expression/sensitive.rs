//! What is made of sensitive values is sensitive too: the texts that templates, functions and operators make of them are
//! hidden like the values themselves. Only what is shown changes; values stay what they are.
//!
//! A text is known by what it says, so a text that happens to be the same is hidden as well. Truth values and lengths tell
//! too little to hide them.

use super::scope::Scope;
use crate::eval::value::types::Value;

impl Scope<'_> {
    /// Hides a value: every text and number in it.
    pub(in crate::eval) fn hide(&self, value: &Value) {
        each_text(value, &mut |text| {
            self.hidden.borrow_mut().insert(text);
            false
        });
    }

    /// Whether there is something hidden in a value.
    pub(in crate::eval) fn is_hidden(&self, value: &Value) -> bool {
        self.has_sensitive && each_text(value, &mut |text| self.hidden.borrow().contains(text))
    }

    /// Hides the texts that were made of these values, if one of them is hidden.
    pub(in crate::eval) fn hide_made<'v>(&self, made: &Value, of: impl IntoIterator<Item = &'v Value>) {
        if self.has_sensitive && of.into_iter().any(|it| self.is_hidden(it)) {
            self.hide(made);
        }
    }
}

/// Whether `found` says so of one of the texts and numbers in a value.
fn each_text(value: &Value, found: &mut dyn FnMut(&std::sync::Arc<str>) -> bool) -> bool {
    match value {
        Value::Null(_) | Value::Bool(_) => false,
        Value::String(text) => found(text),
        Value::Number(_) => value.to_text().is_some_and(|text| found(&text)),
        Value::List { items, .. } | Value::Set { items, .. } | Value::Tuple(items) => {
            items.iter().any(|it| each_text(it, found))
        }
        Value::Map { entries, .. } | Value::Object(entries) => entries.values().any(|it| each_text(it, found)),
    }
}
