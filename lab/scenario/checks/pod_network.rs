//! A pod on each node reaches a pod on each other node: directly, through a ClusterIP service, and by the
//! service's DNS name. The pods make the requests.

use std::collections::BTreeSet;

use futures::{FutureExt, future::BoxFuture};
use lab_cluster::{
    kubernetes::{CLUSTER_DNS, EchoPod, EchoWorkload, ready_endpoint},
    wait::Wait,
};
use lab_model::{
    events::{EventKind, Outcome, Recorder, Step, Target},
    workloads::ECHO_IMAGE,
};
use lab_plan::{
    cluster::ClusterSpec,
    scenario::{CheckContext, CheckKind, Words},
};
use serde::{Deserialize, Serialize};

use super::{
    Check, CheckError, Observation, QUESTION,
    asked::AskError,
    asker::Asker,
    fixtures::{EchoPods, Fixtures},
    patient,
};

#[derive(Clone, Copy, Debug, Serialize)]
pub struct PodNetwork {
    /// Also checks a ClusterIP service.
    pub service: bool,
    /// Also checks the DNS name of the service.
    pub dns: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    service: Option<bool>,
    dns: Option<bool>,
}

impl CheckKind for PodNetwork {
    const NAME: &'static str = "pod-network";
    type Written = Written;

    fn read(written: Written, _: &mut CheckContext<'_, '_>) -> Option<Self> {
        Some(Self { service: written.service.unwrap_or(true), dns: written.dns.unwrap_or(true) })
    }

    fn words(&self, cluster: &ClusterSpec) -> Words {
        let mut reached = String::from("every other node's pod answers");
        for (asked, way) in [(self.service, "through a ClusterIP service"), (self.dns, "by DNS name")] {
            if asked {
                reached.push_str(", also ");
                reached.push_str(way);
            }
        }
        let pods = format!("a pod on each of {}", Words::count_nodes(cluster));
        Words::new(pods, "each pod calls each other pod", reached)
    }

    fn images(&self) -> Vec<&str> {
        vec![ECHO_IMAGE]
    }
}

impl Check for PodNetwork {
    fn look<'a>(
        &'a self,
        fixtures: &'a Fixtures,
        seen: &'a mut Observation,
    ) -> BoxFuture<'a, Result<(), CheckError>> {
        async move {
            let (cluster, api) = (fixtures.cluster(), fixtures.api());
            let EchoPods { workload, pods } = fixtures.echo().await?;
            let asker = Asker::new(api);
            let names = Names {
                service: self.service.then(|| workload.cluster_ip.clone()),
                dns: self.dns.then(|| workload.dns_name(&cluster.plan().spec.network.dns_domain)),
            };
            let budgets = &cluster.plan().budgets;
            let limit = budgets.limit(Step::Ready);
            let dns =
                async { ready_endpoint(api, CLUSTER_DNS, limit).await.map_err(|error| error.to_string()) };
            let dns = dns.boxed().shared();
            // All pods send requests at the same time. Each pod sends its requests in sequence.
            let recorder = cluster.recorder();
            let asked = pods.iter().map(|from| {
                let patience = patient(budgets.patience());
                ask_from(&asker, from, &pods, &names, recorder, dns.clone(), patience)
            });
            for answers in futures::future::join_all(asked).await {
                seen.merge(answers);
            }
            if let (Some(name), Some(Err(cause))) = (&names.dns, dns.peek()) {
                seen.problem(format!("{name}: {cause}"));
                let system = api.system_pods(QUESTION).await.unwrap_or_default();
                system.unready("coredns").into_iter().for_each(|pod| seen.problem(pod));
            }
            Ok(())
        }
        .boxed()
    }
}

/// The two names of the service, each present if the scenario checks it.
struct Names {
    service: Option<String>,
    dns: Option<String>,
}

/// Makes all requests of one pod: to each pod on another node, and to the service by its names. Requests by
/// DNS name wait for a ready DNS server (`dns`). After the first wrong response, the check has failed, and
/// the remaining requests have no retries.
async fn ask_from(
    asker: &Asker,
    from: &EchoPod,
    pods: &[EchoPod],
    names: &Names,
    recorder: &Recorder,
    dns: impl Future<Output = Result<(), String>>,
    mut patience: Wait,
) -> Observation {
    let mut seen = Observation::default();
    for to in pods.iter().filter(|to| to.node != from.node) {
        let url = EchoWorkload::url(&to.address);
        let reached = asker.ask(from, &url, &patience, |node| node == to.node).await;
        record(recorder, from, Target::PodOn(to.node.clone()), &to.address, &reached);
        note(&mut seen, from, &format!("pod {} on {}", to.address, to.node), reached, &mut patience);
    }
    let nodes: BTreeSet<_> = pods.iter().map(|pod| pod.node.as_str()).collect();
    if let Some(address) = &names.service {
        let url = EchoWorkload::url(address);
        let reached = asker.ask(from, &url, &patience, |node| nodes.contains(node)).await;
        record(recorder, from, Target::Service, address, &reached);
        note(&mut seen, from, &format!("service {address}"), reached, &mut patience);
    }
    if let Some(name) = &names.dns {
        let somebody_answers = seen.has_problems() || dns.await.is_ok();
        // The cause of a missing DNS server is reported once, not by each pod.
        if somebody_answers {
            let url = EchoWorkload::url(name);
            let reached = asker.ask(from, &url, &patience, |node| nodes.contains(node)).await;
            record(recorder, from, Target::ServiceName, name, &reached);
            note(&mut seen, from, name, reached, &mut patience);
        }
    }
    seen
}

fn record(
    recorder: &Recorder,
    from: &EchoPod,
    target: Target,
    address: &str,
    reached: &Result<String, AskError>,
) {
    recorder.record(EventKind::NetworkAsked {
        from: from.node.clone(),
        target,
        address: address.to_owned(),
        outcome: match reached {
            Ok(_) => Outcome::Passed,
            Err(error) => Outcome::Failed { cause: error.to_string() },
        },
    });
}

fn note(
    seen: &mut Observation,
    from: &EchoPod,
    way: &str,
    reached: Result<String, AskError>,
    patience: &mut Wait,
) {
    match reached {
        Ok(node) => seen.fact(format!("{} -> {way}: answered by the pod on {node}", from.node)),
        Err(error) => {
            seen.problem(format!("{} -> {way}: {error}", from.node));
            *patience = Wait::once();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        convert::Infallible,
        sync::{Arc, Mutex},
        time::Duration,
    };

    use kube::client::Body;

    use super::*;
    use lab_cluster::kubernetes::KubernetesApi;

    /// An API server. Its pod proxy returns these responses in sequence, and then repeats the last one.
    fn api(answers: &[&str]) -> KubernetesApi {
        let answers: VecDeque<String> = answers.iter().map(|answer| (*answer).to_owned()).collect();
        let answers = Arc::new(Mutex::new(answers));
        let service = tower::service_fn(move |_: http::Request<Body>| {
            let mut answers = answers.lock().expect("answers");
            let answer = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
            let answer = answer.expect("an answer").into_bytes();
            async { Ok::<_, Infallible>(http::Response::new(Body::from(answer))) }
        });
        KubernetesApi::of_client(kube::Client::new(service, "default"))
    }

    fn pod(node: &str, address: &str) -> EchoPod {
        EchoPod { name: node.into(), node: node.into(), address: address.into(), namespace: "checks".into() }
    }

    async fn asked(answers: &[&str], names: &Names) -> Observation {
        let pods = [pod("worker-1", "10.244.1.2"), pod("worker-2", "10.244.2.2")];
        let patience = patient(Duration::from_secs(60));
        let dns = std::future::ready(Ok(()));
        let asker = Asker::new(&api(answers));
        ask_from(&asker, &pods[0], &pods, names, &Recorder::new(), dns, patience).await
    }

    const NO_ROUTE: &str = r#"{"error":"no route to host"}"#;
    const OF_WORKER_2: &str = r#"{"status":200,"body":"{\"node\":\"worker-2\"}"}"#;

    #[tokio::test(start_paused = true)]
    async fn the_first_question_of_a_pod_is_asked_again() {
        let seen = asked(&[NO_ROUTE, NO_ROUTE, OF_WORKER_2], &Names { service: None, dns: None }).await;
        assert_eq!(seen.cause(), None);
    }

    /// Seen on Talos v1.13.9 under emulation: kube-proxy sets the rules of a service long after its endpoints.
    #[tokio::test(start_paused = true)]
    async fn rules_that_come_twenty_seconds_late_are_in_time() {
        let late: Vec<_> = std::iter::repeat_n(NO_ROUTE, 20).chain([OF_WORKER_2]).collect();
        let seen = asked(&late, &Names { service: None, dns: None }).await;
        assert_eq!(seen.cause(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn once_a_question_has_no_right_answer_the_others_are_asked_once() {
        let names = Names { service: Some("10.96.0.9".into()), dns: None };
        let seen = asked(&[NO_ROUTE], &names).await;
        let cause = seen.cause().expect("a cause");
        let tries = ["no route to host (61 tries within 60 s)", "no route to host (1 tries within 0 s)"];
        assert!(tries.iter().all(|text| cause.contains(text)), "{cause}");
    }
}
