//! `extra-hosts`: names and addresses for `/etc/hosts` of the steps.

use core::net::IpAddr;

use super::OptionFault;

/// A line for `/etc/hosts`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExtraHost {
    pub(crate) name: String,
    /// An IP address without brackets, or `host-gateway`.
    pub(crate) address: String,
}

impl ExtraHost {
    /// Parses the addresses of one name: several are split at commas, IPv6 addresses may stand in brackets.
    ///
    /// # Errors
    /// When one of them is not an IP address.
    pub(crate) fn parse(name: &str, addresses: &str) -> Result<Vec<Self>, OptionFault> {
        let one = |text: &str| {
            let address = text.trim().trim_start_matches('[').trim_end_matches(']');
            if address == "host-gateway" || address.parse::<IpAddr>().is_ok() {
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
        assert_eq!(print("nowhere"), "the address of host `h` is not an IP address: nowhere");
    }
}
