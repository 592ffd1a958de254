//! `bake cache releases`: releases that did not end, and with `--abandon` the way out of one that cannot.

use crate::{
    cli::{
        exit::{FAILED, OK, write},
        state::open_store,
    },
    engine::{PendingRelease, pending_releases},
    report::{Diagnostic, SourceMap},
    store::HomeDir,
    ui::output,
};

/// Lists the releases that did not end, or gives them up.
pub(crate) fn run(bake_home: &HomeDir, abandon: bool, color: bool) -> u8 {
    let store = match open_store(bake_home, color) {
        Ok(Some(store)) => store,
        Ok(None) => return none(),
        Err(code) => return code,
    };
    let failed = |fault: Diagnostic| {
        output::diagnostics(&[fault], &SourceMap::default(), color);
        FAILED
    };
    let pending = match pending_releases(&store) {
        Ok(pending) => pending,
        Err(error) => {
            let text = "the journals of earlier releases cannot be read";
            return failed(Diagnostic::error("bake::release::journal", text).cause(&error));
        }
    };
    if pending.is_empty() {
        return none();
    }
    let text: String = pending.iter().map(|release| listed(release, abandon)).collect();
    if !abandon {
        return write(&text);
    }
    for release in pending {
        if let Err(why) = release.abandon(&store) {
            let mut fault = Diagnostic::error("bake::release::journal", "a release cannot be given up");
            fault.causes.push(why);
            return failed(fault);
        }
    }
    write(&text)
}

fn none() -> u8 {
    output::words("no release is pending\n");
    OK
}

/// A release with what is open of it.
fn listed(release: &PendingRelease, abandon: bool) -> String {
    let open = release.open();
    let (n_items, n_open) = (release.n_items(), open.len());
    let what = if abandon { "given up" } else { "still as before" };
    let head = match n_items {
        0 => format!("a release whose journal is damaged, {what}\n"),
        _ => format!("a release with {} of {n_items} visible, {what}:\n", n_items - n_open),
    };
    let lines = open.iter().map(|name| format!("  {}\n", output::fit_for_stdout(name)));
    lines.fold(head, |all, line| all + &line)
}
