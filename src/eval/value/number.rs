//! Numbers: exact decimals of up to [`DIGITS`] digits. What does not fit (a quotient such as `1/3`, a product of two long
//! fractions) is rounded to a binary float of [`BITS`] bits and kept as the shortest decimal that names that float.
//!
//! Sizes are bounded, so that no operation takes unbounded time or memory. There is no infinity and no negative zero.
//!
//! The crate `bigdecimal` (0.4.11) was tried and not taken: it has no bound (`1e1000000 + 1` took 1.2 s), rounds a quotient to
//! 100 decimal digits where the peer has 512 bits, and an addition took 650 ns, where nearly all numbers of bake files fit an
//! `i64`. What is used below is `num-bigint`.

use std::{cmp::Ordering, fmt};

use num_bigint::{BigInt, BigUint, Sign};
use num_traits::{One, Signed, ToPrimitive, Zero};

/// Significant digits that are kept exactly.
const DIGITS: u64 = 154;
/// Bits of the float that longer numbers are rounded to.
const BITS: u64 = 512;
/// The largest power of ten by which a number may be scaled, in either direction.
const MAX_EXPONENT: i64 = 5_000;

/// A number of the bake language: an exact decimal of bounded length. *Invariant:* what fits `i64` is `Int`, so that
/// equal numbers are equal values.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Number {
    Int(i64),
    Long(Box<Decimal>),
}

/// A number that does not fit `i64`: `digits` × 10^`exponent`. *Invariant:* `digits` is not a multiple of ten.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Decimal {
    digits: BigInt,
    exponent: i64,
}

/// Why an arithmetic operation or a conversion to a number has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NumberError {
    #[error("division by zero")]
    DivisionByZero,
    #[error("the result is too large or too small: numbers lie between 1e-{MAX_EXPONENT} and 1e{MAX_EXPONENT}")]
    OutOfRange,
    #[error("the result is not a number")]
    NotANumber,
}

impl Number {
    pub(crate) const ZERO: Self = Self::Int(0);

    /// Parses a decimal number: `12`, `-1.5`, `.5`, `1e3`. No infinities, no hexadecimal, no blanks; `None` also for
    /// what is out of range.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.len() < 19
            && let Ok(small) = text.parse::<i64>()
        {
            return Some(Self::Int(small));
        }
        let (negative, unsigned) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
            Some(at) => (&unsigned[..at], parse_exponent(&unsigned[at + 1..])?),
            None => (unsigned, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if (whole.is_empty() && fraction.is_empty()) || !all_digits(whole) || !all_digits(fraction) {
            return None;
        }
        let fraction = fraction.trim_end_matches('0');
        let joined = [whole, fraction].concat();
        let digits = joined.trim_start_matches('0');
        let significant = digits.trim_end_matches('0');
        if significant.is_empty() {
            return Some(Self::ZERO);
        }
        let zeros = i64::try_from(digits.len() - significant.len()).ok()?;
        let exponent = exponent.checked_sub(i64::try_from(fraction.len()).ok()?)?.checked_add(zeros)?;
        // Digits far beyond the precision cannot change the result but by a hair: keep enough to round rightly.
        let kept = significant.len().min(2 * MAX_EXPONENT as usize);
        let exponent = exponent.checked_add(i64::try_from(significant.len() - kept).ok()?)?;
        let magnitude = BigUint::parse_bytes(&significant.as_bytes()[..kept], 10)?;
        let sign = if negative { Sign::Minus } else { Sign::Plus };
        Self::make(BigInt::from_biguint(sign, magnitude), exponent).ok()
    }

    /// The whole number `value`.
    pub(crate) const fn from_i64(value: i64) -> Self {
        Self::Int(value)
    }

    /// The whole number `value`: a length or an index.
    pub(crate) fn from_usize(value: usize) -> Self {
        i64::try_from(value).map_or_else(|_| Self::from_big(BigInt::from(value)).unwrap_or(Self::ZERO), Self::Int)
    }

    /// The whole number `value`, unless it is out of range.
    pub(crate) fn from_big(value: BigInt) -> Result<Self, NumberError> {
        Self::make(value, 0)
    }

    /// The shortest decimal within half a step of this float, as HCL prints it.
    ///
    /// Below a power of two the steps are half as long, which does not count here, as it does not in the longer floats:
    /// 2^64 is 18446744073709550000.
    ///
    /// # Errors
    /// For NaN and infinities.
    pub(crate) fn from_f64(value: f64) -> Result<Self, NumberError> {
        if value.is_nan() {
            return Err(NumberError::NotANumber);
        }
        if value.is_infinite() {
            return Err(NumberError::OutOfRange);
        }
        let shortest = Self::parse(&format!("{value:e}")).ok_or(NumberError::OutOfRange)?;
        let is_power_of_two = value.is_normal() && value.to_bits() << 12 == 0;
        if !is_power_of_two || shortest.is_integer() && value.abs() < 2f64.powi(53) {
            return Ok(shortest);
        }
        let exact = |float: f64| Self::parse(&format!("{float:.400e}")).ok_or(NumberError::OutOfRange);
        let (whole, half_step) = (exact(value)?, exact(value.abs() * f64::EPSILON / 2.0)?);
        for digits in 0..17 {
            let Some(near) = Self::parse(&format!("{value:.digits$e}")) else { continue };
            if near.sub(&whole)?.abs() <= half_step {
                return Ok(near);
            }
        }
        Ok(shortest)
    }

    /// The sum; exact unless it has more than [`DIGITS`] digits.
    ///
    /// # Errors
    /// [`NumberError::OutOfRange`].
    pub(crate) fn add(&self, other: &Self) -> Result<Self, NumberError> {
        if let (Self::Int(a), Self::Int(b)) = (self, other)
            && let Some(sum) = a.checked_add(*b)
        {
            return Ok(Self::Int(sum));
        }
        let (a, b, exponent) = aligned(self, other);
        Self::make(a + b, exponent)
    }

    /// The difference; exact unless it has more than [`DIGITS`] digits.
    ///
    /// # Errors
    /// [`NumberError::OutOfRange`].
    pub(crate) fn sub(&self, other: &Self) -> Result<Self, NumberError> {
        self.add(&other.neg())
    }

    /// The product; exact unless it has more than [`DIGITS`] digits.
    ///
    /// # Errors
    /// [`NumberError::OutOfRange`].
    pub(crate) fn mul(&self, other: &Self) -> Result<Self, NumberError> {
        if let (Self::Int(a), Self::Int(b)) = (self, other)
            && let Some(product) = a.checked_mul(*b)
        {
            return Ok(Self::Int(product));
        }
        let ((a, a_exponent), (b, b_exponent)) = (self.parts(), other.parts());
        Self::make(a * b, a_exponent + b_exponent)
    }

    /// The quotient: exact if its digits end within [`DIGITS`], else rounded like a float of [`BITS`] bits.
    ///
    /// # Errors
    /// [`NumberError::DivisionByZero`], [`NumberError::OutOfRange`].
    pub(crate) fn div(&self, other: &Self) -> Result<Self, NumberError> {
        if other.is_zero() {
            return Err(NumberError::DivisionByZero);
        }
        if let (Self::Int(a), Self::Int(b)) = (self, other)
            && a.checked_rem(*b) == Some(0)
            && let Some(quotient) = a.checked_div(*b)
        {
            return Ok(Self::Int(quotient));
        }
        let ((a, a_exponent), (b, b_exponent)) = (self.parts(), other.parts());
        // A quotient that ends within the kept digits is exact; any other is rounded like a binary float.
        let scale = u32::try_from(2 * DIGITS).expect("a small constant");
        let scaled = a.clone() * BigInt::from(10).pow(scale);
        let exponent = a_exponent - b_exponent;
        if (&scaled % &b).is_zero() {
            return Self::make(scaled / b, exponent - i64::from(scale));
        }
        let negative = a.is_negative() != b.is_negative();
        let (digits, shift) = round_to_float(a.magnitude(), b.magnitude(), exponent);
        Self::make(BigInt::from_biguint(if negative { Sign::Minus } else { Sign::Plus }, digits), shift)
    }

    /// The remainder of truncating division, as `%` in HCL: it has the sign of the dividend.
    ///
    /// # Errors
    /// [`NumberError::DivisionByZero`], [`NumberError::OutOfRange`].
    pub(crate) fn rem(&self, other: &Self) -> Result<Self, NumberError> {
        if other.is_zero() {
            return Err(NumberError::DivisionByZero);
        }
        if let (Self::Int(a), Self::Int(b)) = (self, other) {
            return Ok(Self::Int(a.checked_rem(*b).unwrap_or(0)));
        }
        let (a, b, exponent) = aligned(self, other);
        Self::make(a % b, exponent)
    }

    /// The number with the opposite sign; exact.
    #[must_use]
    pub(crate) fn neg(&self) -> Self {
        match self {
            Self::Int(value) => match value.checked_neg() {
                Some(negated) => Self::Int(negated),
                None => Self::Long(Box::new(Decimal { digits: -BigInt::from(*value), exponent: 0 })),
            },
            Self::Long(long) => {
                let digits = -long.digits.clone();
                if long.exponent == 0
                    && let Some(small) = digits.to_i64()
                {
                    return Self::Int(small);
                }
                Self::Long(Box::new(Decimal { digits, exponent: long.exponent }))
            }
        }
    }

    /// The absolute value; exact.
    #[must_use]
    pub(crate) fn abs(&self) -> Self {
        if self.is_negative() { self.neg() } else { self.clone() }
    }

    /// Whether the number is below zero.
    pub(crate) fn is_negative(&self) -> bool {
        match self {
            Self::Int(value) => *value < 0,
            Self::Long(long) => long.digits.is_negative(),
        }
    }

    /// Whether the number is zero; there is no negative zero.
    pub(crate) fn is_zero(&self) -> bool {
        matches!(self, Self::Int(0))
    }

    /// Whether the number has no fraction; it may be too large for `i64`.
    pub(crate) fn is_integer(&self) -> bool {
        match self {
            Self::Int(_) => true,
            Self::Long(long) => long.exponent >= 0,
        }
    }

    /// The number as an `i64`; `None` if it has a fraction or does not fit.
    pub(crate) fn to_i64(&self) -> Option<i64> {
        match self {
            Self::Int(value) => Some(*value),
            Self::Long(_) => None,
        }
    }

    /// The number as a whole number of any size; `None` if it has a fraction.
    pub(crate) fn to_big(&self) -> Option<BigInt> {
        match self {
            Self::Int(value) => Some(BigInt::from(*value)),
            Self::Long(long) if long.exponent >= 0 => Some(&long.digits * power(long.exponent)),
            Self::Long(_) => None,
        }
    }

    /// The nearest `f64`; infinite for numbers beyond its range.
    pub(crate) fn to_f64(&self) -> f64 {
        match self {
            Self::Int(value) => *value as f64,
            Self::Long(long) => format!("{}e{}", long.digits, long.exponent).parse().unwrap_or(f64::NAN),
        }
    }

    /// The whole number next to this one toward zero.
    pub(crate) fn truncate(&self) -> Result<Self, NumberError> {
        match self {
            Self::Long(long) if long.exponent < 0 => Self::make(&long.digits / power(-long.exponent), 0),
            _ => Ok(self.clone()),
        }
    }

    /// The greatest whole number that is not above this one.
    pub(crate) fn floor(&self) -> Result<Self, NumberError> {
        let whole = self.truncate()?;
        if self.is_negative() && whole != *self { whole.sub(&Self::Int(1)) } else { Ok(whole) }
    }

    /// The least whole number that is not below this one.
    pub(crate) fn ceil(&self) -> Result<Self, NumberError> {
        self.neg().floor().map(|floor| floor.neg())
    }

    /// The significant digits without sign, and the power of ten that the last of them stands for.
    pub(crate) fn decimal_digits(&self) -> (String, i64) {
        let (digits, exponent) = self.parts();
        let text = digits.magnitude().to_string();
        let kept = text.trim_end_matches('0').len().max(1);
        let zeros = i64::try_from(text.len() - kept).unwrap_or(0);
        (text[..kept].to_owned(), exponent + zeros)
    }

    /// Where the nearest float of [`BITS`] bits lies as seen from the exact decimal: `Less` is below.
    ///
    /// Formatting with a precision rounds a tie such as `0.125` the way that float leans.
    pub(crate) fn float_error(&self) -> Ordering {
        let Self::Long(long) = self else { return Ordering::Equal };
        if long.exponent >= 0 {
            return Ordering::Equal;
        }
        let exact = (long.digits.magnitude().clone(), power(-long.exponent).magnitude().clone());
        let (mantissa, shift) = nearest_float(exact.0.clone(), exact.1.clone());
        let (left, right) = if shift >= 0 {
            ((mantissa * exact.1) << shift.unsigned_abs(), exact.0)
        } else {
            (mantissa * exact.1, exact.0 << shift.unsigned_abs())
        };
        left.cmp(&right)
    }

    fn parts(&self) -> (BigInt, i64) {
        match self {
            Self::Int(value) => (BigInt::from(*value), 0),
            Self::Long(long) => (long.digits.clone(), long.exponent),
        }
    }

    /// `digits` × 10^`exponent` in its one canonical form, rounded when long, refused when out of range.
    fn make(digits: BigInt, exponent: i64) -> Result<Self, NumberError> {
        if exponent == 0
            && let Some(small) = digits.to_i64()
        {
            return Ok(Self::Int(small));
        }
        if digits.is_zero() {
            return Ok(Self::ZERO);
        }
        let mut digits = digits;
        let mut exponent = exponent;
        let mut text = digits.magnitude().to_string();
        if i64::try_from(text.len()).map_or(true, |len| (len + exponent).abs() > MAX_EXPONENT) {
            return Err(NumberError::OutOfRange);
        }
        if text.trim_end_matches('0').len() as u64 > DIGITS {
            let sign = digits.sign();
            let (rounded, shift) = round_to_float(digits.magnitude(), &BigUint::one(), exponent);
            (digits, exponent) = (BigInt::from_biguint(sign, rounded), shift);
            text = digits.magnitude().to_string();
        }
        let significant = text.trim_end_matches('0').len();
        if significant < text.len() {
            let zeros = i64::try_from(text.len() - significant).expect("a bounded number of digits");
            digits /= power(zeros);
            exponent += zeros;
        }
        if (0..19).contains(&exponent)
            && let Some(small) = (&digits * power(exponent)).to_i64()
        {
            return Ok(Self::Int(small));
        }
        Ok(Self::Long(Box::new(Decimal { digits, exponent })))
    }
}

/// The exponent of `1e12`; what is absurdly long is out of range.
fn parse_exponent(text: &str) -> Option<i64> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if unsigned.is_empty() || !unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.strip_prefix('+').unwrap_or(text).parse::<i64>().ok().filter(|exponent| exponent.abs() < 1 << 40)
}

fn power(exponent: i64) -> BigInt {
    BigInt::from(10).pow(u32::try_from(exponent).expect("exponents are bounded and not negative here"))
}

/// Both numbers as whole multiples of the same power of ten.
fn aligned(a: &Number, b: &Number) -> (BigInt, BigInt, i64) {
    let ((a, a_exponent), (b, b_exponent)) = (a.parts(), b.parts());
    let exponent = a_exponent.min(b_exponent);
    (a * power(a_exponent - exponent), b * power(b_exponent - exponent), exponent)
}

/// The float of [`BITS`] bits nearest to `top / bottom` (ties to even), as mantissa × 2^shift.
fn nearest_float(mut top: BigUint, mut bottom: BigUint) -> (BigUint, i64) {
    // Scale by a power of two so that the quotient has BITS or BITS + 1 bits, then round away the surplus.
    let mut shift = top.bits().cast_signed() - bottom.bits().cast_signed() - BITS.cast_signed();
    if shift > 0 {
        bottom <<= shift.unsigned_abs();
    } else {
        top <<= shift.unsigned_abs();
    }
    let mut mantissa = &top / &bottom;
    let mut rest = &top - &mantissa * &bottom;
    if mantissa.bits() > BITS {
        rest += &bottom * (&mantissa & BigUint::one());
        mantissa >>= 1u32;
        bottom <<= 1u32;
        shift += 1;
    }
    let twice = rest << 1u32;
    if twice > bottom || (twice == bottom && mantissa.bit(0)) {
        mantissa += 1u32;
    }
    (mantissa, shift)
}

/// The shortest decimal that names the float nearest to `numerator / denominator` × 10^`exponent`: digits and exponent.
fn round_to_float(numerator: &BigUint, denominator: &BigUint, exponent: i64) -> (BigUint, i64) {
    let ten = |power: u64| BigUint::from(10u8).pow(u32::try_from(power).expect("exponents are bounded"));
    let (mut top, mut bottom) = (numerator.clone(), denominator.clone());
    if exponent >= 0 {
        top *= ten(exponent.unsigned_abs());
    } else {
        bottom *= ten(exponent.unsigned_abs());
    }
    let (mantissa, shift) = nearest_float(top, bottom);
    // value = mantissa × 2^shift. The neighbours are one mantissa step away; any decimal less than half a step from the
    // value names it. Multiply all by 2 so that halves are whole.
    let half_step = BigUint::one();
    let (scaled, unit) = if shift > 0 {
        (mantissa << (shift.unsigned_abs() + 1), half_step << shift.unsigned_abs())
    } else {
        (mantissa << 1u32, half_step)
    };
    let binary = if shift < 0 { shift.unsigned_abs() + 1 } else { 1 };
    let magnitude = (scaled.bits().cast_signed() - binary.cast_signed()) * 30103 / 100_000;
    for kept in 150..=157i64 {
        // candidate = round(value / 10^place), in units of 10^place
        let place = magnitude - kept;
        let (candidate, error, step) = if place >= 0 {
            let divisor = ten(place.unsigned_abs()) << binary;
            let candidate = (&scaled + (&divisor >> 1u32)) / &divisor;
            let back = &candidate * &divisor;
            (candidate, difference(&back, &scaled), unit.clone())
        } else {
            let factor = ten(place.unsigned_abs());
            let value = &scaled * &factor;
            let half = BigUint::one() << (binary - 1);
            let candidate = (&value + half) >> binary;
            let back = &candidate << binary;
            (candidate, difference(&back, &value), &unit * factor)
        };
        if error < step || kept == 157 {
            return (candidate, place);
        }
    }
    unreachable!("the last width always returns")
}

fn difference(a: &BigUint, b: &BigUint) -> BigUint {
    if a > b { a - b } else { b - a }
}

impl Ord for Number {
    fn cmp(&self, other: &Self) -> Ordering {
        if let (Self::Int(a), Self::Int(b)) = (self, other) {
            return a.cmp(b);
        }
        let (a, b, _) = aligned(self, other);
        a.cmp(&b)
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Shortest decimal, never with an exponent.
impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let long = match self {
            Self::Int(value) => return fmt::Display::fmt(value, f),
            Self::Long(long) => long,
        };
        if long.digits.is_negative() {
            f.write_str("-")?;
        }
        let digits = long.digits.magnitude().to_string();
        if long.exponent >= 0 {
            let zeros = usize::try_from(long.exponent).expect("exponents are bounded");
            return write!(f, "{digits}{:0>zeros$}", "");
        }
        let places = usize::try_from(-long.exponent).expect("exponents are bounded");
        if digits.len() > places {
            let (whole, fraction) = digits.split_at(digits.len() - places);
            write!(f, "{whole}.{fraction}")
        } else {
            write!(f, "0.{digits:0>places$}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Number {
        Number::parse(text).unwrap_or_else(|| panic!("{text} is a number"))
    }

    #[test]
    fn numbers_print_as_the_shortest_decimal() {
        for (text, shown) in [
            ("1.50", "1.5"),
            ("1e21", "1000000000000000000000"),
            ("0.000001", "0.000001"),
            ("4.0", "4"),
            ("-0", "0"),
            ("-0.0", "0"),
            (".5", "0.5"),
            ("5.", "5"),
            ("+7", "7"),
            ("1E-3", "0.001"),
            ("9223372036854775808", "9223372036854775808"),
            ("-9223372036854775808", "-9223372036854775808"),
            ("12e17", "1200000000000000000"),
        ] {
            assert_eq!(number(text).to_string(), shown, "{text}");
        }
        for text in [
            "",
            "-",
            "+",
            ".",
            "1e",
            "e1",
            "0x10",
            "1_0",
            " 1",
            "Inf",
            "NaN",
            "1e99999999999999999999",
            "1e999999999",
            "--1",
        ] {
            assert_eq!(Number::parse(text), None, "{text}");
        }
    }

    #[test]
    fn arithmetic_is_exact_in_decimals() {
        let op = |a: &str, b: &str, f: fn(&Number, &Number) -> Result<Number, NumberError>| {
            f(&number(a), &number(b)).unwrap().to_string()
        };
        assert_eq!(op("0.1", "0.2", Number::add), "0.3");
        assert_eq!(op("0.3", "0.1", Number::sub), "0.2");
        assert_eq!(op("18446744073709551615", "1", Number::add), "18446744073709551616");
        assert_eq!(op("9223372036854775807", "1", Number::add), "9223372036854775808");
        assert_eq!(op("9223372036854775808", "1", Number::sub), "9223372036854775807");
        assert_eq!(op("99999999999", "99999999999", Number::mul), "9999999999800000000001");
        assert_eq!(op("7", "2", Number::div), "3.5");
        assert_eq!(op("-7", "3", Number::rem), "-1");
        assert_eq!(op("7", "-3", Number::rem), "1");
        assert_eq!(op("5.5", "2", Number::rem), "1.5");
        assert_eq!(op("1", "8192", Number::div), "0.0001220703125");
    }

    #[test]
    fn endless_quotients_are_rounded_like_512_bit_floats() {
        let third = number("1").div(&number("3")).unwrap();
        assert_eq!(third.to_string(), format!("0.{}5", "3".repeat(154)));
        assert_eq!(third.mul(&number("3")).unwrap(), Number::Int(1));
        assert_eq!(third.add(&third).unwrap().add(&third).unwrap(), Number::Int(1));
        assert!(number("-2").div(&number("3")).unwrap().to_string().starts_with("-0.666666"));
    }

    #[test]
    fn long_whole_numbers_are_rounded_and_huge_ones_refused() {
        let googol = number(&format!("1{}", "0".repeat(200)));
        assert_eq!(googol.add(&number("1")).unwrap(), googol);
        let mut bomb = number("10");
        for _ in 0..60 {
            match bomb.mul(&bomb) {
                Ok(next) => bomb = next,
                Err(error) => {
                    assert_eq!(error, NumberError::OutOfRange);
                    return;
                }
            }
        }
        panic!("squaring sixty times must be refused");
    }

    #[test]
    fn division_by_zero_is_an_error() {
        assert_eq!(number("1").div(&Number::ZERO), Err(NumberError::DivisionByZero));
        assert_eq!(number("1").rem(&Number::ZERO), Err(NumberError::DivisionByZero));
    }

    #[test]
    fn rounding_to_whole_numbers() {
        for (text, floor, ceil, whole) in [("1.99", "1", "2", "1"), ("-1.1", "-2", "-1", "-1"), ("3", "3", "3", "3")] {
            assert_eq!(number(text).floor().unwrap().to_string(), floor);
            assert_eq!(number(text).ceil().unwrap().to_string(), ceil);
            assert_eq!(number(text).truncate().unwrap().to_string(), whole);
        }
    }

    #[test]
    fn floats_become_their_shortest_decimal() {
        assert_eq!(Number::from_f64(0.1).unwrap().to_string(), "0.1");
        assert_eq!(Number::from_f64(2f64.sqrt()).unwrap().to_string(), "1.4142135623730951");
        assert_eq!(Number::from_f64(f64::INFINITY), Err(NumberError::OutOfRange));
    }

    #[test]
    fn order_is_by_value() {
        assert!(number("1.5") > number("1"));
        assert!(number("-1e30") < number("-5"));
        assert!(number("10") > number("9.99999999999999999999"));
    }
}
