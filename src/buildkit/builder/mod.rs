//! Builders: names by which a user knows nodes. What buildx and Docker keep about them is read and never written.
//!
//! ```text
//! name ─► find ─┬─ an address            ─► one node
//!               ├─ instance (a file)     ─► its nodes; pods: those of a Kubernetes deployment
//!               └─ a Docker context      ─► the BuildKit of that Docker daemon
//! facts: what a node that answers is
//! ```

mod facts;
mod find;
mod instance;
mod pods;

pub(crate) use facts::NodeFacts;
pub(crate) use find::{Builder, BuilderName, BuilderNode, known_builders};
