//! During a partition of the LAN, pods reach each other only within their group, with or without their
//! control plane. After the partition, every pod reaches every other pod without intervention.

use std::{
    fmt,
    time::{Duration, Instant},
};

use futures::{FutureExt, future::BoxFuture};
use lab_cluster::{
    formation::Cluster,
    kubernetes::KubernetesApi,
    wait::{Wait, sample},
};
use lab_model::{
    Diagnostic,
    events::Step,
    network::{Partition, UplinkSide},
    node::{Kind, NodeName},
    workloads::ECHO_IMAGE,
};
use lab_plan::{
    cluster::ClusterSpec,
    scenario::{CheckContext, CheckKind, Text, Words},
};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, Visitor, value::SeqAccessDeserializer},
};
use serde_saphyr::Spanned;
use tokio::sync::Mutex;

use super::{
    Check, CheckError, Observation, asked::AskError, fixtures::Fixtures, links::Links, node_ports::NodePorts,
};

/// Pause between two requests of a pod.
const AGAIN: Duration = Duration::from_secs(1);
/// The default duration of a partition.
const PARTITION_SECONDS: u32 = 30;
/// The maximum duration that a scenario may set.
const LONGEST_PARTITION: u32 = 3600;

#[derive(Debug, Serialize)]
pub struct PartitionCheck {
    /// The groups of nodes that reach each other.
    pub partition: Partition,
    /// The duration of the partition.
    pub lasts: Duration,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    groups: Spanned<Vec<Vec<Text>>>,
    #[serde(default)]
    uplink: WrittenUplink,
    #[serde(rename = "for")]
    lasts: Option<Spanned<u32>>,
}

/// The nodes that keep their connection to the host: `all`, or a list of nodes.
#[derive(Default)]
enum WrittenUplink {
    #[default]
    All,
    Nodes(Vec<Text>),
}

impl<'de> Deserialize<'de> for WrittenUplink {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct UplinkVisitor;

        impl<'de> Visitor<'de> for UplinkVisitor {
            type Value = WrittenUplink;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`all`, or a list of the nodes that keep the uplink")
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<WrittenUplink, E> {
                match word {
                    "all" => Ok(WrittenUplink::All),
                    _ => Err(E::unknown_variant(word, &["all"])),
                }
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, list: A) -> Result<WrittenUplink, A::Error> {
                Deserialize::deserialize(SeqAccessDeserializer::new(list)).map(WrittenUplink::Nodes)
            }
        }

        deserializer.deserialize_any(UplinkVisitor)
    }
}

impl CheckKind for PartitionCheck {
    const NAME: &'static str = "partition";
    type Written = Written;

    fn read(written: Written, context: &mut CheckContext<'_, '_>) -> Option<Self> {
        let groups = written.groups.value.iter().map(|group| context.nodes(group)).collect::<Option<_>>()?;
        let uplink = match &written.uplink {
            WrittenUplink::All => UplinkSide::All,
            WrittenUplink::Nodes(names) => UplinkSide::Nodes(context.nodes(names)?),
        };
        if uplink == UplinkSide::Nodes(Vec::new()) {
            let problem = Diagnostic::at(
                &written.groups,
                "no node keeps the uplink, so the check could not query any node",
            );
            context.report(problem.help("name a node in `uplink`, or leave it out"));
            return None;
        }
        let partition = Partition { groups, uplink };
        let nodes: Vec<&NodeName> = context.cluster().nodes.iter().map(|node| &node.name).collect();
        if let Err(error) = partition.check(&nodes) {
            context.report(Diagnostic::at(&written.groups, error.to_string()));
            return None;
        }
        let seconds = written.lasts.as_ref().map_or(PARTITION_SECONDS, |lasts| lasts.value);
        if let Some(lasts) = &written.lasts
            && !(1..=LONGEST_PARTITION).contains(&seconds)
        {
            let message = format!("a partition cannot last {seconds} s");
            let help = format!("give 1 to {LONGEST_PARTITION} seconds");
            context.report(Diagnostic::at(lasts, message).help(help));
            return None;
        }
        Some(Self { partition, lasts: Duration::from_secs(seconds.into()) })
    }

    fn words(&self, cluster: &ClusterSpec) -> Words {
        Words::new(
            format!("a pod on each of {}", Words::count_nodes(cluster)),
            "the network is partitioned for a while",
            format!(
                "pods reach each other within a group and in no other ({}) for {} s, and everywhere afterwards",
                self.partition,
                self.lasts.as_secs()
            ),
        )
    }

    fn nodes(&self) -> Vec<&NodeName> {
        self.partition.groups.iter().flatten().collect()
    }

    fn images(&self) -> Vec<&str> {
        vec![ECHO_IMAGE]
    }
}

impl Check for PartitionCheck {
    fn look<'a>(
        &'a self,
        fixtures: &'a Fixtures,
        seen: &'a mut Observation,
    ) -> BoxFuture<'a, Result<(), CheckError>> {
        part_and_heal(fixtures, &self.partition, self.lasts, seen).boxed()
    }
}

async fn part_and_heal(
    fixtures: &Fixtures,
    partition: &Partition,
    lasts: Duration,
    seen: &mut Observation,
) -> Result<(), CheckError> {
    let (cluster, api) = (fixtures.cluster(), fixtures.api());
    let ports = NodePorts::open(fixtures).await?;
    let links = Links::of(cluster);
    let parted = Instant::now();
    links.part(partition)?;
    let pairs = ports.pairs().into_iter().filter(|(from, _)| partition.keeps_uplink(from));
    // Each pair runs separately, because a missing response takes the full time limit.
    let asked = pairs.map(async |(from, to)| {
        let tally = Mutex::new(Tally::default());
        sample(lasts, AGAIN, || async {
            let answer = ports.ask(from, to).await;
            tally.lock().await.add(answer.map(drop));
        })
        .await;
        (from, to, tally.into_inner())
    });
    let control_plane = async {
        let control_plane = Mutex::new(ControlPlane::of(cluster, partition));
        sample(lasts, AGAIN, || async {
            let answer = api.ready().await;
            control_plane.lock().await.add(answer);
        })
        .await;
        control_plane.into_inner()
    };
    let (tallies, control_plane) = futures::join!(futures::future::join_all(asked), control_plane);
    let seconds = parted.elapsed().as_secs_f64();
    let healed = Instant::now();
    links.mend();
    for (from, to, tally) in &tallies {
        tally.judge(from, to, partition.is_one_group(from, to), seconds, seen);
    }
    control_plane.judge(seen);

    everybody_ready(cluster, api).await?;
    seen.fact(format!(
        "healed: the API server answers and every node is Ready {:.1} s later, without help",
        healed.elapsed().as_secs_f64()
    ));
    for (from, to) in ports.pairs() {
        ports.ask_patiently(from, to).await?;
    }
    seen.fact(format!(
        "healed: every pod reaches every other {:.1} s later, without help",
        healed.elapsed().as_secs_f64()
    ));
    Ok(())
}

/// Waits until the API server responds and reports every node as Ready.
async fn everybody_ready(cluster: &Cluster, api: &KubernetesApi) -> Result<(), CheckError> {
    let attempt = || async {
        let nodes = api.nodes().await.map_err(|error| error.to_string())?;
        let away: Vec<_> =
            nodes.iter().filter(|node| !node.readiness.ready).map(|node| node.name.as_str()).collect();
        if away.is_empty() { Ok(()) } else { Err(format!("not Ready: {}", away.join(", "))) }
    };
    let wait = Wait::up_to(cluster.plan().budgets.limit(Step::Ready)).every(AGAIN);
    wait.retry(attempt).await.map_err(|expired| {
        let (seconds, last) = (expired.limit.as_secs(), expired.last);
        CheckError::seen(format!("the partition has ended, and {seconds} s later: {last}"))
    })
}

/// The results of the requests from one pod to another.
#[derive(Debug, Default)]
struct Tally {
    answered: u32,
    failed: u32,
    why: String,
}

impl Tally {
    fn add(&mut self, answer: Result<(), AskError>) {
        match answer {
            Ok(()) => self.answered += 1,
            Err(why) => {
                self.failed += 1;
                self.why = why.to_string();
            }
        }
    }

    fn judge(&self, from: &NodeName, to: &NodeName, one_group: bool, seconds: f64, seen: &mut Observation) {
        let Self { answered, failed, why } = self;
        let all = answered + failed;
        match (one_group, *answered, *failed) {
            (true, 1.., 0) => {
                seen.fact(format!(
                    "{from} -> {to}: in one group, {answered} of {all} answered over {seconds:.0} s"
                ));
            }
            (true, ..) => {
                seen.problem(format!(
                    "{from} -> {to}: in one group, and {failed} of {all} not answered: {why}"
                ));
            }
            (false, 0, 1..) => seen.fact(format!("{from} -> {to}: partitioned, none of {all} answered")),
            (false, ..) => {
                seen.problem(format!("{from} -> {to}: partitioned, and {answered} of {all} still answered"));
            }
        }
    }
}

/// Whether the host reaches the API server, and whether it should.
struct ControlPlane {
    keeps: bool,
    answered: u32,
    refused: u32,
}

impl ControlPlane {
    fn of(cluster: &Cluster, partition: &Partition) -> Self {
        let mut planes = cluster.plan().nodes.iter().filter(|node| node.spec.kind == Kind::ControlPlane);
        let keeps = planes.all(|node| partition.keeps_uplink(&node.spec.name));
        Self { keeps, answered: 0, refused: 0 }
    }

    fn add(&mut self, ready: Result<(), String>) {
        match ready {
            Ok(()) => self.answered += 1,
            Err(_) => self.refused += 1,
        }
    }

    fn judge(&self, seen: &mut Observation) {
        let Self { keeps, answered, refused } = self;
        let all = answered + refused;
        match (keeps, *answered, *refused) {
            (true, 1.., _) => seen.fact(format!("the API server answers the host ({answered} of {all})")),
            (false, 0, 1..) => {
                seen.fact(format!("the API server is cut off from the host: none of {all} answered"));
            }
            (true, ..) => {
                seen.problem("the control plane keeps the uplink, and its API server never answers")
            }
            (false, ..) => seen.problem(format!(
                "the control plane is cut off from the host, and its API server still answers ({answered} of \
                 {all})"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(one_group: bool, answered: u32, failed: u32) -> Option<String> {
        let [from, to] = ["worker-1", "worker-2"].map(|name| name.parse().unwrap());
        let mut seen = Observation::default();
        let tally = Tally { answered, failed, why: "timeout".into() };
        tally.judge(&from, &to, one_group, 30.0, &mut seen);
        seen.cause()
    }

    #[test]
    fn one_lost_answer_within_a_group_and_one_answer_across_are_too_many() {
        assert_eq!((judged(true, 9, 0), judged(false, 0, 9)), (None, None));
        assert!(judged(true, 8, 1).unwrap().contains("1 of 9 not answered: timeout"));
        assert!(judged(false, 1, 8).unwrap().contains("1 of 9 still answered"));
        assert!(judged(true, 0, 0).is_some() && judged(false, 0, 0).is_some());
    }

    #[test]
    fn an_api_server_that_is_cut_off_must_not_answer() {
        let judged = |keeps, answered, refused| {
            let mut seen = Observation::default();
            ControlPlane { keeps, answered, refused }.judge(&mut seen);
            seen.cause()
        };
        assert_eq!((judged(false, 0, 5), judged(true, 5, 0)), (None, None));
        assert!(
            judged(false, 1, 4).is_some() && judged(true, 0, 5).is_some() && judged(false, 0, 0).is_some()
        );
    }
}
