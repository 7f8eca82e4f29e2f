//! Kubernetes reports a node as not Ready while its link is cut, and as Ready after the link is restored.

use std::time::{Duration, Instant};

use futures::{FutureExt, future::BoxFuture};
use lab_cluster::{
    kubernetes::{EchoPod, EchoWorkload, is_ready, node_facts},
    wait::{Condition, Wait},
};
use lab_model::{Diagnostic, events::Step, node::NodeName, workloads::ECHO_IMAGE};
use lab_plan::{
    cluster::ClusterSpec,
    scenario::{CheckContext, CheckKind, Text, Words},
};
use serde::{Deserialize, Serialize};

use super::{
    Check, CheckError, Observation, asked::AskError, asker::Asker, fixtures::Fixtures, links::Links, patient,
};

/// How long Kubernetes may take to report a node as not Ready, on the reference host. Kubernetes does so 50 s
/// after the last heartbeat (kube-controller-manager, `--node-monitor-grace-period`). kubelet sends a
/// heartbeat every 10 s.
const MISSED: Duration = Duration::from_secs(100);

#[derive(Debug, Serialize)]
pub struct LinkCut {
    pub node: NodeName,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    node: Text,
}

impl CheckKind for LinkCut {
    const NAME: &'static str = "link-cut";
    type Written = Written;

    fn read(written: Written, context: &mut CheckContext<'_, '_>) -> Option<Self> {
        let node = context.node(&written.node)?;
        if context.is_control_plane(&node) {
            let message = format!(
                "{node} is the control plane: while its link is cut, no API server reports the node as missing"
            );
            let help = "name a worker, or use the check partition";
            context.report(Diagnostic::at(&written.node, message).help(help));
            return None;
        }
        Some(Self { node })
    }

    fn words(&self, cluster: &ClusterSpec) -> Words {
        Words::new(
            Words::formed(cluster),
            format!("the link of {} is cut, and restored once Kubernetes misses it", self.node),
            "it goes NotReady, and is Ready again without help and without a reboot",
        )
    }

    fn nodes(&self) -> Vec<&NodeName> {
        vec![&self.node]
    }

    fn images(&self) -> Vec<&str> {
        vec![ECHO_IMAGE]
    }
}

impl Check for LinkCut {
    fn look<'a>(
        &'a self,
        fixtures: &'a Fixtures,
        seen: &'a mut Observation,
    ) -> BoxFuture<'a, Result<(), CheckError>> {
        cut_and_restore(fixtures, &self.node, seen).boxed()
    }
}

async fn cut_and_restore(
    fixtures: &Fixtures,
    name: &NodeName,
    seen: &mut Observation,
) -> Result<(), CheckError> {
    let (cluster, api) = (fixtures.cluster(), fixtures.api());
    let pods = fixtures.echo().await?.pods;
    let on_it = |pod: &&EchoPod| pod.node == name.as_str();
    let pod = pods.iter().find(on_it).ok_or_else(|| CheckError::lacks(format!("no pod runs on {name}")))?;
    let asking = pods.iter().find(|pod| !on_it(pod));
    let asking = asking.ok_or_else(|| CheckError::lacks("the cluster has no other node"))?;
    let budgets = &cluster.plan().budgets;
    let patience = patient(budgets.patience());
    let path = PodPath { asker: Asker::new(api), from: asking, to: pod };
    path.answers(&patience).await?;
    let before = match api.node(name.as_str()).await.map_err(CheckError::of(name))? {
        Some(facts) => facts,
        None => return Err(CheckError::seen(format!("{name}: Kubernetes does not know it"))),
    };
    if !before.readiness.ready {
        let reason = &before.readiness.reason;
        return Err(CheckError::seen(format!("{name}: not Ready before anything is cut: {reason}")));
    }

    let links = Links::of(cluster);
    let cut = Instant::now();
    links.cut(name)?;
    if path.answers(&Wait::once()).await.is_ok() {
        // The node is still reachable, so Kubernetes cannot report it as not Ready.
        return Err(CheckError::seen(format!("{name}: its link is cut, and the pod on it still answers")));
    }
    seen.fact(format!("{name}: its link is cut, and the pod on it does not answer"));
    let limit = budgets.on_this_host(MISSED);
    let not_ready = is_ready().not("it is Ready");
    let missed = Wait::up_to(limit).on(node_facts(api, name.as_str()), not_ready).await;
    let missed = missed.map_err(|_| {
        let seconds = limit.as_secs();
        CheckError::seen(format!(
            "{name}: its link is cut, and it stayed Ready for Kubernetes for {seconds} s"
        ))
    })?;
    seen.fact(format!(
        "{name}: NotReady {:.1} s after its link was cut ({})",
        cut.elapsed().as_secs_f64(),
        missed.readiness.reason
    ));

    let restored = Instant::now();
    links.mend();
    let limit = budgets.limit(Step::Ready);
    let back = Wait::up_to(limit).on(node_facts(api, name.as_str()), is_ready()).await;
    let back = back.map_err(|_| {
        let seconds = limit.as_secs();
        CheckError::seen(format!(
            "{name}: its link is restored, and it was not Ready again within {seconds} s"
        ))
    })?;
    seen.fact(format!(
        "{name}: Ready again {:.1} s after its link was restored, without help",
        restored.elapsed().as_secs_f64()
    ));
    let same = back.boot_id == before.boot_id;
    seen.note(
        same,
        if same {
            format!("{name}: the same boot went on ({})", back.boot_id)
        } else {
            format!("{name}: it rebooted on the way ({}, now {})", before.boot_id, back.boot_id)
        },
    );
    path.answers(&patience).await?;
    seen.fact(format!(
        "{name}: the pod on it answers again, {:.1} s after its link was restored",
        restored.elapsed().as_secs_f64()
    ));
    Ok(())
}

/// The path from a pod on another node to the pod on this node.
struct PodPath<'a> {
    asker: Asker,
    from: &'a EchoPod,
    to: &'a EchoPod,
}

impl PodPath<'_> {
    async fn answers(&self, patience: &Wait) -> Result<(), AskError> {
        let url = EchoWorkload::url(&self.to.address);
        let asked = self.asker.ask(self.from, &url, patience, |node| node == self.to.node).await;
        let path = format!("{} -> pod on {}", self.from.node, self.to.node);
        asked.map(drop).map_err(AskError::means(path))
    }
}
