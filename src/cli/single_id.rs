//! `BAKE_SINGLE_ID`: whether an ordinary user who was given no further ids builds with one. See docs/rootless.md.

use std::collections::BTreeMap;

use crate::{
    sandbox::{NamespaceIds, StepOwners},
    spec::boolean,
    store::HomeDir,
};

/// What becomes of owners, by the ids that the namespace of the process has.
pub(crate) fn owners(ids: NamespaceIds, env: &BTreeMap<String, String>) -> StepOwners {
    let is_wanted = env.get("BAKE_SINGLE_ID").is_some_and(|text| boolean(text).unwrap_or(false));
    match ids {
        NamespaceIds::One if is_wanted => StepOwners::Recorded,
        NamespaceIds::One | NamespaceIds::Several => StepOwners::Kept,
    }
}

/// The state directory for builds whose owners are these. What lies there has owners in a form that other builds would not
/// see, so it is one of its own.
pub(crate) fn home(home: HomeDir, owners: StepOwners) -> HomeDir {
    match owners {
        StepOwners::Kept => home,
        StepOwners::Recorded => {
            let place = |path: &std::path::Path| path.join("single-id");
            let HomeDir { path, choice, lower } = home;
            HomeDir { path: place(&path), choice, lower: lower.iter().map(|path| place(path)).collect() }
        }
    }
}
