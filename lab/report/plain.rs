//! Events as lines of text, for logs and pipes.

use std::io::Write as _;

use lab_model::events::{Event, EventKind, LayerState, Outcome, Subject, Subscription};

/// Shows events as lines on standard error until the stream ends.
pub(super) async fn show(mut events: Subscription) {
    while let Some(event) = events.recv().await {
        if let Some(line) = line(&event) {
            // A closed pipe does not end the run.
            let _ = writeln!(std::io::stderr(), "{line}");
        }
    }
}

/// The line for an event; `None` for events that only a recording needs.
pub(super) fn line(event: &Event) -> Option<String> {
    text(event).map(|text| format!("{:>7.1}  {text}", event.at.as_secs_f64()))
}

/// The line without its time.
pub(super) fn text(event: &Event) -> Option<String> {
    let text = match &event.kind {
        EventKind::RunStarted { run, title, .. } => format!("run {run}: {title}"),
        EventKind::ScenarioStarted { scenario, question } => format!("scenario {scenario}: {question}"),
        EventKind::HostMeasured { accelerator, qemu, speed_factor } => {
            format!("QEMU {qemu}, accelerator {accelerator}, speed factor {speed_factor:.2}")
        }
        EventKind::ClusterStarts { warm, reason } => {
            format!("starts {}: {reason}", if *warm { "warm" } else { "cold" })
        }
        EventKind::NodePlanned { node, kind, role, address, .. } => {
            format!("{node}: {kind}, {role}, {address}")
        }
        EventKind::StepStarted { subject, step } => format!("{}{} …", of(subject), step.label()),
        EventKind::StepFinished { subject, step, outcome } => {
            format!("{}{} {}", of(subject), step.label(), outcome_text(outcome))
        }
        EventKind::LayerChanged { node, layer, state, detail } => {
            let mark = if *state == LayerState::Green { "green" } else { "waiting" };
            format!("{node}: {} {mark}: {detail}", layer.label())
        }
        EventKind::CheckStarted { check, .. } => format!("check {check} …"),
        EventKind::CheckFinished { check, outcome, .. } => format!("check {check} {}", outcome_text(outcome)),
        EventKind::MachineExited { node, status, expected: false } => format!("{node}: QEMU ended: {status}"),
        EventKind::Note { subject, text } => format!("{}{text}", of(subject)),
        EventKind::ScenarioFinished { scenario, outcome } => {
            format!("scenario {scenario} {}", outcome_text(outcome))
        }
        EventKind::RunFinished { .. }
        | EventKind::Console { .. }
        | EventKind::MachineExited { .. }
        | EventKind::Agenda { .. }
        | EventKind::HostSeen { .. }
        | EventKind::NetworkPlanned { .. }
        | EventKind::ResourcesSampled { .. }
        | EventKind::KubernetesEvent { .. }
        | EventKind::NetworkAsked { .. }
        | EventKind::RouteFollowed { .. } => return None,
    };
    Some(text)
}

fn of(subject: &Subject) -> String {
    match subject {
        Subject::Cluster => String::new(),
        Subject::Node(node) => format!("{node}: "),
    }
}

fn outcome_text(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Passed => "done".into(),
        Outcome::Failed { cause } => format!("FAILED: {cause}"),
        Outcome::NotRun { cause } => format!("not run: {cause}"),
    }
}
