//! The words of the OCI specifications, used by every other module: digest, descriptor, platform, reference, image
//! config, media types, file modes. Pure data: nothing here reads a file or speaks to a registry.
//!
//! The descriptor is the type of the `oci-spec` crate. Our own types stand where that crate drops
//! what we must keep (unknown config keys, Docker's health check) or leaves out the rules (platform normalisation).

pub(crate) mod codec;
pub(crate) mod config;
pub(crate) mod digest;
pub(crate) mod key;
pub(crate) mod layer;
pub(crate) mod media;
pub(crate) mod mode;
pub(crate) mod platform;
pub(crate) mod purl;
pub(crate) mod reference;

pub(crate) use codec::Codec;
pub(crate) use config::ImageConfig;
pub(crate) use digest::{DiffId, Digest};
pub(crate) use layer::{BaseLayer, ImageLayer, LayerOrigin, ObjectPlace};
pub(crate) use mode::ModeChange;
pub(crate) use oci_spec::image::Descriptor;
pub(crate) use platform::Platform;
pub(crate) use reference::Reference;
