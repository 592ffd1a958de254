//! Routes by netlink (rtnetlink(7)): which addresses are the host's own, and how they are made unreachable elsewhere.

use std::os::fd::OwnedFd;

use rustix::{
    io::{Errno, Result},
    net::{RecvFlags, SendFlags, recv, send},
};

use super::netlink::{answer, attribute, attributes, message, messages, open};

/// A range of addresses: the family as in `rtmsg`, the leading bytes of the address, and how many bits of them count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RoutePrefix {
    pub(super) family: u8,
    pub(super) address: Vec<u8>,
    pub(super) bits: u8,
}

pub(super) const INET: u8 = libc::AF_INET as u8;
pub(super) const INET6: u8 = libc::AF_INET6 as u8;
/// Size of `rtmsg`.
const ROUTE: usize = 12;
/// `RTN_LOCAL`, `RTN_BROADCAST`, `RTN_ANYCAST`: packets to such addresses are delivered to this machine.
const LOCAL_TYPES: [u8; 3] = [2, 3, 4];
const RTN_UNREACHABLE: u8 = 7;
const RTA_DST: u16 = 1;

impl RoutePrefix {
    /// Whether every network namespace has these addresses for itself: the loopback ones.
    fn is_loopback(&self) -> bool {
        match self.family {
            INET => self.address.first() == Some(&127),
            _ => self.bits == 128 && self.address.split_last() == Some((&1, &[0; 15])),
        }
    }

    /// Whether an address is in the range.
    pub(super) fn contains(&self, address: std::net::IpAddr) -> bool {
        let (family, octets) = match address {
            std::net::IpAddr::V4(it) => (INET, it.octets().to_vec()),
            std::net::IpAddr::V6(it) => (INET6, it.octets().to_vec()),
        };
        let bit = |bytes: &[u8], ix: usize| bytes.get(ix / 8).is_some_and(|byte| byte & (0x80 >> (ix % 8)) != 0);
        family == self.family && (0..usize::from(self.bits)).all(|ix| bit(&octets, ix) == bit(&self.address, ix))
    }
}

/// Reads the addresses of the current network namespace to which packets are delivered locally, without the loopback
/// ones (rtnetlink(7)).
pub(super) fn local_prefixes() -> Result<Vec<RoutePrefix>> {
    let mut found = Vec::new();
    for family in [INET, INET6] {
        match local_prefixes_of(family) {
            // The kernel has no IPv6.
            Err(Errno::OPNOTSUPP | Errno::AFNOSUPPORT) => (),
            other => found.extend(other?),
        }
    }
    Ok(found)
}

fn local_prefixes_of(family: u8) -> Result<Vec<RoutePrefix>> {
    const DUMP: u16 = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
    let socket = open(None)?;
    let mut route = [0; ROUTE];
    route[0] = family;
    send(&socket, &message(libc::RTM_GETROUTE, DUMP, &route), SendFlags::empty())?;
    let mut found = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let (n, _) = recv(&socket, &mut buffer[..], RecvFlags::empty())?;
        for (kind, body) in messages(&buffer[..n]) {
            match i32::from(kind) {
                libc::NLMSG_DONE => return Ok(found),
                libc::NLMSG_ERROR => answer(body)?,
                _ => found.extend(local_prefix(body)),
            }
        }
    }
}

/// The range of a route message, if it is delivered locally.
fn local_prefix(body: &[u8]) -> Option<RoutePrefix> {
    let (family, bits, kind) = (*body.first()?, *body.get(1)?, *body.get(7)?);
    let address = attributes(body.get(ROUTE..)?).find(|(kind, _)| *kind == RTA_DST)?.1.to_vec();
    let prefix = RoutePrefix { family, address, bits };
    (LOCAL_TYPES.contains(&kind) && !prefix.is_loopback()).then_some(prefix)
}

/// Adds routes that make the ranges unreachable from the current network namespace.
pub(super) fn make_unreachable(prefixes: &[RoutePrefix]) -> Result<()> {
    const ADD: u16 = (libc::NLM_F_REQUEST | libc::NLM_F_ACK | libc::NLM_F_CREATE) as u16;
    let socket = open(None)?;
    for prefix in prefixes {
        match add(&socket, ADD, prefix) {
            // The same range may be local to several devices. A namespace without IPv6 takes no routes for it.
            Err(Errno::EXIST) => (),
            Err(_) if prefix.family == INET6 && !has_ipv6() => (),
            other => other?,
        }
    }
    Ok(())
}

/// Whether a device other than the loopback one has an IPv6 address.
pub(super) fn has_ipv6() -> bool {
    let addresses = std::fs::read_to_string("/proc/self/net/if_inet6").unwrap_or_default();
    addresses.lines().any(|line| !line.ends_with(" lo"))
}

fn add(socket: &OwnedFd, flags: u16, prefix: &RoutePrefix) -> Result<()> {
    let mut body = vec![0; ROUTE];
    (body[0], body[1]) = (prefix.family, prefix.bits);
    (body[4], body[5], body[7]) = (libc::RT_TABLE_MAIN, libc::RTPROT_STATIC, RTN_UNREACHABLE);
    body.extend(attribute(RTA_DST, &prefix.address));
    send(socket, &message(libc::RTM_NEWROUTE, flags, &body), SendFlags::empty())?;
    let mut buffer = vec![0; 4 << 10];
    let (n, _) = recv(socket, &mut buffer[..], RecvFlags::empty())?;
    let result = messages(&buffer[..n]).find(|(kind, _)| i32::from(*kind) == libc::NLMSG_ERROR);
    result.map_or(Err(Errno::BADMSG), |(_, body)| answer(body))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(family: u8, address: &[u8], bits: u8) -> RoutePrefix {
        RoutePrefix { family, address: address.to_vec(), bits }
    }

    #[test]
    fn addresses_are_in_their_range() {
        let range = prefix(INET, &[10, 1, 0, 0], 15);
        assert!(range.contains("10.0.255.1".parse().unwrap()) && range.contains("10.1.0.1".parse().unwrap()));
        assert!(!range.contains("10.2.0.1".parse().unwrap()) && !range.contains("::ffff:10.1.0.1".parse().unwrap()));
    }

    #[test]
    fn loopback_addresses_are_known() {
        assert!(prefix(INET, &[127, 0, 0, 0], 8).is_loopback());
        let mut one = [0; 16];
        one[15] = 1;
        assert!(prefix(INET6, &one, 128).is_loopback());
        assert!(!prefix(INET, &[10, 0, 0, 1], 32).is_loopback());
    }

    #[test]
    fn the_kernel_answers() {
        assert!(local_prefixes().unwrap().iter().all(|it| !it.is_loopback()));
    }
}
