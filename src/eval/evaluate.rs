//! Evaluates a definition: every block first, then the targets that were asked for and those that they need.
//!
//! Every block is evaluated, needed or not, and every error is reported; but an error in a target that the plan does
//! not need stops nothing. Options whose errors matter only when a target is used are checked for the targets of the
//! plan.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use indexmap::{IndexMap, IndexSet};

use super::{
    evaluation::Evaluation,
    expression::{place, scope::Scope},
    input::{CacheVariables, Input},
    print::list::{ListedTarget, ListedVariable, group_description},
    target::{
        block::{ExpandedBlock, is_valid_name},
        defaults::{fill_in, load_by_default},
        field::{self, Field, Misfit, TargetFields},
        group::{GroupNames, TargetGroup},
        inherit::{Own, Resolver},
        link::{self, LinkedTarget},
        overrides::Overrides,
        shared_caches::{CacheDefault, CacheDefaults},
        typed::{Target, TargetName, TargetWorld},
    },
    unknown,
    value::types::Value,
};
use crate::{
    definition::{
        attribute::{self, AttributeRow, GROUP_RELEASE, GROUP_TARGETS, Id, cache_row},
        load::Definition,
        syntax::{Expr, ExprKind},
    },
    report::{Diagnostic, Hidden, Span, Spanned, hidden::MASK, suggest},
    spec::{ExecutionMode, options::secrets_in},
};

/// Evaluates a definition and resolves the targets that `input.names` ask for. `local_platform` is the value of
/// `BAKE_LOCAL_PLATFORM`. The result is valid only if the diagnostics contain no error.
pub(crate) fn evaluate(definition: &Definition, input: &Input, local_platform: &str) -> (Evaluation, Vec<Diagnostic>) {
    let scope = Scope::new(definition, input, local_platform);
    let blocks = Blocks::new(&scope, definition);
    let mut found = Vec::new();
    let (mut evaluated, needed) = blocks.resolve(input, &mut found);
    // While names are missing, looking names up only produces follow-up errors.
    let is_hopeless = blocks.is_incomplete && found.iter().any(Diagnostic::is_error);
    let (faults, unneeded_faults) = scope.faults.split(|name| is_hopeless || needed.contains(name));
    let mut diagnostics = blocks.diagnostics;
    diagnostics.extend(faults);
    if !is_hopeless {
        diagnostics.append(&mut found);
    }
    evaluated.unneeded_faults = unneeded_faults;
    (evaluated, diagnostics)
}

/// The result of `--list`, with its diagnostics.
pub(crate) struct Listed<T> {
    pub(crate) all: Vec<T>,
    /// Errors and warnings that concern the whole definition.
    pub(crate) diagnostics: Vec<Diagnostic>,
    /// Errors and warnings of single targets and groups.
    pub(crate) unneeded_faults: Vec<Diagnostic>,
    /// Texts that must not be shown.
    pub(crate) hidden: Hidden,
}

/// Lists all targets and groups of a definition, for `--list`. All are asked for, so a fault of one is a fault of the list.
pub(crate) fn list_targets(definition: &Definition, input: &Input, local_platform: &str) -> Listed<ListedTarget> {
    let scope = Scope::new(definition, input, local_platform);
    let blocks = Blocks::new(&scope, definition);
    let targets = blocks.own.iter().map(|target| ListedTarget {
        name: target.name.clone(),
        description: target.fields.text(Id::Description).map(ToString::to_string).unwrap_or_default(),
        is_group: false,
    });
    let groups = blocks.groups.values().map(|group| ListedTarget {
        name: group.name.clone(),
        description: group_description(group.description.as_deref(), &group.members),
        is_group: true,
    });
    let all = targets.chain(groups).collect();
    let mut listed = blocks.into_listed(all);
    listed.diagnostics.append(&mut listed.unneeded_faults);
    listed
}

/// Lists all variables of a definition with their final values, for `--list`.
pub(crate) fn list_variables(definition: &Definition, input: &Input, local_platform: &str) -> Listed<ListedVariable> {
    let scope = Scope::new(definition, input, local_platform);
    let blocks = Blocks::new(&scope, definition);
    let listed = scope.variables().into_iter().map(|variable| ListedVariable {
        name: variable.name,
        description: variable.description.map(|it| it.to_string()).unwrap_or_default(),
        type_name: variable.ty.as_ref().map(ToString::to_string).unwrap_or_default(),
        value: match &variable.value {
            Value::Null(_) => None,
            _ if variable.sensitive => Some(MASK.to_owned()),
            value => Some({
                let text = value.to_text().map_or_else(|| value.to_json_text(true), |text| text.to_string());
                scope.hidden.borrow().mask(&text).into_owned()
            }),
        },
    });
    let all = listed.collect();
    blocks.into_listed(all)
}

/// All blocks, evaluated and merged by name.
struct Blocks<'s, 'a> {
    scope: &'s Scope<'a>,
    own: Vec<Own>,
    groups: IndexMap<Arc<str>, TargetGroup>,
    /// By namespace.
    cache_blocks: Vec<CacheDefaults>,
    /// Names are missing because of an error in a matrix or in something that concerns the whole definition.
    is_incomplete: bool,
    /// Diagnostics that belong to no block; those of blocks are kept by the scope.
    diagnostics: Vec<Diagnostic>,
}

impl<'s, 'a> Blocks<'s, 'a> {
    fn new(scope: &'s Scope<'a>, definition: &Definition) -> Self {
        let mut blocks = Self {
            scope,
            own: Vec::new(),
            groups: IndexMap::new(),
            cache_blocks: Vec::new(),
            is_incomplete: false,
            diagnostics: Vec::new(),
        };
        definition.all_bodies().for_each(|body| unknown::check(body, &mut blocks.diagnostics));
        blocks.unknown_vars(definition.compose.is_some());
        let expanded = scope.expanded();
        blocks.is_incomplete = scope.lacks_names();
        let mut places: HashMap<Arc<str>, usize> = HashMap::with_capacity(expanded.len());
        for it in expanded {
            if it.is_target() {
                blocks.target(it, &mut places);
            } else {
                blocks.group(it);
            }
        }
        blocks.cache_blocks = blocks.cache_blocks();
        blocks.matrix_groups();
        blocks.include_groups();
        scope.check();
        blocks
    }

    /// The list with all diagnostics.
    fn into_listed<T>(self, all: Vec<T>) -> Listed<T> {
        let (faults, unneeded_faults) = self.scope.faults.split(|_| false);
        let mut diagnostics = self.diagnostics;
        diagnostics.extend(faults);
        Listed { all, diagnostics, unneeded_faults, hidden: self.scope.hidden.borrow().clone() }
    }

    /// Warns about variables that are given and not declared in any file, unless Compose files may use them.
    fn unknown_vars(&mut self, has_compose: bool) {
        let (vars, values) = (&self.scope.input.vars, &self.scope.input.var_values);
        if vars.is_empty() && values.is_empty() {
            return;
        }
        let declared: HashSet<Arc<str>> = self.scope.variable_names().collect();
        let is_known = |name: &str| {
            declared.contains(name) || name.strip_suffix("_JSON").is_some_and(|name| declared.contains(name))
        };
        let help = |name: &str| {
            suggest::did_you_mean(name, declared.iter().map(|it| &**it))
                .unwrap_or_else(|| format!("declare it: variable \"{name}\" {{}}"))
        };
        let warning =
            |message: String, name: &str| Diagnostic::warning("bake::eval::unknown_var", message).help(help(name));
        for name in vars.keys().filter(|it| !has_compose && !is_known(it)) {
            let message = format!("`--var` sets a variable that no file declares: {name}");
            self.diagnostics.push(warning(message, name));
        }
        for (name, value) in values.iter().filter(|(it, _)| !has_compose && !is_known(it)) {
            let message = format!("a variables file sets a variable that no file declares: {name}");
            self.diagnostics.push(warning(message, name).at(value.at, "given here"));
        }
    }

    fn bad_name(&self, kind: &str, name: &Arc<str>, at: Span) -> bool {
        if is_valid_name(name) {
            return false;
        }
        self.scope.record_fault(
            Some(name.clone()),
            Diagnostic::error("bake::eval::bad_name", format!("not a name for a {kind}: {name}"))
                .at(at, "this name")
                .help(format!("names have letters, digits, `_` and `-`, as in `{}`", sanitized(name))),
        );
        true
    }

    /// Adds a block to the target of its name.
    fn target(&mut self, expanded: &ExpandedBlock<'a>, places: &mut HashMap<Arc<str>, usize>) {
        let at = expanded.block.labels.first().map_or(expanded.block.at, |it| it.at);
        let is_bad = expanded.bindings.is_empty() && self.bad_name("target", &expanded.name, at);
        let mut fields = TargetFields::default();
        let mut is_broken = is_bad;
        for written in &expanded.block.body.attributes {
            let Some(row) = attribute::target(&written.name.value) else { continue };
            if matches!(row.id, Id::Name | Id::Matrix) {
                continue;
            }
            let Ok(found) = self.scope.attribute(expanded, row.name) else {
                is_broken = true;
                continue;
            };
            let Some(found) = found else { continue };
            match self.decode(row, "target", &expanded.name, &found.value, found.expr) {
                Ok(Some(field)) => {
                    let field = self.outside(row, self.scope.rebased(row, field, found.expr), found.at);
                    fields.put(row.id, field, found.at);
                }
                Ok(None) => (),
                Err(()) => is_broken = true,
            }
        }
        match places.get(&expanded.name) {
            Some(ix) => {
                let own = &mut self.own[*ix];
                own.fields.merge_all(&fields);
                own.is_broken |= is_broken;
            }
            None => {
                places.insert(expanded.name.clone(), self.own.len());
                self.own.push(Own { name: expanded.name.clone(), at, fields, is_broken });
            }
        }
    }

    fn decode(
        &self,
        row: &AttributeRow,
        kind: &str,
        name: &Arc<str>,
        value: &Value,
        expr: &Expr,
    ) -> Result<Option<Field>, ()> {
        let whose = format_args!("{kind} `{name}`");
        let mut warnings = Vec::new();
        let decoded = field::decode(row, value, Some(expr), &mut warnings);
        for it in warnings {
            self.scope.record_fault(Some(name.clone()), misfit(row, &whose, it, expr, Diagnostic::warning));
        }
        decoded.map_err(|found| {
            self.scope.record_fault(Some(name.clone()), misfit(row, &whose, found, expr, Diagnostic::error));
        })
    }

    fn group(&mut self, expanded: &ExpandedBlock<'a>) {
        let name = &expanded.name;
        let body = &expanded.block.body;
        let label = expanded.block.labels.first().map_or(expanded.block.at, |it| it.at);
        self.bad_name("group", name, label);
        for refused in ["name", "matrix"] {
            if let Some(it) = body.attribute(refused) {
                self.scope.record_fault(
                    Some(name.clone()),
                    Diagnostic::error(
                        "bake::eval::group_with_matrix",
                        format!("group `{name}` cannot have: {refused}"),
                    )
                    .at(expanded.block.at, "this is a group")
                    .at(it.name.at, "only targets have this")
                    .help(format!("remove `{refused}`; to build all targets of a matrix, name its label in `targets`")),
                );
            }
        }
        // A group with an error still exists: references to it are not reported as unknown.
        let without_members = TargetGroup {
            name: name.clone(),
            description: None,
            members: Vec::new(),
            at: label,
            is_matrix: false,
            release: None,
        };
        self.groups.insert(name.clone(), without_members);
        let Ok(description) = self.scope.attribute(expanded, "description") else { return };
        let description = description.and_then(|it| it.value.to_text());
        let Ok(release) = self.release(expanded) else { return };
        let Ok(targets) = self.scope.attribute(expanded, "targets") else { return };
        let members = match targets {
            Some(it) => match self.decode(&GROUP_TARGETS, "group", name, &it.value, it.expr) {
                Ok(Some(Field::Texts(texts))) => {
                    let namespace = self.scope.namespace(it.at);
                    let members: IndexSet<Arc<str>> = texts.iter().map(|it| namespace.full_name(it)).collect();
                    Some((members.into_iter().collect(), it.at))
                }
                Ok(_) => None,
                Err(()) => return,
            },
            None => None,
        };
        let Some((members, at)) = members else {
            self.scope.record_fault(
                Some(name.clone()),
                Diagnostic::error("bake::eval::group_without_targets", format!("group `{name}` has no `targets`"))
                    .at(expanded.block.at, "this group")
                    .help("write `targets = [\"a\", \"b\"]`"),
            );
            return;
        };
        // A later block of the name replaces an earlier one, in the earlier one's place.
        self.groups.insert(
            name.clone(),
            TargetGroup { name: name.clone(), description, members, at, is_matrix: false, release },
        );
    }

    /// `release` of a group. A fault is recorded.
    fn release(&self, expanded: &ExpandedBlock<'a>) -> Result<Option<Spanned<ExecutionMode>>, ()> {
        let name = &expanded.name;
        let Some(found) = self.scope.attribute(expanded, "release")? else { return Ok(None) };
        let Some(Field::Text(text)) = self.decode(&GROUP_RELEASE, "group", name, &found.value, found.expr)? else {
            return Ok(None);
        };
        match ExecutionMode::parse(&text) {
            Ok(mode) => Ok(Some(Spanned::new(mode, found.at))),
            Err(fault) => {
                let message = format!("`release` of group `{name}`: {}", fault.message);
                let mut diagnostic = Diagnostic::error("bake::eval::bad_release", message).at(found.at, "this value");
                diagnostic.help = fault.help;
                self.scope.record_fault(Some(name.clone()), diagnostic);
                Err(())
            }
        }
    }

    /// A matrix makes a group of the label of its block, unless there is a group of that name.
    fn matrix_groups(&mut self) {
        for (label, (block, members)) in self.scope.matrix_groups() {
            if self.groups.contains_key(label) {
                continue;
            }
            let at = block.at;
            let group = TargetGroup {
                name: label.clone(),
                description: None,
                members: members.clone(),
                at,
                is_matrix: true,
                release: None,
            };
            self.groups.insert(label.clone(), group);
        }
    }

    /// The name of an include stands for what is built by default there.
    fn include_groups(&mut self) {
        for namespace in &self.scope.namespaces {
            let Some(included) = namespace.included else { continue };
            let name: Arc<str> = included.name.replace('.', "_").into();
            let default = namespace.full_name(&"default".into());
            let is_target = |name: &str| self.own.iter().any(|it| &*it.name == name);
            if (is_target(&default) || self.groups.contains_key(&default))
                && !is_target(&name)
                && !self.groups.contains_key(&name)
            {
                let (members, at) = (vec![default], included.at);
                let group =
                    TargetGroup { name: name.clone(), description: None, members, at, is_matrix: false, release: None };
                self.groups.insert(name, group);
            }
        }
    }

    /// Names of targets in a field of an included file, as they are called outside of it.
    fn outside(&self, row: &AttributeRow, field: Field, at: Span) -> Field {
        let namespace = self.scope.namespace(at);
        if namespace.included.is_none() {
            return field;
        }
        match field {
            Field::Texts(names) if row.id == Id::Inherits => {
                Field::Texts(Arc::new(names.iter().map(|it| namespace.full_name(it)).collect()))
            }
            Field::Entries(entries) if row.id == Id::Contexts => {
                let linked = |text: &Arc<str>| match text.strip_prefix("target:") {
                    Some(name) => format!("target:{}", namespace.full_name(&name.into())).into(),
                    None => text.clone(),
                };
                let entries = entries.iter().map(|(key, value)| (key.clone(), value.as_ref().map(linked)));
                Field::Entries(Arc::new(entries.collect()))
            }
            other => other,
        }
    }

    /// What the `cache` blocks of each namespace say, in the order of the namespaces; the last one is the root.
    fn cache_blocks(&self) -> Vec<CacheDefaults> {
        let default = |namespace: usize, id: Id| {
            let row = cache_row(id);
            let (attribute, value) = self.scope.cache_attribute(namespace, row.name)?;
            let expr = &attribute.expr;
            let mut warnings = Vec::new();
            let decoded = field::decode(row, &value, Some(expr), &mut warnings);
            let whose = format_args!("the `cache` block");
            for it in warnings {
                self.scope.record_fault(None, misfit(row, &whose, it, expr, Diagnostic::warning));
            }
            match decoded {
                Ok(field) => Some(CacheDefault { field: self.scope.rebased(row, field?, expr), at: attribute.name.at }),
                Err(found) => {
                    self.scope.record_fault(None, misfit(row, &whose, found, expr, Diagnostic::error));
                    None
                }
            }
        };
        let of =
            |namespace| CacheDefaults { from: default(namespace, Id::CacheFrom), to: default(namespace, Id::CacheTo) };
        (0..self.scope.namespaces.len()).map(of).collect()
    }

    /// Resolves the requested targets and those that they need. Also returns the names of all targets and groups that
    /// took part.
    fn resolve(&self, input: &Input, diagnostics: &mut Vec<Diagnostic>) -> (Evaluation, HashSet<Arc<str>>) {
        let names: Vec<Arc<str>> = self.own.iter().map(|it| it.name.clone()).collect();
        let all = GroupNames::new(&self.groups, &names);
        let members = |name: &str| all.members(name);
        let selection = all.select(&input.names, diagnostics);
        let overrides = Overrides::new(&input.overrides, &input.env, &names, &members, diagnostics);
        let mut resolver = Resolver::new(&self.own, &overrides, &members);
        selection.targets.iter().for_each(|it| resolver.keep(it));
        let mut resolved: IndexMap<Arc<str>, LinkedTarget> = IndexMap::new();
        for name in &selection.targets {
            if let Some(fields) = resolver.resolve(name, diagnostics) {
                resolved.insert(name.clone(), LinkedTarget { fields, is_linked: false });
            }
        }
        link::follow(&mut resolved, &mut resolver, &members, diagnostics);
        let mut needed: HashSet<Arc<str>> = resolver.asked().cloned().collect();
        needed.extend(selection.groups.iter().chain(&selection.arguments).cloned());
        let world =
            TargetWorld { host: self.scope.host_platform(), no_default_attestations: input.no_default_attestations };
        let mut targets = IndexMap::with_capacity(resolved.len());
        let of_variables = CacheDefaults::of_variables(&input.caches, diagnostics);
        let of_root = self.cache_blocks.last().cloned().unwrap_or_default();
        let caches: Vec<CacheDefaults> =
            self.cache_blocks.iter().map(|of_file| of_variables.clone().or(of_file).or(&of_root)).collect();
        for (name, it) in resolved {
            let at = resolver.own(&name).map(|it| it.at).expect("a resolved target has blocks");
            let mut fields = it.fields;
            fill_in(
                &mut fields,
                at,
                self.scope.folder(at.source),
                input.remote.as_deref(),
                input.source_date_epoch.as_deref(),
            );
            caches[self.scope.namespace_ix(at)].fill_in(&mut fields);
            if input.loads_by_default && !it.is_linked {
                load_by_default(&mut fields, at);
            }
            let target = Target::new(&name, at, it.is_linked, fields, &world, diagnostics);
            targets.insert(TargetName(name), target);
        }
        let groups = selection.groups.iter().filter_map(|name| {
            let mut group = self.groups.get(name)?.clone();
            group.members.retain(|it| !selection.excluded.contains(it));
            Some((name.clone(), group))
        });
        let groups = groups.collect();
        let mut hidden = self.scope.hidden.borrow().clone();
        hide_keys(&targets, &input.caches, &mut hidden);
        let evaluated = Evaluation {
            targets,
            groups,
            arguments: selection.arguments,
            grants: [overrides.grants(), of_variables.grants()].concat(),
            hidden,
            unneeded_faults: Vec::new(),
        };
        (evaluated, needed)
    }
}

/// Hides the keys and tokens with which caches are accessed.
fn hide_keys(targets: &IndexMap<TargetName, Target>, variables: &CacheVariables, hidden: &mut Hidden) {
    for target in targets.values() {
        let read = target.cache_from.iter().flat_map(|item| item.secrets());
        let written = target.cache_to.iter().flat_map(|item| item.secrets());
        read.chain(written).for_each(|secret| hidden.insert(&secret.into()));
    }
    // A text that could not be read is told as it stands.
    let CacheVariables { both, from, to } = variables;
    for text in [both, from, to].into_iter().flatten() {
        secrets_in(&text.value).for_each(|secret| hidden.insert(&secret.into()));
    }
}

fn misfit(
    row: &AttributeRow,
    whose: &std::fmt::Arguments<'_>,
    misfit: Misfit,
    expr: &Expr,
    make: fn(&'static str, String) -> Diagnostic,
) -> Diagnostic {
    let text = format!("`{}{}` of {whose}{}", row.name, misfit.path, misfit.message);
    let mut diagnostic = make("bake::eval::bad_value", text).at(place::within(expr, &misfit.path), "given here");
    diagnostic.help = match (&expr.kind, misfit.help) {
        // The expression is a reference: suggest a change of its value, not of the expression.
        (ExprKind::Variable(name), Some(help)) if help.starts_with("write [") => Some(format!("write [{name}]")),
        (_, help) => help,
    };
    diagnostic
}

/// The name with invalid characters replaced, as `sanitize()` does it.
fn sanitized(name: &str) -> String {
    let kept = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') { c } else { '_' };
    if name.is_empty() { "app".to_owned() } else { name.chars().map(kept).collect() }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fmt::Write as _;

    use super::*;
    use crate::{
        definition::hcl,
        eval::print::plan::PrintPlan,
        report::{SourceMap, Spanned},
    };

    /// Prints what `names` ask for, without blanks, or the messages of all errors.
    fn check(text: &str, names: &[&str], sets: &[&str]) -> String {
        let mut sources = SourceMap::default();
        let (body, faults) = hcl::parse(sources.add("docker-bake.hcl", text), text);
        assert!(faults.is_empty(), "{faults:?}");
        let overrides = sets.iter().map(|set| {
            let source = sources.add("--set", *set);
            Spanned::new((*set).to_owned(), Span { source, start: 0, end: u32::try_from(set.len()).expect("short") })
        });
        let input = Input {
            overrides: overrides.collect(),
            names: names.iter().map(|it| (*it).to_owned()).collect(),
            ..Input::default()
        };
        let definition = Definition { files: vec![body], ..Definition::default() };
        let (evaluated, diagnostics) = evaluate(&definition, &input, "linux/amd64");
        let errors: Vec<&str> = diagnostics.iter().filter(|it| it.is_error()).map(|it| it.message.as_str()).collect();
        if !errors.is_empty() {
            return errors.join("; ");
        }
        let json = PrintPlan::new(&evaluated).to_json();
        let value: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        let targets = value["target"].as_object().expect("an object");
        targets.iter().map(|(name, it)| format!("{name}{it}")).collect::<Vec<_>>().join(" ").replace('"', "")
    }

    /// For tests of what comes after evaluation.
    pub(crate) fn evaluated(text: &str, names: &[&str]) -> Evaluation {
        let mut sources = SourceMap::default();
        let (body, _) = hcl::parse(sources.add("docker-bake.hcl", text), text);
        let input = Input { names: names.iter().map(|it| (*it).to_owned()).collect(), ..Input::default() };
        evaluate(&Definition { files: vec![body], ..Definition::default() }, &input, "linux/amd64").0
    }

    const PLAIN: &str = "context:.,dockerfile:Dockerfile";

    #[test]
    fn children_win_over_parents_and_later_parents_over_earlier() {
        let text = r#"
            target "a" {
              args = { X = "a", A = "a" }
              tags = ["a"]
            }
            target "b" {
              args = { X = "b" }
            }
            target "c" {
              inherits = ["a", "b"]
              args = { A = null }
              tags = []
            }"#;
        assert_eq!(check(text, &["c"], &[]), format!("c{{{PLAIN},args:{{A:a,X:b}}}}"));
    }

    #[test]
    fn circles_are_told_with_every_step() {
        let inherits = r#"
            target "a" { inherits = ["b"] }
            target "b" { inherits = ["a"] }"#;
        assert_eq!(check(inherits, &["a"], &[]), "targets inherit from each other in a circle: a → b → a");
        let groups = r#"
            group "a" { targets = ["b"] }
            group "b" { targets = ["a"] }"#;
        assert_eq!(check(groups, &["a"], &[]), "groups contain each other in a circle: a → b → a");
        let links = r#"
            target "a" { contexts = { x = "target:b" } }
            target "b" { contexts = { x = "target:a" } }"#;
        assert_eq!(check(links, &["a"], &[]), "targets use each other as contexts in a circle: a → b → a");
        let own = r#"target "a" { contexts = { x = "target:a" } }"#;
        assert_eq!(check(own, &["a"], &[]), "target `a` uses itself as a context: a → a");
    }

    #[test]
    fn linked_targets_write_nothing_and_give_their_entitlements() {
        let text = r#"
            target "a" {
              network = "host"
              output = ["out"]
            }
            target "b" { contexts = { x = "target:a" } }"#;
        let expected = format!(
            "a{{{PLAIN},output:[{{type:cacheonly}}],network:host,entitlements:[network.host]}} \
             b{{context:.,contexts:{{x:target:a}},dockerfile:Dockerfile,entitlements:[network.host]}}"
        );
        assert_eq!(check(text, &["b"], &[]), expected);
    }

    #[test]
    fn a_chain_of_any_length_is_resolved() {
        let mut text = "target \"t0\" { args = { A = \"x\" } }\n".to_owned();
        for ix in 1..20_000 {
            writeln!(text, "target \"t{ix}\" {{ inherits = [\"t{}\"] }}", ix - 1).expect("a string takes all");
        }
        assert_eq!(check(&text, &["t19999"], &[]), format!("t19999{{{PLAIN},args:{{A:x}}}}"));
    }

    #[test]
    fn overrides_follow_their_grammar() {
        let text = r#"
            target "app" {
              tags = ["a:1"]
              secret = ["id=s,env=S"]
            }
            target "other" {}"#;
        let app = |set: &str| check(text, &["app"], &[set]);
        let rest = "secret:[{id:s,env:S}]";
        assert_eq!(app("app.tags+=b:1"), format!("app{{{PLAIN},tags:[a:1,b:1],{rest}}}"));
        assert_eq!(app("*.args.a.b=c=d"), format!("app{{{PLAIN},args:{{a.b:c=d}},tags:[a:1],{rest}}}"));
        assert_eq!(app("app.secret.s=src=f"), format!("app{{{PLAIN},tags:[a:1],secret:[{{id:s,src:f}}]}}"));
        assert_eq!(app("app.network=none"), format!("app{{{PLAIN},tags:[a:1],{rest},network:none}}"));
        assert_eq!(app("app.secret.t=src=f"), "target `app` declares no secret of this id: t");
        assert_eq!(app("app.platforms=linux/arm64"), "`--set` has no key `platforms`: app.platforms=linux/arm64");
        assert_eq!(app("app.args=1"), "`--set` wants a name after `args`: app.args=1");
        assert_eq!(app("ap.tags=x"), "no target matches `--set`: ap");
        assert_eq!(app("app"), "`--set` wants a target and a key: app");
        assert_eq!(app("app.pull=perhaps"), "`pull` of `--set`: not a boolean: perhaps");
    }

    #[test]
    fn output_is_set_before_push_and_load() {
        let text = r#"target "a" {}"#;
        let sets = ["*.push=true", "*.load=true", "a.output=type=image,name=q"];
        assert_eq!(
            check(text, &["a"], &sets),
            format!("a{{{PLAIN},output:[{{name:q,push:true,type:image}},{{type:docker}}]}}")
        );
    }

    #[test]
    fn wrong_values_name_attribute_and_place_in_it() {
        let wrong = |line: &str| check(&format!("target \"a\" {{ {line} }}"), &["a"], &[]);
        assert_eq!(wrong("tags = \"x\""), "`tags` of target `a` must be a list of strings, but is: string");
        assert_eq!(wrong("tags = [[1]]"), "`tags[0]` of target `a` must be a string, but is: tuple");
        assert_eq!(wrong("args = { X = {} }"), "`args.X` of target `a` must be a string, but is: object");
        assert_eq!(wrong("output = [{}]"), "`output[0]` of target `a`: `type` is missing");
        assert_eq!(wrong("pull = \"maybe\""), "`pull` of target `a` must be a bool, not the string: maybe");
        assert_eq!(
            wrong("ulimits = [\"nofile=2:1\"]"),
            "`ulimits[0]` of target `a`: the soft limit 2 is over the hard limit 1: nofile=2:1"
        );
    }
}
