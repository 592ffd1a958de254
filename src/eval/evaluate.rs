//! From a definition to the targets that were asked for: evaluates every block, then resolves what is needed.
//!
//! A fault in any block is a fault of the definition, whether the block is needed or not; options that only a used
//! target must have right are checked for the targets of the plan.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use indexmap::IndexMap;

use super::{
    Evaluated,
    block::{Expanded, is_valid_name},
    field::{self, Field, Fields, Misfit},
    group::{Group, Names},
    inherit::{Own, Resolver},
    input::Input,
    link::{self, Resolved},
    list::{ListedTarget, ListedVariable, group_description},
    overrides::Overrides,
    scope::Scope,
    target::{Target, TargetName, fill_in},
    unknown,
    value::Value,
};
use crate::{
    definition::{
        attribute::{self, Attribute, GROUP_TARGETS, Id},
        load::Definition,
        syntax::{Body, Expr, ExprKind},
    },
    report::{Diagnostic, SourceId, Span, suggest},
    spec::context::{self, Context},
};

/// Evaluates a definition and resolves what `input.names` ask for. With errors among the diagnostics the result is not
/// to be used.
pub(crate) fn evaluate(definition: &Definition, input: &Input, local_platform: &str) -> (Evaluated, Vec<Diagnostic>) {
    let bodies: Vec<&Body> = definition.bodies().collect();
    let scope = Scope::new(&bodies, input, local_platform);
    let mut blocks = Blocks::new(&scope, &bodies, definition.compose.is_some());
    let evaluated = if blocks.is_incomplete { Evaluated::default() } else { blocks.resolve(input) };
    (evaluated, blocks.diagnostics)
}

/// All targets and groups, for `--list`.
pub(crate) fn list_targets(
    definition: &Definition,
    input: &Input,
    local_platform: &str,
) -> (Vec<ListedTarget>, Vec<Diagnostic>) {
    let bodies: Vec<&Body> = definition.bodies().collect();
    let scope = Scope::new(&bodies, input, local_platform);
    let blocks = Blocks::new(&scope, &bodies, definition.compose.is_some());
    let targets = blocks.own.iter().map(|it| ListedTarget {
        name: it.name.clone(),
        description: it.fields.text(Id::Description).map(ToString::to_string).unwrap_or_default(),
        is_group: false,
    });
    let groups = blocks.groups.values().map(|it| ListedTarget {
        name: it.name.clone(),
        description: group_description(it.description.as_deref(), &it.members),
        is_group: true,
    });
    (targets.chain(groups).collect(), blocks.diagnostics)
}

/// All variables with their final values, for `--list`.
pub(crate) fn list_variables(
    definition: &Definition,
    input: &Input,
    local_platform: &str,
) -> (Vec<ListedVariable>, Vec<Diagnostic>) {
    let bodies: Vec<&Body> = definition.bodies().collect();
    let scope = Scope::new(&bodies, input, local_platform);
    let blocks = Blocks::new(&scope, &bodies, definition.compose.is_some());
    let listed = scope.variables().into_iter().map(|it| ListedVariable {
        name: it.name,
        description: it.description.map(|it| it.to_string()).unwrap_or_default(),
        type_name: it.ty.as_ref().map(ToString::to_string).unwrap_or_default(),
        value: match &it.value {
            Value::Null(_) => None,
            _ if it.sensitive => Some("***".to_owned()),
            value => Some(value.to_text().map_or_else(|| value.to_json_text(true), |text| text.to_string())),
        },
    });
    (listed.collect(), blocks.diagnostics)
}

/// All blocks, evaluated and merged by name.
struct Blocks<'s, 'a> {
    scope: &'s Scope<'a>,
    own: Vec<Own>,
    groups: IndexMap<Arc<str>, Group>,
    /// Names are missing because a matrix is broken: looking for names would only give follow-up faults.
    is_incomplete: bool,
    diagnostics: Vec<Diagnostic>,
}

impl<'s, 'a> Blocks<'s, 'a> {
    fn new(scope: &'s Scope<'a>, bodies: &[&Body], has_compose: bool) -> Self {
        let mut blocks =
            Self { scope, own: Vec::new(), groups: IndexMap::new(), is_incomplete: false, diagnostics: Vec::new() };
        bodies.iter().for_each(|body| unknown::check(body, &mut blocks.diagnostics));
        if !has_compose {
            blocks.unknown_vars();
        }
        let expanded = scope.expanded();
        blocks.take_faults();
        blocks.is_incomplete = blocks.diagnostics.iter().any(Diagnostic::is_error);
        let mut places: HashMap<Arc<str>, usize> = HashMap::with_capacity(expanded.len());
        for it in expanded {
            if it.is_target() {
                blocks.target(it, &mut places);
            } else {
                blocks.group(it);
            }
        }
        blocks.matrix_groups();
        scope.check();
        blocks.take_faults();
        blocks
    }

    fn take_faults(&mut self) {
        self.diagnostics.extend(self.scope.take_faults().into_iter().map(|it| it.diagnostic));
    }

    fn unknown_vars(&mut self) {
        for name in self.scope.input.vars.keys() {
            let declared = |name: &str| self.scope.is_variable(name);
            if declared(name) || name.strip_suffix("_JSON").is_some_and(declared) {
                continue;
            }
            let names: Vec<&str> = self.scope.declared().map(|(name, _)| &**name).collect();
            let help = suggest::did_you_mean(name, names.iter().copied())
                .unwrap_or_else(|| format!("declare it: variable \"{name}\" {{}}"));
            self.diagnostics.push(
                Diagnostic::warning(
                    "bake::eval::unknown_var",
                    format!("`--var` sets a variable that no file declares: {name}"),
                )
                .help(help),
            );
        }
    }

    fn bad_name(&mut self, kind: &str, name: &str, at: Span) -> bool {
        if is_valid_name(name) {
            return false;
        }
        self.diagnostics.push(
            Diagnostic::error("bake::eval::bad_name", format!("not a name for a {kind}: {name}"))
                .at(at, "this name")
                .help("names are made of letters, digits, _ and -"),
        );
        true
    }

    /// Adds a block to the target of its name.
    fn target(&mut self, expanded: &Expanded<'a>, places: &mut HashMap<Arc<str>, usize>) {
        let at = expanded.block.labels.first().map_or(expanded.block.at, |it| it.at);
        let is_bad = expanded.bindings.is_empty() && self.bad_name("target", &expanded.name, at);
        let mut fields = Fields::default();
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
            match self.decode(row, &format_args!("target `{}`", expanded.name), &found.value, found.at) {
                Ok(Some(field)) => {
                    let field = self.rebased(row, field, found.expr);
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
        &mut self,
        row: &Attribute,
        whose: &std::fmt::Arguments<'_>,
        value: &Value,
        at: Span,
    ) -> Result<Option<Field>, ()> {
        let mut warnings = Vec::new();
        let decoded = field::decode(row, value, &mut warnings);
        for it in warnings {
            self.diagnostics.push(misfit(row, whose, it, at, Diagnostic::warning));
        }
        decoded.map_err(|it| self.diagnostics.push(misfit(row, whose, it, at, Diagnostic::error)))
    }

    fn group(&mut self, expanded: &Expanded<'a>) {
        let name = &expanded.name;
        let body = &expanded.block.body;
        let label = expanded.block.labels.first().map_or(expanded.block.at, |it| it.at);
        self.bad_name("group", name, label);
        for refused in ["name", "matrix"] {
            if let Some(it) = body.attribute(refused) {
                self.diagnostics.push(
                    Diagnostic::error(
                        "bake::eval::group_with_matrix",
                        format!("group `{name}` cannot have: {refused}"),
                    )
                    .at(expanded.block.at, "a group")
                    .at(it.name.at, "only targets have this"),
                );
            }
        }
        let Ok(description) = self.scope.attribute(expanded, "description") else { return };
        let description = description.and_then(|it| it.value.to_text());
        let Ok(targets) = self.scope.attribute(expanded, "targets") else { return };
        let members = match targets {
            Some(it) => match self.decode(&GROUP_TARGETS, &format_args!("group `{name}`"), &it.value, it.at) {
                Ok(Some(Field::Texts(texts))) => Some((texts.to_vec(), it.at)),
                Ok(_) => None,
                Err(()) => return,
            },
            None => None,
        };
        let Some((members, at)) = members else {
            self.diagnostics.push(
                Diagnostic::error("bake::eval::group_without_targets", format!("group `{name}` has no `targets`"))
                    .at(expanded.block.at, "this group")
                    .help("write targets = [\"a\", \"b\"]"),
            );
            return;
        };
        // A later block of the name replaces an earlier one, in the earlier one's place.
        self.groups.insert(name.clone(), Group { name: name.clone(), description, members, at, is_matrix: false });
    }

    /// A matrix makes a group of the label of its block, unless there is a group of that name.
    fn matrix_groups(&mut self) {
        for (label, members) in self.scope.matrix_groups() {
            if self.groups.contains_key(label) {
                continue;
            }
            let block = self.scope.blocks.iter().find(|it| it.labels.first().is_some_and(|it| it.value == *label));
            let Some(at) = block.map(|it| it.at) else { continue };
            let group = Group { name: label.clone(), description: None, members: members.clone(), at, is_matrix: true };
            self.groups.insert(label.clone(), group);
        }
    }

    /// With file-relative paths: contexts joined to the folder of the file that sets them.
    fn rebased(&self, row: &Attribute, field: Field, expr: &Expr) -> Field {
        if self.scope.input.folders.is_empty() || !matches!(row.id, Id::Context | Id::Contexts) {
            return field;
        }
        let Some(folder) = self.folder(self.origin(expr)) else { return field };
        match field {
            Field::Text(text) => Field::Text(rebase(&text, folder)),
            Field::Entries(entries) => Field::Entries(Arc::new(
                entries.iter().map(|(key, value)| (key.clone(), value.as_ref().map(|it| rebase(it, folder)))).collect(),
            )),
            other => other,
        }
    }

    fn folder(&self, source: SourceId) -> Option<&'a str> {
        self.scope.input.folders.get(&source).map(String::as_str)
    }

    /// The file that a context comes from: that of the expression, or of the target whose context it is.
    fn origin(&self, expr: &Expr) -> SourceId {
        let mut expr = expr;
        const MAX_STEPS: usize = 100;
        for _ in 0..MAX_STEPS {
            let Some(name) = context_of(expr) else { break };
            let mut blocks = self.scope.expanded().iter().filter(|it| it.is_target() && it.name == *name);
            let Some(found) = blocks.find_map(|it| it.block.body.attribute("context")) else { break };
            expr = &found.expr;
        }
        expr.at.source
    }

    /// The targets that were asked for, and what they need.
    fn resolve(&mut self, input: &Input) -> Evaluated {
        let names: Vec<Arc<str>> = self.own.iter().map(|it| it.name.clone()).collect();
        let all = Names::new(&self.groups, &names);
        let members = |name: &str| all.members(name);
        let mut diagnostics = Vec::new();
        let selection = all.select(&input.names, &mut diagnostics);
        let overrides = Overrides::new(&input.overrides, &input.env, &names, &members, &mut diagnostics);
        let mut resolver = Resolver::new(&self.own, &overrides, &members);
        selection.targets.iter().for_each(|it| resolver.keep(it));
        let mut resolved: IndexMap<Arc<str>, Resolved> = IndexMap::new();
        for name in &selection.targets {
            if let Some(fields) = resolver.resolve(name, &mut diagnostics) {
                resolved.insert(name.clone(), Resolved { fields, is_linked: false });
            }
        }
        link::follow(&mut resolved, &mut resolver, &members, &mut diagnostics);
        let mut targets = IndexMap::with_capacity(resolved.len());
        for (name, it) in resolved {
            let at = resolver.own(&name).map(|it| it.at).expect("a resolved target has blocks");
            let mut fields = it.fields;
            fill_in(&mut fields, at, self.folder(at.source), input.source_date_epoch.as_deref());
            let target = Target::new(&name, at, it.is_linked, fields, &mut diagnostics);
            targets.insert(TargetName(name), target);
        }
        let groups =
            selection.groups.iter().filter_map(|name| self.groups.get(name).map(|it| (name.clone(), it.clone())));
        let evaluated =
            Evaluated { targets, groups: groups.collect(), arguments: selection.arguments, grants: overrides.grants() };
        self.diagnostics.extend(diagnostics);
        evaluated
    }
}

fn misfit(
    row: &Attribute,
    whose: &std::fmt::Arguments<'_>,
    misfit: Misfit,
    at: Span,
    make: fn(&'static str, String) -> Diagnostic,
) -> Diagnostic {
    let text = format!("`{}{}` of {whose}{}", row.name, misfit.path, misfit.message);
    let mut diagnostic = make("bake::eval::bad_value", text).at(at, "given here");
    diagnostic.help = misfit.help;
    diagnostic
}

/// The name in `target.NAME.context`, if that is the whole expression.
fn context_of(expr: &Expr) -> Option<&Arc<str>> {
    let ExprKind::Member { source, name } = &expr.kind else { return None };
    let ExprKind::Member { source: root, name: target } = &source.kind else { return None };
    let ExprKind::Variable(root) = &root.kind else { return None };
    (&**root == "target" && &*name.value == "context").then_some(&target.value)
}

fn rebase(text: &Arc<str>, folder: &str) -> Arc<str> {
    if text.is_empty() || text.starts_with('/') || !Context::is_local_path(text) {
        return text.clone();
    }
    let joined: Cow<'_, str> = if folder == "." { Cow::Borrowed(text) } else { Cow::Owned(format!("{folder}/{text}")) };
    context::clean(&joined).into()
}
