//! Finds or makes the results of vertices.
