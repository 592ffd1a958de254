//! The summary after a run that succeeded: what was written, what came from the cache, how long it took.

use std::{sync::Arc, time::Duration};

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
    text + &critical_path(&summary.critical_path)
}

/// The line about the chain of steps that took longest: what to look at in order to be done sooner. None if nothing waited
/// for anything, or all was quick.
fn critical_path(steps: &[(Arc<str>, Duration)]) -> String {
    const LISTED: usize = 3;
    let took: Duration = steps.iter().map(|(_, took)| took).sum();
    if steps.len() < 2 || took < Duration::from_secs(2) {
        return String::new();
    }
    let mut by_time: Vec<usize> = (0..steps.len()).collect();
    by_time.sort_by_key(|ix| std::cmp::Reverse(steps[*ix].1));
    let mut listed: Vec<usize> = by_time.into_iter().take(LISTED).collect();
    listed.sort_unstable();
    let step = |ix: usize| {
        let (name, took) = &steps[ix];
        let place = name.split_once(']').map_or(&**name, |(place, _)| place).trim_start_matches('[');
        format!("{} {:.1} s", harmless(place), took.as_secs_f64())
    };
    let listed: Vec<String> = listed.into_iter().map(step).collect();
    let of = if steps.len() > LISTED { format!(" in {} steps, most of it", steps.len()) } else { String::new() };
    format!("critical path: {:.1} s{of}: {}\n", took.as_secs_f64(), listed.join(", "))
}

/// Formats a size for people: `12.3 MiB`.
pub(crate) fn size(bytes: u64) -> String {
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
    fn the_critical_path_is_told_if_it_took_long() {
        let path = |seconds: &[u64]| {
            let step = |(ix, n): (usize, &u64)| (format!("[a {ix}/9] RUN x").into(), Duration::from_secs(*n));
            let critical_path = seconds.iter().enumerate().map(step).collect();
            let text = conclusion(&RunSummary { critical_path, ..RunSummary::default() });
            text.lines().nth(1).unwrap_or_default().to_owned()
        };
        assert_eq!(path(&[1, 0]), "");
        assert_eq!(path(&[9]), "");
        assert_eq!(path(&[1, 2]), "critical path: 3.0 s: a 0/9 1.0 s, a 1/9 2.0 s");
        assert_eq!(
            path(&[4, 1, 3, 2]),
            "critical path: 10.0 s in 4 steps, most of it: a 0/9 4.0 s, a 2/9 3.0 s, a 3/9 2.0 s"
        );
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
