//! What stands for a variable of a Compose file: its value, or a reference where variables are kept.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    interpolate::{self, KeepVariables, Variables},
    model::{ComposeScope, Loader},
};
use crate::{
    definition::{
        kept::{KeptVariables, ReferenceOperation, VariableReference},
        yaml::node::{YamlNode, YamlNodeKind},
    },
    report::{Diagnostic, Span},
};

/// The variable that holds the name of the project.
pub(super) const PROJECT_NAME: &str = "COMPOSE_PROJECT_NAME";

/// The variables that an interpolation of a Compose file sees.
pub(super) struct Lookup<'a> {
    pub(super) env: &'a BTreeMap<String, String>,
    /// Those that are used without a default and are not set.
    pub(super) missing: Vec<String>,
    /// The references, where variables are kept.
    pub(super) kept: Option<&'a mut KeptVariables>,
}

impl Variables for Lookup<'_> {
    fn get(&mut self, name: &str) -> Option<String> {
        self.env.get(name).cloned()
    }

    fn missing(&mut self, name: &str) {
        self.missing.push(name.to_owned());
    }

    fn keeper(&mut self) -> Option<&mut dyn KeepVariables> {
        self.kept.is_some().then_some(self as &mut dyn KeepVariables)
    }
}

impl KeepVariables for Lookup<'_> {
    fn keep(&mut self, mut reference: VariableReference) -> String {
        // Compose itself gives this one a value.
        if reference.name == PROJECT_NAME && reference.operation == ReferenceOperation::Value {
            let project = self.env.get(PROJECT_NAME).cloned().unwrap_or_default();
            reference.operation = ReferenceOperation::Default(project);
        }
        self.kept.as_mut().map(|kept| kept.keep(reference)).unwrap_or_default()
    }

    fn require(&mut self, name: &str, message: &str) {
        if let Some(kept) = &mut self.kept {
            kept.required.push((name.to_owned(), message.to_owned()));
        }
    }
}

impl Loader<'_> {
    /// Where variables are kept: says which of them have values that are not written, and which have to be set.
    pub(super) fn tell_kept(&mut self) {
        let Some(kept) = &self.kept else { return };
        let mut warnings = Vec::new();
        let lost: BTreeSet<&str> = kept.names().filter(|name| self.of_dotenv.contains(*name)).collect();
        if !lost.is_empty() {
            let names = lost.into_iter().collect::<Vec<_>>().join(", ");
            let message = format!("values of `.env` are not written into the bake file: {names}");
            let warning = Diagnostic::warning("bake::compose::kept_variable", message);
            warnings.push(warning.help("a bake file does not read `.env`: give it, as in `bake --var-file=.env`"));
        }
        if !self.secret_env.is_empty() {
            let names = self.secret_env.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            let message = format!("secrets take variables that only `.env` or an `env_file` has: {names}");
            let warning = Diagnostic::warning("bake::compose::kept_variable", message);
            warnings.push(warning.help("set them in the environment of `bake`"));
        }
        for (name, reason) in &kept.required {
            let reason = if reason.is_empty() { String::new() } else { format!(", {}", kept.shown(reason)) };
            let message = format!("a variable has to be set, which the bake file does not check{reason}: {name}");
            let warning = Diagnostic::warning("bake::compose::kept_variable", message);
            warnings.push(warning.help("add a `validation` block to the variable"));
        }
        self.faults.extend(warnings);
    }

    /// As [`Loader::interpolated`], with the values of variables even where these are kept: for names of files to read.
    pub(super) fn interpolated_now(&mut self, node: &Arc<YamlNode>, scope: &ComposeScope) -> Option<Arc<YamlNode>> {
        let kept = self.kept.take();
        let node = self.interpolated(node, scope);
        self.kept = kept;
        node
    }

    /// Warns of the variables that a value uses and that are not set, each once in all files.
    pub(super) fn warn_unset(&mut self, node: &YamlNode) {
        match &node.kind {
            YamlNodeKind::String(_) => {
                for name in self.unset.remove(&node.at).unwrap_or_default() {
                    if self.told_unset.insert(name.clone()) {
                        self.fail(
                            Diagnostic::warning(
                                "bake::compose::unset_variable",
                                format!("a variable is not set and stands for nothing: {name}"),
                            )
                            .at(node.at, "used here")
                            .help(format!("give it a default: ${{{name}:-}}")),
                        );
                    }
                }
            }
            YamlNodeKind::Sequence(items) => items.iter().for_each(|item| self.warn_unset(item)),
            YamlNodeKind::Mapping(entries) => entries.values().for_each(|entry| self.warn_unset(&entry.node)),
            _ => (),
        }
    }
}

/// The fault of a text whose variables cannot be replaced.
pub(super) fn interpolation_fault(fault: interpolate::InterpolateFault, at: Span) -> Box<Diagnostic> {
    Box::new(match fault {
        interpolate::InterpolateFault::Invalid(what) => {
            Diagnostic::error("bake::compose::interpolation", format!("an interpolation that cannot be read: {what}"))
                .at(at, "in this value")
                .help("write `${NAME}` or `${NAME:-default}`; a plain dollar sign is `$$`")
        }
        interpolate::InterpolateFault::Required { variable, message } => {
            let reason = if message.is_empty() { "it has no value".to_owned() } else { message };
            Diagnostic::error(
                "bake::compose::required_variable",
                format!("variable `{variable}` is required: {reason}"),
            )
            .at(at, "used here")
            .help(format!("set `{variable}` in the environment or in `.env`, or give --var {variable}=…"))
        }
    })
}
