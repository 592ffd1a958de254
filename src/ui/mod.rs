//! Everything that is printed.
