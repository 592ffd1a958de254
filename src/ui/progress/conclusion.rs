//! The summary after a run that succeeded: what was written, what came from the cache, how long it took.

use crate::{
    report::summary::{RunSummary, WrittenOutput},
    ui::terminal::harmless,
};

/// Further results are counted, not listed.
const MOST_LISTED: usize = 20;

/// Formats the lines about a run that succeeded: what was written, how many steps ran, how long it took.
pub(crate) fn conclusion(summary: &RunSummary) -> String {
    let (old, new): (Vec<_>, Vec<_>) = summary.wrote.iter().partition(|output| output.reused);
    let mut text = String::new();
    for WrittenOutput { what, bytes, .. } in new.iter().take(MOST_LISTED) {
        let note = if *bytes == 0 { "written".to_owned() } else { size(*bytes) };
        text.extend(["  ", &harmless(what), "  (", &note, ")\n"]);
    }
    if new.len() > MOST_LISTED {
        text.extend(["  and ", &(new.len() - MOST_LISTED).to_string(), " more\n"]);
    }
    match old.as_slice() {
        [] => (),
        [WrittenOutput { what, .. }] => text.extend(["  ", &harmless(what), "  (unchanged)\n"]),
        many => text.extend(["  ", &many.len().to_string(), " results unchanged\n"]),
    }
    let steps = |n: usize| if n == 1 { "1 step".to_owned() } else { format!("{n} steps") };
    let what = match (summary.n_run, summary.n_cached) {
        (0, _) if new.is_empty() => "nothing to do: everything is up to date".to_owned(),
        (0, 0) => "nothing had to run".to_owned(),
        (0, cached) => format!("nothing had to run: {} from the cache", steps(cached)),
        (run, 0) => format!("ran {}", steps(run)),
        (run, cached) => format!("ran {}, {cached} from the cache", steps(run)),
    };
    text.extend([&*what, " (", &format!("{:.2}", summary.took.as_secs_f64()), " s)\n"]);
    text
}

/// Formats a size for people: `12.3 MiB`.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    #[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conclusions_say_what_was_made() {
        let mut summary = RunSummary::default();
        assert!(conclusion(&summary).starts_with("nothing to do"));
        summary.wrote.push(WrittenOutput { what: "out/a.tar".into(), bytes: 3 << 20, reused: false });
        summary.n_cached = 2;
        assert!(conclusion(&summary).contains("nothing had to run: 2 steps from the cache"));
        summary.n_run = 1;
        let text = conclusion(&summary);
        assert!(text.contains("out/a.tar  (3.0 MiB)") && text.contains("ran 1 step, 2 from the cache"), "{text}");
    }

    #[test]
    fn many_results_are_counted() {
        let output = |ix| WrittenOutput { what: format!("out/{ix}").into(), bytes: 1, reused: ix % 2 == 0 };
        let wrote = (0..100).map(output).collect();
        let text = conclusion(&RunSummary { wrote, ..RunSummary::default() });
        assert_eq!(text.lines().count(), MOST_LISTED + 3, "{text}");
        assert!(text.contains("and 30 more\n  50 results unchanged"), "{text}");
    }
}
