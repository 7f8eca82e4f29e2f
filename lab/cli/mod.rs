//! The command line: which subcommands there are, what each takes, and how it uses the library.
//!
//! [`help`] writes the page of `lab --help`, [`moved`] answers commands by their old names, and [`scenarios`] finds the
//! scenario that a word on the command line names.

mod attach;
mod badge;
mod bench;
mod bench_gate;
mod bench_growth;
mod cluster;
mod config;
mod config_check;
mod detach;
mod failed;
mod gate;
mod guests;
mod help;
mod image;
mod init;
mod inspect;
mod live;
mod manual;
mod merge;
mod mirror;
mod moved;
mod net;
mod node;
mod open;
mod output;
mod places;
mod preflight;
mod project;
mod rehearse;
mod report;
mod run;
mod scenarios;
mod shipped;
mod snapshot;
mod stay;
mod tailnet;
mod up;
mod vet;

use std::process::ExitCode as Status;

use clap::{FromArgMatches, Parser, Subcommand, error::ErrorKind};
pub use failed::print_panics;
use failed::{Failed, advice, asked_to_end, block_on, ended, guarded, unless_ended};
use guests::{Failures, Guests, given};
use lab_model::ExitCode;
use output::{
    WithoutCommands, add_to_step_summary, output_error, print_json, print_line, print_text, reference, say,
    say_where, tell, tell_as_is,
};

/// Boots clusters of Talos-layout ARM64 images in QEMU and reports whether they form, and if not, why.
#[derive(Parser)]
#[command(name = "lab", version)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// The commands, in the order of `lab --help`: the common ones, then the groups.
#[derive(Subcommand)]
enum Command {
    /// Run scenarios and report a verdict
    Run(run::Run),
    /// Check a pair of images, run scenarios 01 to 04 with them, and time the run
    Rehearse(rehearse::Rehearse),
    /// Form a cluster and keep it running until Ctrl-C
    Up(up::Up),
    /// End running labs
    Down(live::Down),
    /// Keep the cluster of a running lab on disk, and end the lab
    Stop(stay::Stop),
    /// Run a cluster that lab stop or lab snapshot save kept, detached
    Start(Box<stay::Start>),
    /// Wait until the cluster of a running lab is ready, or has ended
    Wait(stay::Wait),
    /// List running labs and their nodes
    Status(live::Status),
    /// Check what this host supports, and print a fix for each problem
    Doctor(live::Doctor),
    /// Find own checks that pass without a look at the cluster
    Vet(vet::Vet),
    /// Write scenarios, a workflow and lab.yaml for a repository of images, or test scripts
    Init(init::Init),
    /// Nodes of a running lab
    #[command(subcommand)]
    Node(node::NodeCommand),
    /// Network links of a running lab
    #[command(subcommand)]
    Net(net::NetCommand),
    /// Kubernetes cluster of a running lab
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// Check a release of images without a boot
    Gate(gate::Gate),
    /// Node images
    #[command(subcommand)]
    Image(image::ImageCommand),
    /// Container images that nodes pull
    #[command(subcommand)]
    Mirror(mirror::Mirror),
    /// Machine configs
    #[command(subcommand)]
    Config(config::Config),
    /// Reports of recorded runs
    Report(report::Reports),
    /// Saved clusters
    #[command(subcommand)]
    Snapshot(snapshot::Snapshot),
    /// Data kept between runs
    #[command(subcommand)]
    Cache(snapshot::Cache),
    /// Benchmarks
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Print a completion script for a shell
    #[command(hide = true)]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages of all commands
    #[command(hide = true)]
    Manual(manual::Manual),
}

impl Arguments {
    /// Reads the command line of this process. Ends the process if it asks for help, is wrong, or uses a command by its
    /// old name.
    pub fn of_process() -> Self {
        let words: Vec<_> =
            std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
        if let Some(message) = moved::answer(&words) {
            tell!("error: {message}");
            std::process::exit(ExitCode::BadInput.code().into());
        }
        let matches = help::command().try_get_matches().unwrap_or_else(|error| {
            // `-V` stays one line.
            if error.kind() == ErrorKind::DisplayVersion && words.iter().any(|word| word == "--version") {
                print_text(&shipped::version_with_images());
                std::process::exit(ExitCode::Passed.code().into());
            }
            error.exit()
        });
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }

    /// Runs the command.
    pub fn run(self) -> Status {
        let _without_commands = WithoutCommands::in_a_job();
        ended(guarded(|| self.command.run()))
    }
}

impl Command {
    /// Returns the exit code.
    fn run(self) -> Result<u8, Failed> {
        let done = match self {
            Self::Run(run) => block_on(run.run()),
            Self::Rehearse(rehearse) => block_on(rehearse.run()),
            Self::Up(up) => block_on(up.up()),
            Self::Down(down) => down.run(),
            Self::Stop(stop) => stop.run(),
            Self::Start(start) => block_on(start.run()),
            Self::Wait(wait) => wait.run(),
            Self::Status(status) => status.run(),
            Self::Doctor(doctor) => block_on(doctor.run()),
            Self::Vet(vet) => block_on(vet.run()),
            Self::Init(init) => init.run(),
            Self::Node(node) => node.run(),
            Self::Net(net) => net.run(),
            Self::Cluster(cluster::ClusterCommand::Kubectl(kubectl)) => kubectl.run(),
            Self::Cluster(cluster::ClusterCommand::Exec(exec)) => return block_on(exec.run()),
            Self::Gate(gate) => block_on(gate.run()),
            Self::Image(image) => image.run(),
            Self::Mirror(mirror) => block_on(mirror.run()),
            Self::Config(config) => config.run(),
            Self::Report(report) => report.run(),
            Self::Snapshot(snapshot) => block_on(snapshot.run()),
            Self::Cache(cache) => cache.run(),
            Self::Bench(bench) => block_on(bench.run()),
            Self::Manual(manual) => manual.run(),
            Self::Completions { shell } => {
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut help::command(), "lab", &mut script);
                print_text(&String::from_utf8_lossy(&script));
                Ok(ExitCode::Passed)
            }
        };
        done.map(ExitCode::code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_of_every_command_are_consistent() {
        help::command().debug_assert();
    }

    #[test]
    fn an_unknown_accelerator_is_refused_in_the_words_of_its_type() {
        let parsed = |name| Arguments::try_parse_from(["lab", "run", "--accel", name, "a.yaml"]);
        let refused = parsed("xen").err().expect("refused").to_string();
        assert!(refused.contains("\"xen\" is not an accelerator; use kvm, hvf or tcg"), "{refused}");
        assert!(["kvm", "hvf", "tcg"].into_iter().all(|name| parsed(name).is_ok()));
    }
}
