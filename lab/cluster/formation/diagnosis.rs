//! Diagnoses a node that is late or will never join: summarizes its API and logs in one sentence.

use std::{collections::HashSet, sync::OnceLock, time::Duration};

use lab_model::{events::TurnedAway, node::NodeName, redact};
use lab_plan::cluster::NodePlan;

use super::{
    cluster::Cluster,
    container_runs::{STATIC_PODS, containers},
    failure::Cause,
};
use crate::{
    formation::NodeTable,
    kubernetes::{KubernetesApi, NodeFacts, NodeReadiness, SystemPods, unready_static_pod},
    machine_api::{MaintenanceClient, NodeClient, Resource, Stage, VolumeStatus},
    wait::Wait,
};

/// Time limit for each request; the node may be unhealthy.
const PATIENCE: Duration = Duration::from_secs(10);

/// Number of rejections after which waiting does not help. Kubelet requests its certificate again after 2,
/// 4, 8 s and so on (client-go, `util/certificate`).
const TURNED_AWAY: usize = 2;
/// Time limit for the API server to report that it is ready; otherwise its rejections do not count.
const AT_EASE: Duration = Duration::from_secs(2);
/// Polling interval for the log of a node that has not registered.
const LOOK_AGAIN: Duration = Duration::from_secs(3);

/// A line in a service's log and its meaning.
#[derive(Debug, PartialEq, Eq)]
struct Symptom {
    service: &'static str,
    all_of: &'static [&'static str],
    finding: &'static str,
    /// The part of the node that the cluster rejects, if the rejection is permanent.
    turned_away: Option<TurnedAway>,
}

/// The diagnosis of a late node.
#[derive(Default)]
pub(super) struct Diagnosis {
    /// One sentence each.
    pub(super) findings: Vec<String>,
    /// The part of the node that the cluster rejects.
    pub(super) turned_away: Option<TurnedAway>,
}

/// The name of the serial console in [`SYMPTOMS`].
const CONSOLE: &str = "console";
/// Number of console lines to search.
const CONSOLE_LINES: usize = 500;

/// The finding for a rejected machine token.
const FOREIGN_MACHINE_TOKEN: &str = "the control plane's trustd does not accept the node's token: machine.token of its \
                                     config is not this cluster's";

const SYMPTOMS: &[Symptom] = &[
    Symptom {
        service: "kubelet",
        all_of: &["certificate signing request", "Unauthorized"],
        finding: "the API server does not accept the node's bootstrap token: cluster.token of its machine \
                  config is not this cluster's",
        turned_away: Some(TurnedAway::BootstrapToken),
    },
    // Until it has its certificate, kubelet sends all other requests as anonymous: a rejection of those says
    // nothing about its token.
    Symptom {
        service: "kubelet",
        all_of: &["Unauthorized"],
        finding: "kubelet has no certificate of the cluster: look at the node's certificate signing request and at \
                  kube-controller-manager, which signs it",
        turned_away: None,
    },
    Symptom {
        service: "kubelet",
        all_of: &["certificate signed by unknown authority"],
        finding: "kubelet does not trust the API server: cluster.ca of the node's machine config is another \
                  cluster's",
        turned_away: Some(TurnedAway::ClusterCa),
    },
    Symptom {
        service: "apid",
        all_of: &["trustd", "nauthenticated"],
        finding: FOREIGN_MACHINE_TOKEN,
        turned_away: Some(TurnedAway::MachineToken),
    },
    // Since Talos 1.13, a worker without a certificate has no API, so no log can be read from it
    // (secrets.APIController).
    Symptom {
        service: CONSOLE,
        all_of: &["failed to sign API server CSR", "nauthenticated"],
        finding: FOREIGN_MACHINE_TOKEN,
        turned_away: Some(TurnedAway::MachineToken),
    },
];

/// The reason of the condition Ready of a node when its kubelet no longer reports (Kubernetes,
/// pkg/controller/nodelifecycle).
const STATUS_UNKNOWN: &str = "NodeStatusUnknown";

/// The type of the resources of volumes.
const VOLUMES: &str = "VolumeStatuses.block.talos.dev";

/// The finding for a node without a network plugin.
const NO_NETWORK_PLUGIN: &str = "no network plugin is installed: give its manifests as cluster.cni.manifests, or \
                                 take cni: none out of the machine config";

/// The finding for a node whose network plugin the control plane has not applied.
const PLUGIN_NOT_APPLIED: &str = "the network plugin of the machine config has no DaemonSet yet: the control plane \
                                  applies it when its API server works; see the log of controller-runtime there";

impl Symptom {
    fn is_in(&self, line: &str) -> bool {
        self.all_of.iter().all(|word| line.contains(word))
    }
}

impl Cluster {
    /// Resolves when Kubernetes permanently rejects a node's kubelet: the control plane's own node joined
    /// the same way, and this node was rejected repeatedly after that. An earlier rejection
    /// may be temporary, because the API server receives the bootstrap token only after its start.
    pub(super) async fn turned_away(
        &self,
        node: &NodePlan,
        client: NodeClient,
        mut table: NodeTable,
    ) -> Cause {
        table.ready(&self.plan.control_plane().spec.name).await;
        let (mut registered, before) = (table.clone(), OnceLock::new());
        let look = async || turned_away(&client, table.api(), &before).await.ok_or("not turned away");
        let wait = Wait::without_limit().every(LOOK_AGAIN);
        tokio::select! {
            Ok(cause) = wait.retry(look) => cause,
            () = registered.registered(&node.spec.name) => std::future::pending().await,
        }
    }

    /// Diagnoses a late node.
    pub(super) async fn diagnose(&self, name: &NodeName) -> Diagnosis {
        let node = match self.node(name) {
            Ok(node) => node.plan(),
            Err(error) => return Diagnosis { findings: vec![error.to_string()], turned_away: None },
        };
        let said = self.ask_kubernetes(name).await;
        // A kubelet that reports has joined; rejections in its log are older.
        let reports = said.facts().is_some_and(|facts| facts.readiness.reason != STATUS_UNKNOWN);
        let logs: &[_] = if reports { &["apid"] } else { &["kubelet", "apid"] };
        let mut diagnosis = match tokio::time::timeout(PATIENCE, self.connect(node)).await {
            Ok(Ok(client)) => {
                let mut diagnosis = ask_configured(&client, logs).await;
                if matches!(said, Said::NotAsked | Said::NoAnswer) {
                    diagnosis.findings.extend(system_pods_without_api(&client).await);
                }
                diagnosis
            }
            _ => self.ask_unreachable(node).await,
        };
        if said.facts().is_some_and(|facts| lacks_network_plugin(&facts.readiness)) {
            let findings = self.why_no_network_plugin(node).await;
            diagnosis.findings.splice(0..0, findings);
        } else {
            diagnosis.findings.extend(self.system_pods().await.crashing());
        }
        diagnosis
    }

    /// Explains why a node lacks its network plugin.
    async fn why_no_network_plugin(&self, node: &NodePlan) -> Vec<String> {
        let system = self.system_pods().await;
        match system.network_plugin_on(node.spec.name.as_str()) {
            Some(findings) => findings,
            None => {
                let control_plane = &self.plan.control_plane().config;
                let none = control_plane.text_at(&["cluster", "network", "cni", "name"]) == Some("none");
                let mut findings = vec![if none { NO_NETWORK_PLUGIN } else { PLUGIN_NOT_APPLIED }.to_owned()];
                findings.extend(system.crashing());
                findings
            }
        }
    }

    /// Returns the pods of the system, or none if the API server does not answer.
    pub(super) async fn system_pods(&self) -> SystemPods {
        let formation = self.formation();
        let Ok(api) = formation.kubernetes() else { return SystemPods::default() };
        api.system_pods(PATIENCE).await.unwrap_or_default()
    }

    async fn ask_kubernetes(&self, name: &NodeName) -> Said {
        let formation = self.formation();
        let Ok(api) = formation.kubernetes() else { return Said::NotAsked };
        match tokio::time::timeout(PATIENCE, api.node(name.as_str())).await {
            Ok(Ok(Some(facts))) => Said::Facts(Box::new(facts)),
            Ok(Ok(None)) => Said::NotRegistered,
            Ok(Err(_)) | Err(_) => Said::NoAnswer,
        }
    }

    /// Diagnoses a node without an authenticated API: by its console, and by its API in maintenance mode.
    async fn ask_unreachable(&self, node: &NodePlan) -> Diagnosis {
        let console = self.machine(&node.spec.name).map(|machine| machine.console_tail(CONSOLE_LINES));
        match console.and_then(|lines| symptom_of(CONSOLE, &lines.join("\n"))) {
            Some(symptom) => {
                Diagnosis { findings: vec![symptom.finding.to_owned()], turned_away: symptom.turned_away }
            }
            None => Diagnosis { findings: self.ask_maintenance(node).await, turned_away: None },
        }
    }

    async fn ask_maintenance(&self, node: &NodePlan) -> Vec<String> {
        let via = match self.machine_api(&node.spec.name) {
            Ok(via) => via,
            Err(error) => return vec![error.to_string()],
        };
        let ask = async {
            let client = MaintenanceClient::connect(via, node.address.into()).await.ok()?;
            client.machine_status(PATIENCE).await.ok()
        };
        match tokio::time::timeout(PATIENCE, ask).await {
            Ok(Some(status)) if status.stage == Stage::Maintenance => {
                vec!["the node is still in maintenance mode: it has never got a machine config".into()]
            }
            _ => Vec::new(),
        }
    }
}

/// The status of a late node in Kubernetes.
enum Said {
    /// There is no API server to query; the step that waits for it reports the reason.
    NotAsked,
    NoAnswer,
    NotRegistered,
    Facts(Box<NodeFacts>),
}

impl Said {
    fn facts(&self) -> Option<&NodeFacts> {
        match self {
            Self::Facts(facts) => Some(facts),
            Self::NotAsked | Self::NoAnswer | Self::NotRegistered => None,
        }
    }
}

/// Whether a healthy API server has rejected a node's kubelet repeatedly since the first look.
async fn turned_away(
    client: &NodeClient,
    api: &KubernetesApi,
    before: &OnceLock<HashSet<String>>,
) -> Option<Cause> {
    let log = client.logs("kubelet", 200, PATIENCE).await.ok()?;
    let before = before.get_or_init(|| log.lines().map(str::to_owned).collect());
    let (symptom, times) = symptom("kubelet", &log, before)?;
    let what = symptom.turned_away?;
    let stands = times >= TURNED_AWAY && is_at_ease(api).await;
    stands.then_some(Cause::TurnedAway { what, finding: symptom.finding, times })
}

/// Whether the API server reports at once that it is ready.
async fn is_at_ease(api: &KubernetesApi) -> bool {
    matches!(tokio::time::timeout(AT_EASE, api.ready()).await, Ok(Ok(())))
}

async fn ask_configured(client: &NodeClient, logs: &[&str]) -> Diagnosis {
    let Diagnosis { mut findings, mut turned_away } = Diagnosis::default();
    for service in logs {
        let Ok(log) = client.logs(service, 200, PATIENCE).await else {
            continue;
        };
        if let Some(symptom) = symptom_of(service, &log) {
            findings.push(symptom.finding.to_owned());
            turned_away = turned_away.or(symptom.turned_away);
        }
    }
    if let Ok(volumes) = client.list("runtime", VOLUMES, PATIENCE).await {
        findings.extend(volumes.iter().filter_map(failed_volume));
    }
    if let Ok(services) = client.services(PATIENCE).await {
        findings.extend(
            services
                .iter()
                .filter(|service| !service.is_up())
                .map(|service| format!("service {} is {}: {}", service.id, service.state, service.message)),
        );
    }
    Diagnosis { findings, turned_away }
}

/// Sentences about the pods of the system on a node, without the API server: what kubelet says of static pods that are not
/// ready, and how the last run of each container ended. kubelet tells nothing while the API server does not authorize the
/// question (Talos v1.13.9 then has no static pods in its resources), and the logs are there all the same.
async fn system_pods_without_api(client: &NodeClient) -> Vec<String> {
    let pods = client.list("k8s", STATIC_PODS, PATIENCE).await.unwrap_or_default();
    let unready = pods.into_iter().filter_map(|pod| unready_static_pod(&pod.id, pod.spec).ok()?);
    let mut findings: Vec<_> = unready.collect();
    for container in containers(client.system_pod_runs(PATIENCE).await.unwrap_or_default()) {
        if let Some(last) = client.last_message(container.telling(), PATIENCE).await {
            findings.push(container.line(Some(&last)));
        }
    }
    findings
}

/// A sentence about a volume that cannot be used. Otherwise only the console tells it.
fn failed_volume(resource: &Resource) -> Option<String> {
    let volume = resource.view::<VolumeStatus>().ok().filter(VolumeStatus::has_failed)?;
    Some(format!("the volume {} has failed: {}", resource.id, redact(&volume.error_message)))
}

/// The first symptom in a log.
fn symptom_of(service: &str, log: &str) -> Option<&'static Symptom> {
    symptom(service, log, &HashSet::new()).map(|(symptom, _)| symptom)
}

/// The first symptom in the new lines of a log (not in `before`), and the number of lines that show it.
fn symptom(service: &str, log: &str, before: &HashSet<String>) -> Option<(&'static Symptom, usize)> {
    let lines: Vec<_> = log.lines().filter(|line| !before.contains(*line)).collect();
    SYMPTOMS
        .iter()
        .filter(|symptom| symptom.service == service)
        .map(|symptom| (symptom, lines.iter().filter(|line| symptom.is_in(line)).count()))
        .find(|(_, times)| *times > 0)
}

/// The start of kubelet's message when containerd has found no CNI configuration; other problems would
/// precede it in a list (pkg/kubelet/nodestatus/setters.go, `ReadyCondition`).
const NOT_READY: &str =
    "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady";

/// Whether a node lacks only a network plugin.
pub(super) fn lacks_network_plugin(readiness: &NodeReadiness) -> bool {
    !readiness.ready && readiness.message.starts_with(NOT_READY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_volume_is_a_finding_and_a_ready_one_is_none() {
        let volume = |spec: serde_json::Value| Resource {
            namespace: "runtime".into(),
            kind: VOLUMES.into(),
            id: "EPHEMERAL".into(),
            spec,
        };
        let failed =
            volume(serde_json::json!({ "phase": "failed", "errorMessage": "mkfs.xfs: exit status 1" }));
        let finding = "the volume EPHEMERAL has failed: mkfs.xfs: exit status 1";
        assert_eq!(failed_volume(&failed).as_deref(), Some(finding));
        assert_eq!(failed_volume(&volume(serde_json::json!({ "phase": "ready" }))), None);
    }

    #[test]
    fn only_the_missing_plugin_counts() {
        let says = |ready, message: &str| NodeReadiness {
            ready,
            reason: "KubeletNotReady".into(),
            message: message.into(),
        };
        let missing = "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady \
                       message:Network plugin returns error: cni plugin not initialized";
        assert!(lacks_network_plugin(&says(false, missing)));
        assert!(!lacks_network_plugin(&says(true, missing)));
        let more = format!("[container runtime status check may not have completed yet, {missing}]");
        assert!(!lacks_network_plugin(&says(false, &more)));
        assert!(!lacks_network_plugin(&says(false, "kubelet has not reported the condition Ready yet")));
    }

    #[test]
    fn only_refusals_after_the_first_look_are_counted() {
        let line = |second: u32| {
            format!("E1121 10:00:{second:02} cannot create certificate signing request: Unauthorized\n")
        };
        let first: String = (0..4).map(line).collect();
        let before = first.lines().map(str::to_owned).collect();
        assert_eq!(symptom("kubelet", &first, &before), None);
        let later: String = (0..6).map(line).collect();
        assert_eq!(symptom("kubelet", &later, &before).map(|(_, times)| times), Some(2));
    }

    #[test]
    fn a_kubelet_that_waits_for_its_certificate_is_not_turned_away() {
        let log = "E1 \"Failed to watch\" err=\"failed to list *v1.Node: Unauthorized\"\n\
                   E1 \"Failed to ensure lease exists, will retry\" err=\"Unauthorized\"\n";
        let (symptom, times) = symptom("kubelet", log, &HashSet::new()).expect("a symptom");
        assert!(symptom.turned_away.is_none() && times == 2);
        assert!(symptom.finding.contains("signing request"));
    }

    #[test]
    fn a_refused_machine_token_is_recognised_on_the_console() {
        let line = "[talos] controller failed {\"component\": \"controller-runtime\", \"controller\": \"secrets.APIController\", \
                    \"error\": \"failed to sign API server CSR: rpc error: code = Unauthenticated desc = invalid token\"}";
        let symptom = symptom_of(CONSOLE, line).expect("symptom");
        assert_eq!(symptom.turned_away, Some(TurnedAway::MachineToken));
        assert_eq!(symptom_of(CONSOLE, "failed to sign API server CSR: connection refused"), None);
    }

    #[test]
    fn a_refused_bootstrap_token_is_recognised() {
        let log = "I1 start\nE1 \"Failed to run kubelet\" err=\"failed to run Kubelet: cannot create certificate signing request: Unauthorized\"\n";
        let symptom = symptom_of("kubelet", log).expect("symptom");
        assert_eq!(symptom.turned_away, Some(TurnedAway::BootstrapToken));
        assert!(symptom.finding.contains("cluster.token"), "{symptom:?}");
        assert_eq!(symptom_of("apid", log), None);
        assert_eq!(symptom_of("kubelet", "all is well"), None);
    }
}
