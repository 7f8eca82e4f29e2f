//! What a request does to a cluster.

use std::{sync::Arc, time::Duration};

use super::{Answer, ClusterState, NodeState, Request, Running};
use crate::{
    cluster::{Cluster, NodePlan},
    events::{Happening, Subject},
    machine::{Machine, MachineError},
    network::{CAPTURE_LIMIT, Link},
    node::NodeName,
    talos::BootReason,
    words::chain,
};

/// How long a node may take to agree to a reboot before its power is cut.
const AGREE: Duration = Duration::from_secs(10);

/// Does what is asked for. The error is for a person.
pub(super) async fn carry_out(cluster: &Cluster, request: Request) -> Result<Answer, String> {
    match request {
        Request::Status => Ok(Answer::Status(state(cluster).await)),
        Request::Pause { node } => {
            machine(cluster, &node)?.pause().await.map_err(said)?;
            told(cluster, &node, "paused: its CPUs are stopped")
        }
        Request::Resume { node } => {
            machine(cluster, &node)?.resume().await.map_err(said)?;
            told(cluster, &node, "resumed: its CPUs run")
        }
        Request::Kill { node } => {
            let machine = machine(cluster, &node)?;
            machine.kill();
            // So that whoever asks next finds it gone.
            machine.failure().await;
            told(cluster, &node, "killed: its QEMU is gone; lab node reboot starts it anew")
        }
        Request::Reboot { node } => reboot(cluster, &node).await,
        Request::Save { name } => {
            let figures = cluster.save_as(name.clone()).await.map_err(|error| chain(&error))?;
            Ok(Answer::done(format!(
                "saved as {name} in {:.1} s, {:.1} s of which its nodes stood still; lab snapshot restore {name} \
                 brings it back",
                figures.seconds, figures.stood_still
            )))
        }
        Request::Type { node, keys } => {
            let machine = machine(cluster, &node)?;
            let typed = tokio::task::spawn_blocking(move || machine.type_keys(&keys)).await;
            let typed = typed.map_err(|error| error.to_string())?;
            typed.map_err(|error| format!("{node}: its serial console takes nothing: {error}"))?;
            Ok(Answer::done("typed"))
        }
        links => disturb(cluster, links).map_err(|error| chain(&error)),
    }
}

/// The requests that are the switch's matter.
fn disturb(cluster: &Cluster, request: Request) -> Result<Answer, crate::network::NetworkError> {
    let lan = cluster.lan();
    Ok(match request {
        Request::Cut { link } => {
            lan.cut(link.clone())?;
            Answer::done(format!("the link of {link} is cut"))
        }
        Request::Restore { link: Some(link) } => {
            lan.restore(link.clone())?;
            Answer::done(format!("the link of {link} is whole"))
        }
        Request::Restore { link: None } => {
            let links: Vec<String> = lan.restore_all().iter().map(Link::to_string).collect();
            Answer::done(match links.as_slice() {
                [] => "all links were whole".to_owned(),
                links => format!("whole again: {}", links.join(", ")),
            })
        }
        Request::Shape { link, impairment } => {
            lan.shape(link.clone(), impairment)?;
            Answer::done(format!("the link of {link} is shaped, each way: {impairment}"))
        }
        Request::Partition { partition } => {
            let text = format!("the network is parted: {partition}");
            lan.partition(partition)?;
            Answer::done(text)
        }
        Request::Heal => {
            Answer::done(if lan.heal() { "the network is whole again" } else { "the network was not parted" })
        }
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
        // All others are a node's.
        _ => Answer::Error { message: "this request is no link's".to_owned() },
    })
}

async fn state(cluster: &Cluster) -> ClusterState {
    let mut nodes = Vec::new();
    for node in &cluster.plan().nodes {
        let name = &node.spec.name;
        let running = match living(cluster, name) {
            None => Running::Gone,
            Some(machine) => match machine.is_running().await {
                Ok(true) => Running::Yes,
                Ok(false) => Running::Paused,
                Err(_) => Running::Gone,
            },
        };
        nodes.push(NodeState { node: name.clone(), running });
    }
    ClusterState { nodes, network: cluster.lan().faults() }
}

async fn reboot(cluster: &Cluster, name: &NodeName) -> Result<Answer, String> {
    let node = planned(cluster, name)?;
    let Some(machine) = living(cluster, name) else {
        cluster.boot(node).await.map_err(|cause| cause.to_string())?;
        return told(cluster, name, "started anew with the disk that it had");
    };
    if machine.is_running().await.map_err(said)? {
        match ask_to_reboot(cluster, node).await {
            Ok(()) => return told(cluster, name, "reboots, as its machine API was asked to"),
            Err(why) => {
                machine.power_cycle().await.map_err(said)?;
                return told(
                    cluster,
                    name,
                    &format!("lost power and boots again; its machine API said: {why}"),
                );
            }
        }
    }
    machine.power_cycle().await.map_err(said)?;
    machine.resume().await.map_err(said)?;
    told(cluster, name, "lost power and boots again; it had been paused")
}

async fn ask_to_reboot(cluster: &Cluster, node: &NodePlan) -> Result<(), String> {
    let asked = async {
        let client = cluster.connect(node).await?;
        client.reboot(BootReason::PowerCycle, AGREE).await
    };
    match tokio::time::timeout(AGREE, asked).await {
        Ok(agreed) => agreed.map_err(|error| error.to_string()),
        Err(_) => Err(format!("nothing within {} s", AGREE.as_secs())),
    }
}

fn planned<'a>(cluster: &'a Cluster, name: &NodeName) -> Result<&'a NodePlan, String> {
    cluster.plan().node(name).ok_or_else(|| {
        let nodes = cluster.plan().nodes.iter().map(|node| node.spec.name.as_str());
        format!("there is no node {name}; the nodes are {}", nodes.collect::<Vec<_>>().join(", "))
    })
}

/// The machine of a node, if its QEMU lives.
fn living(cluster: &Cluster, name: &NodeName) -> Option<Arc<Machine>> {
    cluster.machine(name).filter(|machine| !machine.has_ended())
}

fn machine(cluster: &Cluster, name: &NodeName) -> Result<Arc<Machine>, String> {
    planned(cluster, name)?;
    living(cluster, name).ok_or_else(|| format!("{name} has no QEMU; lab node reboot {name} starts it"))
}

fn told(cluster: &Cluster, node: &NodeName, text: &str) -> Result<Answer, String> {
    let subject = Subject::Node(node.clone());
    cluster.recorder().record(Happening::Note { subject, text: format!("by request: {text}") });
    Ok(Answer::done(format!("{node} {text}")))
}

fn said(error: MachineError) -> String {
    chain(&error)
}
