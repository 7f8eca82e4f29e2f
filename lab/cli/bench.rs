//! `lab bench`: figures that others can measure again.

use clap::{Args, Subcommand};
use lab::{
    cluster::{ClusterSpec, TailnetSpec},
    events::Outcome,
    host::{Ending, ExitCode},
    machine::CpuModel,
    node::NodeName,
    report::Display,
    session::{ClusterRequest, FormationFigures, Session},
};

use super::{Failed, Guests, print_json};

/// Measure.
#[derive(Subcommand)]
pub enum Bench {
    /// Cold formation of a three-node cluster: seconds per phase and node, peak memory
    Formation(Formation),
}

/// Cold formation of a cluster.
#[derive(Args)]
pub struct Formation {
    /// How many times
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=100))]
    runs: u16,
    /// Number of nodes: one control plane, the rest workers
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    nodes: u16,
    /// Measure a second CPU model in turn with the first, e.g. max
    #[arg(long, value_name = "MODEL")]
    versus: Option<String>,
    /// Measure a mixed-role cluster, whose last node is the gateway of a tailnet, in turn with the
    /// compute-only one
    #[arg(long)]
    mixed: bool,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    guests: Guests,
}

impl Bench {
    pub(super) async fn run(self) -> Result<ExitCode, Failed> {
        let Self::Formation(formation) = self;
        formation.run().await
    }
}

impl Formation {
    async fn run(self) -> Result<ExitCode, Failed> {
        let of = |cpu: &Option<String>, mixed| Series { cpu: cpu.clone(), mixed, figures: Vec::new() };
        let mut series = vec![of(&self.guests.cpu, false)];
        if self.versus.is_some() {
            series.push(of(&self.versus, false));
        }
        if self.mixed {
            series.push(of(&self.guests.cpu, true));
        }
        for run in 1..=self.runs {
            for series in &mut series {
                let figures = self.form(series).await?;
                eprintln!("{} {run}: {figures}", series.label());
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
            println!("{}", FormationFigures::table(&medians));
        }
        Ok(ExitCode::Passed)
    }

    async fn form(&self, series: &Series) -> Result<FormationFigures, Failed> {
        let mut options = self.guests.options("bench", Display::Quiet);
        options.cpu_model = series.cpu.as_deref().map(CpuModel::new);
        let session = Session::open(options).await?;
        let name = NodeName::new("bench").map_err(|error| Failed::new(ExitCode::Internal, error))?;
        let spec = ClusterSpec::of_compute_nodes(name, 1, usize::from(self.nodes) - 1)
            .map_err(|error| Failed::new(ExitCode::BadInput, error))?;
        let spec = if series.mixed { spec.with_tailnet(TailnetSpec::default()) } else { spec };
        let measured = session.measure_formation(ClusterRequest::new(spec)).await;
        let (outcome, ending) = match &measured {
            Ok(_) => (Outcome::Passed, Ending::Passed),
            Err(error) => (Outcome::Failed { cause: error.to_string() }, Ending::Failed),
        };
        session.close(outcome, ending).await?;
        Ok(measured?)
    }
}

struct Series {
    cpu: Option<String>,
    mixed: bool,
    figures: Vec<FormationFigures>,
}

impl Series {
    fn label(&self) -> String {
        let cpu = self.cpu.clone().unwrap_or_else(|| "default".into());
        if self.mixed { format!("{cpu}, mixed roles") } else { cpu }
    }
}
