//! Compose files ─► one model: each document interpolated, its includes and extended services resolved, merged onto those
//! before it (Compose specification, merge and include: <https://github.com/compose-spec/compose-spec/blob/main/13-merge.md>).
//!
//! Only the keys of a service that a build needs are kept. Further files come from [`ComposeFileReader`]; nothing is read
//! here.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use indexmap::IndexMap;

use super::{
    dotenv, interpolate,
    lookup::{Lookup, PROJECT_NAME, interpolation_fault},
    merge::{self, MergeRule},
    value,
};
use crate::{
    definition::{
        kept::KeptVariables,
        read::{ComposeFileReader, NO_SUCH_FILE, ReadReason},
        syntax::Body,
        yaml::node::{YamlEntry, YamlMapping, YamlNode, YamlNodeKind},
    },
    report::{Diagnostic, SourceId, Span, suggest},
};

/// The longest chain of files that include, or services that extend, one another.
const MAX_CHAIN: usize = 200;

/// The keys of a service that a build needs.
const SERVICE_KEYS: [&str; 4] = ["image", "build", "environment", "env_file"];

/// All keys of a service that Compose knows.
const ALL_SERVICE_KEYS: &str = "annotations attach blkio_config build cap_add cap_drop cgroup cgroup_parent command \
    configs container_name cpu_count cpu_percent cpu_period cpu_quota cpu_rt_period cpu_rt_runtime cpu_shares cpus cpuset \
    credential_spec depends_on deploy develop device_cgroup_rules devices dns dns_opt dns_search domainname entrypoint \
    env_file environment expose extends external_links extra_hosts gpus group_add healthcheck hostname image init ipc \
    isolation label_file labels links logging mac_address mem_limit mem_reservation mem_swappiness memswap_limit models \
    network_mode networks oom_kill_disable oom_score_adj pid pids_limit platform ports post_start pre_start pre_stop \
    privileged profiles provider pull_policy pull_refresh_after read_only restart runtime scale secrets security_opt \
    shm_size stdin_open stop_grace_period stop_signal storage_opt sysctls tmpfs tty ulimits use_api_socket user \
    userns_mode uts volumes volumes_from working_dir";

/// All keys that stand at the top of a Compose file.
const TOP_KEYS: &str = "version name include services networks volumes secrets configs models";

/// A Compose file that was named with `-f` or found by a default name, parsed into documents.
#[derive(Clone, Debug)]
pub(crate) struct ComposeFile {
    pub(crate) name: String,
    pub(crate) source: SourceId,
    /// The YAML documents of the file, in order.
    pub(crate) documents: Vec<Arc<YamlNode>>,
}

/// What Compose files stand for.
#[derive(Debug, Default)]
pub(crate) struct LoadedCompose {
    /// A target for each service that is built; `None` when there are no files.
    pub(crate) body: Option<Body>,
    /// Variables that secrets take and that the files give by `.env` or `env_file`; those of the environment go before.
    pub(crate) secret_env: BTreeMap<String, String>,
    pub(crate) diagnostics: Vec<Diagnostic>,
    /// The variables that the texts keep.
    pub(crate) kept: KeptVariables,
}

/// Loads all Compose files into one body of targets; later files override earlier ones.
///
/// A variable has its value of `vars` (`--var`, `--var-file`), else of `env`, else of `.env` in the working directory. Errors
/// are among the diagnostics, and the body is then what could be read; those of `include` and `extends` stand there alone,
/// without a body, because without what they name the rest is not what was meant.
pub(crate) fn load(
    files: &[ComposeFile],
    env: &BTreeMap<String, String>,
    vars: &BTreeMap<String, String>,
    reader: &mut dyn ComposeFileReader,
) -> LoadedCompose {
    load_with(None, files, env, vars, reader)
}

/// As [`load`], but variables are kept in the texts, and build arguments without a value are references to the
/// environment. Names of files that are read have the values of `env` and `.env` all the same.
pub(crate) fn load_kept(
    files: &[ComposeFile],
    env: &BTreeMap<String, String>,
    reader: &mut dyn ComposeFileReader,
) -> LoadedCompose {
    load_with(Some(KeptVariables::default()), files, env, &BTreeMap::new(), reader)
}

fn load_with(
    kept: Option<KeptVariables>,
    files: &[ComposeFile],
    env: &BTreeMap<String, String>,
    vars: &BTreeMap<String, String>,
    reader: &mut dyn ComposeFileReader,
) -> LoadedCompose {
    let mut loader = Loader {
        kept,
        of_dotenv: BTreeSet::new(),
        reader,
        faults: Vec::new(),
        broken_links: Vec::new(),
        unset: HashMap::new(),
        told_unset: BTreeSet::new(),
        secret_env: BTreeMap::new(),
        read: HashMap::new(),
        home: env.get("HOME").cloned(),
        files: 0,
    };
    let mut scope = ComposeScope { env: env.clone(), folder: String::new() };
    let sources: Vec<SourceId> = files.iter().map(|file| file.source).collect();
    loader.add_dotenv(&mut scope, ".env", &sources);
    scope.env.extend(vars.iter().map(|(name, value)| (name.clone(), value.clone())));
    let project = loader.project_name(files, &scope);
    scope.env.insert(PROJECT_NAME.to_owned(), project);
    let mut chain = Vec::new();
    let model = loader.model(files, &scope, &mut chain);
    if !loader.broken_links.is_empty() {
        return LoadedCompose { diagnostics: loader.broken_links, ..LoadedCompose::default() };
    }
    let body = loader.body(files, &model, &scope);
    loader.tell_kept();
    let Loader { secret_env, faults, kept, .. } = loader;
    LoadedCompose { body, secret_env, diagnostics: faults, kept: kept.unwrap_or_default() }
}

/// The result of reading a part of a Compose file; the error has its place.
pub(super) type ComposeResult<T> = Result<T, Box<Diagnostic>>;

/// The base directory and the variables of a group of Compose files: those of the user, or those of one `include`.
#[derive(Clone)]
pub(super) struct ComposeScope {
    pub(super) env: BTreeMap<String, String>,
    /// Relative paths start here; empty is the working directory.
    pub(super) folder: String,
}

/// The merged definitions of Compose files: services and secrets, reduced to what a build needs.
#[derive(Clone, Default)]
pub(super) struct Model {
    pub(super) services: YamlMapping,
    pub(super) secrets: YamlMapping,
}

/// The state of loading Compose files: the faults so far, and what was read of files that other files name.
pub(super) struct Loader<'a> {
    pub(super) reader: &'a mut dyn ComposeFileReader,
    pub(super) faults: Vec<Diagnostic>,
    /// The faults of `include` and `extends`.
    broken_links: Vec<Diagnostic>,
    /// Variables that a value uses and that are not set, by the place of the value.
    pub(super) unset: HashMap<Span, Vec<String>>,
    /// Unset variables that a warning has been recorded for.
    pub(super) told_unset: BTreeSet<String>,
    /// As [`LoadedCompose::secret_env`].
    pub(super) secret_env: BTreeMap<String, String>,
    /// Services of other files that `extends` has read, by the file that names them and their path: not every file may read
    /// what another one has read.
    pub(super) read: HashMap<(SourceId, String), Arc<YamlMapping>>,
    pub(super) home: Option<String>,
    /// How many files have been read because other files name them.
    pub(super) files: usize,
    /// The references to variables, where these are kept.
    pub(super) kept: Option<KeptVariables>,
    /// The variables that a `.env` file gives a value.
    pub(super) of_dotenv: BTreeSet<String>,
}

/// One link of a chain of `include` or `extends`: the name for messages, and the place that asks for it.
pub(super) type ComposeLink = (String, Span);

impl Loader<'_> {
    /// Records a fault or warning; loading goes on.
    pub(super) fn fail(&mut self, fault: Diagnostic) {
        self.faults.push(fault);
    }

    /// Unwraps a result; records its error and returns `None` if it failed.
    pub(super) fn ok<T>(&mut self, result: ComposeResult<T>) -> Option<T> {
        result.map_err(|fault| self.faults.push(*fault)).ok()
    }

    /// As [`Self::ok`], for what `include` or `extends` names.
    pub(super) fn linked<T>(&mut self, result: ComposeResult<T>) -> Option<T> {
        result.map_err(|fault| self.broken_links.push(*fault)).ok()
    }

    /// The project name: `name` of the last file that has one, else `COMPOSE_PROJECT_NAME`, else `bake`.
    fn project_name(&mut self, files: &[ComposeFile], scope: &ComposeScope) -> String {
        let mut documents = files.iter().flat_map(|file| &file.documents).rev();
        let named = documents.find_map(|document| document.get("name").filter(|name| name.str().is_some()));
        let named = named.and_then(|name| self.interpolated_now(name, scope));
        let named = named.inspect(|name| self.warn_unset(name)).and_then(|name| name.str().cloned());
        named
            .map(|name| name.to_string())
            .or_else(|| scope.env.get(PROJECT_NAME).cloned())
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| "bake".to_owned())
    }

    /// Adds the variables of the `.env` file that belongs to `files`, if it exists; variables that are already set keep
    /// their values.
    pub(super) fn add_dotenv(&mut self, scope: &mut ComposeScope, path: &str, files: &[SourceId]) {
        if let Some(Some(values)) = self.dotenv(path, ReadReason::Dotenv(files), &scope.env) {
            for (name, value) in values {
                self.of_dotenv.insert(name.clone());
                scope.env.entry(name).or_insert(value);
            }
        }
    }

    /// Loads a file of variables. Returns `None` after an error and `Some(None)` if there is no such file.
    pub(super) fn dotenv(
        &mut self,
        path: &str,
        reason: ReadReason<'_>,
        env: &BTreeMap<String, String>,
    ) -> Option<Option<BTreeMap<String, String>>> {
        let read = self.reader.read(path, reason);
        let Some((source, text)) = self.ok(read)? else { return Some(None) };
        match dotenv::parse(&text, &|name| env.get(name).cloned()) {
            Ok(values) => Some(Some(values)),
            Err(error) => {
                let start = u32::try_from(error.at).unwrap_or(u32::MAX);
                let length = text.get(error.at..).and_then(|rest| rest.lines().next()).map_or(0, str::len);
                let end = start.saturating_add(u32::try_from(length).unwrap_or(u32::MAX));
                self.fail(
                    Diagnostic::error(
                        "bake::compose::dotenv",
                        format!("a file of variables cannot be read: {}", error.what),
                    )
                    .at(Span { source, start, end }, "here")
                    .help("every line is `NAME=value`"),
                );
                None
            }
        }
    }

    /// Merges the documents of Compose files in order, later ones over earlier ones, their `include` and `extends`
    /// resolved.
    ///
    /// `chain` holds the includes that led here, to find circles; it is empty for the files of the user. Faults go to
    /// `self.faults`; what has one is left out.
    pub(super) fn model(&mut self, files: &[ComposeFile], scope: &ComposeScope, chain: &mut Vec<ComposeLink>) -> Model {
        let mut model = Model::default();
        for file in files {
            for document in &file.documents {
                self.document(file, document, scope, chain, &mut model);
            }
        }
        model
    }

    /// Merges one document of a Compose file onto `model`, its `include` and `extends` resolved.
    ///
    /// A document that is not a mapping is a fault; an empty one is not.
    pub(super) fn document(
        &mut self,
        file: &ComposeFile,
        document: &Arc<YamlNode>,
        scope: &ComposeScope,
        chain: &mut Vec<ComposeLink>,
        model: &mut Model,
    ) {
        let Some(entries) = document.mapping() else {
            if !document.is_null() {
                self.fail(
                    Diagnostic::error(
                        "bake::compose::no_mapping",
                        format!("a Compose file is a mapping, got {}", document.word()),
                    )
                    .at(document.at, "not a mapping"),
                );
            }
            return;
        };
        self.check_keys(entries, TOP_KEYS, "at the top of a Compose file");
        let mut own = Model { services: self.services(entries, scope), secrets: self.secrets(entries, scope) };
        if let Some(include) = entries.get("include") {
            self.include(include, scope, chain, &mut own);
        }
        self.extend_all(file, &mut own.services, scope);
        self.merge_all(&mut model.services, own.services, MergeRule::Service);
        self.merge_all(&mut model.secrets, own.secrets, MergeRule::Plain);
    }

    /// Merges the entries of a section (services or secrets) onto those of earlier files, name by name.
    pub(super) fn merge_all(&mut self, below: &mut YamlMapping, above: YamlMapping, rule: MergeRule) {
        for (name, entry) in above {
            let merged = match below.get(&name) {
                Some(base) => merge::merge(&base.node, &entry.node, rule),
                None => Ok(entry.node),
            };
            if let Some(node) = self.ok(merged) {
                below.insert(name, YamlEntry { at: entry.at, node });
            }
        }
    }

    /// Warns about keys that Compose does not know.
    fn check_keys(&mut self, entries: &YamlMapping, known: &str, place: &str) {
        let known = || known.split_whitespace();
        for (key, entry) in entries {
            if key.starts_with("x-") || known().any(|it| it == &**key) {
                continue;
            }
            let warning =
                Diagnostic::warning("bake::compose::unknown_key", format!("a key that is not known {place}: {key}"))
                    .at(entry.at, "ignored");
            self.fail(match suggest::did_you_mean(key, known()) {
                Some(help) => warning.help(help),
                None => warning,
            });
        }
    }

    /// The mapping under a top-level key; `None` if it is missing, null, or (with a fault) no mapping.
    pub(super) fn section<'n>(&mut self, entries: &'n YamlMapping, key: &str) -> Option<&'n YamlMapping> {
        let section = entries.get(key).filter(|section| !section.node.is_null())?;
        if section.node.mapping().is_none() {
            self.fail(
                Diagnostic::error(
                    "bake::compose::wrong_type",
                    format!("`{key}` must be a mapping, got {}", section.node.word()),
                )
                .at(section.node.at, "not a mapping")
                .help(format!("write names and what they are: `{key}: {{name: …}}`")),
            );
        }
        section.node.mapping()
    }

    /// The services of a document, each reduced to the keys that a build needs; what has a fault is left out.
    pub(super) fn services(&mut self, entries: &YamlMapping, scope: &ComposeScope) -> YamlMapping {
        let Some(section) = self.section(entries, "services") else { return YamlMapping::new() };
        let mut services = YamlMapping::new();
        for (name, entry) in section {
            if let Some(node) = self.service(name, entry, scope) {
                services.insert(name.clone(), YamlEntry { at: entry.at, node });
            }
        }
        services
    }

    /// Reduces a service to the keys that a build needs, its variables replaced, with paths relative to the working
    /// directory.
    ///
    /// `None` after a fault.
    pub(super) fn service(&mut self, name: &str, entry: &YamlEntry, scope: &ComposeScope) -> Option<Arc<YamlNode>> {
        let YamlNodeKind::Mapping(all) = &entry.node.kind else {
            if entry.node.is_null() || entry.node.action.is_some() {
                let empty = YamlNodeKind::Mapping(YamlMapping::new());
                return Some(Arc::new(YamlNode::new(empty, entry.at).with(entry.node.action)));
            }
            self.fail(
                Diagnostic::error(
                    "bake::compose::wrong_type",
                    format!("service `{name}` must be a mapping, got {}", entry.node.word()),
                )
                .at(entry.node.at, "not a mapping"),
            );
            return None;
        };
        self.check_keys(all, ALL_SERVICE_KEYS, &format!("in service `{name}`"));
        let mut kept = YamlMapping::new();
        for key in SERVICE_KEYS.into_iter().chain(["extends"]) {
            let Some((key, value)) = all.get_key_value(key) else { continue };
            let names_file = matches!(&**key, "extends" | "env_file");
            let node = if names_file {
                self.interpolated_now(&value.node, scope)?
            } else {
                self.interpolated(&value.node, scope)?
            };
            kept.insert(key.clone(), YamlEntry { at: value.at, node: self.rebased_field(key, &node, scope) });
        }
        Some(Arc::new(YamlNode::new(YamlNodeKind::Mapping(kept), entry.node.at).with(entry.node.action)))
    }

    /// The top-level secrets of a document, with paths of files relative to the working directory.
    pub(super) fn secrets(&mut self, entries: &YamlMapping, scope: &ComposeScope) -> YamlMapping {
        let Some(section) = self.section(entries, "secrets") else { return YamlMapping::new() };
        let mut secrets = YamlMapping::new();
        for (name, entry) in section {
            if let Some(node) = self.interpolated(&entry.node, scope) {
                let node = self.with_entry(&node, "file", |loader, file| loader.rebased(file, scope));
                if let Some(variable) = node.get("environment").and_then(|variable| variable.str())
                    && let Some((name, value)) = scope.env.get_key_value(&**variable)
                {
                    self.secret_env.entry(name.clone()).or_insert_with(|| value.clone());
                }
                secrets.insert(name.clone(), YamlEntry { at: entry.at, node });
            }
        }
        secrets
    }

    /// Replaces the variables in all strings of a value, or keeps them; `None` after a fault. Variables that are not set
    /// are noted for [`Self::warn_unset`].
    pub(super) fn interpolated(&mut self, node: &Arc<YamlNode>, scope: &ComposeScope) -> Option<Arc<YamlNode>> {
        let kind = match &node.kind {
            YamlNodeKind::String(text) if text.contains('$') => {
                let mut lookup = Lookup { env: &scope.env, missing: Vec::new(), kept: self.kept.as_mut() };
                let text =
                    interpolate::substitute(text, &mut lookup).map_err(|fault| interpolation_fault(fault, node.at));
                if !lookup.missing.is_empty() {
                    self.unset.entry(node.at).or_default().append(&mut lookup.missing);
                }
                YamlNodeKind::String(self.ok(text)?.into())
            }
            YamlNodeKind::Sequence(items) => {
                YamlNodeKind::Sequence(items.iter().map(|item| self.interpolated(item, scope)).collect::<Option<_>>()?)
            }
            YamlNodeKind::Mapping(entries) => {
                let mut replaced = YamlMapping::with_capacity(entries.len());
                for (key, entry) in entries {
                    replaced
                        .insert(key.clone(), YamlEntry { at: entry.at, node: self.interpolated(&entry.node, scope)? });
                }
                YamlNodeKind::Mapping(replaced)
            }
            _ => return Some(node.clone()),
        };
        Some(Arc::new(YamlNode::new(kind, node.at).with(node.action)))
    }

    /// Returns the mapping with the value of `key` changed; a node that is not a mapping or lacks the key is returned
    /// unchanged.
    fn with_entry(
        &mut self,
        node: &Arc<YamlNode>,
        key: &str,
        change: impl FnOnce(&mut Self, &Arc<YamlNode>) -> Arc<YamlNode>,
    ) -> Arc<YamlNode> {
        let YamlNodeKind::Mapping(entries) = &node.kind else { return node.clone() };
        let Some(entry) = entries.get(key) else { return node.clone() };
        let changed = YamlEntry { at: entry.at, node: change(self, &entry.node) };
        let mut entries = entries.clone();
        entries.insert(key.into(), changed);
        Arc::new(YamlNode::new(YamlNodeKind::Mapping(entries), node.at).with(node.action))
    }

    /// The field of a service with its paths relative to the working directory.
    fn rebased_field(&mut self, key: &str, node: &Arc<YamlNode>, scope: &ComposeScope) -> Arc<YamlNode> {
        match key {
            "build" => {
                let build = merge::canonical(node, MergeRule::Build);
                let build =
                    self.with_entry(&build, "context", |loader, context| loader.rebased_context(context, scope));
                let build = self.with_entry(&build, "additional_contexts", |loader, contexts| {
                    loader.each_value(&merge::canonical(contexts, MergeRule::Pairs), |loader, context| {
                        loader.rebased_context(context, scope)
                    })
                });
                self.with_entry(&build, "ssh", |loader, keys| {
                    loader.each_value(&merge::canonical(keys, MergeRule::Pairs), |loader, path| {
                        loader.rebased(path, scope)
                    })
                })
            }
            "env_file" => {
                let YamlNodeKind::Sequence(items) = &merge::canonical(node, MergeRule::List).kind else {
                    return node.clone();
                };
                let each = |item: &Arc<YamlNode>| match &item.kind {
                    YamlNodeKind::Mapping(_) => {
                        self.with_entry(item, "path", |loader, path| loader.rebased(path, scope))
                    }
                    _ => self.rebased(item, scope),
                };
                let items = items.iter().map(each).collect();
                Arc::new(YamlNode::new(YamlNodeKind::Sequence(items), node.at).with(node.action))
            }
            "extends" => self.with_entry(node, "file", |loader, file| loader.rebased(file, scope)),
            _ => node.clone(),
        }
    }

    fn each_value(
        &mut self,
        node: &Arc<YamlNode>,
        mut change: impl FnMut(&mut Self, &Arc<YamlNode>) -> Arc<YamlNode>,
    ) -> Arc<YamlNode> {
        let YamlNodeKind::Mapping(entries) = &node.kind else { return node.clone() };
        let entries = entries
            .iter()
            .map(|(key, entry)| (key.clone(), YamlEntry { at: entry.at, node: change(self, &entry.node) }));
        Arc::new(YamlNode::new(YamlNodeKind::Mapping(entries.collect()), node.at).with(node.action))
    }

    fn rebased_context(&self, node: &Arc<YamlNode>, scope: &ComposeScope) -> Arc<YamlNode> {
        const REMOTE: [&str; 4] = ["service:", "target:", "github.com/", "git@"];
        match node.str() {
            Some(text) if text.contains("://") || REMOTE.iter().any(|prefix| text.starts_with(prefix)) => node.clone(),
            _ => self.rebased(node, scope),
        }
    }

    fn rebased(&self, node: &Arc<YamlNode>, scope: &ComposeScope) -> Arc<YamlNode> {
        let Some(path) = node.str().filter(|path| !path.is_empty()) else { return node.clone() };
        let path = value::join(&scope.folder, path, self.home.as_deref());
        Arc::new(YamlNode::new(YamlNodeKind::String(path.into()), node.at).with(node.action))
    }
}

/// Appends a link to a chain of `include` or `extends`; fails if that closes a circle or makes the chain too long.
pub(super) fn enter(
    chain: &mut Vec<ComposeLink>,
    name: &str,
    at: Span,
    code: &'static str,
    what: &str,
) -> ComposeResult<()> {
    let start = chain.iter().position(|(link, _)| link == name);
    if start.is_none() && chain.len() < MAX_CHAIN {
        chain.push((name.to_owned(), at));
        return Ok(());
    }
    let circle = &chain[start.unwrap_or(0)..];
    let mut names: Vec<&str> = circle.iter().map(|(link, _)| link.as_str()).take(10).collect();
    names.push(name);
    let message = match start {
        Some(_) => format!("{what}: {}", names.join(" -> ")),
        None => format!("more than {MAX_CHAIN} links in a chain: {}", names.join(" -> ")),
    };
    let mut fault = Diagnostic::error(code, message).at(at, "closes the circle");
    for (link, place) in circle.iter().filter(|(_, place)| *place != at).take(10) {
        fault = fault.at(*place, format!("{link} is here"));
    }
    Err(Box::new(fault))
}

/// The error for a file that a Compose file names and that does not exist.
pub(super) fn missing_file(path: &str, at: Span) -> Box<Diagnostic> {
    let mut fault = Diagnostic::error("bake::compose::missing_file", format!("a file does not exist: {path}"));
    fault.causes.push(NO_SUCH_FILE.to_owned());
    Box::new(fault.at(at, "asked for here"))
}

impl Loader<'_> {
    /// Makes the bake file that a model stands for: a target for each service with a `build`, and the group `default`
    /// of them.
    pub(super) fn body(&mut self, files: &[ComposeFile], model: &Model, scope: &ComposeScope) -> Option<Body> {
        let settle = |section: &YamlMapping| -> IndexMap<Arc<str>, YamlEntry> {
            section
                .iter()
                .filter_map(|(name, entry)| {
                    Some((name.clone(), YamlEntry { at: entry.at, node: merge::settled(&entry.node)? }))
                })
                .collect()
        };
        let (services, secrets) = (settle(&model.services), settle(&model.secrets));
        let first = files.first()?;
        if services.is_empty() && secrets.is_empty() && !self.faults.iter().any(Diagnostic::is_error) {
            let at = Span { source: first.source, start: 0, end: 0 };
            let at = first.documents.first().map_or(at, |document| document.at);
            self.fail(
                Diagnostic::error("bake::compose::empty", format!("a Compose file has no services: {}", first.name))
                    .at(at, "neither `services` nor `secrets` here")
                    .help("a bake file in YAML has `target`, `group`, `variable` or `function` at the top"),
            );
        }
        Some(self.targets(first.source, &services, &secrets, scope))
    }
}
