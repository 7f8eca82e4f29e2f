//! The gateway routes the cluster's networks to a tailnet client: followed link by link, proven by
//! packets.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use ipnet::IpNet;
use lab_cluster::{
    formation::{Cluster, Tailnet},
    kubernetes::{ECHO_PORT, EchoPod, EchoWorkload},
    machine_api::{ApiError, NodeClient, ServiceState},
    tailnet::{
        Carries, ClientStatus, ControlServer, Fact, OutsideClient, Probe, Protocol, RouteLedger, telling_line,
    },
};
use lab_model::{
    events::{ChainLink, Happening, Recorder},
    redact,
};
use lab_plan::cluster::NodePlan;

use super::{
    Observation, QUESTION,
    attempts::Attempts,
    fixtures::{EchoPods, Fixtures},
    tailnet_bounds::Bounds,
    tailnet_requests::Answer,
};

/// The extension's service on a node.
const SERVICE: &str = "ext-tailscale";
/// After how many restarts while its login is waited for it will not get up by itself any more.
const GIVES_UP: usize = 3;
/// Pause between two looks at it; ServiceList has no watch.
const LOOK_AGAIN: Duration = Duration::from_secs(3);
/// How much of its log is read.
const LOG_LINES: i32 = 400;
/// How long the control server may take to hear of the gateway and its routes, on the reference host.
const LOGIN: Duration = Duration::from_secs(60);
/// How long the approval of routes may take once the control server has heard of them, on the reference host: it
/// approves by its policy at once, and the lab's own call follows within a second.
const APPROVAL: Duration = Duration::from_secs(10);
/// How long one request may take; the first to a target also looks for a path.
const REQUEST: Duration = Duration::from_secs(10);
/// How long a datagram may be under way, there and back.
const DATAGRAM: Duration = Duration::from_secs(5);
/// How many datagrams are sent before a target counts as not reached.
const TRIES: usize = 6;
/// How often a target is asked once it has answered.
const REPEATS: usize = 3;
/// Bytes of the large transfer: many full segments, so that a black hole for them shows.
const LARGE: usize = 2 << 20;

pub(super) async fn look(fixtures: &Fixtures<'_>) -> Observation {
    let cluster = fixtures.cluster;
    let mut observation = Observation::default();
    let Some(tailnet) = cluster.tailnet() else {
        observation.problem("the scenario has no tailnet; give the cluster `tailnet: local`");
        return observation;
    };
    let gateways = cluster.plan().nodes.iter().filter(|node| node.spec.role.is_gateway());
    for gateway in gateways {
        let mut routing = Routing { fixtures, tailnet, gateway, ledger: ledger(cluster, tailnet, gateway) };
        if let Err(problem) = routing.follow(&mut observation).await {
            observation.problem(problem);
        }
        record(cluster.recorder(), &routing.ledger);
        for line in routing.ledger.to_string().lines() {
            observation.fact(line);
        }
        match routing.ledger.first_broken_link() {
            None => observation.fact("every link of the chain holds"),
            Some(broken) => observation.problem(broken),
        }
    }
    observation
}

fn record(recorder: &Recorder, ledger: &RouteLedger) {
    let link = |fact: &Fact| match fact {
        Fact::Unknown => ChainLink::Unknown,
        Fact::Yes => ChainLink::Holds,
        Fact::No(seen) => ChainLink::Broken(seen.clone()),
    };
    for route in &ledger.routes {
        let fastest_ms = route.reached();
        recorder.record(Happening::RouteFollowed {
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

struct Routing<'a> {
    fixtures: &'a Fixtures<'a>,
    tailnet: &'a Tailnet,
    gateway: &'a NodePlan,
    ledger: RouteLedger,
}

impl Routing<'_> {
    /// Looks at one link after the other; a link that does not hold ends the way, for the ledger
    /// then names it.
    async fn follow(&mut self, observation: &mut Observation) -> Result<(), String> {
        self.service().await;
        let patience = self.fixtures.cluster.plan().budgets.on_this_host(LOGIN);
        if let Some(control) = self.tailnet.control() {
            self.login(control, patience, observation).await?;
        }
        if self.ledger.first_link_before_packets_is_broken() {
            return Ok(());
        }
        let client = self.tailnet.outside_client(patience).await.map_err(|error| error.to_string())?;
        if self.tailnet.control().is_none() {
            self.login_as_the_client_sees_it(&client, patience).await?;
        }
        self.accept(&client, patience).await?;
        if self.ledger.first_link_before_packets_is_broken() {
            return Ok(());
        }
        self.packets(&client, observation).await?;
        self.bounds().members(observation).await
    }

    fn bounds(&self) -> Bounds<'_> {
        Bounds { cluster: self.fixtures.cluster, tailnet: self.tailnet, gateway: self.gateway }
    }

    async fn service(&mut self) {
        self.ledger.service = match self.state().await {
            Err(error) => Fact::No(error.to_string()),
            Ok((_, None)) => Fact::No(format!("the node has no service {SERVICE}")),
            // One that ends again and again is told with its login, where its log says why.
            Ok((_, Some(service))) => Fact::of(
                service.is_up() || service.restarts > 0,
                format!("{SERVICE} is {}: {}", service.state, service.message),
            ),
        };
    }

    /// The service on the gateway, if there is one, and the connection that told of it.
    async fn state(&self) -> Result<(NodeClient, Option<ServiceState>), ApiError> {
        let api = self.fixtures.cluster.connect(self.gateway).await?;
        let services = api.services(QUESTION).await?;
        Ok((api, services.into_iter().find(|service| service.id == SERVICE)))
    }

    /// Waits for the gateway's login and its routes, or for time to be up, and notes how far it got.
    async fn login(
        &mut self,
        control: &ControlServer,
        patience: Duration,
        observation: &mut Observation,
    ) -> Result<(), String> {
        let was_down = !control.is_running();
        if was_down {
            observation.fact("the control server was down when the gateway came up, and is started now");
            control.resume().await.map_err(|error| error.to_string())?;
        }
        let since = Instant::now();
        let name = self.ledger.gateway.clone();
        let routes: Vec<_> = self.ledger.routes.iter().map(|route| route.prefix).collect();
        let all_of = |known: fn(&lab_cluster::tailnet::Node) -> &[IpNet]| {
            let (name, routes) = (&name, &routes);
            move |nodes: &[lab_cluster::tailnet::Node]| {
                let of_it = nodes.iter().filter(|node| node.name == *name && node.online);
                of_it.map(known).any(|known| routes.iter().all(|route| known.contains(route)))
            }
        };
        let approval = self.fixtures.cluster.plan().budgets.on_this_host(APPROVAL);
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
        let nodes = control.nodes().await.map_err(|error| error.to_string())?;
        self.ledger.note_nodes(&nodes);
        if was_down && self.ledger.login == Fact::Yes {
            let seconds = since.elapsed().as_secs_f64();
            observation.fact(format!(
                "the gateway logged in by itself {seconds:.1} s after the control server was there"
            ));
        }
        self.explain_login().await;
        Ok(())
    }

    /// Adds to a login that did not come about what the service says of it.
    async fn explain_login(&mut self) {
        if let Fact::No(seen) = &self.ledger.login
            && let Some(said) = self.said_by_the_service().await
        {
            self.ledger.login = Fact::No(format!("{seen}; {said}"));
        }
    }

    /// Without a control server to ask, the client's map tells of the gateway what it can: that it
    /// is there, and which routes it was given.
    async fn login_as_the_client_sees_it(
        &mut self,
        client: &OutsideClient,
        patience: Duration,
    ) -> Result<(), String> {
        let name = self.ledger.gateway.clone();
        let online =
            |status: &ClientStatus| status.peers.values().any(|peer| peer.host_name == name && peer.online);
        let _ = client.wait_for("the gateway", patience, online).await;
        let status = client.status().await.map_err(|error| error.to_string())?;
        self.ledger.login =
            Fact::of(online(&status), format!("the client's map has no node {name} that is connected"));
        self.explain_login().await;
        Ok(())
    }

    /// Resolves when the service ends again and again and its log says why: no wait will mend that.
    async fn service_gives_up(&self) {
        let mut before = None;
        loop {
            tokio::time::sleep(LOOK_AGAIN).await;
            let Ok((api, service)) = self.state().await else { continue };
            let restarts = service.map_or(0, |service| service.restarts);
            let before = *before.get_or_insert(restarts);
            if restarts >= before + GIVES_UP
                && let Ok(log) = api.logs(SERVICE, LOG_LINES, QUESTION).await
                && telling_line(&log).is_some()
            {
                return;
            }
        }
    }

    /// What the service and its log tell of why nobody logged in.
    async fn said_by_the_service(&self) -> Option<String> {
        let (api, service) = self.state().await.ok()?;
        let restarts = service.map_or(0, |service| service.restarts);
        let log = api.logs(SERVICE, LOG_LINES, QUESTION).await.unwrap_or_default();
        let line = telling_line(&log).map(|line| format!("its log says \"{}\"", redact(line)));
        let ended = (restarts > 0).then(|| format!("{SERVICE} ended and was restarted {restarts} times"));
        let said: Vec<_> = ended.into_iter().chain(line).collect();
        (!said.is_empty()).then(|| said.join(", "))
    }

    async fn accept(&mut self, client: &OutsideClient, patience: Duration) -> Result<(), String> {
        let routes: Vec<_> = self.ledger.routes.iter().map(|route| route.prefix).collect();
        let all = |status: &ClientStatus| status.routes_all(&routes);
        let _ = client.wait_for("the gateway's routes", patience, all).await;
        let status = client.status().await.map_err(|error| error.to_string())?;
        let preferences = client.preferences().await.map_err(|error| error.to_string())?;
        self.ledger.note_client(&status, &preferences);
        Ok(())
    }

    async fn packets(&mut self, client: &OutsideClient, observation: &mut Observation) -> Result<(), String> {
        let EchoPods { workload, pods } = self.fixtures.echo().await?;
        let http = client.http(REQUEST).map_err(|error| error.to_string())?;
        self.bounds().attempts(client, observation).await;
        // A pod on a compute node: the gateway has to route, not only to answer.
        let far: Vec<&EchoPod> =
            pods.iter().filter(|pod| pod.node != self.gateway.spec.name.as_str()).collect();
        for pod in &far {
            let answers = self.ask(&http, &pod.address).await;
            self.note(&pod.address, &answers);
            for (node, source) in answers.iter().filter_map(|answer| answer.seen.as_ref().ok()) {
                observation.note(
                    *node == pod.node,
                    format!(
                        "pod {} on {}: {node} answered; it saw {source} as the sender",
                        pod.address, pod.node
                    ),
                );
            }
        }
        let answers = self.ask(&http, &workload.cluster_ip).await;
        self.note(&workload.cluster_ip, &answers);
        if let Some(pod) = far.first() {
            self.datagrams(client, &pod.address).await;
            self.large(&http, pod, observation).await;
        }
        if answers.iter().any(|answer| answer.seen.is_ok()) {
            self.datagrams(client, &workload.cluster_ip).await;
        }
        Ok(())
    }

    /// Asks one address until it answers, and then some more.
    async fn ask(&self, http: &reqwest::Client, address: &str) -> Vec<Answer> {
        let mut answers = Vec::new();
        let mut tries = Attempts::patient(self.fixtures.cluster.plan().budgets.patience());
        while tries.another().await {
            let answer = Answer::of(http, address).await;
            let came = answer.seen.is_ok();
            answers.push(answer);
            if came {
                for _ in 0..REPEATS {
                    answers.push(Answer::of(http, address).await);
                }
                break;
            }
        }
        answers
    }

    /// Sends datagrams to one address until one comes back.
    async fn datagrams(&mut self, client: &OutsideClient, address: &str) {
        let Ok(ip) = address.parse::<IpAddr>() else { return };
        let Some(prefix) = self.prefix_of(ip) else { return };
        let target = SocketAddr::new(ip, ECHO_PORT);
        let mut lost = String::new();
        for attempt in 1..=TRIES {
            let question = format!("datagram {attempt}");
            let sent = Instant::now();
            match client.udp(target, question.as_bytes(), DATAGRAM).await {
                Ok(answer) if answer == question.as_bytes() => {
                    let probe = Probe::answered(target.to_string(), Protocol::Udp, sent.elapsed());
                    return self.ledger.note_probe(prefix, probe);
                }
                Ok(answer) => lost = format!("{} other bytes came back", answer.len()),
                Err(error) => lost = error.to_string(),
            }
        }
        let probe = Probe::lost(target.to_string(), Protocol::Udp, format!("{lost} ({TRIES} tries)"));
        self.ledger.note_probe(prefix, probe);
    }

    fn prefix_of(&self, address: IpAddr) -> Option<IpNet> {
        self.ledger.routes.iter().map(|route| route.prefix).find(|prefix| prefix.contains(&address))
    }

    /// Notes in the ledger what came of the requests to one address: the first answer apart from the
    /// later ones, lost ones only when none came.
    fn note(&mut self, address: &str, answers: &[Answer]) {
        let Ok(ip) = address.parse::<IpAddr>() else { return };
        let Some(prefix) = self.prefix_of(ip) else { return };
        let answered: Vec<_> = answers.iter().filter(|answer| answer.seen.is_ok()).collect();
        for answer in &answered {
            self.ledger.note_probe(prefix, Probe::answered(address, Protocol::Tcp, answer.after));
        }
        if answered.is_empty()
            && let Some(Err(why)) = answers.last().map(|answer| answer.seen.clone())
        {
            let why = format!("{why} ({} tries)", answers.len());
            self.ledger.note_probe(prefix, Probe::lost(address, Protocol::Tcp, why));
        }
    }

    /// A transfer of many full segments.
    async fn large(&self, http: &reqwest::Client, pod: &EchoPod, observation: &mut Observation) {
        let url = format!("{}bytes?n={LARGE}", EchoWorkload::url(&pod.address));
        let started = Instant::now();
        let transfer =
            async { http.get(&url).timeout(REQUEST * 6).send().await?.error_for_status()?.bytes().await };
        let text = match transfer.await {
            Ok(bytes) if bytes.len() == LARGE => {
                let seconds = started.elapsed().as_secs_f64();
                let rate = LARGE as f64 / f64::from(1 << 20) / seconds;
                return observation.fact(format!(
                    "{} MiB from the pod on {} in {seconds:.1} s ({rate:.1} MiB/s)",
                    LARGE >> 20,
                    pod.node
                ));
            }
            Ok(bytes) => format!("{} of {LARGE} bytes came", bytes.len()),
            Err(error) => error.to_string(),
        };
        observation.problem(format!(
            "small answers pass and a large transfer from the pod on {} does not: {text} (an MTU black hole?)",
            pod.node
        ));
    }
}
