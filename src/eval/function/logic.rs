//! Functions of truth values, equality, and choice among values.

use super::builtin::{Builtin, FunctionCall, FunctionError, Param, ParamType, nullable, param, row};
use crate::eval::value::{
    convert::{convert, unify},
    types::Value,
};

const A: Param = param("a", ParamType::Bool);
const B: Param = param("b", ParamType::Bool);
const ANY_A: Param = nullable("a", ParamType::Any);
const ANY_B: Param = nullable("b", ParamType::Any);

pub(super) const FUNCTIONS: &[Builtin] = &[
    row("and", &[A, B], None, "whether both are true", |call| Ok(Value::Bool(call.bool(0) && call.bool(1)))),
    row("can", &[ANY_A], None, "whether the expression can be evaluated without an error", special),
    row("coalesce", &[], Some(nullable("vals", ParamType::Any)), "the first value that is not null", coalesce),
    row(
        "convert",
        &[nullable("value", ParamType::Any), param("type", ParamType::Any)],
        None,
        "the value as one of a type",
        special,
    ),
    row("equal", &[ANY_A, ANY_B], None, "whether both are the same value of the same type", |call| {
        Ok(Value::Bool(call.args[0].same(&call.args[1])))
    }),
    row("not", &[A], None, "the opposite of a", |call| Ok(Value::Bool(!call.bool(0)))),
    row("notequal", &[ANY_A, ANY_B], None, "whether the two differ in value or type", |call| {
        Ok(Value::Bool(!call.args[0].same(&call.args[1])))
    }),
    row("or", &[A, B], None, "whether one of the two is true", |call| Ok(Value::Bool(call.bool(0) || call.bool(1)))),
    row(
        "try",
        &[],
        Some(nullable("expressions", ParamType::Any)),
        "the first expression that evaluates without an error",
        special,
    ),
];

fn special(_: &FunctionCall<'_>) -> Result<Value, FunctionError> {
    Err(FunctionError::new("this function can only be called by its name in an expression"))
}

fn coalesce(call: &FunctionCall<'_>) -> Result<Value, FunctionError> {
    let types: Vec<_> = call.args.iter().map(Value::type_of).collect();
    let common = unify(&types).ok_or_else(|| {
        FunctionError::new(if types.is_empty() {
            "at least one value is required"
        } else {
            "all values must have one type"
        })
    })?;
    let found = call.args.iter().enumerate().find(|(_, value)| !value.is_null());
    let (i, value) = found.ok_or_else(|| FunctionError::new("all values are null"))?;
    convert(value, &common).map_err(|error| FunctionError::at(i, error.to_string()))
}
