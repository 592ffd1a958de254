//! `extra-hosts`: names and addresses for `/etc/hosts` of the steps.

use core::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::fault::OptionFault;

/// A line for the `/etc/hosts` of steps. Its name is part of cache keys, its address is not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ExtraHost {
    pub(crate) name: String,
    /// An IP address without brackets, or `host-gateway`, the machine that builds.
    pub(crate) address: String,
}

const GATEWAY: &str = "host-gateway";

impl ExtraHost {
    /// Whether its address is that of the machine that builds, whatever it is.
    pub(crate) fn is_gateway(&self) -> bool {
        self.address == GATEWAY
    }

    /// Parses the addresses of one name: several are split at commas, IPv6 addresses may stand in brackets.
    ///
    /// # Errors
    /// When one of them is not an IP address, or the name would be several words of `/etc/hosts`.
    pub(crate) fn parse(name: &str, addresses: &str) -> Result<Vec<Self>, OptionFault> {
        if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '#') {
            let fault = OptionFault::new(format!("not the name of a host: {}", name.escape_debug()));
            return Err(OptionFault {
                key: name.to_owned(),
                ..fault.help("write a name without blanks, as in db.local")
            });
        }
        let one = |text: &str| {
            let address = text.trim().trim_start_matches('[').trim_end_matches(']');
            if address == GATEWAY || address.parse::<IpAddr>().is_ok() {
                return Ok(Self { name: name.to_owned(), address: address.to_owned() });
            }
            let message = if address.is_empty() {
                format!("the host has no address: {name}")
            } else {
                format!("the address of host `{name}` is not an IP address: {address}")
            };
            let fault = OptionFault::new(message).help("write an IP address, as in 10.0.0.1, or several with commas");
            Err(OptionFault { key: name.to_owned(), part: addresses.to_owned(), ..fault })
        };
        addresses.split(',').map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_split_and_checked() {
        let print = |text: &str| match ExtraHost::parse("h", text) {
            Ok(all) => all.iter().map(|host| host.address.as_str()).collect::<Vec<_>>().join(" "),
            Err(fault) => fault.message,
        };
        assert_eq!(print("10.0.0.1, [::1]"), "10.0.0.1 ::1");
        assert_eq!(print("host-gateway"), "host-gateway");
        assert_eq!(print(""), "the host has no address: h");
        for bad in ["", "a b", "a\nb", "a#"] {
            assert!(ExtraHost::parse(bad, "10.0.0.1").is_err(), "{bad:?}");
        }
        assert_eq!(print("nowhere"), "the address of host `h` is not an IP address: nowhere");
    }
}
