//! Network namespaces of steps: one for each running step, with access to the outside by pasta or slirp4netns.
//!
//! ```text
//! pool ─► /proc/self/exe __network  (first process of a pid namespace; a socket to us as its stdin)
//!           user and network namespace ─► pasta or slirp4netns, started from the host's network ─► unreachable routes
//!         to the host's own addresses, and rules of nftables for who passes over routes ─► ready: the pool opens its network namespace, steps enter it one after another
//! ```
//!
//! When `bake` ends, however it ends, the socket closes, the helper exits, and the kernel kills all of its pid namespace.
//! No firewall rule of the host is read or changed, and no port of the namespace is forwarded in either direction.

mod dns;
mod firewall;
mod helper;
mod netlink;
mod pool;
mod route;
mod tool;

pub(super) use helper::network_helper_main;
pub(crate) use pool::HostNetworkNotice;
pub(super) use pool::{NetworkPool, StepNetworkLease};
pub(crate) use tool::NetworkChoice;
