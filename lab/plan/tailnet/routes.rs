//! Checks the gateway's advertised routes against the cluster before any machine boots.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::cluster::TAILNET;

/// A cluster network that tailnet clients must reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needed {
    /// Name in messages: "pod", "service".
    pub name: &'static str,
    pub network: IpNet,
}

/// A problem with routes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteProblem {
    /// The text is not an address prefix.
    #[error(
        "\"{text}\" in TS_ROUTES is not a network: {reason}; write networks as 10.244.0.0/16, separated by commas"
    )]
    Malformed {
        /// The invalid text.
        text: String,
        /// The parse error.
        reason: String,
    },
    /// Clients cannot reach a network.
    #[error(
        "the routes {routes} do not cover the {name} network {network}; tailnet clients will not reach it: add it to TS_ROUTES"
    )]
    NotCovered {
        name: &'static str,
        /// The range of the network.
        network: IpNet,
        /// The advertised routes.
        routes: String,
    },
    /// A network overlaps with the tailnet's address range.
    #[error(
        "{what} {network} overlaps {TAILNET}, the range of tailnet addresses; clients would lose the tailnet: choose another network"
    )]
    OverlapsTailnet {
        /// Description of the network.
        what: String,
        /// The range of the network.
        network: IpNet,
    },
    /// A default route makes the gateway an exit node.
    #[error(
        "the route {route} makes the gateway an exit node for all traffic; name the cluster's networks instead"
    )]
    Everything {
        /// The default route, for IPv4 or IPv6.
        route: IpNet,
    },
}

/// Parses `TS_ROUTES`, a comma-separated list of networks. Rejects host bits, like `tailscale up`.
///
/// # Errors
/// Returns an error for the first part that is not a network.
pub fn parse_routes(text: &str) -> Result<Vec<IpNet>, RouteProblem> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let malformed = |reason: String| RouteProblem::Malformed { text: part.to_owned(), reason };
            let network: IpNet =
                part.parse().map_err(|_| malformed("no address with a prefix length".into()))?;
            if network != network.trunc() {
                return Err(malformed(format!(
                    "it has bits set behind its prefix; write {}",
                    network.trunc()
                )));
            }
            Ok(network)
        })
        .collect()
}

/// Returns all problems with `routes` for a cluster with the networks `needed`. An empty list means no
/// problems.
pub fn check_routes(routes: &[IpNet], needed: &[Needed]) -> Vec<RouteProblem> {
    let tailnet = IpNet::V4(TAILNET);
    let mut problems = Vec::new();
    for route in routes {
        if route.prefix_len() == 0 {
            problems.push(RouteProblem::Everything { route: *route });
        } else if overlap(*route, tailnet) {
            problems.push(RouteProblem::OverlapsTailnet { what: "the route".to_owned(), network: *route });
        }
    }
    for Needed { name, network } in needed {
        if overlap(*network, tailnet) {
            let what = format!("the {name} network");
            problems.push(RouteProblem::OverlapsTailnet { what, network: *network });
        }
        if !covered(*network, routes) {
            let routes = match routes {
                [] => "(none)".to_owned(),
                routes => routes.iter().map(IpNet::to_string).collect::<Vec<_>>().join(", "),
            };
            problems.push(RouteProblem::NotCovered { name, network: *network, routes });
        }
    }
    problems
}

/// Checks that `routes` cover every address of `network`. Several routes may cover it together.
fn covered(network: IpNet, routes: &[IpNet]) -> bool {
    match network {
        IpNet::V4(network) => {
            let own: Vec<Ipv4Net> =
                routes.iter().filter_map(|r| if let IpNet::V4(r) = r { Some(*r) } else { None }).collect();
            Ipv4Net::aggregate(&own).iter().any(|route| route.contains(&network))
        }
        IpNet::V6(network) => {
            let own: Vec<Ipv6Net> =
                routes.iter().filter_map(|r| if let IpNet::V6(r) = r { Some(*r) } else { None }).collect();
            Ipv6Net::aggregate(&own).iter().any(|route| route.contains(&network))
        }
    }
}

/// Checks whether two networks share an address.
pub fn overlap(a: IpNet, b: IpNet) -> bool {
    a.contains(&b) || b.contains(&a)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    fn networks(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn cluster() -> Vec<Needed> {
        vec![
            Needed { name: "pod", network: "10.244.0.0/16".parse().unwrap() },
            Needed { name: "service", network: "10.96.0.0/12".parse().unwrap() },
        ]
    }

    #[test]
    fn routes_that_cover_the_cluster_pass_alone_or_together() {
        for routes in [
            &["10.244.0.0/16", "10.96.0.0/12"][..],
            &["10.0.0.0/8"],
            &["10.244.0.0/17", "10.244.128.0/17", "10.96.0.0/12", "192.168.7.0/24"],
        ] {
            assert_eq!(check_routes(&networks(routes), &cluster()), []);
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let say = |routes: &[&str], needed: &[Needed]| {
            check_routes(&networks(routes), needed)
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("\n")
        };
        let shared = [Needed { name: "pod", network: "100.100.0.0/16".parse().unwrap() }];
        insta::assert_snapshot!(
            [
                say(&["10.244.0.0/16"], &cluster()),
                say(&[], &cluster()[..1]),
                say(&["10.244.0.0/17", "10.96.0.0/12"], &cluster()),
                say(&["100.100.0.0/16"], &shared),
                say(&["0.0.0.0/0"], &cluster()),
            ]
            .join("\n--\n")
        );
    }

    #[test]
    fn ts_routes_is_read_as_tailscale_reads_it() {
        assert_eq!(
            parse_routes("10.96.0.0/12, 10.244.0.0/16,").unwrap(),
            networks(&["10.96.0.0/12", "10.244.0.0/16"])
        );
        assert_eq!(parse_routes("").unwrap(), []);
        assert!(parse_routes("10.244.0.1/16").unwrap_err().to_string().contains("write 10.244.0.0/16"));
        assert!(parse_routes("10.244.0.0").unwrap_err().to_string().contains("\"10.244.0.0\""));
    }

    proptest! {
        #[test]
        fn a_network_is_covered_exactly_when_its_ends_and_middle_are(
            routes in proptest::collection::vec((any::<u32>(), 4u8..=24), 0..6),
            (base, length) in (any::<u32>(), 4u8..=24),
        ) {
            let net = |(base, length): (u32, u8)| Ipv4Net::new(Ipv4Addr::from(base), length).unwrap().trunc();
            let routes: Vec<IpNet> = routes.into_iter().map(|r| IpNet::V4(net(r))).collect();
            let network = net((base, length));
            if covered(IpNet::V4(network), &routes) {
                let first = u32::from(network.network());
                let last = u32::from(network.broadcast());
                for address in [first, first + (last - first) / 2, last].map(Ipv4Addr::from) {
                    prop_assert!(routes.iter().any(|route| route.contains(&std::net::IpAddr::V4(address))));
                }
            }
            // The two halves together cover the network.
            let halves: Vec<IpNet> = network.subnets(length + 1).unwrap().map(IpNet::V4).collect();
            prop_assert!(covered(IpNet::V4(network), &halves));
            prop_assert!(!covered(IpNet::V4(network), &halves[..1]));
        }
    }
}
