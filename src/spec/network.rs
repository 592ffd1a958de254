//! `network`: the network of RUN instructions that do not choose one.

use super::OptionFault;
use crate::report::suggest;

/// Network of RUN instructions that do not choose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum BuildNetwork {
    #[default]
    Default,
    None,
    Host,
}

const NETWORKS: [(&str, BuildNetwork); 3] =
    [("default", BuildNetwork::Default), ("none", BuildNetwork::None), ("host", BuildNetwork::Host)];

impl BuildNetwork {
    /// Parses `default`, `none`, `host`.
    ///
    /// # Errors
    /// On anything else.
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
