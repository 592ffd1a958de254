//! The ops: each answers what it reads (`read`) and how it runs; one file per op.

pub(crate) mod exec;
pub(crate) mod file;
pub(crate) mod read;
pub(crate) mod source;
