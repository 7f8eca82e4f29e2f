//! Execution of requests on a cluster.

use std::sync::Arc;

use lab_model::{
    events::{EventKind, Subject},
    network::Link,
    node::NodeName,
    words::chain,
};
use lab_vm::network::CAPTURE_LIMIT;

use super::{Answer, ClusterState, NodeState, Request, Running};
use crate::formation::{
    AfterSave, Cluster, FormedCluster, MachineState, NodeError, Reboot, SaveError, SaveFigures,
};

/// Executes a request. The error is a message for the user.
pub(super) async fn carry_out(cluster: &Arc<Cluster>, request: Request) -> Result<Answer, String> {
    match request {
        Request::Status => Ok(Answer::Status(state(cluster).await)),
        Request::Save { name, stand_still } => {
            let after = if stand_still { AfterSave::StandStill } else { AfterSave::Resume };
            let figures = save(cluster, name.clone(), after).await.map_err(|error| chain(&error))?;
            Ok(Answer::done(format!(
                "saved as {name} in {:.1} s, {:.1} s of which its nodes stood still; \
                 `lab snapshot restore {name}` restores it",
                figures.seconds, figures.stood_still
            )))
        }
        Request::Pause { .. }
        | Request::Resume { .. }
        | Request::Kill { .. }
        | Request::Reboot { .. }
        | Request::Type { .. } => act(cluster, request).await.map_err(|error| chain(&error)),
        links => disturb(cluster, links).map_err(|error| chain(&error)),
    }
}

async fn save(cluster: &Arc<Cluster>, name: NodeName, after: AfterSave) -> Result<SaveFigures, SaveError> {
    FormedCluster::of(cluster)?.save_as(name, after).await
}

/// Executes the requests for a node.
async fn act(cluster: &Cluster, request: Request) -> Result<Answer, NodeError> {
    Ok(match request {
        Request::Pause { node } => {
            cluster.node(&node)?.pause().await?;
            told(cluster, &node, "paused: its CPUs are stopped")
        }
        Request::Resume { node } => {
            cluster.node(&node)?.resume().await?;
            told(cluster, &node, "resumed: its CPUs run")
        }
        Request::Kill { node } => {
            cluster.node(&node)?.kill().await?;
            told(cluster, &node, "killed: its QEMU is gone; lab node reboot starts it again")
        }
        Request::Reboot { node } => {
            let text = match cluster.node(&node)?.reboot().await? {
                Reboot::Started => "started again with its disk".to_owned(),
                Reboot::Agreed => "reboots, as its machine API was asked to".to_owned(),
                Reboot::PowerCycled { refusal } => {
                    format!("lost power and boots again; its machine API said: {refusal}")
                }
                Reboot::PowerCycledWhilePaused => "lost power and boots again; it had been paused".to_owned(),
            };
            told(cluster, &node, &text)
        }
        Request::Type { node, keys } => {
            cluster.node(&node)?.type_keys(keys).await?;
            Answer::done("typed")
        }
        // All other requests apply to the switch or the cluster.
        _ => Answer::Error { message: "this request is not for a node".to_owned() },
    })
}

/// Executes the requests for the switch.
fn disturb(cluster: &Cluster, request: Request) -> Result<Answer, lab_vm::network::NetworkError> {
    let lan = cluster.lan();
    Ok(match request {
        Request::Cut { link } => {
            lan.cut(link.clone())?;
            Answer::done(format!("the link of {link} is cut"))
        }
        Request::Restore { link: Some(link) } => {
            lan.restore(link.clone())?;
            Answer::done(format!("the link of {link} is restored"))
        }
        Request::Restore { link: None } => {
            let links: Vec<String> = lan.restore_all().iter().map(Link::to_string).collect();
            Answer::done(match links.as_slice() {
                [] => "no link was cut or shaped".to_owned(),
                links => format!("whole again: {}", links.join(", ")),
            })
        }
        Request::Shape { link, impairment } => {
            lan.shape(link.clone(), impairment)?;
            Answer::done(format!("the link of {link} is shaped, each way: {impairment}"))
        }
        Request::Partition { partition } => {
            let text = format!("the network is partitioned: {partition}");
            lan.partition(partition)?;
            Answer::done(text)
        }
        Request::Heal => Answer::done(if lan.heal() {
            "the partition has ended"
        } else {
            "the network was not partitioned"
        }),
        Request::CaptureStart { file: Some(file), .. } if file.is_relative() => Answer::Error {
            message: format!("{} is not an absolute path, and this is another directory", file.display()),
        },
        Request::CaptureStart { link, file, limit } => {
            let state = lan.start_capture(link, file, limit.unwrap_or(CAPTURE_LIMIT))?;
            let text = format!("the link of {} is captured to {}", state.link, state.file.display());
            Answer::with_file(text, state.file)
        }
        Request::CaptureStop { link } => {
            let state = lan.stop_capture(link)?;
            let left_out = match state.left_out {
                0 => String::new(),
                count => format!(" ({count} more are not in it)"),
            };
            let text = format!("{} frames in {}{left_out}", state.frames, state.file.display());
            Answer::with_file(text, state.file)
        }
        // All other requests apply to a node.
        _ => Answer::Error { message: "this request is not for a link".to_owned() },
    })
}

async fn state(cluster: &Cluster) -> ClusterState {
    let mut nodes = Vec::new();
    for node in &cluster.plan().nodes {
        let running = match cluster.node_of(node).state().await {
            MachineState::Running => Running::Yes,
            MachineState::Paused => Running::Paused,
            MachineState::Gone => Running::Gone,
        };
        nodes.push(NodeState { node: node.spec.name.clone(), running });
    }
    ClusterState { nodes, network: cluster.lan().faults() }
}

fn told(cluster: &Cluster, node: &NodeName, text: &str) -> Answer {
    let subject = Subject::Node(node.clone());
    cluster.recorder().record(EventKind::Note { subject, text: format!("by request: {text}") });
    Answer::done(format!("{node} {text}"))
}
