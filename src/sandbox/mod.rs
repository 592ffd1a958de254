//! One process, isolated.
