//! Measurements of cold and warm starts, for benchmarks.

use std::{fmt, time::Instant};

use futures::{FutureExt, future::BoxFuture};
use lab_model::events::{EventKind, Subscription};
use serde::Serialize;

use super::{
    figures::median_by,
    open::Session,
    start::{ClusterRequest, StartError},
};

/// The measurements of one cluster start, from the plan until all layers were ready.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct StartFigures {
    /// Whether the start restored a saved cluster.
    pub warm: bool,
    /// Seconds until all layers of all nodes were ready. For a formed cluster, includes the time to save it.
    pub seconds: f64,
    /// The assumed slowness of this host relative to the reference host.
    pub speed_factor: f64,
}

impl Session {
    /// Starts a cluster and shuts it down.
    ///
    /// # Errors
    /// If the cluster does not start.
    pub fn measure_start(&self, request: ClusterRequest) -> BoxFuture<'_, Result<StartFigures, StartError>> {
        async move {
            let mut events = self.recorder.subscribe();
            let began = Instant::now();
            let running = self.start(request).await?;
            let formed = running.cluster.form().await;
            let seconds = began.elapsed().as_secs_f64();
            let speed_factor = running.cluster.plan().budgets.speed_factor;
            running.shut_down().await;
            formed.map_err(Box::new)?;
            Ok(StartFigures { warm: was_warm(&mut events), seconds, speed_factor })
        }
        .boxed()
    }
}

/// Whether the cluster was restored. After a failed restore, the cluster starts cold.
fn was_warm(events: &mut Subscription) -> bool {
    let mut was_warm = false;
    while let Ok(event) = events.try_recv() {
        if let EventKind::ClusterStarts { warm, .. } = event.kind {
            was_warm = warm;
        }
    }
    was_warm
}

impl StartFigures {
    /// The run with the median time; for an even number of runs, the upper one.
    pub fn median(runs: &[Self]) -> Option<Self> {
        median_by(runs, |run| run.seconds)
    }
}

impl fmt::Display for StartFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.warm { "warm" } else { "cold" };
        write!(f, "{how}, all green after {:.2} s (speed factor {:.2})", self.seconds, self.speed_factor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lab_model::events::{Recorder, Subject};

    #[test]
    fn a_start_was_warm_by_what_is_recorded_of_it_and_not_by_the_words_of_a_note() {
        let starts = |warm| EventKind::ClusterStarts { warm, reason: String::new() };
        let note = |text: &str| EventKind::Note { subject: Subject::Cluster, text: text.into() };
        let was_warm = |kinds: Vec<EventKind>| {
            let recorder = Recorder::new();
            let mut events = recorder.subscribe();
            kinds.into_iter().for_each(|kind| recorder.record(kind));
            was_warm(&mut events)
        };
        assert!(was_warm(vec![starts(true), note("the cluster is back")]));
        assert!(!was_warm(vec![starts(true), note("restored warm in part"), starts(false)]));
        assert!(!was_warm(vec![starts(false), note("restored warm in 3 s")]));
    }
}
