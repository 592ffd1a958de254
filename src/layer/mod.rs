//! Trees and tars: what turns a directory of the store into the bytes of a layer and back. Knows no image and no registry.
//!
//! ```text
//! upper directory ─► pack ─► tar ─► encode (estargz) ─► blob
//!                     │ tar_write        │ parallel
//! upper directory ◄─ unpack ◄─ `crate::archive` ◄──────── blob
//!                     │ dest, space
//! stacked directories ─► view (no mount)
//! ```

pub(crate) mod view;

mod dest;
mod encode;
mod error;
mod estargz;
mod pack;
mod parallel;
mod space;
mod tar_write;
#[cfg(test)]
mod tests;
mod unpack;

pub(crate) use encode::{Compression, encode};
pub(crate) use pack::{PackOptions, pack_encoded};
pub(crate) use unpack::{UnpackLimits, unpack};
