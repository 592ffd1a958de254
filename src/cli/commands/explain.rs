//! `bake explain`: which steps would run and why, and why those that would not have last run. Nothing is built and nothing
//! is written to the state directory. The answer is data and goes to standard output.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

use super::build;
use crate::{
    cli::{
        definition::{self, Planned, Purpose},
        entitlements,
        exit::{FAILED, write, write_json},
        settings::Settings,
    },
    engine::{
        context::Contexts,
        explain::{ExplainedPlan, ExplainedState, ExplainedStep, Explanation, explain},
    },
    grant::Allowed,
    plan::need::needs,
    report::{
        Diagnostic, SourceMap,
        event::{Event, Sink},
        url::without_credentials,
    },
    ui::terminal::harmless,
};

/// Explains the steps of the targets that were named.
pub(crate) fn run(settings: &Settings, as_json: bool) -> u8 {
    let planned = match definition::planned(settings, Purpose::Show) {
        Ok(planned) => planned,
        Err(code) => return code,
    };
    let conclude = definition::concluding(&planned.evaluated.unneeded_faults);
    conclude(build::on_runtime(settings, explained(settings, planned, as_json)))
}

async fn explained(settings: &Settings, planned: Planned, as_json: bool) -> u8 {
    let Planned { evaluated, plan, sources, from_remote, secret_env, .. } = planned;
    let needs = needs(&plan, |name| settings.env.contains_key(name));
    let paths = entitlements::handles(&needs, &evaluated.grants, &from_remote, settings);
    let contexts = Contexts::new(settings.cwd.clone(), paths, sources);
    let told: Arc<Mutex<Vec<Diagnostic>>> = Arc::default();
    let sink: Sink = {
        let told = told.clone();
        Arc::new(move |event| {
            if let Event::Warning(warning) = event {
                told.lock().unwrap_or_else(PoisonError::into_inner).push((*warning).clone());
            }
        })
    };
    let answer = match build::setup(settings, Allowed::default(), &secret_env, sink) {
        Ok(setup) => explain(&plan, setup.world(), &setup.client, &contexts, &settings.cwd).await,
        Err(fault) => Err(vec![*fault]),
    };
    let mut diagnostics = std::mem::take(&mut *told.lock().unwrap_or_else(PoisonError::into_inner));
    let sources = contexts.sources();
    let answer = match answer {
        Ok(ExplainedPlan { steps, warnings }) => {
            diagnostics.extend(warnings);
            Some(steps)
        }
        Err(faults) => {
            diagnostics.extend(faults);
            None
        }
    };
    if let Err(code) = definition::check(settings, diagnostics, &sources) {
        return code;
    }
    let Some(steps) = answer else { return FAILED };
    if as_json { write_json(&to_json(&steps, &sources)) } else { write(&to_text(&steps, &sources)) }
}

/// One paragraph for each step, and a last line that counts.
fn to_text(steps: &[ExplainedStep], sources: &SourceMap) -> String {
    let mut text = String::new();
    for step in steps {
        let place = step.at.map(|at| format!("  {}", sources.place(at))).unwrap_or_default();
        text.extend([shown(&step.name), place, "\n".to_owned()]);
        text += match step.state {
            ExplainedState::Image => "  image\n",
            ExplainedState::Fetched => "  fetched: it is asked for when it is built\n",
            ExplainedState::Cached => "  cached\n",
            ExplainedState::Runs => "  runs\n",
            ExplainedState::Depends => "  depends on files that are not there yet; it runs unless they are as before\n",
        };
        if step.state == ExplainedState::Cached {
            if let Some((at, why)) = &step.last {
                text.extend(["    it last ran at ", &shown(at), ":\n"]);
                text += &reasons(why, "      ");
            }
        } else {
            text += &reasons(&step.why, "    ");
        }
    }
    let count = |state| steps.iter().filter(|step| step.state == state).count();
    let (n_run, n_cached, n_open) =
        (count(ExplainedState::Runs), count(ExplainedState::Cached), count(ExplainedState::Depends));
    let open = if n_open > 0 { format!(", {n_open} may run") } else { String::new() };
    text + &format!("{n_run} to run{open}, {n_cached} cached\n")
}

fn reasons(why: &Explanation, indent: &str) -> String {
    let mut text: String = why.differences.iter().map(|it| format!("{indent}{}\n", shown(&it.long()))).collect();
    if why.n_more_files > 0 {
        text.extend([format!("{indent}and {} more files\n", why.n_more_files)]);
    }
    text
}

/// Fit for a terminal, without user and password in URLs.
fn shown(text: &str) -> String {
    harmless(&without_credentials(text))
}

/// The answer for programs; its shape is in docs/explain.md.
fn to_json(steps: &[ExplainedStep], sources: &SourceMap) -> String {
    let all: Vec<Value> = steps.iter().map(|step| step_json(step, sources)).collect();
    without_credentials(&format!("{:#}\n", json!({ "steps": all }))).into_owned()
}

fn step_json(step: &ExplainedStep, sources: &SourceMap) -> Value {
    let ExplainedStep { name, targets, platform, at, state, why, last } = step;
    let state = match state {
        ExplainedState::Image => "image",
        ExplainedState::Fetched => "fetched",
        ExplainedState::Cached => "cached",
        ExplainedState::Runs => "runs",
        ExplainedState::Depends => "depends",
    };
    json!({
        "name": name,
        "targets": targets.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "platform": platform.to_string(),
        "file": at.map(|at| sources.get(at.source).name.to_string()),
        "line": at.map(|at| sources.line_column(at).0),
        "state": state,
        "why": explanation_json(why),
        "moreFiles": why.n_more_files,
        "lastRun": last.as_ref().map(|(at, why)| json!({
            "at": at,
            "why": explanation_json(why),
            "moreFiles": why.n_more_files,
        })),
    })
}

fn explanation_json(why: &Explanation) -> Value {
    let all = why.differences.iter().map(|it| {
        let mut value = serde_json::to_value(it).expect("differences are plain data");
        value["text"] = json!(it.long());
        value
    });
    Value::Array(all.collect())
}
