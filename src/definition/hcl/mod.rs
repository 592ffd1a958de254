//! HCL text ─► syntax. Our own parser: it goes on after a fault, points at the opener of what is not closed, and is fast.
//!
//! `parse` is the body of a file: attributes and blocks; `expr` the expressions; `template` strings and heredocs.
//! `format` lays a text out anew.
//! Nothing is evaluated, and which names are known is not asked here.

#[cfg(test)]
mod agreement;
mod cursor;
mod expr;
pub(super) mod format;
mod parse;
mod template;

pub(crate) use cursor::too_large;
pub(crate) use parse::{parse, parse_expression, parse_template, repeats};
