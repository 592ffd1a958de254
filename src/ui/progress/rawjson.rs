//! Progress for programs: one JSON object a line, in the shape of BuildKit's solve status (vertexes, statuses, logs,
//! warnings), bytes in base64, times in RFC 3339.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

use super::{
    lines::{LineOutput, restarted},
    steps::Steps,
};
use crate::{
    oci::Digest,
    report::event::{Event, OutputStream, StepEnd},
    ui::{masking, terminal::harmless_json},
};

/// Writes an event as one line of JSON, in the form of BuildKit's `rawjson` progress.
pub(super) fn show(event: &Event, steps: &mut Steps, out: &mut LineOutput) {
    let now = jiff::Timestamp::now();
    match event {
        Event::Step { id, .. } => {
            let Some(step) = steps.get_mut(*id) else { return };
            record(out, "vertexes", json!({"digest": step.digest, "name": step.name}));
        }
        Event::Started { id, .. } => {
            let Some(step) = steps.get_mut(*id) else { return };
            let vertex = json!({"digest": step.digest, "name": step.name, "started": now.to_string()});
            record(out, "vertexes", vertex);
        }
        Event::Moved { id, what, done, total } => {
            let Some(step) = steps.get_mut(*id) else { return };
            let mut status =
                json!({"id": &**what, "vertex": step.digest, "current": done, "timestamp": now.to_string()});
            if *total > 0 {
                status["total"] = json!(total);
            }
            if *total > 0 && done >= total {
                status["completed"] = json!(now.to_string());
            }
            record(out, "statuses", status);
        }
        Event::Output { id, stream, bytes } => {
            let Some(step) = steps.get_mut(*id) else { return };
            let stream = if *stream == OutputStream::Stdout { 1 } else { 2 };
            let data = match std::str::from_utf8(bytes) {
                Ok(text) => STANDARD.encode(&*masking::shown(text)),
                Err(_) => STANDARD.encode(bytes),
            };
            let log = json!({"vertex": step.digest, "stream": stream, "data": data, "timestamp": now.to_string()});
            record(out, "logs", log);
        }
        // The outcome of the run has it, and knows its place.
        Event::Warning(_) | Event::CriticalPath { .. } => (),
        Event::Restarted { reason } => {
            let short = STANDARD.encode(restarted(reason));
            record(out, "warnings", json!({"level": 1, "short": short, "detail": []}));
        }
        Event::Ended { id, how, took } => {
            let Some(step) = steps.get_mut(*id) else { return };
            let began = now - jiff::SignedDuration::try_from(*took).unwrap_or_default();
            let mut vertex = json!({
                "digest": step.digest, "name": step.name, "started": began.to_string(), "completed": now.to_string(),
            });
            match how {
                StepEnd::Cached => vertex["cached"] = json!(true),
                StepEnd::Failed(fault) => vertex["error"] = json!(fault.to_string()),
                StepEnd::Cancelled => vertex["error"] = json!("context canceled"),
                StepEnd::Done => (),
            }
            record(out, "vertexes", vertex);
        }
        Event::Wrote { what, reused, .. } => {
            let name = format!("exporting to {what}");
            let digest = Digest::of(name.as_bytes()).to_string();
            let time = now.to_string();
            let mut vertex = json!({"digest": digest, "name": name, "started": time, "completed": time});
            if *reused {
                vertex["cached"] = json!(true);
            }
            record(out, "vertexes", vertex);
        }
    }
}

fn record(out: &mut LineOutput, kind: &str, value: Value) {
    let mut map = Map::new();
    map.insert(kind.to_owned(), Value::Array(vec![value]));
    out.line(&harmless_json(&Value::Object(map).to_string()));
}
