//! A formation step: recorded, limited in time, and ended early by a machine or LAN failure.

use std::{
    collections::BTreeSet,
    fmt,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::FutureExt;
use lab_model::{
    events::{EventKind, LayerState, Outcome, Step, Subject},
    reference::name_of,
};
use lab_plan::cluster::Fault;
use lab_vm::machine::Machine;
use tokio::{sync::Notify, time::Instant};

use super::{
    cluster::Cluster,
    diagnosis::Diagnosis,
    failure::{Cause, Failure, NoMachine},
};
use crate::{machine_api::ApiError, wait::Wait};

/// Interval between two attempts of a call that is not possible yet. No event is available, because the
/// other side cannot initiate contact.
pub(super) const RETRY: Duration = Duration::from_millis(300);

/// The kernel log line before the start of the first user process (init/main.c).
pub(super) const FIRST_PROCESS: &str = "as init process";
/// The Talos console line that reports the maintenance API as up.
pub(super) const REACHABLE: &str = "this machine is reachable at";

/// What a step observed, for the timeout message.
#[derive(Clone, Default)]
pub(super) struct LastSeen(Arc<Observed>);

#[derive(Default)]
struct Observed {
    state: Mutex<String>,
    /// The last progress and its time.
    progress: Mutex<Option<(String, Instant)>>,
    progressed: Notify,
}

impl LastSeen {
    /// Sets the state that the step waits to change.
    pub(super) fn set(&self, text: impl ToString) {
        *self.0.state.lock().unwrap_or_else(PoisonError::into_inner) = text.to_string();
    }

    /// Reports progress. It extends the time of the step.
    pub(super) fn progress(&self, text: impl ToString) {
        let mut progress = self.0.progress.lock().unwrap_or_else(PoisonError::into_inner);
        *progress = Some((text.to_string(), Instant::now()));
        self.0.progressed.notify_one();
    }

    /// Whether this is the state that the step waits to change.
    pub(super) fn is(&self, text: &str) -> bool {
        *self.0.state.lock().unwrap_or_else(PoisonError::into_inner) == text
    }

    /// The state that the step waits to change, if there is one.
    pub(super) fn last(&self) -> Option<String> {
        let state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (!state.is_empty()).then_some(state)
    }

    fn get(&self) -> String {
        let state = self.last().unwrap_or_else(|| "nothing".to_owned());
        match &*self.0.progress.lock().unwrap_or_else(PoisonError::into_inner) {
            Some((text, at)) => {
                format!("{state}; the last progress, {} s before: {text}", at.elapsed().as_secs())
            }
            None => state,
        }
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
            cause = self.missing_image(step) => Err(cause),
            result = work(last_seen.clone()) => result,
            limit = self.deadline(subject, step, limit, &last_seen) => {
                Err(Cause::Deadline { limit, last_seen: last_seen.get() })
            }
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

    /// Resolves when the time of a step is over, and returns that time. It grows with progress, up to twice the
    /// limit: the step reports progress itself, and the events of Kubernetes show that of the step `ready`.
    async fn deadline(&self, subject: &Subject, step: Step, limit: Duration, seen: &LastSeen) -> Duration {
        let mut extended = Extended::new(limit);
        // Only this step reads the events; nothing collects them for the others.
        let mut events = (step == Step::Ready).then(|| self.host.recorder.subscribe());
        loop {
            let in_events = async {
                match &mut events {
                    Some(events) => events.recv().await,
                    None => None,
                }
            };
            tokio::select! {
                () = tokio::time::sleep_until(extended.until) => return extended.allowed(),
                () = seen.0.progressed.notified() => extended.progress(),
                Some(event) = in_events => {
                    if is_progress(&event.kind, subject) {
                        extended.progress();
                    }
                }
            }
        }
    }

    /// Resolves when a node asks for an image of a component that no mirror has. Never resolves for steps before
    /// the first pull.
    async fn missing_image(&self, step: Step) -> Cause {
        if !matches!(step, Step::Bootstrap | Step::KubernetesApi | Step::NetworkPlugin | Step::Ready) {
            return std::future::pending().await;
        }
        let planned: BTreeSet<String> = self.plan.pulled_images().map(|(image, _)| image).collect();
        let mut missing = self.registry.missing();
        let found = |missing: &BTreeSet<String>| missing.iter().find_map(|image| component(image, &planned));
        match missing.wait_for(|missing| found(missing).is_some()).await.map(|missing| found(&missing)) {
            Ok(Some((image, planned))) => Cause::MissingImage { image, planned },
            // The registry lives as long as the cluster.
            Ok(None) | Err(_) => std::future::pending().await,
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
            (Subject::Node(node), Cause::Deadline { .. } | Cause::Service(_)) => self.diagnose(node).await,
            (_, Cause::TurnedAway { what, .. }) => {
                Diagnosis { findings: Vec::new(), turned_away: Some(*what) }
            }
            _ => Diagnosis::default(),
        };
        Failure { subject: subject.clone(), step, cause, findings, turned_away }
    }
}

/// A deadline that grows with progress.
struct Extended {
    began: Instant,
    until: Instant,
    limit: Duration,
}

impl Extended {
    fn new(limit: Duration) -> Self {
        let began = Instant::now();
        Self { began, until: began + limit, limit }
    }

    /// At least half of the limit remains after progress, within twice the limit.
    fn progress(&mut self) {
        let wanted = Instant::now() + self.limit / 2;
        self.until = self.until.max(wanted).min(self.began + self.limit * 2);
    }

    fn allowed(&self) -> Duration {
        self.until - self.began
    }
}

/// Reasons of Kubernetes' events that bring a node closer to Ready: its registration, pulled images, started
/// containers.
const PROGRESS: [&str; 5] = ["RegisteredNode", "Scheduled", "Pulled", "Started", "NodeReady"];

/// Whether an event brings a node closer to Ready.
fn is_progress(event: &EventKind, node: &Subject) -> bool {
    match event {
        EventKind::KubernetesEvent { subject, reason, count, .. } => {
            // An image that is there is "pulled" again and again by a container that crashes.
            (subject == node || *subject == Subject::Cluster)
                && PROGRESS.contains(&reason.as_str())
                && *count <= 5
        }
        EventKind::LayerChanged { node: own, state, .. } => {
            *node == Subject::Node(own.clone()) && *state == LayerState::Green
        }
        _ => false,
    }
}

/// Whether a missing image is that of a component: the plan has one of the same repository.
fn component(image: &str, planned: &BTreeSet<String>) -> Option<(String, Option<String>)> {
    let same = planned.iter().find(|planned| name_of(planned) == name_of(image))?;
    Some((image.to_owned(), (same != image).then(|| same.clone())))
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
    let tried = Wait::without_limit().every(RETRY).gently().retry_if(passes, attempt).await;
    tried.map_err(|(_, error)| error)
}

/// Retries an authenticated call. A node that has just got its config may refuse it: since Talos 1.13, the API
/// server of maintenance mode gets the new certificate while it runs, and gives the roles of certificates
/// their rights only when it restarts. The call is then repeated on a new connection, because the refusing
/// server may serve the old connection until its end. The enclosing step limits the time.
pub(super) async fn retry_admitted<C, T, F, G>(
    seen: &LastSeen,
    first: C,
    mut connect: impl FnMut() -> F,
    mut call: impl FnMut(C) -> G,
) -> Result<T, ApiError>
where
    C: Clone,
    F: Future<Output = Result<C, ApiError>>,
    G: Future<Output = Result<T, ApiError>>,
{
    let is_refusal =
        |error: &ApiError| matches!(error, ApiError::PermissionDenied { .. } | ApiError::Tls { .. });
    let mut kept = Some(first);
    loop {
        let client = match kept.take() {
            Some(client) => Ok(client),
            None => connect().await,
        };
        let error = match client {
            Ok(client) => match call(client.clone()).await {
                Ok(value) => return Ok(value),
                Err(error) => {
                    kept = (!is_refusal(&error)).then_some(client);
                    error
                }
            },
            Err(error) => error,
        };
        if !is_refusal(&error) && !error.is_transient() {
            return Err(error);
        }
        seen.set(&error);
        tokio::time::sleep(RETRY).await;
    }
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

#[cfg(test)]
mod tests {
    use std::{cell::Cell, net::IpAddr};

    use super::*;

    const NODE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 5, 0, 10));

    fn denied() -> ApiError {
        ApiError::PermissionDenied { node: NODE, action: "bootstrap etcd", message: "not authorized".into() }
    }

    #[tokio::test(start_paused = true)]
    async fn progress_extends_a_deadline_to_twice_its_length_and_no_further() {
        let limit = Duration::from_secs(100);
        let mut extended = Extended::new(limit);
        extended.progress();
        assert_eq!(extended.allowed(), limit, "early progress changes nothing");
        tokio::time::advance(Duration::from_secs(90)).await;
        extended.progress();
        assert_eq!(extended.allowed(), Duration::from_secs(140));
        for _ in 0..5 {
            tokio::time::advance(Duration::from_secs(40)).await;
            extended.progress();
        }
        assert_eq!(extended.allowed(), limit * 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_that_ran_out_of_time_says_what_its_last_progress_was() {
        let seen = LastSeen::default();
        assert_eq!(seen.get(), "nothing");
        seen.progress("pulled registry.k8s.io/kube-apiserver:v1.34.2");
        tokio::time::advance(Duration::from_secs(4)).await;
        seen.set("connection refused");
        let expected = "connection refused; the last progress, 4 s before: pulled registry.k8s.io/kube-apiserver:v1.34.2";
        assert_eq!(seen.get(), expected);
        seen.0.progressed.notified().await;
    }

    #[test]
    fn what_happens_on_the_node_is_progress_and_a_crash_is_not() {
        let node = |name: &str| Subject::Node(name.parse().expect("name"));
        let event = |subject: Subject, reason: &str, count: u32| EventKind::KubernetesEvent {
            subject,
            warning: false,
            object: "Pod/kube-system/kube-flannel-x".into(),
            reason: reason.into(),
            message: String::new(),
            count,
        };
        assert!(is_progress(&event(node("worker-1"), "Pulled", 1), &node("worker-1")));
        assert!(is_progress(&event(Subject::Cluster, "Scheduled", 1), &node("worker-1")));
        assert!(!is_progress(&event(node("worker-2"), "Pulled", 1), &node("worker-1")));
        assert!(!is_progress(&event(node("worker-1"), "BackOff", 1), &node("worker-1")));
        assert!(!is_progress(&event(node("worker-1"), "Started", 8), &node("worker-1")), "a crash loop");
    }

    #[test]
    fn only_a_missing_component_ends_the_formation() {
        let planned = ["registry.k8s.io/pause:3.10", "lab:5999/app"].map(str::to_owned).into();
        let expected = Some("registry.k8s.io/pause:3.10".to_owned());
        let image = "registry.k8s.io/pause:3.10.1";
        assert_eq!(component(image, &planned), Some((image.to_owned(), expected)));
        assert_eq!(component("docker.io/library/app:1", &planned), None);
        assert!(component("lab:5999/app:2", &planned).is_some());
    }

    /// Calls on a client with a number; the server admits clients from number `admits` on.
    async fn called(admits: u32, refusal: fn() -> ApiError) -> (Result<u32, ApiError>, u32, LastSeen) {
        let (made, seen) = (Cell::new(0), LastSeen::default());
        let connect = async || {
            made.set(made.get() + 1);
            Ok(made.get())
        };
        let call = async |client: u32| if client >= admits { Ok(client) } else { Err(refusal()) };
        let called = retry_admitted(&seen, 0, connect, call).await;
        (called, made.get(), seen)
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_right_after_apply_is_asked_again_on_new_connections() {
        let (called, connections, seen) = called(3, denied).await;
        assert_eq!((called.expect("admitted"), connections), (3, 3));
        assert!(seen.get().contains("not authorized"), "{}", seen.get());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_is_admitted_keeps_its_connection_and_other_refusals_are_final() {
        let (first, connections, _) = called(0, denied).await;
        assert_eq!((first.expect("admitted"), connections), (0, 0));
        let exists = || ApiError::AlreadyExists { node: NODE, action: "bootstrap etcd" };
        let (again, connections, _) = called(3, exists).await;
        assert!(matches!(again, Err(ApiError::AlreadyExists { .. })) && connections == 0);
    }
}
