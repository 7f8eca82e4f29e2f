//! The three readiness layers of a node, observed separately.

use std::time::{Duration, Instant};

use futures::{Stream, StreamExt, stream::BoxStream};
use lab_model::{
    events::{EventKind, Layer, LayerState},
    node::NodeName,
};
use lab_plan::cluster::NodePlan;

use super::{
    cluster::Cluster,
    failure::Cause,
    final_service::{FILE_PATIENCE, FinalServices},
    hold::Hold,
    node_table::NodeTable,
    steps::LastSeen,
};
use crate::{
    kubernetes::NodeFacts,
    machine_api::{ApiError, MachineStatus, NodeClient, ServiceState, Stage},
};

/// Interval between two service lists while a node is not green. ServiceList has no watch.
const LOOK_AGAIN: Duration = Duration::from_millis(1500);

/// The successful result of a wait for a node's layers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    /// All three layers are green.
    Green,
    /// The node waits only for a document that is not applied yet.
    Held(Hold),
}

/// The state of a node's layers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Layers {
    boot_sequence: Standing,
    services: Standing,
    kubernetes: Standing,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Standing {
    green: bool,
    detail: String,
}

impl Layers {
    fn all_green(&self) -> bool {
        self.boot_sequence.green && self.services.green && self.kubernetes.green
    }

    fn each(&self) -> [(Layer, &Standing); 3] {
        [
            (Layer::BootSequence, &self.boot_sequence),
            (Layer::Services, &self.services),
            (Layer::KubernetesNode, &self.kubernetes),
        ]
    }

    /// Describes the layers that are not green.
    fn waiting(&self) -> String {
        let waiting: Vec<_> = self
            .each()
            .into_iter()
            .filter(|(_, standing)| !standing.green)
            .map(|(layer, standing)| format!("{}: {}", layer.label(), standing.detail))
            .collect();
        waiting.join("; ")
    }
}

fn of_machine(status: &MachineStatus) -> Standing {
    let green = status.stage == Stage::Running && status.status.ready;
    let mut detail = format!("stage {}", format!("{:?}", status.stage).to_lowercase());
    for condition in status.status.unmet_conditions.iter().flatten() {
        detail.push_str(&format!(", {} ({})", condition.name, condition.reason));
    }
    Standing { green, detail }
}

fn of_services(services: &[ServiceState]) -> Standing {
    let waiting: Vec<_> = services
        .iter()
        .filter(|service| !service.is_up())
        .map(|service| format!("{} is {} ({})", service.id, service.state, service.message))
        .collect();
    if services.is_empty() {
        Standing { green: false, detail: "no service is known yet".into() }
    } else if waiting.is_empty() {
        Standing { green: true, detail: format!("{} up", services.len()) }
    } else {
        Standing { green: false, detail: waiting.join(", ") }
    }
}

fn of_kubernetes(facts: Option<&NodeFacts>) -> Standing {
    match facts {
        None => Standing { green: false, detail: "the node has not registered".into() },
        Some(facts) if facts.readiness.ready => Standing { green: true, detail: "Ready".into() },
        Some(facts) => Standing {
            green: false,
            detail: format!("{}: {}", facts.readiness.reason, facts.readiness.message),
        },
    }
}

impl Cluster {
    /// Waits until all three layers of `node` are green at the same time, or until only the document of an
    /// extension service is missing. Records each change. A hold counts only after `hold_after`, because a
    /// node needs time to process a new document.
    pub(super) async fn three_layers(
        &self,
        node: &NodePlan,
        mut client: NodeClient,
        mut table: NodeTable,
        hold_after: Duration,
        seen: &LastSeen,
    ) -> Result<Readiness, Cause> {
        let name = &node.spec.name;
        let began = Instant::now();
        let mut layers = Layers::default();
        let (mut last_status, mut last_services) = (None, Vec::new());
        let mut finals = FinalServices::default();
        let (mut machine, mut lost) = (self.machine_statuses(&client).await, false);
        let mut look = tokio::time::interval(LOOK_AGAIN);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let before = layers.clone();
            layers.kubernetes = of_kubernetes(table.look(name).as_ref());
            self.report_changes(name, &before, &layers);
            seen.set(layers.waiting());
            if layers.all_green() {
                return Ok(Readiness::Green);
            }
            if layers.kubernetes.green
                && began.elapsed() >= hold_after
                && let Some(status) = &last_status
                && let Some(hold) = Hold::find(status, &last_services, true, self.plan.boot_timeout())
            {
                return Ok(Readiness::Held(hold));
            }
            let before = layers.clone();
            tokio::select! {
                () = table.changed() => {}
                status = machine.next() => match status {
                    Some(Ok(status)) => {
                        layers.boot_sequence = of_machine(&status);
                        last_status = Some(status);
                        (layers.services, last_services) = self.services(&client).await;
                    }
                    Some(Err(_)) | None => {
                        layers.boot_sequence = Standing { green: false, detail: "the machine API does not answer".into() };
                        (machine, lost) = (futures::stream::pending().boxed(), true);
                        look.reset();
                    }
                },
                _ = look.tick(), if lost || !layers.services.green => {
                    if lost {
                        if let Ok(fresh) = self.connect(node).await {
                            client = fresh;
                        }
                        (machine, lost) = (self.machine_statuses(&client).await, false);
                    } else {
                        (layers.services, last_services) = self.services(&client).await;
                    }
                }
            }
            self.report_changes(name, &before, &layers);
            if let Some(service) = finals.look(&last_services, Instant::now()) {
                return Err(Cause::Service(service.with_log(&client).await));
            }
            let patience = self.plan.budgets.on_this_host(FILE_PATIENCE);
            if layers.kubernetes.green
                && let Some(service) = finals.look_for_file(&last_services, patience, Instant::now())
            {
                return Err(Cause::Service(service));
            }
        }
    }

    async fn services(&self, client: &NodeClient) -> (Standing, Vec<ServiceState>) {
        match client.services(self.plan.budgets.call).await {
            Ok(services) => (of_services(&services), services),
            Err(error) => (Standing { green: false, detail: error.to_string() }, Vec::new()),
        }
    }

    async fn machine_statuses(
        &self,
        client: &NodeClient,
    ) -> BoxStream<'static, Result<MachineStatus, ApiError>> {
        let watched =
            client.watch("runtime", "MachineStatuses.runtime.talos.dev", self.plan.budgets.call).await;
        match watched {
            Ok(stream) => statuses(stream).boxed(),
            Err(error) => futures::stream::iter([Err(error)]).boxed(),
        }
    }

    fn report_changes(&self, node: &NodeName, before: &Layers, after: &Layers) {
        for ((layer, old), (_, new)) in before.each().into_iter().zip(after.each()) {
            if old != new {
                self.host.recorder.record(EventKind::LayerChanged {
                    node: node.clone(),
                    layer,
                    state: if new.green { LayerState::Green } else { LayerState::Waiting },
                    detail: new.detail.clone(),
                });
            }
        }
    }
}

fn statuses(
    stream: impl Stream<Item = Result<crate::machine_api::Resource, ApiError>> + Send + 'static,
) -> impl Stream<Item = Result<MachineStatus, ApiError>> + Send + 'static {
    stream.filter_map(|resource| async {
        match resource {
            // The bookmark at the end of the bootstrap contains no spec.
            Ok(resource) => resource.view().ok().map(Ok),
            Err(error) => Some(Err(error)),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine_api::ServiceHealth;

    fn service(id: &str, state: &str, health: ServiceHealth) -> ServiceState {
        ServiceState {
            id: id.into(),
            state: state.into(),
            health,
            message: "why".into(),
            restarts: 0,
            keeps_restarting: false,
            last_end: String::new(),
        }
    }

    #[test]
    fn services_name_what_they_wait_for() {
        let standing = of_services(&[
            service("kubelet", "Running", ServiceHealth::Healthy),
            service("ext-tailscale", "Waiting", ServiceHealth::Unknown),
        ]);
        assert_eq!(standing, Standing { green: false, detail: "ext-tailscale is Waiting (why)".into() });
        assert!(!of_services(&[service("etcd", "Running", ServiceHealth::Unhealthy)]).green);
        assert!(!of_services(&[]).green);
    }

    #[test]
    fn a_booting_machine_is_not_green_though_it_calls_itself_ready() {
        let status: MachineStatus =
            serde_json::from_value(serde_json::json!({ "stage": "booting", "status": { "ready": true } }))
                .expect("status");
        assert!(!of_machine(&status).green);
    }

    #[test]
    fn a_node_that_has_not_registered_is_not_green() {
        assert!(!of_kubernetes(None).green);
    }
}
