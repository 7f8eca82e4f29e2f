//! While the LAN is parted, pods reach each other within a group and in no other, with or without their control plane;
//! afterwards everybody reaches everybody without help.

use std::time::{Duration, Instant};

use lab_cluster::{formation::Cluster, kubernetes::KubernetesApi};
use lab_model::{
    events::Step,
    network::Partition,
    node::{Kind, NodeName},
};

use super::{Observation, doors::Doors, fixtures::Fixtures, links::Links};

/// Pause between two questions of a pod.
const AGAIN: Duration = Duration::from_secs(1);

pub(super) async fn look(fixtures: &Fixtures<'_>, partition: &Partition, lasts: Duration) -> Observation {
    let mut observation = Observation::default();
    if let Err(cause) = part_and_heal(fixtures, partition, lasts, &mut observation).await {
        observation.problem(cause);
    }
    observation
}

async fn part_and_heal(
    fixtures: &Fixtures<'_>,
    partition: &Partition,
    lasts: Duration,
    observation: &mut Observation,
) -> Result<(), String> {
    let (cluster, api) = (fixtures.cluster, fixtures.api());
    let doors = Doors::open(fixtures).await?;
    let links = Links::of(cluster);
    let parted = Instant::now();
    links.part(partition)?;
    let pairs = doors.pairs().into_iter().filter(|(from, _)| partition.keeps_uplink(from));
    // Each pair for itself: an answer that does not come is waited for long.
    let asked = pairs.map(async |(from, to)| {
        let mut tally = Tally::default();
        while parted.elapsed() < lasts {
            tally.add(doors.ask(from, to).await.map(drop));
            tokio::time::sleep(AGAIN).await;
        }
        (from, to, tally)
    });
    let control_plane = async {
        let mut control_plane = ControlPlane::of(cluster, partition);
        while parted.elapsed() < lasts {
            control_plane.add(api.ready().await);
            tokio::time::sleep(AGAIN).await;
        }
        control_plane
    };
    let (tallies, control_plane) = futures::join!(futures::future::join_all(asked), control_plane);
    let seconds = parted.elapsed().as_secs_f64();
    let healed = Instant::now();
    links.mend();
    for (from, to, tally) in &tallies {
        tally.judge(from, to, partition.is_one_group(from, to), seconds, observation);
    }
    control_plane.judge(observation);

    everybody_ready(cluster, api, healed).await?;
    observation.fact(format!(
        "healed: the API server answers and every node is Ready {:.1} s later, without help",
        healed.elapsed().as_secs_f64()
    ));
    for (from, to) in doors.pairs() {
        doors.ask_patiently(from, to).await?;
    }
    observation.fact(format!(
        "healed: every pod reaches every other {:.1} s later, without help",
        healed.elapsed().as_secs_f64()
    ));
    Ok(())
}

/// Waits until the API server answers and calls every node Ready.
async fn everybody_ready(cluster: &Cluster, api: &KubernetesApi, since: Instant) -> Result<(), String> {
    let limit = cluster.plan().budgets.limit(Step::Ready);
    loop {
        let last = match api.nodes().await {
            Err(error) => error.to_string(),
            Ok(nodes) => {
                let away: Vec<_> = nodes
                    .iter()
                    .filter(|node| !node.readiness.ready)
                    .map(|node| node.name.as_str())
                    .collect();
                if away.is_empty() {
                    return Ok(());
                }
                format!("not Ready: {}", away.join(", "))
            }
        };
        if since.elapsed() >= limit {
            let seconds = limit.as_secs();
            return Err(format!("the network is whole again, and {seconds} s later: {last}"));
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// What became of the questions of one pod to another.
#[derive(Debug, Default)]
struct Tally {
    answered: u32,
    failed: u32,
    why: String,
}

impl Tally {
    fn add(&mut self, answer: Result<(), String>) {
        match answer {
            Ok(()) => self.answered += 1,
            Err(why) => {
                self.failed += 1;
                self.why = why;
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
            (false, 0, 1..) => seen.fact(format!("{from} -> {to}: parted, none of {all} answered")),
            (false, ..) => {
                seen.problem(format!(
                    "{from} -> {to}: parted, and {answered} of {all} answered all the same"
                ));
            }
        }
    }
}

/// Whether the API server can be reached from the host, and whether it should.
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
            (true, ..) => seen.problem("the control plane keeps the uplink, and its API server never answers"),
            (false, ..) => seen.problem(format!(
                "the control plane is cut off from the host, and its API server answers all the same ({answered} of \
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
        assert!(judged(false, 1, 8).unwrap().contains("1 of 9 answered all the same"));
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
