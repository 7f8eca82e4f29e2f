//! The start order of a cluster's machines.
//!
//! Nodes that form at once on too few cores starve their control plane: its probes fail and restart
//! components, kubelets and leader elections retry, and the load grows with each delay. Three emulated
//! Talos v1.11.5 nodes on two cores were not Ready after 9 minutes when started together, and in 7 when
//! the control plane started first. Three reference nodes on the same cores form together in less than a
//! minute. Nine reference nodes on one core never form: the API server no longer answers its own health
//! check. If all workers start after it, it rejects kubelets that have the correct token with 401. Four
//! nodes on one core form either way, in 204 s together and in 245 s one after the other.
//!
//! Workers that wait boot before the control plane, at full speed. Their CPUs are stopped in maintenance mode until their
//! turn comes. Three Talos v1.13.9 nodes on two cores (speed factor 1.6): all Ready after 576 s if each worker booted
//! after the node before it was Ready, and after 423 s if both booted beside the control plane and formed together. A node that boots
//! with too little CPU time repeats work: its health checks time out after half a second and run again. On a host with
//! the speed factor 2.4, a node that booted alone reached maintenance mode after 45 s and 50 CPU seconds. Two workers
//! with the nice value 19 reached it after 533 s. Two workers with the nice value 5 had used 93 CPU seconds each after 284 s
//! and had not reached it.

use std::fmt;

use lab_model::accelerator::Accelerator;
use serde::{Deserialize, Serialize};

use crate::config::NodeSoftware;

/// The nice value of a worker's VM on a host that forms the control plane first. Linux gives such a thread a third of
/// the time of one with the value 0 (`sched_prio_to_weight` in kernel/sched/core.c: 335 and 1024). The components
/// of the control plane must answer probes within a second while workers form.
const WORKER_NICENESS: u8 = 5;

/// The requested start order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StartOrder {
    /// Depends on the capacity of the host.
    #[default]
    Auto,
    /// Starts all machines at once.
    Together,
    /// Boots the workers, then forms the control plane, and configures the workers after it is Ready.
    ControlPlaneFirst,
}

/// The decision of the plan, with its reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StartDecision {
    /// Whether workers wait for the control plane.
    pub control_plane_first: bool,
    /// Number of virtual CPUs of workers that boot concurrently before the control plane.
    pub vcpus_at_once: u32,
    /// Number of waiting workers that form concurrently.
    pub workers_at_once: usize,
    /// The reason for the decision.
    pub reason: String,
}

/// The inputs of the decision.
#[derive(Clone, Copy, Debug)]
pub struct Capacity {
    /// Number of host cores.
    pub cores: usize,
    /// Slowdown relative to the reference host.
    pub speed_factor: f64,
    /// The QEMU accelerator.
    pub accelerator: Accelerator,
}

/// Number of reference host cores that a forming node uses, in hundredths.
fn weight(software: &NodeSoftware, accelerator: Accelerator) -> u32 {
    match (software, accelerator) {
        (NodeSoftware::Talos(_), Accelerator::Tcg) => 100,
        (NodeSoftware::Reference, Accelerator::Tcg) => 25,
        // At native speed, formation takes seconds.
        (_, Accelerator::Kvm | Accelerator::Hvf) => 10,
    }
}

impl StartDecision {
    /// Decides the start order for a cluster of these nodes.
    pub fn of(asked: StartOrder, nodes: &[NodeSoftware], capacity: Capacity) -> Self {
        let weights =
            || nodes.iter().map(|software| f64::from(weight(software, capacity.accelerator)) / 100.0);
        let need: f64 = weights().sum();
        let have = capacity.cores as f64 / capacity.speed_factor.max(1.0);
        let short = need > have;
        let (control_plane_first, asked_for) = match asked {
            StartOrder::Auto => (short, ""),
            StartOrder::Together => (false, "as requested; "),
            StartOrder::ControlPlaneFirst => (true, "as requested; "),
        };
        let reason = format!(
            "{asked_for}{} nodes forming at once need about {need:.1} cores of the reference host, and this host has \
             {have:.1}",
            nodes.len()
        );
        // The control plane keeps its share. One worker alone leaves a core idle while it waits for an answer.
        let heaviest = weights().fold(0.01, f64::max);
        let least = if have >= 1.0 { 2.0 } else { 1.0 };
        let workers_at_once = ((have - heaviest) / heaviest).max(least) as usize;
        let vcpus_at_once = u32::try_from(capacity.cores).unwrap_or(u32::MAX).max(1);
        Self { control_plane_first, vcpus_at_once, workers_at_once, reason }
    }

    /// The nice value of a worker's VM, 0 to 19.
    pub fn worker_niceness(&self) -> u8 {
        if self.control_plane_first { WORKER_NICENESS } else { 0 }
    }
}

impl fmt::Display for StartDecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.control_plane_first {
            let at_once = self.workers_at_once;
            write!(
                f,
                "workers boot first, and form once the control plane is Ready, {at_once} at a time: {}",
                self.reason
            )
        } else {
            write!(f, "all nodes start together: {}", self.reason)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn talos(count: usize) -> Vec<NodeSoftware> {
        vec![NodeSoftware::Talos("v1.13.9".parse().expect("release")); count]
    }

    fn reference(count: usize) -> Vec<NodeSoftware> {
        vec![NodeSoftware::Reference; count]
    }

    #[test]
    fn workers_that_wait_come_as_many_at_a_time_as_the_host_carries_and_two_on_a_whole_core() {
        let at_once = |nodes: &[NodeSoftware], cores| {
            let capacity = Capacity { cores, speed_factor: 1.0, accelerator: Accelerator::Tcg };
            StartDecision::of(StartOrder::Auto, nodes, capacity).workers_at_once
        };
        assert_eq!(at_once(&reference(9), 1), 3);
        assert_eq!(at_once(&talos(3), 2), 2);
        assert_eq!(at_once(&talos(9), 4), 3);
        assert_eq!(at_once(&talos(3), 1), 2);
        let slow = Capacity { cores: 2, speed_factor: 2.5, accelerator: Accelerator::Tcg };
        assert_eq!(StartDecision::of(StartOrder::Auto, &talos(3), slow).workers_at_once, 1);
    }

    #[test]
    fn workers_that_boot_first_have_a_core_for_each_of_their_cpus() {
        let at_once = |cores| {
            let capacity = Capacity { cores, speed_factor: 3.0, accelerator: Accelerator::Tcg };
            StartDecision::of(StartOrder::ControlPlaneFirst, &talos(3), capacity).vcpus_at_once
        };
        assert_eq!((at_once(1), at_once(8)), (1, 8));
    }

    #[test]
    fn workers_yield_to_the_control_plane_only_where_they_wait_for_it() {
        let of = |order| {
            let capacity = Capacity { cores: 2, speed_factor: 1.0, accelerator: Accelerator::Tcg };
            StartDecision::of(order, &talos(3), capacity).worker_niceness()
        };
        assert_eq!(of(StartOrder::ControlPlaneFirst), 5);
        assert_eq!(of(StartOrder::Together), 0);
    }

    fn decided(nodes: &[NodeSoftware], cores: usize, speed_factor: f64, accelerator: Accelerator) -> bool {
        let capacity = Capacity { cores, speed_factor, accelerator };
        StartDecision::of(StartOrder::Auto, nodes, capacity).control_plane_first
    }

    #[test]
    fn what_was_measured_is_what_is_decided() {
        let (talos, reference) = (talos(3), reference(3));
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
        let decision = StartDecision::of(StartOrder::Together, &talos(3), capacity);
        let text = "all nodes start together: as requested; 3 nodes forming at once need about 3.0 cores of the \
                    reference host, and this host has 2.0";
        assert_eq!(decision.to_string(), text);
        assert!(StartDecision::of(StartOrder::ControlPlaneFirst, &[], capacity).control_plane_first);
    }
}
