//! Live clusters: everything with side effects from the plan down.
//!
//! [`formation`] boots a plan's nodes and makes them one cluster; it also saves and restores warm clusters.
//! [`machine_api`] is the client of a node's machine API, [`kubernetes`] that of the API server, [`tailnet`]
//! runs the control server and the outside client, [`control`] is the socket by which other commands
//! disturb a living lab. This crate uses every crate below it (`lab-model`, `lab-image`, `lab-oci`,
//! `lab-plan`, `lab-vm`) and knows nothing of scenarios, checks and reports.
//!
//! Start reading at [`formation::Cluster`].

pub mod control;
pub mod formation;
pub mod kubernetes;
pub mod machine_api;
pub mod tailnet;
pub mod wait;
