//! Sizes in bytes: `64m`, `1.5GiB`, `1024`.

use super::fault::OptionFault;

/// Reads a size; units are powers of 1024, `b`, `k`, `m`, `g`, `t`, `p`, with or without `ib`, case does not count.
///
/// # Errors
/// Names the text and the accepted forms.
pub(crate) fn parse(text: &str) -> Result<u64, OptionFault> {
    let bad =
        || OptionFault::new(format!("not a size: {text}")).help("write bytes with an optional unit, as in 64m or 1.5g");
    let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let (prefix, rest) = match unit.chars().next() {
        Some(first @ ('k' | 'm' | 'g' | 't' | 'p')) => (Some(first), &unit[1..]),
        _ => (None, unit.as_str()),
    };
    if !matches!(rest, "" | "b" | "ib") || (rest == "ib" && prefix.is_none()) {
        return Err(bad());
    }
    let shift = prefix.map_or(0, |prefix| 10 * ("kmgtp".find(prefix).expect("one of these five") + 1));
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || fraction.is_empty() || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad());
    }
    let scale = 1u128 << shift;
    let whole = whole.parse::<u64>().map_err(|_| bad())?;
    let fraction = &fraction[..fraction.len().min(18)];
    let part = fraction.parse::<u128>().map_err(|_| bad())? * scale
        / 10u128.pow(u32::try_from(fraction.len()).map_err(|_| bad())?);
    u64::try_from(u128::from(whole) * scale + part).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        let check = |text: &str, bytes: Option<u64>| assert_eq!(parse(text).ok(), bytes, "{text}");
        check("64m", Some(64 << 20));
        check("1.5g", Some(3 << 29));
        check("64MiB", Some(64 << 20));
        check("10", Some(10));
        check("10b", Some(10));
        check("1 kb", Some(1024));
        check("4M", Some(4 << 20));
        for bad in ["", "lots", "m", "1.", ".5", "1x", "-1", "99999999999999999999", "9999999999p", "1ib", "1..2"] {
            check(bad, None);
        }
    }
}
