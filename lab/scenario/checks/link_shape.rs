//! A pod stays reachable while the link of its node is slow or lossy, and the measured slowness matches the
//! settings.

use std::time::Duration;

use futures::{FutureExt, future::BoxFuture};
use lab_model::{
    Diagnostic,
    network::{Impairment, Loss},
    node::NodeName,
    workloads::ECHO_IMAGE,
};
use lab_plan::{
    cluster::ClusterSpec,
    scenario::{CheckContext, CheckKind, Text, Words},
};
use serde::{Deserialize, Serialize};

use super::{Check, CheckError, Observation, fixtures::Fixtures, links::Links, node_ports::NodePorts};

/// The number of timed responses.
const TIMED: usize = 7;
/// The maximum number of requests until a lossy link drops a frame.
const UNTIL_LOST: usize = 300;
/// The minimum duration of the transfer over a slow link if the rate limit works.
const TRANSFER: Duration = Duration::from_millis(1000);

#[derive(Debug, Serialize)]
pub struct LinkShape {
    pub node: NodeName,
    pub impairment: Impairment,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    node: Text,
    delay: Option<Text>,
    jitter: Option<Text>,
    loss: Option<Text>,
    rate: Option<Text>,
    seed: Option<u64>,
}

impl CheckKind for LinkShape {
    const NAME: &'static str = "link-shape";
    type Written = Written;

    fn read(written: Written, context: &mut CheckContext<'_, '_>) -> Option<Self> {
        let node = context.node(&written.node)?;
        let impairment = Impairment {
            delay: context.parsed(written.delay.as_ref())?.unwrap_or_default(),
            jitter: context.parsed(written.jitter.as_ref())?.unwrap_or_default(),
            loss: context.parsed(written.loss.as_ref())?.unwrap_or_default(),
            rate: context.parsed(written.rate.as_ref())?,
            seed: written.seed.unwrap_or_default(),
        };
        if let Err(error) = impairment.check() {
            context.report(Diagnostic::at(&written.node, error.to_string()));
            return None;
        }
        Some(Self { node, impairment })
    }

    fn words(&self, cluster: &ClusterSpec) -> Words {
        Words::new(
            format!("a pod on each of {}", Words::count_nodes(cluster)),
            format!("the link of {} is impaired: {}", self.node, self.impairment),
            "its pod is reached all the same, and as late as that",
        )
    }

    fn nodes(&self) -> Vec<&NodeName> {
        vec![&self.node]
    }

    fn images(&self) -> Vec<&str> {
        vec![ECHO_IMAGE]
    }
}

impl Check for LinkShape {
    fn look<'a>(
        &'a self,
        fixtures: &'a Fixtures,
        seen: &'a mut Observation,
    ) -> BoxFuture<'a, Result<(), CheckError>> {
        shape_and_restore(fixtures, &self.node, self.impairment, seen).boxed()
    }
}

async fn shape_and_restore(
    fixtures: &Fixtures,
    name: &NodeName,
    impairment: Impairment,
    seen: &mut Observation,
) -> Result<(), CheckError> {
    let ports = NodePorts::open(fixtures).await?;
    let pairs = ports.pairs();
    let found = pairs.iter().find(|(from, to)| *to == name && *from != name);
    let (from, to) = found.ok_or_else(|| CheckError::lacks("the cluster has no other node"))?;
    let path = PodPath { ports: &ports, from, to };
    let links = Links::of(fixtures.cluster());
    let plain = path.median().await?;
    let lost_before = links.lost(name);
    links.shape(name, impairment)?;
    let shaped = path.median().await?;
    seen.fact(format!(
        "{from} -> {to}: answered in {} ms, and in {} ms with {impairment} at the link of {name}",
        plain.as_millis(),
        shaped.as_millis()
    ));
    if !impairment.delay.is_zero() {
        // A connection and a request take two round trips, and each round trip passes the link twice.
        let least = 4 * impairment.delay.duration().saturating_sub(impairment.jitter.duration());
        later(plain, shaped, least, seen);
    }
    if let Some(rate) = impairment.rate {
        let bytes = bytes_of(rate.time_of(1000));
        let took = ports.bring(from, to, bytes).await?.took;
        seen.note(
            took >= TRANSFER,
            format!("{from} <- {to}: {bytes} bytes in {:.1} s at a rate of {rate}", took.as_secs_f64()),
        );
    }
    if impairment.loss != Loss::default() {
        let mut asked = 0;
        while links.lost(name) == lost_before && asked < UNTIL_LOST {
            path.patiently().await?;
            asked += 1;
        }
        let lost = links.lost(name) - lost_before;
        seen.note(
            lost > 0,
            format!("{from} -> {to}: {lost} frames were lost, and every question was answered"),
        );
    }
    links.mend();
    let mended = path.median().await?;
    seen.fact(format!("link restored: answered in {} ms", mended.as_millis()));
    Ok(())
}

/// The number of bytes that takes slightly longer than `TRANSFER`, from the time that 1000 bytes take.
fn bytes_of(thousand: Duration) -> u64 {
    let thousands = TRANSFER.mul_f64(1.2).as_nanos() / thousand.as_nanos().max(1);
    u64::try_from(thousands * 1000).unwrap_or(u64::MAX).clamp(1000, 32 << 20)
}

fn later(plain: Duration, shaped: Duration, least: Duration, observation: &mut Observation) {
    // Under emulation, the response time of the pods varies considerably.
    let slack = plain.mul_f64(0.5);
    if shaped + slack < plain + least {
        observation.problem(format!(
            "answers should come {} ms later with the delay, and took {} ms instead of {} ms",
            least.as_millis(),
            shaped.as_millis(),
            plain.as_millis()
        ));
    }
}

/// The path from a pod on another node to the pod on this node.
struct PodPath<'a> {
    ports: &'a NodePorts,
    from: &'a NodeName,
    to: &'a NodeName,
}

impl PodPath<'_> {
    /// The median of several response times.
    async fn median(&self) -> Result<Duration, CheckError> {
        let mut times = Vec::new();
        for _ in 0..TIMED {
            times.push(self.patiently().await?);
        }
        times.sort();
        Ok(times[TIMED / 2])
    }

    async fn patiently(&self) -> Result<Duration, CheckError> {
        Ok(self.ports.ask_patiently(self.from, self.to).await?.took)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_not_later_is_no_delay() {
        let ms = Duration::from_millis;
        let judged = |plain, shaped| {
            let mut seen = Observation::default();
            seen.fact("asked");
            later(ms(plain), ms(shaped), ms(400), &mut seen);
            seen.cause()
        };
        assert_eq!((judged(20, 430), judged(100, 480)), (None, None));
        assert!(judged(20, 25).unwrap().contains("took 25 ms instead of 20 ms"));
    }

    #[test]
    fn a_transfer_is_as_large_as_the_rate_makes_it_last() {
        let rate: lab_model::network::Rate = "8Mbit".parse().unwrap();
        assert_eq!(bytes_of(rate.time_of(1000)), 1_200_000);
        assert_eq!(bytes_of(Duration::ZERO), 32 << 20);
    }
}
