//! The command line: which subcommands there are, what each takes, and how it uses the library.
//!
//! [`help`] writes the page of `lab --help`, [`moved`] answers commands by their old names, and [`scenarios`] finds the
//! scenario that a word on the command line names.

mod attach;
mod bench;
mod cluster;
mod config;
mod help;
mod image;
mod inspect;
mod live;
mod merge;
mod mirror;
mod moved;
mod net;
mod node;
mod preflight;
mod rehearse;
mod report;
mod run;
mod scenarios;
mod snapshot;
mod tailnet;
mod up;

use std::{path::PathBuf, process::ExitCode as Status};

use clap::{Args, FromArgMatches, Parser, Subcommand};
use lab::session::{ImageFiguresError, OnFailure, Session, SessionError, SessionOptions, StartError};
use lab_model::{
    ExitCode, Source,
    accelerator::{Accelerator, CpuModel},
    node::Role,
};
use lab_oci::{images::Reference, registry::RegistryError};
use lab_plan::cluster::PlanError;
use lab_report::Display;

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
    /// Check a pair of images, then run scenarios 01 to 04 with them against a stopwatch
    Rehearse(rehearse::Rehearse),
    /// Form a cluster and keep it running until Ctrl-C
    Up(up::Up),
    /// Stop running labs
    Down(live::Down),
    /// List running labs and their nodes
    Status(live::Status),
    /// Check what this host supports, and print a fix for each problem
    Doctor(live::Doctor),
    /// Nodes of a running lab
    #[command(subcommand)]
    Node(node::NodeCommand),
    /// Network links of a running lab
    #[command(subcommand)]
    Net(net::NetCommand),
    /// Kubernetes cluster of a running lab
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
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
    #[command(subcommand)]
    Report(report::ReportCommand),
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
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Options of every command that starts guests.
#[derive(Args, Clone, Debug)]
pub struct Guests {
    /// Accelerator: kvm, hvf or tcg [default: the first of these that works]
    #[arg(long)]
    accel: Option<Accelerator>,
    /// CPU model of the guests, by its QEMU name, e.g. cortex-a72 [default: the best for the accelerator]
    #[arg(long, value_name = "MODEL")]
    cpu: Option<String>,
    /// QEMU program [default: qemu-system-aarch64 on PATH]
    #[arg(long, value_name = "FILE")]
    qemu: Option<PathBuf>,
    /// Directory of the built images
    #[arg(long, value_name = "DIR", default_value = "target/images")]
    images: PathBuf,
    /// Image for a role, instead of the reference node's: a path or HOST/NAME:TAG; repeatable
    #[arg(long = "image", value_name = "ROLE=IMAGE", value_parser = given)]
    given: Vec<(Role, Source)>,
    /// OCI image layout that nodes pull from, in addition to the workload images; see `lab mirror`; repeatable
    #[arg(long = "mirror", value_name = "DIR")]
    mirrors: Vec<PathBuf>,
    /// Fetch images that nodes request and no mirror has, and store them in the first --mirror [default: target/mirror]
    #[arg(long)]
    pull_through: bool,
    /// File with known failures, in addition to the built-in ones and lab-signatures.yaml; repeatable
    #[arg(long, value_name = "FILE")]
    signatures: Vec<PathBuf>,
    /// Directory of the runs
    #[arg(long, value_name = "DIR", default_value = "target/lab")]
    run_root: PathBuf,
}

fn given(text: &str) -> Result<(Role, Source), String> {
    let (role, source) = text.split_once('=').ok_or("write ROLE=IMAGE, e.g. compute=./images/compute")?;
    let role = Role::new(role).map_err(|error| error.to_string())?;
    Ok((role, Source::parse(source).map_err(|error| error.to_string())?))
}

/// Options of every command that forms a cluster: what to do at a failure.
#[derive(Args, Clone, Copy, Debug)]
pub struct Failures {
    /// Keep the cluster running at the step or check that fails, until Ctrl-C or `lab down`
    #[arg(long)]
    pause_on_failure: bool,
}

impl From<Failures> for OnFailure {
    fn from(failures: Failures) -> Self {
        if failures.pause_on_failure { Self::Pause } else { Self::End }
    }
}

impl Guests {
    fn options(&self, title: &str, display: Display) -> SessionOptions {
        SessionOptions {
            root: self.run_root.clone(),
            display,
            qemu: self.qemu.clone(),
            accelerator: self.accel,
            cpu_model: self.cpu.clone().map(CpuModel::new),
            images: self.images.clone(),
            mirrors: self.mirrors.clone(),
            pull_through: self
                .pull_through
                .then(|| self.mirrors.first().cloned().unwrap_or_else(|| PathBuf::from(mirror::DEFAULT))),
            given: self.given.iter().cloned().collect(),
            signatures: self.signatures.clone(),
            ..SessionOptions::new(title)
        }
    }
}

/// An error of a command with the exit code it leads to.
struct Failed {
    code: ExitCode,
    message: String,
}

impl Failed {
    fn new(code: ExitCode, error: impl std::fmt::Display) -> Self {
        Self { code, message: error.to_string() }
    }
}

impl From<SessionError> for Failed {
    fn from(error: SessionError) -> Self {
        let code = match error {
            SessionError::Qemu(_) | SessionError::Accelerator(_) | SessionError::Memory(_) => {
                ExitCode::HostUnable
            }
            SessionError::Directory(_) | SessionError::Host { .. } => ExitCode::Internal,
            SessionError::Signatures(_) => ExitCode::BadInput,
        };
        Self::new(code, error)
    }
}

impl From<ImageFiguresError> for Failed {
    fn from(error: ImageFiguresError) -> Self {
        match error {
            ImageFiguresError::Start(error) => error.into(),
            other => Self::new(ExitCode::VerdictFailed, other),
        }
    }
}

impl From<StartError> for Failed {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Session(error) => error.into(),
            StartError::Source(error) => error.into(),
            StartError::Memory { .. } | StartError::Registry(RegistryError::FixedPort { .. }) => {
                Self::new(ExitCode::HostUnable, error)
            }
            StartError::Plan(PlanError::Secrets(_))
            | StartError::Registry(_)
            | StartError::ImageDisk(_)
            | StartError::TailnetPrograms(_)
            | StartError::Tailnet(_) => Self::new(ExitCode::Internal, error),
            StartError::Plan(_)
            | StartError::Asset(_)
            | StartError::Store(_)
            | StartError::MissingImages(_)
            | StartError::Snapshot { .. }
            | StartError::Config(_)
            | StartError::TailnetSpec(_) => Self::new(ExitCode::BadInput, error),
            StartError::Formation(_) => Self::new(ExitCode::VerdictFailed, error),
        }
    }
}

impl Arguments {
    /// Reads the command line of this process. Ends the process if it asks for help, is wrong, or uses a command by its
    /// old name.
    pub fn of_process() -> Self {
        let words: Vec<_> =
            std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
        if let Some(message) = moved::answer(&words) {
            eprintln!("error: {message}");
            std::process::exit(ExitCode::BadInput.code().into());
        }
        Self::from_arg_matches(&help::command().get_matches()).unwrap_or_else(|error| error.exit())
    }

    /// Runs the command.
    pub fn run(self) -> Status {
        let done = match self.command {
            Command::Run(run) => block_on(run.run()),
            Command::Rehearse(rehearse) => block_on(rehearse.run()),
            Command::Up(up) => block_on(up.up()),
            Command::Down(down) => down.run(),
            Command::Status(status) => status.run(),
            Command::Doctor(doctor) => block_on(doctor.run()),
            Command::Node(node) => node.run(),
            Command::Net(net) => net.run(),
            Command::Cluster(cluster::ClusterCommand::Kubectl(kubectl)) => kubectl.run(),
            Command::Cluster(cluster::ClusterCommand::Exec(exec)) => return ended(block_on(exec.run())),
            Command::Image(image) => image.run(),
            Command::Mirror(mirror) => block_on(mirror.run()),
            Command::Config(config) => config.run(),
            Command::Report(report) => report.run(),
            Command::Snapshot(snapshot) => block_on(snapshot.run()),
            Command::Cache(cache) => cache.run(),
            Command::Bench(bench) => block_on(bench.run()),
            Command::Completions { shell } => {
                clap_complete::generate(shell, &mut help::command(), "lab", &mut std::io::stdout());
                Ok(ExitCode::Passed)
            }
        };
        ended(done.map(ExitCode::code))
    }
}

/// The exit status of this process.
fn ended(done: Result<u8, Failed>) -> Status {
    Status::from(done.unwrap_or_else(|failed| {
        eprintln!("error: {}", failed.message);
        failed.code.code()
    }))
}

fn block_on<T>(work: impl Future<Output = Result<T, Failed>>) -> Result<T, Failed> {
    tokio::runtime::Runtime::new().map_err(|error| Failed::new(ExitCode::Internal, error))?.block_on(work)
}

/// Resolves when the user ends the lab with Ctrl-C or a termination signal.
async fn asked_to_end() {
    use tokio::signal::unix::{SignalKind, signal};
    let mut signals = Vec::new();
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
        signals.extend(signal(kind));
    }
    if signals.is_empty() {
        return std::future::pending().await;
    }
    futures::future::select_all(signals.iter_mut().map(|signal| Box::pin(signal.recv()))).await;
}

/// Does `work` until the user ends the lab. If the run is paused at a failure, the request to end resumes it, and the run ends
/// with the result of that failure.
async fn unless_ended<T>(session: &Session, work: impl Future<Output = T>) -> Option<T> {
    let mut work = std::pin::pin!(work);
    tokio::select! {
        result = &mut work => return Some(result),
        paused = session.paused() => println!("{paused}"),
        () = asked_to_end() => return None,
    }
    tokio::select! {
        result = &mut work => return Some(result),
        () = asked_to_end() => session.go_on(),
    }
    Some(work.await)
}

/// Prints a line. A closed pipe, as after `head`, is not an error.
fn print_line(line: impl std::fmt::Display) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Prints a value as JSON.
fn print_json(value: &impl serde::Serialize) -> Result<(), Failed> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Failed::new(ExitCode::Internal, error))?;
    print_line(text);
    Ok(())
}

/// Adds to the summary of the job, if this process runs in a job of GitHub Actions.
fn add_to_step_summary(markdown: &str) -> Result<(), Failed> {
    use std::io::Write;
    let Some(path) = std::env::var_os("GITHUB_STEP_SUMMARY").filter(|path| !path.is_empty()) else {
        return Ok(());
    };
    let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
    file.and_then(|mut file| file.write_all(markdown.as_bytes())).map_err(|error| {
        Failed::new(ExitCode::Internal, format!("write to the file of $GITHUB_STEP_SUMMARY: {error}"))
    })
}

/// A reference in a registry; `why` says why a path is not accepted.
fn reference(text: &str, why: &str) -> Result<Box<Reference>, Failed> {
    match Source::parse(text)? {
        Source::Registry(reference) => Ok(reference),
        Source::Path(_) => Err(Failed::new(ExitCode::BadInput, format!("{text} is a path; {why}"))),
    }
}

/// Prints the path of the run directory.
fn say_where(session: &Session) {
    eprintln!("run directory: {}", session.path().display());
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
