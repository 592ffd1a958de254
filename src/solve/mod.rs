//! Finds or makes the results of vertices.

pub(crate) mod content;
pub(crate) mod op;
