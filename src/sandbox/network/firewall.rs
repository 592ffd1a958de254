//! Packets that may not leave the network namespace of a step: those to the host's own addresses, to its loopback device,
//! and to everyone at once.
//!
//! Routes alone do not hold them back. A program may name the device (`SO_BINDTODEVICE`, `IP_PKTINFO`, the scope of a
//! link-local address) or, with `NET_RAW`, write whole frames; and pasta and slirp4netns open sockets on the host to
//! whatever address a packet has. These rules of nftables are in the namespace of the step, which has no right to change
//! them; no rule of the host is read or touched.
//!
//! The form of the messages: `linux/netfilter/nfnetlink.h` and `nf_tables.h`. Since Linux 5.16 there is a hook where every
//! frame of a device passes (`NF_NETDEV_EGRESS`); before, only packets of sockets can be looked at.

use rustix::{
    io::{Errno, Result},
    net::{RecvFlags, SendFlags, netlink, recv, send},
};

use super::{
    netlink::{answer, attribute, message, messages, open},
    route::{INET, INET6, RoutePrefix, has_ipv6},
};

const TABLE: &[u8] = b"bake\0";
const CHAIN: &[u8] = b"out\0";
/// `NFNL_SUBSYS_NFTABLES`, and its messages.
const NFTABLES: u16 = 10;
const NEW_TABLE: u16 = NFTABLES << 8;
const NEW_CHAIN: u16 = NFTABLES << 8 | 3;
const NEW_RULE: u16 = NFTABLES << 8 | 6;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
/// `NFPROTO_NETDEV`.
const NETDEV: u8 = 5;
const DROP: u32 = 0;
const ACCEPT: u32 = 1;
const NESTED: u16 = 0x8000;
/// `NFT_REG_1`, where the expressions of a rule put what they look at.
const REGISTER: u32 = 1;
/// `NFT_META_OIF`.
const OUTPUT_DEVICE: u32 = 5;
/// The number of the loopback device in every network namespace.
const LOOPBACK: u32 = 1;
/// The types of frames (IEEE 802).
const FRAME_INET: [u8; 2] = [0x08, 0x00];
const FRAME_INET6: [u8; 2] = [0x86, 0xdd];
const FRAME_ARP: [u8; 2] = [0x08, 0x06];

/// What [`close`] could close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClosedWays {
    /// Every frame is looked at, so that a step may have `NET_RAW`.
    Frames,
    /// Packets of sockets are looked at, or nothing is: a step may write no frames.
    Sockets,
}

/// Drops what the current network namespace sends to `local`, the host's own addresses, to loopback addresses by another
/// device than its own, and to link-local, multicast and broadcast addresses. Neighbours are still found.
///
/// # Errors
/// Those of the kernel: it has no nftables, or the namespace is not ours.
pub(super) fn close(local: &[RoutePrefix]) -> Result<ClosedWays> {
    if close_devices(local).is_ok() {
        return Ok(ClosedWays::Frames);
    }
    for family in [INET, INET6] {
        match close_sockets(family, local) {
            Err(_) if family == INET6 && !has_ipv6() => (),
            other => other?,
        }
    }
    Ok(ClosedWays::Sockets)
}

/// One chain at every device but the loopback one. What is neither IP nor a search for neighbours is dropped as well.
fn close_devices(local: &[RoutePrefix]) -> Result<()> {
    const EGRESS: u32 = 1;
    let table = std::fs::read_to_string("/proc/self/net/dev").unwrap_or_default();
    // Two lines of headings, then one a device.
    let names = table.lines().skip(2).filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim());
    let devices: Vec<&str> = names.filter(|name| *name != "lo").collect();
    if devices.is_empty() {
        return Err(Errno::NODEV);
    }
    let mut bodies = vec![(NEW_TABLE, attribute(1, TABLE))];
    for (ix, device) in devices.iter().enumerate() {
        let chain = format!("out{ix}\0");
        let device = attribute(3, format!("{device}\0").as_bytes());
        bodies.push((NEW_CHAIN, new_chain(chain.as_bytes(), &[number(1, EGRESS), number(2, 0), device], DROP)));
        let mut add = |parts: &[Vec<u8>]| bodies.push((NEW_RULE, new_rule(chain.as_bytes(), parts)));
        let frames = View::Frames;
        for (family, kind) in [(INET, FRAME_INET), (INET6, FRAME_INET6)] {
            if family == INET6 {
                add(&[frames.is_type(kind), frames.is_neighbour_discovery(), verdict(ACCEPT)]);
            }
            for prefix in closed_ranges(family, local) {
                add(&[frames.is_type(kind), frames.is_sent_to(&prefix), verdict(DROP)]);
            }
            add(&[frames.is_type(kind), verdict(ACCEPT)]);
        }
        add(&[frames.is_type(FRAME_ARP), verdict(ACCEPT)]);
    }
    send_batch(NETDEV, &bodies)
}

/// One chain for the packets of sockets of this family.
fn close_sockets(family: u8, local: &[RoutePrefix]) -> Result<()> {
    const OUTPUT: u32 = 3;
    let packets = View::Packets;
    let mut bodies = vec![
        (NEW_TABLE, attribute(1, TABLE)),
        (NEW_CHAIN, new_chain(CHAIN, &[number(1, OUTPUT), number(2, 0)], ACCEPT)),
    ];
    let mut add = |parts: &[Vec<u8>]| bodies.push((NEW_RULE, new_rule(CHAIN, parts)));
    add(&[is_device(LOOPBACK), verdict(ACCEPT)]);
    if family == INET6 {
        add(&[packets.is_neighbour_discovery(), verdict(ACCEPT)]);
    }
    for prefix in closed_ranges(family, local) {
        add(&[packets.is_sent_to(&prefix), verdict(DROP)]);
    }
    send_batch(family, &bodies)
}

/// The ranges of a family that nothing may be sent to.
fn closed_ranges(family: u8, local: &[RoutePrefix]) -> Vec<RoutePrefix> {
    let own = local.iter().filter(|prefix| prefix.family == family).cloned();
    never_outside(family).into_iter().chain(own).collect()
}

/// Ranges that are never the outside.
fn never_outside(family: u8) -> Vec<RoutePrefix> {
    let range = |address: &[u8], bits| {
        let mut address = address.to_vec();
        address.resize(if family == INET { 4 } else { 16 }, 0);
        RoutePrefix { family, address, bits }
    };
    match family {
        // This network, loopback, multicast, and all above with broadcast (RFC 6890).
        INET => vec![range(&[0], 8), range(&[127], 8), range(&[224], 4), range(&[240], 4)],
        // The unspecified and the loopback address, addresses of IPv4, link-local, multicast.
        _ => vec![range(&[0], 8), range(&[0xfe, 0x80], 10), range(&[0xff], 8)],
    }
}

/// Sends messages that take effect together or not at all.
fn send_batch(family: u8, bodies: &[(u16, Vec<u8>)]) -> Result<()> {
    let socket = open(Some(netlink::NETFILTER))?;
    let begin = libc::NLM_F_REQUEST as u16;
    let ask = (libc::NLM_F_REQUEST | libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_APPEND) as u16;
    let mut batch = message(BATCH_BEGIN, begin, &head(libc::AF_UNSPEC as u8, NFTABLES));
    for (kind, attributes) in bodies {
        batch.extend(message(*kind, ask, &[&head(family, 0)[..], attributes].concat()));
    }
    batch.extend(message(BATCH_END, begin, &head(libc::AF_UNSPEC as u8, NFTABLES)));
    send(&socket, &batch, SendFlags::empty())?;
    let mut answered = 0;
    let mut buffer = vec![0; 64 << 10];
    while answered < bodies.len() {
        let (n, _) = recv(&socket, &mut buffer[..], RecvFlags::empty())?;
        for (kind, body) in messages(&buffer[..n]) {
            if i32::from(kind) != libc::NLMSG_ERROR {
                return Err(Errno::BADMSG);
            }
            answer(body)?;
            answered += 1;
        }
    }
    Ok(())
}

/// `nfgenmsg`.
fn head(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

fn number(kind: u16, value: u32) -> Vec<u8> {
    attribute(kind, &value.to_be_bytes())
}

fn nested(kind: u16, parts: &[Vec<u8>]) -> Vec<u8> {
    attribute(NESTED | kind, &parts.concat())
}

fn new_chain(name: &[u8], hook: &[Vec<u8>], policy: u32) -> Vec<u8> {
    [attribute(1, TABLE), attribute(3, name), nested(4, hook), number(5, policy), attribute(7, b"filter\0")].concat()
}

fn new_rule(chain: &[u8], parts: &[Vec<u8>]) -> Vec<u8> {
    [attribute(1, TABLE), attribute(2, chain), nested(4, parts)].concat()
}

fn expression(name: &str, data: &[Vec<u8>]) -> Vec<u8> {
    nested(1, &[attribute(1, &[name.as_bytes(), b"\0"].concat()), nested(2, data)])
}

/// Compares the register; `how` is an `nft_cmp_ops`.
fn compare(how: u32, value: &[u8]) -> Vec<u8> {
    expression("cmp", &[number(1, REGISTER), number(2, how), nested(3, &[attribute(1, value)])])
}

fn is_device(number: u32) -> Vec<u8> {
    // Device numbers are in the byte order of the machine.
    let load = expression("meta", &[self::number(1, REGISTER), self::number(2, OUTPUT_DEVICE)]);
    [load, compare(0, &number.to_ne_bytes())].concat()
}

/// What rules look at: where the head of the network layer begins.
#[derive(Clone, Copy)]
enum View {
    /// Frames of Ethernet, as they are sent: what their sender says about them does not count.
    Frames,
    /// Packets of sockets.
    Packets,
}

impl View {
    /// Loads a part that is `offset` bytes behind the begin of the network layer.
    fn load(self, offset: u32, len: u32) -> Vec<u8> {
        const ETHERNET: u32 = 14;
        let (base, offset) = match self {
            Self::Frames => (0, ETHERNET + offset),
            Self::Packets => (1, offset),
        };
        expression("payload", &[number(1, REGISTER), number(2, base), number(3, offset), number(4, len)])
    }

    /// Whether a frame says that it is of this type.
    fn is_type(self, kind: [u8; 2]) -> Vec<u8> {
        let load = expression("payload", &[number(1, REGISTER), number(2, 0), number(3, 12), number(4, 2)]);
        [load, compare(0, &kind)].concat()
    }

    /// Router and neighbour solicitations, advertisements: types 133 to 136 of ICMPv6, right behind the head (RFC 4861).
    fn is_neighbour_discovery(self) -> Vec<u8> {
        const AT_LEAST: u32 = 5;
        const AT_MOST: u32 = 3;
        let protocol = [self.load(6, 1), compare(0, &[58])].concat();
        [protocol, self.load(40, 1), compare(AT_LEAST, &[133]), compare(AT_MOST, &[136])].concat()
    }

    fn is_sent_to(self, prefix: &RoutePrefix) -> Vec<u8> {
        let (offset, len) = if prefix.family == INET { (16, 4_u32) } else { (24, 16) };
        let bits = usize::from(prefix.bits);
        let mask: Vec<u8> = (0..len as usize)
            .map(|ix| match bits.saturating_sub(ix * 8) {
                0 => 0,
                left @ 1..8 => 0xff_u8 << (8 - left),
                _ => 0xff,
            })
            .collect();
        let network: Vec<u8> = prefix.address.iter().zip(&mask).map(|(byte, mask)| byte & mask).collect();
        let masked = expression(
            "bitwise",
            &[
                number(1, REGISTER),
                number(2, REGISTER),
                number(3, len),
                nested(4, &[attribute(1, &mask)]),
                nested(5, &[attribute(1, &vec![0; len as usize])]),
            ],
        );
        [self.load(offset, len), masked, compare(0, &network)].concat()
    }
}

fn verdict(code: u32) -> Vec<u8> {
    // Register 0 is the verdict.
    expression("immediate", &[number(1, 0), nested(2, &[nested(2, &[number(1, code)])])])
}
