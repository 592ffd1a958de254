//! The last words about a run: what was made, what came from the cache, how long it took.

use super::Summary;
use crate::ui::diagnostic::harmless;

/// More results are counted, not listed.
const MOST_LISTED: usize = 20;

/// What a run came to, in a line or a few.
pub(crate) fn conclusion(summary: &Summary) -> String {
    let (old, new): (Vec<_>, Vec<_>) = summary.wrote.iter().partition(|(_, _, reused)| *reused);
    let mut text = String::new();
    for (what, bytes, _) in new.iter().take(MOST_LISTED) {
        let note = if *bytes == 0 { "written".to_owned() } else { size(*bytes) };
        text.extend(["  ", &harmless(what, false), "  (", &note, ")\n"]);
    }
    if new.len() > MOST_LISTED {
        text.extend(["  and ", &(new.len() - MOST_LISTED).to_string(), " more\n"]);
    }
    match old.as_slice() {
        [] => (),
        [(what, ..)] => text.extend(["  ", &harmless(what, false), "  (unchanged)\n"]),
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

/// Bytes for people: `12.3 MiB`.
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
        let mut summary = Summary::default();
        assert!(conclusion(&summary).starts_with("nothing to do"));
        summary.wrote.push(("out/a.tar".into(), 3 << 20, false));
        summary.n_cached = 2;
        assert!(conclusion(&summary).contains("nothing had to run: 2 steps from the cache"));
        summary.n_run = 1;
        let text = conclusion(&summary);
        assert!(text.contains("out/a.tar  (3.0 MiB)") && text.contains("ran 1 step, 2 from the cache"), "{text}");
    }

    #[test]
    fn many_results_are_counted() {
        let wrote = (0..100).map(|ix| (format!("out/{ix}").into(), 1, ix % 2 == 0)).collect();
        let text = conclusion(&Summary { wrote, ..Summary::default() });
        assert_eq!(text.lines().count(), MOST_LISTED + 3, "{text}");
        assert!(text.contains("and 30 more\n  50 results unchanged"), "{text}");
    }
}
