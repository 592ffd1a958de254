//! The state of a stage while its instructions are lowered: tree, config, variables, history, step names.

use std::{collections::HashSet, sync::Arc};

use crate::{
    dockerfile::{
        expand::{self, Vars},
        instruction::Instruction,
        options::{HistoryStep, LowerOptions, Lowered},
        stage::NodeIx,
    },
    graph::{self, Meta, StepOrigin, StepPlace, VertexIx},
    oci::{ImageConfig, Platform, config::RunConfig},
    report::{Span, url::without_credentials},
};

/// Comment of the history entries of instructions.
const COMMENT: &str = "buildkit.dockerfile.v0";
/// Comment of entries for layers that no instruction made.
const COMMENT_UNNAMED: &str = "buildkit.exporter.image.v0";

/// The search path of a stage whose base sets none.
pub(super) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The tree that COPY, ADD or a mount reads, and what is different about files of a context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SourceTree {
    pub(super) vertex: VertexIx,
    /// Files of the user's machine: their owner does not count.
    pub(super) reset_owner: bool,
    /// Mode of files that have none of their own (downloads).
    pub(super) file_mode: Option<u32>,
}

impl SourceTree {
    /// The tree of a vertex whose files keep their owner and mode.
    pub(super) const fn tree(vertex: VertexIx) -> Self {
        Self { vertex, reset_owner: false, file_mode: None }
    }
}

/// The resolved image or context that a node begins with.
#[derive(Clone, Debug)]
pub(super) struct Based {
    pub(super) tree: SourceTreeRoot,
    pub(super) config: Arc<ImageConfig>,
    pub(super) base_layers: usize,
    pub(super) steps: Vec<HistoryStep>,
    pub(super) platform: Platform,
    /// A placeholder with an empty config, for an image that was not resolved.
    pub(super) is_assumed: bool,
}

/// The tree that a stage begins with, by where it comes from.
#[derive(Clone, Debug)]
pub(super) enum SourceTreeRoot {
    Scratch,
    Image(graph::ImageOp),
    /// The result of another build.
    Built(VertexIx),
    /// Files that are not an image: to be a root they are copied.
    Files(SourceTree),
}

/// The default search path, if the variables have no `PATH`; `None` on Windows.
pub(super) fn default_path(env: &expand::Vars, platform: &Platform) -> Option<&'static str> {
    (platform.os != "windows" && !env.contains_key("PATH")).then_some(PATH)
}

/// The state of a stage between two instructions.
#[derive(Clone, Debug)]
pub(super) struct StageState {
    /// The tree that COPY --from and mounts of other stages read.
    pub(super) source: SourceTree,
    /// The tree after the instructions so far.
    pub(super) tree: VertexIx,
    /// The tree is files of a context, not yet copied into a root.
    pub(super) is_files: bool,
    pub(super) platform: Platform,
    /// The config of the base, for what instructions do not change.
    image: Arc<ImageConfig>,
    pub(super) author: Option<String>,
    /// The config so far, without its variables.
    pub(super) run: RunConfig,
    /// Variables of the image.
    pub(super) image_env: Vars,
    /// Variables of the build: those of the image and ARGs.
    pub(super) env: Vars,
    /// Declared ARGs in order, with their values.
    pub(super) args: indexmap::IndexMap<String, Option<String>>,
    /// Absolute and clean.
    pub(super) cwd: String,
    pub(super) workdir_is_set: bool,
    /// The config of its base is not known.
    pub(super) is_assumed: bool,
    /// Variables whose values depend on what the unknown base sets.
    pub(super) guessed: HashSet<String>,
    base_layers: usize,
    base_steps: Arc<[HistoryStep]>,
    /// The tree has a layer without an instruction: the name of the last layer so far.
    pub(super) unnamed_layers: Option<String>,
    pub(super) parent: Option<NodeIx>,
    /// History of this stage alone.
    steps: Vec<HistoryStep>,
    /// Where CMD, ENTRYPOINT, HEALTHCHECK of this stage stand.
    pub(super) cmd_at: Option<Span>,
    pub(super) entrypoint_at: Option<Span>,
    pub(super) healthcheck_at: Option<Span>,
    pub(super) in_trigger: bool,
    label: Arc<str>,
    /// As `label`, also where the file has one stage only.
    pub(super) stage: Arc<str>,
    pub(super) ignore_cache: bool,
    n_steps: usize,
    step: usize,
}

impl StageState {
    /// The state of a stage that begins with an image or context, before its first instruction.
    pub(super) fn new(based: &Based, source: SourceTree) -> Self {
        let mut run = based.config.config.clone();
        let mut image_env = Vars::new();
        for entry in run.env.take().unwrap_or_default() {
            let (name, value) = entry.split_once('=').unwrap_or((&entry, ""));
            image_env.insert(name.to_owned(), value.to_owned());
        }
        if let Some(path) = default_path(&image_env, &based.platform) {
            image_env.insert("PATH".to_owned(), path.to_owned());
        }
        run.on_build = None;
        if !run.working_dir.is_empty() && !run.working_dir.starts_with('/') {
            run.working_dir = crate::spec::path::clean(&format!("/{}", run.working_dir));
        }
        Self {
            tree: source.vertex,
            source,
            is_files: false,
            platform: based.platform.clone(),
            author: based.config.author.clone(),
            cwd: crate::spec::path::clean(&format!("/{}", run.working_dir)),
            run,
            env: image_env.clone(),
            image_env,
            image: based.config.clone(),
            args: indexmap::IndexMap::new(),
            workdir_is_set: false,
            is_assumed: based.is_assumed,
            guessed: HashSet::new(),
            base_layers: based.base_layers,
            base_steps: based.steps.as_slice().into(),
            unnamed_layers: None,
            parent: None,
            steps: Vec::new(),
            cmd_at: None,
            entrypoint_at: None,
            healthcheck_at: None,
            in_trigger: false,
            label: Arc::from(""),
            stage: Arc::from(""),
            ignore_cache: false,
            n_steps: 0,
            step: 0,
        }
    }

    /// The state of a stage that begins with this one, node `ix`, whose tree is `tree`. CMD and the like count as not
    /// set by it.
    pub(super) fn child(&self, ix: NodeIx, tree: VertexIx) -> Self {
        let mut run = self.run.clone();
        run.on_build = None;
        Self {
            source: SourceTree::tree(tree),
            tree,
            is_files: false,
            platform: self.platform.clone(),
            image: self.image.clone(),
            author: self.author.clone(),
            run,
            image_env: self.image_env.clone(),
            env: self.env.clone(),
            args: self.args.clone(),
            cwd: self.cwd.clone(),
            workdir_is_set: self.workdir_is_set,
            is_assumed: self.is_assumed,
            guessed: self.guessed.clone(),
            base_layers: self.base_layers,
            base_steps: self.base_steps.clone(),
            unnamed_layers: self.unnamed_layers.clone(),
            parent: Some(ix),
            steps: Vec::new(),
            cmd_at: None,
            entrypoint_at: None,
            healthcheck_at: None,
            in_trigger: false,
            label: Arc::from(""),
            stage: Arc::from(""),
            ignore_cache: false,
            n_steps: 0,
            step: 0,
        }
    }

    /// Sets a variable of the build; `is_guess` if its value depends on what an unknown base sets.
    pub(super) fn set(&mut self, name: &str, value: &str, is_guess: bool) {
        self.env.insert(name.to_owned(), value.to_owned());
        if is_guess {
            self.guessed.insert(name.to_owned());
        } else {
            self.guessed.remove(name);
        }
    }

    /// Sets how steps are named: the label of the stage, and how many of its `n_steps` are `done`.
    pub(super) fn name_steps(&mut self, label: Arc<str>, done: usize, n_steps: usize) {
        self.label = label;
        self.step = done;
        self.n_steps = n_steps;
    }

    /// Adds a history entry without a layer (`empty_layer` in the OCI image config). Credentials in URLs are left out.
    pub(super) fn note(&mut self, created_by: &str) {
        let created_by = without_credentials(created_by).into_owned();
        self.steps.push(HistoryStep { created_by, empty_layer: true, comment: COMMENT });
    }

    /// Adds a history entry for the layer that `tree` has over the tree before, which becomes the tree of the stage.
    pub(super) fn layer(&mut self, created_by: &str, tree: VertexIx) {
        let created_by = without_credentials(created_by).into_owned();
        self.steps.push(HistoryStep { created_by, empty_layer: false, comment: COMMENT });
        self.tree = tree;
        self.source = SourceTree::tree(tree);
    }

    /// Counts one step and returns its name for progress: `[web build 2/5] RUN make`.
    pub(super) fn step_name(&mut self, options: &LowerOptions, text: &str) -> String {
        if self.n_steps == 0 {
            return text.to_owned();
        }
        self.step += 1;
        let trigger = if self.in_trigger { "ONBUILD " } else { "" };
        if let Some(last) = &mut self.unnamed_layers {
            // The peer does not count the copying of the context as a step done.
            *last = numbered(&["", "", &self.label], self.step.saturating_sub(1), self.n_steps, trigger, text);
        }
        let platform = self.platform_label(options);
        numbered(&[&options.label_prefix, &platform, &self.label], self.step, self.n_steps, trigger, text)
    }

    /// The name for progress of a step that comes before all instructions, such as copying a context into a root.
    pub(super) fn first_step_name(&self, options: &LowerOptions, text: &str) -> String {
        if self.step == 0 {
            return text.to_owned();
        }
        let platform = self.platform_label(options);
        numbered(&[&options.label_prefix, &platform, &self.label], 1, self.n_steps, "", text)
    }

    /// `linux/amd64`, `linux/amd64->arm64` when an ARG says that it builds for another.
    fn platform_label(&self, options: &LowerOptions) -> String {
        if !options.multi_platform {
            return String::new();
        }
        let own = self.platform.to_string();
        let part = |name: &str| self.env.get(name).map(String::as_str).filter(|it| !it.is_empty());
        let target = match part("TARGETPLATFORM") {
            Some(text) => Platform::parse(text).ok(),
            None if part("TARGETOS").or(part("TARGETARCH")).is_some() => Some(Platform::normalised(
                part("TARGETOS").unwrap_or(&self.platform.os),
                part("TARGETARCH").unwrap_or(&self.platform.arch),
                part("TARGETVARIANT"),
            )),
            None => None,
        };
        match target {
            Some(target) if target.os != self.platform.os => format!("{own}->{target}"),
            Some(target) if target.arch != self.platform.arch => match target.variant {
                Some(variant) => format!("{own}->{}/{variant}", target.arch),
                None => format!("{own}->{}", target.arch),
            },
            _ => own,
        }
    }

    /// Names, place and cache setting of the vertex of an instruction; counts one step.
    pub(super) fn meta(&mut self, options: &LowerOptions, instruction: &Instruction, text: &str) -> Meta {
        let name = self.step_name(options, text);
        let is_argument = |name: &&String| !self.image_env.contains_key(*name);
        let place = StepPlace {
            file: options.step_file.clone(),
            stage: self.stage.clone(),
            number: self.step,
            text: instruction.code.clone(),
            arguments: self.args.keys().filter(is_argument).cloned().collect(),
        };
        let origin = self.origin(options, Some(instruction.at));
        Meta { name, origin, ignore_cache: false, place: Some(Arc::new(place)) }
    }

    /// The origin of a step of this stage.
    pub(super) fn origin(&self, options: &LowerOptions, at: Option<Span>) -> StepOrigin {
        origin(options, &self.label, at)
    }

    /// The arguments that run `text` in the shell of the stage: SHELL, by default `/bin/sh -c`.
    pub(super) fn with_shell(&self, text: String) -> Vec<String> {
        let mut args = match &self.run.shell {
            Some(shell) if !shell.is_empty() => shell.clone(),
            _ if self.platform.os == "windows" => vec!["cmd".to_owned(), "/S".to_owned(), "/C".to_owned()],
            _ => vec!["/bin/sh".to_owned(), "-c".to_owned()],
        };
        args.push(text);
        args
    }

    /// The result of the build if this is its last stage. `chain` holds the states of the stages that it is based on,
    /// lowest first.
    pub(super) fn lowered(&self, result: VertexIx, options: &LowerOptions, chain: &[&Self]) -> Lowered {
        let mut config = ImageConfig::clone(&self.image);
        config.created = None;
        config.author.clone_from(&self.author);
        config.config = self.run.clone();
        config.config.env = Some(self.image_env.iter().map(|(name, value)| format!("{name}={value}")).collect());
        if !options.labels.is_empty() {
            let labels = config.config.labels.get_or_insert_default();
            labels.extend(options.labels.iter().map(|(name, value)| (name.clone(), value.clone())));
        }
        if let Some(labels) = &mut config.config.labels {
            labels.sort_unstable_keys();
        }
        for map in [&mut config.config.exposed_ports, &mut config.config.volumes].into_iter().flatten() {
            map.sort_unstable_keys();
        }
        if options.explicit_platform {
            let wanted = &options.platform;
            let same = wanted.os == config.os && wanted.arch == config.architecture;
            config.os.clone_from(&wanted.os);
            config.architecture.clone_from(&wanted.arch);
            if wanted.variant.is_some() || !same {
                config.variant.clone_from(&wanted.variant);
            }
            if wanted.os_version.is_some() || !same {
                config.os_version.clone_from(&wanted.os_version);
            }
        }
        if !config.architecture.is_empty() {
            let normal = config.platform();
            (config.os, config.architecture, config.variant) = (normal.os, normal.arch, normal.variant);
        }
        let mut steps: Vec<HistoryStep> = self.base_steps.to_vec();
        for state in chain {
            steps.extend_from_slice(&state.steps);
        }
        if let Some(name) = &self.unnamed_layers {
            let created_by = name.clone();
            steps.push(HistoryStep { created_by, empty_layer: false, comment: COMMENT_UNNAMED });
        }
        Lowered {
            result,
            config,
            steps,
            base_layers: self.base_layers,
            findings: Vec::new(),
            unused_args: Vec::new(),
            unknown_stages: Vec::new(),
            own_contexts: Vec::new(),
            epoch: None,
            is_assumed: self.is_assumed,
            scanned: Vec::new(),
            guesses_sources: false,
        }
    }
}

/// The origin of a step of the stage with this label.
pub(super) fn origin(options: &LowerOptions, label: &Arc<str>, at: Option<Span>) -> StepOrigin {
    let given = |text: &Arc<str>| (!text.is_empty()).then(|| text.clone());
    StepOrigin { at, target: given(&options.label_prefix), stage: given(label) }
}

/// `[web build 2/5] RUN make`; empty parts are left out.
pub(super) fn numbered(parts: &[&str; 3], step: usize, n_steps: usize, trigger: &str, text: &str) -> String {
    let width = n_steps.max(1).ilog10() as usize + 1;
    let mut name = String::with_capacity(text.len() + 32);
    name.push('[');
    for part in parts.iter().filter(|it| !it.is_empty()) {
        name.push_str(part);
        name.push(' ');
    }
    let number = format!("{step:>width$}/{n_steps}] ");
    name.extend([&number, trigger, text]);
    name
}
