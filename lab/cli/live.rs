//! `lab status`, `lab down`, `lab doctor` and `lab node console`: running labs and their host.

use std::{
    fs::File,
    io::{Read, Write},
    path::PathBuf,
    time::Duration,
};

use clap::Args;
use lab_model::{ExitCode, LONGEST_TEXT, node::NodeName, visible};
use lab_vm::{
    host::{Diagnosis, Facts, LabState, LiveLab, Needs, live_labs, reap},
    machine::LineSplitter,
};

use super::{
    Failed,
    attach::attach,
    places::{ImagesDirectory, RunRoot},
    print_json, print_line, say,
    shipped::images_found,
};

/// Time limit for a lab to stop its machines.
pub(super) const END_PATIENCE: Duration = Duration::from_secs(30);
/// Interval for reading the console file while it is followed.
const FOLLOW_PAUSE: Duration = Duration::from_millis(200);

/// The directory of the runs.
#[derive(Args, Clone)]
struct Runs {
    #[command(flatten)]
    run_root: RunRoot,
}

impl Runs {
    fn live(&self) -> Result<Vec<LiveLab>, Failed> {
        live_labs(&self.run_root.path()).map_err(|error| Failed::new(ExitCode::Internal, error))
    }
}

/// The running lab that a command is for.
#[derive(Args, Clone)]
pub struct At {
    /// Name of the run, or the beginning of its name; needed if several labs are running
    #[arg(long)]
    lab: Option<String>,
    #[command(flatten)]
    runs: Runs,
}

impl At {
    /// The lab that the command is for, which may not have published its state yet.
    pub(super) fn live(&self) -> Result<LiveLab, Failed> {
        self.only(self.named()?, LiveLab::name, "is alive")
    }

    /// The labs with the name, or all without one.
    fn named(&self) -> Result<Vec<LiveLab>, Failed> {
        let start = self.lab.as_deref().unwrap_or_default();
        Ok(self.runs.live()?.into_iter().filter(|lab| lab.name().starts_with(start)).collect())
    }

    /// Whether no lab is alive.
    pub(super) fn none_lives(&self) -> Result<bool, Failed> {
        Ok(self.runs.live()?.is_empty())
    }

    /// The lab that the command is for.
    pub(super) fn lab(&self) -> Result<LabState, Failed> {
        self.lab_that("is alive", |_| true)
    }

    /// The control socket of that lab.
    pub(super) fn control(&self) -> Result<PathBuf, Failed> {
        Self::control_of(&self.lab()?)
    }

    /// The control socket of a lab.
    pub(super) fn control_of(state: &LabState) -> Result<PathBuf, Failed> {
        state.control.clone().ok_or_else(|| {
            let message = format!(
                "{} does not accept requests, because another version of the lab started it",
                state.name
            );
            Failed::new(ExitCode::BadInput, message)
        })
    }

    /// The only lab with the property `is`; `what` describes the property.
    fn lab_that(&self, what: &str, is: impl Fn(&LabState) -> bool) -> Result<LabState, Failed> {
        let meant = self.named()?.into_iter().filter_map(|lab| lab.state).filter(is).collect();
        self.only(meant, |lab| lab.name.clone(), what)
    }

    /// The only one of the labs that match.
    fn only<T>(&self, mut meant: Vec<T>, name: impl Fn(&T) -> String, what: &str) -> Result<T, Failed> {
        let names: Vec<_> = meant.iter().map(name).collect();
        let message = match names.as_slice() {
            [_] => return Ok(meant.remove(0)),
            [] => format!(
                "no lab below {} {what}; lab status lists those that are, lab up starts one",
                self.runs.run_root.path().display()
            ),
            names => format!("several labs match: {}; select one with --lab", names.join(", ")),
        };
        Err(Failed::new(ExitCode::BadInput, message))
    }
}

/// List running labs and their nodes.
#[derive(Args)]
pub struct Status {
    /// Print JSON
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
            say!("no lab is alive below {}", self.runs.run_root.path().display());
        }
        for lab in &labs {
            let phase = lab.state.as_ref().map_or("starting", |state| state.phase.as_str());
            say!("{}  {phase}", lab.name());
            for node in lab.state.iter().flat_map(|state| &state.nodes) {
                let forwards: Vec<_> =
                    node.forwards.iter().map(|(name, address)| format!("{name} {address}")).collect();
                say!(
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

/// Show the serial console of a node and follow it.
#[derive(Args)]
pub struct Console {
    /// Name of the node
    node: NodeName,
    /// Print the existing output and exit
    #[arg(long, conflicts_with = "attach")]
    no_follow: bool,
    /// Send keyboard input to the console as well; Ctrl-] exits
    #[arg(long)]
    attach: bool,
    #[command(flatten)]
    at: At,
}

impl Console {
    pub(super) fn run(self) -> Result<ExitCode, Failed> {
        let has_it = |lab: &LabState| lab.nodes.iter().any(|node| node.name == self.node);
        let lab = self.at.lab_that(&format!("has a node {}", self.node), has_it)?;
        let node = lab.nodes.iter().find(|node| node.name == self.node);
        let path = node.and_then(|node| node.console.clone()).unwrap_or_default();
        if self.attach {
            let attached = attach(&self.node, &path, &self.at.control()?);
            return match attached {
                Ok(()) => Ok(ExitCode::Passed),
                Err(error) => Err(Failed::new(ExitCode::VerdictFailed, error)),
            };
        }
        follow(&path, !self.no_follow)
            .map_err(|error| Failed::new(ExitCode::Internal, format!("read {}: {error}", path.display())))?;
        Ok(ExitCode::Passed)
    }
}

/// Copies the lines of a growing file to standard output, without terminal escapes: a guest wrote them. There is no
/// event for a growing file, so this reads it at an interval.
fn follow(path: &std::path::Path, forever: bool) -> std::io::Result<()> {
    let mut file = File::open(path)?;
    let mut out = std::io::stdout().lock();
    match copy_lines(&mut file, &mut out, || {
        let goes_on = forever && path.exists();
        if goes_on {
            std::thread::sleep(FOLLOW_PAUSE);
        }
        goes_on
    }) {
        // As after `head`.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        copied => copied,
    }
}

/// Copies lines until the end at which `goes_on` is false.
fn copy_lines(
    file: &mut impl Read,
    out: &mut impl Write,
    mut goes_on: impl FnMut() -> bool,
) -> std::io::Result<()> {
    let mut splitter = LineSplitter::default();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = file.read(&mut buffer)?;
        let mut lines = Vec::new();
        splitter.push(&buffer[..length], |line| lines.push(line));
        let goes_on = length > 0 || goes_on();
        if !goes_on {
            lines.extend(splitter.finish());
        }
        for line in lines {
            writeln!(out, "{}", visible(&line, LONGEST_TEXT))?;
        }
        out.flush()?;
        if !goes_on {
            return Ok(());
        }
    }
}

/// End running labs, and clean up after labs that died.
#[derive(Args)]
pub struct Down {
    /// Names of runs, or the beginnings of their names [default: all]
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
            say!("{} has ended", lab.name());
        }
        for run in reap(&self.runs.run_root.path()).map_err(|error| internal(&error))? {
            say!("cleaned up after {}, which had died", run.run);
        }
        Ok(ExitCode::Passed)
    }
}

/// Check what this host supports, and print a fix for each problem.
#[derive(Args)]
pub struct Doctor {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    runs: Runs,
    #[command(flatten)]
    images: ImagesDirectory,
}

impl Doctor {
    pub(super) async fn run(self) -> Result<ExitCode, Failed> {
        let images = images_found(&self.images);
        let facts = Facts::probe(&self.runs.run_root.path(), images).await;
        let diagnosis = Diagnosis::of(facts, Needs::default());
        if self.json {
            print_line(diagnosis.to_json());
        } else {
            print_line(diagnosis.to_string().trim_end());
        }
        Ok(diagnosis.exit_code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_console_is_shown_line_by_line_without_what_a_terminal_obeys() {
        let console = "\x1b]0;owned\x07up\r\n::error::x\u{202e}y\n\x1b[2Jlogin: ".as_bytes();
        let mut out = Vec::new();
        copy_lines(&mut &console[..], &mut out, || false).expect("copy");
        assert_eq!(String::from_utf8(out).expect("text"), "up\n::error::x\\u{202e}y\nlogin:\n");
    }
}
