//! In which order a cluster's machines are started.
//!
//! Nodes that form at once on too few cores starve their control plane: its probes fail and restart
//! components, kubelets and leader elections try again, and the load grows with what it delays. Three
//! emulated Talos v1.11.5 nodes on two cores were not Ready after 9 minutes when started together, and
//! in 7 when the control plane came first; three reference nodes on the same cores form together in
//! less than a minute. Nine reference nodes on one core never do: the API server no longer answers its own
//! health check, and with workers that all come after it, it answers kubelets of the right token with 401. Four on one
//! core form either way, in 204 s together and in 245 s one after the other.

use std::fmt;

use lab_model::accelerator::Accelerator;
use serde::{Deserialize, Serialize};

use crate::config::NodeSoftware;

/// What a user asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StartOrder {
    /// As the host can carry.
    #[default]
    Auto,
    /// All machines at once.
    Together,
    /// Workers once the control plane is Ready.
    ControlPlaneFirst,
}

/// What the plan has decided, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StartDecision {
    /// Whether workers wait for the control plane.
    pub control_plane_first: bool,
    /// How many workers that waited form at a time.
    pub workers_at_once: usize,
    /// Why.
    pub reason: String,
}

/// What the decision depends on.
#[derive(Clone, Copy, Debug)]
pub struct Capacity {
    /// The host's cores.
    pub cores: usize,
    /// How many times slower than the reference host it is.
    pub speed_factor: f64,
    /// How guests are run.
    pub accelerator: Accelerator,
}

/// Cores of the reference host that a node keeps busy while it forms, in hundredths.
fn weight(software: NodeSoftware, accelerator: Accelerator) -> u32 {
    match (software, accelerator) {
        (NodeSoftware::Talos, Accelerator::Tcg) => 100,
        (NodeSoftware::Reference, Accelerator::Tcg) => 25,
        // At native speed formation is a matter of seconds.
        (_, Accelerator::Kvm | Accelerator::Hvf) => 10,
    }
}

impl StartDecision {
    /// Decides for a cluster of these nodes.
    pub fn of(asked: StartOrder, nodes: &[NodeSoftware], capacity: Capacity) -> Self {
        let weights =
            || nodes.iter().map(|software| f64::from(weight(*software, capacity.accelerator)) / 100.0);
        let need: f64 = weights().sum();
        let have = capacity.cores as f64 / capacity.speed_factor.max(1.0);
        let short = need > have;
        let (control_plane_first, asked_for) = match asked {
            StartOrder::Auto => (short, ""),
            StartOrder::Together => (false, "as asked for; "),
            StartOrder::ControlPlaneFirst => (true, "as asked for; "),
        };
        let reason = format!(
            "{asked_for}{} nodes forming at once need about {need:.1} cores of the reference host, and this host has \
             {have:.1}",
            nodes.len()
        );
        // The control plane keeps its share.
        let heaviest = weights().fold(0.01, f64::max);
        let workers_at_once = ((have - heaviest) / heaviest).max(1.0) as usize;
        Self { control_plane_first, workers_at_once, reason }
    }
}

impl fmt::Display for StartDecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.control_plane_first {
            let at_once = self.workers_at_once;
            write!(f, "workers start once the control plane is Ready, {at_once} at a time: {}", self.reason)
        } else {
            write!(f, "all nodes start together: {}", self.reason)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_that_wait_come_as_many_at_a_time_as_the_host_carries_and_at_least_one() {
        let at_once = |nodes: &[NodeSoftware], cores| {
            let capacity = Capacity { cores, speed_factor: 1.0, accelerator: Accelerator::Tcg };
            StartDecision::of(StartOrder::Auto, nodes, capacity).workers_at_once
        };
        assert_eq!(at_once(&[NodeSoftware::Reference; 9], 1), 3);
        assert_eq!(at_once(&[NodeSoftware::Talos; 3], 2), 1);
        assert_eq!(at_once(&[NodeSoftware::Talos; 9], 4), 3);
        assert_eq!(at_once(&[NodeSoftware::Talos; 3], 1), 1);
    }

    fn decided(nodes: &[NodeSoftware], cores: usize, speed_factor: f64, accelerator: Accelerator) -> bool {
        let capacity = Capacity { cores, speed_factor, accelerator };
        StartDecision::of(StartOrder::Auto, nodes, capacity).control_plane_first
    }

    #[test]
    fn what_was_measured_is_what_is_decided() {
        let (talos, reference) = ([NodeSoftware::Talos; 3], [NodeSoftware::Reference; 3]);
        assert!(decided(&talos, 2, 1.0, Accelerator::Tcg));
        assert!(!decided(&talos, 4, 1.0, Accelerator::Tcg));
        assert!(!decided(&talos, 2, 1.0, Accelerator::Kvm));
        assert!(!decided(&reference, 2, 1.3, Accelerator::Tcg));
        assert!(decided(&reference, 2, 4.0, Accelerator::Tcg));
        assert!(!decided(&talos[..1], 1, 1.0, Accelerator::Tcg));
    }

    #[test]
    fn the_user_decides_and_the_reason_is_told_all_the_same() {
        let capacity = Capacity { cores: 2, speed_factor: 1.0, accelerator: Accelerator::Tcg };
        let decision = StartDecision::of(StartOrder::Together, &[NodeSoftware::Talos; 3], capacity);
        let text = "all nodes start together: as asked for; 3 nodes forming at once need about 3.0 cores of the \
                    reference host, and this host has 2.0";
        assert_eq!(decision.to_string(), text);
        assert!(StartDecision::of(StartOrder::ControlPlaneFirst, &[], capacity).control_plane_first);
    }
}
