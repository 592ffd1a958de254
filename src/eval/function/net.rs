//! Functions of IP address prefixes in CIDR notation, as arithmetic: nothing is connected to.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::fmt;

use num_traits::ToPrimitive;

use super::builtin::{Builtin, FunctionCall, FunctionError, Param, ParamType, param, row};
use crate::eval::value::types::{Type, Value};

/// How many bits one call may add to a prefix.
const MAX_NEW_BITS: u32 = 32;

const PREFIX: Param = param("prefix", ParamType::String);
const NEW_BITS: Param = param("newbits", ParamType::Number);

pub(super) const FUNCTIONS: &[Builtin] = &[
    row(
        "cidrhost",
        &[PREFIX, param("hostnum", ParamType::Number)],
        None,
        "the address with this number in a prefix; a negative one counts from the end",
        cidrhost,
    ),
    row("cidrnetmask", &[PREFIX], None, "the mask of a prefix", cidrnetmask),
    row(
        "cidrsubnet",
        &[PREFIX, NEW_BITS, param("netnum", ParamType::Number)],
        None,
        "the part with this number of a prefix made longer by newbits",
        cidrsubnet,
    ),
    row(
        "cidrsubnets",
        &[PREFIX],
        Some(NEW_BITS),
        "consecutive parts of a prefix, each made longer by its newbits",
        cidrsubnets,
    ),
];

/// A network prefix: its first address as a number, its length, and how many bits an address has.
#[derive(Clone, Copy)]
struct Prefix {
    first: u128,
    length: u32,
    bits: u32,
}

impl Prefix {
    fn parse(call: &FunctionCall<'_>) -> Result<Self, FunctionError> {
        let text = call.text(0);
        let fault = || FunctionError::at(0, format!("not an address prefix such as `10.0.0.0/8`: {text:?}"));
        let (address, length) = text.split_once('/').ok_or_else(fault)?;
        let (number, bits) = match address.parse::<IpAddr>().map_err(|_| fault())? {
            IpAddr::V4(v4) => (u128::from(v4.to_bits()), 32),
            IpAddr::V6(v6) => (v6.to_bits(), 128),
        };
        let digits = !length.is_empty() && length.len() <= 3 && length.bytes().all(|byte| byte.is_ascii_digit());
        let length = length.parse::<u32>().ok().filter(|length| digits && *length <= bits).ok_or_else(fault)?;
        let mut prefix = Self { first: number, length, bits };
        prefix.first &= prefix.mask();
        Ok(prefix)
    }

    /// The bits that all addresses of the prefix share.
    fn mask(self) -> u128 {
        let all = u128::MAX >> (128 - self.bits);
        all & !self.host_mask()
    }

    /// The bits that number the addresses within the prefix.
    const fn host_mask(self) -> u128 {
        let host = self.bits - self.length;
        if host == 0 { 0 } else { u128::MAX >> (128 - host) }
    }

    const fn last(self) -> u128 {
        self.first | self.host_mask()
    }

    /// The length after `newbits` more, if an address has that many bits.
    fn longer(self, newbits: i64, argument: usize) -> Result<u32, FunctionError> {
        let newbits = u32::try_from(newbits).ok().filter(|newbits| *newbits <= MAX_NEW_BITS).ok_or_else(|| {
            FunctionError::at(
                argument,
                format!("a prefix can be made longer by 0 to {MAX_NEW_BITS} bits, got {newbits}"),
            )
        })?;
        let length = self.length + newbits;
        if length > self.bits {
            return Err(FunctionError::at(
                argument,
                format!("a prefix of {length} bits is longer than the {}-bit address", self.bits),
            ));
        }
        Ok(length)
    }

    fn address(self, number: u128) -> IpAddr {
        match u32::try_from(number) {
            Ok(v4) if self.bits == 32 => IpAddr::V4(Ipv4Addr::from_bits(v4)),
            _ => IpAddr::V6(Ipv6Addr::from_bits(number)),
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address(self.first), self.length)
    }
}

fn cidrhost(call: &FunctionCall<'_>) -> Result<Value, FunctionError> {
    let prefix = Prefix::parse(call)?;
    let number = call.number(1);
    let fault = || FunctionError::at(1, format!("a prefix of {} bits has no address number {number}", prefix.length));
    let big =
        number.to_big().ok_or_else(|| FunctionError::at(1, format!("a whole number is required, got {number}")))?;
    let offset = if number.is_negative() { -big - 1 } else { big };
    let offset = offset.to_u128().filter(|offset| *offset <= prefix.host_mask()).ok_or_else(fault)?;
    let host = if number.is_negative() { prefix.last() - offset } else { prefix.first + offset };
    Ok(Value::string(prefix.address(host).to_string()))
}

fn cidrnetmask(call: &FunctionCall<'_>) -> Result<Value, FunctionError> {
    let prefix = Prefix::parse(call)?;
    Ok(Value::string(prefix.address(prefix.mask()).to_string()))
}

fn cidrsubnet(call: &FunctionCall<'_>) -> Result<Value, FunctionError> {
    let prefix = Prefix::parse(call)?;
    let length = prefix.longer(call.integer(1)?, 1)?;
    let number = call.integer(2)?;
    let newbits = length - prefix.length;
    let fits = u128::try_from(number).ok().filter(|number| *number < 1 << newbits);
    let number = fits.ok_or_else(|| FunctionError::at(2, format!("{newbits} bits have no part number {number}")))?;
    let part = Prefix { length, ..prefix };
    let shift = prefix.bits - length;
    let offset = if shift == 128 { 0 } else { number << shift };
    Ok(Value::string(Prefix { first: prefix.first | offset, ..part }.to_string()))
}

fn cidrsubnets(call: &FunctionCall<'_>) -> Result<Value, FunctionError> {
    let whole = Prefix::parse(call)?;
    let mut parts = Vec::new();
    let mut previous: Option<Prefix> = None;
    for argument in 1..call.args.len() {
        let newbits = call.integer(argument)?;
        if newbits < 1 {
            return Err(FunctionError::at(argument, format!("a part must be longer by at least 1 bit, got {newbits}")));
        }
        let length = whole.longer(newbits, argument)?;
        let part = Prefix { length, ..whole };
        // The next part starts after the block of its own size in which the previous one ends.
        let first = previous.map_or(Some(whole.first), |previous| (previous.last() | part.host_mask()).checked_add(1));
        let part = first.map(|first| Prefix { first, ..part }).filter(|part| part.last() <= whole.last()).ok_or_else(
            || {
                FunctionError::at(
                    argument,
                    format!("no room is left in {whole} for a part with a prefix of {length} bits"),
                )
            },
        )?;
        parts.push(Value::string(part.to_string()));
        previous = Some(part);
    }
    Ok(Value::list(Type::String, parts))
}
