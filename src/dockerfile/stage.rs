//! Stages as nodes of a graph: the base of each, the stages that its instructions read from, and which stages a target
//! needs (<https://docs.docker.com/build/building/multi-stage/>).
//!
//! Images and contexts named in `--from` are nodes too, without instructions. Nothing is fetched or lowered here.

use std::{collections::HashMap, sync::Arc};

use super::{
    fault::fault,
    instruction::{Instruction, InstructionKind, Stage},
    value,
};
use crate::{
    oci::Platform,
    report::{Diagnostic, Span},
};

/// The index of a [`StageNode`] in [`Nodes`]; stages of the file come first, in order.
pub(super) type NodeIx = usize;

/// What a node begins with: another node, nothing, an image, or a context that replaces it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum StageBase {
    Node(NodeIx),
    Scratch,
    /// A context of this name or an image, looked up when it is needed.
    Image(String),
    /// A named context stands for the whole stage: the key in the options.
    Replaced(String),
}

/// A stage of the file, or an image or context that a `--from` names.
#[derive(Clone, Debug)]
pub(super) struct StageNode<'a> {
    pub(super) stage: Option<&'a Stage>,
    /// For step names and messages; empty for the only stage.
    pub(super) label: Arc<str>,
    pub(super) base: StageBase,
    /// `--platform` of FROM.
    pub(super) platform: Option<Platform>,
    pub(super) at: Span,
    /// The image or name itself.
    pub(super) image_at: Span,
    /// ONBUILD triggers of the base, once they are known.
    pub(super) triggers: Arc<[Instruction]>,
    pub(super) triggers_known: bool,
    /// One for each trigger, in the order of `triggers`.
    pub(super) trigger_sources: Arc<[InstructionSources]>,
    /// One for each instruction of the stage, in the order of the file.
    pub(super) sources: Arc<[InstructionSources]>,
}

/// The nodes that one instruction reads from, beside its own stage.
///
/// COPY: one element if there is a `--from`, else none. RUN: one element for each `--mount`, in order; `None` for a
/// mount without `from`. All other instructions: none.
pub(super) type InstructionSources = Vec<Option<NodeIx>>;

impl StageNode<'_> {
    /// The instructions of the stage itself, which run after the triggers; none if a context replaces the stage.
    pub(super) fn own(&self) -> &[Instruction] {
        match (&self.base, self.stage) {
            (StageBase::Replaced(_), _) | (_, None) => &[],
            (_, Some(stage)) => &stage.instructions,
        }
    }
}

/// All nodes of a Dockerfile, with their names.
#[derive(Debug, Default)]
pub(super) struct Nodes<'a> {
    pub(super) list: Vec<StageNode<'a>>,
    n_stages: usize,
    by_name: HashMap<String, Vec<NodeIx>>,
    external: HashMap<String, NodeIx>,
}

impl<'a> Nodes<'a> {
    /// Adds the next stage of the file; its sources and triggers are set later.
    pub(super) fn add_stage(&mut self, stage: &'a Stage, base: StageBase, platform: Option<Platform>) {
        let ix = self.list.len();
        let label = stage.name.as_ref().map_or_else(|| format!("stage-{ix}").into(), |it| it.value.as_str().into());
        if let Some(name) = &stage.name {
            self.by_name.entry(name.value.clone()).or_default().push(ix);
        }
        self.list.push(StageNode {
            stage: Some(stage),
            label,
            base,
            platform,
            at: stage.at,
            image_at: stage.image.at,
            triggers: Arc::new([]),
            triggers_known: false,
            trigger_sources: Arc::new([]),
            sources: Arc::new([]),
        });
        self.n_stages += 1;
    }

    /// The last stage so far that has exactly this name.
    pub(super) fn named(&self, name: &str) -> Option<NodeIx> {
        self.by_name.get(name).and_then(|list| list.last().copied())
    }

    /// The names of all stages that have one, for suggestions.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.list.iter().filter_map(|node| Some(node.stage?.name.as_ref()?.value.as_str()))
    }

    /// How many of the nodes are stages of the file; they have the indices below this.
    pub(super) const fn n_stages(&self) -> usize {
        self.n_stages
    }

    /// Resolves a name in `from` of stage `user`: the last stage of that name before it, else a later one, else an
    /// image.
    fn source(&mut self, name: &str, user: NodeIx, at: Span) -> NodeIx {
        if let Some(list) = self.by_name.get(&name.to_lowercase()) {
            let before = list.iter().rfind(|it| **it < user);
            return *before.unwrap_or(&list[0]);
        }
        if let Some(known) = self.external.get(name) {
            return *known;
        }
        let ix = self.list.len();
        let base = if name == "scratch" { StageBase::Scratch } else { StageBase::Image(name.to_owned()) };
        self.external.insert(name.to_owned(), ix);
        self.list.push(StageNode {
            stage: None,
            label: name.into(),
            base,
            platform: None,
            at,
            image_at: at,
            triggers: Arc::new([]),
            triggers_known: true,
            trigger_sources: Arc::new([]),
            sources: Arc::new([]),
        });
        ix
    }

    /// A stage by its number, if `text` is one.
    fn numbered(&self, text: &str, at: Span) -> Option<Result<NodeIx, Diagnostic>> {
        let number = text.parse::<i64>().ok()?;
        Some(usize::try_from(number).ok().filter(|ix| *ix < self.n_stages).ok_or_else(|| {
            let message = format!("invalid stage index, the file has {} stages: {number}", self.n_stages);
            fault("bake::dockerfile::bad_stage_index", message, at, "no such stage")
        }))
    }

    /// The nodes that an instruction of stage `user` reads from.
    pub(super) fn sources_of(
        &mut self,
        instruction: &Instruction,
        user: NodeIx,
    ) -> Result<InstructionSources, Diagnostic> {
        match &instruction.kind {
            InstructionKind::Copy(copy) => match &copy.from {
                None => Ok(Vec::new()),
                Some(from) => Ok(vec![Some(match self.numbered(&from.value, from.at) {
                    Some(ix) => ix?,
                    None => self.source(&from.value, user, from.at),
                })]),
            },
            InstructionKind::Run(run) => run
                .mounts
                .iter()
                .map(|mount| {
                    let Some(from) = mount_from(&mount.value) else { return Ok(None) };
                    match self.numbered(&from, mount.at).filter(|_| !self.by_name.contains_key(&from)) {
                        Some(ix) => ix.map(Some),
                        None => Ok(Some(self.source(&from, user, mount.at))),
                    }
                })
                .collect(),
            _ => Ok(Vec::new()),
        }
    }

    /// The nodes that node `ix` depends on directly.
    fn needs(&self, ix: NodeIx) -> impl Iterator<Item = NodeIx> + '_ {
        let node = &self.list[ix];
        let base = if let StageBase::Node(base) = node.base { Some(base) } else { None };
        let replaced = matches!(node.base, StageBase::Replaced(_));
        let read = node.trigger_sources.iter().chain(node.sources.iter()).flatten().flatten().copied();
        base.into_iter().chain(read.filter(move |_| !replaced))
    }

    /// Which nodes `targets` need, themselves included: one value for each node.
    pub(super) fn reachable(&self, targets: impl IntoIterator<Item = NodeIx>) -> Vec<bool> {
        let mut seen = vec![false; self.list.len()];
        let mut open: Vec<NodeIx> = targets.into_iter().collect();
        while let Some(ix) = open.pop() {
            if !std::mem::replace(&mut seen[ix], true) {
                open.extend(self.needs(ix));
            }
        }
        seen
    }

    /// The place where a stage names another one that it reads: `--from` of its instruction, else its FROM.
    pub(super) fn place_of_link(&self, user: NodeIx, read: NodeIx) -> Span {
        let node = &self.list[user];
        let mut links = node.own().iter().zip(node.sources.iter());
        let instruction = links.find(|(_, sources)| sources.contains(&Some(read))).map(|(it, _)| it);
        let Some(instruction) = instruction else { return node.at };
        match &instruction.kind {
            InstructionKind::Copy(copy) => copy.from.as_ref().map_or(instruction.at, |from| from.at),
            _ => instruction.at,
        }
    }

    /// Finds a node that needs itself, directly or through others: the stage and the later one, or itself, that it reads.
    ///
    /// A base is always an earlier node, so a cycle needs a `--from` that names a later stage: the link that closes it.
    pub(super) fn cycle(&self) -> Option<(NodeIx, NodeIx)> {
        let forward = |ix: NodeIx| self.needs(ix).any(|it| it >= ix && it < self.n_stages);
        if !(0..self.n_stages).any(forward) {
            return None;
        }
        let mut state = vec![0_u8; self.list.len()];
        for start in 0..self.n_stages {
            if state[start] != 0 {
                continue;
            }
            state[start] = 1;
            let mut path: Vec<(NodeIx, Vec<NodeIx>)> = vec![(start, self.needs(start).collect())];
            while let Some((ix, open)) = path.last_mut() {
                match open.pop() {
                    None => {
                        state[*ix] = 2;
                        path.pop();
                    }
                    Some(next) if state[next] == 1 => {
                        let nodes = path.iter().map(|(ix, _)| *ix).skip_while(|ix| *ix != next);
                        let nodes: Vec<NodeIx> = nodes.chain([next]).collect();
                        return nodes.windows(2).map(|pair| (pair[0], pair[1])).find(|(user, read)| read >= user);
                    }
                    Some(next) if state[next] == 0 => {
                        state[next] = 1;
                        path.push((next, self.needs(next).collect()));
                    }
                    Some(_) => (),
                }
            }
        }
        None
    }
}

/// `from` of a mount; the last one counts. Faults of the text are reported by `parse`.
fn mount_from(mount: &str) -> Option<String> {
    let fields = value::csv(mount).ok()?;
    let from = fields.iter().filter_map(|it| it.split_once('=')).rfind(|(key, _)| key.eq_ignore_ascii_case("from"));
    from.map(|(_, value)| value.to_owned()).filter(|it| !it.is_empty())
}
