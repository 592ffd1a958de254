//! Caches of targets that name none: from the environment (`BAKE_CACHE`, `BAKE_CACHE_FROM`, `BAKE_CACHE_TO`), else from the
//! `cache` block of the file that defines the target, else from that of the root.
//!
//! A target that sets the attribute, if only to an empty list, keeps what it says.

use std::sync::Arc;

use super::{
    field::{self, Field, Item, TargetFields},
    overrides::item_grants,
};
use crate::{
    definition::attribute::{Id, ItemKind},
    eval::input::CacheVariables,
    report::{Diagnostic, Span, Spanned},
    spec::{OptionFault, cache, entitlement::Grant},
};

/// A default of `cache-from` or `cache-to`, and where it was written.
#[derive(Clone, Debug)]
pub(crate) struct CacheDefault {
    pub(crate) field: Field,
    pub(crate) at: Span,
}

/// The defaults of both attributes.
#[derive(Clone, Debug, Default)]
pub(crate) struct CacheDefaults {
    pub(crate) from: Option<CacheDefault>,
    pub(crate) to: Option<CacheDefault>,
}

impl CacheDefaults {
    /// Those of the environment. A text that is no cache is told.
    pub(crate) fn of_variables(variables: &CacheVariables, diagnostics: &mut Vec<Diagnostic>) -> Self {
        let CacheVariables { both, from, to } = variables;
        let mut defaults = Self::default();
        if let Some(both) = both {
            let (mut read, mut written) = (Vec::new(), Vec::new());
            lines("BAKE_CACHE", both, diagnostics, |line| {
                let (from, to) = cache::parse_both(line)?;
                read.extend(from.into_iter().map(|it| Item::CacheFrom(Arc::new(it))));
                written.extend(to.into_iter().map(|it| Item::CacheTo(Arc::new(it))));
                Ok(())
            });
            defaults = Self { from: Some(default(read, both.at)), to: Some(default(written, both.at)) };
        }
        let mut side = |name: &str, kind: ItemKind, text: &Spanned<String>| {
            let mut items = Vec::new();
            lines(name, text, diagnostics, |line| field::parse_items(kind, line, &mut items));
            default(items, text.at)
        };
        if let Some(text) = from {
            defaults.from = Some(side("BAKE_CACHE_FROM", ItemKind::CacheFrom, text));
        }
        if let Some(text) = to {
            defaults.to = Some(side("BAKE_CACHE_TO", ItemKind::CacheTo, text));
        }
        defaults
    }

    /// These, and `other` where there is none.
    pub(crate) fn or(self, other: &Self) -> Self {
        Self { from: self.from.or_else(|| other.from.clone()), to: self.to.or_else(|| other.to.clone()) }
    }

    /// Gives a target the caches that it does not name itself.
    pub(crate) fn fill_in(&self, fields: &mut TargetFields) {
        for (id, default) in [(Id::CacheFrom, &self.from), (Id::CacheTo, &self.to)] {
            if let Some(CacheDefault { field, at }) = default.as_ref().filter(|_| fields.get(id).is_none()) {
                fields.put(id, field.clone(), *at);
            }
        }
    }

    /// The grants that the environment gives by naming a folder: who sets it means it.
    pub(crate) fn grants(&self) -> Vec<Grant> {
        let fields = [&self.from, &self.to].into_iter().flatten().map(|it| &it.field);
        let items = fields.filter_map(|field| if let Field::Items(items) = field { Some(items) } else { None });
        items.flat_map(|items| items.iter().flat_map(item_grants)).collect()
    }
}

fn default(items: Vec<Item>, at: Span) -> CacheDefault {
    CacheDefault { field: Field::Items(Arc::new(items)), at }
}

/// Parses each line that is not empty.
fn lines(
    name: &str,
    text: &Spanned<String>,
    diagnostics: &mut Vec<Diagnostic>,
    mut parse: impl FnMut(&str) -> Result<(), OptionFault>,
) {
    for line in text.value.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Err(fault) = parse(line) {
            let message = format!("the environment variable `{name}`: {}", fault.message);
            let mut diagnostic = Diagnostic::error("bake::eval::bad_value", message).at(text.at, "as it is set");
            diagnostic.help = fault.help;
            diagnostics.push(diagnostic);
        }
    }
}
