//! How often a question is asked before no answer counts as one.

use std::time::{Duration, Instant};

/// How often at most.
const TRIES: u32 = 15;
/// Pause between two tries: what is refused is refused at once.
const PAUSE: Duration = Duration::from_secs(1);

/// The tries at one question about what a formed cluster comes to by itself. A service's rules reach each node a moment after its endpoints are
/// ready, which no object of the API tells, and under emulation that moment is seconds.
pub(super) struct Attempts {
    since: Instant,
    patience: Duration,
    most: u32,
    made: u32,
}

impl Attempts {
    /// As many as a formed cluster may need; see [`crate::cluster::Budgets::patience`].
    pub(super) fn patient(patience: Duration) -> Self {
        Self { since: Instant::now(), patience, most: TRIES, made: 0 }
    }

    /// A single one, for when the verdict stands already.
    pub(super) fn single() -> Self {
        Self { since: Instant::now(), patience: Duration::ZERO, most: 1, made: 0 }
    }

    /// Whether there is another; it has begun when this resolves.
    pub(super) async fn another(&mut self) -> bool {
        if !self.may(self.since.elapsed()) {
            return false;
        }
        if self.made > 0 {
            tokio::time::sleep(PAUSE).await;
        }
        self.made += 1;
        true
    }

    fn may(&self, elapsed: Duration) -> bool {
        self.made == 0 || (self.made < self.most && elapsed < self.patience)
    }
}

impl std::fmt::Display for Attempts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} tries", self.made)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_first_try_and_an_end() {
        let seconds = Duration::from_secs;
        let may = |made, after| Attempts { made, ..Attempts::patient(seconds(60)) }.may(seconds(after));
        assert!(may(0, 100));
        assert_eq!([may(14, 59), may(15, 59), may(3, 60)], [true, false, false]);
        assert!(!Attempts { made: 1, ..Attempts::single() }.may(Duration::ZERO));
    }
}
