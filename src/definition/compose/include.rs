//! `include`: other Compose files, each with a folder and variables of its own, merged below the file that names them
//! (<https://github.com/compose-spec/compose-spec/blob/main/14-include.md>).

use std::sync::Arc;

use super::{
    merge::{self, MergeRule},
    model::{ComposeFile, ComposeLink, ComposeResult, ComposeScope, Loader, Model, enter, missing_file},
    value,
};
use crate::{
    definition::yaml::{
        node::{YamlEntry, YamlMapping, YamlNode, YamlNodeKind},
        parse,
    },
    report::{Diagnostic, Span},
};

/// The most files that may be included in total: files that include each other twice would grow without end.
const MAX_FILES: usize = 1000;

impl Loader<'_> {
    pub(super) fn include(
        &mut self,
        include: &YamlEntry,
        scope: &ComposeScope,
        chain: &mut Vec<ComposeLink>,
        own: &mut Model,
    ) {
        let Some(include_node) = self.interpolated(&include.node, scope) else { return };
        let Some(items) = include_node.sequence() else {
            if !include_node.is_null() {
                self.fail(
                    Diagnostic::error(
                        "bake::compose::wrong_type",
                        format!("`include` must be a list, got {}", include_node.word()),
                    )
                    .at(include_node.at, "not a list")
                    .help("write `include: [other.yaml]`"),
                );
            }
            return;
        };
        for item in items {
            let links = chain.len();
            let included = self.included(item, scope, chain);
            chain.truncate(links);
            let Some(included) = self.ok(included) else { continue };
            for (section, rule) in
                [(Model::services as Section, MergeRule::Service), (Model::secrets, MergeRule::Plain)]
            {
                let mut below: YamlMapping = section(&mut included.clone())
                    .iter()
                    .filter_map(|(name, entry)| {
                        Some((name.clone(), YamlEntry { at: entry.at, node: merge::settled(&entry.node)? }))
                    })
                    .collect();
                self.merge_all(&mut below, std::mem::take(section(own)), rule);
                *section(own) = below;
            }
        }
    }

    /// Loads the model of one item of `include`.
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
                self.add_dotenv(&mut inner, &path);
            }
            Some(files) => {
                for (file, at) in files.into_iter().filter(|(file, _)| file != "/dev/null") {
                    match self.dotenv(&file, &inner.env) {
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
        Ok(self.model(&files, &inner, chain))
    }

    /// Reads and parses another Compose file.
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
        let (source, text) = self.reader.read(path)?.ok_or_else(|| missing_file(path, at))?;
        Ok(ComposeFile { name: path.to_owned(), source, documents: parse::parse(source, &text)? })
    }
}

/// One of the two sections of a model.
type Section = fn(&mut Model) -> &mut YamlMapping;

impl Model {
    const fn services(&mut self) -> &mut YamlMapping {
        &mut self.services
    }

    const fn secrets(&mut self) -> &mut YamlMapping {
        &mut self.secrets
    }
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
