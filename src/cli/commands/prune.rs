//! `bake prune`: removes what is not needed any more.

use std::time::Duration;

use crate::{
    cli::{FAILED, OK, USAGE, args::PruneArgs, state::open_store},
    report::{Diagnostic, SourceMap},
    store::{HomeDir, PruneOptions},
    ui::output,
};

use super::du::human;

/// Removes what is not needed any more.
pub(crate) fn run(bake_home: &HomeDir, args: &PruneArgs, color: bool) -> u8 {
    let tell = |diagnostic: Diagnostic| output::diagnostics(&[diagnostic], &SourceMap::default(), color);
    let older_than = match age(args) {
        Ok(age) => age,
        Err(diagnostic) => {
            tell(*diagnostic);
            return USAGE;
        }
    };
    let store = match open_store(bake_home, color) {
        Ok(Some(store)) => store,
        Ok(None) => return OK,
        Err(code) => return code,
    };
    let what = if args.all { "everything, cache mounts too," } else { "what is not needed any more" };
    let is_sure = args.force || !output::can_ask();
    if !is_sure && !output::confirm(&format!("Remove {what} from {}? [y/N] ", bake_home.path.display())) {
        return OK;
    }
    match store.prune(&PruneOptions { all: args.all, older_than }) {
        Ok(pruned) if pruned.busy => {
            let path = bake_home.path.display();
            tell(
                Diagnostic::error("bake::cli::busy", format!("nothing is removed while a build runs: {path}"))
                    .help("wait for it to end"),
            );
            FAILED
        }
        Ok(pruned) => {
            output::words(&format!("removed {}, {} records\n", human(pruned.bytes), pruned.n_records));
            OK
        }
        Err(error) => {
            tell(Diagnostic::error("bake::cli::prune", "the state directory could not be pruned").cause(&error));
            FAILED
        }
    }
}

/// `--older-than`, or `until=` of a filter.
fn age(args: &PruneArgs) -> Result<Option<Duration>, Box<Diagnostic>> {
    let mut wanted = args.older_than.as_deref();
    for filter in &args.filter {
        match filter.split_once('=') {
            Some(("until", value)) => wanted = Some(value),
            _ => {
                let message = format!("`prune` has no filter: {filter}");
                return Err(Box::new(Diagnostic::error("bake::cli::bad_filter", message).help("write until=24h")));
            }
        }
    }
    wanted.map(duration).transpose()
}

/// `90s`, `30m`, `24h`, `7d`, and sums of them.
fn duration(text: &str) -> Result<Duration, Box<Diagnostic>> {
    let bad = || {
        let message = format!("not a duration: {text}");
        Box::new(
            Diagnostic::error("bake::cli::bad_duration", message).help("write a number and s, m, h or d, as in 24h"),
        )
    };
    let mut total = 0u64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
        let count: u64 = rest[..digits].parse().map_err(|_| bad())?;
        let seconds = match rest.as_bytes()[digits] {
            b's' => 1,
            b'm' => 60,
            b'h' => 3600,
            b'd' => 86400,
            _ => return Err(bad()),
        };
        total = count.checked_mul(seconds).and_then(|it| total.checked_add(it)).ok_or_else(bad)?;
        rest = &rest[digits + 1..];
    }
    if text.is_empty() { Err(bad()) } else { Ok(Duration::from_secs(total)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        let seconds = |text: &str| duration(text).ok().map(|it| it.as_secs());
        assert_eq!(seconds("24h"), Some(86400));
        assert_eq!(seconds("1h30m"), Some(5400));
        for bad in ["", "24", "h", "1x", "1ü", "99999999999999999999d", "-1h"] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
    }
}
