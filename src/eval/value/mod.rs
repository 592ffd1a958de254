//! Values and types of the bake language (those of cty, <https://github.com/zclconf/go-cty/blob/main/docs/types.md>).
//!
//! ```text
//! JSON text ─► json ─► types (Value, Type) ◄─► convert (from one type to another)
//!                      └─ number (decimals that a Value holds)
//! ```

pub(crate) mod convert;
pub(crate) mod json;
pub(crate) mod number;
pub(crate) mod types;
