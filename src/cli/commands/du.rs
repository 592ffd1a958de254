//! `bake du`: what the state directory holds.

use std::path::Path;

use crate::{
    cli::{FAILED, args::TableFormat, write},
    store::Store,
    ui::{output, progress::size},
};

/// Shows what the state directory holds.
pub(crate) fn run(bake_home: &Path, format: TableFormat, _verbose: bool) -> u8 {
    let usage = match Store::open(bake_home) {
        Ok(store) => store.usage(),
        Err(error) => {
            output::words(&format!("bake: {error}\n"));
            return FAILED;
        }
    };
    let rows = [
        ("blobs", usage.n_blobs, usage.blobs),
        ("snapshots", usage.n_snapshots, usage.snapshots),
        ("cache mounts", usage.n_cache_mounts, usage.cache_mounts),
    ];
    match format {
        TableFormat::Json => {
            let rows: Vec<_> = rows
                .iter()
                .map(|(kind, count, bytes)| serde_json::json!({"kind": kind, "count": count, "bytes": bytes}))
                .collect();
            write(
                &(serde_json::json!({"home": bake_home, "usage": rows, "records": usage.n_records}).to_string() + "\n"),
            )
        }
        TableFormat::Table => {
            let mut text = format!("{:<14}{:>8}  {:>10}\n", "KIND", "COUNT", "SIZE");
            for (kind, count, bytes) in rows {
                text.push_str(&format!("{kind:<14}{count:>8}  {:>10}\n", size(bytes)));
            }
            text.push_str(&format!("{:<14}{:>8}  {:>10}\n", "total", "", size(usage.total())));
            write(&text)
        }
    }
}
