//! The functions of the bake language (<https://docs.docker.com/build/bake/stdlib/>): one table row per function, one file
//! per family.
//!
//! ```text
//! name ─► table ─► builtin::call (counts and converts arguments) ─► the family's function ─► Value
//! ```
//!
//! A function sees its arguments and the `FunctionWorld`, nothing else. `try`, `can` and `convert` are special forms that the
//! evaluator runs itself; they have rows so that they are listed with the others.

mod builtin;
mod collection;
mod crypto;
mod encoding;
mod file;
mod format;
mod logic;
mod net;
mod number;
pub(in crate::eval) mod path;
mod regex;
mod set;
mod string;
mod table;
#[cfg(test)]
mod tests;
mod time;
mod version;

pub(crate) use builtin::{Builtin, FunctionWorld, call, signature};
pub(crate) use table::{lookup, names};
