//! Evaluation: a definition and the world's input become typed targets. Pure: everything of the world comes in as
//! [`Input`](input::Input).
//!
//! ```text
//! syntax ─► scope (variables, functions, attributes, on demand) ─► block (matrix) ─► target (typed, inherit, overrides)
//!                                                                                 ─► group ─► print, list
//! ```

pub(crate) mod block;
pub(crate) mod convert;
pub(crate) mod expr;
pub(crate) mod function;
pub(crate) mod group;
pub(crate) mod inherit;
pub(crate) mod input;
pub(crate) mod json;
pub(crate) mod list;
pub(crate) mod number;
pub(crate) mod overrides;
pub(crate) mod print;
pub(crate) mod scope;
pub(crate) mod target;
pub(crate) mod value;
