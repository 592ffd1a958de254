//! Compares the later state of a definition with the earlier one, target by target.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
    rc::Rc,
};

use indexmap::IndexMap;
use petgraph::{Direction, graph::NodeIndex, visit::EdgeRef as _};

use super::{
    answer::{AffectedAnswer, AffectedReason, AffectedTarget, FileReader, ReasonKind, UnpinnedInput, UnpinnedKind},
    change::{ChangeIndex, ChangeStatus},
    definition::{self, ChangedAttribute},
    reading::{BuildReading, ContextRead, FolderOrigin},
    select::{CompiledRead, ContextChanges, FolderView},
};
use crate::{
    eval::target::typed::{Target, TargetName},
    plan::{Build, Plan, PlanLink, PlanNode, TargetNodes},
    report::{SourceMap, Span},
};

/// No more files than this are told for a target.
const MAX_FILES: usize = 5;

/// One state: its plan, and its builds as far as they could be lowered.
pub(crate) struct PlannedState<'a> {
    pub(crate) plan: &'a Plan,
    /// What a build reads, or why that is not known.
    pub(crate) readings: &'a HashMap<NodeIndex, Result<BuildReading, String>>,
    /// The targets that the plan is made of.
    pub(crate) targets: &'a IndexMap<TargetName, Target>,
    /// The texts that spans point into.
    pub(crate) sources: &'a SourceMap,
}

/// Everything that is compared.
pub(crate) struct CompareInput<'a> {
    pub(crate) new: PlannedState<'a>,
    /// Or why the earlier state is not known.
    pub(crate) old: Result<PlannedState<'a>, &'a str>,
    pub(crate) changes: &'a ChangeIndex,
    /// The top of the work tree, absolute and without links.
    pub(crate) top: &'a str,
    /// The working directory: what names of definition files start from.
    pub(crate) cwd: &'a str,
    /// Why a folder cannot be compared, if it cannot: it is not in this work tree.
    pub(crate) not_comparable: &'a dyn Fn(&str) -> Option<String>,
    /// The later state.
    pub(crate) view: &'a dyn FolderView,
}

/// Compares.
pub(crate) fn compare(input: &CompareInput<'_>) -> AffectedAnswer {
    let comparison = Comparison { input, seen: RefCell::default(), changes: RefCell::default() };
    let mut answer = AffectedAnswer::default();
    let mut unpinned: BTreeMap<(UnpinnedKind, String), Vec<TargetName>> = BTreeMap::new();
    for (name, nodes) in input.new.plan.targets.iter().filter(|(_, nodes)| !nodes.is_linked) {
        answer.n_targets += 1;
        for reference in comparison.unpinned(nodes) {
            unpinned.entry(reference).or_default().push(name.clone());
        }
        let reasons = comparison.reasons(name, nodes);
        if !reasons.is_empty() {
            answer.targets.push(AffectedTarget { name: name.clone(), reasons });
        }
    }
    let listed = |((kind, reference), targets)| UnpinnedInput { kind, reference, targets };
    answer.unpinned = unpinned.into_iter().map(listed).collect();
    answer
}

struct Comparison<'a> {
    input: &'a CompareInput<'a>,
    /// The files that each build of the later state sees, told once for all that read its result.
    seen: RefCell<HashMap<NodeIndex, Vec<AffectedReason>>>,
    /// What differs in each folder under each ignore file.
    changes: RefCell<HashMap<(String, FolderOrigin), Rc<ContextChanges<'a>>>>,
}

impl<'a> Comparison<'a> {
    /// Why the result of a target can differ; nothing if it cannot.
    fn reasons(&self, name: &TargetName, nodes: &TargetNodes) -> Vec<AffectedReason> {
        let new = self.input.new.plan;
        let mut found = match &self.input.old {
            Err(why) => {
                vec![self.at_target(ReasonKind::NotComparable, (*why).to_owned(), new.build(nodes.builds[0]).at)]
            }
            Ok(old) => match old.plan.targets.get(name) {
                None => {
                    let at = new.build(nodes.builds[0]).at;
                    vec![self.at_target(ReasonKind::NewTarget, "the target is new".to_owned(), at)]
                }
                Some(old_nodes) => {
                    let mut found = self.of_definition(old, old_nodes, nodes);
                    add_new(&mut found, self.of_image(old, name));
                    found
                }
            },
        };
        let is_known = found.iter().all(|reason| reason.kind == ReasonKind::Definition);
        let mut n_files = 0;
        for node in builds_read(new, nodes) {
            if is_known && let Ok(old) = &self.input.old {
                add_new(&mut found, self.of_steps(old, node));
            }
            let mut seen = self.seen.borrow_mut();
            for reason in seen.entry(node).or_insert_with(|| self.of_files(node)) {
                n_files += 1;
                if n_files <= MAX_FILES {
                    add_new(&mut found, vec![reason.clone()]);
                }
            }
        }
        if found.is_empty() && own_builds(new, nodes).iter().any(|node| !self.has_same_steps(*node)) {
            let at = new.build(nodes.builds[0]).at;
            found.push(self.at_target(ReasonKind::NotComparable, "its steps are others".to_owned(), at));
        }
        found
    }

    /// Whether a build has the steps that it had in the earlier state.
    fn has_same_steps(&self, node: NodeIndex) -> bool {
        let Ok(old) = &self.input.old else { return false };
        let known = counterpart(old.plan, self.input.new.plan.build(node)).and_then(|known| old.readings.get(&known));
        match (known, self.input.new.readings.get(&node)) {
            (Some(Ok(known)), Some(Ok(reading))) => is_same(known, reading),
            _ => false,
        }
    }

    /// What is defined otherwise. Empty if all keys of the plan are equal.
    fn of_definition(
        &self,
        old: &PlannedState<'_>,
        old_nodes: &TargetNodes,
        nodes: &TargetNodes,
    ) -> Vec<AffectedReason> {
        let new = &self.input.new;
        let keys = |plan: &Plan, nodes: &TargetNodes| -> BTreeSet<_> {
            let own = own_builds(plan, nodes);
            own.iter().chain(&nodes.exports).map(|node| plan.graph[*node].key()).collect()
        };
        if keys(old.plan, old_nodes) == keys(new.plan, nodes) {
            return Vec::new();
        }
        let mut found = Vec::new();
        for node in builds_read(new.plan, nodes) {
            let build = new.plan.build(node);
            let changed = match counterpart(old.plan, build) {
                Some(known) => definition::of_builds(old.plan.build(known), build),
                None => vec![ChangedAttribute { name: "platforms".to_owned(), at: build.at("platforms") }],
            };
            found.extend(changed.into_iter().map(|it| self.of_attribute(&it)));
        }
        for (n, node) in nodes.exports.iter().enumerate() {
            let export = new.plan.export(*node);
            let changed = match old_nodes.exports.get(n) {
                Some(known) => definition::of_exports(old.plan.export(*known), export),
                None => vec![ChangedAttribute { name: "output".to_owned(), at: export.at }],
            };
            found.extend(changed.into_iter().map(|it| self.of_attribute(&it)));
        }
        let mut all = Vec::new();
        add_new(&mut all, found);
        if all.is_empty() {
            let at = new.plan.build(nodes.builds[0]).at;
            all.push(self.at_target(ReasonKind::Definition, "the target is defined otherwise".to_owned(), at));
        }
        all
    }

    /// What is said about the image, which counts although the definition may name no output: the command line may.
    fn of_image(&self, old: &PlannedState<'_>, name: &TargetName) -> Vec<AffectedReason> {
        let (Some(old), Some(new)) = (old.targets.get(name), self.input.new.targets.get(name)) else {
            return Vec::new();
        };
        let changed = definition::of_images(old, new);
        changed.iter().map(|changed| self.of_attribute(changed)).collect()
    }

    /// Steps that are not those of the earlier state, though the definition may be the same.
    fn of_steps(&self, old: &PlannedState<'_>, node: NodeIndex) -> Vec<AffectedReason> {
        let build = self.input.new.plan.build(node);
        let Some(Ok(reading)) = self.input.new.readings.get(&node) else {
            // `of_files` says so.
            return Vec::new();
        };
        let known = match counterpart(old.plan, build).and_then(|known| old.readings.get(&known)) {
            Some(Ok(known)) => known,
            Some(Err(why)) => {
                let text = format!("what it read before is not known: {why}");
                return vec![self.at_target(ReasonKind::NotComparable, text, build.at("dockerfile"))];
            }
            None => return Vec::new(),
        };
        if is_same(known, reading) {
            return Vec::new();
        }
        let path = reading.dockerfile.path.as_deref().map(|path| self.path_in_tree(path));
        if known.dockerfile.text != reading.dockerfile.text {
            let line = first_other_line(&known.dockerfile.text, &reading.dockerfile.text);
            let text = "the Dockerfile has other steps".to_owned();
            return vec![AffectedReason { kind: ReasonKind::Dockerfile, path, line: Some(line), text, reader: None }];
        }
        if known.dockerfile.path != reading.dockerfile.path {
            let text = "the Dockerfile is another file".to_owned();
            return vec![AffectedReason { kind: ReasonKind::Dockerfile, path, line: None, text, reader: None }];
        }
        // What reads the result of a build has other steps if that has; it is told where it begins.
        ignore_files(&known.reads, &reading.reads)
            .map(|path| AffectedReason {
                kind: ReasonKind::IgnoreFile,
                path: Some(self.path_in_tree(&self.absolute(&path))),
                line: None,
                text: "other files of the context are ignored".to_owned(),
                reader: None,
            })
            .into_iter()
            .collect()
    }

    /// What a build reads that differs, or is not known.
    fn of_files(&self, node: NodeIndex) -> Vec<AffectedReason> {
        let build = self.input.new.plan.build(node);
        let reading = match self.input.new.readings.get(&node) {
            Some(Ok(reading)) => reading,
            Some(Err(why)) => {
                let text = format!("what it reads is not known: {why}");
                return vec![self.at_target(ReasonKind::NotComparable, text, build.at("dockerfile"))];
            }
            None => return Vec::new(),
        };
        let mut found = Vec::new();
        for read in &reading.reads {
            if let Some(why) = (self.input.not_comparable)(&read.folder) {
                let text = format!("{why}: {}", read.folder);
                add_new(&mut found, vec![self.at_target(ReasonKind::NotComparable, text, build.at("context"))]);
                continue;
            }
            let folder = self.path_in_tree(&read.folder);
            let changes = self.changes_in(&folder, &read.origin);
            if changes.is_empty() || found.len() >= MAX_FILES {
                continue;
            }
            for (path, change) in CompiledRead::new(read, self.input.view).seen(&changes, MAX_FILES) {
                let path: Vec<&str> = [&folder, path].into_iter().filter(|it| !it.is_empty()).collect();
                // The top of the work tree has no name there.
                let path = if path.is_empty() { ".".to_owned() } else { path.join("/") };
                add_new(&mut found, vec![self.of_file(&path, change.status, read)]);
            }
        }
        found
    }

    fn changes_in(&self, folder: &str, origin: &FolderOrigin) -> Rc<ContextChanges<'a>> {
        let make = || Rc::new(ContextChanges::new(self.input.changes.below(folder), origin));
        self.changes.borrow_mut().entry((folder.to_owned(), origin.clone())).or_insert_with(make).clone()
    }

    fn of_file(&self, path: &str, status: ChangeStatus, read: &ContextRead) -> AffectedReason {
        let kind = if status == ChangeStatus::GitFolder { ReasonKind::GitFolder } else { ReasonKind::File };
        let reader = read
            .instruction
            .as_ref()
            .map(|(text, at)| FileReader { instruction: text.clone(), place: at.map(|at| self.place(at)) });
        let text = match (&reader, &read.origin) {
            (Some(_), _) => status.word().to_owned(),
            (None, FolderOrigin::Layout) => format!("{}, part of an OCI layout", status.word()),
            (None, FolderOrigin::Context { .. }) => format!("{}, in a context that is read as a whole", status.word()),
        };
        AffectedReason { kind, path: Some(path.to_owned()), line: None, text, reader }
    }

    fn of_attribute(&self, changed: &ChangedAttribute) -> AffectedReason {
        self.at_target(ReasonKind::Definition, format!("`{}` is another", changed.name), changed.at)
    }

    fn at_target(&self, kind: ReasonKind, text: String, at: Span) -> AffectedReason {
        let (path, line) = self.place(at);
        AffectedReason { kind, path: Some(path), line: Some(line), text, reader: None }
    }

    /// The file of a span, from the top of the work tree, and its line.
    fn place(&self, at: Span) -> (String, usize) {
        let sources = self.input.new.sources;
        (self.path_in_tree(&self.absolute(&sources.get(at.source).name)), sources.line_column(at).0)
    }

    /// A path of the definition, which starts from the working directory.
    fn absolute(&self, path: &str) -> String {
        let joined = if path.starts_with('/') { path.to_owned() } else { format!("{}/{path}", self.input.cwd) };
        crate::spec::path::clean(&joined)
    }

    /// An absolute path from the top of the work tree; what is outside stays absolute, the top itself is empty.
    fn path_in_tree(&self, path: &str) -> String {
        let relative = Path::new(path).strip_prefix(self.input.top);
        relative.map_or_else(|_| path.to_owned(), |path| path.to_string_lossy().into_owned())
    }

    /// What the builds of a target read that no revision pins.
    fn unpinned(&self, nodes: &TargetNodes) -> BTreeSet<(UnpinnedKind, String)> {
        let builds = builds_read(self.input.new.plan, nodes);
        let readings = builds.iter().filter_map(|node| self.input.new.readings.get(node)?.as_ref().ok());
        readings.flat_map(|reading| reading.unpinned.iter().cloned()).collect()
    }
}

/// Whether two builds have the same steps and the same config.
fn is_same(old: &BuildReading, new: &BuildReading) -> bool {
    let BuildReading { result, config, history, beside, dockerfile: _, reads: _, unpinned: _ } = old;
    (*result, config, history, beside) == (new.result, &new.config, &new.history, &new.beside)
}

/// The builds of a target: those of its own stage, and those of the stages of its outputs.
fn own_builds(plan: &Plan, nodes: &TargetNodes) -> BTreeSet<NodeIndex> {
    let of_exports =
        nodes.exports.iter().flat_map(|export| plan.graph.neighbors_directed(*export, Direction::Incoming));
    nodes.builds.iter().copied().chain(of_exports).collect()
}

/// The builds of a target and all whose results they read, in the order of the plan.
fn builds_read(plan: &Plan, nodes: &TargetNodes) -> BTreeSet<NodeIndex> {
    let mut found = own_builds(plan, nodes);
    let mut open: Vec<NodeIndex> = found.iter().copied().collect();
    while let Some(node) = open.pop() {
        for edge in plan.graph.edges_directed(node, Direction::Incoming) {
            if matches!(edge.weight(), PlanLink::Context { .. }) && found.insert(edge.source()) {
                open.push(edge.source());
            }
        }
    }
    found
}

/// The build of the earlier plan that stands for the same: of one of its targets, on its platform, of its stage if there
/// is one.
fn counterpart(old: &Plan, build: &Build) -> Option<NodeIndex> {
    let candidates = build.wanted_by.iter().filter_map(|name| old.targets.get(name));
    let candidates = candidates.flat_map(|nodes| own_builds(old, nodes));
    let on_platform: Vec<NodeIndex> = candidates
        .filter(|node| matches!(&old.graph[*node], PlanNode::Build(it) if it.platform == build.platform))
        .collect();
    let same = on_platform.iter().find(|node| old.build(**node).key == build.key);
    let of_stage = || on_platform.iter().find(|node| old.build(**node).stage == build.stage);
    same.or_else(of_stage).or_else(|| on_platform.first()).copied()
}

/// The ignore file of a context that has other patterns, or had one.
fn ignore_files(old: &[ContextRead], new: &[ContextRead]) -> Option<String> {
    let contexts = |reads: &[ContextRead]| -> BTreeMap<String, (Vec<String>, Option<String>)> {
        let context = |read: &ContextRead| match &read.origin {
            FolderOrigin::Context { ignore, ignore_file } => {
                Some((read.folder.clone(), (ignore.clone(), ignore_file.clone())))
            }
            FolderOrigin::Layout => None,
        };
        reads.iter().filter_map(context).collect()
    };
    let (old, new) = (contexts(old), contexts(new));
    new.iter().find_map(|(folder, (patterns, file))| {
        let (known, known_file) = old.get(folder)?;
        if known == patterns && known_file == file { None } else { file.clone().or_else(|| known_file.clone()) }
    })
}

/// The first line of the later text that is another one, from 1.
fn first_other_line(old: &str, new: &str) -> usize {
    let n_same = old.lines().zip(new.lines()).take_while(|(old, new)| old == new).count();
    (n_same + 1).min(new.lines().count().max(1))
}

/// Adds reasons that are not told yet. A file that several steps read is told once, with a step whose place is known.
fn add_new(all: &mut Vec<AffectedReason>, more: Vec<AffectedReason>) {
    let has_place = |reason: &AffectedReason| reason.reader.as_ref().is_some_and(|reader| reader.place.is_some());
    for reason in more {
        let is_file = matches!(reason.kind, ReasonKind::File | ReasonKind::GitFolder);
        let is_known = |known: &&mut AffectedReason| {
            **known == reason || (is_file && (known.kind, &known.path) == (reason.kind, &reason.path))
        };
        match all.iter_mut().find(is_known) {
            None => all.push(reason),
            Some(known) if has_place(&reason) && !has_place(known) => *known = reason,
            Some(_) => (),
        }
    }
}
