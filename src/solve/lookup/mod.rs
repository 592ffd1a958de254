//! What is known already: the keys of steps and builds, and the records that were stored under them.
//!
//! ```text
//! vertex ─► fast key (identity of what is read) ─► record? ─► else slow key (content of what is read) ─► record?
//! build  ─► one key over all its vertices and all content from outside ─► record?
//! ```

pub(crate) mod contents;
pub(crate) mod key;
pub(crate) mod records;
