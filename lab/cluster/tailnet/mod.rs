//! A tailnet without the internet: control server, outside client, and what became of each route.
//!
//! The question is whether the gateway node really routes the cluster's pod and service networks to
//! a tailnet client. The answer is a chain of links, each of which can break by itself (see
//! [`Link`]), so each is observed apart and the first broken one is named.
//!
//! Plain data: [`RouteLedger`] and the functions that fill it, [`check_routes`],
//! [`ExtensionServiceConfig`], [`ControlSpec`]. Effects: [`ControlServer`] owns one headscale,
//! [`OutsideClient`] one official tailscaled in user-space mode; both listen on loopback only, need
//! no privilege and end with their owner. All that could hold a key (databases, node keys, key
//! files) lives in private directories that are removed with them, never in the run directory.

mod certificate;
mod client;
mod client_status;
mod control_api;
mod control_config;
mod control_server;
mod daemon;
mod datagram;
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
