//! Functions of lists, tuples, maps and objects.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use super::builtin::{Builtin, FunctionCall, FunctionError, MAX_ITEMS, Param, ParamType, nullable, param, row};
use crate::eval::value::{
    convert::{convert, unify},
    number::Number,
    types::{Type, Value},
};

const LIST: Param = param("list", ParamType::Any);
const MAP: Param = param("map", ParamType::Any);
const COLLECTION: Param = param("collection", ParamType::Any);
const KEY: Param = param("key", ParamType::Any);

pub(super) const FUNCTIONS: &[Builtin] = &[
    row(
        "chunklist",
        &[param("list", ParamType::List), param("size", ParamType::Number)],
        None,
        "the list in pieces of at most size items; 0 is one piece",
        chunklist,
    ),
    row("coalescelist", &[], Some(nullable("lists", ParamType::Any)), "the first list that is not empty", coalescelist),
    row("compact", &[param("list", ParamType::Strings)], None, "the list without empty strings and nulls", compact),
    row("concat", &[], Some(param("lists", ParamType::Any)), "all lists one after the other", concat),
    row("contains", &[LIST, param("value", ParamType::Any)], None, "whether the list holds this value", |call| {
        Ok(Value::Bool(sequence(call, 0)?.iter().any(|item| item.same(&call.args[1]))))
    }),
    row("distinct", &[param("list", ParamType::List)], None, "the list without repeated values", distinct),
    row(
        "element",
        &[LIST, param("index", ParamType::Number)],
        None,
        "the item at an index, counted round and round; a negative one counts from the end",
        element,
    ),
    row("flatten", &[LIST], None, "all items, those of nested lists in place of the lists", flatten),
    row("hasindex", &[COLLECTION, KEY], None, "whether the collection has an item at this key", hasindex),
    row("index", &[COLLECTION, KEY], None, "the item at this key", index),
    row("indexof", &[LIST, param("value", ParamType::Any)], None, "the position of a value", indexof),
    row("keys", &[MAP], None, "the keys in order", keys),
    row("length", &[COLLECTION], None, "how many items a list, set, map or object has", |call| {
        let length = call.args[0].len().ok_or_else(|| kind_error(call, 0, "a list, set, map or object"))?;
        Ok(Value::Number(Number::from_usize(length)))
    }),
    row(
        "lookup",
        &[MAP, param("key", ParamType::String), param("default", ParamType::Any)],
        None,
        "the value of a key, or the default where there is none",
        lookup,
    ),
    row("merge", &[], Some(nullable("maps", ParamType::Any)), "the entries of all maps, later over earlier", merge),
    row(
        "range",
        &[],
        Some(param("limits", ParamType::Number)),
        "the numbers of range(end), range(start, end) or range(start, end, step), without the end",
        range,
    ),
    row("reverselist", &[LIST], None, "the items in reverse order", reverselist),
    row(
        "setproduct",
        &[],
        Some(param("lists", ParamType::Any)),
        "every combination of one item of each list",
        setproduct,
    ),
    row(
        "slice",
        &[LIST, param("start", ParamType::Number), param("end", ParamType::Number)],
        None,
        "the items from start up to, without, end",
        slice,
    ),
    row("sort", &[param("list", ParamType::Strings)], None, "the strings in order of their code points", sort),
    row("values", &[MAP], None, "the values in the order of their keys", values),
    row(
        "zipmap",
        &[param("keys", ParamType::Strings), param("values", ParamType::Any)],
        None,
        "the map of keys to the values at the same places",
        zipmap,
    ),
];

fn kind_error(call: &FunctionCall<'_>, argument: usize, wanted: &str) -> FunctionError {
    FunctionError::at(argument, format!("{wanted} is required, got {}", call.args[argument].kind()))
}

/// The items of an argument that must be a list, tuple or set.
fn sequence<'a>(call: &FunctionCall<'a>, argument: usize) -> Result<&'a [Value], FunctionError> {
    call.args[argument].items().ok_or_else(|| kind_error(call, argument, "a list"))
}

/// The items of an argument that must be a list or tuple: a set has no order to count in.
fn ordered<'a>(call: &FunctionCall<'a>, argument: usize) -> Result<&'a [Value], FunctionError> {
    match &call.args[argument] {
        Value::List { items, .. } | Value::Tuple(items) => Ok(items),
        _ => Err(kind_error(call, argument, "a list")),
    }
}

/// The entries of an argument that must be a map or object.
fn mapping<'a>(call: &FunctionCall<'a>, argument: usize) -> Result<&'a BTreeMap<Arc<str>, Value>, FunctionError> {
    call.args[argument].entries().ok_or_else(|| kind_error(call, argument, "a map or object"))
}

/// A sequence of the same kind as `like`, but a list where that is a set.
fn rebuilt(like: &Value, items: Vec<Value>) -> Value {
    match like {
        Value::List { element, .. } | Value::Set { element, .. } => Value::list(element.clone(), items),
        _ => Value::tuple(items),
    }
}

fn element_type(list: &Value) -> Type {
    match list {
        Value::List { element, .. } | Value::Set { element, .. } => element.clone(),
        _ => Type::Dynamic,
    }
}

fn chunklist(call: &FunctionCall<'_>) -> Result<Value, FunctionError> {
    let (list, size) = (&call.args[0], call.integer(1)?);
    let Ok(size) = usize::try_from(size) else {
        return Err(FunctionError::at(1, format!("the size must not be negative, got {size}")));
    };
    let element = element_type(list);
    let items = call.items(0);
    let piece = |chunk: &[Value]| Value::list(element.clone(), chunk.to_vec());
    let pieces = items.chunks(if size == 0 { items.len().max(1) } else { size }).map(piece).collect();
    Ok(Value::list(list.type_of(), pieces))
}

fn coalescelist(call: &FunctionCall<'_>) -> Result<Value, FunctionError> {
    let is_list = |value: &Value| match value {
        Value::Null(ty) => matches!(ty, Type::List(_) | Type::Tuple(_)),
        Value::List { .. } | Value::Tuple(_) => true,
        _ => false,
    };
    if let Some(i) = call.args.iter().position(|value| !is_list(value)) {
        return Err(kind_error(call, i, "a list"));
    }
    let has_items = |value: &&Value| value.len().is_some_and(|n| n > 0);
    call.args.iter().find(has_items).cloned().ok_or_else(|| FunctionError::new("every list is empty or null"))
}

fn compact(call: &FunctionCall<'_>) -> Result<Value, FunctionError> {
    let kept = call.items(0).iter().filter(|item| item.as_str().is_some_and(|text| !text.is_empty()));
    Ok(Value::list(Type::String, kept.cloned().collect()))
}

fn concat(call: &FunctionCall<'_>) -> Result<Value, FunctionError> {
    if call.args.is_empty() {
        return Err(FunctionError::new("at least one list is required"));
    }
    let mut all = Vec::new();
    for (i, list) in call.args.iter().enumerate() {
        match list {
            Value::List { items, .. } | Value::Tuple(items) => all.extend_from_slice(items),
            _ => return Err(kind_error(call, i, "a list")),
        }
        if all.len() > MAX_ITEMS {
            return Err(FunctionError::new("the result has too many items"));
        }
    }
    let types: Option<Vec<Type>> = call
        .args
        .iter()
        .map(|list| if let Value::List { element, .. } = list { Some(element.clone()) } else { None })
        .collect();
    if let Some(element) = types.and_then(|types| unify(&types)) {
        let converted = all.iter().map(|item| convert(item, &element)).collect::<Result<_, _>>();
        return converted
            .map(|items| Value::list(element, items))
            .map_err(|error| FunctionError::new(error.to_string()));
    }
    Ok(Value::tuple(all))
}

fn distinct(call: &FunctionCall<'_>) -> Result<Value, FunctionError> {
    // All items have one type, so equal texts are equal values.
    let mut strings: HashSet<&str, foldhash::fast::RandomState> = HashSet::default();
    let mut others: HashSet<String> = HashSet::new();
    let mut kept = Vec::new();
    for item in call.items(0) {
        let new = match item.as_str() {
            Some(text) => strings.insert(text),
            None => others.insert(item.to_json_text(false)),
        };
        if new {
            kept.push(item.clone());
        }
    }
    Ok(rebuilt(&call.args[0], kept))
}

fn element(call: &FunctionCall<'_>) -> Result<Value, FunctionError> {
    let items = ordered(call, 0)?;
    let index = call.integer(1)?;
    if items.is_empty() {
        return Err(FunctionError::at(0, "the list is empty"));
    }
    let length = i64::try_from(items.len()).unwrap_or(i64::MAX);
    Ok(items[usize::try_from(index.rem_euclid(length)).expect("not negative")].clone())
}

fn flatten(call: &FunctionCall<'_>) -> Result<Value, FunctionError> {
    let mut flat = Vec::new();
    flatten_into(sequence(call, 0)?, &mut flat);
    Ok(Value::tuple(flat))
}

fn flatten_into(items: &[Value], flat: &mut Vec<Value>) {
    for item in items {
        match item.items() {
            Some(nested) => flatten_into(nested, flat),
            None => flat.push(item.clone()),
        }
    }
}

/// The item of a collection at a key; the error says what kind of key it takes.
fn at_key<'a>(call: &FunctionCall<'a>) -> Result<Option<&'a Value>, FunctionError> {
    let key = &call.args[1];
    match &call.args[0] {
        Value::List { items, .. } | Value::Tuple(items) => {
            let number = key.as_number().ok_or_else(|| kind_error(call, 1, "a number"))?;
            Ok(number.to_i64().and_then(|at| usize::try_from(at).ok()).and_then(|at| items.get(at)))
        }
        Value::Map { entries, .. } | Value::Object(entries) => {
            let key = key.as_str().ok_or_else(|| kind_error(call, 1, "a string"))?;
            Ok(entries.get(key))
        }
        _ => Err(kind_error(call, 0, "a list, map or object")),
    }
}

fn hasindex(call: &FunctionCall<'_>) -> Result<Value, FunctionError> {
    let indexable =
        matches!(&call.args[0], Value::List { .. } | Value::Tuple(_) | Value::Map { .. } | Value::Object(_));
    if !indexable {
        return Err(kind_error(call, 0, "a list, map or object"));
    }
    Ok(Value::Bool(at_key(call).is_ok_and(|found| found.is_some())))
}

fn index(call: &FunctionCall<'_>) -> Result<Value, FunctionError> {
    at_key(call)?.cloned().ok_or_else(|| {
        let length = call.args[0].len().unwrap_or_default();
        let items = if length == 1 { "item" } else { "items" };
        FunctionError::at(
            1,
            format!("no item at {} in a collection of {length} {items}", call.args[1].to_json_text(false)),
        )
    })
}

fn indexof(call: &FunctionCall<'_>) -> Result<Value, FunctionError> {
    let items = ordered(call, 0)?;
    if items.is_empty() {
        return Err(FunctionError::at(0, "the list is empty"));
    }
    let found = items.iter().position(|item| item.same(&call.args[1]));
    found
        .map(|at| Value::Number(Number::from_usize(at)))
        .ok_or_else(|| FunctionError::at(1, "the list does not hold this value"))
}

fn keys(call: &FunctionCall<'_>) -> Result<Value, FunctionError> {
    let keys = mapping(call, 0)?.keys().cloned().map(Value::String).collect();
    Ok(if matches!(call.args[0], Value::Map { .. }) { Value::list(Type::String, keys) } else { Value::tuple(keys) })
}

fn values(call: &FunctionCall<'_>) -> Result<Value, FunctionError> {
    let values = mapping(call, 0)?.values().cloned().collect();
    Ok(match &call.args[0] {
        Value::Map { element, .. } => Value::list(element.clone(), values),
        _ => Value::tuple(values),
    })
}

fn lookup(call: &FunctionCall<'_>) -> Result<Value, FunctionError> {
    let entries = mapping(call, 0)?;
    let default = match &call.args[0] {
        Value::Map { element, .. } => convert(&call.args[2], element).map_err(|error| {
            FunctionError::at(2, format!("the default must have the type of the map's values: {error}"))
        })?,
        _ => call.args[2].clone(),
    };
    Ok(entries.get(call.text(1)).cloned().unwrap_or(default))
}

fn merge(call: &FunctionCall<'_>) -> Result<Value, FunctionError> {
    let mut merged = BTreeMap::new();
    let mut maps = call.args.iter().filter(|value| !value.is_null()).map(Value::type_of);
    let one_map_type = match maps.next() {
        Some(Type::Map(element)) if maps.all(|ty| ty == Type::Map(element.clone())) => Some(element),
        _ => None,
    };
    for (i, value) in call.args.iter().enumerate().filter(|(_, value)| !value.is_null()) {
        let entries = value.entries().ok_or_else(|| kind_error(call, i, "a map or object"))?;
        merged.extend(entries.iter().map(|(key, value)| (key.clone(), value.clone())));
    }
    Ok(match one_map_type {
        Some(element) => Value::map((*element).clone(), merged),
        None => Value::object(merged),
    })
}

fn range(call: &FunctionCall<'_>) -> Result<Value, FunctionError> {
    let one = Number::from_i64(1);
    let (start, end, step) = match call.args.len() {
        1 => (Number::ZERO, call.number(0).clone(), None),
        2 => (call.number(0).clone(), call.number(1).clone(), None),
        3 => (call.number(0).clone(), call.number(1).clone(), Some(call.number(2).clone())),
        n => return Err(FunctionError::new(format!("`range` takes 1 to 3 numbers, got {n}"))),
    };
    let step = step.unwrap_or_else(|| if end < start { one.neg() } else { one });
    if step.is_zero() {
        return Err(FunctionError::at(2, "the step must not be 0"));
    }
    let down = step.is_negative();
    if (down && end > start) || (!down && end < start) {
        let side = if down { "below" } else { "above" };
        return Err(FunctionError::at(
            1,
            format!("with a step of {step} the end must lie {side} the start {start}, got {end}"),
        ));
    }
    let mut items = Vec::new();
    let mut next = start;
    while if down { next > end } else { next < end } {
        if items.len() >= 1024 {
            return Err(FunctionError::new("the range has more than 1024 numbers"));
        }
        let following = next.add(&step)?;
        items.push(Value::Number(next));
        next = following;
    }
    Ok(Value::list(Type::Number, items))
}

fn reverselist(call: &FunctionCall<'_>) -> Result<Value, FunctionError> {
    let reversed = sequence(call, 0)?.iter().rev().cloned().collect();
    Ok(rebuilt(&call.args[0], reversed))
}

fn setproduct(call: &FunctionCall<'_>) -> Result<Value, FunctionError> {
    if call.args.len() < 2 {
        return Err(FunctionError::new("at least two lists are required"));
    }
    let mut axes: Vec<Vec<Value>> = Vec::new();
    let mut types = Vec::new();
    let mut total = 1usize;
    for i in 0..call.args.len() {
        let items = sequence(call, i)?;
        let ty = match &call.args[i] {
            Value::Tuple(items) if items.is_empty() => Type::Dynamic,
            Value::Tuple(items) => unify(&items.iter().map(Value::type_of).collect::<Vec<_>>())
                .ok_or_else(|| FunctionError::at(i, "all items must have one type"))?,
            other => element_type(other),
        };
        let converted = items.iter().map(|item| convert(item, &ty)).collect::<Result<_, _>>();
        axes.push(converted.map_err(|error| FunctionError::at(i, error.to_string()))?);
        types.push(ty);
        total = total.saturating_mul(items.len());
    }
    if total.saturating_mul(axes.len()) > MAX_ITEMS {
        return Err(FunctionError::new(format!("the product has too many combinations: {total}")));
    }
    let mut product = Vec::with_capacity(total);
    for mut n in 0..total {
        let mut pick: Vec<Value> = axes
            .iter()
            .rev()
            .map(|axis| {
                let item = axis[n % axis.len()].clone();
                n /= axis.len();
                item
            })
            .collect();
        pick.reverse();
        product.push(Value::tuple(pick));
    }
    let element = Type::tuple(types);
    let any_set = call.args.iter().any(|list| matches!(list, Value::Set { .. }));
    Ok(if any_set { Value::set(element, product) } else { Value::list(element, product) })
}

fn slice(call: &FunctionCall<'_>) -> Result<Value, FunctionError> {
    let items = ordered(call, 0)?;
    let bound = |argument: usize| {
        let at = call.integer(argument)?;
        usize::try_from(at).ok().filter(|at| *at <= items.len()).ok_or_else(|| {
            FunctionError::at(argument, format!("the index must lie between 0 and {}, got {at}", items.len()))
        })
    };
    let (start, end) = (bound(1)?, bound(2)?);
    if start > end {
        return Err(FunctionError::at(1, format!("the start {start} lies after the end {end}")));
    }
    Ok(rebuilt(&call.args[0], items[start..end].to_vec()))
}

fn sort(call: &FunctionCall<'_>) -> Result<Value, FunctionError> {
    if let Some(at) = call.items(0).iter().position(Value::is_null) {
        return Err(FunctionError::at(0, format!("item {at} is null and cannot be sorted")));
    }
    let mut items = call.items(0).to_vec();
    items.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
    Ok(Value::list(Type::String, items))
}

fn zipmap(call: &FunctionCall<'_>) -> Result<Value, FunctionError> {
    let keys = call.items(0);
    let values = ordered(call, 1)?;
    if keys.len() != values.len() {
        return Err(FunctionError::at(
            1,
            format!("as many values as keys are required: {} keys, {} values", keys.len(), values.len()),
        ));
    }
    let mut entries = BTreeMap::new();
    for (i, (key, value)) in keys.iter().zip(values.iter()).enumerate() {
        let Value::String(key) = key else { return Err(FunctionError::at(0, format!("key {i} is null"))) };
        entries.insert(key.clone(), value.clone());
    }
    Ok(match &call.args[1] {
        Value::List { element, .. } => Value::map(element.clone(), entries),
        _ => Value::object(entries),
    })
}
