//! Runs plan nodes.
