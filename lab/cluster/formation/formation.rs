//! Formation: every node goes its way at once, and waits only for what it really needs. On a host that
//! cannot carry that, workers start once the control plane is Ready ([`super::StartDecision`]).
//!
//! ```text
//! each node      boot -> maintenance -> apply config -> machine API ------------> ready
//! control plane                                          `-> bootstrap -> kubeconfig -> Kubernetes API
//! ```
//!
//! A worker's authenticated API needs the control plane's trustd, and "ready" needs the Kubernetes
//! API; both are waited for where they are needed, so nothing is held back earlier.

use std::{
    net::IpAddr,
    sync::PoisonError,
    time::{Duration, Instant},
};

use futures::{
    FutureExt,
    future::{BoxFuture, try_join, try_join_all},
};
use tokio::sync::{Semaphore, watch};

use super::{
    cluster::Cluster,
    failure::{Cause, Failure},
    readiness::{NodeTable, Readiness},
    steps::LastSeen,
    warm::{Snapshot, Stage, Warm, WarmKey, WarmStore},
};
use crate::kubernetes::{KubernetesApi, forwarded_kubeconfig, record_kubernetes_events};
use crate::machine_api::{ApiError, ApplyMode, MaintenanceClient, NodeClient};
use lab_model::{
    events::{Happening, Step, Subject},
    node::{Kind, NodeName},
};
use lab_plan::cluster::{Fault, NodePlan, StartOrder};

/// The line the kernel writes when it hands over to the first user process (init/main.c).
const FIRST_PROCESS: &str = "as init process";
/// The line by which Talos says that its maintenance API is up.
const REACHABLE: &str = "this machine is reachable at";
/// Pause between two tries of a call that is not possible yet. There is no event to wait for: the
/// other side has no way to speak first.
pub(super) const RETRY: Duration = Duration::from_millis(300);

/// What nodes that form wait for of the control plane.
struct Signals {
    /// The nodes as its API server knows them, once that answers.
    table: watch::Sender<Option<NodeTable>>,
    /// Whether it is Ready.
    led: watch::Sender<bool>,
    /// Places for workers that wait until it is.
    places: Semaphore,
}

impl Cluster {
    /// Boots all nodes and makes them one Ready cluster.
    ///
    /// # Errors
    /// The first failure; everything else is given up at that moment.
    pub fn form(&self) -> BoxFuture<'_, Result<(), Failure>> {
        self.formed().boxed()
    }

    async fn formed(&self) -> Result<(), Failure> {
        let warm = self.warm.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Warm { store, restore, mut keep, .. }) = warm else {
            self.formed_cold().await?;
            return self.configure_late().await;
        };
        let began = Instant::now();
        let came_to = match restore {
            None => None,
            Some(snapshot) => match self.restored(&snapshot).await {
                Ok(()) => Some(snapshot.saved.key.stage),
                // It came back as it was: held up, which this plan has no document for.
                Err(failure) if matches!(failure.cause, Cause::Held(_)) => return Err(failure),
                Err(failure) => {
                    keep.extend(self.give_up(snapshot, &failure).await);
                    None
                }
            },
        };
        if came_to.is_none() {
            self.formed_cold().await?;
            self.keep_if_asked(&store, &keep, Stage::Formed, began).await;
        }
        if came_to != Some(Stage::Configured) {
            self.configure_late().await?;
            self.keep_if_asked(&store, &keep, Stage::Configured, began).await;
        }
        Ok(())
    }

    async fn keep_if_asked(&self, store: &WarmStore, keys: &[WarmKey], stage: Stage, began: Instant) {
        let formed_in = began.elapsed().as_secs_f64();
        for key in keys.iter().filter(|key| key.stage == stage) {
            self.keep_warm(store, key, formed_in).await;
        }
    }

    /// A saved cluster that does not come back is of no use to the next run either. Returns the key
    /// under which the cluster that forms instead is to be saved.
    async fn give_up(&self, snapshot: Snapshot, failure: &Failure) -> Option<WarmKey> {
        self.end_machines().await;
        for node in &self.plan.nodes {
            // Without it there is one less thing to remove.
            let _ = std::fs::remove_file(self.disk_of(node));
        }
        let reason = format!("the warm cluster did not come back ({failure}); it is removed");
        self.host.recorder.record(Happening::ClusterStarts { warm: false, reason });
        match snapshot.discard() {
            Ok(key) => Some(key),
            Err(error) => {
                let text = error.to_string();
                self.host.recorder.record(Happening::Note { subject: Subject::Cluster, text });
                None
            }
        }
    }

    async fn formed_cold(&self) -> Result<(), Failure> {
        let asked_for = self.plan.spec.start_order != StartOrder::Auto;
        if asked_for || self.plan.start.control_plane_first {
            let text = self.plan.start.to_string();
            self.host.recorder.record(Happening::Note { subject: Subject::Cluster, text });
        }
        let signals = Signals {
            table: watch::Sender::new(None),
            led: watch::Sender::new(false),
            places: Semaphore::new(self.plan.start.workers_at_once),
        };
        let nodes = try_join_all(self.plan.nodes.iter().map(|node| self.form_node(node, &signals)));
        let plugin = self.install_network_plugin(signals.table.subscribe());
        try_join(nodes, plugin).await?;
        Ok(())
    }

    async fn form_node(&self, node: &NodePlan, signals: &Signals) -> Result<(), Failure> {
        let subject = Subject::Node(node.spec.name.clone());
        let leads = node.spec.kind == Kind::ControlPlane;
        // The control plane's steps bound these waits; when they fail, they are dropped.
        let _place = if self.plan.start.control_plane_first && !leads {
            let _ = signals.led.subscribe().wait_for(|led| *led).await;
            signals.places.acquire().await.ok()
        } else {
            None
        };
        self.boot_node(node, &subject).await?;
        self.configure(node, &subject).await?;
        let client = self.secure_api(node, &subject).await?;
        if leads {
            let table = self.found_kubernetes(&client, &subject).await?;
            signals.table.send_replace(Some(table));
        }
        let table = match signals.table.subscribe().wait_for(Option::is_some).await {
            Ok(table) => table.clone(),
            Err(_) => None,
        };
        if let Some(table) = table {
            self.ready(node, &subject, client, table).await?;
        }
        if leads {
            signals.led.send_replace(true);
        }
        Ok(())
    }

    async fn boot_node(&self, node: &NodePlan, subject: &Subject) -> Result<(), Failure> {
        self.step(subject, Step::Prepare, |_| async { self.boot(node).await.map(drop) }).await?;
        self.kill_if_asked(node, Step::Boot);
        self.step(
            subject,
            Step::Boot,
            |seen| async move { self.console_line(node, FIRST_PROCESS, &seen).await },
        )
        .await?;
        self.kill_if_asked(node, Step::Maintenance);
        self.step(subject, Step::Maintenance, |seen| async move {
            self.console_line(node, REACHABLE, &seen).await
        })
        .await
    }

    async fn console_line(&self, node: &NodePlan, text: &str, seen: &LastSeen) -> Result<(), Cause> {
        seen.set(format!("no line \"{text}\" on the console"));
        match self.machine(&node.spec.name) {
            Some(machine) => machine.wait_console(text).await.map(drop).map_err(Cause::from),
            None => Ok(()),
        }
    }

    async fn configure(&self, node: &NodePlan, subject: &Subject) -> Result<(), Failure> {
        if self.has_fault(&node.spec.name, |fault| matches!(fault, Fault::NoConfig { .. })) {
            return Ok(());
        }
        self.kill_if_asked(node, Step::ApplyConfig);
        self.step(subject, Step::ApplyConfig, |seen| async move {
            let yaml = node.config.to_yaml().map_err(|error| Cause::File {
                action: "write the machine config".into(),
                source: std::io::Error::other(error),
            })?;
            let via = self.machine_api(&node.spec.name).ok_or_else(|| no_forward(node))?;
            retry(&seen, || async {
                let client = MaintenanceClient::connect(via, node.address.into()).await?;
                client.apply_configuration(&yaml, ApplyMode::Auto, false, self.plan.budgets.call).await
            })
            .await
            .map(drop)
        })
        .await
    }

    pub(super) async fn secure_api(&self, node: &NodePlan, subject: &Subject) -> Result<NodeClient, Failure> {
        self.kill_if_asked(node, Step::SecureApi);
        self.step(subject, Step::SecureApi, |seen| async move {
            loop {
                match self.connect(node).await {
                    Ok(client) => return Ok(client),
                    // Until the config has taken effect, the self-signed maintenance certificate
                    // is still shown; so a lack of trust may pass.
                    Err(error @ (ApiError::Tls { .. } | ApiError::Unreachable { .. })) => seen.set(error),
                    Err(error) => return Err(error.into()),
                }
                tokio::time::sleep(RETRY).await;
            }
        })
        .await
    }

    /// On the control plane: etcd, kubeconfig, API server, and the watch over its nodes.
    async fn found_kubernetes(&self, client: &NodeClient, subject: &Subject) -> Result<NodeTable, Failure> {
        let call = self.plan.budgets.call;
        self.step(subject, Step::Bootstrap, |seen| async move {
            match retry(&seen, || client.bootstrap(call)).await {
                Err(Cause::Api(ApiError::AlreadyExists { .. })) => Ok(()),
                other => other,
            }
        })
        .await?;
        let kubeconfig = self
            .step(subject, Step::Kubeconfig, |seen| async move {
                let text = retry(&seen, || client.kubeconfig(call)).await?;
                let via = self.kubernetes_api().ok_or_else(|| no_forward_to("the API server"))?;
                let address = self
                    .plan
                    .control_plane()
                    .map(|node| node.address)
                    .ok_or_else(|| no_forward_to("the API server"))?;
                Ok(forwarded_kubeconfig(&text, via, IpAddr::from(address))?)
            })
            .await?;
        let api = self
            .step(subject, Step::KubernetesApi, |seen| async {
                let seen = seen;
                let api = KubernetesApi::new(&kubeconfig).await?;
                while let Err(reason) = api.ready().await {
                    seen.set(reason);
                    tokio::time::sleep(RETRY).await;
                }
                Ok(api)
            })
            .await?;
        let table = NodeTable::watch(&api, &self.host.recorder);
        let _ = self.kubernetes_events.set(record_kubernetes_events(&api, self.host.recorder.clone()));
        // Formation happens once in the life of a cluster, so both are still empty.
        let _ = self.kubeconfig.set(kubeconfig);
        let _ = self.kubernetes.set(api);
        Ok(table)
    }

    /// Cuts a node's power, as its plug would, and waits until it is green on all layers again by
    /// reports of its new life.
    ///
    /// # Errors
    /// When it does not come back within the budgets of the steps it goes through.
    pub async fn power_cycle(&self, node: &NodePlan) -> Result<(), Failure> {
        let subject = Subject::Node(node.spec.name.clone());
        self.step(&subject, Step::Boot, |seen| async move {
            if let Some(machine) = self.machine(&node.spec.name) {
                if self.has_fault(&node.spec.name, |fault| matches!(fault, Fault::LostDisk { .. })) {
                    machine.pause().await?;
                    self.make_disk_of(node)?;
                    machine.power_cycle().await?;
                    machine.resume().await?;
                } else {
                    machine.power_cycle().await?;
                }
            }
            self.console_line(node, FIRST_PROCESS, &seen).await
        })
        .await?;
        let client = tokio::select! {
            client = self.secure_api(node, &subject) => client?,
            failure = self.forgotten(node, &subject) => return Err(failure),
        };
        let Some(api) = self.kubernetes.get() else {
            return Ok(());
        };
        // A watch of its own: it begins with what the API server knows now.
        self.ready(node, &subject, client, NodeTable::watch(api, &self.host.recorder)).await
    }

    /// The end of a node's way back when it shows up in maintenance mode.
    async fn forgotten(&self, node: &NodePlan, subject: &Subject) -> Failure {
        // Any other end of this wait is one of the steps beside it as well, which tell it better.
        if self.console_line(node, REACHABLE, &LastSeen::default()).await.is_err() {
            std::future::pending::<()>().await;
        }
        self.failure(subject, Step::SecureApi, Cause::Forgotten).await
    }

    pub(super) async fn ready(
        &self,
        node: &NodePlan,
        subject: &Subject,
        client: NodeClient,
        table: NodeTable,
    ) -> Result<(), Failure> {
        self.kill_if_asked(node, Step::Ready);
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

    /// All layers green, a late document applied on the way when a service waits for one.
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

    /// Waits until all three layers of a formed cluster's node are green.
    ///
    /// # Errors
    /// When they are not within the budget of the step `ready`.
    pub async fn wait_green(&self, node: &NodePlan) -> Result<(), Failure> {
        let subject = Subject::Node(node.spec.name.clone());
        let client = self.secure_api(node, &subject).await?;
        let Some(api) = self.kubernetes.get() else {
            return Ok(());
        };
        self.ready(node, &subject, client, NodeTable::watch(api, &self.host.recorder)).await
    }

    pub(super) fn note(&self, node: &NodePlan, text: String) {
        let subject = Subject::Node(node.spec.name.clone());
        self.host.recorder.record(Happening::Note { subject, text });
    }

    fn has_fault(&self, node: &NodeName, wanted: impl Fn(&Fault) -> bool) -> bool {
        self.plan.faults.iter().any(|fault| fault.node() == node && wanted(fault))
    }

    /// The fault "QEMU is killed at this step".
    fn kill_if_asked(&self, node: &NodePlan, step: Step) {
        if self.has_fault(&node.spec.name, |fault| matches!(fault, Fault::KillQemu { at, .. } if *at == step))
            && let Some(machine) = self.machine(&node.spec.name)
        {
            machine.kill();
        }
    }
}

/// Tries `call` until it succeeds or fails for good; the step around it bounds the tries.
async fn retry<T, F>(seen: &LastSeen, mut call: impl FnMut() -> F) -> Result<T, Cause>
where
    F: Future<Output = Result<T, ApiError>>,
{
    loop {
        match call().await {
            Ok(value) => return Ok(value),
            Err(error) if error.is_transient() => seen.set(error),
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(RETRY).await;
    }
}

fn no_forward(node: &NodePlan) -> Cause {
    no_forward_to(node.spec.name.as_str())
}

pub(super) fn no_forward_to(what: &str) -> Cause {
    Cause::File {
        action: format!("reach {what}"),
        source: std::io::Error::other("its port is not forwarded"),
    }
}
