//! The control channel of a living lab: other commands ask it to disturb links and nodes.
//!
//! A unix socket that only its owner may use, beside the sockets of the lab's network; `lab.json` names it. Each line is
//! a [`Request`] in JSON and is answered with one line, an [`Answer`]. Links are the switch's matter
//! ([`crate::network`]), nodes their QEMU's and their machine API's; this module only hands requests on.

mod answer;
mod carry_out;
mod client;
mod request;
mod server;

pub use answer::{Answer, ClusterState, NodeState, Running};
pub use client::{ControlClient, ControlError};
pub use request::{InvalidRequest, LONGEST_REQUEST, Request};
pub use server::ControlServer;
