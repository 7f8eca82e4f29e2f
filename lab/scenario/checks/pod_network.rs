//! A pod on each node reaches a pod on each other node: directly, through a ClusterIP service, and
//! by the service's DNS name. The requests are made inside the pods.

use std::{collections::BTreeSet, time::Duration};

use futures::FutureExt;

use super::{
    Observation,
    attempts::Attempts,
    fixtures::{EchoPods, Fixtures},
};
use crate::{
    events::{Happening, Outcome, Recorder, Step, Target},
    kubernetes::{CLUSTER_DNS, EchoPod, EchoWorkload, ProbeReply, Prober, ready_endpoint},
};

pub(super) async fn look(fixtures: &Fixtures<'_>, service: bool, dns: bool) -> Observation {
    let mut observation = Observation::default();
    if let Err(error) = ask_all(fixtures, service, dns, &mut observation).await {
        observation.problem(error);
    }
    observation
}

async fn ask_all(
    fixtures: &Fixtures<'_>,
    service: bool,
    dns: bool,
    observation: &mut Observation,
) -> Result<(), String> {
    let (cluster, api) = (fixtures.cluster, fixtures.api()?);
    let EchoPods { workload, pods } = fixtures.echo().await?;
    let prober = Prober::new(api, Duration::from_secs(20));
    let names = Names {
        service: service.then(|| workload.cluster_ip.clone()),
        dns: dns.then(|| workload.dns_name(&cluster.plan().spec.network.dns_domain)),
    };
    let limit = cluster.plan().budgets.limit(Step::Ready);
    let dns = async { ready_endpoint(api, CLUSTER_DNS, limit).await.map_err(|error| error.to_string()) };
    let dns = dns.boxed().shared();
    // The pods ask at the same time, each one question after the other.
    let recorder = cluster.recorder();
    let asked = pods.iter().map(|from| ask_from(&prober, from, &pods, &names, recorder, dns.clone()));
    for seen in futures::future::join_all(asked).await {
        observation.merge(seen);
    }
    if let (Some(name), Some(Err(cause))) = (&names.dns, dns.peek()) {
        observation.problem(format!("{name}: {cause}"));
    }
    Ok(())
}

/// The two names of the service under which it is asked, each when the scenario wants it.
struct Names {
    service: Option<String>,
    dns: Option<String>,
}

/// All questions of one pod: to each pod on another node, and to the service by its names. By the
/// DNS name only once somebody answers for names, which is what `dns` waits for.
async fn ask_from(
    prober: &Prober,
    from: &EchoPod,
    pods: &[EchoPod],
    names: &Names,
    recorder: &Recorder,
    dns: impl Future<Output = Result<(), String>>,
) -> Observation {
    let mut observation = Observation::default();
    for to in pods.iter().filter(|to| to.node != from.node) {
        let url = EchoWorkload::url(&to.address);
        let reached = ask(prober, from, &url, &observation, |node| node == to.node).await;
        record(recorder, from, Target::PodOn(to.node.clone()), &to.address, &reached);
        note(&mut observation, from, &format!("pod {} on {}", to.address, to.node), reached);
    }
    let nodes: BTreeSet<_> = pods.iter().map(|pod| pod.node.as_str()).collect();
    if let Some(address) = &names.service {
        let url = EchoWorkload::url(address);
        let reached = ask(prober, from, &url, &observation, |node| nodes.contains(node)).await;
        record(recorder, from, Target::Service, address, &reached);
        note(&mut observation, from, &format!("service {address}"), reached);
    }
    if let Some(name) = &names.dns {
        let somebody_answers = observation.cause().is_some() || dns.await.is_ok();
        // Why nobody does is told once, not by each pod.
        if somebody_answers {
            let url = EchoWorkload::url(name);
            let reached = ask(prober, from, &url, &observation, |node| nodes.contains(node)).await;
            record(recorder, from, Target::ServiceName, name, &reached);
            note(&mut observation, from, name, reached);
        }
    }
    observation
}

fn record(
    recorder: &Recorder,
    from: &EchoPod,
    target: Target,
    address: &str,
    reached: &Result<String, String>,
) {
    recorder.record(Happening::NetworkAsked {
        from: from.node.clone(),
        target,
        address: address.to_owned(),
        outcome: match reached {
            Ok(_) => Outcome::Passed,
            Err(cause) => Outcome::Failed { cause: cause.clone() },
        },
    });
}

fn note(observation: &mut Observation, from: &EchoPod, way: &str, reached: Result<String, String>) {
    match reached {
        Ok(node) => observation.fact(format!("{} -> {way}: answered by the pod on {node}", from.node)),
        Err(cause) => observation.problem(format!("{} -> {way}: {cause}", from.node)),
    }
}

/// The node whose pod answered, when it is one that `right` accepts; `before` is what was seen
/// from the same pod until now. Once a question of a pod had no right answer its verdict stands, and
/// what it is asked after that is asked once.
pub(super) async fn ask(
    prober: &Prober,
    from: &EchoPod,
    url: &str,
    before: &Observation,
    right: impl Fn(&str) -> bool,
) -> Result<String, String> {
    let mut last = String::new();
    let mut tries = if before.cause().is_none() { Attempts::patient() } else { Attempts::single() };
    while tries.another().await {
        match prober.get(from, url).await {
            Ok(reply) => match answer(&reply, &right) {
                Ok(node) => return Ok(node),
                Err(problem) => last = problem,
            },
            Err(error) => last = format!("the pod on {} could not be asked: {error}", from.node),
        }
    }
    Err(format!("{last} ({tries})"))
}

fn answer(reply: &ProbeReply, right: impl Fn(&str) -> bool) -> Result<String, String> {
    if !reply.error.is_empty() {
        return Err(reply.error.clone());
    }
    match reply.answering_node() {
        Some(node) if right(&node) => Ok(node),
        Some(node) => Err(format!("the pod on {node} answered, which is the wrong one")),
        None => Err(format!("status {} and no echo server's answer", reply.status)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, body: &str, error: &str) -> ProbeReply {
        ProbeReply { status, body: body.into(), error: error.into() }
    }

    #[test]
    fn only_an_answer_of_the_right_node_counts() {
        let right = |node: &str| node == "worker-1";
        assert_eq!(answer(&reply(200, r#"{"node":"worker-1"}"#, ""), right), Ok("worker-1".into()));
        assert!(answer(&reply(200, r#"{"node":"worker-2"}"#, ""), right).is_err());
        assert!(answer(&reply(200, "<html>", ""), right).is_err());
        assert!(answer(&reply(0, "", "no route to host"), right).is_err());
    }
}
