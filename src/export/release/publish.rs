//! The release of a run: all staged outputs become visible.

use std::{io, sync::Arc};

use super::item::{ItemActor, ItemOutcome, make_visible, name_target};
use crate::{
    export::{
        context::{ExportReceipt, ReleaseContext, with_causes},
        remember::{self, FileStamp, StoredReceipt, fingerprint},
        staged::ReleaseItem,
        write::{INDEX_FILE, ReleaseRecord, STRANGERS, StagedExport, StagedStream, Stamped, engine_is_ready},
    },
    report::{Diagnostic, event::Event},
    store::Journal,
};

/// Outcome of one output of a release. Outputs that are not visible share one fault.
pub(crate) type ReleasedOutput = Result<ExportReceipt, Arc<Diagnostic>>;

/// One act of a release, in the order in which they happen.
struct ReleaseAct {
    /// Index of the output that it belongs to.
    output: usize,
    kind: ActKind,
}

enum ActKind {
    Item(ReleaseItem),
    /// It can be sent by this process alone, so it is in no journal.
    Stream(StagedStream),
}

impl ReleaseAct {
    /// Streams come after everything else on this machine, and before what registries show.
    const fn rank(&self) -> (bool, u8) {
        match &self.kind {
            ActKind::Item(item) => (matches!(item, ReleaseItem::Name(_)), item.rank()),
            ActKind::Stream(_) => (false, u8::MAX),
        }
    }

    fn shown(&self) -> String {
        match &self.kind {
            ActKind::Item(item) => item.shown(),
            ActKind::Stream(stream) => stream.shown(),
        }
    }
}

/// Makes all outputs visible; results are in the order of the outputs.
///
/// Before anything changes, the items are written into a journal. A fault afterwards stops the release where it is: what
/// is visible stays, and the next run with the same state directory goes on.
pub(crate) async fn publish(staged: Vec<StagedExport>, context: &ReleaseContext) -> Vec<ReleasedOutput> {
    let mut outputs = staged;
    let mut acts = acts(&mut outputs);
    let journal = match begin(&mut outputs, &mut acts, context).await {
        Ok(journal) => journal,
        Err(fault) => {
            let fault = Arc::new(fault);
            return outputs.iter().map(|_| Err(fault.clone())).collect();
        }
    };
    let (n_done, stopped) = run(&acts, journal.as_ref(), context).await;
    let fault = stopped.map(|why| Arc::new(unfinished(&acts, n_done, &why, journal.is_some())));
    if fault.is_none()
        && let Some(journal) = journal
    {
        // If it stays, the next run finds everything visible and takes it away.
        drop(context.store.end_journal(journal));
    }
    let is_open = |output: usize| acts[n_done..].iter().any(|act| act.output == output);
    let results = outputs.into_iter().enumerate().map(|(output, export)| match &fault {
        Some(fault) if is_open(output) => Err(fault.clone()),
        _ => Ok(finish(export, context)),
    });
    results.collect()
}

/// All acts, in their order.
fn acts(outputs: &mut [StagedExport]) -> Vec<ReleaseAct> {
    let mut acts = Vec::new();
    for (output, export) in outputs.iter_mut().enumerate() {
        let items = std::mem::take(&mut export.parts.items).into_iter().map(ActKind::Item);
        let stream = export.parts.stream.take().map(ActKind::Stream);
        acts.extend(items.chain(stream).map(|kind| ReleaseAct { output, kind }));
    }
    acts.sort_by_key(ReleaseAct::rank);
    acts
}

/// Writes the journal; from then on what was staged is kept. Before that, registries and container engines are asked whether
/// they would take what is for them. `None` when there is nothing to write into one.
async fn begin(
    outputs: &mut [StagedExport],
    acts: &mut [ReleaseAct],
    context: &ReleaseContext,
) -> Result<Option<Journal>, Diagnostic> {
    for act in acts.iter_mut() {
        if let ActKind::Item(ReleaseItem::Load(load)) = &act.kind {
            let ready = engine_is_ready(context.client.options(), load.context.as_deref()).await;
            ready.map_err(|why| {
                let text = format!("nothing is released: `{}`: {why}", act.shown());
                Diagnostic::error("bake::export::load", text)
            })?;
        }
        let ActKind::Item(ReleaseItem::Name(name)) = &mut act.kind else { continue };
        let before = context.client.meaning(&name_target(name)).await;
        name.before = before.map_err(|error| {
            let text = format!("nothing is released: cannot look at `{}`: {}", name.shown(), with_causes(&error));
            Diagnostic::error("bake::export::push", text)
        })?;
    }
    let items: Vec<&ReleaseItem> = items(acts).map(|(_, item)| item).collect();
    if items.is_empty() {
        return Ok(None);
    }
    let archives: Vec<_> = outputs.iter().filter_map(|export| export.parts.archive.as_deref()).collect();
    let names: Vec<_> = archives.iter().map(|path| path.file_name().unwrap_or_default().to_string_lossy()).collect();
    let files: Vec<_> = names.iter().map(AsRef::as_ref).zip(archives).collect();
    let journal = context.store.begin_journal(&items, &files).map_err(|error| {
        let text = "nothing is released: its journal cannot be written";
        Diagnostic::error("bake::release::journal", text).cause(&error)
    })?;
    outputs.iter_mut().filter_map(|export| export.parts.hold.as_mut()).for_each(|hold| hold.keep());
    Ok(Some(journal))
}

/// The items among the acts, each with its index among the acts.
fn items(acts: &[ReleaseAct]) -> impl Iterator<Item = (usize, &ReleaseItem)> {
    acts.iter().enumerate().filter_map(|(index, act)| match &act.kind {
        ActKind::Item(item) => Some((index, item)),
        ActKind::Stream(_) => None,
    })
}

/// Does one act after the other. Returns how many were done, and why it stopped before the end.
async fn run(acts: &[ReleaseAct], journal: Option<&Journal>, context: &ReleaseContext) -> (usize, Option<String>) {
    let mut n_items = 0;
    for (n_done, act) in acts.iter().enumerate() {
        let stopped = match (&act.kind, journal) {
            (ActKind::Item(item), Some(journal)) => {
                let made = make_visible(item, ItemActor::Release, journal, context).await;
                if matches!(made, Ok(ItemOutcome::Visible)) {
                    // Without the note the next run looks at the item again.
                    drop(journal.note_done(n_items));
                }
                n_items += 1;
                match made {
                    Ok(ItemOutcome::Visible) => None,
                    Ok(ItemOutcome::GivenUp(why)) | Err(why) => Some(why),
                }
            }
            (ActKind::Stream(stream), _) => {
                let stream = stream.clone();
                let sent = tokio::task::spawn_blocking(move || stream.send()).await;
                sent.map_err(io::Error::other).and_then(|sent| sent).err().map(|error| error.to_string())
            }
            (ActKind::Item(_), None) => unreachable!("where there is an item, there is a journal"),
        };
        if let Some(why) = stopped {
            return (n_done, Some(format!("`{}`: {why}", act.shown())));
        }
    }
    (acts.len(), None)
}

/// The fault of a release that stopped after `n_done` acts.
fn unfinished(acts: &[ReleaseAct], n_done: usize, why: &str, has_journal: bool) -> Diagnostic {
    let list = |acts: &[ReleaseAct]| acts.iter().map(ReleaseAct::shown).collect::<Vec<_>>().join(", ");
    let (done, open) = acts.split_at(n_done);
    let text = format!("the release stopped half way; still as before: {}", list(open));
    let mut fault = Diagnostic::error("bake::release::unfinished", text);
    fault.causes.push(why.to_owned());
    let done = if done.is_empty() { String::new() } else { format!("released already: {}; ", list(done)) };
    let next = if has_journal { "the next build with this state directory releases the rest" } else { "run it again" };
    fault.help(format!("{done}{next}"))
}

/// Records the receipt of an output that is visible and tells what was written.
fn finish(export: StagedExport, context: &ReleaseContext) -> ExportReceipt {
    for (what, bytes) in &export.wrote {
        (context.sink)(Event::Wrote { what: what.as_str().into(), bytes: *bytes, reused: false });
    }
    match export.record {
        Some(ReleaseRecord { key, mut receipt, place: Some((place, stamped)) }) => {
            stamp(&mut receipt, place.path(), &stamped);
            if receipt.stamp.is_some() || receipt.fingerprint.is_some() {
                remember::keep(&context.store, &key, place.path(), receipt);
            }
        }
        Some(ReleaseRecord { key, receipt, place: None }) => remember::keep_pushed(&context.store, &key, receipt),
        None => (),
    }
    export.receipt
}

/// Notes how the destination is recognised. One that cannot be looked at is written again by the next export.
fn stamp(receipt: &mut StoredReceipt, place: &std::path::Path, stamped: &Stamped) {
    match stamped {
        Stamped::File(file) => receipt.stamp = FileStamp::of_file(file).ok(),
        Stamped::Layout => receipt.stamp = FileStamp::of(&place.join(INDEX_FILE)).ok(),
        Stamped::Folder { files } => receipt.fingerprint = fingerprint(place, files + STRANGERS).ok().flatten(),
    }
}
