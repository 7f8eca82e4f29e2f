//! The pods of Kubernetes itself and of the network plugin: which of them do not run, and why.

use std::{collections::BTreeSet, time::Duration};

use super::{
    access::{KubernetesApi, KubernetesError, answered},
    pod::{containers, is_ready, last_end, node_of, restarts, state, target_of},
};
use k8s_openapi::api::{
    apps::v1::DaemonSet,
    core::v1::{ContainerStatus, Pod},
};
use kube::{Api, ResourceExt, api::ListParams};

/// The components whose back-off holds up all others: without the scheduler no pod gets a node, and without the
/// controller manager no DaemonSet gets a pod and no node its certificate.
pub(super) const CONTROLLERS: [&str; 2] = ["kube-scheduler", "kube-controller-manager"];
const KUBE_PROXY: &str = "kube-proxy";
/// The directories of the network plugins' configurations and programs on a node (CNI specification).
const CNI: [&str; 2] = ["/etc/cni", "/opt/cni"];

/// The pods and DaemonSets of the system namespaces.
#[derive(Clone, Debug, Default)]
pub struct SystemPods {
    pods: Vec<Pod>,
    daemon_sets: Vec<DaemonSet>,
}

/// Whether a namespace has a name by which Kubernetes and its distributions mark their own.
pub(crate) fn is_system_namespace(name: &str) -> bool {
    name.starts_with("kube-") || name.ends_with("-system")
}

/// Whether an object is in such a namespace.
pub(super) fn is_system(namespace: Option<&String>) -> bool {
    namespace.is_some_and(|name| is_system_namespace(name))
}

impl KubernetesApi {
    /// Lists the pods and DaemonSets of the system namespaces.
    ///
    /// # Errors
    /// When the API server does not answer within `limit`.
    pub async fn system_pods(&self, limit: Duration) -> Result<SystemPods, KubernetesError> {
        let (pods, sets) = (Api::<Pod>::all(self.client()), Api::<DaemonSet>::all(self.client()));
        let every = ListParams::default();
        let listed = async { tokio::try_join!(pods.list(&every), sets.list(&every)) };
        let (pods, sets) = answered("list the pods of the system".into(), limit, listed).await?;
        Ok(SystemPods::of(pods.items, sets.items))
    }
}

impl SystemPods {
    /// Selects the pods and DaemonSets of the system namespaces.
    pub fn of(pods: Vec<Pod>, daemon_sets: Vec<DaemonSet>) -> Self {
        let pods = pods.into_iter().filter(|pod| is_system(pod.metadata.namespace.as_ref())).collect();
        let system = |set: &DaemonSet| is_system(set.metadata.namespace.as_ref());
        Self { pods, daemon_sets: daemon_sets.into_iter().filter(system).collect() }
    }

    /// Returns a sentence for each pod in back-off after crashes, those of [`CONTROLLERS`] first.
    pub fn crashing(&self) -> Vec<String> {
        let mut found: Vec<_> = self
            .pods
            .iter()
            .flat_map(|pod| containers(pod).filter_map(move |container| crash(pod, container)))
            .collect();
        found.sort_by_key(|(is_controller, _)| !is_controller);
        found.into_iter().map(|(_, sentence)| sentence).collect()
    }

    /// Returns a sentence for each pod of `node` in back-off after crashes.
    pub fn crashing_on(&self, node: &str) -> Vec<String> {
        let own = self.pods.iter().filter(|pod| node_of(pod) == Some(node)).cloned().collect();
        Self { pods: own, daemon_sets: Vec::new() }.crashing()
    }

    /// Returns what keeps the network plugin from running on `node`, and the controllers behind it. Returns
    /// `None` if the cluster has no network plugin with a DaemonSet.
    pub fn network_plugin_on(&self, node: &str) -> Option<Vec<String>> {
        let plugins: Vec<_> = self.daemon_sets.iter().filter(|set| is_network_plugin(set)).collect();
        if plugins.is_empty() {
            return None;
        }
        let mut findings: Vec<_> = plugins.iter().filter_map(|set| self.hold_of(set, node)).collect();
        if !findings.is_empty() {
            findings.extend(self.controllers());
        }
        Some(findings)
    }

    /// Returns a sentence for each DaemonSet of the pod network (kube-proxy and network plugins) whose pods
    /// are not all ready.
    pub fn incomplete(&self) -> Vec<String> {
        self.network_sets().filter_map(|set| self.incomplete_set(set)).collect()
    }

    /// Returns the ids of the containers of the pod network on `node`.
    pub fn network_containers_on(&self, node: &str) -> BTreeSet<String> {
        let pods = self.network_pods_on(node);
        pods.flat_map(containers).filter_map(|container| container.container_id.clone()).collect()
    }

    /// Returns a sentence for each pod of the pod network on `node` that is not ready, or whose containers are all among
    /// `before`, those of an earlier boot: after a power loss, Kubernetes reports the old state for some time.
    pub fn network_not_back_on(&self, node: &str, before: &BTreeSet<String>) -> Vec<String> {
        let is_old = |container: &ContainerStatus| {
            container.container_id.as_ref().is_none_or(|id| before.contains(id))
        };
        let waiting = self.network_pods_on(node).filter_map(|pod| {
            if !is_ready(pod) {
                Some(format!("{} {}", pod.name_any(), state(pod)))
            } else if containers(pod).all(is_old) {
                Some(format!("{} has not started again", pod.name_any()))
            } else {
                None
            }
        });
        waiting.collect()
    }

    fn network_sets(&self) -> impl Iterator<Item = &DaemonSet> {
        self.daemon_sets.iter().filter(|set| set.name_any() == KUBE_PROXY || is_network_plugin(set))
    }

    fn network_pods_on(&self, node: &str) -> impl Iterator<Item = &Pod> {
        let of_network = |pod: &&Pod| self.network_sets().any(|set| belongs_to(pod, set));
        self.pods.iter().filter(of_network).filter(move |pod| target_of(pod) == node)
    }

    /// Returns a sentence for each pod that is not ready, of those with names that start with `prefix`.
    pub fn unready(&self, prefix: &str) -> Vec<String> {
        let pods = self.pods.iter().filter(|pod| pod.name_any().starts_with(prefix) && !is_ready(pod));
        pods.map(|pod| format!("{} {}", pod.name_any(), state(pod))).collect()
    }

    fn incomplete_set(&self, set: &DaemonSet) -> Option<String> {
        let status = set.status.clone().unwrap_or_default();
        let (ready, wanted) = (status.number_ready, status.desired_number_scheduled);
        // The controller manager sets the numbers when it has seen the object.
        if wanted > 0 && ready >= wanted {
            return None;
        }
        let pods = self.pods.iter().filter(|pod| belongs_to(pod, set) && !is_ready(pod));
        let mut states: Vec<_> = pods.map(|pod| format!("{}: {}", target_of(pod), state(pod))).collect();
        if states.is_empty() {
            states.push("the controller manager has not created its pods".to_owned());
        }
        Some(format!("{} is ready on {ready} of {wanted} nodes ({})", set.name_any(), states.join("; ")))
    }

    fn hold_of(&self, set: &DaemonSet, node: &str) -> Option<String> {
        let name = set.name_any();
        let mut pods = self.pods.iter().filter(|pod| belongs_to(pod, set) && target_of(pod) == node);
        let Some(pod) = pods.next() else {
            return Some(format!("the network plugin's DaemonSet {name} has no pod for {node} yet"));
        };
        if is_ready(pod) {
            return None;
        }
        Some(format!("the pod of the network plugin's DaemonSet {name} for {node} {}", state(pod)))
    }

    /// Returns a sentence for each scheduler and controller manager that is not ready.
    pub fn controllers_down(&self) -> Vec<String> {
        CONTROLLERS.iter().flat_map(|name| self.unready(name)).collect()
    }

    /// Returns a sentence for each controller that crashed or does not run.
    fn controllers(&self) -> Vec<String> {
        let is_controller = |pod: &&Pod| CONTROLLERS.iter().any(|name| pod.name_any().starts_with(name));
        let troubled =
            self.pods.iter().filter(is_controller).filter(|pod| !is_ready(pod) || restarts(pod) > 0);
        troubled
            .map(|pod| {
                let crash = containers(pod).find_map(|container| crash(pod, container));
                crash.map_or_else(|| describe(pod), |(_, sentence)| sentence)
            })
            .collect()
    }
}

fn describe(pod: &Pod) -> String {
    let last = containers(pod).find_map(last_end).map(|end| format!(", {end}")).unwrap_or_default();
    let now = if is_ready(pod) { "runs now".to_owned() } else { state(pod) };
    format!("{} was restarted {} times{last}; it {now}", pod.name_any(), restarts(pod))
}

/// Returns a sentence for a container in back-off, and whether it is a controller.
fn crash(pod: &Pod, container: &ContainerStatus) -> Option<(bool, String)> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    if waiting.reason.as_deref() != Some("CrashLoopBackOff") {
        return None;
    }
    let name = pod.name_any();
    let controller = CONTROLLERS.iter().find(|controller| name.starts_with(**controller));
    let consequence = match controller {
        Some(&"kube-scheduler") => "; until it runs, no pod gets a node",
        Some(_) => "; until it runs, no node joins and no DaemonSet gets a pod",
        None => "",
    };
    let end = last_end(container).map(|end| format!(", {end}")).unwrap_or_default();
    let place = node_of(pod).map(|node| format!(" on {node}")).unwrap_or_default();
    let times = container.restart_count;
    let sentence = format!("{name}{place} is in CrashLoopBackOff after {times} restarts{end}{consequence}");
    Some((controller.is_some(), sentence))
}

fn belongs_to(pod: &Pod, set: &DaemonSet) -> bool {
    let owners = pod.metadata.owner_references.iter().flatten();
    pod.metadata.namespace == set.metadata.namespace
        && owners
            .clone()
            .any(|owner| owner.kind == "DaemonSet" && Some(&owner.name) == set.metadata.name.as_ref())
}

fn is_network_plugin(set: &DaemonSet) -> bool {
    let spec = set.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    let volumes = spec.and_then(|spec| spec.volumes.as_ref()).into_iter().flatten();
    let mut paths = volumes.filter_map(|volume| volume.host_path.as_ref());
    paths.any(|host| CNI.iter().any(|directory| host.path.starts_with(directory)))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(name: &str, node: Option<&str>, owner: Option<&str>, status: Value) -> Pod {
        let owners = owner
            .map(|name| json!([{ "apiVersion": "apps/v1", "kind": "DaemonSet", "name": name, "uid": "u" }]));
        serde_json::from_value(json!({
            "metadata": { "name": name, "namespace": "kube-system", "ownerReferences": owners },
            "spec": { "nodeName": node, "containers": [], "affinity": { "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [
                    { "matchFields": [{ "key": "metadata.name", "operator": "In", "values": ["worker-1"] }] },
                ] },
            } } },
            "status": status,
        }))
        .expect("pod")
    }

    fn container(state: Value, restarts: i32, exit: Option<i32>) -> Value {
        let last = exit.map(|code| json!({ "terminated": { "exitCode": code, "reason": "Error" } }));
        json!({ "containerStatuses": [{ "name": "c", "image": "", "imageID": "", "ready": false,
            "restartCount": restarts, "state": state, "lastState": last.unwrap_or(json!({})) }] })
    }

    fn waiting(reason: &str) -> Value {
        json!({ "waiting": { "reason": reason } })
    }

    fn ready() -> Value {
        json!({ "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] })
    }

    fn flannel() -> DaemonSet {
        serde_json::from_value(json!({
            "metadata": { "name": "kube-flannel", "namespace": "kube-system" },
            "spec": { "selector": {}, "template": { "spec": { "containers": [],
                "volumes": [{ "name": "cni", "hostPath": { "path": "/etc/cni/net.d" } }] } } },
            "status": { "currentNumberScheduled": 2, "desiredNumberScheduled": 2, "numberMisscheduled": 0,
                "numberReady": 1 },
        }))
        .expect("daemon set")
    }

    /// What was seen on Talos v1.13.9: the worker is not Ready, because nothing schedules its flannel pod.
    #[test]
    fn a_plugin_without_a_node_is_explained_by_the_scheduler_that_crashes() {
        let scheduler = pod(
            "kube-scheduler-cp-1",
            Some("cp-1"),
            None,
            container(waiting("CrashLoopBackOff"), 9, Some(1)),
        );
        let plugin = pod("kube-flannel-x", None, Some("kube-flannel"), json!({ "phase": "Pending" }));
        let system = SystemPods::of(vec![scheduler, plugin], vec![flannel()]);
        let findings = system.network_plugin_on("worker-1").expect("a plugin").join("; ");
        insta::assert_snapshot!(findings, @"the pod of the network plugin's DaemonSet kube-flannel for worker-1 is not scheduled: the scheduler has not seen it; kube-scheduler-cp-1 on cp-1 is in CrashLoopBackOff after 9 restarts, it last ended with exit code 1, Error; until it runs, no pod gets a node");
    }

    #[test]
    fn a_plugin_that_is_pulled_or_crashes_is_told_so_and_one_that_runs_is_not() {
        let with = |status: Value| {
            let plugin = pod("kube-flannel-x", Some("worker-1"), Some("kube-flannel"), status);
            SystemPods::of(vec![plugin], vec![flannel()]).network_plugin_on("worker-1").expect("a plugin")
        };
        assert!(with(container(waiting("PodInitializing"), 0, None))[0].contains("its images are pulled"));
        assert!(with(container(waiting("ImagePullBackOff"), 0, None))[0].contains("is in ImagePullBackOff"));
        assert!(with(container(waiting("CrashLoopBackOff"), 3, Some(139)))[0].contains("segmentation fault"));
        assert_eq!(with(ready()), [""; 0]);
        let missing =
            SystemPods::of(Vec::new(), vec![flannel()]).network_plugin_on("worker-1").expect("a plugin");
        assert!(missing[0].ends_with("has no pod for worker-1 yet"), "{missing:?}");
        assert_eq!(SystemPods::default().network_plugin_on("worker-1"), None);
    }

    #[test]
    fn pods_in_back_off_are_named_controllers_first() {
        let crashing = |name: &str, node: &str| {
            pod(name, Some(node), None, container(waiting("CrashLoopBackOff"), 5, Some(139)))
        };
        let pods = vec![crashing("kube-proxy-a", "worker-1"), crashing("kube-scheduler-cp-1", "cp-1")];
        let system = SystemPods::of(pods, Vec::new());
        let names: Vec<_> =
            system.crashing().iter().filter_map(|text| text.split(' ').next().map(str::to_owned)).collect();
        assert_eq!(names, ["kube-scheduler-cp-1", "kube-proxy-a"]);
        assert_eq!(system.crashing_on("worker-1").len(), 1);
        let mut user = crashing("app", "worker-1");
        user.metadata.namespace = Some("default".into());
        assert!(
            SystemPods::of(vec![user], Vec::new()).crashing().is_empty(),
            "pods of users are not the system's"
        );
    }

    #[test]
    fn the_pod_network_is_back_when_new_containers_of_it_are_ready() {
        let with = |name: &str, owner: &str, id: &str, is_ready: &str| {
            let status = json!({
                "phase": "Running", "conditions": [{ "type": "Ready", "status": is_ready }],
                "containerStatuses": [{ "name": "c", "image": "i", "imageID": "", "ready": true, "restartCount": 0,
                    "containerID": id }],
            });
            pod(name, Some("worker-1"), Some(owner), status)
        };
        let of = |pods: Vec<Pod>| SystemPods::of(pods, vec![flannel()]);
        let before = of(vec![with("kube-flannel-a", "kube-flannel", "old", "True")]);
        let before = before.network_containers_on("worker-1");
        assert_eq!(before, ["old".to_owned()].into());
        let waiting = |id: &str, is_ready: &str| {
            let pods = vec![
                with("kube-flannel-a", "kube-flannel", id, is_ready),
                with("another", "another", "old", "False"),
            ];
            of(pods).network_not_back_on("worker-1", &before)
        };
        assert_eq!(waiting("old", "True"), ["kube-flannel-a has not started again"]);
        assert_eq!(waiting("new", "False").len(), 1);
        assert_eq!(waiting("new", "True"), [""; 0]);
        assert!(of(Vec::new()).network_not_back_on("worker-1", &before).is_empty());
    }

    #[test]
    fn an_incomplete_daemon_set_names_its_pods() {
        let pods = vec![
            pod("kube-flannel-a", Some("cp-1"), Some("kube-flannel"), ready()),
            pod(
                "kube-flannel-b",
                Some("worker-1"),
                Some("kube-flannel"),
                container(waiting("ContainerCreating"), 0, None),
            ),
        ];
        let [one] = &SystemPods::of(pods, vec![flannel()]).incomplete()[..] else { panic!("one") };
        assert!(one.starts_with("kube-flannel is ready on 1 of 2 nodes (worker-1: is starting"), "{one}");
        let mut complete = flannel();
        complete.status.as_mut().expect("status").number_ready = 2;
        assert!(SystemPods::of(Vec::new(), vec![complete]).incomplete().is_empty());
    }
}
