//! The value of `target.x.attribute` in an expression: a merged field, turned back into a value of the language.
//!
//! Which value an attribute that is not set has follows from its row in the table. Nothing is parsed or checked here.

use std::{collections::BTreeMap, sync::Arc};

use super::field::{Field, Item, Misfit, decode, merge_field};
use crate::{
    definition::attribute::{AttributeKind, AttributeRow, Id, ItemKind},
    eval::value::types::{Type, Value},
    spec::{Ssh, options::OptionTexts},
};

/// The value of `target.x.ATTRIBUTE`, merged from the values that the blocks of `x` give it, in order.
///
/// # Errors
/// When a value does not fit the attribute; the text follows the attribute's name.
pub(crate) fn reference_value(row: &AttributeRow, values: &[Value]) -> Result<Value, Misfit> {
    let mut merged: Option<Field> = None;
    for value in values {
        if let Some(later) = decode(row, value, None, &mut Vec::new())? {
            match &mut merged {
                Some(mine) => {
                    merge_field(row, mine, &later);
                }
                None => merged = Some(later),
            }
        }
    }
    Ok(match merged {
        Some(field) => to_value(row, &field),
        None => unset(row),
    })
}

fn unset(row: &AttributeRow) -> Value {
    let map = || Type::Map(Arc::new(Type::String));
    match row.kind {
        _ if row.id == Id::Description => Value::String("".into()),
        AttributeKind::Text => Value::Null(Type::String),
        AttributeKind::Bool => Value::Null(Type::Bool),
        AttributeKind::Texts => Value::Null(Type::List(Arc::new(Type::String))),
        AttributeKind::Entries { .. } => Value::Null(map()),
        AttributeKind::Items(_) => Value::list(map(), Vec::new()),
        AttributeKind::Resources | AttributeKind::Matrix => Value::Null(Type::Dynamic),
    }
}

fn to_value(row: &AttributeRow, field: &Field) -> Value {
    let list = |texts: &[Arc<str>]| Value::list(Type::String, texts.iter().cloned().map(Value::String).collect());
    match field {
        Field::Text(text) => Value::String(text.clone()),
        Field::Bool(flag) => Value::Bool(*flag),
        Field::Texts(texts) => list(texts),
        Field::Entries(entries) => Value::map(
            Type::String,
            entries
                .iter()
                .map(|(key, value)| (key.clone(), value.clone().map_or(Value::Null(Type::String), Value::String)))
                .collect(),
        ),
        Field::Resources(resources) => map_value(resources.entries().iter().map(|it| (it.key, it.text.clone()))),
        Field::Items(items) if row.kind == AttributeKind::Items(ItemKind::Ssh) => {
            let object = |ssh: &Ssh| {
                let paths: Vec<Arc<str>> = ssh.paths.iter().map(|it| it.as_str().into()).collect();
                Value::object(BTreeMap::from([
                    ("id".into(), Value::String(ssh.id.as_str().into())),
                    ("paths".into(), list(&paths)),
                ]))
            };
            let items =
                items.iter().filter_map(|item| if let Item::Ssh(ssh) = item { Some(object(ssh)) } else { None });
            Value::tuple(items.collect())
        }
        Field::Items(items) => Value::list(Type::map(Type::String), items.iter().map(item_value).collect()),
    }
}

fn item_value(item: &Item) -> Value {
    let owned = |all: BTreeMap<&str, &str>| map_value(all.iter().map(|(k, v)| (*k, (*v).to_owned())));
    let borrowed = |all: &'_ OptionTexts| map_value(all.iter().map(|(key, text)| (key.as_str(), text.clone())));
    match item {
        Item::Output(it) => {
            let mut all = it.texts().clone();
            all.entry("dest".to_owned()).or_default();
            borrowed(&all)
        }
        Item::CacheFrom(it) => borrowed(it.texts()),
        Item::CacheTo(it) => borrowed(it.texts()),
        Item::Attest(it) => {
            let mut all: BTreeMap<&str, &str> =
                it.texts().iter().map(|(key, text)| (key.as_str(), text.as_str())).collect();
            if it.value.disabled {
                all.insert("disabled", "true");
            }
            owned(all)
        }
        Item::Policy(it) => map_value(it.entries().into_iter()),
        Item::Secret(it) => owned(BTreeMap::from([
            ("id", it.id.as_str()),
            ("src", it.src.as_deref().unwrap_or_default()),
            ("env", it.env.as_deref().unwrap_or_default()),
        ])),
        Item::Ssh(it) => owned(BTreeMap::from([("id", it.id.as_str())])),
    }
}

fn map_value<'a>(entries: impl Iterator<Item = (&'a str, String)>) -> Value {
    Value::map(Type::String, entries.map(|(key, text)| (key.into(), Value::String(text.into()))).collect())
}
