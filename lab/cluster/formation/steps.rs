//! A formation step: recorded, limited in time, and ended early by a machine or LAN failure.

use std::{
    fmt,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::FutureExt;
use lab_model::events::{EventKind, Outcome, Step, Subject};
use lab_plan::cluster::Fault;
use lab_vm::machine::Machine;

use super::{
    cluster::Cluster,
    diagnosis::Diagnosis,
    failure::{Cause, Failure, NoMachine},
};
use crate::wait::Wait;

/// Interval between two attempts of a call that is not possible yet. No event is available, because the
/// other side cannot initiate contact.
pub(super) const RETRY: Duration = Duration::from_millis(300);

/// The kernel log line before the start of the first user process (init/main.c).
pub(super) const FIRST_PROCESS: &str = "as init process";
/// The Talos console line that reports the maintenance API as up.
pub(super) const REACHABLE: &str = "this machine is reachable at";

/// The last state that a step observed, for the timeout message.
#[derive(Clone, Default)]
pub(super) struct LastSeen(Arc<Mutex<String>>);

impl LastSeen {
    pub(super) fn set(&self, text: impl ToString) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = text.to_string();
    }

    fn get(&self) -> String {
        let text = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if text.is_empty() { "nothing".into() } else { text }
    }
}

impl Cluster {
    /// Runs `work` as a step of `subject`. The step ends with the result of `work`, a machine failure, a
    /// LAN failure or the expiry of its budget, whichever occurs first. A step of a node without a machine
    /// fails, except for steps that start the machine.
    pub(super) async fn step<T, F>(
        &self,
        subject: &Subject,
        step: Step,
        work: impl FnOnce(LastSeen) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Cause>>,
    {
        let recorder = &self.host.recorder;
        recorder.record(EventKind::StepStarted { subject: subject.clone(), step });
        let last_seen = LastSeen::default();
        let limit = self.plan.budgets.limit(step);
        let result = tokio::select! {
            biased;
            cause = self.machine_failure(subject, step) => Err(cause),
            error = self.lan.failure() => Err(Cause::from(error)),
            result = work(last_seen.clone()) => result,
            () = tokio::time::sleep(limit) => Err(Cause::Deadline { limit, last_seen: last_seen.get() }),
        };
        match result {
            Ok(value) => {
                recorder.record(EventKind::StepFinished {
                    subject: subject.clone(),
                    step,
                    outcome: Outcome::Passed,
                });
                Ok(value)
            }
            Err(cause) => {
                let failure = self.failure(subject, step, cause).await;
                recorder.record(EventKind::StepFinished {
                    subject: subject.clone(),
                    step,
                    outcome: Outcome::Failed { cause: failure.to_string() },
                });
                Err(failure)
            }
        }
    }

    /// Resolves when the machine of the step fails. Never resolves if `subject` is not a node.
    async fn machine_failure(&self, subject: &Subject, step: Step) -> Cause {
        let Subject::Node(node) = subject else { return std::future::pending().await };
        let Some(machine) = self.machine(node) else {
            return match step {
                Step::Prepare | Step::Restore => std::future::pending().await,
                _ => NoMachine { node: node.clone() }.into(),
            };
        };
        if self.has_fault(node, |fault| matches!(fault, Fault::KillQemu { at, .. } if *at == step)) {
            machine.kill();
        }
        machine.failure().await.into()
    }

    /// Returns a failure with the current diagnosis.
    pub(super) async fn failure(&self, subject: &Subject, step: Step, cause: Cause) -> Failure {
        let Diagnosis { findings, turned_away } = match (subject, &cause) {
            (Subject::Node(node), Cause::Deadline { .. }) => self.diagnose(node).await,
            (_, Cause::TurnedAway { what, .. }) => {
                Diagnosis { findings: Vec::new(), turned_away: Some(*what) }
            }
            _ => Diagnosis::default(),
        };
        Failure { subject: subject.clone(), step, cause, findings, turned_away }
    }
}

/// Retries a call until it succeeds or returns a permanent error. The enclosing step limits the time.
pub(super) async fn retry<T, E, F>(
    seen: &LastSeen,
    passes: impl Fn(&E) -> bool,
    mut call: impl FnMut() -> F,
) -> Result<T, E>
where
    E: fmt::Display,
    F: Future<Output = Result<T, E>>,
{
    let attempt = || call().map(|result| result.inspect_err(|error| seen.set(error)));
    let tried = Wait::without_limit().every(RETRY).retry_if(passes, attempt).await;
    tried.map_err(|(_, error)| error)
}

/// Repeats `ask` until it succeeds. The enclosing step limits the time.
pub(super) async fn until<F>(seen: &LastSeen, ask: impl FnMut() -> F)
where
    F: Future<Output = Result<(), String>>,
{
    if retry(seen, |_| true, ask).await.is_err() {
        // All errors are temporary, so only success ends the attempts.
        std::future::pending::<()>().await;
    }
}

/// Waits for a console line since the last power-on of the machine.
pub(super) async fn console_line(machine: &Machine, text: &str, seen: &LastSeen) -> Result<(), Cause> {
    seen.set(format!("no line \"{text}\" on the console"));
    machine.wait_console(text).await.map(drop).map_err(Cause::from)
}
