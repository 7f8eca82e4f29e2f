//! `lab bench`: reproducible measurements.

use std::fmt::Display;

use clap::{Args, Subcommand};
use lab::session::{ClusterRequest, FormationFigures, ImageFigures, Session, SessionOptions, StartFigures};
use lab_cluster::formation::{SavedStage, WarmError};
use lab_model::{Ending, ExitCode, accelerator::CpuModel, events::Outcome, node::NodeName};
use lab_plan::{
    cluster::{ClusterSpec, ImageDelivery, TailnetSpec},
    scenario::Start,
};
use lab_recipe::{padding_image, padding_layout};
use lab_report::Display as Show;
use serde::{Deserialize, de::IntoDeserializer};

use super::{Failed, Guests, bench_gate::BenchGate, bench_growth::BenchGrowth, print_json, say, tell};

/// Benchmarks.
#[derive(Subcommand)]
pub enum Bench {
    /// Measure the cold formation of a cluster: seconds per phase and node, peak memory
    Formation(Formation),
    /// Form clusters of more and more nodes, and tell what each node adds
    Growth(BenchGrowth),
    /// Form and save a cluster, and measure how long each restore takes
    Warm(Warm),
    /// Measure how long three nodes take to get an image: over the LAN, and from a shared disk
    Images(Images),
    /// Measure the release gate over the images of a platform: cold, and with its cache
    Gate(BenchGate),
}

/// Measure how long three nodes take to get an image.
#[derive(Args)]
pub struct Images {
    /// Number of runs
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=100))]
    runs: u16,
    /// Size of the image, in MiB
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u16).range(1..=1500))]
    mib: u16,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    guests: Guests,
}

/// Measure warm starts of a cluster after one cold start.
#[derive(Args)]
pub struct Warm {
    /// Number of restores
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    runs: u16,
    /// Number of nodes: one control plane and workers
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    nodes: u16,
    /// Use a mixed-role cluster: its last node is the gateway of a tailnet
    #[arg(long)]
    mixed: bool,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    guests: Guests,
}

/// Measure the cold formation of a cluster.
#[derive(Args)]
pub struct Formation {
    /// Number of runs
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=100))]
    runs: u16,
    /// Number of nodes: one control plane and workers
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    nodes: u16,
    /// Alternate with a second CPU model, e.g. max
    #[arg(long, value_name = "MODEL")]
    versus: Option<String>,
    /// Alternate with a mixed-role cluster: its last node is the gateway of a tailnet
    #[arg(long)]
    mixed: bool,
    /// Alternate with another delivery of container images: mirror, disk or preloaded
    #[arg(long, value_name = "DELIVERY", value_parser = delivery)]
    versus_delivery: Option<ImageDelivery>,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    guests: Guests,
}

/// A delivery of container images, in the words of scenario files.
fn delivery(text: &str) -> Result<ImageDelivery, serde::de::value::Error> {
    ImageDelivery::deserialize(text.into_deserializer())
}

impl Bench {
    pub(super) async fn run(self) -> Result<ExitCode, Failed> {
        match self {
            Self::Formation(formation) => formation.run().await,
            Self::Gate(gate) => gate.run().await,
            Self::Growth(growth) => growth.run().await,
            Self::Images(images) => images.run().await,
            Self::Warm(warm) => warm.run().await,
        }
    }
}

/// A throw-away cluster of compute nodes.
pub(super) fn cluster(nodes: u16) -> Result<ClusterSpec, Failed> {
    let name = NodeName::new("bench").map_err(|error| Failed::new(ExitCode::Internal, error))?;
    ClusterSpec::of_compute_nodes(name, 1, usize::from(nodes) - 1)
        .map_err(|error| Failed::new(ExitCode::BadInput, error))
}

/// Closes a session with the result of the measurement.
async fn closed<T, E: Display>(session: Session, measured: Result<T, E>) -> Result<T, Failed>
where
    Failed: From<E>,
{
    let (outcome, ending) = match &measured {
        Ok(_) => (Outcome::Passed, Ending::Passed),
        Err(error) => (Outcome::Failed { cause: error.to_string() }, Ending::Failed),
    };
    session.close(outcome, ending).await?;
    Ok(measured?)
}

impl Images {
    async fn run(self) -> Result<ExitCode, Failed> {
        let image = padding_image(self.mib);
        let cache = self.guests.run_root.path().join("cache/padding");
        let layout = padding_layout(&self.guests.images.path()?.join("workloads"), &cache, self.mib)
            .map_err(|error| Failed::new(ExitCode::BadInput, error))?;
        let ways = [("mirror", ImageDelivery::Mirror), ("disk", ImageDelivery::Disk)];
        let mut series = ways.map(|(label, delivery)| (label, delivery, Vec::new()));
        for run in 1..=self.runs {
            for (label, delivery, figures) in &mut series {
                let mut options = self.guests.options("bench-images", Show::Quiet)?;
                options.mirrors.push(layout.clone());
                let session = Session::open(options).await?;
                let mut spec = cluster(3)?;
                spec.image_delivery = *delivery;
                let mut request = ClusterRequest::new(spec);
                request.workloads.push(image.clone());
                let measured = session.measure_image(request, image.clone()).await;
                let one = closed(session, measured).await?;
                tell!("{label} {run}: {one}");
                figures.push(one);
            }
        }
        let medians: Vec<_> =
            series.iter().map(|(label, _, runs)| (*label, ImageFigures::median(runs))).collect();
        if self.json {
            let all: Vec<_> = series
                .iter()
                .zip(&medians)
                .map(|((label, _, runs), (_, median))| {
                    serde_json::json!({ "delivery": label, "mib": self.mib, "median": median, "runs": runs })
                })
                .collect();
            print_json(&all)?;
        } else {
            say!("{}", ImageFigures::table(&medians));
        }
        Ok(ExitCode::Passed)
    }
}

impl Warm {
    async fn run(self) -> Result<ExitCode, Failed> {
        let spec = cluster(self.nodes)?;
        let spec = if self.mixed { spec.with_tailnet(TailnetSpec::default()) } else { spec };
        let mut restores = Vec::new();
        let mut saved = None;
        for run in 0..=self.runs {
            let session = Session::open(self.guests.options("bench-warm", Show::Quiet)?).await?;
            let store = session.warm_store()?;
            let internal = |error: WarmError| Failed::new(ExitCode::Internal, error);
            if run == 0 {
                // What an earlier benchmark saved would make the first start warm.
                for entry in store.list().map_err(internal)? {
                    if entry.saved.key.cluster == spec.name.as_str() {
                        store.remove(&entry.directory).map_err(internal)?;
                    }
                }
            }
            let request = ClusterRequest {
                start: Start::Warm,
                keep: SavedStage::Configured,
                ..ClusterRequest::new(spec.clone())
            };
            let measured = session.measure_start(request).await;
            let figures = closed(session, measured).await?;
            tell!("{run}: {figures}");
            if run == 0 {
                let entries = store.list().map_err(internal)?;
                saved = entries.into_iter().find(|entry| entry.saved.key.cluster == spec.name.as_str());
            } else if figures.warm {
                restores.push(figures);
            }
        }
        let failed = |message: String| Failed::new(ExitCode::VerdictFailed, message);
        let saved = saved.ok_or_else(|| failed("the first cluster was not saved".into()))?;
        let Some(median) = StartFigures::median(&restores) else {
            return Err(failed("no cluster came back warm".into()));
        };
        let cold = saved.saved.formed_in;
        if self.json {
            print_json(&serde_json::json!({
                "cold_seconds": cold,
                "saved_seconds": saved.saved.saved_in,
                "stood_still_seconds": saved.saved.stood_still,
                "bytes": saved.bytes,
                "restores": restores,
                "median": median,
            }))?;
        } else {
            say!(
                "| cold, s | save, s (nodes stand still) | on disk, MiB | restored | median, s | times faster |\n\
                 | --- | --- | --- | --- | --- | --- |\n\
                 | {cold:.1} | {:.1} ({:.1}) | {} | {} of {} | {:.2} | {:.1} |",
                saved.saved.saved_in,
                saved.saved.stood_still,
                saved.bytes >> 20,
                restores.len(),
                self.runs,
                median.seconds,
                cold / median.seconds
            );
        }
        let code =
            if restores.len() == usize::from(self.runs) { ExitCode::Passed } else { ExitCode::VerdictFailed };
        Ok(code)
    }
}

impl Formation {
    async fn run(self) -> Result<ExitCode, Failed> {
        let of = |cpu: &Option<String>, mixed| Series {
            cpu: cpu.clone(),
            mixed,
            delivery: ImageDelivery::default(),
            figures: Vec::new(),
        };
        let mut series = vec![of(&self.guests.cpu, false)];
        if let Some(delivery) = self.versus_delivery {
            series.push(Series { delivery, ..of(&self.guests.cpu, false) });
        }
        if self.versus.is_some() {
            series.push(of(&self.versus, false));
        }
        if self.mixed {
            series.push(of(&self.guests.cpu, true));
        }
        for run in 1..=self.runs {
            for series in &mut series {
                let figures = self.form(series).await?;
                tell!("{} {run}: {figures}", series.label());
                series.figures.push(figures);
            }
        }
        let medians: Vec<_> =
            series.iter().map(|series| (series.label(), FormationFigures::median(&series.figures))).collect();
        if self.json {
            let all: Vec<_> = series
                .iter()
                .zip(&medians)
                .map(|(series, (label, median))| {
                    serde_json::json!({ "what": label, "median": median, "runs": series.figures })
                })
                .collect();
            print_json(&all)?;
        } else {
            say!("{}", FormationFigures::table(&medians));
        }
        Ok(ExitCode::Passed)
    }

    async fn form(&self, series: &Series) -> Result<FormationFigures, Failed> {
        let mut options = self.guests.options("bench", Show::Quiet)?;
        options.cpu_model = series.cpu.as_deref().map(CpuModel::new);
        let spec = cluster(self.nodes)?;
        let mut spec = if series.mixed { spec.with_tailnet(TailnetSpec::default()) } else { spec };
        spec.image_delivery = series.delivery;
        formed(options, spec).await
    }
}

/// Forms a cluster in a session of its own and returns what was measured.
pub(super) async fn formed(options: SessionOptions, spec: ClusterSpec) -> Result<FormationFigures, Failed> {
    let session = Session::open(options).await?;
    let measured = session.measure_formation(ClusterRequest::new(spec)).await;
    closed(session, measured).await
}

struct Series {
    cpu: Option<String>,
    mixed: bool,
    delivery: ImageDelivery,
    figures: Vec<FormationFigures>,
}

impl Series {
    fn label(&self) -> String {
        let cpu = self.cpu.clone().unwrap_or_else(|| "default".into());
        let roles = if self.mixed { ", mixed roles" } else { "" };
        let delivery = match self.delivery {
            ImageDelivery::Auto => "",
            ImageDelivery::Mirror => ", images over the LAN",
            ImageDelivery::Disk => ", images on a shared disk",
            ImageDelivery::Preloaded => ", images preloaded",
        };
        format!("{cpu}{roles}{delivery}")
    }
}
