//! Values and types of the bake language: those of cty, as far as bake files can make them.

use std::{collections::BTreeMap, sync::Arc};

use super::number::Number;

/// A value. Cheap to clone: collections are shared.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    /// The literal `null` has type [`Type::Dynamic`].
    Null(Type),
    Bool(bool),
    Number(Number),
    String(Arc<str>),
    List {
        element: Type,
        items: Arc<Vec<Value>>,
    },
    /// *Invariant:* sorted and distinct.
    Set {
        element: Type,
        items: Arc<Vec<Value>>,
    },
    Map {
        element: Type,
        entries: Arc<BTreeMap<Arc<str>, Value>>,
    },
    Tuple(Arc<Vec<Value>>),
    Object(Arc<BTreeMap<Arc<str>, Value>>),
}

/// A type constraint or the type of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    /// `any`.
    Dynamic,
    Bool,
    Number,
    String,
    List(Arc<Type>),
    Set(Arc<Type>),
    Map(Arc<Type>),
    Tuple(Arc<Vec<Type>>),
    /// Each attribute with whether it is `optional(…)`.
    Object(Arc<BTreeMap<Arc<str>, (Type, bool)>>),
}
