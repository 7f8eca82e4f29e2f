//! A pod on each node reaches a pod on each other node: directly, through a ClusterIP service, and
//! by the service's DNS name. The requests are made inside the pods.

use std::{collections::BTreeSet, time::Duration};

use super::Observation;
use crate::{
    cluster::Cluster,
    events::Step,
    kubernetes::{EchoPod, EchoWorkload, KubernetesError, ProbeReply, Prober},
};

/// The namespace of the check's pods.
const NAMESPACE: &str = "lab-network-check";
/// How often a question is asked before its answer counts: a service's rules reach the nodes a
/// moment after the service does, and under emulation that moment is seconds.
const TRIES: u32 = 15;
/// Pause between two tries.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) async fn look(cluster: &Cluster, service: bool, dns: bool) -> Observation {
    let mut observation = Observation::default();
    if let Err(error) = ask_all(cluster, service, dns, &mut observation).await {
        observation.problem(error);
    }
    observation
}

async fn ask_all(
    cluster: &Cluster,
    service: bool,
    dns: bool,
    observation: &mut Observation,
) -> Result<(), KubernetesError> {
    let Some(api) = cluster.kubernetes() else {
        observation.problem("the Kubernetes API was never reached");
        return Ok(());
    };
    let limit = cluster.plan().budgets.limit(Step::Ready);
    let workload = EchoWorkload::create(api, NAMESPACE).await?;
    let nodes: Vec<_> = cluster.plan().nodes.iter().map(|node| node.spec.name.to_string()).collect();
    let pods = workload.ready_pods(&nodes, limit).await?;
    let prober = Prober::new(api, Duration::from_secs(20));
    between_pods(&prober, &pods, observation).await;
    for pod in &pods {
        if service {
            let url = EchoWorkload::url(&workload.cluster_ip);
            let reached = through_service(&prober, pod, &url, &nodes).await;
            note(observation, pod, &format!("service {}", workload.cluster_ip), reached);
        }
        if dns {
            let name = workload.dns_name(&cluster.plan().spec.network.dns_domain);
            let reached = through_service(&prober, pod, &EchoWorkload::url(&name), &nodes).await;
            note(observation, pod, &name, reached);
        }
    }
    workload.delete().await
}

async fn between_pods(prober: &Prober, pods: &[EchoPod], observation: &mut Observation) {
    for from in pods {
        for to in pods.iter().filter(|to| to.node != from.node) {
            let url = EchoWorkload::url(&to.address);
            let reached = ask(prober, from, &url, |node| node == to.node).await;
            let way = format!("pod {} on {}", to.address, to.node);
            note(observation, from, &way, reached);
        }
    }
}

async fn through_service(
    prober: &Prober,
    from: &EchoPod,
    url: &str,
    nodes: &[String],
) -> Result<String, String> {
    let nodes: BTreeSet<_> = nodes.iter().map(String::as_str).collect();
    ask(prober, from, url, |node| nodes.contains(node)).await
}

fn note(observation: &mut Observation, from: &EchoPod, way: &str, reached: Result<String, String>) {
    match reached {
        Ok(node) => observation.fact(format!("{} -> {way}: answered by the pod on {node}", from.node)),
        Err(cause) => observation.problem(format!("{} -> {way}: {cause}", from.node)),
    }
}

/// The node whose pod answered, when it is one that `right` accepts.
async fn ask(
    prober: &Prober,
    from: &EchoPod,
    url: &str,
    right: impl Fn(&str) -> bool,
) -> Result<String, String> {
    let mut last = String::new();
    for attempt in 0..TRIES {
        if attempt > 0 {
            tokio::time::sleep(PAUSE).await;
        }
        match prober.get(from, url).await {
            Ok(reply) => match answer(&reply, &right) {
                Ok(node) => return Ok(node),
                Err(problem) => last = problem,
            },
            Err(error) => last = format!("the pod on {} could not be asked: {error}", from.node),
        }
    }
    Err(format!("{last} ({TRIES} tries)"))
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
