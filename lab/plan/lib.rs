//! Plans as plain data: scenario files, cluster specs, machine configs and plans.
//!
//! This crate is pure: no async runtime, no process, no network, no Kubernetes client. It parses text and
//! returns data. Callers can print, compare and test the data without a VM. The crate depends on
//! `lab-model` and `lab-image`, because the content of an image determines the expected software of a
//! node.
//!
//! [`cluster`] contains the spec of a cluster and the plan for it. [`config`] generates and patches
//! machine configs. [`scenario`] parses scenario files, and [`own_checks`] what the user's own checks expect. [`lint`] and
//! [`own_configs`] check the user's own
//! configs. [`tailnet`] contains the gateway's document and its routes. Start reading at
//! [`cluster::Plan`].

pub mod cluster;
pub mod config;
pub mod lint;
pub mod network;
pub mod own_checks;
pub mod own_configs;
pub mod scenario;
pub mod tailnet;
pub mod user_config;
