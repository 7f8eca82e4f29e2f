//! While a node's link is slow or lossy, its pod is reached all the same, and the slowness is what was asked for.

use std::time::Duration;

use lab_model::{
    network::{Impairment, Loss},
    node::NodeName,
};

use super::{Observation, doors::Doors, fixtures::Fixtures, links::Links};

/// How many answers are timed.
const TIMED: usize = 7;
/// How many questions are asked at most until a lossy link has lost a frame.
const UNTIL_LOST: usize = 300;
/// How long the transfer over a slow link takes at the least, when the link is as slow as it should be.
const TRANSFER: Duration = Duration::from_millis(1000);

pub(super) async fn look(fixtures: &Fixtures<'_>, name: &NodeName, impairment: Impairment) -> Observation {
    let mut observation = Observation::default();
    if let Err(cause) = shape_and_restore(fixtures, name, impairment, &mut observation).await {
        observation.problem(cause);
    }
    observation
}

async fn shape_and_restore(
    fixtures: &Fixtures<'_>,
    name: &NodeName,
    impairment: Impairment,
    observation: &mut Observation,
) -> Result<(), String> {
    let doors = Doors::open(fixtures).await?;
    let pairs = doors.pairs();
    let found = pairs.iter().find(|(from, to)| *to == name && *from != name);
    let (from, to) = found.ok_or("the cluster has no other node")?;
    let way = Way { doors: &doors, from, to };
    let links = Links::of(fixtures.cluster);
    let plain = way.median().await?;
    let lost_before = links.lost(name);
    links.shape(name, impairment)?;
    let shaped = way.median().await?;
    observation.fact(format!(
        "{from} -> {to}: answered in {} ms, and in {} ms with {impairment} at the link of {name}",
        plain.as_millis(),
        shaped.as_millis()
    ));
    if !impairment.delay.is_zero() {
        // A connection and a request are two round trips, and each goes over the link twice.
        let least = 4 * impairment.delay.duration().saturating_sub(impairment.jitter.duration());
        later(plain, shaped, least, observation);
    }
    if let Some(rate) = impairment.rate {
        let bytes = bytes_of(rate.time_of(1000));
        let took = doors.bring(from, to, bytes).await?.took;
        observation.note(
            took >= TRANSFER,
            format!("{from} <- {to}: {bytes} bytes in {:.1} s at a rate of {rate}", took.as_secs_f64()),
        );
    }
    if impairment.loss != Loss::default() {
        let mut asked = 0;
        while links.lost(name) == lost_before && asked < UNTIL_LOST {
            way.patiently().await?;
            asked += 1;
        }
        let lost = links.lost(name) - lost_before;
        observation.note(
            lost > 0,
            format!("{from} -> {to}: {lost} frames were lost, and every question was answered"),
        );
    }
    links.mend();
    let mended = way.median().await?;
    observation.fact(format!("link restored: answered in {} ms", mended.as_millis()));
    Ok(())
}

/// How many bytes take a little more than the transfer's time, when a thousand take so long.
fn bytes_of(thousand: Duration) -> u64 {
    let thousands = TRANSFER.mul_f64(1.2).as_nanos() / thousand.as_nanos().max(1);
    u64::try_from(thousands * 1000).unwrap_or(u64::MAX).clamp(1000, 32 << 20)
}

fn later(plain: Duration, shaped: Duration, least: Duration, observation: &mut Observation) {
    // What the pods themselves take varies by more than a little under emulation.
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

/// From a pod on another node to the one on the node.
struct Way<'a> {
    doors: &'a Doors,
    from: &'a NodeName,
    to: &'a NodeName,
}

impl Way<'_> {
    /// The median time of several answers.
    async fn median(&self) -> Result<Duration, String> {
        let mut times = Vec::new();
        for _ in 0..TIMED {
            times.push(self.patiently().await?);
        }
        times.sort();
        Ok(times[TIMED / 2])
    }

    async fn patiently(&self) -> Result<Duration, String> {
        Ok(self.doors.ask_patiently(self.from, self.to).await?.took)
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
