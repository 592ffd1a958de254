//! `bake --call`, `bake --check`: asks the Dockerfiles of a plan instead of building them. Answers are data and go to
//! standard output; faults go to standard error.

use std::collections::{BTreeMap, HashSet};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Map, Value, json};

use super::{build, metadata};
use crate::{
    cli::{
        definition::{self, Planned},
        exit::{FAILED, INTERRUPTED, OK, write_json, write_styled},
        settings::Settings,
    },
    dispatch::{interrupt::Interrupts, outcome::RunMetadata},
    engine::{
        call::{self, CallAnswer, CheckedDockerfile, method},
        context::Contexts,
    },
    eval::{
        evaluation::Evaluation,
        print::plan::PrintPlan,
        target::typed::{Target, TargetName},
    },
    plan::Plan,
    report::{Diagnostic, SourceId, SourceMap, Span},
    spec::call::Method,
    ui::{
        diagnostic::{DiagnosticLook, render},
        output,
        progress::ProgressView,
        report as ui_report,
        terminal::{harmless, harmless_lines},
    },
};

/// Whether a plan asks for something else than builds.
pub(crate) fn is_wanted(plan: &Plan) -> bool {
    plan.targets.values().any(|it| method(plan, it) != Method::Build)
}

/// Answers the calls of a plan, then builds what is to be built.
pub(crate) fn run(settings: &Settings, planned: Planned, interrupts: &mut Interrupts) -> u8 {
    let answered = build::on_runtime(settings, calls(settings, &planned, interrupts));
    let to_build: Vec<&TargetName> = planned
        .plan
        .targets
        .iter()
        .filter(|(_, it)| !it.is_linked && method(&planned.plan, it) == Method::Build)
        .map(|(name, _)| name)
        .collect();
    if to_build.is_empty() || answered == INTERRUPTED {
        return answered;
    }
    let plan = planned.plan.only(&to_build);
    let built = build::run(settings, Planned { plan, ..planned }, interrupts);
    if built == OK { answered } else { built }
}

async fn calls(settings: &Settings, planned: &Planned, interrupts: &mut Interrupts) -> u8 {
    let Planned { evaluated, plan, sources, paths, writable, secret_env, .. } = planned;
    let view = ProgressView::start(build::progress_mode(settings));
    let contexts = Contexts::new(settings.cwd.clone(), paths.clone(), sources.clone());
    let setup = match build::setup(settings, writable.clone(), secret_env, view.sink()) {
        Ok(setup) => setup,
        Err(fault) => {
            view.finish();
            return definition::check(settings, vec![*fault], sources).err().unwrap_or(FAILED);
        }
    };
    let world = setup.world();
    interrupts.listen();
    let answers = tokio::select! {
        answers = call::answer(plan, &world, &contexts) => Some(answers),
        () = interrupts.next() => None,
    };
    drop((world, setup));
    let Some(answers) = answers else {
        view.abandon();
        output::words("interrupted\n");
        return INTERRUPTED;
    };
    view.finish();
    let sources = contexts.sources();
    let results =
        answers.into_iter().map(|(name, answer)| Answered::new(settings, evaluated, plan, name, answer)).collect();
    show(settings, evaluated, results, &sources)
}

/// The answer of one target.
struct Answered<'a> {
    name: &'a TargetName,
    target: Option<&'a Target>,
    method: &'static str,
    json: bool,
    answer: Result<CallAnswer, Vec<Diagnostic>>,
    code: u8,
}

impl<'a> Answered<'a> {
    fn new(
        settings: &Settings,
        evaluated: &'a Evaluation,
        plan: &Plan,
        name: &'a TargetName,
        answer: Result<CallAnswer, Vec<Diagnostic>>,
    ) -> Self {
        let nodes = &plan.targets[name];
        let asked = nodes.builds.first().map(|node| plan.build(*node).call.clone()).unwrap_or_default();
        let ignored = settings.call.ignore_status || asked.ignore_status;
        let code = match &answer {
            Ok(CallAnswer::Check(it)) if it.findings.is_empty() && it.faults.is_empty() || ignored => OK,
            Ok(CallAnswer::Check(_)) | Err(_) => FAILED,
            Ok(_) => OK,
        };
        let method = match asked.method {
            Method::Build => "build",
            Method::Check => "check",
            Method::Outline => "outline",
            Method::Targets => "targets",
        };
        Self { name, target: evaluated.targets.get(name), method, json: settings.call.json || asked.json, answer, code }
    }

    /// Diagnostics for standard error: they are not part of the answer, or say more than the answer does.
    fn diagnostics(&self) -> &[Diagnostic] {
        match &self.answer {
            Ok(CallAnswer::Check(it)) if it.faults.is_empty() => &it.notes,
            Ok(CallAnswer::Check(it)) => &it.faults,
            Ok(_) => &[],
            Err(faults) => faults,
        }
    }

    /// What the checks found, with the target that they looked at.
    fn findings(&self) -> Vec<Diagnostic> {
        match &self.answer {
            Ok(CallAnswer::Check(checked)) => {
                checked.findings.iter().map(|it| it.explained().of([self.name.0.clone()])).collect()
            }
            Ok(CallAnswer::Outline(_) | CallAnswer::Targets(_)) | Err(_) => Vec::new(),
        }
    }

    fn to_text(&self, sources: &SourceMap, look: DiagnosticLook) -> String {
        match &self.answer {
            Ok(CallAnswer::Check(it)) => checked_text(it, sources, look),
            Ok(CallAnswer::Outline(it)) => output::fit_for_stdout(&it.to_text()).into_owned(),
            Ok(CallAnswer::Targets(it)) => output::fit_for_stdout(&it.to_text()).into_owned(),
            Err(faults) => faults.iter().map(|fault| format!("error: {}\n", harmless(&fault.to_string()))).collect(),
        }
    }

    fn to_json(&self, sources: &SourceMap) -> Value {
        match &self.answer {
            Ok(CallAnswer::Check(it)) => checked_json(it, sources),
            Ok(CallAnswer::Outline(it)) => serde_json::to_value(it).expect("outlines are plain data"),
            Ok(CallAnswer::Targets(it)) => serde_json::to_value(it).expect("targets are plain data"),
            Err(_) => Value::Null,
        }
    }
}

fn show(settings: &Settings, evaluated: &Evaluation, results: Vec<Answered<'_>>, sources: &SourceMap) -> u8 {
    let mut seen = HashSet::new();
    let mut diagnostics: Vec<Diagnostic> = results.iter().flat_map(|it| it.diagnostics().iter().cloned()).collect();
    diagnostics.retain(|diagnostic| {
        seen.insert((diagnostic.code, diagnostic.message.clone(), diagnostic.labels.first().map(|label| label.at)))
    });
    output::diagnostics(&diagnostics, sources, settings.color);
    // The answer has these in a form of its own.
    ui_report::record(&results.iter().flat_map(Answered::findings).collect::<Vec<_>>(), sources);
    let look = DiagnosticLook { color: settings.color && output::stdout_is_terminal(), width: None };
    let code = results.iter().map(|it| it.code).find(|it| *it != OK).unwrap_or(OK);
    // The answer of `bake build` stands alone, as that of the peer does.
    let single = results.first().filter(|_| settings.command_line.is_some());
    let written = if let Some(only) = single {
        if only.json {
            write_json(&format!("{:#}\n", only.to_json(sources)))
        } else {
            write_styled(&format!("{}\n", only.to_text(sources, look).trim_end()))
        }
    } else if results.iter().any(|it| it.json) {
        write_json(&all_json(evaluated, &results, sources))
    } else {
        let parts: Vec<String> = results.iter().map(|it| one_text(it, sources, look)).collect();
        write_styled(&parts.join("\n"))
    };
    if let Some(path) = &settings.metadata_file
        && let Err(fault) = metadata::write(path, &answers(&results, sources), None, settings.command_line.is_some())
    {
        return definition::check(settings, vec![*fault], sources).err().unwrap_or(FAILED);
    }
    if written == OK { code } else { written }
}

/// The answer of one target, with colours of our own if `look` has them; all else in it is fit for standard output.
fn one_text(it: &Answered<'_>, sources: &SourceMap, look: DiagnosticLook) -> String {
    let mut text = format!("{}\n", output::fit_for_stdout(&it.name.0));
    if let Some(description) = it.target.and_then(|target| target.description.as_deref()).filter(|it| !it.is_empty()) {
        text.push_str(&harmless_lines(description));
        text.push('\n');
    }
    text.push('\n');
    let answer = it.to_text(sources, look);
    text.push_str(answer.trim_end());
    text.push('\n');
    text
}

fn all_json(evaluated: &Evaluation, results: &[Answered<'_>], sources: &SourceMap) -> String {
    let mut printed: Value =
        serde_json::from_str(&PrintPlan::new(evaluated).to_json()).expect("what --print shows is JSON");
    let mut targets = Map::new();
    for it in results {
        let mut entry = Map::new();
        entry.insert("build".to_owned(), printed["target"][&*it.name.0].take());
        match &it.answer {
            Ok(_) => entry.insert(it.method.to_owned(), it.to_json(sources)),
            Err(faults) => entry.insert("error".to_owned(), Value::String(joined(faults))),
        };
        targets.insert(it.name.to_string(), Value::Object(entry));
    }
    let all = json!({"group": printed["group"].take(), "target": targets});
    serde_json::to_string_pretty(&all).expect("answers are plain data") + "\n"
}

fn answers(results: &[Answered<'_>], sources: &SourceMap) -> RunMetadata {
    let plain = DiagnosticLook { color: false, width: None };
    let entry = |answered: &Answered<'_>| {
        let mut entry = Map::new();
        if answered.answer.is_ok() {
            entry.insert("result.json".to_owned(), answered.to_json(sources).to_string().into());
            entry.insert("result.txt".to_owned(), answered.to_text(sources, plain).into());
            entry.insert("result.statuscode".to_owned(), answered.code.to_string().into());
        }
        (answered.name.to_string(), entry)
    };
    results.iter().map(entry).collect()
}

fn checked_text(it: &CheckedDockerfile, sources: &SourceMap, look: DiagnosticLook) -> String {
    let mut text = match (it.faults.as_slice(), it.findings.len()) {
        ([], 0) => "check complete, no warnings\n".to_owned(),
        ([], 1) => "check complete, 1 warning\n\n".to_owned(),
        ([], n) => format!("check complete, {n} warnings\n\n"),
        (faults, _) => {
            let mut lines: String =
                faults.iter().map(|fault| format!("check failed: {}\n", harmless(&fault.to_string()))).collect();
            lines.push('\n');
            lines
        }
    };
    for finding in &it.findings {
        text.push_str(&render(&[finding.explained()], sources, look, 1));
    }
    text
}

fn checked_json(it: &CheckedDockerfile, sources: &SourceMap) -> Value {
    let mut files: BTreeMap<SourceId, usize> = BTreeMap::new();
    let mut index = |at: Span| {
        let next = files.len();
        *files.entry(at.source).or_insert(next)
    };
    let mut location = |at: Span| {
        let place = |at: Span| {
            let (line, column) = sources.line_column(at);
            json!({"line": line, "character": column - 1})
        };
        let end = Span { start: at.end, ..at };
        json!({"sourceIndex": index(at), "ranges": [{"start": place(at), "end": place(end)}]})
    };
    let warnings: Vec<Value> = it
        .findings
        .iter()
        .map(|finding| {
            let (rule, detail) = (finding.rule, &finding.detail);
            json!({"ruleName": rule.name, "url": rule.url(), "detail": detail, "location": location(finding.at)})
        })
        .collect();
    let mut all = Map::new();
    all.insert("warnings".to_owned(), warnings.into());
    if let Some(first) = it.faults.first() {
        let at = first.labels.first().map(|label| location(label.at));
        all.insert("buildError".to_owned(), json!({"message": joined(&it.faults), "location": at}));
    }
    let mut files: Vec<(SourceId, usize)> = files.into_iter().collect();
    files.sort_by_key(|(_, ix)| *ix);
    let files = files.into_iter().map(|(id, _)| {
        let source = sources.get(id);
        let data = BASE64_STANDARD.encode(source.text.as_bytes());
        json!({"filename": &*source.name, "language": "Dockerfile", "data": data})
    });
    all.insert("sources".to_owned(), files.collect());
    Value::Object(all)
}

fn joined(faults: &[Diagnostic]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
