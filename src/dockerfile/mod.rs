//! Dockerfile text becomes instructions, stages, and a graph.
