//! The parts of a step of this run, why it runs, and what is kept of that.

use std::{collections::HashMap, time::Duration};

use super::{
    difference::{DifferenceKind, Explanation},
    memory::RememberedRun,
    parts::{ReadInput, ReadPart, RootInput, StepParts, list_key, parts_of},
};
use crate::{
    graph::{Op, StepPlace, Vertex, VertexIx},
    oci::Digest,
    report::event::Why,
    solve::{
        blocking::blocking,
        content::files::FileList,
        failure::{SolveFailure, store_fault},
        reads::{StepReads, reads},
        solver::Solver,
        tree::LayerTree,
    },
};

/// What a step is made from, and why it runs.
pub(crate) struct GatheredStep {
    pub(crate) ix: VertexIx,
    pub(crate) parts: StepParts,
    /// The names that it reads and that no record has yet, by the digits of their key.
    lists: HashMap<String, FileList>,
    pub(crate) why: Explanation,
    /// Of the run that it is compared with.
    pub(crate) earlier: Option<RememberedRun>,
}

impl GatheredStep {
    /// What progress tells; nothing if the step runs for the first time.
    pub(crate) fn told(&self) -> Option<Why> {
        self.earlier.as_ref()?;
        self.why.line().map(Why)
    }
}

impl Solver {
    /// Gathers what a step that is about to run is made from, and says why it runs; `None` for what is no instruction.
    ///
    /// # Errors
    /// When something that it reads cannot be read.
    pub(crate) async fn gather_to_run(
        &self,
        ix: VertexIx,
        vertex: &Vertex,
        inputs: &[LayerTree],
        reads: &[StepReads<'_>],
    ) -> Result<Option<GatheredStep>, SolveFailure> {
        let Some(place) = &vertex.meta.place else { return Ok(None) };
        let root = inputs.first().map(|tree| tree.id);
        self.gather(ix, vertex, place, root, reads).await.map(Some)
    }

    /// As [`gather_to_run`](Self::gather_to_run), for a step whose inputs need not be known: what is not known of them is
    /// left open.
    pub(crate) async fn gather(
        &self,
        ix: VertexIx,
        vertex: &Vertex,
        place: &StepPlace,
        root: Option<Digest>,
        reads: &[StepReads<'_>],
    ) -> Result<GatheredStep, SolveFailure> {
        let memory = &self.0.memory;
        let mut lists = HashMap::new();
        let mut found = Vec::with_capacity(reads.len());
        for (n, read) in reads.iter().enumerate() {
            let from = vertex.inputs[read.input()];
            let mut input =
                ReadInput { content: None, tree: self.described(from), ignore: Vec::new(), ignore_file: None };
            if let Op::Local(local) = &self.0.graph.get(from).op {
                let content = self.local_content(ix, n, vertex, read).await?;
                let key = list_key(&content, read.path());
                if !memory.has_files(&key) {
                    let files = self.0.world.locals.files(local, read).await;
                    let files = files.map_err(|diagnostic| SolveFailure::from(diagnostic).at_instruction(vertex))?;
                    lists.insert(key.hex(), files);
                }
                input.content = Some(content);
                (input.ignore, input.ignore_file) = (local.ignore.clone(), local.ignore_file.clone());
            } else if let Some((content, files)) = memory.take_list((ix, n)) {
                lists.insert(list_key(&content, read.path()).hex(), files);
                input.content = Some(content);
            }
            found.push(input);
        }
        let root =
            RootInput { id: root, shown: vertex.inputs.first().map(|ix| self.described(*ix)).unwrap_or_default() };
        let parts = parts_of(vertex, place, self.0.apart[ix.index()], root, found);
        let target = vertex.meta.origin.target.as_deref().unwrap_or_default();
        let files = |read: &ReadPart| lists.get(&read.list).cloned().or_else(|| memory.files(&read.list));
        let (earlier, differences) = memory.nearest(place, target, &parts, &files).unzip();
        let why = match differences {
            _ if vertex.meta.ignore_cache => Explanation::of(DifferenceKind::NoCache),
            None => Explanation::of(DifferenceKind::First),
            Some(found) if found.differences.is_empty() => Explanation::of(DifferenceKind::Gone),
            Some(found) => found,
        };
        Ok(GatheredStep { ix, parts, lists, why, earlier })
    }

    /// Records a step that has run, the name of its result, and how long it took.
    ///
    /// # Errors
    /// When the state directory cannot be written.
    pub(crate) async fn remember(
        &self,
        step: GatheredStep,
        result: &Digest,
        took: Duration,
    ) -> Result<(), SolveFailure> {
        let (solver, made) = (self.clone(), result.hex());
        let took = u64::try_from(took.as_millis()).unwrap_or(u64::MAX).max(1);
        let GatheredStep { ix, parts, lists, why, earlier } = step;
        let work = move || {
            let (memory, meta) = (&solver.0.memory, &solver.0.graph.get(ix).meta);
            let Some(place) = &meta.place else { return Ok(()) };
            for (digits, files) in &lists {
                let key = Digest::from_hex(digits).expect("they are the digits of a digest");
                memory.add_files(&key, files)?;
            }
            let target = meta.origin.target.as_deref().unwrap_or_default().to_owned();
            let at = (solver.0.world.now)();
            let run = RememberedRun { at, target, number: place.number, parts, why, made, took };
            memory.add(place, &run, earlier.as_ref())
        };
        blocking(move || work().map_err(|error| store_fault(&error))).await.map_err(SolveFailure::from)
    }

    /// The tree of a vertex, as the user knows it.
    pub(crate) fn described(&self, ix: VertexIx) -> String {
        let vertex = self.0.graph.get(ix);
        match (&vertex.op, &vertex.meta.place) {
            (Op::Scratch, _) => "FROM scratch".to_owned(),
            (Op::Image(image), _) => format!("FROM {}", short_reference(&image.reference)),
            (Op::Local(local), _) => local.name.clone(),
            (_, Some(place)) => place.text.clone(),
            (_, None) => vertex.meta.name.clone(),
        }
    }

    /// What the reads of a vertex are.
    pub(crate) fn reads_of(vertex: &Vertex) -> Vec<StepReads<'_>> {
        reads(&vertex.op)
    }
}

/// A pinned reference with the first digits of its digest: enough to tell images apart, and nothing that prune would take for
/// the name of a blob that is needed.
fn short_reference(reference: &str) -> String {
    match reference.rsplit_once("@sha256:") {
        Some((name, digits)) if digits.len() > 12 => format!("{name}@sha256:{}…", digits.get(..12).unwrap_or(digits)),
        _ => reference.to_owned(),
    }
}
