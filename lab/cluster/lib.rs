//! Live clusters: this crate executes a plan.
//!
//! - [`formation`] boots the nodes of a plan and forms a cluster. It also saves and restores warm clusters.
//! - [`machine_api`] is the client of a node's Talos machine API.
//! - [`kubernetes`] is the client of the Kubernetes API server.
//! - [`tailnet`] runs the tailnet's control server and a client outside the cluster.
//! - [`control`] is the socket on which a running lab accepts commands such as `lab node kill`.
//! - [`wait`] has conditions and deadlines for all of them.
//!
//! The crate depends on `lab-model`, `lab-image`, `lab-oci`, `lab-plan` and `lab-vm`. It does not depend on
//! scenarios, checks or reports.
//!
//! Start reading at [`formation::Cluster`].

pub mod control;
pub mod formation;
pub mod kubernetes;
pub mod machine_api;
pub mod tailnet;
pub mod wait;
