//! Time limit, polling interval and result of a wait.

use std::{fmt, pin::pin, time::Duration};

use futures::{Stream, StreamExt, stream};
use tokio::time::{Instant, MissedTickBehavior};

use super::Condition;

/// The default polling interval.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest pause of a gentle wait.
const LONGEST_GENTLE_PAUSE: Duration = Duration::from_secs(3);

/// The time limit and the polling interval of a wait.
///
/// A polling wait polls at least once, and once more when the time is up. It does not cancel a poll that has started;
/// the polled request must have its own time limit.
#[derive(Clone, Debug)]
#[must_use]
pub struct Wait {
    limit: Duration,
    pause: Duration,
    gentle: bool,
    looks: u32,
}

/// The error of a wait whose condition did not hold in time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not within {} s; last seen: {last}", limit.as_secs())]
pub struct Expired<E: fmt::Display> {
    pub limit: Duration,
    /// The number of polls or events.
    pub looks: u32,
    /// The reason why the last observation did not meet the condition, or the last failure.
    pub last: E,
}

/// The error of [`Wait::poll`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PollError<E> {
    /// The probe failed.
    Probe(E),
    /// The condition did not hold in time.
    Expired(Expired<String>),
}

impl Wait {
    /// Waits at most `limit` and polls every second.
    pub fn up_to(limit: Duration) -> Self {
        Self { limit, pause: PAUSE, gentle: false, looks: u32::MAX }
    }

    /// Polls once.
    pub fn once() -> Self {
        Self::up_to(Duration::ZERO).at_most(1)
    }

    /// Waits until the condition holds, without a time limit. Use it as a branch of a `select!` whose other
    /// branches have a time limit.
    pub fn without_limit() -> Self {
        Self::up_to(Duration::MAX)
    }

    /// Sets the polling interval.
    pub fn every(self, pause: Duration) -> Self {
        Self { pause, ..self }
    }

    /// Pauses at least twice as long as the last poll took, up to three seconds. A node that answers slowly lacks CPU
    /// time, and each request uses more CPU time.
    pub fn gently(self) -> Self {
        Self { gentle: true, ..self }
    }

    /// Limits the number of polls or events; 0 counts as 1.
    pub fn at_most(self, looks: u32) -> Self {
        Self { looks: looks.max(1), ..self }
    }

    /// Repeats `attempt` until it succeeds.
    ///
    /// # Errors
    /// The last failure, when the time or the number of attempts is used up.
    pub async fn retry<T, E, F>(&self, attempt: impl FnMut() -> F) -> Result<T, Expired<E>>
    where
        E: fmt::Display,
        F: Future<Output = Result<T, E>>,
    {
        match self.retry_if(|_| true, attempt).await {
            Ok(value) => Ok(value),
            Err((looks, last)) => Err(Expired { limit: self.limit, looks, last }),
        }
    }

    /// Repeats `attempt` until it succeeds or `again` returns false for its failure.
    ///
    /// # Errors
    /// The number of attempts and the last failure.
    pub async fn retry_if<T, E, F>(
        &self,
        again: impl Fn(&E) -> bool,
        attempt: impl FnMut() -> F,
    ) -> Result<T, (u32, E)>
    where
        F: Future<Output = Result<T, E>>,
    {
        self.retry_woken(stream::pending(), again, attempt).await
    }

    /// Repeats `probe` until `condition` holds for its value, and returns that value.
    ///
    /// # Errors
    /// When the probe fails, or the condition does not hold in time.
    pub async fn poll<T, E, F>(
        &self,
        probe: impl FnMut() -> F,
        condition: impl Condition<T>,
    ) -> Result<T, PollError<E>>
    where
        F: Future<Output = Result<T, E>>,
    {
        self.poll_woken(stream::pending(), probe, condition).await
    }

    /// Like [`Wait::poll`], and also polls immediately after each item of `wakes`.
    ///
    /// # Errors
    /// Like [`Wait::poll`].
    pub async fn poll_woken<T, E, F>(
        &self,
        wakes: impl Stream<Item = ()>,
        mut probe: impl FnMut() -> F,
        condition: impl Condition<T>,
    ) -> Result<T, PollError<E>>
    where
        F: Future<Output = Result<T, E>>,
    {
        enum Unmet<E> {
            Condition(String),
            Probe(E),
        }
        let condition = &condition;
        let attempt = || {
            let answer = probe();
            async move {
                let seen = answer.await.map_err(Unmet::Probe)?;
                condition.check(&seen).map_err(Unmet::Condition)?;
                Ok(seen)
            }
        };
        let again = |unmet: &Unmet<E>| matches!(unmet, Unmet::Condition(_));
        self.retry_woken(wakes, again, attempt).await.map_err(|(looks, unmet)| match unmet {
            Unmet::Probe(error) => PollError::Probe(error),
            Unmet::Condition(last) => PollError::Expired(Expired { limit: self.limit, looks, last }),
        })
    }

    /// Reads events until `condition` holds for an event, and returns that event.
    ///
    /// # Errors
    /// When the time is up, or the stream ends.
    pub async fn on<T>(
        &self,
        events: impl Stream<Item = T>,
        condition: impl Condition<T>,
    ) -> Result<T, Expired<String>> {
        let (mut looks, mut last) = (0, "nothing".to_owned());
        let found = async {
            let mut events = pin!(events);
            while looks < self.looks {
                let event = events.next().await?;
                looks += 1;
                match condition.check(&event) {
                    Ok(()) => return Some(event),
                    Err(cause) => last = cause,
                }
            }
            None
        };
        match tokio::time::timeout(self.limit, found).await {
            Ok(Some(event)) => Ok(event),
            Ok(None) | Err(_) => Err(Expired { limit: self.limit, looks, last }),
        }
    }

    async fn retry_woken<T, E, F>(
        &self,
        wakes: impl Stream<Item = ()>,
        again: impl Fn(&E) -> bool,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, (u32, E)>
    where
        F: Future<Output = Result<T, E>>,
    {
        let began = Instant::now();
        let mut wakes = pin!(wakes.chain(stream::pending()));
        let mut looks = 0;
        loop {
            let asked = Instant::now();
            let failure = match attempt().await {
                Ok(value) => return Ok(value),
                Err(failure) => failure,
            };
            let pause = if self.gentle {
                self.pause.max((asked.elapsed() * 2).min(LONGEST_GENTLE_PAUSE))
            } else {
                self.pause
            };
            looks += 1;
            let left = self.limit.saturating_sub(began.elapsed());
            if left.is_zero() || looks >= self.looks || !again(&failure) {
                return Err((looks, failure));
            }
            tokio::select! {
                () = tokio::time::sleep(pause.min(left)) => {}
                _ = wakes.next() => {}
            }
        }
    }
}

/// Calls `look` every `pause` during the time `lasts`. Use it to observe a period, not to wait for a state.
pub async fn sample<F: Future<Output = ()>>(lasts: Duration, pause: Duration, mut look: impl FnMut() -> F) {
    let began = Instant::now();
    let mut ticks = tokio::time::interval(pause);
    // After a slow call the next one still waits for the whole interval.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if began.elapsed() >= lasts {
            return;
        }
        look().await;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_gentle_wait_leaves_a_slow_node_time_between_two_questions() {
        let polls = async |wait: Wait| {
            let count = Cell::new(0);
            let ask = || {
                count.set(count.get() + 1);
                async {
                    tokio::time::sleep(SECOND).await;
                    Err::<(), _>("slow")
                }
            };
            let _ = wait.retry(ask).await;
            count.get()
        };
        let wait = Wait::up_to(SECOND * 12).every(SECOND / 10);
        assert_eq!((polls(wait.clone()).await, polls(wait.gently()).await), (11, 5));
    }

    /// Returns 1, 2, 3 and so on.
    struct Counter(Cell<u32>);

    impl Counter {
        fn new() -> Self {
            Self(Cell::new(0))
        }

        fn next(&self) -> u32 {
            self.0.set(self.0.get() + 1);
            self.0.get()
        }
    }

    fn at_least(least: u32) -> impl Condition<u32> {
        move |seen: &u32| if *seen >= least { Ok(()) } else { Err(format!("{seen} of {least}")) }
    }

    #[tokio::test(start_paused = true)]
    async fn a_condition_that_comes_to_hold_ends_the_wait_at_once() {
        let (counter, began) = (Counter::new(), Instant::now());
        let wait = Wait::up_to(60 * SECOND).every(2 * SECOND);
        let seen = wait.poll(async || Ok::<_, ()>(counter.next()), at_least(4)).await;
        assert_eq!((seen, began.elapsed()), (Ok(4), 6 * SECOND));
    }

    #[tokio::test(start_paused = true)]
    async fn a_condition_that_never_holds_ends_at_the_deadline_with_what_was_seen_last() {
        let (counter, began) = (Counter::new(), Instant::now());
        let wait = Wait::up_to(5 * SECOND).every(2 * SECOND);
        let seen = wait.poll(async || Ok::<_, ()>(counter.next()), at_least(9)).await;
        let expired = Expired { limit: 5 * SECOND, looks: 4, last: "4 of 9".to_owned() };
        assert_eq!(expired.to_string(), "not within 5 s; last seen: 4 of 9");
        assert_eq!((seen, began.elapsed()), (Err(PollError::Expired(expired)), 5 * SECOND));
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_fails_ends_the_wait() {
        let began = Instant::now();
        let seen = Wait::up_to(60 * SECOND).poll(async || Err::<u32, _>("refused"), at_least(1)).await;
        assert_eq!((seen, began.elapsed()), (Err(PollError::Probe("refused")), Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn a_wake_is_followed_by_a_look_before_the_pause_is_over() {
        let (counter, began) = (Counter::new(), Instant::now());
        let wakes = Box::pin(stream::once(tokio::time::sleep(SECOND)));
        let wait = Wait::up_to(60 * SECOND).every(10 * SECOND);
        let seen = wait.poll_woken(wakes, async || Ok::<_, ()>(counter.next()), at_least(3)).await;
        // The wake causes a poll after 1 s. The next poll follows after the interval of 10 s.
        assert_eq!((seen, began.elapsed()), (Ok(3), 11 * SECOND));
    }

    #[tokio::test(start_paused = true)]
    async fn tries_end_with_their_number_or_their_time_whichever_is_first() {
        let looks = async |wait: Wait| wait.retry(async || Err::<(), _>("no")).await.unwrap_err().looks;
        assert_eq!(looks(Wait::up_to(60 * SECOND).at_most(15)).await, 15);
        assert_eq!(looks(Wait::up_to(2 * SECOND).at_most(15)).await, 3);
        assert_eq!([looks(Wait::once()).await, looks(Wait::up_to(Duration::ZERO)).await], [1, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_first_try_is_not_cut_short() {
        let attempt = async || {
            tokio::time::sleep(100 * SECOND).await;
            Ok::<_, String>("late")
        };
        assert_eq!(Wait::up_to(SECOND).retry(attempt).await, Ok("late"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_that_stands_is_not_tried_again() {
        let counter = Counter::new();
        let tried =
            Wait::up_to(60 * SECOND).retry_if(|n| *n < 3, async || Err::<(), _>(counter.next())).await;
        assert_eq!(tried, Err((3, 3)));
    }

    #[tokio::test(start_paused = true)]
    async fn events_are_taken_until_one_fits_or_time_is_up_or_they_end() {
        let wait = Wait::up_to(5 * SECOND);
        assert_eq!(wait.on(stream::iter([1, 4, 9]), at_least(3)).await, Ok(4));
        let ended = wait.on(stream::iter([1, 2]), at_least(3)).await.unwrap_err();
        assert_eq!((ended.looks, ended.last.as_str()), (2, "2 of 3"));
        let began = Instant::now();
        let silent = wait.on(stream::pending::<u32>(), at_least(3)).await.unwrap_err();
        assert_eq!((silent.last.as_str(), began.elapsed()), ("nothing", 5 * SECOND));
    }

    #[tokio::test(start_paused = true)]
    async fn samples_are_taken_for_as_long_as_asked_and_a_slow_one_is_not_caught_up() {
        let (counter, slow) = (Counter::new(), Counter::new());
        sample(3 * SECOND, SECOND, async || _ = counter.next()).await;
        sample(10 * SECOND, SECOND, async || {
            slow.next();
            tokio::time::sleep(4 * SECOND).await;
        })
        .await;
        assert_eq!((counter.0.get(), slow.0.get()), (3, 3));
    }
}
