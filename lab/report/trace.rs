//! A trace in the JSON format of Perfetto and Chrome: one process per node, one thread per lane.
//!
//! Format: "Trace Event Format" of the Chromium project; times are microseconds.

use lab_model::events::{Layer, LayerState, Outcome};
use serde_json::{Value, json};

use super::{
    report::Report,
    results::{NO_VERDICT, verdict},
    timeline::{Lane, MarkKind, Timeline},
};

/// Threads of layers and marks, after the threads of steps.
const LAYERS: usize = 100;
const MARKS: usize = 200;

impl Report {
    /// Formats the report as a trace for <https://ui.perfetto.dev> or `chrome://tracing`.
    pub fn trace(&self) -> String {
        let mut events = Vec::new();
        let several = self.timelines.len() > 1;
        let mut pid = 0;
        for (scenario, timeline) in self.scenarios() {
            for lane in &timeline.lanes {
                pid += 1;
                let mut name = lane.node.as_ref().map_or("cluster".to_owned(), |node| {
                    format!("{} ({}, {})", node.name, node.kind, node.role)
                });
                if several {
                    name = format!("{}: {name}", self.summary.name_of(scenario));
                }
                events.push(meta(pid, 0, "process_name", &json!({ "name": name })));
                events.push(meta(pid, 0, "process_sort_index", &json!({ "sort_index": pid })));
                bars(lane, timeline, pid, &mut events);
                layers(lane, pid, &mut events);
                marks(lane, pid, &mut events);
                counters(lane, pid, &mut events);
            }
        }
        let told = self.summary.outcome.as_ref().map_or_else(|| NO_VERDICT.to_owned(), verdict);
        let trace = json!({
            "displayTimeUnit": "ms",
            "otherData": { "run": self.summary.run, "title": self.summary.title, "verdict": told },
            "traceEvents": events,
        });
        trace.to_string()
    }
}

fn meta(pid: usize, tid: usize, name: &str, args: &Value) -> Value {
    json!({ "ph": "M", "pid": pid, "tid": tid, "name": name, "args": args })
}

fn micros(seconds: f64) -> u64 {
    // Seconds since the start of a run are never negative.
    (seconds * 1e6).round() as u64
}

fn complete(
    pid: usize,
    tid: usize,
    (from, to): (f64, f64),
    category: &str,
    name: &str,
    args: &Value,
) -> Value {
    let (ts, end) = (micros(from), micros(to));
    let dur = end.saturating_sub(ts);
    json!({ "ph": "X", "pid": pid, "tid": tid, "ts": ts, "dur": dur, "cat": category, "name": name, "args": args })
}

fn bars(lane: &Lane, timeline: &Timeline, pid: usize, events: &mut Vec<Value>) {
    for row in 0..lane.rows() {
        let name = if lane.node.is_none() { "steps and checks" } else { "steps" };
        let name = if row == 0 { name.to_owned() } else { format!("{name} {}", row + 1) };
        events.push(meta(pid, row + 1, "thread_name", &json!({ "name": name })));
    }
    for bar in &lane.bars {
        let outcome = match &bar.outcome {
            None => json!({ "outcome": "it did not end" }),
            Some(Outcome::Passed) => json!({ "outcome": "passed" }),
            Some(Outcome::Failed { cause }) => json!({ "outcome": "failed", "cause": cause }),
            Some(Outcome::NotRun { cause }) => json!({ "outcome": "not run", "cause": cause }),
        };
        let to = bar.to.min(timeline.end);
        events.push(complete(pid, bar.row + 1, (bar.from, to), "step", bar.what.label(), &outcome));
    }
}

fn layers(lane: &Lane, pid: usize, events: &mut Vec<Value>) {
    for (index, layer) in Layer::ALL.into_iter().enumerate() {
        let Some(stretches) = lane.layers.get(&layer) else { continue };
        let tid = LAYERS + index;
        events.push(meta(pid, tid, "thread_name", &json!({ "name": layer.label() })));
        for stretch in stretches {
            let name = match stretch.state {
                LayerState::Unknown => "unknown",
                LayerState::Waiting => "waiting",
                LayerState::Green => "green",
            };
            let args = json!({ "detail": stretch.detail });
            events.push(complete(pid, tid, (stretch.from, stretch.to), "readiness", name, &args));
        }
    }
}

fn marks(lane: &Lane, pid: usize, events: &mut Vec<Value>) {
    for (index, kind) in MarkKind::ALL.into_iter().enumerate() {
        // Changes of layers are in separate threads.
        let mut marks =
            lane.marks.iter().filter(|mark| mark.kind == kind && kind != MarkKind::Layer).peekable();
        if marks.peek().is_none() {
            continue;
        }
        let tid = MARKS + index;
        events.push(meta(pid, tid, "thread_name", &json!({ "name": kind.label() })));
        for mark in marks {
            let ts = micros(mark.at);
            let (cat, name) = (kind.label(), &mark.text);
            events.push(
                json!({ "ph": "i", "s": "t", "pid": pid, "tid": tid, "ts": ts, "cat": cat, "name": name }),
            );
        }
    }
}

/// Cores that a VM kept busy between two samples, and its memory.
fn counters(lane: &Lane, pid: usize, events: &mut Vec<Value>) {
    for pair in lane.samples.windows(2) {
        let seconds = pair[1].at - pair[0].at;
        if seconds <= 0.0 {
            continue;
        }
        let cores = ((pair[1].cpu_seconds - pair[0].cpu_seconds) / seconds * 100.0).round() / 100.0;
        let ts = micros(pair[1].at);
        events.push(
            json!({ "ph": "C", "pid": pid, "ts": ts, "name": "busy cores", "args": { "cores": cores } }),
        );
        let mib = pair[1].rss_bytes >> 20;
        events.push(json!({ "ph": "C", "pid": pid, "ts": ts, "name": "memory", "args": { "MiB": mib } }));
    }
}
