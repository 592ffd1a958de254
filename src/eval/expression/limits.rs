//! Limits of evaluation: depth, steps, elements, text. (The size of one value is limited by its weight.) A definition
//! that exceeds one is hostile or mistaken, and gets an error instead of a hang, a stack overflow or exhausted memory.

use std::cell::Cell;

use crate::{
    eval::{
        fault::Fail,
        value::types::{MAX_WEIGHT, Value},
    },
    report::{Diagnostic, Span},
};

/// Nested evaluations: a chain of 10 000 variables needs 20 000 to 30 000.
const MAX_DEPTH: u32 = 40_000;
/// Evaluated expressions: some seconds of work.
const MAX_STEPS: u64 = 100_000_000;
/// Elements that loops make, all together.
const MAX_ELEMENTS: u64 = 16_000_000;
/// Bytes of one text, and of all that are made.
const MAX_TEXT: usize = 64 << 20;
const MAX_ALL_TEXT: usize = 512 << 20;

#[derive(Debug, Default)]
pub(in crate::eval) struct EvalLimits {
    depth: Cell<u32>,
    steps: Cell<u64>,
    elements: Cell<u64>,
    text: Cell<usize>,
}

impl EvalLimits {
    /// Counts one evaluation and runs it one level deeper.
    pub(in crate::eval) fn step(&self, at: Span, inner: impl FnOnce() -> Result<Value, Fail>) -> Result<Value, Fail> {
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
        match result {
            Ok(value) if value.weight() > MAX_WEIGHT => Err(limit("a value grows too large", at)),
            result => result,
        }
    }

    /// Counts one element that a loop makes.
    pub(in crate::eval) fn element(&self, at: Span) -> Result<(), Fail> {
        let elements = self.elements.get();
        if elements >= MAX_ELEMENTS {
            return Err(limit("loops make too many elements", at));
        }
        self.elements.set(elements + 1);
        Ok(())
    }

    /// Refuses a text that is being made and has `length` bytes by now.
    pub(in crate::eval) fn growing_text(&self, length: usize, at: Span) -> Result<(), Fail> {
        if length > MAX_TEXT || self.text.get().saturating_add(length) > MAX_ALL_TEXT {
            return Err(limit("a text grows too large", at));
        }
        Ok(())
    }

    /// Counts a text that has been made.
    pub(in crate::eval) fn text_made(&self, length: usize, at: Span) -> Result<(), Fail> {
        self.growing_text(length, at)?;
        self.text.set(self.text.get().saturating_add(length));
        Ok(())
    }
}

/// The fault of what would take too much.
fn limit(message: &str, at: Span) -> Fail {
    Fail::Fatal(Box::new(Diagnostic::error("bake::eval::limit", message).at(at, "the limit is reached here")))
}
