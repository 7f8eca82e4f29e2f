//! The gateway routes the cluster's networks to a tailnet client: the check follows each link of the chain,
//! and proves the result with packets.

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

use futures::{FutureExt, future::BoxFuture};
use ipnet::IpNet;
use lab_cluster::{
    formation::{Cluster, Tailnet},
    machine_api::{ApiError, NodeClient, ServiceState},
    tailnet::{Carries, ClientStatus, ControlServer, Fact, OutsideClient, RouteLedger, telling_line},
    wait::Wait,
};
use lab_model::{
    events::{ChainLink, EventKind, Recorder},
    redact,
    workloads::ECHO_IMAGE,
};
use lab_plan::{
    cluster::{ClusterSpec, NodePlan, RouteApproval},
    scenario::{CheckContext, CheckKind, Words},
};
use serde::{Deserialize, Serialize};

use super::{Check, CheckError, Observation, QUESTION, fixtures::Fixtures, tailnet_bounds::Bounds};

/// The service of the extension on a node.
const SERVICE: &str = "ext-tailscale";
/// Number of restarts during the wait for the login after which the service does not recover by itself.
const GIVES_UP: usize = 3;
/// Polling interval of the service; ServiceList has no watch.
const LOOK_AGAIN: Duration = Duration::from_secs(3);
/// Number of log lines to read.
const LOG_LINES: i32 = 400;
/// Time for the control server to receive the gateway's login and routes, on the reference host.
const LOGIN: Duration = Duration::from_secs(60);
/// Time for the approval of routes after the control server has received them, on the reference host. Headscale
/// v0.27.1 applies its policy when the gateway sends its next message, not at its login: a restored gateway of Talos
/// v1.13.9 sent it 36 s later.
const APPROVAL: Duration = Duration::from_secs(60);
/// The same if no policy approves routes. Only somebody else could, e.g. a check of the user.
const UNEXPECTED_APPROVAL: Duration = Duration::from_secs(10);

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TailnetRouting {
    /// Whether attempts of the gateway to reach the internet are a problem.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    silent: bool,
}

impl CheckKind for TailnetRouting {
    const NAME: &'static str = "tailnet-routing";
    type Written = Self;

    fn read(written: Self, _: &mut CheckContext<'_, '_>) -> Option<Self> {
        Some(written)
    }

    fn words(&self, _: &ClusterSpec) -> Words {
        Words::new(
            "a gateway with its document and a tailnet client outside the cluster",
            "the client calls pods on other nodes, and a service",
            "packets arrive through the gateway, and only the gateway is in the tailnet",
        )
    }

    fn images(&self) -> Vec<&str> {
        vec![ECHO_IMAGE]
    }
}

impl Check for TailnetRouting {
    fn look<'a>(
        &'a self,
        fixtures: &'a Fixtures,
        seen: &'a mut Observation,
    ) -> BoxFuture<'a, Result<(), CheckError>> {
        async move {
            let cluster = fixtures.cluster();
            let tailnet = tailnet_of(cluster)?;
            for gateway in cluster.plan().nodes.iter().filter(|node| node.spec.role.is_gateway()) {
                let ledger = ledger(cluster, tailnet, gateway);
                let mut routing = Routing { fixtures, tailnet, gateway, ledger, silent: self.silent };
                if let Err(error) = routing.follow(seen).await {
                    seen.problem(error);
                }
                record(cluster.recorder(), &routing.ledger);
                for line in routing.ledger.to_string().lines() {
                    seen.fact(line);
                }
                match routing.ledger.first_broken_link() {
                    None => seen.fact("every link of the chain holds"),
                    Some(broken) => seen.problem(broken),
                }
            }
            Ok(())
        }
        .boxed()
    }
}

/// The tailnet of the cluster, or an error if the cluster has none.
pub(super) fn tailnet_of(cluster: &Cluster) -> Result<&Tailnet, CheckError> {
    let tailnet = cluster.tailnet();
    tailnet.ok_or_else(|| CheckError::lacks("the scenario has no tailnet; give the cluster `tailnet: local`"))
}

fn record(recorder: &Recorder, ledger: &RouteLedger) {
    let link = |fact: &Fact| match fact {
        Fact::Unknown => ChainLink::Unknown,
        Fact::Yes => ChainLink::Holds,
        Fact::No(seen) => ChainLink::Broken(seen.clone()),
    };
    for route in &ledger.routes {
        let fastest_ms = route.reached();
        recorder.record(EventKind::RouteFollowed {
            gateway: ledger.gateway.clone(),
            prefix: route.prefix.to_string(),
            advertised: link(&route.advertised),
            approved: link(&route.approved),
            accepted: link(&route.accepted),
            reached: match route.probes.last() {
                None => ChainLink::Unknown,
                Some(_) if fastest_ms.is_some() => ChainLink::Holds,
                Some(probe) => ChainLink::Broken(probe.outcome.clone().err().unwrap_or_default()),
            },
            fastest_ms,
        });
    }
}

fn ledger(cluster: &Cluster, tailnet: &Tailnet, gateway: &NodePlan) -> RouteLedger {
    let network = &cluster.plan().spec.network;
    let carries = |route: IpNet| {
        if route.contains(&IpNet::V4(network.pods)) {
            Carries::Pods
        } else if route.contains(&IpNet::V4(network.services)) {
            Carries::Services
        } else {
            Carries::Other
        }
    };
    let routes = tailnet.document().routes().unwrap_or_default();
    RouteLedger::new(&tailnet.gateway_name(gateway), routes.into_iter().map(|route| (route, carries(route))))
}

/// A gateway, and the known state of the chain from the gateway to the client.
pub(super) struct Routing<'a> {
    pub(super) fixtures: &'a Fixtures,
    tailnet: &'a Tailnet,
    pub(super) gateway: &'a NodePlan,
    pub(super) ledger: RouteLedger,
    /// Whether attempts of the gateway to reach the internet are a problem.
    pub(super) silent: bool,
}

impl Routing<'_> {
    /// Checks one link after the other. Stops at the first broken link, because the ledger then names it.
    async fn follow(&mut self, seen: &mut Observation) -> Result<(), CheckError> {
        self.service().await;
        let patience = self.fixtures.cluster().plan().budgets.on_this_host(LOGIN);
        if let Some(control) = self.tailnet.control() {
            self.login(control, patience, seen).await?;
        }
        if self.ledger.first_link_before_packets_is_broken() {
            return Ok(());
        }
        let client = self.tailnet.outside_client(patience).await?;
        if self.tailnet.control().is_none() {
            self.login_as_the_client_sees_it(&client, patience).await?;
        }
        self.accept(&client, patience).await?;
        if self.ledger.first_link_before_packets_is_broken() {
            return Ok(());
        }
        self.packets(&client, seen).await?;
        self.bounds().members(seen).await
    }

    pub(super) fn bounds(&self) -> Bounds<'_> {
        Bounds { cluster: self.fixtures.cluster(), tailnet: self.tailnet, gateway: self.gateway }
    }

    async fn service(&mut self) {
        self.ledger.service = match self.state().await {
            Err(error) => Fact::No(error.to_string()),
            Ok((_, None)) => Fact::No(format!("the node has no service {SERVICE}")),
            // For a service that restarts repeatedly, the login fact reports the reason from its log.
            Ok((_, Some(service))) => Fact::of(
                service.is_up() || service.restarts > 0,
                format!("{SERVICE} is {}: {}", service.state, service.message),
            ),
        };
    }

    /// The service on the gateway, if it exists, and the connection that returned it.
    async fn state(&self) -> Result<(NodeClient, Option<ServiceState>), ApiError> {
        let api = self.fixtures.cluster().connect(self.gateway).await?;
        let services = api.services(QUESTION).await?;
        Ok((api, services.into_iter().find(|service| service.id == SERVICE)))
    }

    /// Waits for the gateway's login and its routes until the deadline, and records the last state.
    async fn login(
        &mut self,
        control: &ControlServer,
        patience: Duration,
        seen: &mut Observation,
    ) -> Result<(), CheckError> {
        let was_down = !control.is_running();
        if was_down {
            seen.fact("the control server was down when the gateway came up, and is started now");
            control.resume().await?;
        }
        let since = Instant::now();
        let name = self.ledger.gateway.clone();
        let routes: Vec<_> = self.ledger.routes.iter().map(|route| route.prefix).collect();
        let all_of = |known: fn(&lab_cluster::tailnet::TailnetNode) -> &[IpNet]| {
            let (name, routes) = (&name, &routes);
            move |nodes: &[lab_cluster::tailnet::TailnetNode]| {
                let of_it = nodes.iter().filter(|node| node.name == *name && node.online);
                of_it.map(known).any(|known| routes.iter().all(|route| known.contains(route)))
            }
        };
        let plan = self.fixtures.cluster().plan();
        let approval = match plan.spec.tailnet.as_ref().map(|tailnet| tailnet.approval) {
            Some(RouteApproval::Never) => UNEXPECTED_APPROVAL,
            Some(RouteApproval::Automatic) | None => APPROVAL,
        };
        let approval = plan.budgets.on_this_host(approval);
        let routed = async {
            let advertised = all_of(|node| &node.advertised);
            control.wait_for_nodes("the gateway and its routes", patience, advertised).await?;
            control
                .wait_for_nodes("the approval of its routes", approval, all_of(|node| &node.approved))
                .await
        };
        tokio::select! {
            _ = routed => {}
            () = self.service_gives_up() => {}
        }
        let nodes = control.nodes().await?;
        self.ledger.note_nodes(&nodes);
        if was_down && self.ledger.login == Fact::Yes {
            let seconds = since.elapsed().as_secs_f64();
            seen.fact(format!(
                "the gateway logged in by itself {seconds:.1} s after the control server was there"
            ));
        }
        self.explain_login().await;
        Ok(())
    }

    /// Adds the state and the log of the service to a failed login.
    async fn explain_login(&mut self) {
        if let Fact::No(seen) = &self.ledger.login
            && let Some(said) = self.said_by_the_service().await
        {
            self.ledger.login = Fact::No(format!("{seen}; {said}"));
        }
    }

    /// Without a control server to query, the client's map shows whether the gateway is present, and which
    /// routes it has.
    async fn login_as_the_client_sees_it(
        &mut self,
        client: &OutsideClient,
        patience: Duration,
    ) -> Result<(), CheckError> {
        let name = self.ledger.gateway.clone();
        let online =
            |status: &ClientStatus| status.peers.values().any(|peer| peer.host_name == name && peer.online);
        let _ = client.wait_for("the gateway", patience, online).await;
        let status = client.status().await?;
        self.ledger.login =
            Fact::of(online(&status), format!("the client's map has no node {name} that is connected"));
        self.explain_login().await;
        Ok(())
    }

    /// Resolves when the service restarts repeatedly and its log shows the reason: waiting longer does not
    /// help.
    async fn service_gives_up(&self) {
        let before = OnceLock::new();
        let attempt = || async {
            let (api, service) = self.state().await.map_err(drop)?;
            let restarts = service.map_or(0, |service| service.restarts);
            if restarts < before.get_or_init(|| restarts) + GIVES_UP {
                return Err(());
            }
            let log = api.logs(SERVICE, LOG_LINES, QUESTION).await.map_err(drop)?;
            telling_line(&log).map(drop).ok_or(())
        };
        // The concurrent wait for the login has a deadline.
        let _ = Wait::without_limit().every(LOOK_AGAIN).retry_if(|()| true, attempt).await;
    }

    /// The reason for the missing login, from the service and its log.
    async fn said_by_the_service(&self) -> Option<String> {
        let (api, service) = self.state().await.ok()?;
        let restarts = service.map_or(0, |service| service.restarts);
        let log = api.logs(SERVICE, LOG_LINES, QUESTION).await.unwrap_or_default();
        let line = telling_line(&log).map(|line| format!("its log says \"{}\"", redact(line)));
        let ended = (restarts > 0).then(|| format!("{SERVICE} ended and was restarted {restarts} times"));
        let said: Vec<_> = ended.into_iter().chain(line).collect();
        (!said.is_empty()).then(|| said.join(", "))
    }

    async fn accept(&mut self, client: &OutsideClient, patience: Duration) -> Result<(), CheckError> {
        let routes: Vec<_> = self.ledger.routes.iter().map(|route| route.prefix).collect();
        let all = |status: &ClientStatus| status.routes_all(&routes);
        let _ = client.wait_for("the gateway's routes", patience, all).await;
        let status = client.status().await?;
        let preferences = client.preferences().await?;
        self.ledger.note_client(&status, &preferences);
        Ok(())
    }
}
