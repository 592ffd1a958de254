//! The next run after a release that did not end: what is left of it becomes visible, or is reported.

use super::item::{ItemActor, ItemOutcome, make_visible};
use crate::{
    export::{context::ReleaseContext, staged::ReleaseItem},
    report::{Diagnostic, event::Event},
    store::Journal,
};

/// Goes on with the releases of processes that have died, the oldest first. Returns what the user should know.
///
/// An item that fails for now keeps the journal: the next run tries again. One that can never become visible, because
/// somebody else has replaced it or the registry refuses it, is reported once.
pub(crate) async fn recover(context: &ReleaseContext) -> Vec<Diagnostic> {
    let journals = match context.store.dead_journals::<Vec<ReleaseItem>>() {
        Ok(journals) => journals,
        Err(error) => {
            let text = "the journals of earlier releases cannot be read";
            return vec![Diagnostic::warning("bake::release::journal", text).cause(&error)];
        }
    };
    let mut told = Vec::new();
    for (journal, items) in journals {
        match items {
            Some(items) => told.extend(go_on(journal, &items, context).await),
            None => {
                let text = "the journal of an earlier release is damaged: what it has not released stays as it is";
                told.push(Diagnostic::warning("bake::release::journal", text).help("run that release again"));
                end(journal, context, &mut told);
            }
        }
    }
    told
}

/// Makes what is left of one release visible.
async fn go_on(journal: Journal, items: &[ReleaseItem], context: &ReleaseContext) -> Vec<Diagnostic> {
    let done = journal.done();
    let mut told = Vec::new();
    let mut released = Vec::new();
    for (index, item) in items.iter().enumerate().filter(|(index, _)| !done.contains(index)) {
        let shown = item.shown();
        match make_visible(item, ItemActor::Recovery, &journal, context).await {
            Ok(ItemOutcome::Visible) => {
                (context.sink)(Event::Wrote { what: shown.as_str().into(), bytes: 0, reused: false });
                released.push(shown);
            }
            Ok(ItemOutcome::GivenUp(why)) => {
                let text = format!("an earlier release did not end, and this part of it is given up: {shown}");
                let mut warning = Diagnostic::warning("bake::release::given_up", text);
                warning.causes.push(why);
                told.push(warning.help("run that release again if it is still wanted"));
            }
            Err(why) => {
                let left = items[index..].iter().map(ReleaseItem::shown).collect::<Vec<_>>().join(", ");
                let text = format!("an earlier release has not ended yet; still as before: {left}");
                let mut warning = Diagnostic::warning("bake::release::pending", text);
                warning.causes.push(format!("`{shown}`: {why}"));
                told.push(warning.help(
                    "the next build with this state directory tries again; `bake cache releases --abandon` gives it up",
                ));
                return told;
            }
        }
        // Without the note the next run looks at the item again.
        drop(journal.note_done(index));
    }
    if !released.is_empty() {
        let text = format!("an earlier release that did not end was finished: {}", released.join(", "));
        told.insert(0, Diagnostic::notice("bake::release::finished", text));
    }
    end(journal, context, &mut told);
    told
}

fn end(journal: Journal, context: &ReleaseContext, told: &mut Vec<Diagnostic>) {
    if let Err(error) = context.store.end_journal(journal) {
        let text = "the journal of an earlier release cannot be removed";
        told.push(Diagnostic::warning("bake::release::journal", text).cause(&error));
    }
}
