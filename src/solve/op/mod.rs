//! How each op is run; one file per op.

pub(crate) mod file;
