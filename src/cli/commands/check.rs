//! `bake check`: what is wrong with the definition and the Dockerfiles of all targets, in one run. Nothing is built, no
//! registry is asked, no state directory is needed.
//!
//! It does not check what a build needs of this machine (secrets, ssh agents, grants).

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::Arc,
};

use indexmap::{IndexMap, IndexSet};
use serde_json::{Value, json};

use super::{build, call};
use crate::{
    cli::{FAILED, OK, args::CheckFormat, definition, entitlements, settings::Settings, write_json},
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
    plan::{make::make, need::needs},
    report::{Diagnostic, Severity, SourceId, SourceMap, Span},
    ui::output,
};

/// Codes of faults of targets that are built together and write to one destination.
const OF_ONE_BUILD: [&str; 2] = ["bake::plan::same_dest", "bake::plan::shared_directory"];

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
            output::hide(hidden);
            let faults = diagnostics.into_iter().chain(unneeded_faults);
            findings.of_definition(faults.filter(|_| is_whole).collect(), &read.definition);
            return show(settings, format, findings, &read.sources, &Counts::default());
        }
        read.input.names = all.into_iter().map(|it| it.name.to_string()).collect();
    }
    let (mut evaluated, faults) = evaluate(&read.definition, &read.input, &host.to_string());
    output::hide(evaluated.hidden.clone());
    let told: HashSet<Span> =
        faults.iter().filter(|it| it.is_error()).filter_map(|it| it.labels.first()).map(|label| label.at).collect();
    // The fault of such a target was reported already.
    evaluated.targets.retain(|_, it| !torn.contains(&it.at) && !it.places().any(|at| told.contains(&at)));
    let (plan, mut unplanned) = make(&evaluated, &host, &settings.cwd);
    if settings.names.is_empty() {
        unplanned.retain(|it| !OF_ONE_BUILD.contains(&it.code));
        unplanned.extend(conflicts(&evaluated, &host, &settings.cwd));
    }
    if is_whole {
        findings.of_definition(faults, &read.definition);
        findings.of_definition(unplanned, &read.definition);
    }
    let of_definition: HashSet<SourceId> = read.sources.ids().collect();
    let needs = needs(&plan, |name| settings.env.contains_key(name));
    let paths = entitlements::handles(&needs, &evaluated.grants, &read.from_remote, settings);
    let contexts = Contexts::new(settings.cwd.clone(), paths, read.sources);
    let looked = engine::check::check(&plan, &contexts).await;
    let counts = Counts { targets: evaluated.targets.len(), files: contexts.n_dockerfiles(), unseen: looked.unseen };
    for (diagnostic, targets) in looked.findings {
        let place = diagnostic.labels.first().map(|label| label.at.source);
        if !is_whole && place.is_none_or(|it| of_definition.contains(&it)) {
            continue;
        }
        findings.add(diagnostic, targets.iter().map(ToString::to_string));
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
    let mut bad: HashSet<Arc<str>> = places.filter_map(|it| target_at(definition, it.at)).collect();
    let all: HashSet<Arc<str>> = targets().filter_map(label).collect();
    let inherits_well = |block: &Block, bad: &HashSet<Arc<str>>| match block.body.attribute("inherits") {
        None => true,
        Some(AttributeSyntax { expr: Expr { kind: ExprKind::Tuple(parents), .. }, .. }) => parents
            .iter()
            .all(|it| matches!(&it.kind, ExprKind::String(name) if all.contains(name) && !bad.contains(name))),
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

/// Faults of outputs that write to one destination when a group, or a target with several outputs, is built.
fn conflicts(evaluated: &Evaluation, host: &Platform, cwd: &Path) -> Vec<Diagnostic> {
    let alone = evaluated.targets.keys().map(|it| vec![it.clone()]);
    let groups = evaluated.groups.keys().map(|it| members(evaluated, it));
    let mut faults = Vec::new();
    for names in alone.chain(groups) {
        let targets: IndexMap<TargetName, Target> =
            names.into_iter().filter_map(|name| evaluated.targets.get(&name).map(|it| (name, it.clone()))).collect();
        let (_, found) = make(&Evaluation { targets, ..Evaluation::default() }, host, cwd);
        faults.extend(found.into_iter().filter(|it| OF_ONE_BUILD.contains(&it.code)));
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

/// All faults, each once, and the targets that have them.
#[derive(Default)]
struct Findings {
    all: Vec<(Diagnostic, IndexSet<String>)>,
    seen: HashMap<(&'static str, String, Option<Span>), usize>,
}

impl Findings {
    fn add(&mut self, diagnostic: Diagnostic, targets: impl Iterator<Item = String>) {
        let place = diagnostic.labels.first().map(|label| label.at);
        let next = self.all.len();
        let ix = *self.seen.entry((diagnostic.code, diagnostic.message.clone(), place)).or_insert(next);
        if ix == next {
            self.all.push((diagnostic, IndexSet::new()));
        }
        self.all[ix].1.extend(targets);
    }

    /// Puts the targets of each fault into the order of the definition.
    fn order_targets(&mut self, evaluated: &Evaluation) {
        for (_, targets) in &mut self.all {
            targets.sort_by_cached_key(|name| evaluated.targets.get_index_of(&TargetName(name.as_str().into())));
        }
    }

    /// Adds faults of the definition: they belong to the target in whose block they are.
    fn of_definition(&mut self, faults: Vec<Diagnostic>, definition: &Definition) {
        for fault in faults {
            let target = fault.labels.first().and_then(|label| target_at(definition, label.at));
            self.add(fault, target.iter().map(ToString::to_string));
        }
    }

    fn has_errors(&self) -> bool {
        self.all.iter().any(|(it, _)| it.is_error())
    }
}

/// The label of the target block that a place lies in.
fn target_at(definition: &Definition, at: Span) -> Option<Arc<str>> {
    let holds = |outer: Span| outer.source == at.source && outer.start <= at.start && at.end <= outer.end;
    let is_it = |block: &&Block| &*block.kind.value == "target" && (holds(block.at) || holds(block.body.at));
    let block = definition.all_bodies().flat_map(|body| &body.blocks).find(is_it)?;
    block.labels.first().map(|label| label.value.clone())
}

/// Shows the findings by file and place; the exit code.
fn show(settings: &Settings, format: CheckFormat, mut findings: Findings, sources: &SourceMap, counts: &Counts) -> u8 {
    if settings.strict {
        findings.all.iter_mut().for_each(|(it, _)| it.severity = Severity::Error);
    }
    findings.all.sort_by_cached_key(|(it, _)| {
        let place = it.labels.first().map(|label| (sources.get(label.at.source).name.clone(), label.at.start));
        (place, it.code, it.message.clone())
    });
    let written = match format {
        CheckFormat::Json => {
            let all: Vec<Value> = findings.all.iter().map(|(it, targets)| entry(it, targets, sources)).collect();
            write_json(&format!("{:#}\n", Value::Array(all)))
        }
        CheckFormat::Text => {
            for (finding, _) in &findings.all {
                output::diagnostics(&[call::explained(finding)], sources, settings.color);
            }
            output::words(&summary(&findings, counts));
            OK
        }
    };
    if !counts.unseen.is_empty() {
        let names: Vec<String> = counts.unseen.iter().map(ToString::to_string).collect();
        output::words(&format!("not looked at, the Dockerfile is fetched by the build: {}\n", names.join(", ")));
    }
    if findings.has_errors() { FAILED } else { written }
}

/// One finding for machines; lines and columns count from 1, in characters.
fn entry(it: &Diagnostic, targets: &IndexSet<String>, sources: &SourceMap) -> Value {
    let place = it.labels.first().map(|label| {
        let end = Span { start: label.at.end, ..label.at };
        (sources.get(label.at.source).name.to_string(), sources.line_column(label.at), sources.line_column(end))
    });
    json!({
        "code": it.code,
        "severity": if it.is_error() { "error" } else { "warning" },
        "message": it.to_string(),
        "file": place.as_ref().map(|(file, ..)| file),
        "line": place.as_ref().map(|(_, start, _)| start.0),
        "column": place.as_ref().map(|(_, start, _)| start.1),
        "endLine": place.as_ref().map(|(.., end)| end.0),
        "endColumn": place.as_ref().map(|(.., end)| end.1),
        "help": call::explained(it).help,
        "targets": targets,
    })
}

fn summary(findings: &Findings, counts: &Counts) -> String {
    let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let n_errors = findings.all.iter().filter(|(it, _)| it.is_error()).count();
    let n_warnings = findings.all.len() - n_errors;
    let looked = format!("checked {}, {}", count(counts.targets, "target"), count(counts.files, "Dockerfile"));
    match (n_errors, n_warnings) {
        (0, 0) => format!("{looked}: all is well\n"),
        (0, n) => format!("{looked}: {}\n", count(n, "warning")),
        (n, 0) => format!("{looked}: {}\n", count(n, "error")),
        (errors, warnings) => format!("{looked}: {}, {}\n", count(errors, "error"), count(warnings, "warning")),
    }
}
