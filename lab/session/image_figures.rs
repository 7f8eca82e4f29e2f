//! Measurements of container image delivery to the nodes, for benchmarks.

use std::{
    fmt,
    time::{Duration, Instant},
};

use futures::{FutureExt, future::BoxFuture};
use lab_cluster::{
    formation::FormedCluster,
    kubernetes::{CLUSTER_DNS, EchoWorkload, KubernetesError, ready_endpoint},
};
use serde::Serialize;

use super::{
    figures::{cpu_seconds, median_by},
    open::Session,
    start::{ClusterRequest, StartError},
};

/// Ten times the delivery time of 300 MiB to all nodes on the reference host.
const LIMIT: Duration = Duration::from_secs(1800);

/// The measurements of one image that all nodes pull at the same time.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ImageFigures {
    /// Seconds until a pod of the image was ready on every node.
    pub seconds: f64,
    /// MiB that the registry served.
    pub through_registry_mib: f64,
    /// CPU seconds of all VMs during this time.
    pub cpu_seconds: f64,
}

/// Why an image was not measured.
#[derive(Debug, thiserror::Error)]
pub enum ImageFiguresError {
    #[error(transparent)]
    Start(#[from] StartError),
    /// A request to Kubernetes.
    #[error(transparent)]
    Kubernetes(#[from] KubernetesError),
}

impl Session {
    /// Forms a cluster, makes all nodes pull `image` at the same time, shuts the cluster down, and returns
    /// the measurements. The image must contain the echo server.
    ///
    /// # Errors
    /// If the cluster does not form, or a pod of the image does not become ready.
    pub fn measure_image(
        &self,
        request: ClusterRequest,
        image: String,
    ) -> BoxFuture<'_, Result<ImageFigures, ImageFiguresError>> {
        async move {
            let running = self.start(request).await?;
            let formed = running.cluster.form().await.map_err(|failure| StartError::from(Box::new(failure)));
            let measured = match formed {
                Ok(formed) => pulled(&formed, &image).await,
                Err(error) => Err(error.into()),
            };
            running.shut_down().await;
            measured
        }
        .boxed()
    }
}

async fn pulled(formed: &FormedCluster, image: &str) -> Result<ImageFigures, ImageFiguresError> {
    let (cluster, api) = (formed.cluster(), formed.kubernetes());
    // After the formation, the image of the DNS server is still being pulled.
    ready_endpoint(api, CLUSTER_DNS, LIMIT).await?;
    let nodes: Vec<_> = cluster.plan().nodes.iter().map(|node| node.spec.name.to_string()).collect();
    let (bytes, cpu, began) = (cluster.image_bytes(), cpu_seconds(cluster), Instant::now());
    let workload = EchoWorkload::create_from(api, "lab-bench-images", image).await?;
    workload.ready_pods(&nodes, LIMIT).await?;
    Ok(ImageFigures {
        seconds: began.elapsed().as_secs_f64(),
        through_registry_mib: (cluster.image_bytes() - bytes) as f64 / f64::from(1 << 20),
        cpu_seconds: cpu_seconds(cluster) - cpu,
    })
}

impl ImageFigures {
    /// The run with the median time; for an even number of runs, the upper one.
    pub fn median(runs: &[Self]) -> Option<Self> {
        median_by(runs, |run| run.seconds)
    }

    /// A Markdown table of labelled medians, with their ratio to the first.
    pub fn table(medians: &[(&str, Option<Self>)]) -> String {
        let mut text = String::from(
            "| delivery | ready on all nodes, s | through the registry, MiB | VM CPU, s | ratio |\n\
             | --- | --- | --- | --- | --- |\n",
        );
        let first = medians.first().and_then(|(_, run)| *run).map(|run| run.seconds);
        for (label, run) in medians {
            if let (Some(run), Some(first)) = (run, first) {
                text.push_str(&format!(
                    "| {label} | {:.1} | {:.0} | {:.0} | {:.2} |\n",
                    run.seconds,
                    run.through_registry_mib,
                    run.cpu_seconds,
                    run.seconds / first
                ));
            }
        }
        text
    }
}

impl fmt::Display for ImageFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "ready on all nodes after {:.1} s, {:.0} MiB through the registry, {:.0} CPU s",
            self.seconds, self.through_registry_mib, self.cpu_seconds
        )
    }
}
