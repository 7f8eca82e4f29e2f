//! The command line: what each subcommand takes, and what it does with the library.

mod attach;
mod bench;
mod config;
mod exec;
mod fault;
mod images;
mod inspect;
mod live;
mod merge;
mod mirror;
mod node;
mod preflight;
mod rehearse;
mod report;
mod run;
mod snapshot;
mod tailnet;
mod up;

use std::{path::PathBuf, process::ExitCode as Status};

use clap::{Args, CommandFactory, Parser, Subcommand};
use lab::session::{ImageFiguresError, OnFailure, Session, SessionError, SessionOptions, StartError};
use lab_cluster::control::Request;
use lab_model::{
    ExitCode, Source,
    accelerator::{Accelerator, CpuModel},
    node::Role,
};
use lab_oci::{images::Reference, registry::RegistryError};
use lab_plan::cluster::PlanError;
use lab_report::Display;

/// Boots clusters of Talos-layout ARM64 images in QEMU and says, with a cause, whether they form.
#[derive(Parser)]
#[command(version, after_help = ExitCode::table())]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run scenarios and give a verdict
    Run(run::Run),
    /// Check a pair of images, form every scenario's cluster from them, and tick off what they must show
    Rehearse(rehearse::Rehearse),
    /// Join the recordings of a run's shards into one recording with one verdict
    Merge(merge::Merge),
    /// Tell a recorded run again: as text, Markdown, JUnit XML, trace or HTML page
    Report(report::Report),
    /// What earlier runs of each scenario came to, with medians
    History(report::History),
    /// Form a cluster and keep it until Ctrl-C
    Up(up::Up),
    /// Save a living cluster, and bring it back in seconds
    #[command(subcommand)]
    Snapshot(snapshot::Snapshot),
    /// What is kept between runs: saved clusters, unpacked images
    #[command(subcommand)]
    Cache(snapshot::Cache),
    /// List the labs that are alive
    Status(live::Status),
    /// Show a node's serial console, and follow it
    Console(live::Console),
    /// Cut, slow, part and capture the links of a living lab
    #[command(subcommand)]
    Link(fault::LinkCommand),
    /// Stop a node's CPUs
    Pause(node::NodeCommand),
    /// Let a paused node's CPUs run
    Resume(node::NodeCommand),
    /// Kill a node's QEMU, as an accident would
    Kill(node::NodeCommand),
    /// Boot a node again: by its machine API, else by its power switch; a killed one is started anew
    Reboot(node::NodeCommand),
    /// Run the host's kubectl on a living cluster
    Kubectl(exec::Kubectl),
    /// Run a command in a container of a living cluster
    Exec(exec::Exec),
    /// End living labs
    Down(live::Down),
    /// Check what this host can do, with a fix for what it cannot
    Doctor(live::Doctor),
    /// Tell what is in images, and how they differ, without booting them
    Inspect(inspect::Inspect),
    /// Check images without booting them: content, checksums, architecture, age, differences
    Preflight(preflight::Preflight),
    /// Fetch images and write down the digests that their tags stand for
    Pin(preflight::Pin),
    /// Machine configs: check them, explain the rules, list what the lab lays over them
    #[command(subcommand)]
    Config(config::Config),
    /// The container images that nodes pull, kept on this host
    #[command(subcommand)]
    Mirror(mirror::Mirror),
    /// Node and workload images
    #[command(subcommand)]
    Images(images::Images),
    /// Measure
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Print a completion script for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

/// How guests are run; the same for every command that runs some.
#[derive(Args, Clone, Debug)]
pub struct Guests {
    /// Accelerator [default: the best one that works: kvm, hvf, tcg]
    #[arg(long)]
    accel: Option<Accelerator>,
    /// QEMU's name of the guests' CPU model, e.g. cortex-a72 [default: the accelerator's best]
    #[arg(long, value_name = "MODEL")]
    cpu: Option<String>,
    /// The emulator [default: qemu-system-aarch64 on PATH]
    #[arg(long, value_name = "FILE")]
    qemu: Option<PathBuf>,
    /// Where the built images are
    #[arg(long, value_name = "DIR", default_value = "target/images")]
    images: PathBuf,
    /// A role's image in place of the reference node's: a path, or HOST/NAME:TAG; more than once
    #[arg(long = "image", value_name = "ROLE=IMAGE", value_parser = given)]
    given: Vec<(Role, Source)>,
    /// An OCI image layout that nodes pull from, besides the workload images; see `lab mirror`; more than once
    #[arg(long = "mirror", value_name = "DIR")]
    mirrors: Vec<PathBuf>,
    /// Fetch images that nodes ask for and no mirror has, and keep them in the first --mirror [default: target/mirror]
    #[arg(long)]
    pull_through: bool,
    /// Known failures of your own, besides the lab's and those in lab-signatures.yaml; more than once
    #[arg(long, value_name = "FILE")]
    signatures: Vec<PathBuf>,
    /// Where runs are kept
    #[arg(long, value_name = "DIR", default_value = "target/lab")]
    run_root: PathBuf,
}

fn given(text: &str) -> Result<(Role, Source), String> {
    let (role, source) = text.split_once('=').ok_or("write ROLE=IMAGE, e.g. compute=./images/compute")?;
    let role = Role::new(role).map_err(|error| error.to_string())?;
    Ok((role, Source::parse(source).map_err(|error| error.to_string())?))
}

/// What is done at a failure; the same for every command that forms a cluster.
#[derive(Args, Clone, Copy, Debug)]
pub struct Failures {
    /// Keep the cluster at the step or check that fails, until Ctrl-C or lab down
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
    /// Does what was asked for.
    pub fn run(self) -> Status {
        let done = match self.command {
            Command::Run(run) => block_on(run.run()),
            Command::Rehearse(rehearse) => block_on(rehearse.run()),
            Command::Merge(merge) => merge.run(),
            Command::Report(report) => report.run(),
            Command::History(history) => history.run(),
            Command::Up(up) => block_on(up.up()),
            Command::Snapshot(snapshot) => block_on(snapshot.run()),
            Command::Cache(cache) => cache.run(),
            Command::Status(status) => status.run(),
            Command::Console(console) => console.run(),
            Command::Link(link) => link.run(),
            Command::Pause(node) => node.run(|node| Request::Pause { node }),
            Command::Resume(node) => node.run(|node| Request::Resume { node }),
            Command::Kill(node) => node.run(|node| Request::Kill { node }),
            Command::Reboot(node) => node.run(|node| Request::Reboot { node }),
            Command::Kubectl(kubectl) => kubectl.run(),
            Command::Exec(exec) => return ended(block_on(exec.run())),
            Command::Down(down) => down.run(),
            Command::Doctor(doctor) => block_on(doctor.run()),
            Command::Inspect(inspect) => block_on(inspect.run()),
            Command::Preflight(preflight) => block_on(preflight.run()),
            Command::Mirror(mirror) => block_on(mirror.run()),
            Command::Pin(pin) => block_on(pin.run()),
            Command::Config(config) => config.run(),
            Command::Images(images) => images.run(),
            Command::Bench(bench) => block_on(bench.run()),
            Command::Completions { shell } => {
                clap_complete::generate(shell, &mut Self::command(), "lab", &mut std::io::stdout());
                Ok(ExitCode::Passed)
            }
        };
        ended(done.map(ExitCode::code))
    }
}

/// The status that this process ends with.
fn ended(done: Result<u8, Failed>) -> Status {
    Status::from(done.unwrap_or_else(|failed| {
        eprintln!("error: {}", failed.message);
        failed.code.code()
    }))
}

fn block_on<T>(work: impl Future<Output = Result<T, Failed>>) -> Result<T, Failed> {
    tokio::runtime::Runtime::new().map_err(|error| Failed::new(ExitCode::Internal, error))?.block_on(work)
}

/// Resolves when the user wants the lab to end: Ctrl-C or a termination signal.
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

/// Does `work` unless the user wants the lab to end. A run that has stopped at a failure is ended by that wish, but
/// comes to its own result.
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

/// Prints a line. A reader that has seen enough, as `head` has, is no error.
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

/// Adds to the summary of a job of GitHub Actions, when this is one.
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

/// A reference in a registry; `why` says why no path will do.
fn reference(text: &str, why: &str) -> Result<Box<Reference>, Failed> {
    match Source::parse(text)? {
        Source::Registry(reference) => Ok(reference),
        Source::Path(_) => Err(Failed::new(ExitCode::BadInput, format!("{text} is a path; {why}"))),
    }
}

/// Says where a run's files are.
fn say_where(session: &Session) {
    eprintln!("run directory: {}", session.path().display());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_of_every_command_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn an_unknown_accelerator_is_refused_in_the_words_of_its_type() {
        let parsed = |name| Arguments::try_parse_from(["lab", "run", "--accel", name, "a.yaml"]);
        let refused = parsed("xen").err().expect("refused").to_string();
        assert!(refused.contains("\"xen\" is not an accelerator; use kvm, hvf or tcg"), "{refused}");
        assert!(["kvm", "hvf", "tcg"].into_iter().all(|name| parsed(name).is_ok()));
    }
}
