//! Expressions and the names that they use. Evaluated on demand: an expression asks its scope for a name, the scope
//! evaluates what the name stands for once, and keeps the result.
//!
//! ```text
//! Expr ─► expr, call (operators, templates, calls) ─► Value
//!           │ asks for names                 ▲
//!           ▼                                │ value, computed once
//!         scope ─► namespace (which file's names an expression sees)
//!
//! beside them: limits (depth, steps, size), sensitive (texts to hide), names and place (read an expression without evaluating)
//! ```

pub(crate) mod call;
pub(crate) mod expr;
pub(crate) mod limits;
pub(crate) mod names;
pub(crate) mod namespace;
pub(crate) mod place;
pub(crate) mod scope;
pub(crate) mod sensitive;
