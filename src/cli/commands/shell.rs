//! A shell in a step: what it is connected to, and what the user is told before. The step comes from the engine.

use std::{
    io::{self, IsTerminal as _},
    os::{fd::AsFd as _, unix::fs::FileTypeExt as _},
};

use crate::{
    cli::{
        exit::{FAILED, INTERRUPTED},
        settings::Settings,
    },
    dispatch::interrupt::Interrupts,
    engine::{HeldFault, HeldProcess, HeldStep},
    report::{Diagnostic, SourceMap},
    sandbox::{StepCancel, StepStdin, StepStream, is_user_namespace},
    ui::{
        output::{self, PassedStream},
        raw_terminal::RawTerminal,
    },
};

/// What to type where a step has no shell.
const KEEP_HELP: &str = "`--on-error=keep` keeps the file system of the failed step as a folder";
const COMMAND_HELP: &str = "`bake debug TARGET -- COMMAND` runs another program that it has";

/// Opens a shell in a step that failed. Where nobody can type, a warning says so.
pub(super) async fn in_failed(settings: &Settings, step: HeldStep, interrupts: &mut Interrupts) {
    let Some(stdin) = stdin_of_user(settings) else {
        let message = "no shell is opened in the step that failed: standard input is neither a terminal nor a pipe";
        let warning = Diagnostic::warning("bake::cli::no_terminal", message);
        return tell(settings, &[warning.help("run `bake --on-error=shell` in a terminal")]);
    };
    output::words(&format!("a shell in the step that failed: {}\n", step.name()));
    output::words(&format!("the step was: {}\n", quoted(step.command())));
    if let Err(faults) = talk(settings, step, (None, KEEP_HELP), stdin, interrupts).await {
        tell(settings, &faults);
    }
}

/// Keeps the file system of a step that failed as a folder, and says where.
pub(super) async fn keep_failed(settings: &Settings, step: HeldStep) {
    match tokio::task::spawn_blocking(move || step.keep()).await {
        Ok(Ok(folder)) => {
            output::words(&format!("the file system of the failed step is kept at {}\n", folder.display()));
            if is_user_namespace() {
                output::words("its files belong to you, or, where the step has other users, to your subordinate ids\n");
            }
        }
        Ok(Err(fault)) => tell(settings, &[fault]),
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

/// Opens a shell, or runs `args`, in a step that has not run; the exit code of that.
pub(super) async fn in_unrun(
    settings: &Settings,
    step: HeldStep,
    args: Option<Vec<String>>,
    interrupts: &mut Interrupts,
) -> u8 {
    // A command whose output goes elsewhere wants no terminal.
    let has_terminal = output::can_ask() && (args.is_none() || output::stdout_is_terminal());
    let stdin = if has_terminal { StepStdin::Terminal } else { StepStdin::Pipe };
    if args.is_none() {
        output::words(&format!("a shell in front of the step: {}\n", step.name()));
        output::words(&format!("the step is: {}\n", quoted(step.command())));
    }
    match talk(settings, step, (args, COMMAND_HELP), stdin, interrupts).await {
        Ok(code) => u8::try_from(code).unwrap_or(FAILED),
        Err(faults) => {
            tell(settings, &faults);
            if faults.is_empty() { INTERRUPTED } else { FAILED }
        }
    }
}

/// What a process that the user talks to reads; `None` if there is no user. With `CI` set only a terminal counts, because a
/// pipe may be one that nobody writes to.
fn stdin_of_user(settings: &Settings) -> Option<StepStdin> {
    if output::can_ask() {
        return Some(StepStdin::Terminal);
    }
    let is_ci = settings.env.get("CI").is_some_and(|it| !matches!(it.as_str(), "" | "0" | "false"));
    (!is_ci && is_pipe()).then_some(StepStdin::Pipe)
}

fn is_pipe() -> bool {
    let stdin = io::stdin().as_fd().try_clone_to_owned().map(std::fs::File::from);
    let kind = stdin.and_then(|file| file.metadata()).map(|meta| meta.file_type());
    kind.is_ok_and(|kind| kind.is_fifo() || kind.is_socket())
}

/// Runs a process in a step, connected to the user, to its end; its exit code. Without `args` it is a shell, and `help` is for
/// where there is none.
///
/// # Errors
/// When it could not be started.
async fn talk(
    settings: &Settings,
    step: HeldStep,
    (args, help): (Option<Vec<String>>, &str),
    stdin: StepStdin,
    interrupts: &mut Interrupts,
) -> Result<i32, Vec<Diagnostic>> {
    let cancel = StepCancel::new().map_err(|error| {
        vec![Diagnostic::error("bake::cli::cancel", "the run cannot be made stoppable").cause(&error)]
    })?;
    let stop = cancel.clone();
    let term = settings.env.get("TERM").cloned();
    let mut work = tokio::task::spawn_blocking(move || {
        let user = io::stdin();
        let raw = match stdin {
            StepStdin::Terminal => RawTerminal::start(user.as_fd()).map(Some),
            StepStdin::Pipe | StepStdin::Closed => Ok(None),
        };
        let raw = raw.map_err(|error| {
            let message = "the terminal cannot be used for a shell";
            HeldFault::from(Diagnostic::error("bake::cli::raw_terminal", message).cause(&error))
        })?;
        // What a terminal of its own writes goes to the user's, wherever standard output goes.
        let to_stdout = stdin != StepStdin::Terminal || io::stdout().is_terminal();
        let mut pass_on = |stream, bytes: &[u8]| {
            let to =
                if stream == StepStream::Stdout && to_stdout { PassedStream::Stdout } else { PassedStream::Stderr };
            output::pass_on(bytes, to);
        };
        let process = HeldProcess { args, stdin, user: user.as_fd(), term };
        let ended = step.run(process, &mut pass_on, &cancel);
        drop(raw);
        ended
    });
    let mut is_asked = false;
    let ended = loop {
        tokio::select! {
            ended = &mut work => break ended,
            () = interrupts.next() => {
                if is_asked { stop.cancel() } else { stop.ask() }
                is_asked = true;
            }
        }
    };
    match ended {
        Ok(Ok((code, warnings))) => {
            tell(settings, &warnings);
            Ok(code)
        }
        Ok(Err(HeldFault::Cancelled)) => Err(Vec::new()),
        Ok(Err(HeldFault::NoShell(shell))) => Err(vec![no_shell(&shell).help(help)]),
        Ok(Err(HeldFault::Failed(fault))) => Err(vec![*fault]),
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

fn no_shell(shell: &str) -> Diagnostic {
    let message = format!("no shell can be opened, the file system of the step has none: {shell}");
    Diagnostic::error("bake::cli::no_shell", message)
}

fn tell(settings: &Settings, diagnostics: &[Diagnostic]) {
    output::diagnostics(diagnostics, &SourceMap::default(), settings.color);
}

/// A command as one types it into a shell.
fn quoted(args: &[String]) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
    let quote = |arg: &String| match !arg.is_empty() && arg.chars().all(is_plain) {
        true => arg.clone(),
        false => format!("'{}'", arg.replace('\'', r"'\''")),
    };
    args.iter().map(quote).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_shown_as_they_are_typed() {
        let args = ["/bin/sh", "-c", "echo 'a' && false", ""].map(str::to_owned);
        assert_eq!(quoted(&args), r"/bin/sh -c 'echo '\''a'\'' && false' ''");
    }
}
