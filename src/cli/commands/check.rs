//! `bake check`: what is wrong with the definition and the Dockerfiles of all targets, in one run. Nothing is built, no
//! registry is asked, no state directory is needed.
//!
//! It does not check what a build needs of this machine (secrets, ssh agents, grants).

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::Arc,
};

use indexmap::IndexMap;
use petgraph::{Direction, graph::NodeIndex};
use serde_json::Value;

use super::build;
use crate::{
    cli::{
        args::CheckFormat,
        definition, entitlements,
        exit::{FAILED, OK, write_json},
        settings::Settings,
    },
    definition::{
        load::Definition,
        syntax::{AttributeSyntax, Block, Expr, ExprKind},
    },
    engine::{self, context::Contexts},
    eval::{
        evaluate::{Listed, evaluate, list_targets},
        evaluation::Evaluation,
        target::typed::{Target, TargetName},
    },
    oci::Platform,
    plan::{
        Plan, PlanLink, TargetNodes,
        make::{PlanInput, make},
        need::needs,
    },
    report::{Diagnostic, Severity, SourceId, SourceMap, Span, fold::some_of},
    ui::{machine, masking, output, report as ui_report},
};

/// Checks the targets that were named, or all of them.
pub(crate) fn run(settings: &Settings, format: CheckFormat) -> u8 {
    build::on_runtime(settings, check(settings, format))
}

async fn check(settings: &Settings, format: CheckFormat) -> u8 {
    let (mut read, faults) = definition::load(settings);
    let mut findings = Findings::default();
    // If a part of the definition could not be parsed, only Dockerfiles of targets that were parsed as a whole are checked.
    let is_whole = !faults.iter().any(Diagnostic::is_error);
    let torn = torn(&read.definition, &faults);
    findings.of_definition(faults, &read.definition);
    let host = Platform::host();
    if settings.names.is_empty() {
        let Listed { all, diagnostics, unneeded_faults, hidden } =
            list_targets(&read.definition, &read.input, &host.to_string());
        if all.is_empty() {
            masking::hide(hidden);
            let faults = diagnostics.into_iter().chain(unneeded_faults);
            findings.of_definition(faults.filter(|_| is_whole).collect(), &read.definition);
            return show(settings, format, findings, &read.sources, &Counts::default());
        }
        read.input.names = all.into_iter().map(|it| it.name.to_string()).collect();
    }
    let (mut evaluated, faults) = evaluate(&read.definition, &read.input, &host.to_string());
    masking::hide(evaluated.hidden.clone());
    let told: HashSet<Span> =
        faults.iter().filter(|it| it.is_error()).filter_map(|it| it.labels.first()).map(|label| label.at).collect();
    // The fault of such a target was reported already.
    evaluated.targets.retain(|_, it| !torn.contains(&it.at) && !it.places().any(|at| told.contains(&at)));
    let (plan, mut unplanned) = make(&evaluated, definition::plan_input(settings, &host));
    let mut plan = plan;
    if settings.names.is_empty() {
        // Not all targets are built together.
        unplanned.conflicts = conflicts(&evaluated, definition::plan_input(settings, &host));
        plan = without_templates(plan, &templates(&read.definition), &settings.cwd);
    }
    if is_whole {
        findings.of_definition(faults, &read.definition);
        findings.of_definition(unplanned.into_all(), &read.definition);
    }
    let of_definition: HashSet<SourceId> = read.sources.ids().collect();
    let needs = needs(&plan, |name| settings.env.contains_key(name));
    let paths = entitlements::handles(&needs, &evaluated.grants, &read.from_remote, settings);
    let contexts = Contexts::new(settings.cwd.clone(), paths, read.sources);
    let looked = engine::check::check(&plan, &contexts).await;
    let counts = Counts { targets: evaluated.targets.len(), files: contexts.n_dockerfiles(), unseen: looked.unseen };
    for diagnostic in looked.findings {
        let place = diagnostic.labels.first().map(|label| label.at.source);
        if is_whole || place.is_some_and(|it| !of_definition.contains(&it)) {
            findings.add(diagnostic);
        }
    }
    findings.order_targets(&evaluated);
    show(settings, format, findings, &contexts.sources(), &counts)
}

/// The labels of the target blocks that have faults, or that inherit from a target which has faults or does not exist.
fn torn(definition: &Definition, faults: &[Diagnostic]) -> HashSet<Span> {
    let targets = || definition.all_bodies().flat_map(|body| &body.blocks).filter(|it| &*it.kind.value == "target");
    let label = |block: &Block| block.labels.first().map(|it| it.value.clone());
    if !faults.iter().any(Diagnostic::is_error) {
        return HashSet::new();
    }
    let places = faults.iter().filter(|it| it.is_error()).flat_map(|it| &it.labels);
    let mut bad: HashSet<Arc<str>> = places.filter_map(|it| definition.target_at(it.at)).collect();
    let all: HashSet<Arc<str>> = targets().filter_map(label).collect();
    let inherits_well = |block: &Block, bad: &HashSet<Arc<str>>| match block.body.attribute("inherits") {
        None => true,
        Some(AttributeSyntax { expr: Expr { kind: ExprKind::Tuple(parents), .. }, .. }) => parents
            .iter()
            .all(|parent| matches!(&parent.kind, ExprKind::String(name) if all.contains(name) && !bad.contains(name))),
        Some(_) => false,
    };
    loop {
        let n_bad = bad.len();
        for block in targets() {
            if !inherits_well(block, &bad) {
                bad.extend(label(block));
            }
        }
        if bad.len() == n_bad {
            break;
        }
    }
    targets().filter_map(|it| it.labels.first()).filter(|it| bad.contains(&it.value)).map(|it| it.at).collect()
}

/// The targets that others inherit from and that nobody asks to build by name: not `default`, in no group.
///
/// Names are read where they are written as texts. Where a group computes its members, nothing is taken for a template.
pub(crate) fn templates(definition: &Definition) -> HashSet<Arc<str>> {
    let mut inherited = HashSet::new();
    let mut built: HashSet<Arc<str>> = HashSet::from(["default".into()]);
    for block in definition.all_bodies().flat_map(|body| &body.blocks) {
        let (attribute, names) = match &*block.kind.value {
            "target" => ("inherits", &mut inherited),
            "group" => ("targets", &mut built),
            _ => continue,
        };
        let Some(AttributeSyntax { expr: Expr { kind, .. }, .. }) = block.body.attribute(attribute) else { continue };
        let ExprKind::Tuple(items) = kind else {
            if attribute == "targets" {
                return HashSet::new();
            }
            continue;
        };
        for item in items {
            match &item.kind {
                ExprKind::String(name) => {
                    names.insert(name.clone());
                }
                _ if attribute == "targets" => return HashSet::new(),
                _ => (),
            }
        }
    }
    inherited.retain(|name| !built.contains(name));
    inherited
}

/// Leaves those of `templates` out of a plan that have no Dockerfile on this machine and that no other target reads: a base
/// to inherit from needs none.
pub(crate) fn without_templates(plan: Plan, templates: &HashSet<Arc<str>>, cwd: &Path) -> Plan {
    let is_there = |path: &String| cwd.join(path).exists();
    let is_built = |node: &NodeIndex| {
        let build = plan.build(*node);
        let is_read = || {
            let mut links = plan.graph.edges_directed(*node, Direction::Outgoing);
            links.any(|edge| matches!(edge.weight(), PlanLink::Context { .. }))
        };
        let paths = [build.dockerfile_path(), build.optional_files().lower_case];
        build.dockerfile_path().is_none() || paths.iter().flatten().any(is_there) || is_read()
    };
    let is_wanted =
        |name: &TargetName, nodes: &TargetNodes| !templates.contains(&name.0) || nodes.builds.iter().any(is_built);
    let wanted: Vec<&TargetName> =
        plan.targets.iter().filter(|(name, nodes)| is_wanted(name, nodes)).map(|(name, _)| name).collect();
    if wanted.len() < plan.targets.len() { plan.only(&wanted) } else { plan }
}

/// Faults of outputs that write to one destination when a group, or a target with several outputs, is built.
fn conflicts(evaluated: &Evaluation, input: PlanInput<'_>) -> Vec<Diagnostic> {
    let alone = evaluated.targets.keys().map(|it| vec![it.clone()]);
    let groups = evaluated.groups.keys().map(|it| members(evaluated, it));
    let mut faults = Vec::new();
    for names in alone.chain(groups) {
        let targets: IndexMap<TargetName, Target> =
            names.into_iter().filter_map(|name| evaluated.targets.get(&name).map(|it| (name, it.clone()))).collect();
        let (_, found) = make(&Evaluation { targets, ..Evaluation::default() }, input);
        faults.extend(found.conflicts);
    }
    faults
}

/// The targets of a group and of the groups in it.
fn members(evaluated: &Evaluation, group: &str) -> Vec<TargetName> {
    let (mut open, mut seen, mut found) = (vec![group], HashSet::new(), Vec::new());
    while let Some(name) = open.pop() {
        if !seen.insert(name) {
            continue;
        }
        match evaluated.groups.get(name) {
            Some(group) => open.extend(group.members.iter().rev().map(|it| &**it)),
            None => found.push(TargetName(name.into())),
        }
    }
    found
}

/// How much was checked.
#[derive(Default)]
struct Counts {
    targets: usize,
    files: usize,
    unseen: Vec<TargetName>,
}

/// All faults, each once with all targets that have it.
#[derive(Default)]
struct Findings {
    all: Vec<Diagnostic>,
    seen: HashMap<(&'static str, String, Option<Span>), usize>,
}

impl Findings {
    fn add(&mut self, diagnostic: Diagnostic) {
        let place = diagnostic.labels.first().map(|label| label.at);
        let ix = *self.seen.entry((diagnostic.code, diagnostic.message.clone(), place)).or_insert(self.all.len());
        match self.all.get_mut(ix) {
            Some(first) => first.targets.extend(diagnostic.targets),
            None => self.all.push(diagnostic),
        }
    }

    /// Puts the targets of each fault into the order of the definition.
    fn order_targets(&mut self, evaluated: &Evaluation) {
        for finding in &mut self.all {
            let place = |name: &Arc<str>| evaluated.targets.get_index_of(&TargetName(name.clone()));
            finding.targets.sort_by_cached_key(|name| place(name));
        }
    }

    /// Adds faults of the definition: they belong to the target in whose block they are.
    fn of_definition(&mut self, faults: Vec<Diagnostic>, definition: &Definition) {
        for fault in faults {
            let at = fault.labels.first().map(|label| label.at);
            let target = at.filter(|_| fault.targets.is_empty()).and_then(|at| definition.target_at(at));
            self.add(fault.of(target));
        }
    }

    fn has_errors(&self) -> bool {
        self.all.iter().any(Diagnostic::is_error)
    }
}

/// Shows the findings by file and place; the exit code.
fn show(settings: &Settings, format: CheckFormat, mut findings: Findings, sources: &SourceMap, counts: &Counts) -> u8 {
    if settings.strict {
        findings.all.iter_mut().for_each(|it| it.severity = Severity::Error);
    }
    findings.all.sort_by_cached_key(|it| {
        let place = it.labels.first().map(|label| (sources.get(label.at.source).name.clone(), label.at.start));
        (place, it.code, it.message.clone())
    });
    let written = match format {
        CheckFormat::Json => {
            ui_report::record(&findings.all, sources);
            let all: Vec<Value> = findings.all.iter().map(|it| machine::entry(it, sources)).collect();
            write_json(&format!("{:#}\n", Value::Array(all)))
        }
        CheckFormat::Text => {
            output::all_diagnostics(&findings.all, sources, settings.color);
            output::words(&summary(&findings, counts));
            OK
        }
    };
    if !counts.unseen.is_empty() {
        let names = some_of(counts.unseen.iter().map(|name| &*name.0));
        output::words(&format!("not looked at, the Dockerfile is fetched by the build: {names}\n"));
    }
    if findings.has_errors() { FAILED } else { written }
}

fn summary(findings: &Findings, counts: &Counts) -> String {
    let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let n_errors = findings.all.iter().filter(|it| it.is_error()).count();
    let n_warnings = findings.all.len() - n_errors;
    let looked = format!("checked {}, {}", count(counts.targets, "target"), count(counts.files, "Dockerfile"));
    match (n_errors, n_warnings) {
        (0, 0) => format!("{looked}: all is well\n"),
        (0, n) => format!("{looked}: {}\n", count(n, "warning")),
        (n, 0) => format!("{looked}: {}\n", count(n, "error")),
        (errors, warnings) => format!("{looked}: {}, {}\n", count(errors, "error"), count(warnings, "warning")),
    }
}
