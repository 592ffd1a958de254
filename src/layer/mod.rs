//! Trees and tars.
