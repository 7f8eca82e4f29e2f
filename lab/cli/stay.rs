//! `lab stop`, `lab start` and `lab wait`: a cluster between two uses.
//!
//! A stopped cluster is a saved cluster with a name, so `lab snapshot` lists and removes it, and a cluster that was saved
//! can be started. It differs from `lab snapshot save` in one thing: its nodes do not run on after they were saved, so
//! nothing happens that is not saved.

use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use lab_cluster::control::{Answer, ControlClient, ControlError, Request};
use lab_model::{Ending, ExitCode, RunResult, node::NodeName};
use lab_vm::host::{LabState, LiveLab};

use super::{
    Failed,
    detach::Lifetime,
    live::{At, END_PATIENCE},
    say,
    snapshot::{Restore, StorePlace, internal},
    up::LivingOptions,
};

/// Interval at which the state of another lab is read. There is no event for a file that another process replaces.
const LOOK: Duration = Duration::from_millis(100);
/// Time limit for a lab that was just started in the background to appear.
const APPEARS: Duration = Duration::from_secs(10);
/// The phase of a cluster that can be used. A cluster with `--keep-going` that lost a node is `degraded`.
const READY: &str = "ready";

/// Keep the cluster of a running lab on disk, and end the lab.
#[derive(Args)]
pub struct Stop {
    /// Name for the stopped cluster; an earlier cluster of this name is replaced [default: the name of the cluster]
    #[arg(long)]
    name: Option<NodeName>,
    #[command(flatten)]
    at: At,
}

impl Stop {
    pub(super) fn run(self) -> Result<ExitCode, Failed> {
        let lab = self.at.live()?;
        let state = lab.state.clone().ok_or_else(|| not_ready(&lab.name(), "starting"))?;
        if state.phase != READY {
            return Err(not_ready(&state.name, &state.phase));
        }
        let name = self.name.or_else(|| state.cluster.clone()).ok_or_else(|| {
            let message =
                format!("{} does not tell the name of its cluster; give one with --name", state.name);
            Failed::new(ExitCode::BadInput, message)
        })?;
        save(&state, name.clone())?;
        lab.stop(END_PATIENCE).map_err(|error| Failed::new(ExitCode::Internal, error))?;
        say!("{} has ended; its cluster is kept as {name}: `lab start {name}` runs it again", state.name);
        Ok(ExitCode::Passed)
    }
}

/// Saves the cluster, whose nodes stand still from then on.
fn save(state: &LabState, name: NodeName) -> Result<(), Failed> {
    let failed = |error: ControlError| {
        let message = format!("{} goes on, because its cluster could not be saved: {error}", state.name);
        Failed::new(ExitCode::VerdictFailed, message)
    };
    let mut client = ControlClient::connect(&At::control_of(state)?).map_err(failed)?;
    match client.ask(&Request::Save { name, stand_still: true }).map_err(failed)? {
        Answer::Done { .. } => Ok(()),
        answer @ (Answer::Status(_) | Answer::Error { .. }) => {
            Err(failed(ControlError::Refused(format!("an answer to another request: {answer:?}"))))
        }
    }
}

fn not_ready(lab: &str, phase: &str) -> Failed {
    let message =
        format!("only a ready cluster can be kept on disk, and {lab} is {phase}; `lab wait` waits for it");
    Failed::new(ExitCode::BadInput, message)
}

/// Run a cluster that lab stop or lab snapshot save kept, detached.
///
/// The command returns when the cluster is ready, as lab up --detach does. The cluster stays on disk as it was, until lab
/// stop or lab snapshot save replaces it, or lab snapshot rm removes it.
#[derive(Args)]
pub struct Start {
    /// Name of the cluster [default: the only one]
    cluster: Option<NodeName>,
    #[command(flatten)]
    living: LivingOptions,
}

impl Start {
    pub(super) async fn run(mut self) -> Result<ExitCode, Failed> {
        self.living.detach();
        let cluster = match self.cluster {
            Some(cluster) => cluster,
            None => only(&StorePlace::of(self.living.run_root().clone()))?,
        };
        Restore::of(cluster, self.living).restore().await
    }
}

/// The only cluster with a name in the store.
fn only(place: &StorePlace) -> Result<NodeName, Failed> {
    let entries = place.store().list().map_err(internal)?;
    let mut names: Vec<_> = entries.into_iter().filter_map(|entry| entry.saved.key.name).collect();
    match (names.pop(), names.as_slice()) {
        (Some(name), []) => Ok(name),
        (Some(last), _) => {
            names.push(last);
            let names: Vec<_> = names.iter().map(NodeName::as_str).collect();
            let message = format!("several clusters are on disk: {}; name one of them", names.join(", "));
            Err(Failed::new(ExitCode::BadInput, message))
        }
        (None, _) => {
            let message = "no cluster is on disk; `lab stop` keeps the one that runs, `lab up` forms one";
            Err(Failed::new(ExitCode::BadInput, message))
        }
    }
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Until {
    /// The cluster can be used
    Ready,
    /// The lab has ended
    Ended,
}

/// Wait until the cluster of a running lab is ready, or has ended.
#[derive(Args)]
pub struct Wait {
    /// What to wait for
    #[arg(long = "for", value_name = "WHAT", default_value = "ready")]
    until: Until,
    /// Time limit, e.g. 90s, 15m or 2h
    #[arg(long, value_name = "TIME", default_value = "30m")]
    timeout: Lifetime,
    #[command(flatten)]
    at: At,
}

impl Wait {
    pub(super) fn run(self) -> Result<ExitCode, Failed> {
        let began = Instant::now();
        let lab = self.appears(began)?;
        loop {
            let now = LiveLab::in_directory(lab.directory.clone());
            let phase = now.as_ref().map(|lab| lab.state.as_ref().map_or("starting", |state| &state.phase));
            match (self.until, phase) {
                (Until::Ready, Some(READY)) => {
                    say!("{} is ready", lab.name());
                    return Ok(ExitCode::Passed);
                }
                (_, None) => return self.ended(&lab),
                (_, Some(phase)) if began.elapsed() > self.timeout.duration() => {
                    let message = format!("after {} {} is still {phase}", self.timeout, lab.name());
                    return Err(Failed::new(ExitCode::VerdictFailed, message));
                }
                (_, Some(_)) => std::thread::sleep(LOOK),
            }
        }
    }

    /// The lab, which may have been started a moment ago.
    fn appears(&self, began: Instant) -> Result<LiveLab, Failed> {
        loop {
            match self.at.live() {
                Err(_) if self.at.none_lives()? && began.elapsed() < APPEARS.min(self.timeout.duration()) => {
                    std::thread::sleep(LOOK);
                }
                found => return found,
            }
        }
    }

    fn ended(&self, lab: &LiveLab) -> Result<ExitCode, Failed> {
        match self.until {
            Until::Ended => {
                say!("{} has ended", lab.name());
                Ok(ExitCode::Passed)
            }
            Until::Ready => {
                let cause = match RunResult::read(&lab.directory) {
                    Ok(Some(RunResult { ending: Ending::Passed, .. }) | None) | Err(_) => {
                        "it left no cause".to_owned()
                    }
                    Ok(Some(result)) => result.cause,
                };
                let message = format!("{} ended before it was ready: {cause}", lab.name());
                Err(Failed::new(ExitCode::VerdictFailed, message))
            }
        }
    }
}
