//! `lab net`: the network links of a running lab.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use lab_cluster::control::{Answer, ControlClient, Request};
use lab_model::{
    ExitCode, Size,
    network::{Delay, Impairment, Link, Loss, Partition, Rate, UplinkSide},
};

use super::{Failed, live::At, print_json, print_line};

/// Network links of a running lab.
#[derive(Subcommand)]
pub enum NetCommand {
    /// Show the state of nodes and links
    Status {
        #[command(flatten)]
        how: How,
    },
    /// Cut a link: no frame passes in either direction
    Cut {
        /// Name of a node, or uplink
        link: Link,
        #[command(flatten)]
        how: How,
    },
    /// Restore one link or all links
    Restore {
        /// Name of a node, or uplink [default: every link that is cut or shaped]
        link: Option<Link>,
        #[command(flatten)]
        how: How,
    },
    /// Add delay, loss or a rate limit to both directions of a link
    Shape(Shape),
    /// Split the network into groups that cannot reach each other
    Partition(PartitionArgs),
    /// End a partition
    Heal {
        #[command(flatten)]
        how: How,
    },
    /// Write the frames of a link to a pcapng file
    #[command(subcommand)]
    Capture(Capture),
}

/// The lab that gets the request, and the form of its answer.
#[derive(Args, Clone)]
pub struct How {
    #[command(flatten)]
    pub(super) at: At,
    /// Print the answer as JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// Add delay, loss or a rate limit to both directions of a link.
#[derive(Args)]
pub struct Shape {
    /// Name of a node, or uplink
    link: Link,
    /// Delay of each frame, e.g. 50ms; a round trip takes twice as long
    #[arg(long, value_name = "TIME")]
    delay: Option<Delay>,
    /// Random part of the delay, at most DELAY, e.g. 5ms: each frame takes DELAY ± JITTER, and frames can overtake others
    #[arg(long, value_name = "TIME", requires = "delay")]
    jitter: Option<Delay>,
    /// Share of frames that are lost, e.g. 2%
    #[arg(long)]
    loss: Option<Loss>,
    /// Maximum bandwidth of each direction, in bits per second, e.g. 512kbit, 10Mbit or 1Gbit
    #[arg(long)]
    rate: Option<Rate>,
    /// Seed of the random numbers for loss and jitter
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    how: How,
}

/// Split the network into groups that cannot reach each other.
#[derive(Args)]
pub struct PartitionArgs {
    /// Groups, separated by /, e.g. cp-1 / worker-1,worker-2; the remaining nodes form one more group
    #[arg(required = true)]
    groups: Vec<String>,
    /// Nodes that keep their connection to the host: all, none, or names separated by commas
    #[arg(long, default_value_t, value_name = "NODES")]
    uplink: UplinkSide,
    #[command(flatten)]
    how: How,
}

/// Write the frames of a link to a pcapng file.
#[derive(Subcommand)]
pub enum Capture {
    /// Start a capture
    Start {
        /// Name of a node, or uplink
        link: Link,
        /// File to write [default: LINK.pcapng in the run directory]
        #[arg(long)]
        file: Option<PathBuf>,
        /// Maximum size of the file
        #[arg(long, default_value = "256MiB")]
        limit: Size,
        #[command(flatten)]
        how: How,
    },
    /// Stop a capture
    Stop {
        /// Name of a node, or uplink
        link: Link,
        #[command(flatten)]
        how: How,
    },
}

impl NetCommand {
    pub(super) fn run(self) -> Result<ExitCode, Failed> {
        let bad = |error: &dyn std::fmt::Display| Failed::new(ExitCode::BadInput, error);
        let (how, request) = match self {
            Self::Status { how } => (how, Request::Status),
            Self::Cut { link, how } => (how, Request::Cut { link }),
            Self::Restore { link, how } => (how, Request::Restore { link }),
            Self::Shape(Shape { link, delay, jitter, loss, rate, seed, how }) => {
                let (delay, jitter) = (delay.unwrap_or_default(), jitter.unwrap_or_default());
                let impairment = Impairment { delay, jitter, loss: loss.unwrap_or_default(), rate, seed };
                impairment.check().map_err(|error| bad(&error))?;
                (how, Request::Shape { link, impairment })
            }
            Self::Partition(PartitionArgs { groups, uplink, how }) => {
                let partition = Partition::parse(&groups.join(" "), uplink).map_err(|error| bad(&error))?;
                (how, Request::Partition { partition })
            }
            Self::Heal { how } => (how, Request::Heal),
            Self::Capture(Capture::Start { link, file, limit, how }) => {
                // The lab may have been started in another directory.
                let file = file.map(std::path::absolute).transpose().map_err(|error| bad(&error))?;
                (how, Request::CaptureStart { link, file, limit: Some(limit.bytes()) })
            }
            Self::Capture(Capture::Stop { link, how }) => (how, Request::CaptureStop { link }),
        };
        how.ask(&request)
    }
}

impl How {
    /// Asks the lab and prints its answer.
    pub(super) fn ask(&self, request: &Request) -> Result<ExitCode, Failed> {
        let failed = |error: lab_cluster::control::ControlError| Failed::new(ExitCode::VerdictFailed, error);
        let mut client = ControlClient::connect(&self.at.control()?).map_err(failed)?;
        let answer = client.ask(request).map_err(failed)?;
        match &answer {
            _ if self.json => print_json(&answer)?,
            Answer::Done { text, .. } => print_line(text),
            Answer::Status(state) => print_line(state.to_string().trim_end()),
            Answer::Error { message } => return Err(Failed::new(ExitCode::VerdictFailed, message)),
        }
        Ok(ExitCode::Passed)
    }
}
