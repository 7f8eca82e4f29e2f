//! Packets from the tailnet client to pods and services behind a gateway, and the responses.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use ipnet::IpNet;
use lab_cluster::{
    kubernetes::{ECHO_PORT, EchoPod, EchoWorkload},
    tailnet::{OutsideClient, Probe, Protocol},
};
use tokio::sync::Mutex;

use super::{
    CheckError, Observation, fixtures::EchoPods, patient, tailnet_requests::TailnetAnswer,
    tailnet_routing::Routing,
};

/// The time limit of one request. The first request to a target includes path discovery.
const REQUEST: Duration = Duration::from_secs(10);
/// The time limit of the large transfer.
const TRANSFER: Duration = Duration::from_secs(60);
/// The time limit of a datagram round trip.
const DATAGRAM: Duration = Duration::from_secs(5);
/// The number of datagrams until a target counts as unreachable.
const TRIES: usize = 6;
/// The number of requests to a target after its first response.
const REPEATS: usize = 3;
/// Bytes of the large transfer: many full segments, to detect an MTU black hole.
const LARGE: usize = 2 << 20;

impl Routing<'_> {
    /// Sends requests to pods on other nodes and to the service: small requests, datagrams and a large
    /// transfer.
    pub(super) async fn packets(
        &mut self,
        client: &OutsideClient,
        seen: &mut Observation,
    ) -> Result<(), CheckError> {
        let EchoPods { workload, pods } = self.fixtures.echo().await?;
        self.bounds().attempts(client, self.silent, seen).await;
        // The pod is on a compute node, so the gateway must route the packets.
        let far: Vec<&EchoPod> =
            pods.iter().filter(|pod| pod.node != self.gateway.spec.name.as_str()).collect();
        for pod in &far {
            let answers = self.ask(client, &pod.address).await;
            self.note(&pod.address, &answers);
            for (node, source) in answers.iter().filter_map(|answer| answer.seen.as_ref().ok()) {
                seen.note(
                    *node == pod.node,
                    format!(
                        "pod {} on {}: {node} answered; it saw {source} as the sender",
                        pod.address, pod.node
                    ),
                );
            }
        }
        let answers = self.ask(client, &workload.cluster_ip).await;
        self.note(&workload.cluster_ip, &answers);
        if let Some(pod) = far.first() {
            self.datagrams(client, &pod.address).await;
            self.large(client, pod, seen).await;
        }
        if answers.iter().any(|answer| answer.seen.is_ok()) {
            self.datagrams(client, &workload.cluster_ip).await;
        }
        Ok(())
    }

    /// Sends requests to one address until it responds, and then `REPEATS` more.
    async fn ask(&self, client: &OutsideClient, address: &str) -> Vec<TailnetAnswer> {
        let answers = Mutex::new(Vec::new());
        let attempt = || async {
            let answer = TailnetAnswer::of(client, address, REQUEST).await;
            let came = answer.seen.is_ok();
            answers.lock().await.push(answer);
            if came { Ok(()) } else { Err(()) }
        };
        let wait = patient(self.fixtures.cluster().plan().budgets.patience());
        let came = wait.retry_if(|()| true, attempt).await.is_ok();
        let mut answers = answers.into_inner();
        if came {
            for _ in 0..REPEATS {
                answers.push(TailnetAnswer::of(client, address, REQUEST).await);
            }
        }
        answers
    }

    /// Sends datagrams to one address until one returns.
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

    /// Notes the results of the requests to one address in the ledger. Lost requests are noted only if no
    /// response arrived.
    fn note(&mut self, address: &str, answers: &[TailnetAnswer]) {
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

    async fn large(&self, client: &OutsideClient, pod: &EchoPod, seen: &mut Observation) {
        let url = format!("{}bytes?n={LARGE}", EchoWorkload::url(&pod.address));
        let started = Instant::now();
        let text = match client.get(&url, TRANSFER).await {
            Ok(bytes) if bytes.len() == LARGE => {
                let seconds = started.elapsed().as_secs_f64();
                let rate = LARGE as f64 / f64::from(1 << 20) / seconds;
                return seen.fact(format!(
                    "{} MiB from the pod on {} in {seconds:.1} s ({rate:.1} MiB/s)",
                    LARGE >> 20,
                    pod.node
                ));
            }
            Ok(bytes) => format!("{} of {LARGE} bytes came", bytes.len()),
            Err(error) => error.to_string(),
        };
        seen.problem(format!(
            "small answers pass and a large transfer from the pod on {} does not: {text} (an MTU black hole?)",
            pod.node
        ));
    }
}
