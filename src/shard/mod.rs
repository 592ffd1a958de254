//! Targets divided among runners: what has steps in common stays together, what takes longest is placed first. Pure; what the
//! steps of a target are and how long they take is found by `engine/steps.rs`.

mod split;
#[cfg(test)]
mod tests;

pub(crate) use split::{Shard, ShardTarget, Split, split};
