//! From a definition to the targets that were asked for: evaluates every block, then resolves what is needed.
//!
//! A fault in any block is a fault of the definition, whether the block is needed or not; options that only a used
//! target must have right are checked for the targets of the plan.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use indexmap::{IndexMap, IndexSet};

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
        let told = scope.faults(|_| true);
        blocks.is_incomplete = blocks.diagnostics.iter().chain(&told).any(Diagnostic::is_error);
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
        blocks.diagnostics.extend(scope.faults(|_| true));
        blocks
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
                Ok(Some(Field::Texts(texts))) => {
                    let members: IndexSet<Arc<str>> = texts.iter().cloned().collect();
                    Some((members.into_iter().collect(), it.at))
                }
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
            fill_in(
                &mut fields,
                at,
                self.folder(at.source),
                input.remote.as_deref(),
                input.source_date_epoch.as_deref(),
            );
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

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{
        definition::hcl,
        eval::print::PrintPlan,
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
        let definition = Definition { files: vec![body], compose: None };
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
    pub(crate) fn evaluated(text: &str, names: &[&str]) -> Evaluated {
        let mut sources = SourceMap::default();
        let (body, _) = hcl::parse(sources.add("docker-bake.hcl", text), text);
        let input = Input { names: names.iter().map(|it| (*it).to_owned()).collect(), ..Input::default() };
        evaluate(&Definition { files: vec![body], compose: None }, &input, "linux/amd64").0
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
            text.push_str(&format!("target \"t{ix}\" {{ inherits = [\"t{}\"] }}\n", ix - 1));
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
