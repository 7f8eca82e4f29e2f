//! The chain from a gateway's service to a response from a pod, and its first broken link.

use std::fmt;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{Carries, Fact, Protocol, RouteLedger};

/// The links in order. Each link depends on the previous link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Link {
    /// The gateway's `ext-tailscale` service runs.
    ServiceRunning,
    /// The gateway's tailscaled is logged in to the control server and connected.
    LoggedIn,
    /// The gateway advertises the route.
    Advertised,
    /// The control server approved the route for the gateway and for no other node.
    Approved,
    /// The client uses the route.
    Accepted,
    /// A packet reaches a pod, and the response returns.
    PodReached,
    /// A packet reaches a service's cluster address, and the response returns.
    ServiceReached,
    /// A UDP packet reaches its target, and the response returns.
    UdpReached,
}

impl Link {
    /// All links in order.
    pub const ALL: [Self; 8] = [
        Self::ServiceRunning,
        Self::LoggedIn,
        Self::Advertised,
        Self::Approved,
        Self::Accepted,
        Self::PodReached,
        Self::ServiceReached,
        Self::UdpReached,
    ];

    /// Returns the label for users.
    pub fn label(self) -> &'static str {
        match self {
            Self::ServiceRunning => "service running",
            Self::LoggedIn => "logged in",
            Self::Advertised => "route advertised",
            Self::Approved => "route approved",
            Self::Accepted => "route accepted",
            Self::PodReached => "pod reached",
            Self::ServiceReached => "service reached",
            Self::UdpReached => "reached by UDP",
        }
    }

    /// Returns a hint for the case that this is the first broken link.
    pub fn hint(self) -> &'static str {
        match self {
            Self::ServiceRunning => {
                "apply the ExtensionServiceConfig named tailscale to the gateway, and check that its image has the extension"
            }
            Self::LoggedIn => {
                "see the service's log: a refused or expired key, a wrong --login-server, or a control server that does not run"
            }
            Self::Advertised => "put the network into TS_ROUTES of the gateway's tailscale config",
            Self::Approved => {
                "approve the route on the control server, or let its autoApprovers do so for the key's tag"
            }
            Self::Accepted => {
                "give the client --accept-routes, and check on the control server that no rule hides the gateway from it"
            }
            Self::PodReached => {
                "the tailnet works: look at IP forwarding on the gateway and at the pod network between the nodes"
            }
            Self::ServiceReached => {
                "pods answer: look at kube-proxy on the gateway and at the service's endpoints"
            }
            Self::UdpReached => {
                "TCP passes: look at the UDP service's endpoints and at packet filters on the gateway"
            }
        }
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.label())
    }
}

/// The break in a chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokenLink {
    pub link: Link,
    /// The affected prefix. `None` if the break affects all prefixes.
    pub prefix: Option<IpNet>,
    /// The observed state.
    pub seen: String,
}

impl fmt::Display for BrokenLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the chain breaks at \"{}\"", self.link)?;
        if let Some(prefix) = self.prefix {
            write!(f, " for {prefix}")?;
        }
        write!(f, ": {}; {}", self.seen, self.link.hint())
    }
}

impl RouteLedger {
    /// Returns the first broken link of all routes, or `None` if no break was observed. An unknown fact
    /// does not break the chain. A route without a probe does, because only packets can prove a route.
    pub fn first_broken_link(&self) -> Option<BrokenLink> {
        Link::ALL.into_iter().find_map(|link| match link {
            Link::ServiceRunning => broken(link, None, &self.service),
            Link::LoggedIn => broken(link, None, &self.login),
            Link::Advertised => self.first_route(link, |route| &route.advertised),
            Link::Approved => self.first_route(link, |route| &route.approved),
            Link::Accepted => self.first_route(link, |route| &route.accepted),
            Link::PodReached => self.unreached(link, |carries| carries != Carries::Services),
            Link::ServiceReached => self.unreached(link, |carries| carries == Carries::Services),
            Link::UdpReached => self.routes.iter().find_map(|route| {
                let mut udp = route.probes.iter().filter(|probe| probe.protocol == Protocol::Udp).peekable();
                udp.peek()?;
                lost(udp, link, route.prefix)
            }),
        })
    }

    /// Reports whether a link before the first packet is broken.
    pub fn first_link_before_packets_is_broken(&self) -> bool {
        self.first_broken_link().is_some_and(|broken| broken.link < Link::PodReached)
    }

    fn first_route(&self, link: Link, fact: impl Fn(&super::Route) -> &Fact) -> Option<BrokenLink> {
        self.routes.iter().find_map(|route| broken(link, Some(route.prefix), fact(route)))
    }

    fn unreached(&self, link: Link, concerns: impl Fn(Carries) -> bool) -> Option<BrokenLink> {
        self.routes.iter().filter(|route| concerns(route.carries)).find_map(|route| {
            let tcp = route.probes.iter().filter(|probe| probe.protocol == Protocol::Tcp);
            lost(tcp, link, route.prefix)
        })
    }
}

fn broken(link: Link, prefix: Option<IpNet>, fact: &Fact) -> Option<BrokenLink> {
    match fact {
        Fact::Unknown | Fact::Yes => None,
        Fact::No(seen) => Some(BrokenLink { link, prefix, seen: seen.clone() }),
    }
}

/// Reports a break unless each target responded at least once. The first packet to a target may get lost
/// while the nodes look for a path.
fn lost<'a>(probes: impl Iterator<Item = &'a super::Probe>, link: Link, prefix: IpNet) -> Option<BrokenLink> {
    let probes: Vec<_> = probes.collect();
    let broken = |seen: String| Some(BrokenLink { link, prefix: Some(prefix), seen });
    if probes.is_empty() {
        return broken("no packet was sent into it".to_owned());
    }
    let answered = |target: &str| probes.iter().any(|probe| probe.target == target && probe.outcome.is_ok());
    probes.iter().find(|probe| !answered(&probe.target)).and_then(|probe| {
        let why = probe.outcome.as_ref().err().map_or("no answer", String::as_str);
        broken(format!("{} did not answer ({why})", probe.target))
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::tailnet::{ClientStatus, Preferences, Probe, TailnetNode};

    const PODS: &str = "10.244.0.0/16";
    const SERVICES: &str = "10.96.0.0/12";

    fn nodes(advertised: &str, approved: &str, online: bool) -> Vec<TailnetNode> {
        let list = |text: &str| serde_json::to_value(text.split_whitespace().collect::<Vec<_>>()).unwrap();
        let node = serde_json::json!([{ "id": 1, "name": "gateway", "online": online,
            "available_routes": list(advertised), "approved_routes": list(approved), "subnet_routes": list(approved) }]);
        serde_json::from_value(node).unwrap()
    }

    fn client(routes: &str) -> ClientStatus {
        let routes: Vec<_> = routes.split_whitespace().collect();
        serde_json::from_value(serde_json::json!({ "BackendState": "Running",
            "Peer": { "nodekey:1": { "HostName": "gateway", "AllowedIPs": routes } } }))
        .unwrap()
    }

    /// A change that breaks one link.
    type Break<'a> = &'a dyn Fn(&mut RouteLedger);

    /// A ledger without a broken link.
    fn whole() -> RouteLedger {
        let both = format!("{PODS} {SERVICES}");
        let (pods, services) = (PODS.parse().unwrap(), SERVICES.parse().unwrap());
        let mut ledger = RouteLedger::new("gateway", [(pods, Carries::Pods), (services, Carries::Services)]);
        ledger.service = Fact::Yes;
        ledger.note_nodes(&nodes(&both, &both, true));
        ledger.note_client(&client(&both), &Preferences { accept_routes: true, ..Preferences::default() });
        let after = Duration::from_millis(12);
        ledger.note_probe(pods, Probe::lost("10.244.1.2:80", Protocol::Tcp, "timeout"));
        ledger.note_probe(pods, Probe::answered("10.244.1.2:80", Protocol::Tcp, after));
        ledger.note_probe(services, Probe::answered("10.96.0.10:80", Protocol::Tcp, after));
        ledger.note_probe(services, Probe::answered("10.96.0.10:53", Protocol::Udp, after));
        ledger
    }

    fn says(ledger: &RouteLedger) -> String {
        ledger.first_broken_link().map_or_else(|| "whole".to_owned(), |broken| broken.to_string())
    }

    #[test]
    fn a_whole_chain_has_no_broken_link() {
        assert_eq!(whole().first_broken_link(), None);
        insta::assert_snapshot!(whole().to_string());
        let text = serde_json::to_string(&whole()).unwrap();
        assert_eq!(serde_json::from_str::<RouteLedger>(&text).unwrap(), whole());
    }

    #[test]
    fn every_link_can_be_the_first_to_break_and_says_so() {
        let both = format!("{PODS} {SERVICES}");
        let accept = Preferences { accept_routes: true, ..Preferences::default() };
        let breaks: [(Link, Break<'_>); 12] = [
            (Link::ServiceRunning, &|l| l.service = Fact::No("Waiting for extension service config".into())),
            (Link::LoggedIn, &|l| l.note_nodes(&[])),
            (Link::LoggedIn, &|l| l.note_nodes(&nodes(&both, &both, false))),
            (Link::Advertised, &|l| l.note_nodes(&nodes(PODS, PODS, true))),
            (Link::Approved, &|l| l.note_nodes(&nodes(&both, "", true))),
            (Link::Approved, &|l| {
                let mut all = nodes(&both, &both, true);
                all[0].primary.clear();
                all.push(TailnetNode { id: 2, name: "second".into(), ..nodes(&both, &both, true).remove(0) });
                l.note_nodes(&all);
            }),
            (Link::Accepted, &|l| l.note_client(&client(PODS), &accept)),
            (Link::Accepted, &|l| l.note_client(&client(&both), &Preferences::default())),
            (Link::PodReached, &|l| l.routes[0].probes.truncate(1)),
            (Link::PodReached, &|l| l.routes[0].probes.clear()),
            (Link::ServiceReached, &|l| {
                l.routes[1].probes[0] = Probe::lost("10.96.0.10:80", Protocol::Tcp, "timeout");
            }),
            (Link::UdpReached, &|l| {
                l.routes[1].probes[1] = Probe::lost("10.96.0.10:53", Protocol::Udp, "timeout");
            }),
        ];
        let mut said = Vec::new();
        for (link, break_it) in breaks {
            let mut ledger = whole();
            break_it(&mut ledger);
            assert_eq!(ledger.first_broken_link().map(|broken| broken.link), Some(link));
            said.push(says(&ledger));
        }
        for link in Link::ALL {
            assert!(said.iter().any(|text| text.contains(link.label())), "nothing breaks at {link}");
        }
        insta::assert_snapshot!(said.join("\n"));
    }

    #[test]
    fn an_earlier_link_hides_the_later_ones() {
        let mut ledger = whole();
        ledger.routes[0].probes.clear();
        ledger.note_nodes(&nodes(&format!("{PODS} {SERVICES}"), "", true));
        assert!(says(&ledger).contains("route approved"), "{}", says(&ledger));
    }
}
