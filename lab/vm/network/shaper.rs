//! One direction of an impaired link: when each frame arrives, if it does.

use std::time::{Duration, Instant};

use lab_model::network::Impairment;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// How much may be on its way. A bound for the lab's memory: whoever sends more loses it.
pub(super) const HELD: usize = 4 << 20;

/// How long a frame may wait for a slow link to be free. Without a bound a full link would answer ever later instead
/// of losing frames, which no sender takes for what it is.
const LONGEST_WAIT: Duration = Duration::from_millis(500);

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It arrives then.
    Arrives(Instant),
    /// The dice took it.
    Lost,
    /// There is no room for it.
    NoRoom,
}

/// The state of one direction. Pure: time is given, and the same seed throws the same dice.
pub(super) struct Shaper {
    impairment: Impairment,
    dice: ChaCha8Rng,
    /// When the slow link has sent what it took so far.
    free_at: Instant,
    /// Bytes on their way.
    held: usize,
}

impl Shaper {
    /// `stream` tells the directions of all links apart, that each throws dice of its own.
    pub fn new(impairment: Impairment, stream: u64, now: Instant) -> Self {
        // ChaCha is the same in every version of the crate; the crate's standard generator is not.
        let mut dice = ChaCha8Rng::seed_from_u64(impairment.seed);
        dice.set_stream(stream);
        Self { impairment, dice, free_at: now, held: 0 }
    }

    /// A frame of so many bytes begins its way.
    pub fn send(&mut self, now: Instant, bytes: usize) -> Fate {
        let Impairment { delay, jitter, loss, rate, .. } = self.impairment;
        if loss.per_million() > 0 && self.dice.random_ratio(loss.per_million(), 1_000_000) {
            return Fate::Lost;
        }
        if self.held + bytes > HELD {
            return Fate::NoRoom;
        }
        let mut sent = now;
        if let Some(rate) = rate {
            let begins = self.free_at.max(now);
            if begins - now > LONGEST_WAIT {
                return Fate::NoRoom;
            }
            sent = begins + rate.time_of(bytes);
            self.free_at = sent;
        }
        let (delay, jitter) = (delay.duration(), jitter.duration());
        let varied = if jitter.is_zero() {
            delay
        } else {
            let spread = u64::try_from(2 * jitter.as_micros()).unwrap_or(u64::MAX);
            delay.saturating_sub(jitter) + Duration::from_micros(self.dice.random_range(0..=spread))
        };
        self.held += bytes;
        Fate::Arrives(sent + varied)
    }

    /// So many bytes have arrived.
    pub fn arrived(&mut self, bytes: usize) {
        self.held = self.held.saturating_sub(bytes);
    }

    /// Whether nothing is on its way.
    pub fn is_empty(&self) -> bool {
        self.held == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lab_model::network::{Delay, Loss, Rate};

    fn fates(impairment: Impairment, stream: u64, count: usize) -> Vec<Fate> {
        let now = Instant::now();
        let mut shaper = Shaper::new(impairment, stream, now);
        (0..count).map(|_| shaper.send(now, 100)).collect()
    }

    fn lost(seed: u64, stream: u64) -> Vec<usize> {
        let impairment = Impairment { loss: Loss::percent(10), seed, ..Impairment::default() };
        let fates = fates(impairment, stream, 2000);
        fates.iter().enumerate().filter(|(_, fate)| **fate == Fate::Lost).map(|(at, _)| at).collect()
    }

    #[test]
    fn a_seed_loses_the_same_frames_again_and_about_as_many_as_said() {
        assert_eq!(lost(7, 1), lost(7, 1));
        assert_ne!(lost(7, 1), lost(8, 1));
        assert_ne!(lost(7, 1), lost(7, 2));
        assert!((150..250).contains(&lost(7, 1).len()), "{}", lost(7, 1).len());
        // What a recorded run lost must be lost again by every later version.
        assert_eq!(lost(7, 1)[..5], EXPECTED);
    }

    /// The first frames that seed 7 loses in stream 1.
    const EXPECTED: [usize; 5] = [1, 4, 11, 12, 21];

    #[test]
    fn a_delay_keeps_the_order_and_a_jitter_does_not() {
        let steady = Impairment { delay: Delay::millis(20), ..Impairment::default() };
        let arrivals = |fates: Vec<Fate>| -> Vec<Instant> {
            let at = |fate| match fate {
                Fate::Arrives(at) => at,
                other => panic!("{other:?}"),
            };
            fates.into_iter().map(at).collect()
        };
        assert!(arrivals(fates(steady, 1, 100)).is_sorted());
        let now = Instant::now();
        let mut shaper = Shaper::new(Impairment { jitter: Delay::millis(5), ..steady }, 1, now);
        let arrivals = arrivals((0..100).map(|_| shaper.send(now, 100)).collect());
        assert!(!arrivals.is_sorted());
        let bounds = now + Duration::from_millis(15)..=now + Duration::from_millis(25);
        assert!(arrivals.iter().all(|at| bounds.contains(at)));
    }

    #[test]
    fn a_slow_link_sends_one_frame_after_the_other_and_drops_what_waits_too_long() {
        let now = Instant::now();
        let slow = Impairment { rate: Some(Rate::megabits(1)), ..Impairment::default() };
        let mut shaper = Shaper::new(slow, 1, now);
        // 12.5 kB are 0.1 s at 1 Mbit a second.
        let fates: Vec<Fate> = (0..8).map(|_| shaper.send(now, 12_500)).collect();
        let tenths = |n: u32| Fate::Arrives(now + n * Duration::from_millis(100));
        assert_eq!(fates[..6], [1, 2, 3, 4, 5, 6].map(tenths));
        assert_eq!(fates[6..], [Fate::NoRoom; 2]);
        assert_eq!(shaper.send(now + Duration::from_secs(1), 12_500), tenths(11));
    }

    #[test]
    fn what_is_on_its_way_is_bounded() {
        let now = Instant::now();
        let far = Impairment { delay: Delay::millis(60_000), ..Impairment::default() };
        let mut shaper = Shaper::new(far, 1, now);
        let taken = (0..1000).filter(|_| shaper.send(now, 60_000) != Fate::NoRoom).count();
        assert_eq!(taken, HELD / 60_000);
        shaper.arrived(60_000);
        assert_ne!(shaper.send(now, 60_000), Fate::NoRoom);
        assert!(!shaper.is_empty());
    }
}
