//! Functions of numbers: arithmetic, rounding, comparison, reading.

use num_bigint::BigInt;
use num_traits::Zero;

use super::builtin::{Builtin, FunctionCall, FunctionError, Param, ParamType, param, row};
use crate::eval::value::{
    number::{Number, NumberError},
    types::Value,
};

const NUM: Param = param("num", ParamType::Number);
const A: Param = param("a", ParamType::Number);
const B: Param = param("b", ParamType::Number);
const MANY: Param = param("numbers", ParamType::Number);

pub(super) const FUNCTIONS: &[Builtin] = &[
    row("absolute", &[NUM], None, "the number without its sign", |call| Ok(Value::Number(call.number(0).abs()))),
    row("add", &[A, B], None, "a + b", |call| arithmetic(call, Number::add)),
    row("ceil", &[NUM], None, "the smallest whole number not below num", |call| rounded(call, Number::ceil)),
    row("divide", &[A, B], None, "a / b", |call| arithmetic(call, Number::div)),
    row("floor", &[NUM], None, "the largest whole number not above num", |call| rounded(call, Number::floor)),
    row("greaterthan", &[A, B], None, "whether a > b", |call| compared(call, |a, b| a > b)),
    row("greaterthanorequalto", &[A, B], None, "whether a >= b", |call| compared(call, |a, b| a >= b)),
    row("int", &[NUM], None, "num without its fraction", |call| rounded(call, Number::truncate)),
    row("lessthan", &[A, B], None, "whether a < b", |call| compared(call, |a, b| a < b)),
    row("lessthanorequalto", &[A, B], None, "whether a <= b", |call| compared(call, |a, b| a <= b)),
    row("log", &[NUM, param("base", ParamType::Number)], None, "the logarithm of num in this base", log),
    row("max", &[], Some(MANY), "the largest of the numbers", |call| extreme(call, |a, b| a > b)),
    row("min", &[], Some(MANY), "the smallest of the numbers", |call| extreme(call, |a, b| a < b)),
    row("modulo", &[A, B], None, "the remainder of a / b, with the sign of a", |call| arithmetic(call, Number::rem)),
    row("multiply", &[A, B], None, "a * b", |call| arithmetic(call, Number::mul)),
    row("negate", &[NUM], None, "-num", |call| Ok(Value::Number(call.number(0).neg()))),
    row(
        "parseint",
        &[param("number", ParamType::Any), param("base", ParamType::Number)],
        None,
        "the whole number that a text writes in a base from 2 to 62",
        parseint,
    ),
    row("pow", &[NUM, param("power", ParamType::Number)], None, "num raised to a power", pow),
    row("signum", &[NUM], None, "-1, 0 or 1: the sign of a whole number", signum),
    row("subtract", &[A, B], None, "a - b", |call| arithmetic(call, Number::sub)),
];

impl From<NumberError> for FunctionError {
    fn from(error: NumberError) -> Self {
        Self::new(error.to_string())
    }
}

fn arithmetic(
    call: &FunctionCall<'_>,
    op: fn(&Number, &Number) -> Result<Number, NumberError>,
) -> Result<Value, FunctionError> {
    Ok(Value::Number(op(call.number(0), call.number(1))?))
}

fn rounded(call: &FunctionCall<'_>, op: fn(&Number) -> Result<Number, NumberError>) -> Result<Value, FunctionError> {
    Ok(Value::Number(op(call.number(0))?))
}

fn compared(call: &FunctionCall<'_>, op: fn(&Number, &Number) -> bool) -> Result<Value, FunctionError> {
    Ok(Value::Bool(op(call.number(0), call.number(1))))
}

fn extreme(call: &FunctionCall<'_>, better: fn(&Number, &Number) -> bool) -> Result<Value, FunctionError> {
    let mut numbers = (0..call.args.len()).map(|i| call.number(i));
    let first = numbers.next().ok_or_else(|| FunctionError::new("at least one number is required"))?;
    let best = numbers.fold(first, |best, next| if better(next, best) { next } else { best });
    Ok(Value::Number(best.clone()))
}

fn log(call: &FunctionCall<'_>) -> Result<Value, FunctionError> {
    let (num, base) = (call.number(0).to_f64(), call.number(1).to_f64());
    Ok(Value::Number(Number::from_f64(num.ln() / base.ln())?))
}

fn pow(call: &FunctionCall<'_>) -> Result<Value, FunctionError> {
    Ok(Value::Number(Number::from_f64(call.number(0).to_f64().powf(call.number(1).to_f64()))?))
}

fn signum(call: &FunctionCall<'_>) -> Result<Value, FunctionError> {
    let num = call.number(0);
    if !num.is_integer() {
        return Err(FunctionError::at(0, format!("a whole number is required, got {num}")));
    }
    Ok(Value::int(if num.is_zero() {
        0
    } else if num.is_negative() {
        -1
    } else {
        1
    }))
}

fn parseint(call: &FunctionCall<'_>) -> Result<Value, FunctionError> {
    let Some(text) = call.args[0].as_str() else {
        return Err(FunctionError::at(0, format!("a string is required, got {}", call.args[0].kind())));
    };
    let base = call.integer(1)?;
    let Some(base) = u32::try_from(base).ok().filter(|base| (2..=62).contains(base)) else {
        return Err(FunctionError::at(1, format!("the base must lie between 2 and 62, got {base}")));
    };
    let fault = || FunctionError::at(0, format!("not a whole number in base {base}: {text:?}"));
    let (negative, digits) = match text.as_bytes() {
        [b'-', ..] => (true, &text[1..]),
        [b'+', ..] => (false, &text[1..]),
        _ => (false, text),
    };
    if digits.is_empty() || digits.len() > 20_000 {
        return Err(fault());
    }
    let mut value = BigInt::zero();
    for c in digits.chars() {
        // Up to base 36 the case of a letter does not count.
        let digit = digit(c).map(|digit| if base <= 36 && digit >= 36 { digit - 26 } else { digit });
        value = value * base + digit.filter(|digit| *digit < base).ok_or_else(fault)?;
    }
    Ok(Value::Number(Number::from_big(if negative { -value } else { value })?))
}

/// `0-9` are 0 to 9, `a-z` 10 to 35, `A-Z` 36 to 61.
fn digit(c: char) -> Option<u32> {
    match c {
        '0'..='9' => Some(u32::from(c) - u32::from('0')),
        'a'..='z' => Some(u32::from(c) - u32::from('a') + 10),
        'A'..='Z' => Some(u32::from(c) - u32::from('A') + 36),
        _ => None,
    }
}
