//! What became of each route: advertised, approved, accepted, reached. Plain data that is filled
//! from what control server, client and probes say.

use std::{fmt, time::Duration};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{ClientStatus, Preferences, TailnetNode};

/// Something that is so, is not so, or has not been looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fact {
    /// Nobody looked.
    #[default]
    Unknown,
    /// It is so.
    Yes,
    /// It is not so, and what was seen instead.
    No(String),
}

impl Fact {
    /// A fact from an observation; `seen` only counts when it is not so.
    pub fn of(so: bool, seen: impl Into<String>) -> Self {
        if so { Self::Yes } else { Self::No(seen.into()) }
    }

    /// Whether it is [`Fact::Yes`].
    pub fn holds(&self) -> bool {
        matches!(self, Self::Yes)
    }
}

/// What lies behind a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Carries {
    /// Pods.
    Pods,
    /// Services (cluster addresses).
    Services,
    /// Something else, e.g. the nodes' network.
    Other,
}

/// How a probe spoke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// A TCP connection or something in one.
    Tcp,
    /// A UDP question and its answer.
    Udp,
}

/// One packet there and back, or what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// Address and port, or URL, that was asked.
    pub target: String,
    /// How.
    pub protocol: Protocol,
    /// Milliseconds until the answer, or why there was none.
    pub outcome: Result<u64, String>,
}

impl Probe {
    /// A probe that was answered.
    pub fn answered(target: impl Into<String>, protocol: Protocol, after: Duration) -> Self {
        let milliseconds = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        Self { target: target.into(), protocol, outcome: Ok(milliseconds) }
    }

    /// A probe that was not.
    pub fn lost(target: impl Into<String>, protocol: Protocol, why: impl Into<String>) -> Self {
        Self { target: target.into(), protocol, outcome: Err(why.into()) }
    }
}

/// One prefix and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The prefix.
    pub prefix: IpNet,
    /// What lies behind it.
    pub carries: Carries,
    /// The gateway told the control server of it.
    pub advertised: Fact,
    /// The control server lets the gateway have it, and sends packets to no other node.
    pub approved: Fact,
    /// The client uses it.
    pub accepted: Fact,
    /// Packets that were sent into it, in order. The first to a target may be slow: a path is
    /// looked for.
    pub probes: Vec<Probe>,
}

impl Route {
    /// The fastest answer in milliseconds.
    pub fn reached(&self) -> Option<u64> {
        self.probes.iter().filter_map(|probe| probe.outcome.as_ref().ok().copied()).min()
    }
}

/// The routes of one gateway, as seen by one client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteLedger {
    /// The gateway's host name in the tailnet.
    pub gateway: String,
    /// The gateway's tailscale service runs.
    pub service: Fact,
    /// The gateway is logged in and connected.
    pub login: Fact,
    /// Its routes.
    pub routes: Vec<Route>,
}

impl RouteLedger {
    /// Nothing is known yet.
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

    /// Notes what the control server knows: login, advertised, approved.
    pub fn note_nodes(&mut self, nodes: &[TailnetNode]) {
        // A node that logged in anew under one name leaves an old entry behind.
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

    /// Notes what the client knows: accepted.
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

    /// Notes a probe into `prefix`; a prefix that is not in the ledger is ignored.
    pub fn note_probe(&mut self, prefix: IpNet, probe: Probe) {
        if let Some(route) = self.routes.iter_mut().find(|route| route.prefix == prefix) {
            route.probes.push(probe);
        }
    }
}

impl fmt::Display for RouteLedger {
    /// A table, one line a prefix.
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
