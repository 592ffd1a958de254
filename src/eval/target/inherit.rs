//! Inheritance: merges a target from its parents' attributes, its own, and `--set`, in increasing priority.
//!
//! Each target is resolved once, in an order found without recursion, so chains and diamonds of any size cost what their
//! edges cost. A target that only one child needs hands its fields over instead of copying them.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{
    field::TargetFields,
    overrides::{Overrides, known_names},
};
use crate::{
    definition::attribute::Id,
    report::{Diagnostic, Span, suggest},
};

/// The blocks of one target name, merged, before inheritance.
#[derive(Debug)]
pub(crate) struct Own {
    pub(crate) name: Arc<str>,
    /// The label of its first block.
    pub(crate) at: Span,
    pub(crate) fields: TargetFields,
    /// Evaluating a block of it failed; that has been reported.
    pub(crate) is_broken: bool,
}

/// Resolves the inheritance of targets, each when it is first asked for and once.
pub(crate) struct Resolver<'a> {
    own: &'a [Own],
    index: HashMap<&'a str, usize>,
    overrides: &'a Overrides,
    /// Groups with their members, for help.
    groups: &'a dyn Fn(&str) -> Option<Vec<String>>,
    states: Vec<InheritState>,
    /// How many targets inherit from each.
    children: Vec<u32>,
    /// Names that a request or a link may ask for: their fields stay.
    kept: HashSet<&'a str>,
}

#[derive(Clone, Debug)]
enum InheritState {
    New,
    /// On the current path of the walk.
    Open,
    Done(TargetFields),
    /// Resolved, and its fields moved into the only child; resolved again if requested.
    HandedOver,
    Failed,
}

impl<'a> Resolver<'a> {
    /// A resolver of the targets in `own`. `groups` gives the members of a group, for the error when one is inherited.
    pub(crate) fn new(
        own: &'a [Own],
        overrides: &'a Overrides,
        groups: &'a dyn Fn(&str) -> Option<Vec<String>>,
    ) -> Self {
        let index: HashMap<&str, usize> = own.iter().enumerate().map(|(ix, it)| (&*it.name, ix)).collect();
        let mut children = vec![0; own.len()];
        let mut kept: HashSet<&str> = HashSet::new();
        for target in own {
            for parent in target.fields.texts(Id::Inherits) {
                if let Some(ix) = index.get(&**parent) {
                    children[*ix] += 1;
                }
            }
            let contexts = target.fields.entries(Id::Contexts);
            let texts = contexts.into_iter().flat_map(|it| it.values()).filter_map(|it| it.as_deref());
            kept.extend(texts.filter_map(|it| it.strip_prefix("target:")));
        }
        kept.extend(overrides.linked_names());
        Self { own, index, overrides, groups, states: vec![InheritState::New; own.len()], children, kept }
    }

    /// Marks a name that will be requested later, so that its fields are kept.
    pub(crate) fn keep(&mut self, name: &str) {
        if let Some(ix) = self.index.get(name) {
            self.kept.insert(&self.own[*ix].name);
        }
    }

    /// The merged blocks of a name; `None` if there is no such target.
    pub(crate) fn own(&self, name: &str) -> Option<&'a Own> {
        self.index.get(name).map(|ix| &self.own[*ix])
    }

    /// The names of all targets, in file order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'a Arc<str>> {
        self.own.iter().map(|it| &it.name)
    }

    /// The names of all targets that were looked at, whether they could be resolved or not.
    pub(crate) fn asked(&self) -> impl Iterator<Item = &'a Arc<str>> {
        self.own
            .iter()
            .zip(&self.states)
            .filter(|(_, state)| !matches!(state, InheritState::New))
            .map(|(own, _)| &own.name)
    }

    /// The fields of a target: those that it inherits, its own, then its `--set` arguments. `None` if that failed, which is
    /// reported once, or if there is no such target, which is not reported.
    pub(crate) fn resolve(&mut self, name: &str, diagnostics: &mut Vec<Diagnostic>) -> Option<TargetFields> {
        let root = *self.index.get(name)?;
        // Each frame: a target and which of its parents comes next.
        let mut path: Vec<(usize, usize)> = Vec::new();
        self.enter(root, &mut path);
        while let Some((ix, next)) = path.last_mut() {
            let ix = *ix;
            let Some(parent) = self.own[ix].fields.texts(Id::Inherits).get(*next) else {
                path.pop();
                self.finish(ix, diagnostics);
                continue;
            };
            *next += 1;
            let Some(parent_ix) = self.index.get(&**parent).copied() else {
                diagnostics.push(self.unknown_parent(ix, parent));
                self.states[ix] = InheritState::Failed;
                path.pop();
                continue;
            };
            match self.states[parent_ix] {
                InheritState::New | InheritState::HandedOver => self.enter(parent_ix, &mut path),
                InheritState::Open => {
                    diagnostics.push(self.cycle(parent_ix, &path));
                    path.drain(..).for_each(|(ix, _)| self.states[ix] = InheritState::Failed);
                }
                InheritState::Done(_) | InheritState::Failed => (),
            }
        }
        match &self.states[root] {
            InheritState::Done(fields) => Some(fields.clone()),
            _ => None,
        }
    }

    fn enter(&mut self, ix: usize, path: &mut Vec<(usize, usize)>) {
        if matches!(self.states[ix], InheritState::New | InheritState::HandedOver) {
            self.states[ix] = InheritState::Open;
            path.push((ix, 0));
        }
    }

    /// All parents are resolved: puts them, the own fields and the overrides together.
    fn finish(&mut self, ix: usize, diagnostics: &mut Vec<Diagnostic>) {
        if matches!(self.states[ix], InheritState::Failed) {
            return;
        }
        let own = &self.own[ix];
        let mut fields: Option<TargetFields> = None;
        let mut failed = own.is_broken;
        for parent in own.fields.texts(Id::Inherits) {
            let parent_ix = self.index[&**parent];
            let is_last_use = self.children[parent_ix] == 1 && !self.kept.contains(&**parent);
            match &mut self.states[parent_ix] {
                InheritState::Done(inherited) => match &mut fields {
                    Some(fields) => fields.merge_all(inherited),
                    None if is_last_use => {
                        fields = Some(std::mem::take(inherited));
                        self.states[parent_ix] = InheritState::HandedOver;
                    }
                    None => fields = Some(inherited.clone()),
                },
                // The same parent twice in one list: its fields are there already.
                InheritState::HandedOver => (),
                _ => failed = true,
            }
        }
        if failed {
            self.states[ix] = InheritState::Failed;
            return;
        }
        let mut fields = match fields {
            Some(mut fields) => {
                fields.merge_all(&own.fields);
                fields
            }
            None => own.fields.clone(),
        };
        fields.remove(Id::Inherits);
        let before = diagnostics.len();
        self.overrides.apply(&own.name, &mut fields, diagnostics);
        fields.normalise();
        self.states[ix] = if diagnostics.len() > before { InheritState::Failed } else { InheritState::Done(fields) };
    }

    fn inherits_at(&self, ix: usize) -> Span {
        self.own[ix].fields.at(Id::Inherits).unwrap_or(self.own[ix].at)
    }

    fn unknown_parent(&self, ix: usize, parent: &str) -> Diagnostic {
        let name = &self.own[ix].name;
        let names: Vec<Arc<str>> = self.names().cloned().collect();
        let (what, help) = match (self.groups)(parent) {
            Some(members) => (
                "is a group, and only targets can be inherited from",
                match members.as_slice() {
                    [] => "name a target".to_owned(),
                    members => format!("inherit from one of its targets: {}", members.join(", ")),
                },
            ),
            None => (
                "is not defined",
                suggest::did_you_mean(parent, names.iter().map(|it| &**it))
                    .unwrap_or_else(|| known_names("targets", &names)),
            ),
        };
        Diagnostic::error(
            "bake::eval::unknown_parent",
            format!("target `{name}` inherits from `{parent}`, which {what}"),
        )
        .at_part(self.inherits_at(ix), parent, format!("`{parent}` {what}"))
        .help(help)
    }

    fn cycle(&self, start: usize, path: &[(usize, usize)]) -> Diagnostic {
        let from = path.iter().position(|(ix, _)| *ix == start).unwrap_or(0);
        let names: Vec<&str> =
            path[from..].iter().map(|(ix, _)| &*self.own[*ix].name).chain([&*self.own[start].name]).collect();
        let mut diagnostic = Diagnostic::error(
            "bake::eval::inherits_cycle",
            format!("targets inherit from each other in a circle: {}", chain(&names)),
        )
        .help("remove one of these `inherits`");
        for ((ix, _), parent) in path[from..].iter().zip(&names[1..]).take(MAX_STEPS) {
            let seen = format!("`{}` inherits from `{parent}`", self.own[*ix].name);
            diagnostic = diagnostic.at_part(self.inherits_at(*ix), parent, seen);
        }
        diagnostic
    }
}

/// How many steps of a circle are shown with their places.
pub(crate) const MAX_STEPS: usize = 8;

/// Formats a chain of names, `a → b → a`; the middle of a long one is left out.
pub(crate) fn chain(names: &[&str]) -> String {
    if names.len() <= 2 * MAX_STEPS {
        return names.join(" → ");
    }
    let (head, tail) = (&names[..MAX_STEPS], &names[names.len() - MAX_STEPS..]);
    format!("{} → … → {}", head.join(" → "), tail.join(" → "))
}
