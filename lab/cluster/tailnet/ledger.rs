//! The state of each route: advertised, approved, accepted, reached. Plain data from the control server,
//! the client and probes.

use std::{fmt, time::Duration};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{ClientStatus, Preferences, TailnetNode};

/// A fact that is true, false or not yet observed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fact {
    /// Not observed yet.
    #[default]
    Unknown,
    Yes,
    /// False, with the observation instead.
    No(String),
}

impl Fact {
    /// A fact from an observation; `seen` only counts when the fact is false.
    pub fn of(so: bool, seen: impl Into<String>) -> Self {
        if so { Self::Yes } else { Self::No(seen.into()) }
    }

    pub fn holds(&self) -> bool {
        matches!(self, Self::Yes)
    }
}

/// What a route leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Carries {
    Pods,
    /// Services (ClusterIP addresses).
    Services,
    /// Other targets, e.g. the nodes' network.
    Other,
}

/// The protocol of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// TCP, or a protocol over TCP.
    Tcp,
    /// A UDP request and its response.
    Udp,
}

/// The result of one request and its response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// The requested address and port, or URL.
    pub target: String,
    pub protocol: Protocol,
    /// Milliseconds until the response, or the reason for no response.
    pub outcome: Result<u64, String>,
}

impl Probe {
    /// A probe with a response.
    pub fn answered(target: impl Into<String>, protocol: Protocol, after: Duration) -> Self {
        let milliseconds = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        Self { target: target.into(), protocol, outcome: Ok(milliseconds) }
    }

    /// A probe without a response.
    pub fn lost(target: impl Into<String>, protocol: Protocol, why: impl Into<String>) -> Self {
        Self { target: target.into(), protocol, outcome: Err(why.into()) }
    }
}

/// The state of one prefix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    pub prefix: IpNet,
    pub carries: Carries,
    /// The gateway has advertised it to the control server.
    pub advertised: Fact,
    /// The control server has approved it for the gateway, and routes its packets to no other node.
    pub approved: Fact,
    /// The client uses it.
    pub accepted: Fact,
    /// Probes of the prefix, in order. The first probe of a target may be slow because the nodes look for a
    /// path.
    pub probes: Vec<Probe>,
}

impl Route {
    /// The shortest response time in milliseconds.
    pub fn reached(&self) -> Option<u64> {
        self.probes.iter().filter_map(|probe| probe.outcome.as_ref().ok().copied()).min()
    }
}

/// The routes of one gateway, as one client sees them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteLedger {
    /// The gateway's host name in the tailnet.
    pub gateway: String,
    /// The gateway's tailscale service runs.
    pub service: Fact,
    /// The gateway is logged in and connected.
    pub login: Fact,
    pub routes: Vec<Route>,
}

impl RouteLedger {
    /// A ledger in which every fact is unknown.
    pub fn new(gateway: &str, routes: impl IntoIterator<Item = (IpNet, Carries)>) -> Self {
        let route = |(prefix, carries)| Route {
            prefix,
            carries,
            advertised: Fact::Unknown,
            approved: Fact::Unknown,
            accepted: Fact::Unknown,
            probes: Vec::new(),
        };
        Self {
            gateway: gateway.to_owned(),
            service: Fact::Unknown,
            login: Fact::Unknown,
            routes: routes.into_iter().map(route).collect(),
        }
    }

    /// Records the control server's data: login, advertised, approved.
    pub fn note_nodes(&mut self, nodes: &[TailnetNode]) {
        // A node that logs in again under the same name leaves an old entry behind.
        let mut own: Vec<_> = nodes.iter().filter(|node| node.name == self.gateway).collect();
        own.sort_by_key(|node| (node.online, node.id));
        let Some(node) = own.last() else {
            let names: Vec<_> = nodes.iter().map(|node| node.name.as_str()).collect();
            let seen = match names.as_slice() {
                [] => "the control server knows no node".to_owned(),
                names => format!("the control server knows only {}", names.join(", ")),
            };
            self.login = Fact::No(seen);
            for route in &mut self.routes {
                (route.advertised, route.approved) = (Fact::Unknown, Fact::Unknown);
            }
            return;
        };
        self.login = Fact::of(node.online, "it logged in once, and is offline now");
        let list = |routes: &[IpNet]| match routes {
            [] => "nothing".to_owned(),
            routes => routes.iter().map(IpNet::to_string).collect::<Vec<_>>().join(", "),
        };
        for route in &mut self.routes {
            let prefix = route.prefix;
            route.advertised = Fact::of(
                node.advertised.contains(&prefix),
                format!("it advertises {}", list(&node.advertised)),
            );
            let chosen = nodes.iter().find(|n| n.id != node.id && n.primary.contains(&prefix));
            route.approved = match chosen {
                Some(other) => Fact::No(format!("the control server gave it to {}", other.name)),
                None => Fact::of(
                    node.approved.contains(&prefix),
                    format!("approved for it: {}", list(&node.approved)),
                ),
            };
        }
    }

    /// Records the client's data: accepted.
    pub fn note_client(&mut self, status: &ClientStatus, preferences: &Preferences) {
        for route in &mut self.routes {
            route.accepted = if !status.is_running() {
                Fact::No(format!("the client's state is {}", status.backend_state))
            } else if !preferences.accept_routes {
                Fact::No("the client does not accept routes".to_owned())
            } else {
                match status.router_of(route.prefix) {
                    None => Fact::No("no node of the client's map has this route".to_owned()),
                    Some(peer) if peer.host_name == self.gateway => Fact::Yes,
                    Some(peer) => Fact::No(format!("the client's map gives it to {}", peer.host_name)),
                }
            };
        }
    }

    /// Records a probe into `prefix`; ignores a prefix that is not in the ledger.
    pub fn note_probe(&mut self, prefix: IpNet, probe: Probe) {
        if let Some(route) = self.routes.iter_mut().find(|route| route.prefix == prefix) {
            route.probes.push(probe);
        }
    }
}

impl fmt::Display for RouteLedger {
    /// A table, one line per prefix.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |fact: &Fact| match fact {
            Fact::Unknown => "?",
            Fact::Yes => "yes",
            Fact::No(_) => "no",
        };
        writeln!(
            f,
            "gateway {}: service running {}, logged in {}",
            self.gateway,
            word(&self.service),
            word(&self.login)
        )?;
        write!(f, "{:<20} {:<10} {:<9} {:<9} reached", "prefix", "advertised", "approved", "accepted")?;
        for route in &self.routes {
            let reached = match (route.reached(), route.probes.last()) {
                (Some(milliseconds), _) => format!("{milliseconds} ms"),
                (None, Some(_)) => "no".to_owned(),
                (None, None) => "?".to_owned(),
            };
            write!(
                f,
                "\n{:<20} {:<10} {:<9} {:<9} {reached}",
                route.prefix.to_string(),
                word(&route.advertised),
                word(&route.approved),
                word(&route.accepted)
            )?;
        }
        Ok(())
    }
}
