//! What daemons tell of their steps, as events of the run: a step that several builds of one node share is shown once.
//!
//! Times are those between two moments on one daemon's clock. What output hides is decided by the sensitive values and secrets of
//! the run.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bollard_buildkit_proto::{
    google::protobuf::Timestamp,
    moby::buildkit::v1::{StatusResponse, Vertex, VertexLog, VertexStatus},
};

use crate::{
    oci::Digest,
    report::{
        Diagnostic, Hidden,
        event::{Event, OutputStream, Sink, StepEnd, StepId},
    },
};

/// How many lines of a step's output an error shows, and how many bytes of them are kept.
const TAIL_LINES: usize = 10;
const TAIL_BYTES: usize = 16 << 10;
/// A longer line is passed on in parts.
const LONGEST_LINE: usize = 64 << 10;

/// The steps of a run on all nodes.
pub(super) struct FleetProgress {
    sink: Sink,
    /// Names of nodes; empty where there is one.
    nodes: Vec<String>,
    hidden: Mutex<Hidden>,
    steps: Mutex<StepTable>,
}

#[derive(Default)]
struct StepTable {
    known: HashMap<(usize, String), FleetStep>,
    next: u32,
}

/// What is known of one step.
struct FleetStep {
    id: StepId,
    name: Arc<str>,
    /// A step of the Dockerfile: what a daemon does beside is told by the bytes that it moves alone.
    is_shown: bool,
    is_started: bool,
    has_ended: bool,
    took: Duration,
    ran: bool,
    /// Output without its line end so far, for each stream: it is passed on in whole lines, so that no secret comes in pieces.
    open_lines: [Vec<u8>; 2],
    /// The last output.
    tail: VecDeque<u8>,
    /// The job that told of it first, which alone passes its output on.
    job: String,
}

/// The steps of one job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct JobSteps {
    pub(super) n_ran: usize,
    pub(super) took: Duration,
}

impl FleetProgress {
    /// `nodes` are the names of the nodes.
    pub(super) fn new(sink: Sink, nodes: &[String], hidden: Hidden) -> Self {
        let nodes = if nodes.len() > 1 { nodes.to_vec() } else { Vec::new() };
        Self { sink, nodes, hidden: Mutex::new(hidden), steps: Mutex::default() }
    }

    /// The sink of the run.
    pub(super) const fn sink(&self) -> &Sink {
        &self.sink
    }

    /// Hides a value in all output that comes after it.
    pub(super) fn hide(&self, value: &[u8]) {
        let text = String::from_utf8_lossy(value);
        let mut hidden = self.hidden.lock().unwrap_or_else(PoisonError::into_inner);
        text.lines().map(str::trim).filter(|line| !line.is_empty()).for_each(|line| hidden.insert(&line.into()));
    }

    /// A text without hidden values.
    pub(super) fn mask(&self, text: &str) -> String {
        self.hidden.lock().unwrap_or_else(PoisonError::into_inner).mask(text).into_owned()
    }

    /// The number of a step that no daemon tells of, such as an export.
    pub(super) fn own_step(&self) -> StepId {
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        steps.next += 1;
        StepId(steps.next - 1)
    }

    /// Passes on what a daemon tells of a job. `label` is the target that the job builds.
    pub(super) fn told(&self, node: usize, job: &str, label: &str, told: StatusResponse) {
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        // A step is known before its output, and has ended after it.
        for vertex in &told.vertexes {
            let begun = Vertex { completed: None, ..vertex.clone() };
            self.vertex(&mut steps, node, job, label, &begun);
        }
        for status in &told.statuses {
            self.status(&steps, node, status);
        }
        for log in told.logs {
            self.log(&mut steps, node, job, log);
        }
        for vertex in told.vertexes.iter().filter(|vertex| vertex.completed.is_some()) {
            self.vertex(&mut steps, node, job, label, vertex);
        }
    }

    fn vertex(&self, steps: &mut StepTable, node: usize, job: &str, label: &str, vertex: &Vertex) {
        let key = (node, vertex.digest.clone());
        if !steps.known.contains_key(&key) {
            let id = StepId(steps.next);
            steps.next += 1;
            let name: String = vertex.name.chars().filter(|c| !c.is_control()).collect();
            let name: Arc<str> = self.mask(&named(&name, label, self.nodes.get(node))).into();
            let digest = vertex.digest.parse::<Digest>().ok();
            let is_shown = is_step(&vertex.name);
            if is_shown {
                (self.sink)(Event::Step { id, name: name.clone(), digest });
            }
            let step = FleetStep {
                id,
                name,
                is_shown,
                is_started: false,
                has_ended: false,
                took: Duration::ZERO,
                ran: false,
                open_lines: [Vec::new(), Vec::new()],
                tail: VecDeque::new(),
                job: job.to_owned(),
            };
            steps.known.insert(key.clone(), step);
        }
        let step = steps.known.get_mut(&key).expect("it was just added");
        if step.has_ended || !step.is_shown {
            return;
        }
        if vertex.started.is_some() && !vertex.cached && !step.is_started {
            step.is_started = true;
            (self.sink)(Event::Started { id: step.id, why: None });
        }
        let Some(completed) = &vertex.completed else { return };
        for stream in [OutputStream::Stdout, OutputStream::Stderr] {
            let rest = std::mem::take(&mut step.open_lines[usize::from(stream == OutputStream::Stderr)]);
            self.output(step, stream, &rest);
        }
        step.has_ended = true;
        step.took = vertex.started.as_ref().map(|started| between(started, completed)).unwrap_or_default();
        step.ran = !vertex.cached;
        let how = match vertex.error.as_str() {
            "" if vertex.cached => StepEnd::Cached,
            "" => StepEnd::Done,
            error if error.contains("context canceled") => StepEnd::Cancelled,
            error => StepEnd::Failed(Arc::new(Diagnostic::error("bake::fleet::step", self.mask(error)))),
        };
        (self.sink)(Event::Ended { id: step.id, how, took: step.took });
    }

    fn status(&self, steps: &StepTable, node: usize, status: &VertexStatus) {
        let Some(step) = steps.known.get(&(node, status.vertex.clone())) else { return };
        let number = |n: i64| u64::try_from(n).unwrap_or_default();
        if number(status.total) == 0 && number(status.current) == 0 {
            return;
        }
        let part = if status.name.is_empty() { &status.id } else { &status.name };
        let part: String = part.chars().filter(|c| !c.is_control()).collect();
        let what: Arc<str> = if step.is_shown { part.into() } else { format!("{}: {part}", step.name).into() };
        (self.sink)(Event::Moved { id: step.id, what, done: number(status.current), total: number(status.total) });
    }

    fn log(&self, steps: &mut StepTable, node: usize, job: &str, log: VertexLog) {
        let Some(step) = steps.known.get_mut(&(node, log.vertex)) else { return };
        // Each job that shares a step gets its whole output.
        if step.job != job {
            return;
        }
        let stream = if log.stream == 1 { OutputStream::Stdout } else { OutputStream::Stderr };
        let open = &mut step.open_lines[usize::from(stream == OutputStream::Stderr)];
        open.extend(log.msg);
        let end = open.iter().rposition(|byte| matches!(byte, b'\n' | b'\r')).map_or(0, |at| at + 1);
        let end = if end == 0 && open.len() > LONGEST_LINE { open.len() } else { end };
        let lines: Vec<u8> = open.drain(..end).collect();
        self.output(step, stream, &lines);
    }

    /// Passes on output of a step, without what is hidden.
    fn output(&self, step: &mut FleetStep, stream: OutputStream, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let text = self.mask(&String::from_utf8_lossy(bytes));
        step.tail.extend(text.as_bytes());
        let surplus = step.tail.len().saturating_sub(TAIL_BYTES);
        drop(step.tail.drain(..surplus));
        (self.sink)(Event::Output { id: step.id, stream, bytes: text.into_bytes().into() });
    }

    /// The last lines of a step's output.
    pub(super) fn tail(&self, node: usize, vertex: &str) -> Option<String> {
        let steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        let step = steps.known.get(&(node, vertex.to_owned()))?;
        let bytes: Vec<u8> = step.tail.iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.trim_end().lines().collect();
        let last = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n");
        (!last.trim().is_empty()).then_some(last)
    }

    /// The steps that ran, of those that a job told of first.
    pub(super) fn steps_of(&self, job: &str) -> JobSteps {
        let steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        let of_job = steps.known.values().filter(|step| step.job == job && step.ran);
        of_job.fold(JobSteps::default(), |sum, step| JobSteps { n_ran: sum.n_ran + 1, took: sum.took + step.took })
    }

    /// What a node did no longer counts: its steps may run again elsewhere.
    pub(super) fn node_lost(&self, node: usize) {
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        for ((_, _), step) in steps.known.iter_mut().filter(|((of, _), _)| *of == node) {
            if step.is_started && !step.has_ended {
                step.has_ended = true;
                tracing::debug!(step = %step.name, "lost with its node");
                (self.sink)(Event::Ended { id: step.id, how: StepEnd::Cancelled, took: Duration::ZERO });
            }
        }
    }
}

/// Whether a name is that of a step of a Dockerfile, `[build 2/5] RUN make`, and not of what a daemon does beside.
fn is_step(name: &str) -> bool {
    let Some((place, _)) = name.strip_prefix('[').and_then(|rest| rest.split_once(']')) else { return false };
    place.rsplit(' ').next().is_some_and(|it| it.split_once('/').is_some())
}

/// The name of a step with its target: `[build 2/5] RUN make` is `[web build 2/5] RUN make`.
fn named(name: &str, label: &str, node: Option<&String>) -> String {
    let internal = name.starts_with("[internal]") || label.is_empty();
    let named = match name.strip_prefix('[') {
        Some(rest) if !internal => format!("[{label} {rest}"),
        _ => name.to_owned(),
    };
    match node {
        Some(node) => format!("{named} (on {node})"),
        None => named,
    }
}

fn between(from: &Timestamp, to: &Timestamp) -> Duration {
    let nanos = |it: &Timestamp| i128::from(it.seconds) * 1_000_000_000 + i128::from(it.nanos);
    Duration::from_nanos(u64::try_from(nanos(to) - nanos(from)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vertex(digest: &str, name: &str, seconds: Option<(i64, i64)>) -> Vertex {
        let at = |seconds| Timestamp { seconds, nanos: 0 };
        Vertex {
            digest: digest.to_owned(),
            name: name.to_owned(),
            started: seconds.map(|(from, _)| at(from)),
            completed: seconds.map(|(_, to)| at(to)),
            ..Vertex::default()
        }
    }

    #[test]
    fn shared_steps_are_shown_once_and_secrets_never() {
        let seen: Arc<Mutex<Vec<Event>>> = Arc::default();
        let into = seen.clone();
        let sink: Sink = Arc::new(move |event| into.lock().expect("no panic").push(event));
        let progress = FleetProgress::new(sink, &["a".to_owned(), "b".to_owned()], Hidden::default());
        progress.hide(b"hunter2\n");
        let status = |vertex: Vertex| StatusResponse { vertexes: vec![vertex], ..StatusResponse::default() };
        progress.told(0, "j1", "web", status(vertex("sha256:1", "[2/3] RUN make", None)));
        let log = |msg: &[u8]| {
            let log = VertexLog { vertex: "sha256:1".into(), stream: 1, msg: msg.to_vec(), ..VertexLog::default() };
            StatusResponse { logs: vec![log], ..StatusResponse::default() }
        };
        // In pieces, as a daemon may send it.
        progress.told(0, "j1", "web", log(b"x hunt"));
        progress.told(0, "j1", "web", log(b"er2\n"));
        let logs = log(b"x hunter2\n");
        progress.told(0, "j2", "api", logs);
        progress.told(0, "j1", "web", status(vertex("sha256:1", "[2/3] RUN make", Some((5, 7)))));
        progress.told(0, "j2", "api", status(vertex("sha256:1", "[2/3] RUN make", Some((5, 7)))));
        let seen = seen.lock().expect("no panic");
        let texts: Vec<String> = seen
            .iter()
            .map(|event| match event {
                Event::Step { name, .. } => name.to_string(),
                Event::Started { .. } => "started".to_owned(),
                Event::Output { bytes, .. } => String::from_utf8_lossy(bytes).into_owned(),
                Event::Ended { took, .. } => format!("ended {}", took.as_secs()),
                other => format!("{other:?}"),
            })
            .collect();
        assert_eq!(texts, ["[web 2/3] RUN make (on a)", "x ***\n", "started", "ended 2"]);
        assert_eq!(progress.tail(0, "sha256:1").as_deref(), Some("x ***"));
        assert_eq!(progress.steps_of("j1").n_ran, 1);
    }
}
