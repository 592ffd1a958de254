//! Tests of the whole way: tree ─► tar ─► tree, and archives that mean harm.
