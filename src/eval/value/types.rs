//! Values and types of the bake language: those of cty that bake files can produce. Conversion between types is in
//! `convert`.

use std::{
    cmp::Ordering,
    collections::BTreeMap,
    fmt::{self, Write as _},
    ops::Deref,
    sync::Arc,
};

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

use super::number::Number;

/// A value of the bake language, as evaluation of an expression gives it. Cheap to clone: collections are shared.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    /// The literal `null` has type [`Type::Dynamic`].
    Null(Type),
    Bool(bool),
    Number(Number),
    String(Arc<str>),
    List {
        element: Type,
        items: Arc<Weighed<Vec<Self>>>,
    },
    /// *Invariant:* sorted and distinct.
    Set {
        element: Type,
        items: Arc<Weighed<Vec<Self>>>,
    },
    Map {
        element: Type,
        entries: Arc<Weighed<BTreeMap<Arc<str>, Self>>>,
    },
    Tuple(Arc<Weighed<Vec<Self>>>),
    Object(Arc<Weighed<BTreeMap<Arc<str>, Self>>>),
}

/// A collection that knows its weight: the size of the value if all shared parts were copied. Without a limit on it, a
/// short file could define a value that exhausts memory as soon as it is written out.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Weighed<T> {
    inner: T,
    weight: u32,
}

impl<T> Deref for Weighed<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

/// The largest weight of a value; heavier values are refused.
pub(crate) const MAX_WEIGHT: u32 = 1 << 22;
/// The number of bytes of text that count as one value.
const TEXT_WEIGHT: usize = 32;

fn text_weight(text: &str) -> u32 {
    u32::try_from(text.len() / TEXT_WEIGHT).unwrap_or(u32::MAX - 1)
}

fn weighed_items(items: Vec<Value>) -> Arc<Weighed<Vec<Value>>> {
    let weight = items.iter().fold(1, |sum: u32, item| sum.saturating_add(item.weight()));
    Arc::new(Weighed { inner: items, weight })
}

fn weighed_entries(entries: BTreeMap<Arc<str>, Value>) -> Arc<Weighed<BTreeMap<Arc<str>, Value>>> {
    let each = |(key, item): (&Arc<str>, &Value)| text_weight(key).saturating_add(item.weight());
    let weight = entries.iter().fold(1, |sum: u32, entry| sum.saturating_add(each(entry)));
    Arc::new(Weighed { inner: entries, weight })
}

/// A type of the bake language: the `type` of a variable, or what [`Value::type_of`] says of a value. As in cty/HCL
/// (<https://github.com/hashicorp/hcl/blob/main/ext/typeexpr/README.md>).
///
/// Optional attributes occur in constraints only. Of a value, `Dynamic` is the type of the literal `null`, and that of
/// the items of a collection for which no single type is known (an empty one, or what a function made of a tuple).
#[expect(clippy::rc_buffer, reason = "made once from a vector, shared often")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    /// `any`: no constraint; also the type of the literal `null`.
    Dynamic,
    Bool,
    Number,
    String,
    List(Arc<Self>),
    Set(Arc<Self>),
    Map(Arc<Self>),
    Tuple(Arc<Vec<Self>>),
    /// Each attribute with whether it is `optional(…)`.
    Object(Arc<BTreeMap<Arc<str>, (Self, bool)>>),
}

impl Value {
    /// The literal `null`, of type `any`.
    pub(crate) const NULL: Self = Self::Null(Type::Dynamic);

    /// A string, in Unicode normal form C as all strings of the language are.
    pub(crate) fn string(text: impl Into<Arc<str>>) -> Self {
        let text = text.into();
        if text.is_ascii() || is_nfc_quick(text.chars()) == IsNormalized::Yes {
            Self::String(text)
        } else {
            Self::String(text.nfc().collect::<String>().into())
        }
    }

    /// A whole number.
    pub(crate) const fn int(value: i64) -> Self {
        Self::Number(Number::from_i64(value))
    }

    /// A list. The caller has converted all items to type `element`.
    pub(crate) fn list(element: Type, items: Vec<Self>) -> Self {
        Self::List { element, items: weighed_items(items) }
    }

    /// A `list(string)`.
    pub(crate) fn string_list<T: Into<Arc<str>>>(items: impl IntoIterator<Item = T>) -> Self {
        Self::list(Type::String, items.into_iter().map(Self::string).collect())
    }

    /// A set of these items, which are sorted; of equal ones one is kept. The caller has converted them to type
    /// `element`.
    pub(crate) fn set(element: Type, mut items: Vec<Self>) -> Self {
        items.sort_by(order_in_set);
        items.dedup();
        Self::Set { element, items: weighed_items(items) }
    }

    /// A map. The caller has converted all entries to type `element`.
    pub(crate) fn map(element: Type, entries: BTreeMap<Arc<str>, Self>) -> Self {
        Self::Map { element, entries: weighed_entries(entries) }
    }

    /// A tuple: a sequence whose items keep types of their own, as `[…]` writes it.
    pub(crate) fn tuple(items: Vec<Self>) -> Self {
        Self::Tuple(weighed_items(items))
    }

    /// An object: attributes that keep types of their own, as `{…}` writes it.
    pub(crate) fn object(entries: BTreeMap<Arc<str>, Self>) -> Self {
        Self::Object(weighed_entries(entries))
    }

    /// The weight of the value: the number of values in it, shared ones counted each time, and its texts by their
    /// length.
    pub(crate) fn weight(&self) -> u32 {
        match self {
            Self::Null(_) | Self::Bool(_) | Self::Number(_) => 1,
            Self::String(text) => 1 + text_weight(text),
            Self::List { items, .. } | Self::Set { items, .. } | Self::Tuple(items) => items.weight,
            Self::Map { entries, .. } | Self::Object(entries) => entries.weight,
        }
    }

    /// Whether the value is a null, of whatever type.
    pub(crate) const fn is_null(&self) -> bool {
        matches!(self, Self::Null(_))
    }

    /// The text of a string; `None` for any other value: numbers are not converted.
    pub(crate) fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The value of a bool; `None` for any other value.
    pub(crate) const fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// The value of a number; `None` for any other value.
    pub(crate) const fn as_number(&self) -> Option<&Number> {
        match self {
            Self::Number(value) => Some(value),
            _ => None,
        }
    }

    /// The items of a list, set or tuple in order; `None` for any other value.
    pub(crate) fn items(&self) -> Option<&[Self]> {
        match self {
            Self::List { items, .. } | Self::Set { items, .. } | Self::Tuple(items) => Some(items),
            _ => None,
        }
    }

    /// The entries of a map or object by key; `None` for any other value.
    pub(crate) fn entries(&self) -> Option<&BTreeMap<Arc<str>, Self>> {
        match self {
            Self::Map { entries, .. } | Self::Object(entries) => Some(entries),
            _ => None,
        }
    }

    /// The number of items or entries of a collection; `None` for any other value.
    pub(crate) fn len(&self) -> Option<usize> {
        self.items().map(<[Self]>::len).or_else(|| self.entries().map(BTreeMap::len))
    }

    /// The type of the value. Attributes of an object are all required in it.
    pub(crate) fn type_of(&self) -> Type {
        match self {
            Self::Null(ty) => ty.clone(),
            Self::Bool(_) => Type::Bool,
            Self::Number(_) => Type::Number,
            Self::String(_) => Type::String,
            Self::List { element, .. } => Type::List(Arc::new(element.clone())),
            Self::Set { element, .. } => Type::Set(Arc::new(element.clone())),
            Self::Map { element, .. } => Type::Map(Arc::new(element.clone())),
            Self::Tuple(items) => Type::Tuple(Arc::new(items.iter().map(Self::type_of).collect())),
            Self::Object(entries) => Type::Object(Arc::new(
                entries.iter().map(|(name, value)| (name.clone(), (value.type_of(), false))).collect(),
            )),
        }
    }

    /// The word for the kind of this value in messages: `string`, `list of number`, `tuple`, `null`.
    pub(crate) fn kind(&self) -> String {
        if self.is_null() { "null".to_owned() } else { self.type_of().to_string() }
    }

    /// The text of a string, number or bool, as `${…}` in a template writes it; `None` for anything else.
    pub(crate) fn to_text(&self) -> Option<Arc<str>> {
        match self {
            Self::String(text) => Some(text.clone()),
            Self::Number(number) => Some(number.to_string().into()),
            Self::Bool(value) => Some(if *value { "true" } else { "false" }.into()),
            _ => None,
        }
    }

    /// Converts a string, number or bool to a [`Value::String`]; `None` for anything else.
    pub(crate) fn to_string_value(&self) -> Option<Self> {
        self.to_text().map(Self::String)
    }

    /// Equality as `==` sees it: values of different types differ (a list is never equal to a tuple), all nulls are equal.
    pub(crate) fn same(&self, other: &Self) -> bool {
        let items = |a: &[Self], b: &[Self]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.same(b));
        let entries = |a: &BTreeMap<Arc<str>, Self>, b: &BTreeMap<Arc<str>, Self>| {
            a.len() == b.len() && a.iter().zip(b).all(|((a_key, a), (b_key, b))| a_key == b_key && a.same(b))
        };
        match (self, other) {
            (Self::Null(_), Self::Null(_)) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Number(a), Self::Number(b)) => a == b,
            (Self::String(a), Self::String(b)) => a == b,
            (Self::List { element: a_type, items: a }, Self::List { element: b_type, items: b })
            | (Self::Set { element: a_type, items: a }, Self::Set { element: b_type, items: b }) => {
                a_type == b_type && items(a, b)
            }
            (Self::Map { element: a_type, entries: a }, Self::Map { element: b_type, entries: b }) => {
                a_type == b_type && entries(a, b)
            }
            (Self::Tuple(a), Self::Tuple(b)) => items(a, b),
            (Self::Object(a), Self::Object(b)) => entries(a, b),
            _ => false,
        }
    }

    /// Compact JSON text, keys sorted; with `html_safe`, `<`, `>`, `&` and the two line separators are escaped.
    pub(crate) fn to_json_text(&self, html_safe: bool) -> String {
        let mut out = String::new();
        write_json(&mut out, self, html_safe);
        out
    }
}

impl Type {
    /// The type `list(element)`.
    pub(crate) fn list(element: Self) -> Self {
        Self::List(Arc::new(element))
    }

    /// The type `set(element)`.
    pub(crate) fn set(element: Self) -> Self {
        Self::Set(Arc::new(element))
    }

    /// The type `map(element)`.
    pub(crate) fn map(element: Self) -> Self {
        Self::Map(Arc::new(element))
    }

    /// The type `tuple([…])` of these item types.
    pub(crate) fn tuple(items: Vec<Self>) -> Self {
        Self::Tuple(Arc::new(items))
    }

    /// Whether it is `bool`, `number` or `string`.
    pub(crate) const fn is_primitive(&self) -> bool {
        matches!(self, Self::Bool | Self::Number | Self::String)
    }

    /// The name of this type as the element type of a collection, where `any` stands for one common type.
    fn as_element(&self) -> String {
        match self {
            Self::Dynamic => "any single type".to_owned(),
            other => other.to_string(),
        }
    }

    /// The element type of a list, set or map; `None` for any other type.
    pub(crate) fn element(&self) -> Option<&Self> {
        match self {
            Self::List(element) | Self::Set(element) | Self::Map(element) => Some(element),
            _ => None,
        }
    }
}

/// The words for a type in messages and `--list variables`: `list of string`, `tuple`, `object`, `any type`.
impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dynamic => f.write_str("any type"),
            Self::Bool => f.write_str("bool"),
            Self::Number => f.write_str("number"),
            Self::String => f.write_str("string"),
            Self::List(element) => write!(f, "list of {}", element.as_element()),
            Self::Set(element) => write!(f, "set of {}", element.as_element()),
            Self::Map(element) => write!(f, "map of {}", element.as_element()),
            Self::Tuple(_) => f.write_str("tuple"),
            Self::Object(_) => f.write_str("object"),
        }
    }
}

/// The order of a set's items: numbers by value, strings by code point, `false` first, null last, anything nested by the
/// text of its items.
fn order_in_set(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Number(a), Value::Number(b)) => a.cmp(b),
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Null(_), Value::Null(_)) => Ordering::Equal,
        (Value::Null(_), _) => Ordering::Greater,
        (_, Value::Null(_)) => Ordering::Less,
        _ => a.to_json_text(false).cmp(&b.to_json_text(false)),
    }
}

fn write_json(out: &mut String, value: &Value, html_safe: bool) {
    match value {
        Value::Null(_) => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) => write!(out, "{number}").expect("writing to a string"),
        Value::String(text) => write_json_string(out, text, html_safe),
        Value::List { items, .. } | Value::Set { items, .. } | Value::Tuple(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_json(out, item, html_safe);
            }
            out.push(']');
        }
        Value::Map { entries, .. } | Value::Object(entries) => {
            out.push('{');
            for (i, (key, item)) in entries.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_json_string(out, key, html_safe);
                out.push(':');
                write_json(out, item, html_safe);
            }
            out.push('}');
        }
    }
}

/// Appends a JSON string literal.
pub(crate) fn write_json_string(out: &mut String, text: &str, html_safe: bool) {
    out.push('"');
    let mut plain = 0;
    for (at, c) in text.char_indices() {
        let escape = match c {
            '"' => "\\\"",
            '\\' => "\\\\",
            '\n' => "\\n",
            '\r' => "\\r",
            '\t' => "\\t",
            '\u{8}' => "\\b",
            '\u{c}' => "\\f",
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' if html_safe => "",
            c if u32::from(c) < 0x20 => "",
            _ => continue,
        };
        out.push_str(&text[plain..at]);
        plain = at + c.len_utf8();
        if escape.is_empty() {
            write!(out, "\\u{:04x}", u32::from(c)).expect("writing to a string");
        } else {
            out.push_str(escape);
        }
    }
    out.push_str(&text[plain..]);
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_sorted_and_distinct() {
        let set = Value::set(Type::Number, vec![Value::int(10), Value::int(2), Value::int(10)]);
        assert_eq!(set.to_json_text(false), "[2,10]");
        let set = Value::set(Type::String, ["b", "B", "a", "b"].into_iter().map(Value::string).collect());
        assert_eq!(set.to_json_text(false), r#"["B","a","b"]"#);
    }

    #[test]
    fn equality_is_strict_about_types_and_lax_about_nulls() {
        let list = Value::string_list(["a"]);
        let tuple = Value::tuple(vec![Value::string("a")]);
        assert!(!list.same(&tuple));
        assert!(list.same(&Value::string_list(["a"])));
        assert!(!Value::string("1").same(&Value::int(1)));
        assert!(Value::NULL.same(&Value::Null(Type::String)));
        assert!(!Value::string("").same(&Value::NULL));
    }

    #[test]
    fn weight_counts_shared_values_each_time() {
        let mut value = Value::tuple(vec![Value::int(1)]);
        for _ in 0..100 {
            value = Value::tuple(vec![value.clone(), value]);
        }
        assert_eq!(value.weight(), u32::MAX);
        assert_eq!(Value::string_list(["a", "b"]).weight(), 3);
    }

    #[test]
    fn json_text_escapes_html_on_request() {
        let value = Value::string("<a> & \"b\"\u{1}");
        assert_eq!(value.to_json_text(true), r#""\u003ca\u003e \u0026 \"b\"\u0001""#);
        assert_eq!(value.to_json_text(false), r#""<a> & \"b\"\u0001""#);
    }

    #[test]
    fn kinds_are_words() {
        assert_eq!(Value::string_list(["a"]).kind(), "list of string");
        assert_eq!(Value::NULL.kind(), "null");
        assert_eq!(Type::set(Type::list(Type::Dynamic)).to_string(), "set of list of any single type");
    }
}
