//! The control channel of a running lab. Other commands use it to change links and nodes.
//!
//! The channel is a unix socket that only its owner can use, in the socket directory of the lab's network.
//! `lab.json` contains its path. Each line is a [`Request`] in JSON. The response is one line, an
//! [`Answer`]. The switch executes requests for links ([`lab_vm::network`]), and QEMU and the machine API
//! execute requests for nodes. This module only forwards requests.

mod answer;
mod carry_out;
mod client;
mod request;
mod server;

pub use answer::{Answer, ClusterState, NodeState, Running};
pub use client::{ControlClient, ControlError};
pub use request::{InvalidRequest, LONGEST_REQUEST, Request};
pub use server::ControlServer;
