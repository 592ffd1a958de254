//! Git and http sources.
