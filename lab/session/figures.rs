//! Measurements of a cluster formation, for benchmarks.

use std::{fmt, sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use lab_cluster::formation::Cluster;
use lab_model::events::Step;
use lab_report::{NodeSummary, Summary};
use serde::Serialize;

use super::{
    open::Session,
    start::{ClusterRequest, StartError},
};

/// The interval between memory samples. The peak of a formation lasts longer than this.
const LOOK: Duration = Duration::from_millis(500);

/// The number of bare kernel measurements. The median counts, because single boots vary by a tenth.
const BARE_KERNELS: usize = 3;

/// The measurements of one formation.
#[derive(Clone, Debug, Serialize)]
pub struct FormationFigures {
    /// Seconds from the first power-on until Kubernetes has reported every node as Ready.
    pub nodes_ready_seconds: f64,
    /// The same time on the reference host, computed with the current speed factor.
    pub nodes_ready_normalised_seconds: f64,
    /// Seconds from the first power-on until the last node was ready in all three layers.
    pub all_green_seconds: f64,
    /// Seconds until a bare kernel started its first process, measured directly before the formation.
    pub bare_kernel_seconds: f64,
    /// The slowness relative to the reference host.
    pub speed_factor: f64,
    /// Peak resident memory of all processes of the lab together, MiB.
    pub peak_memory_mib: f64,
    /// CPU seconds of all VMs together.
    pub cpu_seconds: f64,
    /// CPU seconds of the lab itself while the cluster formed: the switch, the registry, the watches of the nodes.
    pub own_cpu_seconds: f64,
    /// The steps of each node.
    pub nodes: Vec<NodeSummary>,
}

impl Session {
    /// Forms a cluster, shuts it down, and returns the measurements.
    ///
    /// # Errors
    /// If the cluster cannot be started or does not form.
    pub fn measure_formation(
        &self,
        request: ClusterRequest,
    ) -> BoxFuture<'_, Result<FormationFigures, StartError>> {
        self.figures_of_formation(request).boxed()
    }

    async fn figures_of_formation(&self, request: ClusterRequest) -> Result<FormationFigures, StartError> {
        let mut events = self.recorder.subscribe();
        let running = self.start(request).await?;
        let kernel = running.cluster.plan().control_plane().image.boot.kernel.clone();
        let mut times = Vec::new();
        for _ in 0..BARE_KERNELS {
            times.push(self.time_bare_kernel(&kernel, &self.cpu_model()).await?);
        }
        times.sort_unstable();
        let bare = times[BARE_KERNELS / 2];
        let mut peak = 0.0_f64;
        let own_before = own_cpu();
        let formed = {
            let forming = running.cluster.form();
            tokio::pin!(forming);
            let mut look = tokio::time::interval(LOOK);
            loop {
                tokio::select! {
                    formed = &mut forming => break formed,
                    _ = look.tick() => peak = peak.max(resident_mib(&running.cluster)),
                }
            }
        };
        peak = peak.max(resident_mib(&running.cluster));
        let cpu_seconds = cpu_seconds(&running.cluster);
        let own_cpu_seconds = own_cpu() - own_before;
        running.shut_down().await;
        formed.map_err(Box::new)?;
        let mut summary = Summary::default();
        while let Ok(event) = events.try_recv() {
            summary.add(&event);
        }
        let scenario = summary.scenarios.pop().unwrap_or_default();
        let factor = (bare.as_secs_f64() / lab_vm::host::REFERENCE_BOOT.as_secs_f64()).max(0.01);
        let nodes_ready_seconds = scenario.all_nodes_ready_after().unwrap_or(f64::NAN);
        Ok(FormationFigures {
            nodes_ready_seconds,
            nodes_ready_normalised_seconds: nodes_ready_seconds / factor,
            all_green_seconds: scenario.all_ready_after().unwrap_or(f64::NAN),
            bare_kernel_seconds: bare.as_secs_f64(),
            speed_factor: factor,
            peak_memory_mib: peak,
            cpu_seconds,
            own_cpu_seconds,
            nodes: scenario.nodes,
        })
    }
}

fn resident_mib(cluster: &Arc<Cluster>) -> f64 {
    let own = std::process::id();
    let pids = cluster.pids().into_iter().chain([own]);
    pids.filter_map(|pid| lab_vm::machine::usage_of(pid).ok()).map(|usage| usage.resident as f64).sum::<f64>()
        / f64::from(1 << 20)
}

/// CPU seconds of this process since its start.
fn own_cpu() -> f64 {
    lab_vm::machine::usage_of(std::process::id()).map_or(f64::NAN, |usage| usage.cpu_time.as_secs_f64())
}

pub(super) fn cpu_seconds(cluster: &Arc<Cluster>) -> f64 {
    cluster
        .pids()
        .into_iter()
        .filter_map(|pid| lab_vm::machine::usage_of(pid).ok())
        .map(|usage| usage.cpu_time.as_secs_f64())
        .sum()
}

/// The run with the median of `seconds`; for an even number of runs, the upper one.
pub(super) fn median_by<T: Clone>(runs: &[T], seconds: impl Fn(&T) -> f64) -> Option<T> {
    let mut sorted: Vec<_> = runs.iter().collect();
    sorted.sort_by(|a, b| seconds(a).total_cmp(&seconds(b)));
    sorted.get(sorted.len() / 2).map(|run| (*run).clone())
}

impl FormationFigures {
    /// The run with the median total; for an even number of runs, the upper one.
    pub fn median(runs: &[Self]) -> Option<Self> {
        median_by(runs, |run| run.nodes_ready_seconds)
    }

    /// A Markdown table of labelled medians, with their ratio to the first.
    pub fn table(medians: &[(String, Option<Self>)]) -> String {
        let mut text = String::from(
            "| what | all nodes Ready, s | on the reference host, s | all layers green, s | speed factor | peak memory, MiB | VM CPU, s | lab CPU, s | ratio |\n\
             | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
        );
        let first = medians.first().and_then(|(_, run)| run.as_ref()).map(|run| run.nodes_ready_seconds);
        for (label, run) in medians {
            if let (Some(run), Some(first)) = (run, first) {
                text.push_str(&format!(
                    "| {label} | {:.1} | {:.1} | {:.1} | {:.2} | {:.0} | {:.0} | {:.1} | {:.2} |\n",
                    run.nodes_ready_seconds,
                    run.nodes_ready_normalised_seconds,
                    run.all_green_seconds,
                    run.speed_factor,
                    run.peak_memory_mib,
                    run.cpu_seconds,
                    run.own_cpu_seconds,
                    run.nodes_ready_seconds / first
                ));
            }
        }
        for (label, run) in medians {
            for node in run.iter().flat_map(|run| &run.nodes) {
                let steps: Vec<_> = node
                    .steps
                    .iter()
                    .filter(|(step, _)| **step != Step::Prepare)
                    .map(|(step, seconds)| format!("{} {seconds:.1}", step.label()))
                    .collect();
                text.push_str(&format!("\n{label}, {}: {}", node.node, steps.join(", ")));
            }
        }
        text
    }
}

impl fmt::Display for FormationFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "all nodes Ready after {:.1} s, all layers green after {:.1} s (speed factor {:.2}), peak {:.0} MiB, {:.0} CPU s",
            self.nodes_ready_seconds,
            self.all_green_seconds,
            self.speed_factor,
            self.peak_memory_mib,
            self.cpu_seconds
        )
    }
}
