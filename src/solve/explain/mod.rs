//! Why a step runs: what it is made from, in parts, compared with what its earlier runs were made from.
//!
//! ```text
//! vertex + inputs ─► parts ──┐
//!                            ├─► compare ─► difference (words) ─► one line of progress; `bake explain`
//! memory: earlier runs ──────┘
//! ```
//!
//! | module | holds |
//! |---|---|
//! | `difference` | one thing that differs, and its words |
//! | `parts` | what a step is made from: every field that `lookup/key.rs` puts into its key, by name |
//! | `compare` | two lists of parts ─► what differs (pure) |
//! | `memory` | the records: what the last runs of an instruction were made from, and what they read |
//! | `gather` | the parts of a step of this run |
//! | `look` | which steps of a build would run; nothing is run |
//!
//! Only what runs is recorded, so that a build that is found in the cache reads and writes nothing of this. A record is found
//! by the Dockerfile, the stage and the text of the instruction, or else by the number of the step in its stage: one look-up
//! each, however much is in the store. Keys do not depend on anything here.

pub(crate) mod compare;
pub(crate) mod difference;
pub(crate) mod gather;
pub(crate) mod look;
pub(crate) mod memory;
pub(crate) mod parts;
