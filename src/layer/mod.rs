//! Trees and tars: what turns a directory of the store into the bytes of a layer and back. Knows no image and no registry.
//!
//! ```text
//! upper directory ─► pack ─► tar ─► encode (estargz) ─► blob
//!                     │ tar_write        │ parallel
//! upper directory ◄─ unpack ◄─ tar ◄─ decode ◄─────────── blob
//!                     │ tar_read, dest
//! stacked directories ─► view (no mount)
//! ```

pub(crate) mod view;

mod decode;
mod dest;
mod encode;
mod error;
mod estargz;
mod pack;
mod parallel;
mod tar_read;
mod tar_write;
#[cfg(test)]
mod tests;
mod unpack;

pub(crate) use decode::{Compression, decode};
pub(crate) use encode::encode;
pub(crate) use pack::{PackOptions, pack_encoded};
pub(crate) use unpack::{UnpackLimits, unpack};
