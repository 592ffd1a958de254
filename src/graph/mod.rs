//! The work of a run as a graph of vertices: what LLB is to BuildKit.
//!
//! One [`Graph`] holds the vertices of every build of the plan. A vertex is its op, the vertices whose results it reads,
//! and its platform; vertices that are equal in all of these are one vertex, whatever target asked for them.
//! Pure data: cache keys and running are decided in `solve`.

mod digest;
mod op;
mod vertex;

pub(crate) use op::*;
pub(crate) use vertex::{Graph, Meta, StepFile, StepOrigin, StepPlace, Vertex, VertexIx};
