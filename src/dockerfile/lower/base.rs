//! Bases of stages: images, named contexts, results of other builds, scratch. Images are not resolved here; questions
//! about them are returned.

use std::{collections::HashSet, sync::Arc};

use indexmap::IndexSet;

use super::{
    lowerer::{Lowerer, bad_expansion},
    state::{self, Based, PATH, SourceTree, SourceTreeRoot, StageState},
};
use crate::{
    dockerfile::{
        check,
        expand::{self, ExpandMode},
        fault::fault,
        options::{BuiltContext, LowerOptions, NamedContext, Query},
        stage::{NodeIx, StageBase, StageNode},
    },
    graph::{self, File, FileAction, Meta, Op, VertexIx},
    oci::{ImageConfig, Platform, Reference, config::RunConfig},
    report::{Diagnostic, Span, suggest, url::without_credentials},
};

/// The named contexts of a build by their normalised names, so that `FROM alpine` finds a context for
/// `docker.io/library/alpine`.
pub(super) fn context_names(options: &LowerOptions) -> Vec<(String, &str, &NamedContext)> {
    let normal = |name: &str| match name.split_once("::") {
        Some((name, platform)) => format!("{}::{platform}", Reference::short(name)),
        None => Reference::short(name),
    };
    options.contexts.iter().map(|(name, context)| (normal(name), name.as_str(), context)).collect()
}

/// The image config of `FROM scratch` for a platform.
pub(super) fn empty_config(platform: &Platform) -> ImageConfig {
    ImageConfig {
        architecture: platform.arch.clone(),
        variant: platform.variant.clone(),
        os: platform.os.clone(),
        os_version: platform.os_version.clone(),
        config: RunConfig {
            working_dir: "/".to_owned(),
            env: (platform.os != "windows").then(|| vec![format!("PATH={PATH}")]),
            ..RunConfig::default()
        },
        ..ImageConfig::default()
    }
}

impl<'a> Lowerer<'a, '_> {
    /// The named context for a stage or image name.
    fn context(&self, name: &str, platform: &Platform) -> Option<(&'a str, &'a NamedContext)> {
        if self.contexts.is_empty() || name.eq_ignore_ascii_case("scratch") || name.eq_ignore_ascii_case("context") {
            return None;
        }
        let normal = Reference::short(name);
        let with_platform = format!("{normal}::{platform}");
        let find = |wanted: &str| self.contexts.iter().find(|(it, ..)| it == wanted).map(|(_, key, it)| (*key, *it));
        find(&with_platform).or_else(|| find(&normal))
    }

    /// One notice for each context that is used and whose name is not the short one, under which alone BuildKit finds it.
    pub(super) fn own_contexts(&self) -> Vec<Diagnostic> {
        let odd = || self.contexts.iter().filter(|(normal, key, _)| normal != key);
        if odd().next().is_none() {
            return Vec::new();
        }
        let used = |node: &StageNode<'_>| match &node.base {
            StageBase::Replaced(key) => Some(key.clone()),
            StageBase::Image(name) => {
                let platform = node.platform.as_ref().unwrap_or(&self.options.platform);
                self.context(name, platform).map(|(key, _)| key.to_owned())
            }
            StageBase::Node(_) | StageBase::Scratch => None,
        };
        let used: HashSet<String> = self.nodes.list.iter().filter_map(used).collect();
        let notice = |(normal, key, _): &(String, &str, &NamedContext)| {
            let message =
                format!("docker buildx bake does not find a context of this name, and takes the image: {key}");
            Diagnostic::notice("bake::dockerfile::context_name", message).help(format!("write it as `{normal}`"))
        };
        odd().filter(|(_, key, _)| used.contains(*key)).map(notice).collect()
    }

    /// Makes the nodes of the stages: expands FROM, finds earlier stages and contexts that replace a stage.
    pub(super) fn define_stages(&mut self) {
        self.check_defaults();
        let file = self.file;
        for stage in &file.stages {
            let image = self.base_word(stage, &stage.image, "base name");
            let platform = stage.platform.as_ref().and_then(|written| {
                let text = self.base_word(stage, written, "platform")?;
                match Platform::parse(&text) {
                    Ok(platform) => {
                        self.check_platform_flag(stage, &written.value, &text, &platform);
                        Some(platform)
                    }
                    Err(_) => {
                        let message = format!("not a platform: {text}");
                        let it = fault("bake::dockerfile::bad_platform", message, written.at, "this flag");
                        self.faults.push(it.help("platforms are written as `linux/amd64`, `linux/arm64/v8`"));
                        None
                    }
                }
            });
            let wanted = platform.as_ref().unwrap_or(&self.options.platform);
            let replaced = stage.name.as_ref().and_then(|name| self.context(&name.value, wanted));
            let base = match (replaced, image) {
                (Some((key, _)), _) => StageBase::Replaced(key.to_owned()),
                (None, Some(image)) => match self.nodes.named(&image) {
                    Some(ix) => StageBase::Node(ix),
                    None if image == "scratch" => StageBase::Scratch,
                    None => StageBase::Image(image),
                },
                // A fault was recorded.
                (None, None) => StageBase::Scratch,
            };
            self.nodes.add_stage(stage, base, platform);
        }
    }

    /// Expands a word of FROM with the global variables; the result must not be empty.
    fn base_word(
        &mut self,
        stage: &crate::dockerfile::instruction::Stage,
        word: &crate::report::Spanned<String>,
        what: &str,
    ) -> Option<String> {
        let expanded = match expand::expand(&word.value, &self.globals, self.file.escape, ExpandMode::Word) {
            Ok(expanded) => expanded,
            Err(why) => {
                self.faults.push(bad_expansion(&why, &word.value, word.at));
                return None;
            }
        };
        let known = || self.globals.keys().map(String::as_str).chain(self.global_names.iter().copied());
        let unknown: Vec<&String> =
            expanded.missing.iter().filter(|name| !self.global_names.contains(name.as_str())).collect();
        for name in &unknown {
            check::undefined_arg_in_from::fire(&mut self.report, stage, name, known());
        }
        if expanded.text.is_empty() {
            let message = format!("the {what} is blank after expansion: {}", word.value);
            let it = fault("bake::dockerfile::blank_base", message, word.at, "expands to nothing");
            let help = unknown.first().and_then(|name| suggest::did_you_mean(name, known()));
            self.faults.push(match help {
                Some(help) => it.help(help),
                None => it.help("give the build argument, or ARG a default before the first FROM"),
            });
            return None;
        }
        Some(expanded.text)
    }

    fn check_platform_flag(
        &mut self,
        stage: &crate::dockerfile::instruction::Stage,
        written: &str,
        text: &str,
        platform: &Platform,
    ) {
        if let Ok(expanded) = expand::expand(written, &self.globals, self.file.escape, ExpandMode::Word) {
            match (expanded.used.as_slice(), expanded.missing.as_slice()) {
                ([], []) => {
                    check::from_platform_flag_const_disallowed::fire(&mut self.report, stage, platform, text);
                }
                ([name], []) if name == "TARGETPLATFORM" && self.globals.get(name).is_some_and(|it| it == text) => {
                    check::redundant_target_platform::fire(&mut self.report, stage, written);
                }
                _ => (),
            }
        }
    }

    /// Whether each FROM names an image when no build argument is given.
    fn check_defaults(&mut self) {
        let Some(defaults) = self.default_globals() else { return };
        let file = self.file;
        for stage in &file.stages {
            let Ok(image) = expand::expand(&stage.image.value, &defaults, file.escape, ExpandMode::Word) else {
                return;
            };
            // Without variables an invalid name is an error of its own.
            let constant = image.used.is_empty() && image.missing.is_empty();
            if !constant && Reference::parse(&image.text).is_err() {
                check::invalid_default_arg_in_from::fire(&mut self.report, stage);
            }
        }
    }

    /// Resolves the bases of all needed nodes; returns the questions that must be answered first.
    ///
    /// A base that cannot be resolved is a fault, and stands for an image of unknown config: the other stages, and what needs
    /// no config, are looked at all the same.
    pub(super) fn resolve_bases(&mut self, reachable: &[bool]) -> Vec<Query> {
        let mut asked = IndexSet::new();
        for ix in (0..self.nodes.list.len()).filter(|ix| reachable[*ix]) {
            if self.based[ix].is_some() || matches!(self.nodes.list[ix].base, StageBase::Node(_)) {
                continue;
            }
            match self.resolve_base(ix) {
                Ok(Found::Base(based)) => {
                    self.check_base_platform(ix, &based);
                    self.based[ix] = Some(Arc::new(*based));
                }
                Ok(Found::Ask(query)) => drop(asked.insert(query)),
                Ok(Found::Unread(fault)) => {
                    self.based[ix] = Some(self.unknown_base(ix));
                    let fault = self.unread_image(ix, *fault);
                    self.unread.push(fault);
                }
                Err(fault) => {
                    self.based[ix] = Some(self.unknown_base(ix));
                    self.faults.push(fault);
                }
            }
        }
        if let NamedContext::Image { reference, layout } = &self.options.main
            && let Ok(query) = image_query(reference, layout.as_ref(), &self.options.platform)
            && !self.known.images.contains_key(&query)
        {
            match self.known.unread.get(&query) {
                Some(fault) => self.unread.push(fault.clone()),
                None => drop(asked.insert(query)),
            }
        }
        asked.into_iter().collect()
    }

    /// What stands for a base that cannot be resolved.
    fn unknown_base(&self, ix: NodeIx) -> Arc<Based> {
        let platform = self.nodes.list[ix].platform.as_ref().unwrap_or(&self.options.platform);
        Arc::new(Based { is_assumed: true, ..scratch(platform) })
    }

    /// The fault of an image, at the instruction that names it, with the stage that may have been meant.
    fn unread_image(&self, ix: NodeIx, fault: Diagnostic) -> Diagnostic {
        let node = &self.nodes.list[ix];
        let fault = if fault.labels.is_empty() { fault.at(node.image_at, "asked for here") } else { fault };
        let near = match &node.base {
            StageBase::Image(name) => suggest::nearest(name, self.nodes.names().take(check::report::MAX_COMPARED)),
            _ => None,
        };
        match near {
            Some(stage) => fault.help(format!("did you mean the stage `{stage}`?")),
            None => fault,
        }
    }

    fn resolve_base(&mut self, ix: NodeIx) -> Result<Found, Diagnostic> {
        let node = &self.nodes.list[ix];
        let at = node.image_at;
        let platform = node.platform.clone().unwrap_or_else(|| self.options.platform.clone());
        match node.base.clone() {
            StageBase::Scratch | StageBase::Node(_) => Ok(Found::Base(Box::new(scratch(&self.options.platform)))),
            StageBase::Replaced(key) => {
                let context = &self.options.contexts[&key];
                self.resolve_context(&key, context, platform, at)
            }
            StageBase::Image(name) => {
                if let Some((key, context)) = self.context(&name, &platform) {
                    return self.resolve_context(key, context, platform, at);
                }
                let reference = match Reference::parse(&name) {
                    Ok(reference) => reference.to_string(),
                    Err(why) => {
                        let message = format!("invalid image name, {}: {name}", why.why);
                        let it = fault("bake::dockerfile::bad_reference", message, at, "named here");
                        let lower = name.to_lowercase();
                        return Err(match self.nodes.names().find(|it| *it == lower) {
                            Some(stage) => it.help(format!("stage names in FROM are lower case, write `{stage}`")),
                            None => it,
                        });
                    }
                };
                self.resolve_image(Query { reference, layout: None, platform })
            }
        }
    }

    fn resolve_image(&self, query: Query) -> Result<Found, Diagnostic> {
        let Some(info) = self.known.images.get(&query) else {
            if let Some(fault) = self.known.unread.get(&query) {
                return Ok(Found::Unread(Box::new(fault.clone())));
            }
            let is_assumed = self.known.assume && query.layout.is_none();
            return Ok(if is_assumed {
                let tree = SourceTreeRoot::Image(graph::ImageOp::unresolved(&query.reference));
                Found::Base(Box::new(Based { is_assumed, tree, ..scratch(&query.platform) }))
            } else {
                Found::Ask(query)
            });
        };
        let n_layers = info.config.rootfs.diff_ids.len();
        let tree = if n_layers == 0 && info.image.layers.is_empty() {
            SourceTreeRoot::Scratch
        } else {
            SourceTreeRoot::Image(info.image.clone())
        };
        Ok(Found::Base(Box::new(Based {
            tree,
            config: info.config.clone(),
            base_layers: info.image.layers.len(),
            steps: Vec::new(),
            platform: query.platform,
            is_assumed: false,
        })))
    }

    fn resolve_context(
        &mut self,
        key: &str,
        context: &NamedContext,
        platform: Platform,
        at: Span,
    ) -> Result<Found, Diagnostic> {
        let source = match context {
            NamedContext::Scratch => return Ok(Found::Base(Box::new(scratch(&platform)))),
            NamedContext::Image { reference, .. } if reference == "scratch" => {
                return Ok(Found::Base(Box::new(scratch(&platform))));
            }
            NamedContext::Image { reference, layout } => {
                let query = image_query(reference, layout.as_ref(), &platform).map_err(|why| {
                    let message = format!("context `{key}` is not an image, {why}: {reference}");
                    fault("bake::dockerfile::bad_reference", message, at, "used here")
                })?;
                return self.resolve_image(query);
            }
            NamedContext::Built(built) => return Ok(Found::Base(Box::new(from_build(built)))),
            files => self.files(files, &format!("[context {key}]")),
        };
        Ok(Found::Base(Box::new(Based {
            tree: SourceTreeRoot::Files(source),
            config: Arc::new(empty_config(&platform)),
            base_layers: 0,
            steps: Vec::new(),
            platform,
            is_assumed: false,
        })))
    }

    /// The vertex of a context that is not an image. It is the same for all platforms.
    fn files(&mut self, context: &NamedContext, label: &str) -> SourceTree {
        let (op, name, reset_owner, file_mode) = match context {
            NamedContext::Local(local) => {
                (Op::Local(local.clone()), format!("{label} load {}", local.name), true, None)
            }
            NamedContext::Git(git) => {
                (Op::Git(git.clone()), format!("{label} load {}", without_credentials(&git.url)), false, None)
            }
            NamedContext::Http(http) => {
                let mode = (!http.unpack).then_some(0o600);
                (Op::Http(http.clone()), format!("{label} load {}", without_credentials(&http.url)), false, mode)
            }
            NamedContext::Built(built) => return SourceTree::tree(built.vertex),
            NamedContext::Image { .. } | NamedContext::Scratch => (Op::Scratch, String::new(), false, None),
        };
        let platform = self.options.build_platform.clone();
        let vertex = self.graph.add(op, Vec::new(), platform, Meta { name, ..Meta::default() });
        SourceTree { vertex, reset_owner, file_mode }
    }

    /// The tree of the main context, which COPY and ADD without `--from` read; added to the graph when it is first
    /// asked for.
    pub(super) fn main_source(&mut self) -> SourceTree {
        if let Some(source) = &self.main {
            return source.clone();
        }
        let source = match &self.options.main {
            NamedContext::Image { reference, layout } => {
                let query = image_query(reference, layout.as_ref(), &self.options.platform).ok();
                let image = query.and_then(|it| self.known.images.get(&it)).map(|it| it.image.clone());
                let name = "[internal] load build context".to_owned();
                let op = image.map_or(Op::Scratch, Op::Image);
                let platform = self.options.platform.clone();
                SourceTree::tree(self.graph.add(op, Vec::new(), platform, Meta { name, ..Meta::default() }))
            }
            files => self.files(files, "[internal]"),
        };
        self.main = Some(source.clone());
        source
    }

    fn check_base_platform(&mut self, ix: NodeIx, based: &Based) {
        let node = &self.nodes.list[ix];
        let StageBase::Image(name) = &node.base else { return };
        let (SourceTreeRoot::Image(_) | SourceTreeRoot::Scratch) = &based.tree else { return };
        let found = based.config.platform();
        if !found.arch.is_empty() && (found.os != based.platform.os || found.arch != based.platform.arch) {
            let comments = node.stage.map_or(&[][..], |it| &it.comments);
            check::invalid_base_image_platform::fire(
                &mut self.report,
                comments,
                node.at,
                name,
                &based.platform,
                &found,
            );
        }
    }

    /// The state of a stage before its first instruction: the tree and config of its base, and how its steps are named.
    ///
    /// # Panics
    /// When the base of the node has not been resolved, or has not been lowered before it.
    pub(super) fn begin(&mut self, ix: NodeIx) -> StageState {
        let node = &self.nodes.list[ix];
        let (at, is_stage) = (node.at, node.stage.is_some());
        let stage = node.label.clone();
        let label = if self.nodes.list.len() == 1 { "".into() } else { stage.clone() };
        let n_own = self.count_steps(ix);
        if let StageBase::Node(base) = node.base {
            let tree = self.root(base);
            let parent = self.states[base].as_ref().expect("bases come before and are reachable");
            let mut state = parent.child(base, tree);
            state.name_steps(label, 0, n_own);
            state.stage = stage;
            state.ignore_cache = self.ignores_cache(ix);
            return state;
        }
        let runs = is_stage && !matches!(node.base, StageBase::Replaced(_));
        let based = self.based[ix].clone().expect("all bases are resolved");
        // FROM of an image counts as a step.
        let mut done = 0;
        let source = match &based.tree {
            SourceTreeRoot::Scratch => SourceTree::tree(self.scratch(&based.platform)),
            SourceTreeRoot::Image(image) => {
                let mut name = format!("FROM {}", image.reference);
                if is_stage {
                    done = 1;
                    let platform = if self.options.multi_platform { based.platform.to_string() } else { String::new() };
                    name = state::numbered(&[&self.options.label_prefix, &platform, &label], 1, n_own + 1, "", &name);
                }
                let origin = state::origin(self.options, &label, Some(at));
                let meta = Meta { name, origin, ..Meta::default() };
                SourceTree::tree(self.graph.add(Op::Image(image.clone()), Vec::new(), based.platform.clone(), meta))
            }
            SourceTreeRoot::Built(vertex) => SourceTree::tree(*vertex),
            SourceTreeRoot::Files(source) => {
                done = usize::from(runs);
                source.clone()
            }
        };
        let mut state = StageState::new(&based, source);
        state.name_steps(label, done, n_own + done);
        state.stage = stage;
        state.ignore_cache = self.ignores_cache(ix);
        state.is_files = matches!(based.tree, SourceTreeRoot::Files(_));
        if runs && state.is_files {
            self.copy_root(&mut state, Some(at));
        }
        state
    }

    /// The tree of a node as the root of a stage or as the result. Files of a context are not a root: a step that
    /// copies them is added.
    pub(super) fn root(&mut self, ix: NodeIx) -> VertexIx {
        let mut state = self.states[ix].take().expect("only nodes that are lowered are used as a root");
        if state.is_files {
            let at = Some(self.nodes.list[ix].at);
            self.copy_root(&mut state, at);
        }
        let tree = state.tree;
        self.states[ix] = Some(state);
        tree
    }

    fn copy_root(&mut self, state: &mut StageState, at: Option<Span>) {
        let scratch = self.scratch(&state.platform);
        let copy = graph::CopyAction {
            input: 1,
            source: "/".to_owned(),
            dest: "/".to_owned(),
            owner: None,
            mode: None,
            unpack: false,
            parents: false,
            exclude: Vec::new(),
            optional: false,
            reset_owner: state.source.reset_owner,
            default_file_mode: state.source.file_mode,
        };
        let op = Op::File(File { actions: vec![FileAction::Copy(Box::new(copy))] });
        let name = self.graph.get(state.source.vertex).meta.name.clone();
        let shown = format!("{name} as a root");
        let step = state.first_step_name(self.options, &shown);
        let meta = Meta { name: step, origin: state.origin(self.options, at), ..Meta::default() };
        let inputs = vec![scratch, state.source.vertex];
        state.tree = self.graph.add(op, inputs, state.platform.clone(), meta);
        state.is_files = false;
        state.unnamed_layers = Some(name);
    }

    /// Adds the vertex of an empty tree; equal ones become one vertex of the graph.
    pub(super) fn scratch(&mut self, platform: &Platform) -> VertexIx {
        let meta = Meta { name: "scratch".to_owned(), ..Meta::default() };
        self.graph.add(Op::Scratch, Vec::new(), platform.clone(), meta)
    }
}

enum Found {
    Base(Box<Based>),
    Ask(Query),
    /// The image cannot be read.
    Unread(Box<Diagnostic>),
}

fn scratch(platform: &Platform) -> Based {
    Based {
        tree: SourceTreeRoot::Scratch,
        config: Arc::new(empty_config(platform)),
        base_layers: 0,
        steps: Vec::new(),
        platform: platform.clone(),
        is_assumed: false,
    }
}

fn from_build(built: &BuiltContext) -> Based {
    Based {
        tree: SourceTreeRoot::Built(built.vertex),
        config: Arc::new(built.config.clone()),
        base_layers: built.base_layers,
        steps: built.steps.clone(),
        platform: built.config.platform(),
        is_assumed: built.is_assumed,
    }
}

/// The question for an image of a context; names of a registry are normalised.
fn image_query(reference: &str, layout: Option<&String>, platform: &Platform) -> Result<Query, &'static str> {
    let reference = match layout {
        Some(_) => reference.to_owned(),
        None => Reference::parse(reference).map_err(|it| it.why)?.to_string(),
    };
    Ok(Query { reference, layout: layout.cloned(), platform: platform.clone() })
}
