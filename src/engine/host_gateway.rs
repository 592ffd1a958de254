//! `extra-hosts` with the address `host-gateway`: the machine itself, which steps in a network of their own do not reach.

use crate::{plan::Build, report::Diagnostic, spec::NetworkMode};

/// One warning for the names of a build that get no address.
pub(super) fn without_address(build: &Build) -> Option<Diagnostic> {
    let names: Vec<&str> =
        build.extra_hosts.iter().filter(|host| host.is_gateway()).map(|host| host.name.as_str()).collect();
    if names.is_empty() || build.network == NetworkMode::Host {
        return None;
    }
    let message = format!("steps do not reach this machine, so there is no address for: {}", names.join(", "));
    let warning = Diagnostic::warning("bake::engine::host_gateway", message);
    Some(warning.help("with network = \"host\" and --allow network.host it is 127.0.0.1"))
}
