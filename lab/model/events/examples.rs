//! Events for tests of other crates.

use std::net::Ipv4Addr;

use super::event::{
    ChainLink, EventKind, Layer, LayerState, Outcome, Planned, PlannedImage, Step, Subject, Target,
};
use crate::node::Kind;

/// One event of each kind, with `text` in every text, for tests of what shows events.
#[doc(hidden)]
pub fn every_kind(text: &str) -> Vec<EventKind> {
    let node = || "node-1".parse().expect("name");
    let text = || text.to_owned();
    let failed = || Outcome::Failed { cause: text() };
    let not_run = || Outcome::NotRun { cause: text() };
    let broken = || ChainLink::Broken(text());
    vec![
        EventKind::RunStarted {
            run: text(),
            title: text(),
            wall: jiff::Timestamp::UNIX_EPOCH,
            format: 1,
            shard: None,
        },
        EventKind::Agenda { scenarios: vec![Planned { scenario: text(), checks: vec![text()] }] },
        EventKind::ScenarioStarted { scenario: text(), question: text() },
        EventKind::HostMeasured { accelerator: text(), qemu: text(), speed_factor: 1.0 },
        EventKind::ClusterStarts { warm: true, reason: text() },
        EventKind::HostSeen { lab: text(), os: text(), arch: text(), cores: 1, memory_mib: None },
        EventKind::NetworkPlanned { lan: text(), gateway: Ipv4Addr::LOCALHOST, tailnet: Some(text()) },
        EventKind::NodePlanned {
            node: node(),
            kind: Kind::Worker,
            role: crate::node::Role::new("compute").expect("role"),
            address: Ipv4Addr::LOCALHOST,
            image: Some(PlannedImage { source: text(), extensions: vec![text()] }),
        },
        EventKind::StepStarted { subject: Subject::Cluster, step: Step::Boot },
        EventKind::StepFinished { subject: Subject::Cluster, step: Step::Boot, outcome: failed() },
        EventKind::Console { node: node(), line: text() },
        EventKind::ResourcesSampled { node: node(), cpu_seconds: 1.0, rss_bytes: 1 },
        EventKind::KubernetesEvent {
            subject: Subject::Cluster,
            warning: true,
            object: text(),
            reason: text(),
            message: text(),
            count: 1,
        },
        EventKind::NetworkAsked {
            from: text(),
            target: Target::PodOn(text()),
            address: text(),
            outcome: not_run(),
        },
        EventKind::RouteFollowed {
            gateway: text(),
            prefix: text(),
            advertised: broken(),
            approved: broken(),
            accepted: broken(),
            reached: broken(),
            fastest_ms: None,
        },
        EventKind::MachineExited { node: node(), status: text(), expected: false },
        EventKind::LayerChanged {
            node: node(),
            layer: Layer::Services,
            state: LayerState::Waiting,
            detail: text(),
        },
        EventKind::CheckStarted { check: text(), title: text() },
        EventKind::CheckFinished {
            check: text(),
            title: text(),
            outcome: failed(),
            evidence: vec![text(), text()],
        },
        EventKind::Note { subject: Subject::Cluster, text: text() },
        EventKind::ScenarioFinished { scenario: text(), outcome: failed() },
        EventKind::RunFinished { outcome: not_run() },
    ]
}
