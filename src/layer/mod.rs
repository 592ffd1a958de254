//! Trees and tars: what turns a directory of the store into the bytes of a layer and back. Knows no image and no registry.
//!
//! ```text
//! upper directory ─► pack ─► `crate::archive` ─► encode (estargz) ─► blob
//!                     │                  │ parallel
//! upper directory ◄─ unpack ◄─ `crate::archive` ◄──────── blob
//!                     │ dest, space
//! stacked directories ─► view (no mount)
//! file ─► transfer ─► file (holes kept)
//! ```

pub(crate) mod view;

mod dest;
mod encode;
mod error;
mod estargz;
mod pack;
mod parallel;
mod space;
#[cfg(test)]
mod tests;
mod transfer;
mod unpack;

pub(crate) use encode::encode;
pub(crate) use pack::{PackOptions, pack_encoded};
pub(crate) use transfer::{copy_data, data_ranges};
pub(crate) use unpack::{UnpackLimits, unpack};
