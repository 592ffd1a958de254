//! Text to typed instructions. Nothing is expanded or resolved.
//!
//! ```text
//! lex (lines, words) ─► file (stages, directives) ─► instruction (keyword, flag) ─┬─► command (exec and shell form)
//!                                                                                 └─► copy (COPY, ADD)
//! ```

mod command;
mod context;
mod copy;
mod file;
mod flag;
mod instruction;

pub(crate) use file::{foreign_syntax, parse, parse_trigger};
