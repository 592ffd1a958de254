//! `bake log`: the whole output of a step of the last runs.

use std::io::Read as _;

use crate::{
    cli::{
        args::LogArgs,
        exit::{FAILED, USAGE, write},
        state::open_store,
    },
    report::{Diagnostic, SourceMap, step_name, suggest},
    store::{HomeDir, LoggedEnd, LoggedRun, LoggedStep},
    ui::output,
};

use super::du::human;

/// Lists the steps of a run, or writes what one of them wrote.
pub(crate) fn run(bake_home: &HomeDir, args: &LogArgs, color: bool) -> u8 {
    let failed = |fault: Diagnostic, code| {
        output::diagnostics(&[fault], &SourceMap::default(), color);
        code
    };
    let runs = match open_store(bake_home, color) {
        Ok(store) => store.map(|store| store.logged_runs()).unwrap_or_default(),
        Err(code) => return code,
    };
    let nth = args.run.map_or(0, |n| n.get() - 1);
    let Some(run) = runs.get(nth) else {
        let message = match runs.len() {
            0 => "no step has run here whose output is kept".to_owned(),
            n => format!("the output of {n} runs is kept, not of {}", nth + 1),
        };
        let help = "a step that is found in the cache does not run; `bake explain` tells which would";
        return failed(Diagnostic::error("bake::cli::log_no_run", message).help(help), FAILED);
    };
    let Some(wanted) = &args.step else { return write(&listed(run)) };
    // Without a number it is the last run that has the step.
    let searched = if args.run.is_some() { std::slice::from_ref(run) } else { &runs };
    let found = searched.iter().find_map(|run| {
        let found = matching(&run.steps, wanted);
        (!found.is_empty()).then_some((run, found))
    });
    match found {
        None => failed(unknown(wanted, run), USAGE),
        Some((run, found)) => match found.as_slice() {
            [step] => shown(run, step).unwrap_or_else(|fault| failed(fault, FAILED)),
            several => failed(ambiguous(wanted, several), USAGE),
        },
    }
}

fn matching<'a>(steps: &'a [LoggedStep], wanted: &str) -> Vec<&'a LoggedStep> {
    let names: Vec<&str> = steps.iter().map(|step| step.name.as_str()).collect();
    step_name::matching(&names, wanted).into_iter().map(|ix| &steps[ix]).collect()
}

fn listed(run: &LoggedRun) -> String {
    let line = |step: &LoggedStep| {
        let end = match step.end {
            LoggedEnd::Done => "done",
            LoggedEnd::Failed => "failed",
            LoggedEnd::Stopped => "stopped",
        };
        let seconds = format!("{}.{}s", step.milliseconds / 1000, step.milliseconds % 1000 / 100);
        format!("{end:<8}{seconds:>9}{:>10}  {}\n", human(step.bytes), output::fit_for_stdout(&step.name))
    };
    let head = format!("{:<8}{:>9}{:>10}  {}\n", "END", "TIME", "OUTPUT", "STEP");
    run.steps.iter().fold(head, |text, step| text + &line(step))
}

fn shown(run: &LoggedRun, step: &LoggedStep) -> Result<u8, Diagnostic> {
    let Some(log) = step.log else {
        output::words(&format!("the step wrote nothing: {}\n", step.name));
        return Ok(write(""));
    };
    let unreadable = || {
        let message = format!("the output of the step cannot be read: {}", step.name);
        Diagnostic::error("bake::cli::log_unreadable", message)
    };
    let mut file = run.open(log).map_err(|error| unreadable().cause(&error))?;
    let (mut piece, mut held) = (vec![0; 64 << 10], Vec::new());
    loop {
        let n = file.read(&mut piece).map_err(|error| unreadable().cause(&error))?;
        held.extend_from_slice(&piece[..n]);
        // A letter is not torn: lines are written whole, as long as they are not endless.
        let end = match held.iter().rposition(|byte| *byte == b'\n') {
            Some(at) if n > 0 => at + 1,
            None if n > 0 && held.len() < 1 << 20 => continue,
            _ => held.len(),
        };
        let text = String::from_utf8_lossy(&held[..end]).into_owned();
        held.drain(..end);
        let code = write(&output::fit_for_stdout(&text));
        if n == 0 || code != 0 {
            return Ok(code);
        }
    }
}

fn unknown(wanted: &str, run: &LoggedRun) -> Diagnostic {
    let fault = Diagnostic::error("bake::cli::log_no_step", format!("no step that ran has this in its name: {wanted}"));
    let places = run.steps.iter().map(|step| step_name::place(&step.name));
    let help = suggest::did_you_mean(wanted, places);
    fault.help(help.unwrap_or_else(|| "`bake log` lists the steps that ran last".to_owned()))
}

fn ambiguous(wanted: &str, steps: &[&LoggedStep]) -> Diagnostic {
    let message = format!("{} steps have this in their names: {wanted}", steps.len());
    let names: Vec<&str> = steps.iter().map(|step| step.name.as_str()).collect();
    Diagnostic::error("bake::cli::log_several_steps", message).help(step_name::name_one(&names))
}
