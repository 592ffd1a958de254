//! Reading every record of a table, for commands that tell what is there. Builds look up single records.

use serde::de::DeserializeOwned;

use super::{
    entries::{list, name_digest},
    record::{Table, parse, read_small, subject},
    state::Store,
};

impl Store {
    /// All whole records of a table, in no order. *Cost:* reads every one.
    pub(crate) fn records<T: DeserializeOwned>(&self, table: Table) -> impl Iterator<Item = T> {
        let paths = list(&self.path("index").join(table.folder())).into_iter().flat_map(|part| list(&part));
        paths.filter_map(move |path| {
            let (text, _) = read_small(&path).ok()??;
            let key = name_digest(&path)?;
            let (_, _, json) = parse(&text, &subject(table, &key))?;
            serde_json::from_slice(json).ok()
        })
    }
}
