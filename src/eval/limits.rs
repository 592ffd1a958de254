//! What evaluation may use up: depth, steps, text, elements. Definitions that want more are hostile or mistaken, and end in
//! a fault instead of a hang, an overflow or a full memory.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    sync::Arc,
};

use super::{fault::Fail, value::Value};
use crate::report::{Diagnostic, Span};

/// Nested evaluations: a chain of 10 000 variables needs 20 000 to 30 000.
const MAX_DEPTH: u32 = 40_000;
/// Evaluated expressions: some seconds of work.
const MAX_STEPS: u64 = 100_000_000;
/// Elements that loops make, all together.
const MAX_ELEMENTS: u64 = 16_000_000;
/// Bytes of one text, and of all that are made.
const MAX_TEXT: usize = 64 << 20;
const MAX_ALL_TEXT: usize = 512 << 20;
/// Elements of one value, those of its elements included.
const MAX_WEIGHT: u64 = 4_000_000;
/// Values up to this weight are weighed anew each time.
const LIGHT: u64 = 64;

#[derive(Debug, Default)]
pub(super) struct Limits {
    depth: Cell<u32>,
    steps: Cell<u64>,
    elements: Cell<u64>,
    text: Cell<usize>,
    /// Weights of heavy values by their address; the value is kept, so that the address stays its own.
    weights: RefCell<HashMap<usize, (Value, u64)>>,
}

impl Limits {
    /// Counts one evaluation and runs it one level deeper.
    pub(super) fn step<T>(&self, at: Span, inner: impl FnOnce() -> Result<T, Fail>) -> Result<T, Fail> {
        let (depth, steps) = (self.depth.get(), self.steps.get());
        if depth >= MAX_DEPTH {
            return Err(limit("an expression refers too deep", at));
        }
        if steps >= MAX_STEPS {
            return Err(limit("evaluation takes too long", at));
        }
        self.depth.set(depth + 1);
        self.steps.set(steps + 1);
        let result = inner();
        self.depth.set(depth);
        result
    }

    /// Counts one element that a loop makes.
    pub(super) fn element(&self, at: Span) -> Result<(), Fail> {
        let elements = self.elements.get();
        if elements >= MAX_ELEMENTS {
            return Err(limit("loops make too many elements", at));
        }
        self.elements.set(elements + 1);
        Ok(())
    }

    /// Refuses a text that is being made and has `length` bytes by now.
    pub(super) fn growing_text(&self, length: usize, at: Span) -> Result<(), Fail> {
        if length > MAX_TEXT || self.text.get().saturating_add(length) > MAX_ALL_TEXT {
            return Err(limit("a text grows too large", at));
        }
        Ok(())
    }

    /// Counts a value that has been made, and refuses it if it is too large.
    pub(super) fn made(&self, value: Value, at: Span) -> Result<Value, Fail> {
        match &value {
            Value::String(text) => {
                self.growing_text(text.len(), at)?;
                self.text.set(self.text.get().saturating_add(text.len()));
            }
            Value::Null(_) | Value::Bool(_) | Value::Number(_) => (),
            _ if self.weigh(&value) > MAX_WEIGHT => return Err(limit("a value grows too large", at)),
            _ => (),
        }
        Ok(value)
    }

    /// How many elements a value has, those of its elements included. Values share their elements, so that a few lines can
    /// make a value that nobody could walk through: each shared part is weighed once.
    fn weigh(&self, value: &Value) -> u64 {
        let Some(parts) = parts(value) else { return 1 };
        if parts.clone().all(is_scalar) {
            return parts.count() as u64 + 1;
        }
        let mut left = LIGHT;
        if is_light(value, &mut left) {
            return LIGHT - left;
        }
        let address = address(value);
        if let Some((_, weight)) = self.weights.borrow().get(&address) {
            return *weight;
        }
        let weight = parts.fold(1_u64, |sum, part| sum.saturating_add(self.weigh(part)));
        self.weights.borrow_mut().insert(address, (value.clone(), weight));
        weight
    }
}

/// The fault of what would take too much.
fn limit(message: &str, at: Span) -> Fail {
    Fail::Fatal(Box::new(Diagnostic::error("bake::eval::limit", message).at(at, "the limit is reached here")))
}

/// Whether a value has fewer parts than are left; takes them.
fn is_light(value: &Value, left: &mut u64) -> bool {
    if *left == 0 {
        return false;
    }
    *left -= 1;
    parts(value).is_none_or(|mut parts| parts.all(|part| is_light(part, left)))
}

const fn is_scalar(value: &Value) -> bool {
    matches!(value, Value::Null(_) | Value::Bool(_) | Value::Number(_) | Value::String(_))
}

fn parts(value: &Value) -> Option<impl Iterator<Item = &Value> + Clone> {
    let (items, entries) = (value.items(), value.entries());
    if items.is_none() && entries.is_none() {
        return None;
    }
    Some(items.into_iter().flatten().chain(entries.into_iter().flat_map(|entries| entries.values())))
}

fn address(value: &Value) -> usize {
    match value {
        Value::List { items, .. } | Value::Set { items, .. } | Value::Tuple(items) => Arc::as_ptr(items) as usize,
        Value::Map { entries, .. } | Value::Object(entries) => Arc::as_ptr(entries) as usize,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::SourceMap;

    #[test]
    fn shared_parts_are_weighed_once() {
        let at = Span { source: SourceMap::default().add("x", ""), start: 0, end: 0 };
        let limits = Limits::default();
        let mut value = Value::tuple(vec![Value::int(1), Value::int(2)]);
        for _ in 0..15 {
            value = limits.made(Value::tuple(vec![value.clone(), value]), at).expect("not too large yet");
        }
        let mut refused = false;
        for _ in 0..50 {
            match limits.made(Value::tuple(vec![value.clone(), value.clone()]), at) {
                Ok(larger) => value = larger,
                Err(_) => refused = true,
            }
        }
        assert!(refused);
    }
}
