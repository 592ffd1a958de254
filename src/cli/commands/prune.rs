//! `bake prune`: removes what is not needed any more.

use super::{du, store_filter::StoreFilter};
use crate::{
    cli::{
        args::PruneArgs,
        exit::{FAILED, OK, USAGE},
        state::open_store,
    },
    report::{Diagnostic, SourceMap},
    store::{HomeDir, PruneOptions, SpaceLimits},
    ui::output,
};

/// Runs `bake prune`: removes things from the state directory, after a question if there is a terminal and no `--force`.
///
/// Without options: blobs and snapshots that no record leads to. With `--older-than`, `--filter` or a limit of room:
/// everything that these choose. With `--all`: everything. What a running build may use always stays.
///
/// Returns the exit code: 0 also when the answer is no or there is no state directory; 1 if removing failed, or running
/// builds may use all that would go; 2 for bad options.
pub(crate) fn run(bake_home: &HomeDir, args: &PruneArgs, color: bool) -> u8 {
    let tell = |diagnostic: Diagnostic| output::diagnostics(&[diagnostic], &SourceMap::default(), color);
    let filter = match StoreFilter::parse(args.older_than.as_deref(), &args.filter) {
        Ok(filter) => filter,
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
    let space = args.space.limits();
    let is_sure = args.force || !output::can_ask();
    let question = || format!("Remove {} from {}? [y/N] ", subject(args.all, &filter, space), bake_home.path.display());
    if !is_sure && !output::confirm(&question()) {
        return OK;
    }
    let StoreFilter { older_than, kinds } = filter;
    match store.prune(&PruneOptions { all: args.all, older_than: older_than.map(|(_, age)| age), kinds, space }) {
        Ok(pruned) if pruned.busy => {
            let path = bake_home.path.display();
            tell(
                Diagnostic::error("bake::cli::busy", format!("nothing is removed while a build runs: {path}"))
                    .help("wait for it to end"),
            );
            FAILED
        }
        Ok(pruned) => {
            if args.verbose {
                output::words(&du::table(pruned.items.iter(), &du::Uses::new()));
            }
            output::words(&format!("removed {}, {} records\n", du::human(pruned.bytes), pruned.n_records));
            OK
        }
        Err(error) => {
            tell(Diagnostic::error("bake::cli::prune", "the state directory could not be pruned").cause(&error));
            FAILED
        }
    }
}

/// The things that will go, in the words of the question. All but the first take what is still needed too, so they say so.
fn subject(all: bool, filter: &StoreFilter, space: SpaceLimits) -> String {
    let kinds = if filter.kinds.is_empty() { "everything" } else { "everything of these types" };
    let mounts = if filter.kinds.is_empty() { ", cache mounts too," } else { "" };
    match &filter.older_than {
        Some((typed, _)) => format!("{kinds} that was not used for {typed}{mounts}"),
        None if space != SpaceLimits::default() => {
            format!("{kinds}, the least recently used first, until the limits hold{mounts}")
        }
        None if all || !filter.kinds.is_empty() => format!("{kinds}{mounts}"),
        None => "what is not needed any more".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::store::UsageKind;

    #[test]
    fn the_question_says_that_what_is_needed_goes_too() {
        let none = StoreFilter::default();
        let week = StoreFilter { older_than: Some(("7d".to_owned(), Duration::from_secs(7))), ..none.clone() };
        let git = StoreFilter { kinds: vec![UsageKind::Git], ..none.clone() };
        let small = SpaceLimits { max_used: Some(1), ..SpaceLimits::default() };
        let free = SpaceLimits::default();
        assert_eq!(subject(false, &none, free), "what is not needed any more");
        assert_eq!(subject(false, &week, free), "everything that was not used for 7d, cache mounts too,");
        assert_eq!(subject(true, &none, free), "everything, cache mounts too,");
        assert_eq!(subject(false, &git, free), "everything of these types");
        assert_eq!(
            subject(false, &none, small),
            "everything, the least recently used first, until the limits hold, cache mounts too,"
        );
    }
}
