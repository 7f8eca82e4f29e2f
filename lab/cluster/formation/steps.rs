//! One step of formation: announced, bounded, raced against everything that can end it.

use std::{
    future::Future,
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    cluster::Cluster,
    diagnosis::Diagnosis,
    failure::{Cause, Failure},
};
use lab_model::{
    events::{Happening, Outcome, Step, Subject},
    node::NodeName,
};

/// What a step saw last, for the message when its time is up.
#[derive(Clone, Default)]
pub(super) struct LastSeen(Arc<Mutex<String>>);

impl LastSeen {
    /// Replaces what was seen.
    pub(super) fn set(&self, text: impl ToString) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = text.to_string();
    }

    fn get(&self) -> String {
        let text = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if text.is_empty() { "nothing".into() } else { text }
    }
}

impl Cluster {
    /// Runs `work` as a step of `subject`: it ends with its result, with the machine's failure,
    /// with the LAN's failure, or when the step's budget is spent, whichever comes first.
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
        recorder.record(Happening::StepStarted { subject: subject.clone(), step });
        let last_seen = LastSeen::default();
        let limit = self.plan.budgets.limit(step);
        let machine = match subject {
            Subject::Node(node) => self.machine(node),
            Subject::Cluster => None,
        };
        let machine_failure = async {
            match &machine {
                Some(machine) => machine.failure().await,
                None => std::future::pending().await,
            }
        };
        let result = tokio::select! {
            biased;
            failure = machine_failure => Err(Cause::from(failure)),
            error = self.lan.failure() => Err(Cause::from(error)),
            result = work(last_seen.clone()) => result,
            () = tokio::time::sleep(limit) => Err(Cause::Deadline { limit, last_seen: last_seen.get() }),
        };
        match result {
            Ok(value) => {
                recorder.record(Happening::StepFinished {
                    subject: subject.clone(),
                    step,
                    outcome: Outcome::Passed,
                });
                Ok(value)
            }
            Err(cause) => {
                let failure = self.failure(subject, step, cause).await;
                recorder.record(Happening::StepFinished {
                    subject: subject.clone(),
                    step,
                    outcome: Outcome::Failed { cause: failure.to_string() },
                });
                Err(failure)
            }
        }
    }

    /// A failure with what can be found out about it now.
    pub(super) async fn failure(&self, subject: &Subject, step: Step, cause: Cause) -> Failure {
        let (mut diagnosis, mut console) = (Diagnosis::default(), Vec::new());
        if let Subject::Node(node) = subject {
            console = self.console_tail(node);
            match cause {
                Cause::Deadline { .. } => diagnosis = self.diagnose(node).await,
                Cause::TurnedAway { what, .. } => diagnosis.turned_away = Some(what),
                _ => {}
            }
        }
        let Diagnosis { findings, turned_away } = diagnosis;
        Failure { subject: subject.clone(), step, cause, findings, turned_away, console }
    }

    fn console_tail(&self, node: &NodeName) -> Vec<String> {
        self.machine(node).map(|machine| machine.console_tail(20)).unwrap_or_default()
    }
}
