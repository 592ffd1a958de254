//! Trees and tars.

pub(crate) mod view;
