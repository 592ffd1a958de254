//! Routes by netlink (rtnetlink(7)): which addresses are the host's own, and how they are made unreachable elsewhere.

use std::os::fd::OwnedFd;

use rustix::{
    io::{Errno, Result},
    net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with},
};

/// A range of addresses: the family as in `rtmsg`, the leading bytes of the address, and how many bits of them count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RoutePrefix {
    family: u8,
    address: Vec<u8>,
    bits: u8,
}

const INET: u8 = libc::AF_INET as u8;
const INET6: u8 = libc::AF_INET6 as u8;
/// Sizes of `nlmsghdr` and `rtmsg`.
const HEADER: usize = 16;
const ROUTE: usize = 12;
/// `RTN_LOCAL`, `RTN_ANYCAST`: packets to such addresses are delivered to this machine.
const LOCAL_TYPES: [u8; 2] = [2, 4];
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

/// The addresses of the current network namespace to which packets are delivered locally, without the loopback ones.
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
    let socket = open()?;
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

/// Makes the ranges unreachable from the current network namespace.
pub(super) fn make_unreachable(prefixes: &[RoutePrefix]) -> Result<()> {
    const ADD: u16 = (libc::NLM_F_REQUEST | libc::NLM_F_ACK | libc::NLM_F_CREATE) as u16;
    let socket = open()?;
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
fn has_ipv6() -> bool {
    let addresses = std::fs::read_to_string("/proc/self/net/if_inet6").unwrap_or_default();
    addresses.lines().any(|line| !line.ends_with(" lo"))
}

fn add(socket: &OwnedFd, flags: u16, prefix: &RoutePrefix) -> Result<()> {
    let mut body = vec![0; ROUTE];
    (body[0], body[1]) = (prefix.family, prefix.bits);
    (body[4], body[5], body[7]) = (libc::RT_TABLE_MAIN, libc::RTPROT_STATIC, RTN_UNREACHABLE);
    let len = u16::try_from(4 + prefix.address.len()).map_err(|_| Errno::INVAL)?;
    body.extend(len.to_ne_bytes());
    body.extend(RTA_DST.to_ne_bytes());
    body.extend(&prefix.address);
    send(socket, &message(libc::RTM_NEWROUTE, flags, &body), SendFlags::empty())?;
    let mut buffer = vec![0; 4 << 10];
    let (n, _) = recv(socket, &mut buffer[..], RecvFlags::empty())?;
    let result = messages(&buffer[..n]).find(|(kind, _)| i32::from(*kind) == libc::NLMSG_ERROR);
    result.map_or(Err(Errno::BADMSG), |(_, body)| answer(body))
}

/// A socket of `NETLINK_ROUTE`, which is protocol 0.
fn open() -> Result<OwnedFd> {
    socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)
}

fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(HEADER + body.len()).expect("messages have a few dozen bytes");
    let mut message = Vec::with_capacity(HEADER + body.len());
    message.extend(len.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend([0; 8]); // Sequence number and port: there is one request at a time.
    message.extend(body);
    message
}

/// Kind and body of each message of a datagram; what is malformed ends the list.
fn messages(datagram: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    chunks(datagram, HEADER, |head| {
        let len = u32::from_ne_bytes(head.get(..4)?.try_into().ok()?);
        Some((usize::try_from(len).ok()?, u16::from_ne_bytes(head.get(4..6)?.try_into().ok()?)))
    })
}

/// Kind and value of each attribute of a message.
fn attributes(body: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    chunks(body, 4, |head| {
        let number = |at: usize| Some(u16::from_ne_bytes(head.get(at..at + 2)?.try_into().ok()?));
        Some((usize::from(number(0)?), number(2)?))
    })
}

/// Splits what netlink aligns to four bytes; `head` reads length, head included, and kind.
fn chunks(
    mut rest: &[u8],
    head_len: usize,
    head: impl Fn(&[u8]) -> Option<(usize, u16)>,
) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (len, kind) = head(rest)?;
        let body = rest.get(head_len..len)?;
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, body))
    })
}

/// The result in an `nlmsgerr`: 0, or an error number below it.
fn answer(body: &[u8]) -> Result<()> {
    let code = body.get(..4).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes);
    match code {
        Some(0) => Ok(()),
        Some(code) => Err(Errno::from_raw_os_error(code.saturating_neg())),
        None => Err(Errno::BADMSG),
    }
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
    fn the_kernel_answers_and_malformed_messages_end_the_list() {
        assert!(local_prefixes().unwrap().iter().all(|it| !it.is_loopback()));
        let whole = message(libc::RTM_GETROUTE, 0, &[1, 2, 3, 4]);
        assert_eq!(messages(&whole).collect::<Vec<_>>(), [(libc::RTM_GETROUTE, &[1, 2, 3, 4][..])]);
        for len in 0..whole.len() {
            assert_eq!(messages(&whole[..len]).count(), 0, "{len}");
        }
        assert_eq!(attributes(&[0, 0, 1, 0]).count(), 0);
    }
}
