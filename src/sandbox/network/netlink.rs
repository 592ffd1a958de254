//! The form of netlink messages (netlink(7)): heads, attributes, answers. What they say is for `route.rs` and
//! `firewall.rs`.

use std::os::fd::OwnedFd;

use rustix::{
    io::{Errno, Result},
    net::{AddressFamily, Protocol, SocketFlags, SocketType, socket_with},
};

/// Size of `nlmsghdr`.
const HEADER: usize = 16;

/// A socket to a part of the kernel; `None` is `NETLINK_ROUTE`, which is protocol 0.
pub(super) fn open(protocol: Option<Protocol>) -> Result<OwnedFd> {
    socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)
}

/// A message: its header and its body.
pub(super) fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
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
pub(super) fn messages(datagram: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    chunks(datagram, HEADER, |head| {
        let len = u32::from_ne_bytes(head.get(..4)?.try_into().ok()?);
        Some((usize::try_from(len).ok()?, u16::from_ne_bytes(head.get(4..6)?.try_into().ok()?)))
    })
}

/// An attribute of a message: its head, its value, and what aligns the next one.
pub(super) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let len = u16::try_from(4 + value.len()).expect("attributes have a few hundred bytes");
    let mut attribute = Vec::with_capacity(usize::from(len).next_multiple_of(4));
    attribute.extend(len.to_ne_bytes());
    attribute.extend(kind.to_ne_bytes());
    attribute.extend(value);
    attribute.resize(usize::from(len).next_multiple_of(4), 0);
    attribute
}

/// Kind and value of each attribute of a message.
pub(super) fn attributes(body: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
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
pub(super) fn answer(body: &[u8]) -> Result<()> {
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

    #[test]
    fn malformed_messages_end_the_list() {
        let whole = message(libc::RTM_GETROUTE, 0, &[1, 2, 3, 4]);
        assert_eq!(messages(&whole).collect::<Vec<_>>(), [(libc::RTM_GETROUTE, &[1, 2, 3, 4][..])]);
        for len in 0..whole.len() {
            assert_eq!(messages(&whole[..len]).count(), 0, "{len}");
        }
        assert_eq!(attributes(&[0, 0, 1, 0]).count(), 0);
        let made = attribute(7, b"abc");
        assert_eq!((made.len(), attributes(&made).next()), (8, Some((7, &b"abc"[..]))));
    }
}
