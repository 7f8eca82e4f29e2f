//! What a routed tailnet does when something breaks: it comes back by itself, or goes another way.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use lab_cluster::{
    formation::{Cluster, FormedCluster, Tailnet},
    tailnet::{Node, OutsideClient, Path},
};
use lab_plan::cluster::NodePlan;

use super::{Observation, fixtures::Fixtures, tailnet_requests::Answer, text};
use crate::scenario::Disturbance;

/// How long one request may take.
const REQUEST: Duration = Duration::from_secs(4);
/// Pause between two requests while an answer is waited for.
const AGAIN: Duration = Duration::from_millis(250);
/// How long login, routes and each way back may take, on the reference host.
const RECOVERY: Duration = Duration::from_secs(120);

pub(super) async fn look(fixtures: &Fixtures<'_>, after: &[Disturbance]) -> Observation {
    let mut observation = Observation::default();
    if let Err(problem) = look_at(fixtures, after, &mut observation).await {
        observation.problem(problem);
    }
    observation
}

async fn look_at(
    fixtures: &Fixtures<'_>,
    after: &[Disturbance],
    observation: &mut Observation,
) -> Result<(), String> {
    let cluster = fixtures.cluster;
    let tailnet =
        cluster.tailnet().ok_or("the scenario has no tailnet; give the cluster `tailnet: local`")?;
    let is_gateway = |node: &&NodePlan| node.spec.role.is_gateway();
    let gateway = cluster.plan().nodes.iter().find(is_gateway).ok_or("the cluster has no gateway")?;
    let patience = cluster.plan().budgets.on_this_host(RECOVERY);
    let client = tailnet.routed_client(patience).await.map_err(text)?;

    let pods = fixtures.echo().await?.pods;
    let far = pods.iter().find(|pod| pod.node != gateway.spec.name.as_str());
    let pod = far.ok_or("no pod runs on another node than the gateway")?.address.clone();
    let http = client.http(REQUEST).map_err(text)?;

    let way =
        Way { formed: fixtures.formed, cluster, tailnet, gateway, client: &client, http, pod, patience };
    way.reached("before anything is disturbed").await?;
    for disturbance in after {
        match disturbance {
            Disturbance::LinkCut => way.link_cut(observation).await?,
            Disturbance::GatewayReboot => way.gateway_reboot(observation).await?,
            Disturbance::ControlServerRestart => way.control_server_restart(observation).await?,
            Disturbance::NoDirectPath => way.no_direct_path(observation).await?,
        }
    }
    Ok(())
}

/// The way from the outside client through the gateway to a pod on another node.
struct Way<'a> {
    formed: &'a FormedCluster,
    cluster: &'a Cluster,
    tailnet: &'a Tailnet,
    gateway: &'a NodePlan,
    client: &'a OutsideClient,
    http: reqwest::Client,
    pod: String,
    patience: Duration,
}

impl Way<'_> {
    /// Asks until the pod answers, and says after how many seconds it did.
    async fn reached(&self, when: &str) -> Result<f64, String> {
        let started = Instant::now();
        loop {
            match Answer::of(&self.http, &self.pod).await.seen {
                Ok(_) => return Ok(started.elapsed().as_secs_f64()),
                Err(why) if started.elapsed() >= self.patience => {
                    let seconds = self.patience.as_secs();
                    return Err(format!(
                        "{when} the pod {} does not answer within {seconds} s: {why}",
                        self.pod
                    ));
                }
                Err(_) => tokio::time::sleep(AGAIN).await,
            }
        }
    }

    /// The gateway as the control server, or else the client, knows it: exactly one entry.
    async fn member(&self) -> Result<Member, String> {
        let name = self.tailnet.gateway_name(self.gateway);
        let mut own: Vec<Member> = match self.tailnet.control() {
            Some(control) => {
                let nodes = control.nodes().await.map_err(text)?;
                let own = nodes.into_iter().filter(|node| node.name.starts_with(&name));
                own.map(|node| Member { id: node.id.to_string(), addresses: node.addresses }).collect()
            }
            None => {
                let peers = self.client.status().await.map_err(text)?.peers;
                let own = peers.into_iter().filter(|(_, peer)| peer.host_name.starts_with(&name));
                own.map(|(id, peer)| Member { id, addresses: peer.addresses }).collect()
            }
        };
        match (own.pop(), own.len()) {
            (Some(member), 0) => Ok(member),
            (None, _) => Err(format!("the tailnet has no node {name}")),
            (Some(_), others) => Err(format!("the tailnet has {} nodes called {name}", others + 1)),
        }
    }

    async fn link_cut(&self, observation: &mut Observation) -> Result<(), String> {
        let name = &self.gateway.spec.name;
        self.cluster.lan().cut(name).map_err(text)?;
        let cut = Answer::of(&self.http, &self.pod).await.seen;
        self.cluster.lan().restore(name).map_err(text)?;
        observation.note(
            cut.is_err(),
            match cut {
                Err(why) => format!("link of {name} cut: no answer ({why})"),
                Ok((node, _)) => format!("link of {name} cut, and the pod on {node} answers all the same"),
            },
        );
        let seconds = self.reached("after the link was restored").await?;
        observation.fact(format!("link restored: answers again after {seconds:.1} s, without help"));
        Ok(())
    }

    async fn gateway_reboot(&self, observation: &mut Observation) -> Result<(), String> {
        let name = &self.gateway.spec.name;
        let before = self.member().await?;
        let cut = Instant::now();
        self.formed.node(name).map_err(text)?.power_cycle().await.map_err(text)?;
        self.reached(&format!("after {name} was started again")).await?;
        observation.fact(format!(
            "{name} lost power: answers again after {:.1} s, boot included, with the key that it had",
            cut.elapsed().as_secs_f64()
        ));
        let after = self.member().await?;
        let same = before == after;
        observation.note(
            same,
            if same {
                format!("{name} is still node {} of the tailnet", after.id)
            } else {
                format!("{name} was node {} of the tailnet and is {} now", before.id, after.id)
            },
        );
        Ok(())
    }

    async fn control_server_restart(&self, observation: &mut Observation) -> Result<(), String> {
        let control = self.tailnet.control().ok_or("only a control server of the run's own is restarted")?;
        control.stop().await;
        let alone = Answer::of(&self.http, &self.pod).await.seen;
        control.resume().await.map_err(text)?;
        observation.note(
            alone.is_ok(),
            match alone {
                Ok(_) => "control server down: packets go on without it".to_owned(),
                Err(why) => format!("control server down: no answer any more ({why})"),
            },
        );
        let resumed = Instant::now();
        let online = |nodes: &[Node]| nodes.iter().filter(|node| node.online).count() >= 2;
        control
            .wait_for_nodes("gateway and client to be connected", self.patience, online)
            .await
            .map_err(text)?;
        observation.fact(format!(
            "control server back: gateway and client are connected to it again after {:.1} s",
            resumed.elapsed().as_secs_f64()
        ));
        self.reached("after the control server was restarted").await.map(drop)
    }

    async fn no_direct_path(&self, observation: &mut Observation) -> Result<(), String> {
        let name = &self.gateway.spec.name;
        let member = self.member().await?;
        let address = *member.addresses.first().ok_or_else(|| format!("{name} has no tailnet address"))?;
        let pong = self.client.ping(address, self.patience).await.map_err(text)?;
        observation.fact(format!("path to {name}: {}, {} ms", pong.path, pong.latency.as_millis()));
        self.cluster.lan().set_datagrams(name, false);
        let seen = self.through_relay(address, observation).await;
        self.cluster.lan().set_datagrams(name, true);
        seen
    }

    async fn through_relay(&self, address: IpAddr, observation: &mut Observation) -> Result<(), String> {
        let blocked = Instant::now();
        let seconds = self.reached("with UDP blocked").await?;
        let pong = loop {
            let pong = self.client.ping(address, self.patience).await.map_err(text)?;
            if matches!(pong.path, Path::Relay(_)) || blocked.elapsed() >= self.patience {
                break pong;
            }
            tokio::time::sleep(AGAIN).await;
        };
        observation.note(
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

/// A node of the tailnet.
#[derive(PartialEq, Eq)]
struct Member {
    id: String,
    addresses: Vec<IpAddr>,
}
