//! The records of what the last runs of an instruction were made from, and of the names that they read.
//!
//! A record holds the runs of one instruction for all targets and platforms; of these the nearest is compared with. It is
//! found by the text of the instruction, or by its number in the stage where the text is new. It only serves to say
//! something: what is lost of it costs words.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};

use super::{
    compare,
    difference::Explanation,
    parts::{ReadPart, StepParts},
};
use crate::{
    graph::{StepPlace, VertexIx},
    oci::{Digest, digest::FieldHasher},
    solve::content::files::FileList,
    store::{Store, StoreError, Table},
};

/// So many runs of an instruction are kept, and of one target no more than the second number.
const MOST_RUNS: usize = 16;
const MOST_RUNS_OF_TARGET: usize = 8;
/// So many of the nearest runs are compared file by file.
const MOST_COMPARED: usize = 3;

/// What is known of earlier runs, and the names that were listed in this one.
pub(crate) struct StepMemory {
    store: Store,
    /// Held while a record is changed: builds of one run share instructions.
    changing: Mutex<()>,
    /// Of reads of layers, by vertex and read, until the step is known or has run.
    lists: Mutex<HashMap<(VertexIx, usize), (Digest, FileList)>>,
}

/// The record of an instruction: its runs, the newest first.
#[derive(Default, Serialize, Deserialize)]
struct RememberedStep {
    runs: Vec<RememberedRun>,
}

/// One run of an instruction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RememberedRun {
    /// When it began to be recorded, RFC 3339.
    pub(crate) at: String,
    pub(crate) target: String,
    pub(crate) number: usize,
    pub(crate) parts: StepParts,
    /// Why it ran.
    pub(crate) why: Explanation,
    /// The digits of the name of its result; bare, so that prune does not take it for something that is needed. Empty in
    /// records of earlier versions.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) made: String,
    /// How long it took, in milliseconds, without what it waited for; 0 in records of earlier versions.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) took: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// How long an instruction took when it last ran, in milliseconds; of this target if it has run for that. `None` if that is
/// not known. *Cost:* one small file, two if the text of the instruction is new.
pub(crate) fn recorded_time(store: &Store, place: &StepPlace, target: &str) -> Option<u64> {
    let runs = |key| store.get::<RememberedStep>(Table::Step, &key).map(|step| step.runs).unwrap_or_default();
    let timed = |key| {
        let runs = runs(key);
        let found = runs.iter().find(|run| run.took > 0 && run.target == target);
        found.or_else(|| runs.iter().find(|run| run.took > 0)).map(|run| run.took)
    };
    timed(by_text(place)).or_else(|| timed(by_number(place)))
}

/// The step that made something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StepMaker {
    pub(crate) target: String,
    /// The instruction.
    pub(crate) text: String,
}

/// The steps that made what is in a store, by the digits of the names of their results. *Cost:* reads all records of steps.
pub(crate) fn makers(store: &Store) -> HashMap<String, StepMaker> {
    let runs = store.records::<RememberedStep>(Table::Step).flat_map(|step| step.runs);
    let named = runs.filter(|run| !run.made.is_empty());
    named.map(|run| (run.made, StepMaker { target: run.target, text: run.parts.text })).collect()
}

impl StepMemory {
    /// Nothing is read yet.
    pub(crate) fn new(store: Store) -> Self {
        Self { store, changing: Mutex::default(), lists: Mutex::default() }
    }

    /// Keeps the names that the `n`th read of a vertex has in layers.
    pub(crate) fn keep_list(&self, key: (VertexIx, usize), content: Digest, files: FileList) {
        self.lists.lock().unwrap_or_else(PoisonError::into_inner).insert(key, (content, files));
    }

    /// Takes what [`keep_list`](Self::keep_list) has kept.
    pub(crate) fn take_list(&self, key: (VertexIx, usize)) -> Option<(Digest, FileList)> {
        self.lists.lock().unwrap_or_else(PoisonError::into_inner).remove(&key)
    }

    /// Drops all that was kept for a vertex.
    pub(crate) fn forget_lists(&self, ix: VertexIx) {
        self.lists.lock().unwrap_or_else(PoisonError::into_inner).retain(|(of, _), _| *of != ix);
    }

    /// The earlier run of an instruction that differs least from `parts`, and what differs; of equal ones that of this step,
    /// then the one that was used last. Runs for other targets count only where there is none for this one.
    ///
    /// `files` gives the names that were read, as in [`compare::explain`].
    ///
    /// *Cost:* one small file, two if the text of the instruction is new; the names that a few runs have read.
    pub(crate) fn nearest(
        &self,
        place: &StepPlace,
        target: &str,
        parts: &StepParts,
        files: &dyn Fn(&ReadPart) -> Option<FileList>,
    ) -> Option<(RememberedRun, Explanation)> {
        let known = |key| self.store.get::<RememberedStep>(Table::Step, &key).filter(|step| !step.runs.is_empty());
        let RememberedStep { runs } = known(by_text(place)).or_else(|| known(by_number(place)))?;
        let is_of_target = runs.iter().any(|run| run.target == target);
        let of_target = runs.into_iter().filter(|run| !is_of_target || run.target == target);
        let ranked: Vec<(usize, RememberedRun)> =
            of_target.map(|run| (compare::distance(&run.parts, parts), run)).collect();
        let least = ranked.iter().map(|(distance, _)| *distance).min()?;
        // Which files differ is asked of few runs: their lists may be long.
        let near =
            ranked.into_iter().filter(|(distance, _)| *distance == least).map(|(_, run)| run).take(MOST_COMPARED);
        let explained = near.map(|run| {
            let why = compare::explain(&run.parts, parts, files);
            (run, why)
        });
        explained.min_by_key(|(run, why)| (why.differences.len() + why.n_more_files, run.number != place.number))
    }

    /// Puts a run before the others in the record of an instruction, and after it the one that it was `compared` with, which
    /// is likely to be the nearest again. One that was made from the same is replaced; those that were not used for long go.
    ///
    /// # Errors
    /// When the state directory cannot be written.
    pub(crate) fn add(
        &self,
        place: &StepPlace,
        run: &RememberedRun,
        compared: Option<&RememberedRun>,
    ) -> Result<(), StoreError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let same =
            |a: &RememberedRun, b: &RememberedRun| (&a.target, a.number, &a.parts) == (&b.target, b.number, &b.parts);
        for key in [by_text(place), by_number(place)] {
            let mut step: RememberedStep = self.store.get(Table::Step, &key).unwrap_or_default();
            let again = step.runs.iter().position(|it| compared.is_some_and(|compared| same(it, compared)));
            let again = again.map(|at| step.runs.remove(at));
            step.runs.splice(0..0, again);
            step.runs.retain(|it| !same(it, run));
            step.runs.insert(0, run.clone());
            let mut n_of_target = 0;
            step.runs.retain(|it| {
                n_of_target += usize::from(it.target == run.target);
                it.target != run.target || n_of_target <= MOST_RUNS_OF_TARGET
            });
            step.runs.truncate(MOST_RUNS);
            self.store.put(Table::Step, &key, &step)?;
        }
        Ok(())
    }

    /// Whether the names under a key are kept.
    pub(crate) fn has_files(&self, key: &Digest) -> bool {
        self.store.has_record(Table::Files, key)
    }

    /// The names under a key, by its digits.
    pub(crate) fn files(&self, digits: &str) -> Option<FileList> {
        self.store.get(Table::Files, &Digest::from_hex(digits).ok()?)
    }

    /// Keeps names under a key.
    ///
    /// # Errors
    /// When the state directory cannot be written.
    pub(crate) fn add_files(&self, key: &Digest, files: &FileList) -> Result<(), StoreError> {
        self.store.put(Table::Files, key, files)
    }
}

fn by_text(place: &StepPlace) -> Digest {
    let mut hasher = FieldHasher::new("step/text/1");
    hasher.text(&place.file.id).text(&place.stage).text(&place.text);
    hasher.finish()
}

fn by_number(place: &StepPlace) -> Digest {
    let mut hasher = FieldHasher::new("step/number/1");
    hasher.text(&place.file.id).text(&place.stage).number(place.number as u64);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, sync::Arc};

    use super::*;
    use crate::{
        graph::StepFile,
        solve::explain::parts::{PartKind, StepPart},
    };

    fn place(text: &str, number: usize) -> StepPlace {
        let (file, stage) = (Arc::new(StepFile::default()), Arc::from("stage-0"));
        StepPlace { file, stage, number, text: text.to_owned(), arguments: BTreeSet::new() }
    }

    fn parts(text: &str, values: &[&str]) -> StepParts {
        let part = |(n, value): (usize, &&str)| StepPart {
            kind: PartKind::Environment,
            name: format!("V{n}"),
            digest: Some((*value).to_owned()),
            shown: None,
            read: None,
        };
        StepParts { text: text.to_owned(), parts: values.iter().enumerate().map(part).collect() }
    }

    fn run(target: &str, number: usize, parts: StepParts) -> RememberedRun {
        let (at, why) = (String::new(), Explanation::default());
        RememberedRun { at, target: target.to_owned(), number, parts, why, made: String::new(), took: 0 }
    }

    #[test]
    fn the_nearest_run_of_the_target_is_compared_with() {
        let tmp = tempfile::tempdir().expect("a temporary folder");
        let memory = StepMemory::new(Store::open(&tmp.path().join("store")).expect("a new store"));
        let here = place("RUN make", 2);
        let now = parts("RUN make", &["1", "1", "9"]);
        let nearest = |place: &StepPlace, target| memory.nearest(place, target, &now, &|_| None).map(|(run, _)| run);
        assert_eq!(nearest(&here, "a"), None);
        let far = run("a", 2, parts("RUN make", &["2", "2", "2"]));
        let near = run("a", 2, parts("RUN make", &["1", "1", "1"]));
        let other = run("b", 2, now.clone());
        for it in [&near, &far, &other] {
            memory.add(&here, it, None).expect("the store is writable");
        }
        assert_eq!(nearest(&here, "a").as_ref(), Some(&near));
        assert_eq!(nearest(&here, "c").as_ref(), Some(&other));
        // Where the text is new, the step of the same number was the earlier one.
        assert_eq!(nearest(&place("RUN make all", 2), "b").as_ref(), Some(&other));
        assert_eq!(nearest(&place("RUN make all", 3), "b"), None);
    }

    #[test]
    fn a_record_does_not_grow() {
        let tmp = tempfile::tempdir().expect("a temporary folder");
        let memory = StepMemory::new(Store::open(&tmp.path().join("store")).expect("a new store"));
        let here = place("RUN make", 2);
        let first = run("t0", 2, parts("RUN make", &["first"]));
        memory.add(&here, &first, None).expect("the store is writable");
        for n in 0..100 {
            let run = run(&format!("t{}", n % 10), 2, parts("RUN make", &[&n.to_string()]));
            memory.add(&here, &run, Some(&first)).expect("the store is writable");
        }
        let step: RememberedStep = memory.store.get(Table::Step, &by_text(&here)).expect("it was written");
        assert_eq!(step.runs.len(), MOST_RUNS);
        assert_eq!(step.runs[0].parts, parts("RUN make", &["99"]));
        assert_eq!(step.runs[1], first, "what others are compared with stays");
    }
}
