//! `lab bench growth`: what each further node of a cluster costs.

use clap::Args;
use lab::session::FormationFigures;
use lab_model::ExitCode;
use lab_report::Display as Show;

use super::{
    Failed, Guests,
    bench::{cluster, formed},
    print_json, say, tell,
};

/// Measure the cold formation of clusters of more and more nodes.
#[derive(Args)]
pub struct BenchGrowth {
    /// Numbers of nodes: one control plane and workers
    #[arg(long, value_delimiter = ',', default_value = "1,2,4,8", value_parser = clap::value_parser!(u16).range(1..=100))]
    nodes: Vec<u16>,
    /// Number of runs for each
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=100))]
    runs: u16,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    guests: Guests,
}

/// A quantity of a formation that is read as a line over the number of nodes.
type Quantity = (&'static str, fn(&FormationFigures) -> f64);

const QUANTITIES: [Quantity; 4] = [
    ("all nodes Ready on the reference host, s", |run| run.nodes_ready_normalised_seconds),
    ("VM CPU, s", |run| run.cpu_seconds),
    ("lab CPU, s", |run| run.own_cpu_seconds),
    ("peak memory, MiB", |run| run.peak_memory_mib),
];

impl BenchGrowth {
    pub(super) async fn run(self) -> Result<ExitCode, Failed> {
        let mut medians = Vec::new();
        for &nodes in &self.nodes {
            let mut runs = Vec::new();
            for run in 1..=self.runs {
                let options = self.guests.options("bench-growth", Show::Quiet)?;
                let figures = formed(options, cluster(nodes)?).await?;
                tell!("{nodes} nodes, run {run}: {figures}");
                runs.push(figures);
            }
            if let Some(median) = FormationFigures::median(&runs) {
                medians.push((nodes, median));
            }
        }
        let fits: Vec<_> = QUANTITIES
            .iter()
            .filter_map(|(what, of)| {
                let points: Vec<_> =
                    medians.iter().map(|(nodes, run)| (f64::from(*nodes), of(run))).collect();
                Some((*what, Line::through(&points)?))
            })
            .collect();
        if self.json {
            let fits: Vec<_> = fits
                .iter()
                .map(|(what, line)| serde_json::json!({ "what": what, "base": line.base, "each": line.each }))
                .collect();
            let clusters: Vec<_> = medians
                .iter()
                .map(|(nodes, median)| serde_json::json!({ "nodes": nodes, "median": median }))
                .collect();
            print_json(&serde_json::json!({ "clusters": clusters, "fits": fits }))?;
            return Ok(ExitCode::Passed);
        }
        let rows: Vec<_> = medians
            .into_iter()
            .map(|(nodes, median)| {
                (format!("{nodes} node{}", if nodes == 1 { "" } else { "s" }), Some(median))
            })
            .collect();
        say!("{}", FormationFigures::table(&rows));
        for (what, line) in fits {
            say!("{what}: {:.1} and {:.1} for each node", line.base, line.each);
        }
        Ok(ExitCode::Passed)
    }
}

/// A straight line by least squares.
struct Line {
    /// The value at no node.
    base: f64,
    /// What each node adds.
    each: f64,
}

impl Line {
    /// Returns no line for fewer than two different numbers of nodes.
    fn through(points: &[(f64, f64)]) -> Option<Self> {
        let count = points.len() as f64;
        let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
        let (x, y) = (mean(|point| point.0), mean(|point| point.1));
        let spread: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
        let common: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
        let each = common / spread;
        each.is_finite().then_some(Self { base: y - each * x, each })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_goes_through_its_points_and_one_number_of_nodes_makes_none() {
        let line = Line::through(&[(1.0, 12.0), (2.0, 14.0), (4.0, 18.0)]).expect("a line");
        assert!((line.base - 10.0).abs() < 1e-9 && (line.each - 2.0).abs() < 1e-9);
        assert!(Line::through(&[(3.0, 5.0), (3.0, 7.0)]).is_none() && Line::through(&[]).is_none());
    }
}
