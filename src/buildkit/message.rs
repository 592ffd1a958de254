//! Messages of the gateway in which definitions stay bytes, so that what a daemon sent goes back to it unchanged.
//!
//! Decoding and encoding a definition again is not harmless: an empty message in a map is left out on the way, and a daemon
//! that reads such an entry may end. The other messages are those of the crate.

use std::collections::{BTreeMap, HashMap};

use bollard_buildkit_proto::google::rpc;

/// `moby.buildkit.v1.frontend.SolveRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct GatewaySolveRequest {
    #[prost(string, tag = "2")]
    pub(super) frontend: String,
    #[prost(map = "string, string", tag = "3")]
    pub(super) frontend_opt: HashMap<String, String>,
    #[prost(bool, tag = "5")]
    pub(super) allow_result_return: bool,
    #[prost(bool, tag = "6")]
    pub(super) allow_result_array_ref: bool,
    #[prost(message, repeated, tag = "12")]
    pub(super) cache_imports: Vec<CacheEntryMessage>,
    /// Definitions by their keys.
    #[prost(map = "string, bytes", tag = "13")]
    pub(super) frontend_inputs: HashMap<String, Vec<u8>>,
}

/// `moby.buildkit.v1.frontend.CacheOptionsEntry`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct CacheEntryMessage {
    #[prost(string, tag = "1")]
    pub(crate) kind: String,
    #[prost(map = "string, string", tag = "2")]
    pub(crate) attrs: HashMap<String, String>,
}

/// `moby.buildkit.v1.frontend.SolveResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct GatewaySolveResponse {
    /// A [`ResultMessage`].
    #[prost(bytes = "vec", tag = "3")]
    pub(super) result: Vec<u8>,
}

/// `moby.buildkit.v1.frontend.Result`, as far as it is read.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ResultMessage {
    #[prost(message, optional, tag = "3")]
    pub(super) one: Option<RefMessage>,
    #[prost(message, optional, tag = "4")]
    pub(super) several: Option<RefMapMessage>,
    #[prost(btree_map = "string, bytes", tag = "10")]
    pub(super) metadata: BTreeMap<String, Vec<u8>>,
}

/// `moby.buildkit.v1.frontend.Ref`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RefMessage {
    #[prost(string, tag = "1")]
    pub(super) id: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) def: Vec<u8>,
}

/// `moby.buildkit.v1.frontend.RefMap`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RefMapMessage {
    #[prost(btree_map = "string, message", tag = "1")]
    pub(super) refs: BTreeMap<String, RefMessage>,
}

/// `moby.buildkit.v1.frontend.ReturnRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ReturnRequestMessage {
    #[prost(bytes = "vec", optional, tag = "1")]
    pub(super) result: Option<Vec<u8>>,
    #[prost(message, optional, tag = "2")]
    pub(super) error: Option<rpc::Status>,
}
