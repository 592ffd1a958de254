//! `bake du`: what the state directory holds.

use serde_json::json;

use crate::{
    cli::{args::TableFormat, state::open_store, write},
    store::{HomeDir, Usage},
};

/// Shows what the state directory holds.
pub(crate) fn run(bake_home: &HomeDir, format: TableFormat, color: bool) -> u8 {
    let usage = match open_store(bake_home, color) {
        Ok(Some(store)) => store.usage(),
        Ok(None) => Usage::default(),
        Err(code) => return code,
    };
    let rows = [
        ("blobs", usage.n_blobs, usage.blobs),
        ("snapshots", usage.n_snapshots, usage.snapshots),
        ("cache mounts", usage.n_cache_mounts, usage.cache_mounts),
    ];
    let text = match format {
        TableFormat::Json => {
            let rows = rows.map(|(what, count, bytes)| json!({ "what": what, "count": count, "bytes": bytes }));
            let all =
                json!({ "path": bake_home.path, "kept": rows, "records": usage.n_records, "total": usage.total() });
            format!("{all:#}\n")
        }
        TableFormat::Table => {
            let line =
                |(what, count, bytes): (&str, usize, u64)| format!("{what:<14}{count:>8}  {:>10}\n", human(bytes));
            let body: String = rows.into_iter().map(line).collect();
            let total = human(usage.total());
            format!("{:<14}{:>8}  {:>10}\n{body}{:<14}{:>8}  {total:>10}\n", "WHAT", "COUNT", "SIZE", "total", "")
        }
    };
    write(&text)
}

/// `1.5 MiB`.
pub(crate) fn human(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut scale = 1u64;
    while unit + 1 < UNITS.len() && bytes / scale >= 1024 {
        scale <<= 10;
        unit += 1;
    }
    if unit == 0 {
        return format!("{bytes} B");
    }
    let tenths = u128::from(bytes) * 10 / u128::from(scale);
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_readable() {
        assert_eq!(
            [0, 1023, 1024, 1536, u64::MAX].map(human),
            ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "16777215.9 TiB"]
        );
    }
}
