//! Outlines: the targets of a Dockerfile, and the arguments and secrets of one target (`--call targets`, `--call
//! outline`; <https://docs.docker.com/reference/cli/docker/buildx/build/#call>).
//!
//! Uses the file alone: no image is resolved, so ONBUILD triggers of base images are not included.

use serde::Serialize;

use super::{
    expand::{self, ExpandMode, Vars},
    instruction::{Instruction, InstructionKind, ParsedDockerfile},
    lower,
    options::LowerOptions,
    value,
};
use crate::report::{Diagnostic, Span};

/// The stages of a Dockerfile for `--call=targets`, as they are printed in JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Targets {
    pub(crate) targets: Vec<OutlineTarget>,
}

/// One stage of a Dockerfile: its name, base and description.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct OutlineTarget {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) name: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) default: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) description: String,
    pub(crate) base: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) platform: String,
    #[serde(skip)]
    pub(crate) at: Span,
}

/// The inputs of a target for `--call=outline`, as they are printed in JSON: arguments, secrets, ssh agents, cache
/// mounts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Outline {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) description: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) args: Vec<Arg>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) secrets: Vec<Needed>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) ssh: Vec<Needed>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) cache: Vec<OutlineCache>,
}

/// A build argument that a target uses, with the value that it would have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Arg {
    pub(crate) name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) description: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) value: String,
    #[serde(skip)]
    pub(crate) at: Span,
}

/// A secret or an ssh agent that a target mounts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Needed {
    pub(crate) name: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) required: bool,
    #[serde(skip)]
    pub(crate) at: Span,
}

/// A cache mount that a target uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct OutlineCache {
    #[serde(rename = "ID")]
    pub(crate) id: String,
    #[serde(skip)]
    pub(crate) at: Span,
}

/// Lists the stages of a Dockerfile, in the order of the file.
pub(crate) fn targets(file: &ParsedDockerfile) -> Targets {
    let last = file.stages.len().saturating_sub(1);
    let stages = file.stages.iter().enumerate().map(|(i, stage)| {
        let name = stage.name.as_ref().map(|it| it.value.clone()).unwrap_or_default();
        OutlineTarget {
            description: describe(&stage.comments, &name),
            name,
            default: i == last,
            base: stage.image.value.clone(),
            platform: stage.platform.as_ref().map(|it| it.value.clone()).unwrap_or_default(),
            at: stage.at,
        }
    });
    Targets { targets: stages.collect() }
}

/// Lists the inputs of the target that the options name, with the values that they would have.
///
/// # Errors
/// The faults of the file, or of the name of the target.
pub(crate) fn outline(file: &ParsedDockerfile, options: &LowerOptions) -> Result<Outline, Vec<Diagnostic>> {
    let reach = lower::reach(file, options)?;
    let stage = &file.stages[reach.target];
    let name = stage.name.as_ref().map(|it| it.value.clone()).unwrap_or_default();
    let mut out = Outline {
        description: describe(&stage.comments, &name),
        name,
        args: Vec::new(),
        secrets: Vec::new(),
        ssh: Vec::new(),
        cache: Vec::new(),
    };
    let mut used: Vec<String> = Vec::new();
    let mut stages: Vec<Option<Vars>> = vec![None; file.stages.len()];
    for (ix, stage) in file.stages.iter().enumerate().filter(|(ix, _)| reach.stages[*ix]) {
        for word in std::iter::once(&stage.image).chain(&stage.platform) {
            if let Ok(expanded) = expand::expand(&word.value, &reach.globals, file.escape, ExpandMode::Word) {
                used.extend(expanded.used);
            }
        }
        let mut vars = reach.bases[ix].and_then(|base| stages[base].clone()).unwrap_or_default();
        for it in &stage.instructions {
            out.read(file, options, it, &reach.globals, &mut vars, &mut used);
        }
        stages[ix] = Some(vars);
    }
    out.add_globals(file, &reach.globals, &used);
    out.args.sort_by_key(|it| it.at.start);
    out.secrets.sort_by_key(|it| it.at.start);
    out.ssh.sort_by_key(|it| it.at.start);
    Ok(out)
}

fn describe(comments: &[String], name: &str) -> String {
    if name.is_empty() {
        String::new()
    } else {
        ParsedDockerfile::description(comments, name).unwrap_or_default().to_owned()
    }
}

impl Outline {
    fn read(
        &mut self,
        file: &ParsedDockerfile,
        options: &LowerOptions,
        instruction: &Instruction,
        globals: &Vars,
        vars: &mut Vars,
        used: &mut Vec<String>,
    ) {
        let text = |text: &str, vars: &Vars| {
            expand::expand(text, vars, file.escape, ExpandMode::Word).map_or_else(|_| text.to_owned(), |it| it.text)
        };
        match &instruction.kind {
            InstructionKind::Arg(args) => {
                for arg in args {
                    let given = options.build_args.get(&arg.name).cloned();
                    let value = match (&given, &arg.default) {
                        (Some(value), _) => Some(value.clone()),
                        (None, Some(default)) => Some(text(default, vars)),
                        (None, None) => None,
                    };
                    if value.is_none() && globals.contains_key(&arg.name) {
                        // The one before the first stage is meant.
                        used.push(arg.name.clone());
                        vars.insert(arg.name.clone(), globals[&arg.name].clone());
                        continue;
                    }
                    if let Some(value) = &value {
                        vars.insert(arg.name.clone(), value.clone());
                    }
                    self.args.retain(|known| known.name != arg.name);
                    self.args.push(Arg {
                        name: arg.name.clone(),
                        description: describe(&instruction.comments, &arg.name),
                        value: value.unwrap_or_default(),
                        at: arg.at,
                    });
                }
            }
            InstructionKind::Env(pairs) => {
                let new: Vec<_> = pairs.iter().map(|it| (text(&it.key, vars), text(&it.value, vars))).collect();
                vars.extend(new);
            }
            InstructionKind::Run(run) => {
                for mount in &run.mounts {
                    self.mount(&mount.value, mount.at, |it| text(it, vars));
                }
            }
            _ => (),
        }
    }

    fn mount(&mut self, written: &str, at: Span, text: impl Fn(&str) -> String) {
        let Ok(fields) = value::csv(written) else { return };
        let pairs: Vec<(&str, String)> = fields
            .iter()
            .map(|option| {
                option.split_once('=').map_or((option.as_str(), "true".to_owned()), |(key, value)| (key, text(value)))
            })
            .collect();
        let get = |keys: &[&str]| {
            pairs.iter().rfind(|(key, _)| keys.contains(&key.to_ascii_lowercase().as_str())).map(|(_, it)| it.clone())
        };
        let required = get(&["required"]).and_then(|it| value::boolean(&it)).unwrap_or(false);
        let target = || get(&["target", "dst", "destination"]).unwrap_or_default();
        let add = |list: &mut Vec<Needed>, name: String| {
            if !name.is_empty() && !list.iter().any(|it| it.name == name) {
                list.push(Needed { name, required, at });
            }
        };
        match get(&["type"]).unwrap_or_default().as_str() {
            "secret" => {
                let base_name = || target().rsplit('/').next().unwrap_or_default().to_owned();
                add(&mut self.secrets, get(&["id"]).or_else(|| get(&["source", "src"])).unwrap_or_else(base_name));
            }
            "ssh" => add(&mut self.ssh, get(&["id"]).unwrap_or_else(|| "default".to_owned())),
            "cache" => {
                let id = get(&["id"]).unwrap_or_else(|| crate::spec::path::clean(&target()));
                if !self.cache.iter().any(|it| it.id == id) {
                    self.cache.push(OutlineCache { id, at });
                }
            }
            _ => (),
        }
    }

    /// Adds the ARGs before the first stage that are used, and those that their defaults use.
    fn add_globals(&mut self, file: &ParsedDockerfile, globals: &Vars, used: &[String]) {
        let mut used: Vec<String> = used.to_vec();
        for it in file.globals.iter().rev() {
            let InstructionKind::Arg(args) = &it.kind else { continue };
            for arg in
                args.iter().rev().filter(|arg| used.contains(&arg.name) || self.has(&arg.name)).collect::<Vec<_>>()
            {
                let default = arg.default.as_deref().unwrap_or_default();
                if let Ok(expanded) = expand::expand(default, globals, file.escape, ExpandMode::Word) {
                    used.extend(expanded.used);
                }
                if !self.has(&arg.name) {
                    self.args.push(Arg {
                        name: arg.name.clone(),
                        description: describe(&it.comments, &arg.name),
                        value: globals.get(&arg.name).cloned().unwrap_or_default(),
                        at: arg.at,
                    });
                }
            }
        }
    }

    fn has(&self, name: &str) -> bool {
        self.args.iter().any(|it| it.name == name)
    }

    /// As a table.
    pub(crate) fn to_text(&self) -> String {
        let mut out = String::new();
        if !self.name.is_empty() || !self.description.is_empty() {
            let name = if self.name.is_empty() { "(default)" } else { &self.name };
            let mut rows = vec![["TARGET:", name]];
            if !self.description.is_empty() {
                rows.push(["DESCRIPTION:", &self.description]);
            }
            table(&mut out, &rows, 1);
        }
        if !self.args.is_empty() {
            let rows = self.args.iter().map(|arg| [arg.name.as_str(), &arg.value, &arg.description]);
            let rows: Vec<_> = std::iter::once(["BUILD ARG", "VALUE", "DESCRIPTION"]).chain(rows).collect();
            table(&mut out, &rows, 3);
        }
        for (title, list) in [("SECRET", &self.secrets), ("SSH", &self.ssh)] {
            if !list.is_empty() {
                let rows = list.iter().map(|secret| [secret.name.as_str(), if secret.required { "true" } else { "" }]);
                let rows: Vec<_> = std::iter::once([title, "REQUIRED"]).chain(rows).collect();
                table(&mut out, &rows, 3);
            }
        }
        if !self.cache.is_empty() {
            let rows = self.cache.iter().map(|it| [it.id.as_str()]);
            let rows: Vec<_> = std::iter::once(["CACHE"]).chain(rows).collect();
            table(&mut out, &rows, 3);
        }
        out
    }
}

impl Targets {
    /// As a table.
    pub(crate) fn to_text(&self) -> String {
        let names: Vec<String> = self
            .targets
            .iter()
            .map(|target| match (target.name.is_empty(), target.default) {
                (true, true) => "(default)".to_owned(),
                (false, true) => format!("{} (default)", target.name),
                (_, false) => target.name.clone(),
            })
            .collect();
        let rows = self.targets.iter().zip(&names).map(|(it, name)| [name.as_str(), it.description.as_str()]);
        let rows: Vec<_> = std::iter::once(["TARGET", "DESCRIPTION"]).chain(rows).collect();
        let mut out = String::new();
        table(&mut out, &rows, 1);
        out
    }
}

/// Rows in aligned columns, a blank line after them.
fn table<const N: usize>(out: &mut String, rows: &[[&str; N]], gap: usize) {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0) + gap;
    let widths: [usize; N] = std::array::from_fn(width);
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            let padding = width.saturating_sub(cell.chars().count());
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', padding));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out.push('\n');
}
