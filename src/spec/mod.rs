//! The option mini-languages, parsed once.
