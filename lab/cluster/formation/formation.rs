//! Formation: all nodes run their steps concurrently and wait only for real dependencies. If the host has
//! too few resources for that, workers boot first, their CPUs are stopped in maintenance mode, and they get their configs
//! after the control plane is Ready ([`lab_plan::cluster::StartDecision`]).
//!
//! ```text
//! each node      boot -> maintenance -> apply config -> machine API ------------> ready
//! control plane                                          `-> bootstrap -> kubeconfig -> Kubernetes API
//! ```
//!
//! The authenticated API of a worker needs trustd on the control plane, and "ready" needs the Kubernetes
//! API. Only the steps that need them wait for them, so no earlier step is delayed.

use std::{
    net::IpAddr,
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use futures::{
    FutureExt,
    future::{BoxFuture, try_join_all},
};
use lab_model::{
    events::{EventKind, Step, Subject},
    node::NodeName,
};
use lab_plan::{
    cluster::{Fault, LateComponent, NodePlan, StartOrder},
    config::{AdminKubeconfig, SecretsError},
};
use lab_vm::machine::{Machine, MachineError};
use tokio::sync::{Semaphore, SetOnce};

use super::{
    cluster::Cluster,
    failure::{Cause, Failure},
    formation_state::{FormationState, KubernetesAccess},
    formed::FormedCluster,
    readiness::Readiness,
    steps::{FIRST_PROCESS, LastSeen, REACHABLE, console_line, retry, retry_admitted, until},
    warm::{SavedStage, Snapshot, Warm, WarmKey, WarmStore},
};
use crate::{
    formation::NodeTable,
    kubernetes::{KubernetesApi, KubernetesError},
    machine_api::{ApiError, ApplyMode, MaintenanceClient, NodeClient},
};

/// Signals from the control plane to the other nodes. The steps of the control plane limit the wait time.
/// When a step fails, formation drops the waits.
pub(super) struct Signals {
    /// Access to Kubernetes, set when the API server is ready.
    pub(super) kubernetes: SetOnce<Arc<KubernetesAccess>>,
    /// Set when the control plane is Ready.
    led: SetOnce<()>,
    /// Limits the number of workers that form at once after the control plane.
    places: Semaphore,
}

impl Cluster {
    /// Boots all nodes and forms a Ready cluster. [`Cluster::formation`] returns the progress.
    ///
    /// # Errors
    /// The first failure. It cancels all other work.
    pub fn form(self: &Arc<Self>) -> BoxFuture<'_, Result<FormedCluster, Failure>> {
        async move {
            let formed = self.restore_or_form().await?;
            self.formation.send_replace(FormationState::Formed(Arc::clone(formed.access())));
            Ok(formed)
        }
        .boxed()
    }

    async fn restore_or_form(self: &Arc<Self>) -> Result<FormedCluster, Failure> {
        let formed = |access| FormedCluster::new(Arc::clone(self), access);
        let warm = self.warm.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Warm { store, restore, mut keep, .. }) = warm else {
            let formed = formed(self.form_cold().await?);
            formed.configure_late().await?;
            return Ok(formed);
        };
        let began = Instant::now();
        let restored = match restore {
            None => None,
            Some(snapshot) => match self.restored(&snapshot).await {
                Ok(access) => Some((formed(access), snapshot.saved.key.stage)),
                // The restored cluster is held up as before, and this plan has no document for it.
                Err(failure) if matches!(failure.cause, Cause::Held(_)) => return Err(failure),
                Err(failure) => {
                    keep.extend(self.give_up(snapshot, &failure).await);
                    None
                }
            },
        };
        let (formed, stage) = match restored {
            Some(restored) => restored,
            None => {
                let formed = formed(self.form_cold().await?);
                formed.keep_if_asked(&store, &keep, SavedStage::Formed, began).await;
                (formed, SavedStage::Formed)
            }
        };
        if stage == SavedStage::Formed {
            formed.configure_late().await?;
            formed.keep_if_asked(&store, &keep, SavedStage::Configured, began).await;
        }
        Ok(formed)
    }

    /// Discards a saved cluster that cannot be restored. Returns the key to save the new cluster with.
    async fn give_up(&self, snapshot: Snapshot, failure: &Failure) -> Option<WarmKey> {
        self.end_machines().await;
        self.formation.send_replace(FormationState::Started);
        for node in &self.plan.nodes {
            // The disk may not exist.
            let _ = std::fs::remove_file(self.disk_of(node));
        }
        let reason = format!("the saved cluster could not be restored and is removed: {failure}");
        self.host.recorder.record(EventKind::ClusterStarts { warm: false, reason });
        match snapshot.discard() {
            Ok(key) => Some(key),
            Err(error) => {
                let text = error.to_string();
                self.host.recorder.record(EventKind::Note { subject: Subject::Cluster, text });
                None
            }
        }
    }

    async fn form_cold(&self) -> Result<Arc<KubernetesAccess>, Failure> {
        let asked_for = self.plan.spec.start_order != StartOrder::Auto;
        if self.plan.workers().next().is_some() && (asked_for || self.plan.start.control_plane_first) {
            let text = self.plan.start.to_string();
            self.host.recorder.record(EventKind::Note { subject: Subject::Cluster, text });
        }
        self.hold_late_components();
        let signals = Signals {
            kubernetes: SetOnce::new(),
            led: SetOnce::new(),
            places: Semaphore::new(self.plan.start.workers_at_once),
        };
        let formed = self.form_in_order(&signals).await;
        if formed.is_err() && self.plan.start.control_plane_first {
            // The diagnosis and the bundle query all nodes, also those that still wait.
            for node in self.plan.workers() {
                // A VM that cannot resume does not hide the first failure.
                let _ = self.resume(node).await;
            }
        }
        formed
    }

    async fn form_in_order(&self, signals: &Signals) -> Result<Arc<KubernetesAccess>, Failure> {
        if self.plan.start.control_plane_first {
            let vcpus = Semaphore::new(self.plan.start.vcpus_at_once as usize);
            try_join_all(self.plan.workers().map(|node| self.boot_and_stop(node, &vcpus))).await?;
        }
        let (access, _, ()) = futures::try_join!(
            self.form_control_plane(signals),
            try_join_all(self.plan.workers().map(|node| self.form_worker(node, signals))),
            self.install_network_plugin(signals),
        )?;
        Ok(access)
    }

    /// Boots a worker into maintenance mode and stops its CPUs: under emulation, an idle node takes a tenth of a core or more.
    async fn boot_and_stop(&self, node: &NodePlan, vcpus: &Semaphore) -> Result<(), Failure> {
        let subject = Subject::Node(node.spec.name.clone());
        let _place = vcpus.acquire_many(node.spec.vcpus.min(self.plan.start.vcpus_at_once)).await.ok();
        let machine = self.boot_node(node, &subject).await?;
        self.obeyed(&subject, machine.pause().await).await?;
        let text = "its CPUs are stopped until it may form".to_owned();
        self.host.recorder.record(EventKind::Note { subject, text });
        Ok(())
    }

    /// Starts the stopped CPUs of a worker. A worker without a machine fails in its next step.
    async fn resume(&self, node: &NodePlan) -> Result<(), MachineError> {
        match self.machine(&node.spec.name) {
            Some(machine) => machine.resume().await,
            None => Ok(()),
        }
    }

    /// Turns a failed command to a waiting worker's VM into the failure of that worker.
    async fn obeyed(&self, subject: &Subject, result: Result<(), MachineError>) -> Result<(), Failure> {
        match result {
            Ok(()) => Ok(()),
            Err(error) => Err(self.failure(subject, Step::Maintenance, error.into()).await),
        }
    }

    async fn form_control_plane(&self, signals: &Signals) -> Result<Arc<KubernetesAccess>, Failure> {
        let node = self.plan.control_plane();
        let subject = Subject::Node(node.spec.name.clone());
        self.boot_node(node, &subject).await?;
        self.configure(node, &subject).await?;
        let client = self.secure_api(node, &subject).await?;
        let access = Arc::new(self.found_kubernetes(&client, &subject).await?);
        self.formation.send_replace(FormationState::ApiServer(Arc::clone(&access)));
        // No other code sets these two signals.
        let _ = signals.kubernetes.set(Arc::clone(&access));
        tokio::select! {
            ready = self.ready(node, &subject, client, access.nodes.clone()) => ready?,
            () = self.start_components(&access) => {}
        }
        let _ = signals.led.set(());
        Ok(access)
    }

    async fn form_worker(&self, node: &NodePlan, signals: &Signals) -> Result<(), Failure> {
        let subject = Subject::Node(node.spec.name.clone());
        let _place = if self.plan.start.control_plane_first {
            signals.led.wait().await;
            let place = signals.places.acquire().await.ok();
            self.obeyed(&subject, self.resume(node).await).await?;
            place
        } else {
            self.boot_node(node, &subject).await?;
            None
        };
        self.configure(node, &subject).await?;
        let client = self.secure_api(node, &subject).await?;
        let access = signals.kubernetes.wait().await;
        self.ready(node, &subject, client, access.nodes.clone()).await
    }

    pub(super) async fn boot_node(
        &self,
        node: &NodePlan,
        subject: &Subject,
    ) -> Result<Arc<Machine>, Failure> {
        let booted = self.step(subject, Step::Prepare, |_| self.boot(node)).await?;
        let machine = &booted;
        self.step(
            subject,
            Step::Boot,
            |seen| async move { console_line(machine, FIRST_PROCESS, &seen).await },
        )
        .await?;
        self.step(subject, Step::Maintenance, |seen| async move {
            console_line(machine, REACHABLE, &seen).await?;
            // Talos prints the line seconds before its API answers.
            let via = self.machine_api(&node.spec.name)?;
            let answers = async || {
                let client = MaintenanceClient::connect(via, node.address.into()).await?;
                client.machine_status(self.plan.budgets.call).await
            };
            retry(&seen, |_| true, answers).await?;
            Ok(())
        })
        .await?;
        Ok(booted)
    }

    pub(super) async fn configure(&self, node: &NodePlan, subject: &Subject) -> Result<(), Failure> {
        if self.has_fault(&node.spec.name, |fault| matches!(fault, Fault::NoConfig { .. })) {
            return Ok(());
        }
        self.step(subject, Step::ApplyConfig, |seen| async move {
            let yaml = node.config.to_yaml().map_err(|error| Cause::File {
                action: "write the machine config".into(),
                source: std::io::Error::other(error),
            })?;
            let via = self.machine_api(&node.spec.name)?;
            let apply = async || {
                let client = MaintenanceClient::connect(via, node.address.into()).await?;
                client.apply_configuration(&yaml, ApplyMode::Auto, false, self.plan.budgets.call).await
            };
            retry(&seen, ApiError::is_transient, apply).await?;
            Ok(())
        })
        .await
    }

    pub(super) async fn secure_api(&self, node: &NodePlan, subject: &Subject) -> Result<NodeClient, Failure> {
        self.step(subject, Step::SecureApi, |seen| async move {
            // The node shows its self-signed maintenance certificate until the config takes effect. A trust
            // error may therefore be temporary.
            let passes =
                |error: &ApiError| matches!(error, ApiError::Tls { .. } | ApiError::Unreachable { .. });
            Ok(retry(&seen, passes, || self.connect(node)).await?)
        })
        .await
    }

    /// Runs the Kubernetes steps on the control plane: etcd, kubeconfig, API server and node watch.
    async fn found_kubernetes(
        &self,
        client: &NodeClient,
        subject: &Subject,
    ) -> Result<KubernetesAccess, Failure> {
        let (call, node) = (self.plan.budgets.call, self.plan.control_plane());
        self.step(subject, Step::Bootstrap, |seen| async move {
            let bootstrap = async |client: NodeClient| match client.bootstrap(call).await {
                Err(ApiError::AlreadyExists { .. }) => Ok(()),
                other => other,
            };
            retry_admitted(&seen, client.clone(), || self.connect(node), bootstrap).await?;
            Ok(())
        })
        .await?;
        let kubeconfig = self
            .step(subject, Step::Kubeconfig, |seen| async move {
                let of_node = async {
                    let kubeconfig = async |client: NodeClient| client.kubeconfig(call).await;
                    Ok(retry_admitted(&seen, client.clone(), || self.connect(node), kubeconfig).await?)
                };
                self.admin_kubeconfig(of_node).await
            })
            .await?;
        self.formation.send_replace(FormationState::Kubeconfig(Arc::clone(&kubeconfig)));
        let api = self
            .step(subject, Step::KubernetesApi, |seen| async {
                let seen = seen;
                let api = KubernetesApi::new(&kubeconfig).await?;
                tokio::select! {
                    () = until(&seen, || serves(&api, &seen)) => {}
                    () = self.narrate(node, client, &seen) => std::future::pending().await,
                }
                Ok(api)
            })
            .await?;
        Ok(KubernetesAccess::new(kubeconfig, api, &self.host.recorder)
            .recording_events(self.host.recorder.clone()))
    }

    /// Holds back the images of components that cannot work yet.
    fn hold_late_components(&self) {
        let [manager, scheduler] = [LateComponent::ControllerManager, LateComponent::Scheduler]
            .map(|component| self.plan.late_images(component));
        if manager.is_empty() && scheduler.is_empty() {
            return;
        }
        let text = "the registry holds back the controller manager until the API server is ready, and the scheduler until \
                    the node has registered (lab/late-components)";
        self.note(self.plan.control_plane(), text.to_owned());
        self.registry.hold(manager.into_iter().chain(scheduler));
    }

    /// Lets the nodes pull a component that can work from now on.
    fn start_late(&self, component: LateComponent, because: &str) {
        let images = self.plan.late_images(component);
        if images.is_empty() {
            return;
        }
        self.registry.release(&images);
        let names = images.into_iter().collect::<Vec<_>>().join(", ");
        self.note(
            self.plan.control_plane(),
            format!("{because}: the registry sends {names} (lab/late-components)"),
        );
    }

    /// Lets the node pull each late component when it can work. Never resolves.
    ///
    /// A controller manager waits 10 s for `/healthz`, which includes the roles of RBAC, and then ends
    /// (Kubernetes, `WaitForAPIServer`). A scheduler has nothing to do before a node has registered.
    async fn start_components(&self, access: &KubernetesAccess) {
        if !self.plan.late_images(LateComponent::ControllerManager).is_empty() {
            until(&LastSeen::default(), || access.api.ready()).await;
            self.start_late(LateComponent::ControllerManager, "the API server is ready");
            access.nodes.clone().registered(&self.plan.control_plane().spec.name).await;
            self.start_late(LateComponent::Scheduler, "the node has registered");
        }
        std::future::pending().await
    }

    /// Issues the administrator's kubeconfig for the forwarded port of this run, with the cluster's CA. Only if the
    /// lab cannot sign with the user's own CA, it takes the certificate and the key out of a `given` kubeconfig.
    pub(super) async fn admin_kubeconfig(
        &self,
        given: impl Future<Output = Result<String, Cause>> + Send,
    ) -> Result<Arc<str>, Cause> {
        let kubeconfig = match AdminKubeconfig::issue(&self.plan.secrets, jiff::Timestamp::now()) {
            Ok(issued) => issued,
            Err(SecretsError::KeyType) => AdminKubeconfig::of_foreign(&given.await?)
                .map_err(|error| KubernetesError::Kubeconfig(error.to_string()))?,
            Err(error) => {
                let text = format!("issue it with cluster.ca of the control plane's machine config: {error}");
                return Err(KubernetesError::Kubeconfig(text).into());
            }
        };
        let address = IpAddr::from(self.plan.control_plane().address);
        Ok(kubeconfig.to_text(self.kubernetes_api()?, address).into())
    }

    pub(super) async fn ready(
        &self,
        node: &NodePlan,
        subject: &Subject,
        client: NodeClient,
        table: NodeTable,
    ) -> Result<(), Failure> {
        let refusal = self.turned_away(node, client.clone(), table.clone());
        self.step(subject, Step::Ready, |seen| async move {
            let green = self.green_or_held(node, client, table, &seen);
            tokio::select! {
                result = green => result,
                cause = refusal => Err(cause),
            }
        })
        .await
    }

    /// Waits until all layers are green. Accepts a hold if the plan allows one or supplies the document
    /// later.
    async fn green_or_held(
        &self,
        node: &NodePlan,
        client: NodeClient,
        table: NodeTable,
        seen: &LastSeen,
    ) -> Result<(), Cause> {
        let Readiness::Held(hold) = self.three_layers(node, client, table, Duration::ZERO, seen).await?
        else {
            return Ok(());
        };
        if self.plan.late_documents(node).is_empty() && !node.spec.may_be_held && !self.joins_tailnet(node) {
            return Err(Cause::Held(hold));
        }
        self.note(node, hold.to_string());
        Ok(())
    }

    pub(super) fn note(&self, node: &NodePlan, text: String) {
        let subject = Subject::Node(node.spec.name.clone());
        self.host.recorder.record(EventKind::Note { subject, text });
    }

    pub(super) fn has_fault(&self, node: &NodeName, wanted: impl Fn(&Fault) -> bool) -> bool {
        self.plan.faults.iter().any(|fault| fault.node() == node && wanted(fault))
    }
}

/// Asks the API server whether it serves. Each health check that begins or ceases to fail is progress.
async fn serves(api: &KubernetesApi, seen: &LastSeen) -> Result<(), String> {
    let unready = match api.serves().await {
        Ok(()) => return Ok(()),
        Err(unready) => unready,
    };
    let text = unready.to_string();
    if !unready.failing.is_empty() && !seen.is(&text) {
        seen.progress(&text);
    }
    Err(text)
}

impl FormedCluster {
    async fn keep_if_asked(&self, store: &WarmStore, keys: &[WarmKey], stage: SavedStage, began: Instant) {
        let formed_in = began.elapsed().as_secs_f64();
        for key in keys.iter().filter(|key| key.stage == stage) {
            self.keep_warm(store, key, formed_in).await;
        }
    }
}
