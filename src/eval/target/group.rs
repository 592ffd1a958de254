//! Groups: what the names on the command line stand for, and which groups `--print` shows.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use indexmap::{IndexMap, IndexSet};

use super::{
    inherit::{MAX_STEPS, chain},
    overrides::known_names,
    pattern,
};
use crate::{
    report::{Diagnostic, Span, Spanned, suggest},
    spec::ExecutionMode,
};

/// One group after evaluation.
#[derive(Clone, Debug)]
pub(crate) struct TargetGroup {
    pub(crate) name: Arc<str>,
    pub(crate) description: Option<Arc<str>>,
    /// As written, targets and groups.
    pub(crate) members: Vec<Arc<str>>,
    /// Where the members were written, or the label of the matrix.
    pub(crate) at: Span,
    /// Made of a matrix.
    pub(crate) is_matrix: bool,
    /// `release`: when the results of a run that builds this group become visible.
    pub(crate) release: Option<Spanned<ExecutionMode>>,
}

/// The names of the command line, resolved to targets and groups.
#[derive(Debug, Default)]
pub(crate) struct TargetSelection {
    /// The names as typed, patterns expanded, `.` replaced.
    pub(crate) arguments: Vec<Arc<str>>,
    /// All targets, in the order in which they were reached.
    pub(crate) targets: IndexSet<Arc<str>>,
    /// All groups that were met, with their members.
    pub(crate) groups: IndexSet<Arc<str>>,
    /// Targets and groups that are left out: `!docs`.
    pub(crate) excluded: HashSet<Arc<str>>,
}

/// The targets and groups of a definition that can be requested by name.
pub(crate) struct GroupNames<'a> {
    pub(crate) groups: &'a IndexMap<Arc<str>, TargetGroup>,
    /// In file order.
    pub(crate) targets: &'a [Arc<str>],
    known_targets: HashSet<&'a str>,
}

impl<'a> GroupNames<'a> {
    /// The names of these groups and targets.
    pub(crate) fn new(groups: &'a IndexMap<Arc<str>, TargetGroup>, targets: &'a [Arc<str>]) -> Self {
        Self { groups, targets, known_targets: targets.iter().map(|it| &**it).collect() }
    }

    /// Resolves the names that were typed to targets, without those excluded by `!`; `default` when there are none.
    pub(crate) fn select(&self, typed: &[String], diagnostics: &mut Vec<Diagnostic>) -> TargetSelection {
        let mut selection = TargetSelection::default();
        let (excluded, named): (Vec<&str>, Vec<&str>) =
            typed.iter().map(String::as_str).partition(|it| it.len() > 1 && it.starts_with('!'));
        let is_default = named.is_empty();
        let named = if is_default { vec!["default"] } else { named };
        for argument in &named {
            selection.arguments.extend(self.meant(argument, is_default, diagnostics));
        }
        let mut seen = HashSet::new();
        selection.arguments.retain(|it| seen.insert(it.clone()));
        for argument in selection.arguments.clone() {
            self.expand(&argument, &mut selection, diagnostics);
        }
        self.exclude(&excluded, &mut selection, diagnostics);
        selection
    }

    /// Resolves one argument to targets and groups; errors are added to the diagnostics.
    fn meant(&self, argument: &str, is_default: bool, diagnostics: &mut Vec<Diagnostic>) -> Vec<Arc<str>> {
        let name = argument.replace('.', "_");
        if self.groups.contains_key(name.as_str()) || self.known_targets.contains(name.as_str()) {
            return vec![name.into()];
        }
        if !pattern::is_pattern(argument) {
            diagnostics.push(self.unknown(&name, is_default));
            return Vec::new();
        }
        match self.matching(argument) {
            Ok(found) if !found.is_empty() => return found,
            Ok(_) => diagnostics.push(self.no_match(argument)),
            Err(pattern::GlobError) => diagnostics.push(
                Diagnostic::error("bake::eval::bad_pattern", format!("not a pattern: {argument}"))
                    .help("close the bracket, or put `\\` before a character that stands for itself"),
            ),
        }
        Vec::new()
    }

    /// Takes targets out of a selection, and groups with all that is in them.
    fn exclude(&self, arguments: &[&str], selection: &mut TargetSelection, diagnostics: &mut Vec<Diagnostic>) {
        for argument in arguments {
            let mut out = TargetSelection::default();
            let meant = self.meant(&argument[1..], false, diagnostics);
            meant.iter().for_each(|name| self.expand(name, &mut out, diagnostics));
            let is_used = out.targets.iter().any(|it| selection.targets.contains(it));
            if !meant.is_empty() && !is_used {
                diagnostics.push(
                    Diagnostic::warning(
                        "bake::eval::excludes_nothing",
                        format!("nothing that was asked for is excluded by: {argument}"),
                    )
                    .help("a `!` takes targets out of those that are named beside it"),
                );
            }
            selection.excluded.extend(out.targets.into_iter().chain(out.groups).chain(meant));
        }
        let before = selection.targets.len();
        let excluded = &selection.excluded;
        selection.targets.retain(|it| !excluded.contains(it));
        selection.groups.retain(|it| !excluded.contains(it));
        selection.arguments.retain(|it| !excluded.contains(it));
        if before > 0 && selection.targets.is_empty() {
            diagnostics.push(
                Diagnostic::error(
                    "bake::eval::all_excluded",
                    format!("nothing is left to build, all of it is excluded by: {}", arguments.join(" ")),
                )
                .help("exclude less, or name more targets"),
            );
        }
    }

    /// The members of a group, for help.
    pub(crate) fn members(&self, name: &str) -> Option<Vec<String>> {
        self.groups.get(name).map(|group| group.members.iter().map(ToString::to_string).collect())
    }

    /// Groups and targets that match, sorted.
    fn matching(&self, text: &str) -> Result<Vec<Arc<str>>, pattern::GlobError> {
        let mut found = Vec::new();
        for name in self.groups.keys().chain(self.targets) {
            if pattern::matches(text, name)? {
                found.push(name.clone());
            }
        }
        found.sort();
        found.dedup();
        Ok(found)
    }

    /// Depth first in member order, without recursion; each group once.
    fn expand(&self, name: &Arc<str>, selection: &mut TargetSelection, diagnostics: &mut Vec<Diagnostic>) {
        let Some(group) = self.groups.get(name) else {
            selection.targets.insert(name.clone());
            return;
        };
        if group.is_matrix && group.members.is_empty() {
            diagnostics.push(
                Diagnostic::error("bake::eval::empty_matrix", format!("the matrix makes no target of: {name}"))
                    .at(group.at, "an axis of this matrix is empty")
                    .help("give each axis a value"),
            );
            return;
        }
        if !selection.groups.insert(name.clone()) {
            return;
        }
        let mut path: Vec<(&TargetGroup, usize)> = vec![(group, 0)];
        let mut on_path: HashMap<&str, usize> = HashMap::from([(&**name, 0)]);
        while let Some((group, next)) = path.last_mut() {
            let group: &TargetGroup = group;
            let Some(member) = group.members.get(*next) else {
                on_path.remove(&*group.name);
                path.pop();
                continue;
            };
            *next += 1;
            // A group may hold the target of its own name.
            if *member == group.name && self.known_targets.contains(&**member) {
                selection.targets.insert(member.clone());
                continue;
            }
            if let Some(start) = on_path.get(&**member) {
                diagnostics.push(cycle(member, &path[*start..]));
                return;
            }
            match self.groups.get(member) {
                Some(inner) => {
                    if selection.groups.insert(member.clone()) {
                        on_path.insert(&inner.name, path.len());
                        path.push((inner, 0));
                    }
                }
                None if self.known_targets.contains(&**member) => {
                    selection.targets.insert(member.clone());
                }
                None => diagnostics.push(self.unknown_member(group, member)),
            }
        }
    }

    fn suggestion(&self, name: &str) -> String {
        let all: Vec<Arc<str>> = self.targets.iter().chain(self.groups.keys()).cloned().collect();
        if all.is_empty() {
            return "define one: `target \"default\" { … }`".to_owned();
        }
        suggest::did_you_mean(name, all.iter().map(|it| &**it))
            .unwrap_or_else(|| known_names("targets and groups", &all))
    }

    fn unknown(&self, name: &str, is_default: bool) -> Diagnostic {
        if is_default {
            return Diagnostic::error(
                "bake::eval::unknown_target",
                "no target is named, and there is no target or group `default`",
            )
            .help(match self.suggestion(name) {
                define if self.targets.is_empty() && self.groups.is_empty() => define,
                known => format!("name a target; {known}"),
            });
        }
        Diagnostic::error("bake::eval::unknown_target", format!("no target or group of this name: {name}"))
            .help(self.suggestion(name))
    }

    fn no_match(&self, text: &str) -> Diagnostic {
        Diagnostic::error("bake::eval::pattern_without_match", format!("no target or group matches: {text}"))
            .help(self.suggestion(text.trim_end_matches('*')))
    }

    fn unknown_member(&self, group: &TargetGroup, member: &str) -> Diagnostic {
        Diagnostic::error(
            "bake::eval::unknown_member",
            format!("group `{}` has a member that is neither target nor group: {member}", group.name),
        )
        .at_part(group.at, member, format!("`{member}` is not defined"))
        .help(self.suggestion(member))
    }
}

fn cycle(member: &str, path: &[(&TargetGroup, usize)]) -> Diagnostic {
    let names: Vec<&str> = path.iter().map(|(group, _)| &*group.name).chain([member]).collect();
    let mut diagnostic = Diagnostic::error(
        "bake::eval::group_cycle",
        format!("groups contain each other in a circle: {}", chain(&names)),
    )
    .help("remove one of these members");
    for ((group, _), inner) in path.iter().zip(&names[1..]).take(MAX_STEPS) {
        diagnostic = diagnostic.at_part(group.at, inner, format!("`{}` contains `{inner}`", group.name));
    }
    diagnostic
}
