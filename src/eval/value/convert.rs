//! Conversion of values between types, and unification: the one type that several types can all be converted to
//! (<https://github.com/zclconf/go-cty/blob/main/docs/convert.md>).
//!
//! *Safe* conversions lose nothing (`number` to `string`, `tuple` to `list`); the others depend on the value (`string` to
//! `number`). `convert` allows both.

use std::{cmp::Reverse, collections::BTreeMap, fmt, sync::Arc};

use super::{
    number::Number,
    types::{Type, Value},
};

/// One step on the path from a value to a part of it: an item by its index, or an entry by its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PathStep {
    Index(usize),
    Key(Arc<str>),
}

/// A conversion failed: the value, or the part of it at `path`, has the wrong type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConvertError {
    pub(crate) path: Vec<PathStep>,
    /// The expected type: `number`, `list of string`.
    pub(crate) expected: String,
    /// The value that was found: `tuple`, `the string "x"`.
    pub(crate) got: String,
}

impl ConvertError {
    fn new(expected: impl Into<String>, got: impl Into<String>) -> Self {
        Self { path: Vec::new(), expected: expected.into(), got: got.into() }
    }

    fn inside(mut self, step: PathStep) -> Self {
        self.path.insert(0, step);
        self
    }

    /// The path as it would be written after the name: `[0].name`; empty for the value itself.
    pub(crate) fn path_text(&self) -> String {
        let step = |step: &PathStep| match step {
            PathStep::Index(index) => format!("[{index}]"),
            PathStep::Key(key) if is_identifier(key) => format!(".{key}"),
            PathStep::Key(key) => format!("[{key:?}]"),
        };
        self.path.iter().map(step).collect()
    }
}

impl std::error::Error for ConvertError {}

impl fmt::Display for ConvertError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { expected, got, path } = self;
        write!(f, "{expected} expected, got {got}")?;
        if path.is_empty() { Ok(()) } else { write!(f, " at `{}`", self.path_text().trim_start_matches('.')) }
    }
}

fn is_identifier(text: &str) -> bool {
    text.chars().enumerate().all(|(i, c)| c == '_' || c.is_alphabetic() || (i > 0 && (c == '-' || c.is_numeric())))
        && !text.is_empty()
}

/// Converts a value to type `ty`, as HCL does where a variable has a `type` or a function wants one.
///
/// Numbers and bools become strings and back (`"true"`, `"1"`, `"false"`, `"0"` are bools); tuples become lists and
/// sets, objects become maps, each item by itself. A null stays null. `any` takes every value as it is; as the type of
/// items it stands for one type that all of them can have.
///
/// # Errors
/// When the value, or a part of it, cannot have the type; the error has the path to that part.
pub(crate) fn convert(value: &Value, ty: &Type) -> Result<Value, ConvertError> {
    match (value, ty) {
        (_, Type::Dynamic)
        | (Value::Bool(_), Type::Bool)
        | (Value::Number(_), Type::Number)
        | (Value::String(_), Type::String) => Ok(value.clone()),
        (Value::Null(_), _) => Ok(Value::Null(without_optional(ty))),
        (Value::Number(_) | Value::Bool(_), Type::String) => {
            Ok(value.to_string_value().expect("numbers and bools have a text"))
        }
        (Value::String(text), Type::Number) => {
            Number::parse(text).map(Value::Number).ok_or_else(|| ConvertError::new("number", quoted(text)))
        }
        (Value::String(text), Type::Bool) => match &**text {
            "true" | "1" => Ok(Value::Bool(true)),
            "false" | "0" => Ok(Value::Bool(false)),
            _ => Err(ConvertError::new("bool (`true` or `false`)", quoted(text))),
        },
        (Value::List { element, .. }, Type::List(wanted)) | (Value::Set { element, .. }, Type::Set(wanted))
            if **wanted == *element || **wanted == Type::Dynamic =>
        {
            Ok(value.clone())
        }
        (Value::List { .. } | Value::Set { .. } | Value::Tuple(_), Type::List(wanted) | Type::Set(wanted)) => {
            let (element, items) = convert_items(value, ty, wanted)?;
            Ok(if matches!(ty, Type::Set(_)) { Value::set(element, items) } else { Value::list(element, items) })
        }
        (Value::Map { element, .. }, Type::Map(wanted)) if **wanted == *element || **wanted == Type::Dynamic => {
            Ok(value.clone())
        }
        (Value::Map { entries, .. } | Value::Object(entries), Type::Map(wanted)) => {
            convert_to_map(value, entries, ty, wanted)
        }
        (Value::Map { entries, .. } | Value::Object(entries), Type::Object(wanted)) => {
            convert_to_object(entries, wanted)
        }
        (Value::Tuple(items), Type::Tuple(wanted)) => {
            if items.len() != wanted.len() {
                let length = |n: usize| format!("a tuple of {n} item{}", if n == 1 { "" } else { "s" });
                return Err(ConvertError::new(length(wanted.len()), length(items.len())));
            }
            let converted = items.iter().zip(wanted.iter()).enumerate();
            let converted =
                converted.map(|(i, (item, ty))| convert(item, ty).map_err(|error| error.inside(PathStep::Index(i))));
            Ok(Value::tuple(converted.collect::<Result<_, _>>()?))
        }
        _ => Err(ConvertError::new(ty.to_string(), value.kind())),
    }
}

fn quoted(text: &str) -> String {
    let short: String = text.chars().take(60).collect();
    if short.len() < text.len() { format!("the string {short:?}…") } else { format!("the string {short:?}") }
}

/// The items of a sequence as items of type `wanted`, and the type they then have.
fn convert_items(value: &Value, whole: &Type, wanted: &Type) -> Result<(Type, Vec<Value>), ConvertError> {
    let items = value.items().unwrap_or_default();
    let own_type = match value {
        Value::List { element, .. } | Value::Set { element, .. } => Some(element),
        _ => None,
    };
    if own_type == Some(wanted) || (own_type.is_some() && *wanted == Type::Dynamic) {
        return Ok((own_type.unwrap_or(wanted).clone(), items.to_vec()));
    }
    let wanted = if *wanted == Type::Dynamic { &common_type(items.iter(), whole)? } else { wanted };
    let mut converted = Vec::with_capacity(items.len());
    for (i, item) in items.iter().enumerate() {
        converted.push(convert(item, wanted).map_err(|error| error.inside(PathStep::Index(i)))?);
    }
    if converted.is_empty() || !has_dynamic(wanted) || *wanted == Type::Dynamic {
        return Ok((without_optional(wanted), converted));
    }
    // `list(list(any))`: each inner `any` was resolved alone; now all of them must agree.
    let common = common_type(converted.iter(), whole)?;
    let agreed = converted.iter().map(|item| convert(item, &common)).collect::<Result<_, _>>()?;
    Ok((common, agreed))
}

fn convert_to_map(
    value: &Value,
    entries: &BTreeMap<Arc<str>, Value>,
    whole: &Type,
    wanted: &Type,
) -> Result<Value, ConvertError> {
    let wanted = match wanted {
        Type::Dynamic if matches!(value, Value::Object(_)) => &common_type(entries.values(), whole)?,
        _ => wanted,
    };
    let mut converted = BTreeMap::new();
    for (key, item) in entries {
        converted.insert(key.clone(), convert(item, wanted).map_err(|error| error.inside(PathStep::Key(key.clone())))?);
    }
    if converted.is_empty() || !has_dynamic(wanted) || *wanted == Type::Dynamic {
        return Ok(Value::map(without_optional(wanted), converted));
    }
    let common = common_type(converted.values(), whole)?;
    for item in converted.values_mut() {
        *item = convert(item, &common)?;
    }
    Ok(Value::map(common, converted))
}

fn convert_to_object(
    entries: &BTreeMap<Arc<str>, Value>,
    wanted: &BTreeMap<Arc<str>, (Type, bool)>,
) -> Result<Value, ConvertError> {
    let mut converted = BTreeMap::new();
    for (name, (ty, optional)) in wanted {
        let value = match entries.get(name) {
            Some(value) => convert(value, ty).map_err(|error| error.inside(PathStep::Key(name.clone())))?,
            None if *optional => Value::Null(without_optional(ty)),
            None => {
                let known = entries.keys().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
                let got = if known.is_empty() { "an empty object".to_owned() } else { format!("only {known}") };
                return Err(ConvertError::new(format!("an object with the attribute `{name}`"), got));
            }
        };
        converted.insert(name.clone(), value);
    }
    Ok(Value::object(converted))
}

/// The type that all of `values` can be converted to.
fn common_type<'a>(values: impl Iterator<Item = &'a Value> + Clone, whole: &Type) -> Result<Type, ConvertError> {
    let mut rest = values.clone();
    let Some(first) = rest.next() else { return Ok(Type::Dynamic) };
    let simple = |value: &Value| match value {
        Value::Bool(_) => Some(Type::Bool),
        Value::Number(_) => Some(Type::Number),
        Value::String(_) => Some(Type::String),
        _ => None,
    };
    if let Some(ty) = simple(first)
        && rest.all(|value| simple(value).as_ref() == Some(&ty))
    {
        return Ok(ty);
    }
    let types: Vec<Type> = values.map(Value::type_of).collect();
    unify(&types).ok_or_else(|| {
        let mut kinds: Vec<String> = types.iter().map(Type::to_string).collect();
        kinds.sort();
        kinds.dedup();
        ConvertError::new(format!("{whole}, with items of one type"), format!("a mixture of {}", kinds.join(" and ")))
    })
}

fn has_dynamic(ty: &Type) -> bool {
    match ty {
        Type::Dynamic => true,
        Type::Bool | Type::Number | Type::String => false,
        Type::List(element) | Type::Set(element) | Type::Map(element) => has_dynamic(element),
        Type::Tuple(items) => items.iter().any(has_dynamic),
        Type::Object(attributes) => attributes.values().any(|(ty, _)| has_dynamic(ty)),
    }
}

/// The same type with every attribute required, as the type of a value is.
fn without_optional(ty: &Type) -> Type {
    match ty {
        Type::Dynamic | Type::Bool | Type::Number | Type::String => ty.clone(),
        Type::List(element) => Type::list(without_optional(element)),
        Type::Set(element) => Type::set(without_optional(element)),
        Type::Map(element) => Type::map(without_optional(element)),
        Type::Tuple(items) => Type::tuple(items.iter().map(without_optional).collect()),
        Type::Object(attributes) => Type::Object(Arc::new(
            attributes.iter().map(|(name, (ty, _))| (name.clone(), (without_optional(ty), false))).collect(),
        )),
    }
}

/// The one type to which values of all these types can be converted; `None` when there is none, or when `types` is
/// empty.
pub(crate) fn unify(types: &[Type]) -> Option<Type> {
    let first = types.first()?;
    if types.iter().all(|ty| ty == first) {
        return Some(first.clone());
    }
    let count = |is: fn(&Type) -> bool| types.iter().filter(|ty| is(ty)).count();
    let dynamic = count(|ty| matches!(ty, Type::Dynamic));
    let lists = count(|ty| matches!(ty, Type::List(_)));
    let sets = count(|ty| matches!(ty, Type::Set(_)));
    let maps = count(|ty| matches!(ty, Type::Map(_)));
    let tuples = count(|ty| matches!(ty, Type::Tuple(_)));
    let objects = count(|ty| matches!(ty, Type::Object(_)));
    let all = |n: usize| n > 0 && n + dynamic == types.len();
    if all(lists) || all(sets) || all(maps) || all(tuples) || all(objects) {
        if dynamic > 0 {
            return Some(Type::Dynamic);
        }
        return if objects > 0 {
            unify_objects(types)
        } else if tuples > 0 {
            unify_tuples(types)
        } else {
            let element = unify(&types.iter().filter_map(Type::element).cloned().collect::<Vec<_>>())?;
            Some(if lists > 0 {
                Type::list(element)
            } else if sets > 0 {
                Type::set(element)
            } else {
                Type::map(element)
            })
        };
    }
    if maps > 0 && all(maps + objects) {
        let mut elements = object_types(types);
        if elements.is_empty() {
            // `{}` can be a map of anything.
            elements = types.iter().filter_map(Type::element).cloned().collect();
        }
        let element = unify(&elements)?;
        return unify_replacing(types, |ty| matches!(ty, Type::Object(_)), &Type::map(element));
    }
    if lists > 0 && all(lists + tuples) {
        let element = unify(&tuple_types(types)).unwrap_or(Type::Dynamic);
        return unify_replacing(types, |ty| matches!(ty, Type::Tuple(_)), &Type::list(element));
    }
    if objects > 0 && tuples > 0 {
        return None;
    }
    let mut candidates: Vec<&Type> = types.iter().collect();
    candidates.sort_by_key(|ty| Reverse(preference(ty)));
    candidates.into_iter().find(|wanted| types.iter().all(|ty| ty == *wanted || can_convert(ty, wanted))).cloned()
}

fn unify_replacing(types: &[Type], which: fn(&Type) -> bool, by: &Type) -> Option<Type> {
    let replaced: Vec<Type> = types.iter().map(|ty| if which(ty) { by.clone() } else { ty.clone() }).collect();
    unify(&replaced)
}

fn object_types(types: &[Type]) -> Vec<Type> {
    let attributes =
        types.iter().filter_map(|ty| if let Type::Object(attributes) = ty { Some(attributes) } else { None });
    attributes.flat_map(|attributes| attributes.values().map(|(ty, _)| ty.clone())).collect()
}

fn tuple_types(types: &[Type]) -> Vec<Type> {
    let tuples = types.iter().filter_map(|ty| if let Type::Tuple(items) = ty { Some(items) } else { None });
    tuples.flat_map(|items| items.iter().cloned()).collect()
}

/// Objects of the same attributes become one object; others a map.
fn unify_objects(types: &[Type]) -> Option<Type> {
    let all: Vec<&BTreeMap<Arc<str>, (Type, bool)>> = types
        .iter()
        .filter_map(|ty| if let Type::Object(attributes) = ty { Some(&**attributes) } else { None })
        .collect();
    let (first, rest) = all.split_first()?;
    if rest.iter().any(|other| other.len() != first.len() || !other.keys().eq(first.keys())) {
        return unify(&object_types(types)).map(Type::map);
    }
    let mut attributes = BTreeMap::new();
    for name in first.keys() {
        let across: Vec<Type> = all.iter().map(|one| one[name].0.clone()).collect();
        attributes.insert(name.clone(), (unify(&across)?, false));
    }
    Some(Type::Object(Arc::new(attributes)))
}

/// Tuples of the same length become one tuple; others a list.
fn unify_tuples(types: &[Type]) -> Option<Type> {
    let all: Vec<&[Type]> =
        types.iter().filter_map(|ty| if let Type::Tuple(items) = ty { Some(items.as_slice()) } else { None }).collect();
    let (first, rest) = all.split_first()?;
    if rest.iter().any(|other| other.len() != first.len()) {
        return unify(&tuple_types(types)).map(Type::list);
    }
    let items = (0..first.len()).map(|i| unify(&all.iter().map(|one| one[i].clone()).collect::<Vec<_>>()));
    items.collect::<Option<_>>().map(Type::tuple)
}

/// Orders types by generality: the most general one is tried first.
fn preference(ty: &Type) -> (u8, u8) {
    let inner = |ty: &Type| preference(ty).0;
    match ty {
        Type::Dynamic => (0, 0),
        Type::Bool | Type::Number => (1, 0),
        Type::String => (2, 0),
        Type::Set(element) => (1, inner(element)),
        Type::Tuple(_) | Type::Object(_) => (2, 0),
        Type::List(element) | Type::Map(element) => (3, inner(element)),
    }
}

/// Whether some value of type `from` can become one of type `to`.
fn can_convert(from: &Type, to: &Type) -> bool {
    match (from, to) {
        (_, Type::Dynamic) | (Type::Dynamic, _) => true,
        (Type::Bool | Type::Number | Type::String, Type::String) | (Type::String, Type::Bool | Type::Number) => true,
        (Type::List(from) | Type::Set(from), Type::List(to) | Type::Set(to)) | (Type::Map(from), Type::Map(to)) => {
            can_convert(from, to)
        }
        (Type::Tuple(items), Type::List(to) | Type::Set(to)) => items.iter().all(|item| can_convert(item, to)),
        (Type::Object(attributes), Type::Map(to)) => attributes.values().all(|(ty, _)| can_convert(ty, to)),
        (Type::Map(from), Type::Object(attributes)) => attributes.values().all(|(ty, _)| can_convert(from, ty)),
        (Type::Object(from), Type::Object(to)) => {
            to.iter().all(|(name, (ty, optional))| from.get(name).map_or(*optional, |(from, _)| can_convert(from, ty)))
        }
        (Type::Tuple(from), Type::Tuple(to)) => {
            from.len() == to.len() && from.iter().zip(to.iter()).all(|(from, to)| can_convert(from, to))
        }
        _ => from == to,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(items: &[&str]) -> Value {
        Value::tuple(items.iter().map(|item| Value::string(*item)).collect())
    }

    fn object(entries: &[(&str, Value)]) -> Value {
        Value::object(entries.iter().map(|(key, value)| (Arc::from(*key), value.clone())).collect())
    }

    #[test]
    fn scalars_convert_where_nothing_is_guessed() {
        let ok =
            |value: Value, ty: Type, text: &str| assert_eq!(convert(&value, &ty).unwrap().to_json_text(false), text);
        ok(Value::int(12), Type::String, "\"12\"");
        ok(Value::Bool(true), Type::String, "\"true\"");
        ok(Value::string("1.50"), Type::Number, "1.5");
        ok(Value::string("0"), Type::Bool, "false");
        for (value, ty) in [
            (Value::string("yes"), Type::Bool),
            (Value::string("x"), Type::Number),
            (Value::Bool(true), Type::Number),
            (Value::int(1), Type::Bool),
            (Value::string("x"), Type::list(Type::String)),
        ] {
            assert!(convert(&value, &ty).is_err(), "{value:?} to {ty}");
        }
    }

    #[test]
    fn sequences_convert_item_by_item() {
        let mixed = Value::tuple(vec![Value::int(1), Value::string("a")]);
        let list = convert(&mixed, &Type::list(Type::Dynamic)).unwrap();
        assert_eq!(list, Value::string_list(["1", "a"]));
        let set = convert(&strings(&["b", "a", "b"]), &Type::set(Type::String)).unwrap();
        assert_eq!(set.to_json_text(false), r#"["a","b"]"#);
        let error = convert(&strings(&["1", "x"]), &Type::list(Type::Number)).unwrap_err();
        assert_eq!(error.to_string(), "number expected, got the string \"x\" at `[1]`");
        assert!(convert(&Value::tuple(vec![Value::int(1), Value::Bool(true)]), &Type::list(Type::Dynamic)).is_err());
    }

    #[test]
    fn objects_lose_unknown_attributes_and_gain_optional_ones() {
        let wanted = Type::Object(Arc::new(BTreeMap::from([
            (Arc::from("a"), (Type::String, false)),
            (Arc::from("b"), (Type::Number, true)),
        ])));
        let value = convert(&object(&[("a", Value::int(1)), ("z", Value::int(2))]), &wanted).unwrap();
        assert_eq!(value.to_json_text(false), r#"{"a":"1","b":null}"#);
        let error = convert(&object(&[("z", Value::int(2))]), &wanted).unwrap_err();
        assert_eq!(error.to_string(), "an object with the attribute `a` expected, got only `z`");
    }

    #[test]
    fn types_unify_to_the_most_general() {
        let case = |types: &[Type], wanted: Option<Type>| assert_eq!(unify(types), wanted, "{types:?}");
        case(&[Type::Number, Type::String], Some(Type::String));
        case(&[Type::Bool, Type::String], Some(Type::String));
        case(&[Type::Bool, Type::Number], None);
        case(&[Type::Dynamic, Type::Number], Some(Type::Number));
        case(&[], None);
        let pair = Type::tuple(vec![Type::Number, Type::String]);
        case(&[pair.clone(), Type::tuple(vec![Type::Number])], Some(Type::list(Type::String)));
        case(&[pair, Type::list(Type::String)], Some(Type::list(Type::String)));
        case(&[Type::list(Type::String), Type::tuple(vec![])], Some(Type::list(Type::String)));
        case(&[Type::String, Type::list(Type::String)], None);
        let a = object(&[("a", Value::int(1))]).type_of();
        let b = object(&[("b", Value::string("x"))]).type_of();
        case(&[a.clone(), b], Some(Type::map(Type::String)));
        case(&[a, Type::tuple(vec![])], None);
    }
}
