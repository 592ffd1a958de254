//! The `resolv.conf` of a step in a namespace of its own: text in, text out (resolv.conf(5)).

use std::net::IpAddr;

use super::route::RoutePrefix;

/// How name servers that run on the host itself are reached from a network namespace.
#[derive(Clone, Copy, Debug)]
pub(super) struct DnsForward {
    /// Queries to this address are forwarded to the host's first name server.
    pub(super) address: IpAddr,
    /// Whether the namespace reaches IPv6 addresses.
    pub(super) has_ipv6: bool,
}

/// What glibc and musl read of it.
const MAX_SERVERS: usize = 3;

/// Rewrites the host's `resolv.conf` for a step: each name server that its namespace does not reach is replaced by the
/// forwarding address.
///
/// Not reached are loopback addresses (systemd-resolved, dnsmasq) and other addresses of the host. A file without name
/// servers means one on this machine.
pub(super) fn resolv_conf(host: &str, local: &[RoutePrefix], forward: DnsForward) -> String {
    let mut servers: Vec<String> = Vec::new();
    let mut rest = String::new();
    for line in host.lines() {
        let mut words = line.split_whitespace();
        if words.next() != Some("nameserver") {
            rest.extend([line, "\n"]);
            continue;
        }
        let Some(server) = words.next() else { continue };
        let server = if is_reachable(server, local, forward) { server.to_owned() } else { forward.address.to_string() };
        if !servers.contains(&server) {
            servers.push(server);
        }
    }
    if servers.is_empty() {
        servers.push(forward.address.to_string());
    }
    let servers: String = servers.iter().take(MAX_SERVERS).map(|server| format!("nameserver {server}\n")).collect();
    servers + &rest
}

fn is_reachable(server: &str, local: &[RoutePrefix], forward: DnsForward) -> bool {
    // A link-local address names a device of the host (`fe80::1%eth0`), and is no address without it.
    let Ok(address) = server.parse::<IpAddr>() else { return false };
    !address.is_loopback()
        && !address.is_unspecified()
        && (address.is_ipv4() || forward.has_ipv6)
        && !local.iter().any(|prefix| prefix.contains(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_on_the_host_are_reached_by_the_forwarding_address() {
        let forward = DnsForward { address: "169.254.1.1".parse().unwrap(), has_ipv6: true };
        let conf = |host: &str| resolv_conf(host, &[], forward);
        assert_eq!(
            conf("# stub\nnameserver 127.0.0.53\noptions edns0 trust-ad\nsearch example.com\n"),
            "nameserver 169.254.1.1\n# stub\noptions edns0 trust-ad\nsearch example.com\n"
        );
        assert_eq!(conf("nameserver ::1\nnameserver 10.0.0.2\n"), "nameserver 169.254.1.1\nnameserver 10.0.0.2\n");
        assert_eq!(conf("nameserver fe80::1%eth0\nnameserver 127.0.0.1\n"), "nameserver 169.254.1.1\n");
        assert_eq!(conf("nameserver 2001:db8::1\n"), "nameserver 2001:db8::1\n");
        assert_eq!(conf("search a\n"), "nameserver 169.254.1.1\nsearch a\n");
        let without = DnsForward { has_ipv6: false, ..forward };
        assert_eq!(resolv_conf("nameserver 2001:db8::1\n", &[], without), "nameserver 169.254.1.1\n");
    }

    #[test]
    fn three_servers_are_kept() {
        let forward = DnsForward { address: "10.0.2.3".parse().unwrap(), has_ipv6: false };
        let host = "nameserver 1.0.0.1\nnameserver 1.0.0.2\nnameserver 1.0.0.3\nnameserver 1.0.0.4\n";
        assert_eq!(resolv_conf(host, &[], forward).lines().count(), 3);
    }
}
