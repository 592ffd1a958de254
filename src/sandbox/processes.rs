//! The processes of a running step, found through `/proc`, and how they are asked to end.

use std::{fs, path::Path};

use rustix::process::{Pid, Signal, kill_process};

/// Which descendants of a started process belong to the step: all, or only those below the runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StepProcesses {
    /// All of them: the process became the command of the step.
    All,
    /// Those below its children: the process supervises a container runtime, whose children are the step.
    BelowRuntime,
}

/// Asks the processes of a step to end: those that catch SIGTERM receive it, and so do the processes that these have
/// started.
///
/// The rest is halted by SIGSTOP, so that a shell whose command ended does not go on to the next one. Returns whether
/// any process catches SIGTERM.
pub(super) fn ask_to_end(started: Pid, which: StepProcesses) -> bool {
    let mut catching: Vec<Pid> = Vec::new();
    for (pid, parent) in list(started, which) {
        let is_asked = catches_term(pid) || parent.is_some_and(|parent| catching.contains(&parent));
        // A process that ended in the meantime needs no signal.
        let _ended = kill_process(pid, if is_asked { Signal::TERM } else { Signal::STOP });
        if is_asked {
            catching.push(pid);
        }
    }
    !catching.is_empty()
}

/// Whether a process of the step is left that catches SIGTERM, and so may still be cleaning up.
pub(super) fn any_catches_term(started: Pid, which: StepProcesses) -> bool {
    list(started, which).into_iter().any(|(pid, _)| catches_term(pid))
}

/// The processes of the step, each after its parent, with that parent if it is one of them.
fn list(started: Pid, which: StepProcesses) -> Vec<(Pid, Option<Pid>)> {
    let first = match which {
        StepProcesses::All => vec![started],
        StepProcesses::BelowRuntime => children(started).into_iter().flat_map(children).collect(),
    };
    let mut found: Vec<(Pid, Option<Pid>)> = first.into_iter().map(|pid| (pid, None)).collect();
    let mut next = 0;
    while let Some((pid, _)) = found.get(next).copied() {
        found.extend(children(pid).into_iter().map(|child| (child, Some(pid))));
        next += 1;
    }
    found
}

/// The children of all threads of a process. None are found on a kernel without `CONFIG_PROC_CHILDREN`.
fn children(pid: Pid) -> Vec<Pid> {
    let threads = Path::new("/proc").join(pid.as_raw_nonzero().to_string()).join("task");
    let Ok(threads) = fs::read_dir(threads) else { return Vec::new() };
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("children")).ok());
    let numbers = lists.flat_map(|text| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    numbers.filter_map(|number| Pid::from_raw(number.parse().ok()?)).collect()
}

/// Whether a process has a handler for SIGTERM; a zombie has none.
fn catches_term(pid: Pid) -> bool {
    let path = Path::new("/proc").join(pid.as_raw_nonzero().to_string()).join("status");
    fs::read_to_string(path).is_ok_and(|status| has_term_handler(&status))
}

/// Reads the mask `SigCgt` of a `/proc/PID/status`: bit 0 is signal 1.
fn has_term_handler(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & 1 << (libc::SIGTERM - 1) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handlers_are_read_from_the_mask() {
        assert!(has_term_handler("Name:\tsh\nSigIgn:\t0000000000000000\nSigCgt:\t0000000000004002\n"));
        assert!(!has_term_handler("SigIgn:\t0000000000004000\nSigCgt:\t0000000000000002\n"));
        assert!(!has_term_handler("Name:\tsh\n"));
    }
}
