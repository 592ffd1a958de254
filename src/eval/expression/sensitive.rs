//! Sensitivity spreads: texts that templates, functions and operators derive from sensitive values are hidden like the
//! values themselves. Only what is printed changes; the values stay the same.
//!
//! Texts are compared by content, so an unrelated equal text is hidden as well. Booleans and lengths reveal too little
//! to be hidden.

use super::scope::Scope;
use crate::eval::value::types::Value;

impl Scope<'_> {
    /// Hides every text and number in a value.
    pub(in crate::eval) fn hide(&self, value: &Value) {
        each_text(value, &mut |text| {
            self.hidden.borrow_mut().insert(text);
            false
        });
    }

    /// Hides every text and number in the value of a sensitive variable.
    pub(in crate::eval) fn hide_variable(&self, name: &str, value: &Value) {
        each_text(value, &mut |text| {
            self.hidden.borrow_mut().insert_variable(text, name);
            false
        });
    }

    /// Whether a value contains a hidden text or number.
    pub(in crate::eval) fn is_hidden(&self, value: &Value) -> bool {
        self.has_sensitive && each_text(value, &mut |text| self.hidden.borrow().contains(text))
    }

    /// Hides `made` if one of the values that it was derived from is hidden.
    pub(in crate::eval) fn hide_derived<'v>(&self, made: &Value, of: impl IntoIterator<Item = &'v Value>) {
        if self.has_sensitive && of.into_iter().any(|it| self.is_hidden(it)) {
            self.hide(made);
        }
    }
}

/// Calls `found` for the texts and numbers in a value until it returns true; returns whether it did.
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
