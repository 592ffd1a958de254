//! The table of all built-in functions, one family per file.

use std::{collections::HashMap, sync::LazyLock};

use super::{
    builtin::Builtin, collection, crypto, encoding, file, format, logic, net, number, path, regex, set, string, time,
    version,
};

/// The family tables.
pub(super) const FAMILIES: &[&[Builtin]] = &[
    string::FUNCTIONS,
    regex::FUNCTIONS,
    format::FUNCTIONS,
    number::FUNCTIONS,
    logic::FUNCTIONS,
    collection::FUNCTIONS,
    set::FUNCTIONS,
    encoding::FUNCTIONS,
    crypto::FUNCTIONS,
    time::FUNCTIONS,
    path::FUNCTIONS,
    net::FUNCTIONS,
    version::FUNCTIONS,
    file::FUNCTIONS,
];

static BY_NAME: LazyLock<HashMap<&'static str, &'static Builtin, foldhash::fast::FixedState>> =
    LazyLock::new(|| FAMILIES.iter().flat_map(|family| family.iter()).map(|builtin| (builtin.name, builtin)).collect());

/// Finds the function of this name.
pub(crate) fn lookup(name: &str) -> Option<&'static Builtin> {
    BY_NAME.get(name).copied()
}

/// The names of all functions, sorted.
pub(crate) fn names() -> Vec<&'static str> {
    let mut names: Vec<_> = BY_NAME.keys().copied().collect();
    names.sort_unstable();
    names
}
