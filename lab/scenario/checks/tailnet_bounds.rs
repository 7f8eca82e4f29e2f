//! The bounds of a tailnet: only gateways of the cluster are members, and no traffic goes to the internet.

use std::net::Ipv4Addr;

use lab_cluster::{
    formation::{Cluster, Tailnet},
    tailnet::{ControlServer, OutsideClient},
};
use lab_plan::cluster::{NodePlan, OUTSIDE_CLIENT, TAILNET};
use lab_vm::network::Refused;

use super::{CheckError, Observation, QUESTION};

/// A gateway at which the tailnet must end.
pub(super) struct Bounds<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) tailnet: &'a Tailnet,
    pub(super) gateway: &'a NodePlan,
}

impl Bounds<'_> {
    /// Notes the gateway's attempts to reach the internet: a problem if the scenario asks for silence. The
    /// gateway may try the client's own addresses on this host, which are also outside the lab network.
    pub(super) async fn attempts(&self, client: &OutsideClient, silent: bool, observation: &mut Observation) {
        let own: Vec<String> = match client.status().await {
            Ok(status) => status.own.endpoints,
            Err(error) => return observation.problem(error.to_string()),
        };
        let name = &self.gateway.spec.name;
        let refused = self.cluster.lan().counters().refused;
        // A port of the lab that is closed, e.g. of a control server that is down, is not the internet.
        let lab = self.cluster.plan().lan.network;
        let of_gateway =
            refused.iter().filter(|refused| refused.node == *name && !lab.contains(&refused.destination));
        judge_attempts(name.as_str(), of_gateway, &own, silent, observation);
    }

    /// Checks that only gateways of the cluster are members of the tailnet.
    pub(super) async fn members(&self, observation: &mut Observation) -> Result<(), CheckError> {
        match self.tailnet.control() {
            Some(control) => self.only_the_gateway(control, observation).await?,
            None => observation.fact("who else is in the user's tailnet is not looked at"),
        }
        self.no_tailnet_address(observation).await
    }

    async fn only_the_gateway(
        &self,
        control: &ControlServer,
        observation: &mut Observation,
    ) -> Result<(), CheckError> {
        let nodes = control.nodes().await?;
        let gateways = self.cluster.plan().nodes.iter().filter(|node| node.spec.role.is_gateway());
        let members: Vec<String> = gateways.map(|node| self.tailnet.gateway_name(node)).collect();
        let strangers: Vec<_> = nodes
            .iter()
            .map(|node| node.name.as_str())
            .filter(|name| *name != OUTSIDE_CLIENT && !members.iter().any(|member| member == name))
            .collect();
        observation.note(
            strangers.is_empty(),
            if strangers.is_empty() {
                format!("of the cluster only {} is in the tailnet", members.join(", "))
            } else {
                format!("more than the gateway is in the tailnet: {}", strangers.join(", "))
            },
        );
        Ok(())
    }

    async fn no_tailnet_address(&self, observation: &mut Observation) -> Result<(), CheckError> {
        for node in self.cluster.plan().nodes.iter().filter(|node| !node.spec.role.is_gateway()) {
            let name = &node.spec.name;
            let api = self.cluster.connect(node).await?;
            let addresses = api.list("network", "AddressStatuses.net.talos.dev", QUESTION).await?;
            let texts: Vec<_> = addresses.iter().map(|resource| resource.id.clone()).collect();
            let found = texts.iter().find(|id| in_tailnet(id));
            observation.note(
                found.is_none() && !texts.is_empty(),
                match found {
                    Some(id) => format!("{name} has a tailnet address: {id}"),
                    None => format!("{name}: no tailnet address among {}", texts.len()),
                },
            );
        }
        Ok(())
    }
}

fn judge_attempts<'a>(
    gateway: &str,
    refused: impl Iterator<Item = &'a Refused>,
    client: &[String],
    silent: bool,
    observation: &mut Observation,
) {
    let is_client =
        |address: Ipv4Addr| client.iter().any(|endpoint| endpoint.starts_with(&format!("{address}:")));
    let strange: Vec<_> = refused
        // Tailscale's own service address (100.100.100.100) is in the tailnet's range, too. Before its
        // routes are set, a packet to it takes the default route.
        .filter(|refused| !TAILNET.contains(&refused.destination) && !is_client(refused.destination))
        .map(|refused| format!("{} ({} packets)", refused.destination, refused.packets))
        .collect();
    if strange.is_empty() {
        return observation.fact(format!("{gateway} tried to reach nothing beyond the lab"));
    }
    observation.note(!silent, format!("{gateway} tried to reach the internet: {}", strange.join(", ")));
}

/// Whether an address resource (`LINK/ADDRESS/BITS`) is in the tailnet's range.
fn in_tailnet(id: &str) -> bool {
    id.split('/').filter_map(|part| part.parse::<Ipv4Addr>().ok()).any(|address| TAILNET.contains(&address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_to_reach_the_internet_are_a_problem_only_if_silence_is_asked_for() {
        let to = |destination: [u8; 4]| Refused {
            node: "gw".parse().expect("name"),
            destination: destination.into(),
            packets: 3,
        };
        let judged = |refused: &[Refused], silent| {
            let mut observation = Observation::default();
            judge_attempts("gw", refused.iter(), &["192.0.2.1:41641".to_owned()], silent, &mut observation);
            observation
        };
        let internet = [to([198, 51, 100, 7])];
        assert_eq!(judged(&internet, false).cause(), None);
        assert!(judged(&internet, false).evidence[0].contains("198.51.100.7 (3 packets)"));
        assert!(judged(&internet, true).cause().is_some());
        let own = [to([192, 0, 2, 1]), to([100, 100, 100, 100])];
        assert_eq!(judged(&own, true).cause(), None);
    }

    #[test]
    fn tailnet_addresses_are_told_from_others() {
        assert!(in_tailnet("tailscale0/100.64.0.2/32"));
        assert!(!in_tailnet("eth0/10.5.0.11/24"));
        assert!(!in_tailnet("eth0/fe80::1/64"));
    }
}
