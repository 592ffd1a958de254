//! What is known already: the keys of steps and builds, and the records that were stored under them.
//!
//! ```text
//! vertex ─► fast key (identity of what is read) ─► record? ─► else slow key (content of what is read) ─► record?
//! build  ─► one key over all its vertices and all content from outside ─► record?
//! ```
//!
//! A shared cache says which layers are the result of which key, and nothing can check that. So what it says is looked up
//! in it and recorded nowhere: a tree from there is known by its layers, whose content is verified, and steps above it have
//! keys of their own. Only shared caches are asked by the identities that they claim (`StepKeys::shared`).

pub(crate) mod contents;
pub(crate) mod key;
pub(crate) mod records;
