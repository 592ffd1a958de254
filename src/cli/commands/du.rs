//! `bake du`: what the state directory holds, and with `--verbose` what each layer is for.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::store_filter::{StoreFilter, kind_name};
use crate::{
    cli::{
        args::{DuArgs, TableFormat},
        exit::{USAGE, write},
        state::open_store,
    },
    engine::uses::{LayerUse, layer_uses},
    report::SourceMap,
    store::{HomeDir, PruneOptions, Usage, UsageKind, UsedItem},
    ui::{output, terminal::harmless},
};

/// Shows what the state directory holds: a sum of each kind, and with `--verbose` every single thing.
pub(crate) fn run(bake_home: &HomeDir, args: &DuArgs, color: bool) -> u8 {
    let StoreFilter { older_than, kinds } = match StoreFilter::parse(None, &args.filter) {
        Ok(filter) => filter,
        Err(fault) => {
            output::diagnostics(&[*fault], &SourceMap::default(), color);
            return USAGE;
        }
    };
    let all = PruneOptions { all: true, older_than: older_than.map(|(_, age)| age), kinds, ..PruneOptions::default() };
    let (usage, uses) = match open_store(bake_home, color) {
        Ok(Some(store)) if args.verbose => (store.usage().only(&all), layer_uses(&store)),
        Ok(Some(store)) => (store.usage().only(&all), Uses::new()),
        Ok(None) => (Usage::default(), Uses::new()),
        Err(code) => return code,
    };
    let sum = |kind| usage.items.iter().filter(move |item| item.kind == kind);
    let rows =
        [("blobs", UsageKind::Blob), ("snapshots", UsageKind::Snapshot), ("cache mounts", UsageKind::CacheMount)]
            .map(|(what, kind)| (what, sum(kind).count(), sum(kind).map(|item| item.bytes).sum::<u64>()));
    let text = match args.format {
        TableFormat::Json => {
            let rows = rows.map(|(what, count, bytes)| json!({ "what": what, "count": count, "bytes": bytes }));
            let mut all = json!({
                "path": bake_home.path,
                "kept": rows,
                "records": sum(UsageKind::Record).count(),
                "total": usage.total(),
            });
            if args.verbose {
                all["items"] = usage.items.iter().map(|item| as_json(item, &uses)).collect::<Vec<Value>>().into();
            }
            format!("{all:#}\n")
        }
        TableFormat::Table => {
            let line =
                |(what, count, bytes): (&str, usize, u64)| format!("{what:<14}{count:>8}  {:>10}\n", human(bytes));
            let body: String = rows.into_iter().map(line).collect();
            let total = human(usage.total());
            let items = if args.verbose { table(usage.items.iter().rev(), &uses) + "\n" } else { String::new() };
            format!(
                "{items}{:<14}{:>8}  {:>10}\n{body}{:<14}{:>8}  {total:>10}\n",
                "WHAT", "COUNT", "SIZE", "total", ""
            )
        }
    };
    write(&text)
}

/// What layers and blobs are for, by their names.
pub(super) type Uses = HashMap<String, LayerUse>;

/// One line a thing: its name, kind, size, last use, whether a record leads to it, so that builds may use it again, and what it
/// is for, as far as `uses` says.
pub(super) fn table<'a>(items: impl Iterator<Item = &'a UsedItem>, uses: &Uses) -> String {
    let head = format!(
        "{:<14}{:<12}{:>10}  {:<12}{:<8}{:<28}{}",
        "NAME", "TYPE", "SIZE", "LAST USED", "NEEDED", "USED BY", "MADE BY"
    );
    let line = |item: &UsedItem| {
        let name: String = item.name().chars().take(12).collect();
        let needed = if item.named { "yes" } else { "no" };
        let (kind, size, day) = (kind_name(item.kind), human(item.bytes), day(item));
        let (users, made_by) = uses
            .get(item.name())
            .filter(|_| is_layer(item))
            .map(|of| (users(of), harmless(first_line(&of.made_by))))
            .unwrap_or_default();
        format!("{name:<14}{kind:<12}{size:>10}  {day:<12}{needed:<8}{users:<28}{made_by}")
    };
    let lines = std::iter::once(head).chain(items.map(line));
    lines.map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// `web, api and 2 more builds`, `2 builds`, or nothing.
fn users(of: &LayerUse) -> String {
    const SHOWN: usize = 2;
    let shown: Vec<String> = of.targets.iter().take(SHOWN).map(|name| harmless(name)).collect();
    let rest = of.n_builds.saturating_sub(shown.len());
    let builds = if rest == 1 { "build" } else { "builds" };
    match (shown.is_empty(), rest) {
        (true, 0) => String::new(),
        (true, _) => format!("{rest} {builds}"),
        (false, 0) => shown.join(", "),
        (false, _) => format!("{} and {rest} more {builds}", shown.join(", ")),
    }
}

/// A record may have the name of the snapshot that it leads to.
const fn is_layer(item: &UsedItem) -> bool {
    matches!(item.kind, UsageKind::Snapshot | UsageKind::Blob)
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

fn as_json(item: &UsedItem, uses: &Uses) -> Value {
    let mut json = json!({
        "name": item.name(),
        "type": kind_name(item.kind),
        "bytes": item.bytes,
        "lastUsed": day(item),
        "needed": item.named,
    });
    if let Some(LayerUse { made_by, n_builds, targets }) = uses.get(item.name()).filter(|_| is_layer(item)) {
        json["builds"] = json!(n_builds);
        json["shared"] = json!(*n_builds > 1);
        json["targets"] = json!(targets);
        json["madeBy"] = json!(made_by);
    }
    json
}

/// The day of the last use, as in `2026-01-31`: the store remembers no more than that.
fn day(item: &UsedItem) -> String {
    jiff::Timestamp::from_second(item.last_used).map_or_else(|_| String::new(), |time| time.strftime("%F").to_string())
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
