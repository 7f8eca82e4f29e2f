//! How a routed tailnet reacts to a disturbance: it recovers by itself, or uses another path.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use futures::{FutureExt, future::BoxFuture};
use lab_cluster::{
    formation::{Cluster, FormedCluster, Tailnet},
    tailnet::{OutsideClient, Path, Pong, TailnetError, TailnetNode},
    wait::{PollError, Wait},
};
use lab_model::workloads::ECHO_IMAGE;
use lab_plan::{
    cluster::{ClusterSpec, NodePlan},
    scenario::{CheckContext, CheckKind, Words},
};
use serde::{Deserialize, Serialize};

use super::{
    Check, CheckError, Observation, fixtures::Fixtures, tailnet_requests::TailnetAnswer,
    tailnet_routing::tailnet_of,
};

/// The time limit of one request.
const REQUEST: Duration = Duration::from_secs(4);
/// Pause between two requests.
const AGAIN: Duration = Duration::from_millis(250);
/// The time limit of login, routes and each recovery, on the reference host.
const RECOVERY: Duration = Duration::from_secs(120);

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TailnetRecovery {
    /// The disturbances, in sequence.
    pub after: Vec<Disturbance>,
}

/// A disturbance of a routed tailnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Disturbance {
    /// The gateway's network cable is unplugged and plugged in again.
    LinkCut,
    /// The gateway loses power and starts again.
    GatewayReboot,
    /// The control server is unavailable for a short time.
    ControlServerRestart,
    /// No datagrams pass between the gateway and the outside, so only the relay works.
    NoDirectPath,
}

impl Disturbance {
    /// The text that follows "after".
    fn label(self) -> &'static str {
        match self {
            Self::LinkCut => "its link was cut",
            Self::GatewayReboot => "it lost power",
            Self::ControlServerRestart => "the control server was restarted",
            Self::NoDirectPath => "UDP was blocked",
        }
    }
}

impl CheckKind for TailnetRecovery {
    const NAME: &'static str = "tailnet-recovery";
    type Written = Self;

    fn read(written: Self, _: &mut CheckContext<'_, '_>) -> Option<Self> {
        Some(written)
    }

    fn words(&self, _: &ClusterSpec) -> Words {
        let after: Vec<_> = self.after.iter().map(|disturbance| disturbance.label()).collect();
        Words::new(
            "a tailnet client that reaches a pod through the gateway",
            "the gateway or its way is disturbed",
            format!("the pod answers again without help after {}", after.join(", ")),
        )
    }

    fn images(&self) -> Vec<&str> {
        vec![ECHO_IMAGE]
    }

    fn restarts_nodes(&self) -> bool {
        self.after.contains(&Disturbance::GatewayReboot)
    }
}

impl Check for TailnetRecovery {
    fn look<'a>(
        &'a self,
        fixtures: &'a Fixtures,
        seen: &'a mut Observation,
    ) -> BoxFuture<'a, Result<(), CheckError>> {
        disturb(fixtures, &self.after, seen).boxed()
    }
}

async fn disturb(
    fixtures: &Fixtures,
    after: &[Disturbance],
    seen: &mut Observation,
) -> Result<(), CheckError> {
    let cluster = fixtures.cluster();
    let tailnet = tailnet_of(cluster)?;
    let is_gateway = |node: &&NodePlan| node.spec.role.is_gateway();
    let gateway = cluster.plan().nodes.iter().find(is_gateway);
    let gateway = gateway.ok_or_else(|| CheckError::lacks("the cluster has no gateway"))?;
    let patience = cluster.plan().budgets.on_this_host(RECOVERY);
    let client = tailnet.routed_client(patience).await?;

    let pods = fixtures.echo().await?.pods;
    let far = pods.iter().find(|pod| pod.node != gateway.spec.name.as_str());
    let far = far.ok_or_else(|| CheckError::lacks("no pod runs on another node than the gateway"))?;
    let pod = far.address.clone();

    let path =
        ClientPath { formed: fixtures.formed(), cluster, tailnet, gateway, client: &client, pod, patience };
    path.reached("before anything is disturbed").await?;
    for disturbance in after {
        match disturbance {
            Disturbance::LinkCut => path.link_cut(seen).await?,
            Disturbance::GatewayReboot => path.gateway_reboot(seen).await?,
            Disturbance::ControlServerRestart => path.control_server_restart(seen).await?,
            Disturbance::NoDirectPath => path.no_direct_path(seen).await?,
        }
    }
    Ok(())
}

/// The path from the outside client through the gateway to a pod on another node.
struct ClientPath<'a> {
    formed: &'a FormedCluster,
    cluster: &'a Cluster,
    tailnet: &'a Tailnet,
    gateway: &'a NodePlan,
    client: &'a OutsideClient,
    pod: String,
    patience: Duration,
}

impl ClientPath<'_> {
    /// Sends requests until the pod responds. Returns the time in seconds.
    async fn reached(&self, when: &str) -> Result<f64, CheckError> {
        let started = Instant::now();
        let wait = Wait::up_to(self.patience).every(AGAIN);
        let answered =
            wait.retry(|| async { TailnetAnswer::of(self.client, &self.pod, REQUEST).await.seen }).await;
        match answered {
            Ok(_) => Ok(started.elapsed().as_secs_f64()),
            Err(expired) => Err(CheckError::seen(format!(
                "{when} the pod {} does not answer within {} s: {}",
                self.pod,
                expired.limit.as_secs(),
                expired.last
            ))),
        }
    }

    /// The gateway's entry at the control server, or else at the client. Exactly one entry must exist.
    async fn member(&self) -> Result<Member, CheckError> {
        let name = self.tailnet.gateway_name(self.gateway);
        let mut own: Vec<Member> = match self.tailnet.control() {
            Some(control) => {
                let nodes = control.nodes().await?;
                let own = nodes.into_iter().filter(|node| node.name.starts_with(&name));
                own.map(|node| Member { id: node.id.to_string(), addresses: node.addresses }).collect()
            }
            None => {
                let peers = self.client.status().await?.peers;
                let own = peers.into_iter().filter(|(_, peer)| peer.host_name.starts_with(&name));
                own.map(|(id, peer)| Member { id, addresses: peer.addresses }).collect()
            }
        };
        match (own.pop(), own.len()) {
            (Some(member), 0) => Ok(member),
            (None, _) => Err(CheckError::seen(format!("the tailnet has no node {name}"))),
            (Some(_), others) => {
                Err(CheckError::seen(format!("the tailnet has {} nodes called {name}", others + 1)))
            }
        }
    }

    async fn link_cut(&self, seen: &mut Observation) -> Result<(), CheckError> {
        let name = &self.gateway.spec.name;
        self.cluster.lan().cut(name)?;
        let cut = TailnetAnswer::of(self.client, &self.pod, REQUEST).await.seen;
        self.cluster.lan().restore(name)?;
        seen.note(
            cut.is_err(),
            match cut {
                Err(why) => format!("link of {name} cut: no answer ({why})"),
                Ok((node, _)) => format!("link of {name} cut, and the pod on {node} still answers"),
            },
        );
        let seconds = self.reached("after the link was restored").await?;
        seen.fact(format!("link restored: answers again after {seconds:.1} s, without help"));
        Ok(())
    }

    async fn gateway_reboot(&self, seen: &mut Observation) -> Result<(), CheckError> {
        let name = &self.gateway.spec.name;
        let before = self.member().await?;
        let cut = Instant::now();
        self.formed.node(name)?.power_cycle().await?;
        self.reached(&format!("after {name} was started again")).await?;
        seen.fact(format!(
            "{name} lost power: answers again after {:.1} s, boot included, with the key that it had",
            cut.elapsed().as_secs_f64()
        ));
        let after = self.member().await?;
        let same = before == after;
        seen.note(
            same,
            if same {
                format!("{name} is still node {} of the tailnet", after.id)
            } else {
                format!("{name} was node {} of the tailnet and is {} now", before.id, after.id)
            },
        );
        Ok(())
    }

    async fn control_server_restart(&self, seen: &mut Observation) -> Result<(), CheckError> {
        let control = self.tailnet.control();
        let control = control
            .ok_or_else(|| CheckError::lacks("only a control server of the run's own is restarted"))?;
        control.stop().await;
        let alone = TailnetAnswer::of(self.client, &self.pod, REQUEST).await.seen;
        control.resume().await?;
        seen.note(
            alone.is_ok(),
            match alone {
                Ok(_) => "control server down: packets go on without it".to_owned(),
                Err(why) => format!("control server down: no answer any more ({why})"),
            },
        );
        let resumed = Instant::now();
        let online = |nodes: &[TailnetNode]| nodes.iter().filter(|node| node.online).count() >= 2;
        control.wait_for_nodes("gateway and client to be connected", self.patience, online).await?;
        seen.fact(format!(
            "control server back: gateway and client are connected to it again after {:.1} s",
            resumed.elapsed().as_secs_f64()
        ));
        self.reached("after the control server was restarted").await.map(drop)
    }

    async fn no_direct_path(&self, seen: &mut Observation) -> Result<(), CheckError> {
        let name = &self.gateway.spec.name;
        let member = self.member().await?;
        let address = member.addresses.first().copied();
        let address = address.ok_or_else(|| CheckError::seen(format!("{name} has no tailnet address")))?;
        let pong = self.client.ping(address, self.patience).await?;
        seen.fact(format!("path to {name}: {}, {} ms", pong.path, pong.latency.as_millis()));
        self.cluster.lan().set_datagrams(name, false);
        let seen = self.through_relay(address, seen).await;
        self.cluster.lan().set_datagrams(name, true);
        seen
    }

    /// The first ping through the relay, or else the last ping within `limit`.
    async fn ping_through_relay(&self, address: IpAddr, limit: Duration) -> Result<Pong, TailnetError> {
        let relayed = |pong: &Pong| match pong.path {
            Path::Relay(_) => Ok(()),
            _ => Err(pong.path.to_string()),
        };
        let ping = || self.client.ping(address, self.patience);
        match Wait::up_to(limit).every(AGAIN).poll(ping, relayed).await {
            Ok(pong) => Ok(pong),
            Err(PollError::Probe(error)) => Err(error),
            Err(PollError::Expired(_)) => ping().await,
        }
    }

    async fn through_relay(&self, address: IpAddr, seen: &mut Observation) -> Result<(), CheckError> {
        let left = Instant::now() + self.patience;
        let seconds = self.reached("with UDP blocked").await?;
        let left = left.saturating_duration_since(Instant::now());
        let pong = self.ping_through_relay(address, left).await?;
        seen.note(
            matches!(pong.path, Path::Relay(_)),
            format!(
                "UDP blocked at the switch: answers after {seconds:.1} s {}, {} ms",
                pong.path,
                pong.latency.as_millis()
            ),
        );
        Ok(())
    }
}

#[derive(PartialEq, Eq)]
struct Member {
    id: String,
    addresses: Vec<IpAddr>,
}
