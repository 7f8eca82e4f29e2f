//! The clock of every node differs by at most one second from the clock of the lab.

use std::fmt;

use futures::{FutureExt, future::BoxFuture};
use jiff::{SignedDuration, Timestamp};
use lab_cluster::{formation::FormedCluster, machine_api::ApiError};
use lab_plan::{
    cluster::{ClusterSpec, NodePlan},
    scenario::{CheckContext, CheckKind, Words},
};
use serde::{Deserialize, Serialize};

use super::{Check, CheckError, Fixtures, Observation, QUESTION, patient};

/// The largest permitted difference.
const TOLERANCE: SignedDuration = SignedDuration::from_secs(1);

/// The check has no parameters.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clock {}

impl CheckKind for Clock {
    const NAME: &'static str = "clock";
    type Written = Self;

    fn read(written: Self, _: &mut CheckContext<'_, '_>) -> Option<Self> {
        Some(written)
    }

    fn words(&self, cluster: &ClusterSpec) -> Words {
        let then = format!("its clock is within {} s of the lab's", TOLERANCE.as_secs());
        Words::new(Words::formed(cluster), "each node is asked for the time", then)
    }
}

impl Check for Clock {
    fn look<'a>(
        &'a self,
        fixtures: &'a Fixtures,
        seen: &'a mut Observation,
    ) -> BoxFuture<'a, Result<(), CheckError>> {
        async move {
            let patience = patient(fixtures.formed().plan().budgets.patience());
            for node in &fixtures.formed().plan().nodes {
                let name = &node.spec.name;
                // A slow response proves nothing, so the check retries. A wrong clock is a result.
                let is_unclear = |unproven: &Unproven| matches!(unproven, Unproven::Slow(_));
                match patience.retry_if(is_unclear, || ask(fixtures.formed(), node)).await {
                    Ok(offset) => seen.fact(format!("{name}: its clock is {offset}")),
                    Err((_, Unproven::Wrong(offset))) => {
                        seen.problem(format!("{name}: its clock is {offset}; look at its time servers"));
                    }
                    Err((tries, Unproven::Slow(offset))) => seen.problem(format!(
                        "{name}: it tells the time too slowly to say whether its clock is right: {offset} ({tries} \
                         tries)"
                    )),
                    Err((_, Unproven::Silent(error))) => seen.problem(format!("{name}: {error}")),
                }
            }
            Ok(())
        }
        .boxed()
    }
}

/// Why a node's clock is not proven correct.
#[derive(Debug)]
enum Unproven {
    /// The clock is wrong.
    Wrong(Offset),
    /// The response took too long to decide.
    Slow(Offset),
    /// The node did not respond.
    Silent(ApiError),
}

async fn ask(formed: &FormedCluster, node: &NodePlan) -> Result<Offset, Unproven> {
    let client = formed.cluster().connect(node).await.map_err(Unproven::Silent)?;
    let asked = Timestamp::now();
    let told = client.time(QUESTION).await.map_err(Unproven::Silent)?;
    Offset::of(told, asked, Timestamp::now()).judge()
}

/// The difference between a node's clock and the lab's clock, positive if the node is ahead. The node read
/// its clock at some time between request and response, so the difference has bounds and no exact value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Offset {
    least: SignedDuration,
    most: SignedDuration,
}

impl Offset {
    fn of(told: Timestamp, asked: Timestamp, answered: Timestamp) -> Self {
        Self { least: told.duration_since(answered), most: told.duration_since(asked) }
    }

    fn judge(self) -> Result<Self, Unproven> {
        if -TOLERANCE <= self.least && self.most <= TOLERANCE {
            Ok(self)
        } else if self.most < -TOLERANCE || TOLERANCE < self.least {
            Err(Unproven::Wrong(self))
        } else {
            Err(Unproven::Slow(self))
        }
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [least, most] = [self.least, self.most].map(|bound| bound.as_secs_f64());
        write!(f, "ahead of the lab's by {least:+.2} s to {most:+.2} s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(told_ms: i64, asked_ms: i64, answered_ms: i64) -> Result<Offset, Unproven> {
        let [told, asked, answered] = [told_ms, asked_ms, answered_ms]
            .map(|ms| Timestamp::from_millisecond(1_800_000_000_000 + ms).expect("a time"));
        Offset::of(told, asked, answered).judge()
    }

    #[test]
    fn a_clock_is_right_only_when_it_is_whenever_it_was_read() {
        let right = judged(300, 0, 500).expect("right");
        assert_eq!(right.to_string(), "ahead of the lab's by -0.20 s to +0.30 s");
        assert!(judged(1000, 0, 2000).is_ok());
    }

    #[test]
    fn a_clock_that_is_ahead_or_behind_is_wrong() {
        for told in [90_000, -90_000, 1_600, -1_100] {
            assert!(matches!(judged(told, 0, 500), Err(Unproven::Wrong(_))), "{told}");
        }
    }

    #[test]
    fn an_answer_that_takes_long_proves_neither() {
        for (told, answered) in [(1_000, 2_500), (0, 10_000), (11_000, 10_500)] {
            assert!(matches!(judged(told, 0, answered), Err(Unproven::Slow(_))), "{told}");
        }
    }
}
