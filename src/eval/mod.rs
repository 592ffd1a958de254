//! Evaluation: a definition and the world's input become typed targets. Pure: everything that evaluation may see of the
//! world comes in as [`Input`](input::Input).
//!
//! ```text
//! Definition ─► evaluate ─► target (matrix, inheritance, overrides, links) ─► evaluation ─► plan
//!                             │ asks for attributes                            └─► print (--print, --list)
//!                             ▼
//!               expression ◄─► variable, function
//!                             │
//!                             ▼
//!                           value
//! ```

pub(crate) mod evaluate;
pub(crate) mod evaluation;
pub(crate) mod expression;
pub(crate) mod fault;
pub(crate) mod function;
pub(crate) mod input;
pub(crate) mod print;
pub(crate) mod target;
pub(crate) mod unknown;
pub(crate) mod value;
pub(crate) mod variable;

#[cfg(test)]
mod language_tests;
#[cfg(test)]
mod property_tests;
