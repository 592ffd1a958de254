//! `network` and `RUN --network`: which network a step sees.

use serde::{Deserialize, Serialize};

use super::fault::OptionFault;
use crate::report::suggest;

/// The network of a step (`RUN --network`), or of those steps of a build that have none (attribute `network` of a
/// target).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum NetworkMode {
    /// A namespace of its own with access to the outside; where none can be had, the host's, without `NET_RAW`.
    #[default]
    Default,
    /// Only a loopback device.
    None,
    /// That of the host; asks for the entitlement `network.host`.
    Host,
}

const NETWORKS: [(&str, NetworkMode); 3] =
    [("default", NetworkMode::Default), ("none", NetworkMode::None), ("host", NetworkMode::Host)];

impl NetworkMode {
    /// Parses a network: `default`, `none` or `host`, in lower case.
    ///
    /// # Errors
    /// On any other text, the empty one too; the help names the nearest known word.
    pub(crate) fn parse(text: &str) -> Result<Self, OptionFault> {
        if let Some((_, network)) = NETWORKS.iter().find(|(name, _)| *name == text) {
            return Ok(*network);
        }
        let known = NETWORKS.map(|(name, _)| name);
        let help =
            suggest::did_you_mean(text, known).unwrap_or_else(|| format!("known networks: {}", known.join(", ")));
        Err(OptionFault::new(format!("not a network: {text}")).help(help))
    }

    /// The name in the definition.
    pub(crate) fn name(self) -> &'static str {
        NETWORKS.iter().find(|(_, network)| *network == self).map_or("", |(name, _)| name)
    }
}
