//! A tailnet without internet access: control server, outside client and the state of each route.
//!
//! The tests verify that the gateway node routes the pod and service networks of the cluster to a tailnet
//! client. The route is a chain of links, and each link can break independently (see [`Link`]). Each link
//! is therefore observed separately, and the report names the first broken link.
//!
//! Plain data: [`RouteLedger`] and the functions that fill it, [`ControlSpec`]. Effects: [`ControlServer`]
//! owns a headscale process, and [`OutsideClient`] owns an official tailscaled in user-space mode. The
//! server listens on loopback only; both need no privileges and end with their owner. All files that may contain a key
//! (databases, node keys, key files) are in private directories, never in the run directory. The owner
//! deletes the private directories.

mod certificate;
mod client;
mod client_status;
mod control_api;
mod control_config;
mod control_server;
mod daemon;
mod duplicates;
mod error;
mod gateway_log;
mod ledger;
mod link;
mod local_api;
mod program_sources;
mod programs;
mod saved_server;

pub use client::{ClientSpec, OutsideClient, Paths, TAILSCALE};
pub use client_status::{ClientStatus, Path, Peer, Pong, Preferences};
pub use control_api::{KeyOptions, TailnetNode, User};
pub use control_config::{Approval, ControlSpec, GATEWAY_TAG, Transport};
pub use control_server::ControlServer;
pub use duplicates::{SharedPrefix, shared_prefixes};
pub use error::TailnetError;
pub use gateway_log::telling_line;
pub use ledger::{Carries, Fact, Probe, Protocol, Route, RouteLedger};
pub use link::{BrokenLink, Link};
pub use programs::{Programs, ProgramsError};
pub use saved_server::SavedControlServer;
