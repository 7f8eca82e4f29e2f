//! A node whose link is cut is missed by Kubernetes, and is Ready again once the link is restored.

use std::time::{Duration, Instant};

use lab_cluster::kubernetes::{EchoPod, EchoWorkload, KubernetesApi, NodeFacts};
use lab_model::{events::Step, node::NodeName};

use super::{Observation, asker::Asker, fixtures::Fixtures, links::Links};

/// How long Kubernetes may take to miss a node, on the reference host: it does so 50 s after the last sign of life
/// (kube-controller-manager, `--node-monitor-grace-period`), of which kubelet gives one every 10 s.
const MISSED: Duration = Duration::from_secs(100);
/// Pause between two looks at the node.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

pub(super) async fn look(fixtures: &Fixtures<'_>, name: &NodeName) -> Observation {
    let mut observation = Observation::default();
    if let Err(cause) = cut_and_restore(fixtures, name, &mut observation).await {
        observation.problem(cause);
    }
    observation
}

async fn cut_and_restore(
    fixtures: &Fixtures<'_>,
    name: &NodeName,
    observation: &mut Observation,
) -> Result<(), String> {
    let (cluster, api) = (fixtures.cluster, fixtures.api());
    let pods = fixtures.echo().await?.pods;
    let on_it = |pod: &&EchoPod| pod.node == name.as_str();
    let pod = pods.iter().find(on_it).ok_or_else(|| format!("no pod runs on {name}"))?;
    let asking = pods.iter().find(|pod| !on_it(pod)).ok_or("the cluster has no other node")?;
    let asker = Asker::new(api, &cluster.plan().budgets);
    let way = Way { asker: &asker, from: asking, to: pod };
    way.again().await?;
    let before = facts(api, name).await?;
    if !before.readiness.ready {
        return Err(format!("{name}: not Ready before anything is cut: {}", before.readiness.reason));
    }

    let links = Links::of(cluster);
    let cut = Instant::now();
    links.cut(name)?;
    if way.once().await.is_ok() {
        // Nobody will miss a node that is there.
        return Err(format!("{name}: its link is cut, and the pod on it answers all the same"));
    }
    observation.fact(format!("{name}: its link is cut, and the pod on it does not answer"));
    let budgets = &cluster.plan().budgets;
    let limit = budgets.on_this_host(MISSED);
    let missed = until(api, name, limit, |facts| !facts.readiness.ready).await;
    let Some(missed) = missed else {
        let seconds = limit.as_secs();
        return Err(format!("{name}: its link is cut, and it stayed Ready for Kubernetes for {seconds} s"));
    };
    observation.fact(format!(
        "{name}: NotReady {:.1} s after its link was cut ({})",
        cut.elapsed().as_secs_f64(),
        missed.readiness.reason
    ));

    let restored = Instant::now();
    links.mend();
    let limit = budgets.limit(Step::Ready);
    let back = until(api, name, limit, |facts| facts.readiness.ready).await;
    let back = back.ok_or_else(|| {
        format!("{name}: its link is restored, and it was not Ready again within {} s", limit.as_secs())
    })?;
    observation.fact(format!(
        "{name}: Ready again {:.1} s after its link was restored, without help",
        restored.elapsed().as_secs_f64()
    ));
    let same = back.boot_id == before.boot_id;
    observation.note(
        same,
        if same {
            format!("{name}: the same boot went on ({})", back.boot_id)
        } else {
            format!("{name}: it rebooted on the way ({}, now {})", before.boot_id, back.boot_id)
        },
    );
    way.again().await?;
    observation.fact(format!(
        "{name}: the pod on it answers again, {:.1} s after its link was restored",
        restored.elapsed().as_secs_f64()
    ));
    Ok(())
}

/// From a pod on another node to the one on the node.
struct Way<'a> {
    asker: &'a Asker,
    from: &'a EchoPod,
    to: &'a EchoPod,
}

impl Way<'_> {
    async fn once(&self) -> Result<(), String> {
        let url = EchoWorkload::url(&self.to.address);
        self.asker.ask_once(self.from, &url, |node| node == self.to.node).await.map(drop)
    }

    /// Once it answers.
    async fn again(&self) -> Result<(), String> {
        let url = EchoWorkload::url(&self.to.address);
        let right = |node: &str| node == self.to.node;
        let asked = self.asker.ask(self.from, &url, &Observation::default(), right).await;
        asked.map(drop).map_err(|why| format!("{} -> pod on {}: {why}", self.from.node, self.to.node))
    }
}

/// The node as soon as it is `wanted`; `None` when it was not within `limit`.
async fn until(
    api: &KubernetesApi,
    name: &NodeName,
    limit: Duration,
    wanted: impl Fn(&NodeFacts) -> bool,
) -> Option<NodeFacts> {
    let began = Instant::now();
    loop {
        if let Ok(facts) = facts(api, name).await
            && wanted(&facts)
        {
            return Some(facts);
        }
        if began.elapsed() >= limit {
            return None;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

async fn facts(api: &KubernetesApi, name: &NodeName) -> Result<NodeFacts, String> {
    match api.node(name.as_str()).await {
        Ok(Some(facts)) => Ok(facts),
        Ok(None) => Err(format!("{name}: Kubernetes does not know it")),
        Err(error) => Err(format!("{name}: {error}")),
    }
}
