//! `include`: other Compose files, each with a folder and variables of its own, merged below the file that names them
//! (<https://github.com/compose-spec/compose-spec/blob/main/14-include.md>).

use std::sync::Arc;

use super::{
    merge::{self, MergeRule},
    model::{ComposeFile, ComposeLink, ComposeResult, ComposeScope, Loader, Model, enter, missing_file},
    value,
};
use crate::{
    definition::{
        read::ReadReason,
        yaml::{
            node::{YamlEntry, YamlMapping, YamlNode, YamlNodeKind},
            parse,
        },
    },
    report::{Diagnostic, Span},
};

/// The most files that may be included in total: files that include each other twice would grow without end.
const MAX_FILES: usize = 1000;

impl Loader<'_> {
    /// Merges the models of the files that `include` names below `own`, the model of the file that includes them.
    ///
    /// Each item may set a project directory and files of variables of its own. `chain` holds the includes that led
    /// here; it is the same after the call. Faults are recorded.
    pub(super) fn include(
        &mut self,
        include: &YamlEntry,
        scope: &ComposeScope,
        chain: &mut Vec<ComposeLink>,
        own: &mut Model,
    ) {
        let Some(include_node) = self.interpolated_now(&include.node, scope) else { return };
        self.warn_unset(&include_node);
        let Some(items) = include_node.sequence() else {
            if !include_node.is_null() {
                let fault = Diagnostic::error(
                    "bake::compose::wrong_type",
                    format!("`include` must be a list, got {}", include_node.word()),
                );
                let fault = fault.at(include_node.at, "not a list").help("write `include: [other.yaml]`");
                self.linked::<()>(Err(Box::new(fault)));
            }
            return;
        };
        for item in items {
            let links = chain.len();
            let included = self.included(item, scope, chain);
            chain.truncate(links);
            let Some(Model { services: mut below, secrets: mut secrets_below }) = self.linked(included) else {
                continue;
            };
            self.merge_all(&mut below, std::mem::take(&mut own.services), MergeRule::Service);
            self.merge_all(&mut secrets_below, std::mem::take(&mut own.secrets), MergeRule::Plain);
            *own = Model { services: below, secrets: secrets_below };
        }
    }

    /// Loads the model of one item of `include`. It is complete: nothing in it is left to be reset, and a build without a
    /// context has the folder of the item.
    fn included(
        &mut self,
        item: &Arc<YamlNode>,
        scope: &ComposeScope,
        chain: &mut Vec<ComposeLink>,
    ) -> ComposeResult<Model> {
        let option = |key: &str| item.get(key).filter(|value| !value.is_null());
        let paths = match &item.kind {
            YamlNodeKind::Mapping(_) => option("path").map(texts).transpose()?.unwrap_or_default(),
            _ => texts(item)?,
        };
        let Some((first, first_at)) = paths.first().cloned() else {
            return Err(Box::new(
                Diagnostic::error("bake::compose::no_path", "an item of `include` has no path")
                    .at(item.at, "no path")
                    .help("write `- path: other.yaml`"),
            ));
        };
        let full = |path: &str| value::join(&scope.folder, path, self.home.as_deref());
        let folder = match option("project_directory").and_then(|folder| folder.str()) {
            Some(folder) => full(folder),
            None => value::folder(&full(&first)),
        };
        let env_files = option("env_file").map(texts).transpose()?;
        let env_files: Option<Vec<_>> =
            env_files.map(|files| files.into_iter().map(|(file, at)| (full(&file), at)).collect());
        let paths: Vec<(String, Span)> = paths.into_iter().map(|(path, at)| (full(&path), at)).collect();
        enter(chain, &paths[0].0, first_at, "bake::compose::include_cycle", "files include one another in a circle")?;
        let mut inner = ComposeScope { env: scope.env.clone(), folder };
        match env_files {
            None => {
                let path = value::join(&inner.folder, ".env", None);
                self.add_dotenv(&mut inner, &path, &[item.at.source]);
            }
            Some(files) => {
                for (file, at) in files.into_iter().filter(|(file, _)| file != "/dev/null") {
                    match self.dotenv(&file, ReadReason::Named(at), &inner.env) {
                        Some(Some(values)) => values.into_iter().for_each(|(name, value)| {
                            inner.env.entry(name).or_insert(value);
                        }),
                        Some(None) => return Err(missing_file(&file, at)),
                        None => (),
                    }
                }
            }
        }
        let mut files = Vec::new();
        for (path, at) in paths {
            files.push(self.file(&path, at)?);
        }
        let Model { services, secrets } = self.model(&files, &inner, chain);
        let settled = |section: YamlMapping| -> YamlMapping {
            let entries = section.into_iter();
            entries
                .filter_map(|(name, YamlEntry { at, node })| {
                    Some((name, YamlEntry { at, node: merge::settled(&node)? }))
                })
                .collect()
        };
        let mut services = settled(services);
        for entry in services.values_mut() {
            entry.node = with_context(&entry.node, &inner.folder);
        }
        Ok(Model { services, secrets: settled(secrets) })
    }

    /// Reads and parses another Compose file; `at` is the place that names it.
    ///
    /// # Errors
    /// When the file does not exist, is no valid YAML, or too many files have been included.
    pub(super) fn file(&mut self, path: &str, at: Span) -> ComposeResult<ComposeFile> {
        self.files += 1;
        if self.files > MAX_FILES {
            return Err(Box::new(
                Diagnostic::error(
                    "bake::compose::too_many_files",
                    format!("more than {MAX_FILES} Compose files are read"),
                )
                .at(at, "the limit is passed here"),
            ));
        }
        let (source, text) = self.reader.read(path, ReadReason::Named(at))?.ok_or_else(|| missing_file(path, at))?;
        Ok(ComposeFile { name: path.to_owned(), source, documents: parse::parse(source, &text)? })
    }
}

/// The service with `folder` (empty: the working directory) as the context of its build, if it has a build without one.
fn with_context(service: &Arc<YamlNode>, folder: &str) -> Arc<YamlNode> {
    let Some(build) = service.get("build") else { return service.clone() };
    let YamlNodeKind::Mapping(mut build_entries) = merge::canonical(build, MergeRule::Build).kind.clone() else {
        return service.clone();
    };
    if build_entries.get("context").is_some_and(|context| !context.node.is_null()) {
        return service.clone();
    }
    let folder = if folder.is_empty() { "." } else { folder };
    let context = Arc::new(YamlNode::new(YamlNodeKind::String(folder.into()), build.at));
    build_entries.insert("context".into(), YamlEntry { at: build.at, node: context });
    let YamlNodeKind::Mapping(mut entries) = service.kind.clone() else { return service.clone() };
    if let Some(entry) = entries.get_mut("build") {
        entry.node = Arc::new(YamlNode::new(YamlNodeKind::Mapping(build_entries), build.at).with(build.action));
    }
    Arc::new(YamlNode::new(YamlNodeKind::Mapping(entries), service.at).with(service.action))
}

/// The strings of a value that is a string or a list of strings.
fn texts(node: &Arc<YamlNode>) -> ComposeResult<Vec<(String, Span)>> {
    let one = |node: &Arc<YamlNode>| {
        node.str().map(|text| (text.to_string(), node.at)).ok_or_else(|| {
            Box::new(
                Diagnostic::error("bake::compose::wrong_type", format!("a path must be a string, got {}", node.word()))
                    .at(node.at, "not a string"),
            )
        })
    };
    match &node.kind {
        YamlNodeKind::Sequence(items) => items.iter().map(one).collect(),
        _ => Ok(vec![one(node)?]),
    }
}
