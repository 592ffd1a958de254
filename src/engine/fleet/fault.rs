//! Faults of jobs, and how the user reads them: as those of the embedded engine, with the lines of the Dockerfile.

use std::sync::Arc;

use petgraph::graph::NodeIndex;

use super::{node::FleetNode, request::targets, world::FleetWorld};
use crate::{
    buildkit::{
        daemon::Daemon,
        fault::{Blame, DaemonFault, FaultPlace},
    },
    engine::{boundary::NodeFailure, context::Contexts},
    plan::Plan,
    report::{Diagnostic, SourceId, Span},
};
use tonic::Status;

/// Why a job has no result.
#[derive(Debug)]
pub(super) enum JobFault {
    /// The build, or what it asks for, is at fault: it would fail on any node. With what failed on this side meanwhile.
    Build(Box<DaemonFault>, Vec<String>),
    /// The node is gone; another one can do the job.
    NodeLost(String),
    /// Something of this machine is at fault.
    Here(Box<Diagnostic>),
}

impl JobFault {
    /// An error of a daemon, which is asked whether it is still there where the error leaves that open. `here` is what failed on
    /// this side meanwhile.
    pub(super) async fn of(fault: DaemonFault, daemon: &Daemon, here: Vec<String>) -> Self {
        let is_lost = match fault.blames() {
            Blame::Build => false,
            Blame::Node => true,
            Blame::Unknown => !daemon.answers().await,
        };
        if is_lost { Self::NodeLost(fault.message) } else { Self::Build(Box::new(fault), here) }
    }

    /// An error before anything was built.
    pub(super) fn of_node(status: &Status) -> Self {
        Self::NodeLost(status.message().to_owned())
    }

    /// The fault as the user reads it.
    pub(super) fn failure(
        self,
        world: &FleetWorld,
        contexts: &Contexts,
        plan: &Plan,
        job: &JobPlace<'_>,
    ) -> NodeFailure {
        let fault = match self {
            Self::Here(fault) => *fault,
            Self::NodeLost(why) => lost(job.node, &why),
            Self::Build(fault, here) => {
                let mut diagnostic = of_build(*fault, world, contexts, job);
                let new = here.into_iter().filter(|text| !diagnostic.message.contains(text.as_str()));
                let new: Vec<String> = new.map(|text| world.progress.mask(&text)).collect();
                diagnostic.causes.extend(new);
                diagnostic
            }
        };
        let fault = if fault.targets.is_empty() { fault.of(targets(plan, job.builds)) } else { fault };
        NodeFailure::Failed(Arc::new(fault))
    }
}

/// Where a fault happened.
pub(super) struct JobPlace<'a> {
    pub(super) node: &'a FleetNode,
    pub(super) builds: &'a [NodeIndex],
    pub(super) export: Option<NodeIndex>,
}

/// The fault of a node that no other one can stand in for.
fn lost(node: &FleetNode, why: &str) -> Diagnostic {
    let message = format!("the node `{}` was lost: {}", node.name, node.address);
    let mut fault = Diagnostic::error("bake::fleet::node_lost", message);
    fault.causes.push(why.to_owned());
    fault.help("look at its daemon; what was built there is still in its cache, so the next run goes on from it")
}

fn of_build(fault: DaemonFault, world: &FleetWorld, contexts: &Contexts, job: &JobPlace<'_>) -> Diagnostic {
    let DaemonFault { message, place, vertex, exit_code, .. } = fault;
    let message = world.progress.mask(&message);
    let mut diagnostic = match exit_code {
        Some(code) => Diagnostic::error("bake::solve::exit_code", backticked(&message, code)),
        None => Diagnostic::error("bake::fleet::build", message),
    };
    if exit_code == Some(127) {
        diagnostic.help = Some("127 means that a command was not found: install it in an earlier step".to_owned());
    }
    let foreign = foreign_platforms(world, job);
    if exit_code.is_some() && !foreign.is_empty() {
        let why = format!("the node `{}` runs no programs for {}", job.node.name, foreign.join(", "));
        diagnostic.help = Some(format!("{why}: add a node of this platform, or an emulator to this one"));
    }
    let is_of_step = vertex.is_some() || exit_code.is_some();
    if let Some(vertex) = vertex {
        diagnostic.output = world.progress.tail(job.node.index, &vertex);
    }
    match (place.and_then(|place| span(&place, world, contexts, job)), job.export) {
        (Some(span), _) => diagnostic.at(span, "this instruction"),
        // What is no fault of a step is one of what was asked for beside: the exporter, its options, caches.
        (None, Some(export)) if !is_of_step => {
            diagnostic.at(world.exports[&export].output.at, "while this output and its caches were written")
        }
        (None, _) => diagnostic,
    }
}

/// The platforms of a job that its node runs no programs of.
fn foreign_platforms(world: &FleetWorld, job: &JobPlace<'_>) -> Vec<String> {
    let platforms = job.builds.iter().filter_map(|build| world.requests.get(build).map(|request| &request.platform));
    platforms.filter(|platform| !job.node.place.runs(platform)).map(ToString::to_string).collect()
}

/// As the embedded engine says it.
fn backticked(message: &str, code: u32) -> String {
    let process = message.strip_prefix("process \"").and_then(|rest| rest.split_once("\" did not complete"));
    match process {
        Some((process, _)) => {
            let process = process.replace("\\\"", "\"").replace("\\\\", "\\");
            let first = process.lines().next().unwrap_or_default();
            format!("process `{first}` did not complete successfully: exit code: {code}")
        }
        None => message.to_owned(),
    }
}

/// The lines of a fault in the Dockerfile that was read here, or in the text that the daemon sent.
fn span(place: &FaultPlace, world: &FleetWorld, contexts: &Contexts, job: &JobPlace<'_>) -> Option<Span> {
    let sent = job.builds.iter().filter_map(|build| world.requests.get(build)?.dockerfile.as_ref());
    let all = world.requests.values().filter_map(|request| request.dockerfile.as_ref());
    let ours = sent.chain(all).find(|file| file.text.as_bytes() == place.text).map(|file| file.source);
    let source = match ours {
        Some(source) => source,
        None => contexts.add_fetched(&place.filename, std::str::from_utf8(&place.text).ok()?),
    };
    let (first, last) = place.lines?;
    lines(source, &contexts.text_of(source), first, last)
}

/// The span from the start of one line to the end of another, without the blanks around.
fn lines(source: SourceId, text: &str, first: u32, last: u32) -> Option<Span> {
    let mut at = 0;
    let (mut start, mut end) = (None, 0);
    for (number, line) in (1..).zip(text.split_inclusive('\n')) {
        if number == first {
            start = Some(at + line.len() - line.trim_start().len());
        }
        if number <= last {
            end = at + line.trim_end().len();
        }
        at += line.len();
    }
    let (start, end) = (u32::try_from(start?).ok()?, u32::try_from(end).ok()?);
    Some(Span { source, start, end: end.max(start) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::SourceMap;

    #[test]
    fn lines_become_spans() {
        let mut sources = SourceMap::default();
        let text = "FROM a\n\nRUN b && \\\n    c\nRUN d";
        let source = sources.add("Dockerfile", text);
        let span = |first, last| lines(source, text, first, last).map(|span| sources.text(span).to_owned());
        assert_eq!(span(3, 4).as_deref(), Some("RUN b && \\\n    c"));
        assert_eq!(span(5, 9).as_deref(), Some("RUN d"));
        assert_eq!(span(6, 6), None);
    }

    #[test]
    fn processes_stand_in_backticks() {
        let message = "process \"/bin/sh -c echo \\\"a\\\\n\\\"\" did not complete successfully: exit code: 3";
        assert_eq!(
            backticked(message, 3),
            "process `/bin/sh -c echo \"a\\n\"` did not complete successfully: exit code: 3"
        );
    }
}
