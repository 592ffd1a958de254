//! Functions of sets. Lists and tuples are taken too and become sets first; results are sets, hence sorted.

use std::collections::BTreeMap;

use super::builtin::{Builtin, FunctionCall, FunctionError, Param, ParamType, param, row};
use crate::eval::value::{
    convert::{convert, unify},
    types::{Type, Value},
};

const FIRST: Param = param("first_set", ParamType::Set);
const OTHERS: Option<Param> = Some(param("other_sets", ParamType::Set));

pub(super) const FUNCTIONS: &[Builtin] = &[
    row(
        "sethaselement",
        &[param("set", ParamType::Set), param("elem", ParamType::Any)],
        None,
        "whether the set holds this element",
        |call| Ok(Value::Bool(call.items(0).iter().any(|item| item.same(&call.args[1])))),
    ),
    row("setintersection", &[FIRST], OTHERS, "the elements that all sets hold", |call| {
        combine(call, |counts, n| counts == n)
    }),
    row(
        "setsubtract",
        &[param("a", ParamType::Set), param("b", ParamType::Set)],
        None,
        "the elements of a that b does not hold",
        subtract,
    ),
    row("setsymmetricdifference", &[FIRST], OTHERS, "the elements that an odd number of the sets hold", |call| {
        combine(call, |counts, _| counts % 2 == 1)
    }),
    row("setunion", &[FIRST], OTHERS, "the elements that any set holds", |call| combine(call, |_, _| true)),
];

/// All argument sets as sets of one type.
fn unified(call: &FunctionCall<'_>) -> Result<(Type, Vec<Value>), FunctionError> {
    let element = |value: &Value| match value {
        Value::Set { element, items } if !(items.is_empty() && *element == Type::Dynamic) => Some(element.clone()),
        _ => None,
    };
    let types: Vec<Type> = call.args.iter().filter_map(element).collect();
    let common = match types.as_slice() {
        [] => Type::Dynamic,
        types => unify(types).ok_or_else(|| FunctionError::new("all sets must have elements of one type"))?,
    };
    let wanted = Type::set(common.clone());
    let sets = call
        .args
        .iter()
        .enumerate()
        .map(|(i, set)| convert(set, &wanted).map_err(|error| FunctionError::at(i, error.to_string())));
    Ok((common, sets.collect::<Result<_, _>>()?))
}

/// The elements for which `keep(number of sets that hold it, number of sets)`.
fn combine(call: &FunctionCall<'_>, keep: fn(usize, usize) -> bool) -> Result<Value, FunctionError> {
    let (element, sets) = unified(call)?;
    let mut counts: BTreeMap<String, (usize, Value)> = BTreeMap::new();
    for item in sets.iter().filter_map(Value::items).flatten() {
        counts.entry(item.to_json_text(false)).or_insert_with(|| (0, item.clone())).0 += 1;
    }
    let kept = counts.into_values().filter(|(count, _)| keep(*count, sets.len())).map(|(_, item)| item);
    Ok(Value::set(element, kept.collect()))
}

fn subtract(call: &FunctionCall<'_>) -> Result<Value, FunctionError> {
    let (element, sets) = unified(call)?;
    let (a, b) = (sets[0].items().unwrap_or_default(), sets[1].items().unwrap_or_default());
    let taken: std::collections::HashSet<String> = b.iter().map(|item| item.to_json_text(false)).collect();
    Ok(Value::set(element, a.iter().filter(|item| !taken.contains(&item.to_json_text(false))).cloned().collect()))
}
