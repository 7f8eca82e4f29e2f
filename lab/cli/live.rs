//! `lab status`, `lab console`, `lab down`, `lab doctor`: living labs and the host they live on.

use std::{
    fs::File,
    io::{Read, Write},
    path::PathBuf,
    time::Duration,
};

use clap::Args;
use lab::{
    host::{Diagnosis, ExitCode, Facts, LiveLab, LiveNode, Needs, live_labs, reap},
    node::NodeName,
};

use super::{Failed, print_json};

/// How long a lab may take to end its machines.
const END_PATIENCE: Duration = Duration::from_secs(30);
/// How often a console's file is looked at while it is followed.
const FOLLOW_PAUSE: Duration = Duration::from_millis(200);

/// Where runs are kept.
#[derive(Args, Clone)]
struct Runs {
    /// Where runs are kept
    #[arg(long, value_name = "DIR", default_value = "target/lab")]
    run_root: PathBuf,
}

impl Runs {
    fn live(&self) -> Result<Vec<LiveLab>, Failed> {
        live_labs(&self.run_root).map_err(|error| Failed::new(ExitCode::Internal, error))
    }
}

/// List the labs that are alive.
#[derive(Args)]
pub struct Status {
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    runs: Runs,
}

impl Status {
    pub(super) fn run(self) -> Result<ExitCode, Failed> {
        let labs = self.runs.live()?;
        if self.json {
            let states: Vec<_> = labs.iter().map(|lab| &lab.state).collect();
            print_json(&states)?;
            return Ok(ExitCode::Passed);
        }
        if labs.is_empty() {
            println!("no lab is alive below {}", self.runs.run_root.display());
        }
        for lab in &labs {
            let phase = lab.state.as_ref().map_or("starting", |state| state.phase.as_str());
            println!("{}  {phase}", lab.name());
            for node in lab.state.iter().flat_map(|state| &state.nodes) {
                let forwards: Vec<_> =
                    node.forwards.iter().map(|(name, address)| format!("{name} {address}")).collect();
                println!(
                    "  {:<12} {:<13} {:<9} {:<12} {}",
                    node.name,
                    node.kind,
                    node.role,
                    node.address,
                    forwards.join("  ")
                );
            }
        }
        Ok(ExitCode::Passed)
    }
}

/// Show a node's serial console, and follow it.
#[derive(Args)]
pub struct Console {
    /// The node
    node: NodeName,
    /// Which lab, if several are alive: its run's name or the start of it
    #[arg(long)]
    lab: Option<String>,
    /// Print what there is and end
    #[arg(long)]
    no_follow: bool,
    #[command(flatten)]
    runs: Runs,
}

impl Console {
    pub(super) fn run(self) -> Result<ExitCode, Failed> {
        let labs = self.runs.live()?;
        let nodes: Vec<&LiveNode> = labs
            .iter()
            .filter(|lab| self.lab.as_ref().is_none_or(|wanted| lab.name().starts_with(wanted)))
            .flat_map(|lab| lab.state.iter().flat_map(|state| &state.nodes))
            .filter(|node| node.name == self.node)
            .collect();
        let path = match nodes.as_slice() {
            [node] => node.console.clone().unwrap_or_default(),
            [] => {
                let message = format!("no living lab has a node {}; lab status lists them", self.node);
                return Err(Failed::new(ExitCode::BadInput, message));
            }
            _ => {
                let message = format!("several living labs have a node {}; name one with --lab", self.node);
                return Err(Failed::new(ExitCode::BadInput, message));
            }
        };
        follow(&path, !self.no_follow)
            .map_err(|error| Failed::new(ExitCode::Internal, format!("read {}: {error}", path.display())))?;
        Ok(ExitCode::Passed)
    }
}

/// Copies a file that may still grow to standard output; a growing file tells nobody, so it is
/// looked at again and again.
fn follow(path: &std::path::Path, forever: bool) -> std::io::Result<()> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = file.read(&mut buffer)?;
        if length > 0 {
            let mut out = std::io::stdout().lock();
            out.write_all(&buffer[..length])?;
            out.flush()?;
        } else if forever && path.exists() {
            std::thread::sleep(FOLLOW_PAUSE);
        } else {
            return Ok(());
        }
    }
}

/// End living labs.
#[derive(Args)]
pub struct Down {
    /// Which labs: their runs' names or the starts of them [default: all]
    labs: Vec<String>,
    #[command(flatten)]
    runs: Runs,
}

impl Down {
    pub(super) fn run(self) -> Result<ExitCode, Failed> {
        let internal = |error: &dyn std::fmt::Display| Failed::new(ExitCode::Internal, error);
        let wanted =
            |name: &str| self.labs.is_empty() || self.labs.iter().any(|start| name.starts_with(start));
        for lab in self.runs.live()?.iter().filter(|lab| wanted(&lab.name())) {
            lab.stop(END_PATIENCE).map_err(|error| internal(&error))?;
            println!("{} has ended", lab.name());
        }
        for run in reap(&self.runs.run_root).map_err(|error| internal(&error))? {
            println!("cleaned up after {}, which had died", run.run);
        }
        Ok(ExitCode::Passed)
    }
}

/// Check what this host can do, with a fix for what it cannot.
#[derive(Args)]
pub struct Doctor {
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    runs: Runs,
    /// Where the built images are
    #[arg(long, value_name = "DIR", default_value = "target/images")]
    images: PathBuf,
}

impl Doctor {
    pub(super) async fn run(self) -> Result<ExitCode, Failed> {
        let diagnosis =
            Diagnosis::of(Facts::probe(&self.runs.run_root, &self.images).await, Needs::default());
        if self.json {
            println!("{}", diagnosis.to_json());
        } else {
            print!("{diagnosis}");
        }
        Ok(diagnosis.exit_code())
    }
}
