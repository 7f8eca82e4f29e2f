//! How long is waited, how often is looked, and how a wait ends.

use std::{fmt, pin::pin, time::Duration};

use futures::{Stream, StreamExt, stream};
use tokio::time::{Instant, MissedTickBehavior};

use super::Condition;

/// Pause between two looks unless the wait says another.
const PAUSE: Duration = Duration::from_secs(1);

/// How long is waited, and how often is looked.
///
/// There is always a first look, and a last one when time is up. A look that has begun is not cut short: it bounds
/// itself, as a request does with its own limit.
#[derive(Clone, Debug)]
#[must_use]
pub struct Wait {
    limit: Duration,
    pause: Duration,
    looks: u32,
}

/// The end of a wait whose condition did not come to hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not within {} s; last seen: {last}", limit.as_secs())]
pub struct Expired<E: fmt::Display> {
    /// How long the wait was allowed to take.
    pub limit: Duration,
    /// How often was looked.
    pub looks: u32,
    /// What was seen last.
    pub last: E,
}

/// The end of a [`Wait::poll`] without success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PollError<E> {
    /// The probe failed.
    Probe(E),
    /// The condition did not come to hold.
    Expired(Expired<String>),
}

impl Wait {
    /// A wait of at most `limit` that looks every second.
    pub fn up_to(limit: Duration) -> Self {
        Self { limit, pause: PAUSE, looks: u32::MAX }
    }

    /// A single look.
    pub fn once() -> Self {
        Self::up_to(Duration::ZERO).at_most(1)
    }

    /// A wait that ends only when its condition holds, for a branch of a `select!` whose other branches are bounded.
    pub fn without_limit() -> Self {
        Self::up_to(Duration::MAX)
    }

    /// The same wait with another pause between two looks.
    pub fn every(self, pause: Duration) -> Self {
        Self { pause, ..self }
    }

    /// The same wait with at most so many looks.
    pub fn at_most(self, looks: u32) -> Self {
        Self { looks: looks.max(1), ..self }
    }

    /// Tries until it succeeds.
    ///
    /// # Errors
    /// The last failure, when time is up.
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

    /// Tries until it succeeds, or fails in a way that is not worth another try.
    ///
    /// # Errors
    /// The last failure, and the number of tries.
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

    /// Asks until `condition` holds of the answer, and returns that answer.
    ///
    /// # Errors
    /// When the probe fails, or time is up.
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

    /// As [`Wait::poll`], and asks at once whenever `wakes` has an item.
    ///
    /// # Errors
    /// As [`Wait::poll`].
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

    /// Takes events until `condition` holds of one, and returns it.
    ///
    /// # Errors
    /// When time is up, or the events end.
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
            let failure = match attempt().await {
                Ok(value) => return Ok(value),
                Err(failure) => failure,
            };
            looks += 1;
            let left = self.limit.saturating_sub(began.elapsed());
            if left.is_zero() || looks >= self.looks || !again(&failure) {
                return Err((looks, failure));
            }
            tokio::select! {
                () = tokio::time::sleep(self.pause.min(left)) => {}
                _ = wakes.next() => {}
            }
        }
    }
}

/// Looks every `pause` for as long as `lasts`: what is seen all that time is the point, not what it comes to.
pub async fn sample<F: Future<Output = ()>>(lasts: Duration, pause: Duration, mut look: impl FnMut() -> F) {
    let began = Instant::now();
    let mut ticks = tokio::time::interval(pause);
    // A slow look is followed by a pause all the same.
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

    /// Answers 1, 2, 3 and so on.
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
        // After a second by the wake; the second pause is a whole one, for the wakes have ended.
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
