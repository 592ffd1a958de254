//! The option mini-languages: what stands inside the strings and objects of `output`, `cache-from`, `secret` and their
//! like, parsed once into records. Nothing here knows targets or files: a [`OptionFault`] says what is wrong with one text,
//! and the caller adds whose text it was and where it stands.
//!
//! ```text
//! text ─► csv ─┬─► options ─► output cache attest     secret policy     ssh annotation ulimit size call entitlement context
//! object ──────┘
//! ```

pub(crate) mod annotation;
pub(crate) mod attest;
pub(crate) mod cache;
pub(crate) mod call;
pub(crate) mod compression;
pub(crate) mod context;
pub(crate) mod csv;
pub(crate) mod dockerfile;
mod engine_store;
pub(crate) mod entitlement;
pub(crate) mod execution;
mod fault;
pub(crate) mod glob;
pub(crate) mod hosts;
mod key;
pub(crate) mod local;
pub(crate) mod network;
pub(crate) mod options;
pub(crate) mod output;
pub(crate) mod path;
pub(crate) mod pattern;
pub(crate) mod policy;
pub(crate) mod remote_cache;
pub(crate) mod resources;
pub(crate) mod secret;
mod security;
pub(crate) mod size;
pub(crate) mod ssh;
pub(crate) mod step_log;
pub(crate) mod tag;
pub(crate) mod ulimit;

pub(crate) use attest::Attest;
pub(crate) use cache::{CacheExport, CacheImport};
pub(crate) use call::CallMethod;
pub(crate) use entitlement::Entitlement;
pub(crate) use execution::ExecutionMode;
pub(crate) use fault::{OptionFault, boolean};
pub(crate) use hosts::ExtraHost;
pub(crate) use network::NetworkMode;
pub(crate) use options::OptionItem;
pub(crate) use output::Output;
pub(crate) use policy::Policy;
pub(crate) use resources::{ResourceLimits, ResourceTexts, SwapLimit};
pub(crate) use secret::{Secret, SecretOrigin};
pub(crate) use security::SecurityMode;
pub(crate) use ssh::Ssh;
pub(crate) use step_log::{ReachedLimit, StepLogLimits};
pub(crate) use tag::ImageTag;
pub(crate) use ulimit::{Ulimit, UlimitName};
