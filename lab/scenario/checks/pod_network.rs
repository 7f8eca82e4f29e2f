//! A pod on each node reaches a pod on each other node: directly, through a ClusterIP service, and
//! by the service's DNS name. The requests are made inside the pods.

use std::collections::BTreeSet;

use futures::FutureExt;
use lab_cluster::kubernetes::{CLUSTER_DNS, EchoPod, EchoWorkload, ready_endpoint};
use lab_model::events::{Happening, Outcome, Recorder, Step, Target};

use super::{
    Observation,
    asker::Asker,
    fixtures::{EchoPods, Fixtures},
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
    let (cluster, api) = (fixtures.cluster, fixtures.api());
    let EchoPods { workload, pods } = fixtures.echo().await?;
    let asker = Asker::new(api, &cluster.plan().budgets);
    let names = Names {
        service: service.then(|| workload.cluster_ip.clone()),
        dns: dns.then(|| workload.dns_name(&cluster.plan().spec.network.dns_domain)),
    };
    let limit = cluster.plan().budgets.limit(Step::Ready);
    let dns = async { ready_endpoint(api, CLUSTER_DNS, limit).await.map_err(|error| error.to_string()) };
    let dns = dns.boxed().shared();
    // The pods ask at the same time, each one question after the other.
    let recorder = cluster.recorder();
    let asked = pods.iter().map(|from| ask_from(&asker, from, &pods, &names, recorder, dns.clone()));
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
    asker: &Asker,
    from: &EchoPod,
    pods: &[EchoPod],
    names: &Names,
    recorder: &Recorder,
    dns: impl Future<Output = Result<(), String>>,
) -> Observation {
    let mut observation = Observation::default();
    for to in pods.iter().filter(|to| to.node != from.node) {
        let url = EchoWorkload::url(&to.address);
        let reached = asker.ask(from, &url, &observation, |node| node == to.node).await;
        record(recorder, from, Target::PodOn(to.node.clone()), &to.address, &reached);
        note(&mut observation, from, &format!("pod {} on {}", to.address, to.node), reached);
    }
    let nodes: BTreeSet<_> = pods.iter().map(|pod| pod.node.as_str()).collect();
    if let Some(address) = &names.service {
        let url = EchoWorkload::url(address);
        let reached = asker.ask(from, &url, &observation, |node| nodes.contains(node)).await;
        record(recorder, from, Target::Service, address, &reached);
        note(&mut observation, from, &format!("service {address}"), reached);
    }
    if let Some(name) = &names.dns {
        let somebody_answers = observation.cause().is_some() || dns.await.is_ok();
        // Why nobody does is told once, not by each pod.
        if somebody_answers {
            let url = EchoWorkload::url(name);
            let reached = asker.ask(from, &url, &observation, |node| nodes.contains(node)).await;
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
