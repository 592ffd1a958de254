//! What the views that write lines write, event by event.

use std::{
    io::Write,
    sync::{Arc, Mutex},
    time::Duration,
};

use super::*;
use crate::report::{
    Diagnostic,
    event::{OutputStream, StepEnd, StepId, Why},
};

#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<u8>>>);

impl Write for Seen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a view writes about the events, and what they came to.
fn shown(view: fn(LineOutput) -> SharedView, events: Vec<Event>) -> (String, RunSummary) {
    let seen = Seen::default();
    let (sender, receiver) = mpsc::channel();
    events.into_iter().for_each(|event| sender.send(DrawMessage::Event(event)).unwrap());
    drop(sender);
    let summary = draw(&receiver, &Drained(Arc::new(Backlog::new())), view(LineOutput::new(Box::new(seen.clone()))));
    let text = String::from_utf8(seen.0.lock().unwrap().clone()).unwrap();
    (text, summary)
}

fn plain(events: Vec<Event>) -> String {
    let text = shown(SharedView::Plain, events).0;
    // Seconds since the begin of the step.
    regex::Regex::new(r"(?m)^(#\d+) \d+\.\d{3} ").unwrap().replace_all(&text, "$1 [TIME] ").into_owned()
}

fn step(id: u32, name: &str) -> Event {
    Event::Step { id: StepId(id), name: name.into(), digest: None }
}

fn started(id: u32) -> Event {
    Event::Started { id: StepId(id), why: None }
}

fn output(id: u32, text: &str) -> Event {
    Event::Output { id: StepId(id), stream: OutputStream::Stdout, bytes: text.to_owned().into() }
}

fn ended(id: u32, how: StepEnd) -> Event {
    Event::Ended { id: StepId(id), how, took: Duration::from_millis(300) }
}

#[test]
fn plain_tells_begin_output_and_end() {
    let fault = Arc::new(Diagnostic::error("bake::solve::exit_code", "exit code: 1"));
    let text = plain(vec![
        step(7, "[web 1/3] FROM alpine"),
        ended(7, StepEnd::Cached),
        step(8, "[web 2/3] RUN make\nmore"),
        Event::Started { id: StepId(8), why: Some(Why("ENV C changed".to_owned())) },
        output(8, "one\ntw"),
        output(8, "o\u{1b}[2J\n10%\r100%\n"),
        output(8, "no end"),
        ended(8, StepEnd::Done),
        step(9, "[web 3/3] RUN false"),
        started(9),
        ended(9, StepEnd::Failed(fault)),
        step(10, "never"),
        ended(10, StepEnd::Cancelled),
        Event::Moved { id: StepId(8), what: "layer".into(), done: 5, total: 5 },
        Event::Wrote { what: "out.tar".into(), bytes: 2048, reused: false },
        Event::Wrote { what: "old.tar".into(), bytes: 2048, reused: true },
    ]);
    let expected = "#1 CACHED [web 1/3] FROM alpine\n#2 [web 2/3] RUN make\n#2 runs again: ENV C changed\n\
                    #2 [TIME] one\n#2 [TIME] two\n#2 [TIME] 100%\n#2 [TIME] no end\n#2 DONE 0.3s\n\
                    #3 [web 3/3] RUN false\n#3 ERROR\n#2 layer 5 B 0.0s\nwrote out.tar (2.0 KiB)\n";
    assert_eq!(text, expected);
}

#[test]
fn rawjson_has_the_shape_of_a_solve_status() {
    let (text, summary) = shown(
        SharedView::RawJson,
        vec![
            step(1, "RUN a"),
            started(1),
            output(1, "hi\n"),
            ended(1, StepEnd::Done),
            step(2, "RUN b"),
            ended(2, StepEnd::Cached),
            Event::Warning(Arc::new(Diagnostic::warning("bake::x::y", "careful"))),
        ],
    );
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let vertex = |ix: usize| &lines[ix]["vertexes"][0];
    assert_eq!((&vertex(0)["name"], &vertex(1)["name"]), (&"RUN a".into(), &"RUN a".into()));
    assert!(vertex(1)["started"].is_string() && vertex(1).get("completed").is_none());
    assert_eq!(lines[2]["logs"][0]["data"], "aGkK");
    assert_eq!(lines[2]["logs"][0]["vertex"], vertex(0)["digest"]);
    assert!(vertex(3)["completed"].is_string() && vertex(3).get("cached").is_none());
    assert_eq!(vertex(5)["cached"], true);
    assert_eq!(lines.len(), 6, "warnings are told with their places when the run is over");
    assert_eq!((summary.n_run, summary.n_cached, summary.warnings.len()), (1, 1, 1));
}

#[test]
fn a_reader_that_went_away_is_no_fault() {
    struct Gone;
    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut out = LineOutput::new(Box::new(Gone));
    out.line("text");
    out.flush();
}

#[test]
fn output_waits_for_room_and_is_let_go_when_the_drawer_ends() {
    let backlog = Arc::new(Backlog::new());
    let drained = Drained(Arc::clone(&backlog));
    backlog.wait_for_room(Backlog::MOST + 1);
    let waiting = std::thread::spawn({
        let backlog = Arc::clone(&backlog);
        move || backlog.wait_for_room(1)
    });
    drop(drained);
    waiting.join().unwrap();
    for _ in 0..3 {
        backlog.wait_for_room(Backlog::MOST);
    }
}
