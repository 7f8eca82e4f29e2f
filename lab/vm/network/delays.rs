//! The frames in transit over impaired links, in the order of their arrival.

use std::{
    cmp::Ordering,
    collections::BinaryHeap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use tokio::sync::Notify;

/// The direction of a frame on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// From the network card to the switch.
    FromCard,
    /// From the switch to the network card.
    ToCard,
}

/// A frame in transit.
pub(super) struct OnItsWay {
    /// The arrival time.
    pub due: Instant,
    /// The port of the link.
    pub port: usize,
    pub direction: Direction,
    /// The epoch of the link's fault when the frame was sent.
    pub epoch: u64,
    /// The frame with its length prefix.
    pub prefixed: Vec<u8>,
}

/// All frames in transit.
#[derive(Default)]
pub(super) struct Delays {
    frames: Mutex<Frames>,
    sooner: Notify,
}

#[derive(Default)]
struct Frames {
    heap: BinaryHeap<Numbered>,
    /// The number of frames so far; preserves the order of frames with the same arrival time.
    count: u64,
}

struct Numbered {
    number: u64,
    frame: OnItsWay,
}

impl Delays {
    /// Adds a frame.
    pub fn add(&self, frame: OnItsWay) {
        let mut frames = self.lock();
        let first = frames.heap.peek().is_none_or(|first| frame.due < first.frame.due);
        let number = frames.count;
        frames.count += 1;
        frames.heap.push(Numbered { number, frame });
        drop(frames);
        if first {
            self.sooner.notify_one();
        }
    }

    /// Waits for the next frame that arrives.
    pub async fn next(&self) -> OnItsWay {
        loop {
            let due = {
                let mut frames = self.lock();
                match frames.heap.peek().map(|first| first.frame.due) {
                    Some(due) if due <= Instant::now() => {
                        if let Some(first) = frames.heap.pop() {
                            return first.frame;
                        }
                        None
                    }
                    due => due,
                }
            };
            match due {
                None => self.sooner.notified().await,
                Some(due) => tokio::select! {
                    () = tokio::time::sleep_until(due.into()) => {}
                    () = self.sooner.notified() => {}
                },
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Frames> {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ord for Numbered {
    /// The heap returns its greatest element, which is the first to arrive.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.frame.due, other.number).cmp(&(self.frame.due, self.number))
    }
}

impl PartialOrd for Numbered {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Numbered {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Numbered {}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn frame(due: Instant, mark: u8) -> OnItsWay {
        OnItsWay { due, port: 0, direction: Direction::ToCard, epoch: 0, prefixed: vec![mark] }
    }

    #[tokio::test]
    async fn frames_arrive_when_due_and_in_the_order_in_which_they_were_sent() {
        let delays = Delays::default();
        let now = Instant::now();
        let soon = now + Duration::from_millis(20);
        for mark in 1..=50 {
            delays.add(frame(soon, mark));
        }
        delays.add(frame(now, 0));
        for mark in 0..=50 {
            assert_eq!(delays.next().await.prefixed, [mark]);
        }
        assert!(Instant::now() >= soon);
    }

    #[tokio::test]
    async fn a_frame_that_is_due_sooner_wakes_who_waits_for_a_later_one() {
        let delays = Delays::default();
        delays.add(frame(Instant::now() + Duration::from_secs(3600), 1));
        let sooner = async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            delays.add(frame(Instant::now(), 2));
        };
        let (first, ()) = tokio::join!(delays.next(), sooner);
        assert_eq!(first.prefixed, [2]);
    }
}
