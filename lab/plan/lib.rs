//! What will be done, as plain data: scenario files, cluster specs, machine configs, plans.
//!
//! Everything here is pure: no async runtime, no process, no network, no Kubernetes client. It reads text
//! that it is given and returns data that prints, compares and tests without a VM. This crate uses
//! `lab-model` and `lab-image` (what an image holds decides what a node should run).
//!
//! [`cluster`] holds the spec of a cluster and the plan made from it. [`config`] generates and patches
//! machine configs. [`lint`] and [`own_configs`] judge the user's own. [`tailnet`] is the gateway's document
//! and its routes. Start reading at [`cluster::Plan`].

pub mod cluster;
pub mod config;
pub mod lint;
pub mod network;
pub mod own_configs;
pub mod tailnet;
pub mod user_config;
