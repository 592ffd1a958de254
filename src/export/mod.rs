//! Hands results to their destinations.
