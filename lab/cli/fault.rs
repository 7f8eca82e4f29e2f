//! `lab link`: what is done to the links of a living lab.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use lab_cluster::control::{Answer, ControlClient, Request};
use lab_model::{
    ExitCode, Size,
    network::{Delay, Impairment, Link, Loss, Partition, Rate, UplinkSide},
};

use super::{Failed, live::At, print_json, print_line};

/// Cut, slow, part and capture the links of a living lab.
#[derive(Subcommand)]
pub enum LinkCommand {
    /// Tell what is wrong with links, and how the nodes are
    Status {
        #[command(flatten)]
        how: How,
    },
    /// Pull a cable out: nothing passes either way
    Cut {
        /// A node, or uplink
        link: Link,
        #[command(flatten)]
        how: How,
    },
    /// Mend a link, or all
    Restore {
        /// A node, or uplink [default: all that something is wrong with]
        link: Option<Link>,
        #[command(flatten)]
        how: How,
    },
    /// Make a link slow or lossy, each way
    Shape(Shape),
    /// Part the network into groups that do not reach each other
    Partition(Part),
    /// End the partition
    Heal {
        #[command(flatten)]
        how: How,
    },
    /// Write a link's frames to a pcapng file
    #[command(subcommand)]
    Capture(Capture),
}

/// Which lab is asked, and how it answers.
#[derive(Args, Clone)]
pub struct How {
    #[command(flatten)]
    pub(super) at: At,
    /// Answer as JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// Make a link slow or lossy, each way.
#[derive(Args)]
pub struct Shape {
    /// A node, or uplink
    link: Link,
    /// How much later each frame arrives, e.g. 50ms
    #[arg(long)]
    delay: Option<Delay>,
    /// By how much the delay varies to either side; frames may overtake each other then
    #[arg(long, requires = "delay")]
    jitter: Option<Delay>,
    /// Which share of frames is lost, e.g. 2%
    #[arg(long)]
    loss: Option<Loss>,
    /// How many bits a second pass, e.g. 10Mbit
    #[arg(long)]
    rate: Option<Rate>,
    /// Where the dice of loss and jitter begin
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    how: How,
}

/// Part the network into groups that do not reach each other.
#[derive(Args)]
pub struct Part {
    /// Groups with / between them, e.g. cp-1 / worker-1,worker-2; nodes in none make one more
    #[arg(required = true)]
    groups: Vec<String>,
    /// Who keeps the way to the host: all, none, or names with commas
    #[arg(long, default_value_t, value_name = "WHO")]
    uplink: UplinkSide,
    #[command(flatten)]
    how: How,
}

/// Write a link's frames to a pcapng file.
#[derive(Subcommand)]
pub enum Capture {
    /// Begin
    Start {
        /// A node, or uplink
        link: Link,
        /// Where to [default: LINK.pcapng in the run's directory]
        #[arg(long)]
        file: Option<PathBuf>,
        /// How large the file may become
        #[arg(long, default_value = "256MiB")]
        limit: Size,
        #[command(flatten)]
        how: How,
    },
    /// End
    Stop {
        /// A node, or uplink
        link: Link,
        #[command(flatten)]
        how: How,
    },
}

impl LinkCommand {
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
            Self::Partition(Part { groups, uplink, how }) => {
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
