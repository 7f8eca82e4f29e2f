//! Events as lines of text, for logs and pipes.

use lab_model::events::{Event, Happening, LayerState, Outcome, Subject, Subscription};

/// Shows events as lines on standard error until the stream ends.
pub(super) async fn show(mut events: Subscription) {
    while let Some(event) = events.recv().await {
        if let Some(line) = line(&event) {
            eprintln!("{line}");
        }
    }
}

/// The line for an event, or `None` for events that only a recording needs.
pub(super) fn line(event: &Event) -> Option<String> {
    text(event).map(|text| format!("{:>7.1}  {text}", event.at.as_secs_f64()))
}

/// The line without its time.
pub(super) fn text(event: &Event) -> Option<String> {
    let text = match &event.happening {
        Happening::RunStarted { run, title, .. } => format!("run {run}: {title}"),
        Happening::ScenarioStarted { scenario, question } => format!("scenario {scenario}: {question}"),
        Happening::HostMeasured { accelerator, qemu, speed_factor } => {
            format!("QEMU {qemu}, accelerator {accelerator}, speed factor {speed_factor:.2}")
        }
        Happening::ClusterStarts { warm, reason } => {
            format!("starts {}: {reason}", if *warm { "warm" } else { "cold" })
        }
        Happening::NodePlanned { node, kind, role, address, .. } => {
            format!("{node}: {kind}, {role}, {address}")
        }
        Happening::StepStarted { subject, step } => format!("{}{} …", of(subject), step.label()),
        Happening::StepFinished { subject, step, outcome } => {
            format!("{}{} {}", of(subject), step.label(), outcome_text(outcome))
        }
        Happening::LayerChanged { node, layer, state, detail } => {
            let mark = if *state == LayerState::Green { "green" } else { "waiting" };
            format!("{node}: {} {mark}: {detail}", layer.label())
        }
        Happening::CheckStarted { check, .. } => format!("check {check} …"),
        Happening::CheckFinished { check, outcome, .. } => format!("check {check} {}", outcome_text(outcome)),
        Happening::MachineExited { node, status, expected: false } => format!("{node}: QEMU ended: {status}"),
        Happening::Note { subject, text } => format!("{}{text}", of(subject)),
        Happening::ScenarioFinished { scenario, outcome } => {
            format!("scenario {scenario} {}", outcome_text(outcome))
        }
        Happening::RunFinished { .. }
        | Happening::Console { .. }
        | Happening::MachineExited { .. }
        | Happening::Agenda { .. }
        | Happening::HostSeen { .. }
        | Happening::NetworkPlanned { .. }
        | Happening::ResourcesSampled { .. }
        | Happening::KubernetesEvent { .. }
        | Happening::NetworkAsked { .. }
        | Happening::RouteFollowed { .. } => return None,
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
