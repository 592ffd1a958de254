//! Finds or makes the results of vertices: what is known comes from the store, the rest runs.
//!
//! ```text
//! graph ─► solver ─► schedule: one task for each vertex that is needed, inputs first
//!            ├─► lookup: key (fast: identity of inputs; slow: content of what is read) ─► record in the store? ─► tree
//!            ├─► base: layers of images, pulled and unpacked when a step looks inside
//!            └─► run: a slot, the op (exec │ file), a snapshot ─► record ─► tree
//! ```
//!
//! | module | holds | uses of this folder |
//! |---|---|---|
//! | `failure`, `blocking`, `cancel`, `tree` | the words of all below | – |
//! | `content` | selecting and hashing what is read | `failure` |
//! | `reads`, `locals` | what an op reads; the directories of the user | `content` |
//! | `shared` | which shared caches may be used | `failure` |
//! | `world` | what a solver may touch | the above, `schedule::slots` |
//! | `base`, `op` | base layers; how each op makes its snapshot | `world`, `content` |
//! | `lookup`, `schedule`, `run` | keys and records; order and tasks; one step | the above |
//! | `explain` | why a step runs: its parts, and those of its earlier runs |
//! | `solver` | puts them together | all |
//!
//! A result is a [`LayerTree`](tree::LayerTree). Its identity enters the keys of the vertices that read it, so that a step
//! whose inputs turn out equal is found again however they came about.

pub(crate) mod base;
pub(crate) mod blocking;
pub(crate) mod cancel;
mod content;
pub(crate) mod explain;
pub(crate) mod failure;
pub(crate) mod locals;
mod lookup;
pub(crate) mod op;
pub(crate) mod reads;
mod run;
pub(crate) mod runner;
pub(crate) mod schedule;
pub(crate) mod shared;
pub(crate) mod solver;
#[cfg(test)]
mod tests;
pub(crate) mod tree;
pub(crate) mod world;
