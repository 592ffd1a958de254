//! The walk over the stages of one build: their bases, their instructions in the order of the file, the result.
//!
//! When it needs to know an image it returns [`LowerOutcome::Needs`] and is called again with the answer; vertices that
//! exist already are found again in the graph.

use std::{collections::HashSet, sync::Arc};

use super::{
    arg,
    base::context_names,
    state::{Based, SourceTree, StageState},
};
use crate::{
    dockerfile::{
        check::{report::CheckReport, rules::run_static, undefined_var},
        expand::{self, ExpandMode, ExpandedWord, Vars},
        fault::fault,
        instruction::{Instruction, InstructionKind, ParsedDockerfile},
        options::{KnownImages, LowerFaults, LowerOptions, LowerOutcome, Lowered, NamedContext, NoCache, Query},
        parse,
        stage::{NodeIx, Nodes, StageBase},
    },
    graph::{Graph, VertexIx},
    report::{Diagnostic, Span, Spanned, suggest},
    spec::pattern::Patterns,
};

/// Lowers one build of a Dockerfile into the graph: one vertex for each step of the stages that its target needs.
///
/// Pure: it reads no file and asks no registry. What it must know of images it returns as questions
/// ([`LowerOutcome::Needs`]); the caller adds the answers to `known` and calls again. Vertices that were added before a
/// question or an error stay in `graph` and are found again.
pub(crate) fn lower(
    file: &ParsedDockerfile,
    options: &LowerOptions,
    known: &KnownImages,
    graph: &mut Graph,
) -> LowerOutcome {
    let argument = options.build_args.get("BUILDKIT_DOCKERFILE_CHECK").map(String::as_str);
    let report = match CheckReport::new(file, argument) {
        Ok(report) => report,
        Err(fault) => {
            let (findings, unread) = (Vec::new(), Vec::new());
            let failed = LowerFaults { findings, faults: vec![fault], unread, checks_failed: None };
            return LowerOutcome::Failed(Box::new(failed));
        }
    };
    let mut work = Lowerer::new(file, options, known, graph, report);
    match work.run() {
        Ok(LowerStep::Done(lowered)) => LowerOutcome::Done(lowered),
        Ok(LowerStep::Ask(asked)) => LowerOutcome::Needs(asked),
        Err(LowerStop) => {
            let (findings, checks_failed) = work.report.take();
            let Lowerer { faults, unread, .. } = work;
            LowerOutcome::Failed(Box::new(LowerFaults { findings, faults, unread, checks_failed }))
        }
    }
}

/// The stages that a target needs, as far as the file alone says (images may add ONBUILD triggers).
pub(crate) struct Reach {
    pub(crate) target: NodeIx,
    /// For each stage of the file.
    pub(crate) stages: Vec<bool>,
    /// For each stage: the stage that it begins with.
    pub(crate) bases: Vec<Option<NodeIx>>,
    /// The variables that FROM sees.
    pub(crate) globals: Vars,
}

/// Finds the stages that the target of the options needs, without lowering them.
///
/// # Errors
/// The faults of FROM and of names in the file.
pub(crate) fn reach(file: &ParsedDockerfile, options: &LowerOptions) -> Result<Reach, Vec<Diagnostic>> {
    let report = CheckReport::new(file, Some("skip=all")).map_err(|fault| vec![fault])?;
    let (known, mut graph) = (KnownImages::default(), Graph::default());
    let mut work = Lowerer::new(file, options, &known, &mut graph, report);
    match work.define() {
        Err(LowerStop) => Err(work.faults),
        Ok(target) => {
            let mut stages = work.nodes.reachable([target]);
            stages.truncate(file.stages.len());
            let base =
                |ix: NodeIx| if let StageBase::Node(base) = work.nodes.list[ix].base { Some(base) } else { None };
            let bases = (0..file.stages.len()).map(base).collect();
            Ok(Reach { target, stages, bases, globals: work.globals })
        }
    }
}

enum LowerStep {
    Done(Box<Lowered>),
    Ask(Vec<Query>),
}

/// There are errors; they have been recorded.
struct LowerStop;

/// The state of lowering one build of a Dockerfile: what was read, the graph that grows, and the faults so far.
pub(super) struct Lowerer<'a, 'g> {
    pub(super) file: &'a ParsedDockerfile,
    pub(super) options: &'a LowerOptions,
    pub(super) known: &'a KnownImages,
    pub(super) graph: &'g mut Graph,
    pub(super) report: CheckReport,
    pub(super) faults: Vec<Diagnostic>,
    /// The faults of images that cannot be read.
    pub(super) unread: Vec<Diagnostic>,
    /// Variables for FROM: automatic ones, then ARGs before the first stage.
    pub(super) globals: Vars,
    /// Names of the ARGs before the first stage.
    pub(super) global_names: HashSet<&'a str>,
    pub(super) epoch: Option<i64>,
    /// The value that ARG SOURCE_DATE_EPOCH has instead of the one given; `None` inside when it has none.
    pub(super) epoch_text: Option<Option<String>>,
    pub(super) nodes: Nodes<'a>,
    /// Contexts by their normalised names.
    pub(super) contexts: Vec<(String, &'a str, &'a NamedContext)>,
    /// For each node: its base, when it is an image or a context.
    pub(super) based: Vec<Option<Arc<Based>>>,
    pub(super) states: Vec<Option<StageState>>,
    pub(super) main: Option<SourceTree>,
    /// Names of all ARGs seen in triggers.
    pub(super) declared: HashSet<String>,
    /// The ignore patterns of the main context, compiled when first needed.
    pub(super) ignored: Option<Patterns>,
    /// The instruction uses a variable that a base of unknown config may set, or one whose value was made of such a variable:
    /// what is found about its values would be a guess.
    pub(super) is_guess: bool,
    /// The source of a copy or bind mount is such a guess, or not known at all.
    pub(super) guesses_sources: bool,
}

impl<'a, 'g> Lowerer<'a, 'g> {
    /// Starts with nothing defined: `run` defines variables and stages, then lowers them.
    pub(super) fn new(
        file: &'a ParsedDockerfile,
        options: &'a LowerOptions,
        known: &'a KnownImages,
        graph: &'g mut Graph,
        report: CheckReport,
    ) -> Self {
        Self {
            file,
            options,
            known,
            graph,
            report,
            faults: Vec::new(),
            unread: Vec::new(),
            globals: Vars::new(),
            global_names: HashSet::new(),
            epoch: None,
            epoch_text: None,
            nodes: Nodes::default(),
            contexts: context_names(options),
            based: Vec::new(),
            states: Vec::new(),
            main: None,
            declared: HashSet::new(),
            ignored: None,
            is_guess: false,
            guesses_sources: false,
        }
    }

    /// Finds stages, their bases and what they read from, and the target.
    fn define(&mut self) -> Result<NodeIx, LowerStop> {
        self.check_syntax()?;
        run_static(self.file, &mut self.report);
        self.define_globals();
        self.define_stages();
        self.stop_on_faults()?;
        let target = self.find_target()?;
        self.link_stages();
        self.stop_on_faults()?;
        Ok(target)
    }

    fn run(&mut self) -> Result<LowerStep, LowerStop> {
        let target = self.define()?;
        let reachable = loop {
            let targets = if self.options.all_stages { 0..self.nodes.n_stages() } else { target..target + 1 };
            let reachable = self.nodes.reachable(targets);
            self.based.resize(self.nodes.list.len(), None);
            let asked = self.resolve_bases(&reachable);
            if !asked.is_empty() {
                return Ok(LowerStep::Ask(asked));
            }
            let n_faults = self.faults.len();
            let more = self.read_triggers(&reachable);
            if self.faults.len() > n_faults {
                return Err(LowerStop);
            }
            if !more {
                break reachable;
            }
        };
        self.states.resize_with(self.nodes.list.len(), || None);
        let n_stages = self.nodes.n_stages();
        let order = (n_stages..self.nodes.list.len()).chain(0..n_stages);
        for ix in order.filter(|ix| reachable[*ix]) {
            let state = self.lower_node(ix);
            self.states[ix] = Some(state);
        }
        if !self.unread.is_empty() {
            return Err(LowerStop);
        }
        self.stop_on_faults()?;
        self.finish(target)
    }

    fn stop_on_faults(&self) -> Result<(), LowerStop> {
        if self.faults.is_empty() { Ok(()) } else { Err(LowerStop) }
    }

    fn check_syntax(&mut self) -> Result<(), LowerStop> {
        let foreign = match self.options.build_args.get("BUILDKIT_SYNTAX") {
            Some(value) if !value.is_empty() => parse::foreign_syntax(value, None),
            _ => self.file.syntax.as_ref().and_then(|it| parse::foreign_syntax(&it.value, Some(it.at))),
        };
        self.faults.extend(foreign);
        self.stop_on_faults()
    }

    fn find_target(&mut self) -> Result<NodeIx, LowerStop> {
        if self.file.stages.is_empty() {
            let message = "the Dockerfile has no build stage";
            self.faults.push(Diagnostic::error("bake::dockerfile::no_stage", message));
            return Err(LowerStop);
        }
        let Some(target) = self.options.target.as_deref().filter(|it| !it.is_empty()) else {
            return Ok(self.nodes.n_stages() - 1);
        };
        self.nodes.named(&target.to_lowercase()).ok_or_else(|| {
            let message = format!("target stage could not be found: {target}");
            let fault = Diagnostic::error("bake::dockerfile::unknown_target", message);
            let names: Vec<&str> = self.nodes.names().collect();
            let help = suggest::did_you_mean(target, names.iter().copied()).unwrap_or_else(|| match names.as_slice() {
                [] => "no stage of the file has a name".to_owned(),
                names => format!("its stages are {}", names.join(", ")),
            });
            self.faults.push(fault.help(help));
            LowerStop
        })
    }

    /// Finds what the instructions of all stages read from, used or not.
    fn link_stages(&mut self) {
        for ix in 0..self.nodes.n_stages() {
            if matches!(self.nodes.list[ix].base, StageBase::Replaced(_)) {
                continue;
            }
            let instructions: &'a [Instruction] = &self.file.stages[ix].instructions;
            let mut sources = Vec::with_capacity(instructions.len());
            for it in instructions {
                sources.push(self.nodes.sources_of(it, ix).unwrap_or_else(|fault| {
                    self.faults.push(fault);
                    Vec::new()
                }));
            }
            self.nodes.list[ix].sources = sources.into();
        }
        self.find_cycle();
    }

    fn find_cycle(&mut self) {
        if let Some((user, read)) = self.nodes.cycle() {
            let (label, at) = (&self.nodes.list[user].label, self.nodes.place_of_link(user, read));
            let message = format!("circular dependency, a stage needs its own result: {label}");
            let seen = match user == read {
                true => "the stage that this stands in".to_owned(),
                false => format!("`{}`, which needs `{label}`", self.nodes.list[read].label),
            };
            self.faults.push(fault("bake::dockerfile::circular_dependency", message, at, seen));
        }
    }

    /// Reads the ONBUILD triggers of the bases; true if new sources came with them.
    fn read_triggers(&mut self, reachable: &[bool]) -> bool {
        let mut more = false;
        for ix in (0..self.nodes.n_stages()).filter(|ix| reachable[*ix]) {
            if std::mem::replace(&mut self.nodes.list[ix].triggers_known, true) {
                continue;
            }
            let texts: Vec<String> = match &self.nodes.list[ix].base {
                StageBase::Replaced(_) => continue,
                StageBase::Node(base) => self.nodes.list[*base]
                    .own()
                    .iter()
                    .filter_map(|instruction| {
                        if let InstructionKind::Onbuild(text) = &instruction.kind { Some(text.clone()) } else { None }
                    })
                    .collect(),
                _ => self.based[ix].as_ref().and_then(|it| it.config.config.on_build.clone()).unwrap_or_default(),
            };
            let at = self.nodes.list[ix].at;
            let mut triggers = Vec::with_capacity(texts.len());
            let mut sources = Vec::with_capacity(texts.len());
            for text in texts {
                let read = parse::parse_trigger(&text, at).and_then(|instruction| {
                    let from = self.nodes.sources_of(&instruction, ix).map_err(|fault| vec![fault])?;
                    Ok((instruction, from))
                });
                match read {
                    Ok((it, from)) => {
                        more |= from.iter().any(Option::is_some);
                        if let InstructionKind::Arg(args) = &it.kind {
                            self.declared.extend(args.iter().map(|it| it.name.clone()));
                        }
                        triggers.push(it);
                        sources.push(from);
                    }
                    Err(faults) => self.faults.extend(faults),
                }
            }
            let node = &mut self.nodes.list[ix];
            node.triggers = triggers.into();
            node.trigger_sources = sources.into();
        }
        if more {
            self.find_cycle();
        }
        more
    }

    /// Runs the triggers and instructions of one node.
    fn lower_node(&mut self, ix: NodeIx) -> StageState {
        let mut state = self.begin(ix);
        let node = &self.nodes.list[ix];
        let (triggers, trigger_sources, sources) =
            (node.triggers.clone(), node.trigger_sources.clone(), node.sources.clone());
        let own: &'a [Instruction] = match (&node.base, node.stage) {
            (StageBase::Replaced(_), _) | (_, None) => &[],
            (_, Some(stage)) => &stage.instructions,
        };
        let all = triggers.iter().zip(trigger_sources.iter()).map(|it| (it, true));
        for ((it, from), is_trigger) in all.chain(own.iter().zip(sources.iter()).map(|it| (it, false))) {
            state.in_trigger = is_trigger;
            self.is_guess = false;
            // The base may set the variable; without its config an error would be a guess.
            match self.instruction(&mut state, it, from) {
                Err(_) if self.is_guess => self.guesses_sources = true,
                Err(fault) => self.faults.push(fault),
                Ok(()) => (),
            }
        }
        state
    }

    /// Lowers one instruction: changes `state`, and adds a vertex if it is a step.
    ///
    /// `from` is what [`InstructionSources`](crate::dockerfile::stage::InstructionSources) has for this instruction.
    pub(super) fn instruction(
        &mut self,
        state: &mut StageState,
        it: &Instruction,
        from: &[Option<NodeIx>],
    ) -> Result<(), Diagnostic> {
        match &it.kind {
            InstructionKind::Arg(args) => self.arg(state, it, args),
            InstructionKind::Env(pairs) => self.env(state, it, pairs),
            InstructionKind::Label(pairs) => self.label(state, it, pairs),
            InstructionKind::Run(run) => self.run_step(state, it, run, from),
            InstructionKind::Copy(copy) => self.copy(state, it, copy, from),
            InstructionKind::Cmd(command) => self.cmd(state, it, command),
            InstructionKind::Entrypoint(command) => self.entrypoint(state, it, command),
            InstructionKind::Shell(shell) => self.shell(state, shell),
            InstructionKind::Healthcheck(health) => self.healthcheck(state, it, health),
            InstructionKind::Expose(ports) => self.expose(state, it, ports),
            InstructionKind::Volume(volumes) => self.volume(state, it, volumes),
            InstructionKind::User(user) => self.user(state, it, user),
            InstructionKind::Workdir(path) => self.workdir(state, it, path),
            InstructionKind::StopSignal(signal) => self.stop_signal(state, it, signal),
            InstructionKind::Maintainer(name) => self.maintainer(state, name),
            InstructionKind::Onbuild(text) => {
                state.run.on_build.get_or_insert_default().push(text.clone());
                Ok(())
            }
        }
    }

    /// Expands a word of an instruction with the variables of the stage; quotes and escapes are removed.
    ///
    /// # Errors
    /// When it cannot be expanded: a bad modifier, or `${name:?text}` of a variable that is not set.
    pub(super) fn word(
        &mut self,
        state: &StageState,
        instruction: &Instruction,
        word: &Spanned<String>,
    ) -> Result<String, Diagnostic> {
        self.text(state, instruction, &word.value, word.at, ExpandMode::Word)
    }

    /// Expands a text of an instruction as `mode` says; unset variables are reported (check `UndefinedVar`).
    ///
    /// # Errors
    /// When it cannot be expanded: a bad modifier, or `${name:?text}` of a variable that is not set.
    pub(super) fn text(
        &mut self,
        state: &StageState,
        instruction: &Instruction,
        text: &str,
        at: Span,
        mode: ExpandMode,
    ) -> Result<String, Diagnostic> {
        let escape = if mode == ExpandMode::Body { '\\' } else { self.file.escape };
        let expanded =
            expand::expand(text, &state.env, escape, mode).map_err(|why| self.not_expanded(state, &why, text, at))?;
        self.looked_up(state, instruction, &expanded);
        Ok(expanded.text)
    }

    /// The fault of a text that cannot be expanded.
    pub(super) fn not_expanded(
        &mut self,
        state: &StageState,
        why: &expand::BadWord,
        text: &str,
        at: Span,
    ) -> Diagnostic {
        // `${X:?}` fails when a variable is not set, which a base may do.
        self.is_guess |= state.is_assumed && text.contains('?');
        bad_expansion(why, text, at)
    }

    /// Notes which variables an expansion used: those that are not set are reported (check `UndefinedVar`), unless the base
    /// is unknown and may set them.
    pub(super) fn looked_up(&mut self, state: &StageState, instruction: &Instruction, expanded: &ExpandedWord) {
        self.is_guess |= expanded.used.iter().any(|name| state.guessed.contains(name));
        for name in &expanded.missing {
            if state.is_assumed {
                self.is_guess = true;
            } else if !state.args.contains_key(name) && !arg::is_never_set(name) {
                let known = state.env.keys().map(String::as_str);
                undefined_var::fire(&mut self.report, instruction, name, known);
            }
        }
    }

    fn finish(&mut self, target: NodeIx) -> Result<LowerStep, LowerStop> {
        let result = self.root(target);
        let state = self.states[target].as_ref().expect("the target is reachable from itself");
        let lowered = state.lowered(result, self.options, &self.chain(target));
        if self.report.is_failed() {
            return Err(LowerStop);
        }
        let (findings, _) = self.report.take();
        let (unused_args, unknown_stages) = (self.unused_args(), self.unknown_stages());
        let (own_contexts, scanned) = (self.own_contexts(), self.scanned(target));
        let (epoch, guesses_sources) = (self.epoch, self.guesses_sources);
        let lowered =
            Lowered { findings, unused_args, unknown_stages, own_contexts, epoch, scanned, guesses_sources, ..lowered };
        Ok(LowerStep::Done(Box::new(lowered)))
    }

    /// What the scanner of an sbom is to see beside the result, as the arguments say that are declared for it
    /// (<https://docs.docker.com/build/metadata/attestations/sbom/#arguments>).
    fn scanned(&mut self, target: NodeIx) -> Vec<(String, VertexIx)> {
        let (mut found, mut wants_context) = (Vec::new(), false);
        for ix in 0..self.nodes.n_stages() {
            let Some(state) = &self.states[ix] else { continue };
            let is_wanted = |argument: &str| arg::is_scan_wanted(self.scan_argument(state, argument), &state.stage);
            wants_context |= is_wanted(arg::SCAN_CONTEXT);
            if ix != target && is_wanted(arg::SCAN_STAGE) {
                found.push((state.stage.to_string(), ix));
            }
        }
        let mut scanned: Vec<(String, VertexIx)> = found.into_iter().map(|(name, ix)| (name, self.root(ix))).collect();
        if wants_context {
            scanned.push(("context".to_owned(), self.main_source().vertex));
        }
        scanned
    }

    /// The value of an argument for a stage: as it declares it, else as the file does before the first stage.
    fn scan_argument<'s>(&'s self, state: &'s StageState, name: &str) -> Option<&'s str> {
        let global = || self.globals.get(name).filter(|_| self.global_names.contains(name));
        state.args.get(name).map_or_else(global, Option::as_ref).map(String::as_str)
    }

    /// One warning for each stage of `no-cache-filter` that the file does not have.
    fn unknown_stages(&self) -> Vec<Diagnostic> {
        let NoCache::Stages(names) = &self.options.no_cache else { return Vec::new() };
        let labels = || self.nodes.list.iter().map(|node| &*node.label);
        let unknown = names.iter().filter(|name| !labels().any(|label| label.eq_ignore_ascii_case(name)));
        let warning = |name: &String| {
            let message = format!("no stage of the Dockerfile has the name in `no-cache-filter`: {name}");
            let warning = Diagnostic::warning("bake::dockerfile::unknown_stage", message);
            match suggest::did_you_mean(name, labels()) {
                Some(help) => warning.help(help),
                None => warning,
            }
        };
        unknown.map(warning).collect()
    }
}

impl Lowerer<'_, '_> {
    /// The state of a node and those of the stages that it is based on, the lowest first.
    pub(super) fn chain(&self, ix: NodeIx) -> Vec<&StageState> {
        let mut chain = Vec::new();
        let mut next = Some(ix);
        while let Some(state) = next.and_then(|ix| self.states[ix].as_ref()) {
            chain.push(state);
            next = state.parent;
        }
        chain.reverse();
        chain
    }

    /// The number of instructions of a node that become steps (RUN, COPY, ADD, WORKDIR), its ONBUILD triggers included.
    pub(super) fn count_steps(&self, ix: NodeIx) -> usize {
        let node = &self.nodes.list[ix];
        let is_step = |instruction: &&Instruction| {
            matches!(instruction.kind, InstructionKind::Run(_) | InstructionKind::Copy(_) | InstructionKind::Workdir(_))
        };
        node.triggers.iter().chain(node.own()).filter(is_step).count()
    }

    /// Whether the steps of a node run although a result is cached (`--no-cache`, `no-cache-filter`).
    pub(super) fn ignores_cache(&self, ix: NodeIx) -> bool {
        let label = &self.nodes.list[ix].label;
        match &self.options.no_cache {
            NoCache::No => false,
            NoCache::All => true,
            NoCache::Stages(names) => names.iter().any(|it| it.eq_ignore_ascii_case(label)),
        }
    }
}

/// The diagnostic for a word whose variables cannot be expanded. `text` is the word as written; 200 characters are
/// shown.
pub(super) fn bad_expansion(why: &expand::BadWord, text: &str, at: Span) -> Diagnostic {
    let shown: String = text.chars().take(200).collect();
    fault("bake::dockerfile::bad_substitution", format!("{why}: {shown}"), at, "cannot be expanded")
}
