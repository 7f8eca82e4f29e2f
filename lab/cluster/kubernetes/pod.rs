//! The state of a pod in words.

use std::collections::HashMap;

use futures::StreamExt;
use k8s_openapi::api::{
    certificates::v1::CertificateSigningRequest,
    core::v1::{ContainerStatus, Pod, PodStatus},
};
use kube::{Api, ResourceExt, runtime::watcher};
use lab_model::{
    events::{EventKind, Recorder, Subject},
    node::NodeName,
    redact, visible,
};
use tokio_util::task::AbortOnDropHandle;

use super::{access::KubernetesApi, system::is_system, watch::shown};

/// Maximum length of a message from Kubernetes.
const MESSAGE: usize = 300;
/// Maximum number of objects whose last state is kept.
const OBJECTS: usize = 1000;

/// How a container ended last.
pub(super) fn last_end(container: &ContainerStatus) -> Option<String> {
    let end = container.last_state.as_ref()?.terminated.as_ref()?;
    let reason = end.reason.clone().unwrap_or_else(|| "unknown reason".into());
    // 128 plus the signal; 137 is SIGKILL, 139 is SIGSEGV.
    let signal = match end.exit_code {
        139 => " (segmentation fault)",
        137 => " (killed: liveness or startup probe, or memory)",
        _ => "",
    };
    let message = end.message.as_deref().map(|text| format!(": {}", short(text))).unwrap_or_default();
    Some(format!("it last ended with exit code {}{signal}, {reason}{message}", end.exit_code))
}

/// The state of a pod that is not ready, as a fragment after its name.
pub(super) fn state(pod: &Pod) -> String {
    let status = pod.status.clone().unwrap_or_default();
    if node_of(pod).is_none() {
        let unscheduled = status.conditions.iter().flatten().find(|one| one.type_ == "PodScheduled");
        let why = unscheduled.and_then(|condition| condition.message.as_deref());
        return match why {
            Some(why) => format!("is not scheduled: {}", short(why)),
            None => "is not scheduled: the scheduler has not seen it".to_owned(),
        };
    }
    for container in containers(pod) {
        let Some(waiting) = container.state.as_ref().and_then(|state| state.waiting.as_ref()) else {
            continue;
        };
        let reason = waiting.reason.as_deref().unwrap_or("waiting");
        let message = waiting.message.as_deref().map(|text| format!(": {}", short(text))).unwrap_or_default();
        let end = last_end(container).map(|end| format!("; {end}")).unwrap_or_default();
        return match reason {
            "ContainerCreating" | "PodInitializing" => {
                format!(
                    "is starting ({reason}): its images are pulled and its containers created{message}{end}"
                )
            }
            _ => format!("is in {reason}{message}{end}"),
        };
    }
    format!("is {} and not ready", status.phase.unwrap_or_else(|| "Pending".into()))
}

/// The text of Kubernetes in one line, without keys.
pub(super) fn short(text: &str) -> String {
    let line = redact(text).split_whitespace().collect::<Vec<_>>().join(" ");
    visible(&line, MESSAGE)
}

pub(super) fn containers(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.as_ref();
    let first = status.and_then(|status| status.init_container_statuses.as_ref()).into_iter().flatten();
    first.chain(status.and_then(|status| status.container_statuses.as_ref()).into_iter().flatten())
}

pub(super) fn restarts(pod: &Pod) -> i32 {
    containers(pod).map(|container| container.restart_count).max().unwrap_or(0)
}

pub(super) fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|name| !name.is_empty())
}

/// The node of a pod. The pod of a DaemonSet names it in its affinity before the scheduler has assigned it
/// (Kubernetes, pkg/controller/daemon/util, `ReplaceDaemonSetPodNodeNameNodeAffinity`).
pub(super) fn target_of(pod: &Pod) -> String {
    let wanted = || {
        let required = pod.spec.as_ref()?.affinity.as_ref()?.node_affinity.as_ref()?;
        let terms =
            &required.required_during_scheduling_ignored_during_execution.as_ref()?.node_selector_terms;
        let mut fields = terms.iter().flat_map(|term| term.match_fields.iter().flatten());
        fields.find(|field| field.key == "metadata.name")?.values.as_ref()?.first().cloned()
    };
    node_of(pod).map(str::to_owned).or_else(wanted).unwrap_or_else(|| "no node".to_owned())
}

pub(super) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.clone().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Returns the state of a pod in one line, with its restarts and their cause.
pub fn pod_line(name: &str, pod: &Pod) -> String {
    let now = if is_ready(pod) { "is ready".to_owned() } else { state(pod) };
    let again = match restarts(pod) {
        0 => String::new(),
        times => {
            // The state of a pod that is not ready names the last end already.
            let end = containers(pod).find_map(last_end).filter(|end| !now.contains(end.as_str()));
            format!(" (restarted {times} times{})", end.map(|end| format!(", {end}")).unwrap_or_default())
        }
    };
    format!("pod {name} {now}{again}")
}

/// Returns the state of a static pod from the status that the node itself reports.
///
/// # Errors
/// When the status has another shape.
pub fn static_pod_line(id: &str, status: serde_json::Value) -> Result<String, serde_json::Error> {
    static_pod(status).map(|pod| pod_line(&static_pod_name(id), &pod))
}

/// Returns the state of a static pod that is not ready, as [`static_pod_line`]. Returns `None` for a ready pod.
///
/// # Errors
/// As [`static_pod_line`].
pub fn unready_static_pod(id: &str, status: serde_json::Value) -> Result<Option<String>, serde_json::Error> {
    let pod = static_pod(status)?;
    Ok((!is_ready(&pod)).then(|| pod_line(&static_pod_name(id), &pod)))
}

fn static_pod(status: serde_json::Value) -> Result<Pod, serde_json::Error> {
    let status: PodStatus = serde_json::from_value(status)?;
    let mut pod = Pod { status: Some(status), ..Pod::default() };
    // A static pod needs no scheduler.
    pod.spec.get_or_insert_default().node_name = Some("own".into());
    Ok(pod)
}

fn static_pod_name(id: &str) -> String {
    short(id.rsplit('/').next().unwrap_or(id))
}

/// Records each change in the state of the system's pods, and of certificate requests, until the handle is
/// dropped.
pub fn record_system_pods(api: &KubernetesApi, recorder: Recorder) -> AbortOnDropHandle<()> {
    let pods = shown(Api::<Pod>::all(api.client()), watcher::Config::default());
    let requests = shown(Api::<CertificateSigningRequest>::all(api.client()), watcher::Config::default());
    AbortOnDropHandle::new(tokio::spawn(async move {
        let pods = pods.filter_map(async |pod| {
            let system =
                is_system(pod.metadata.namespace.as_ref()) && pod.metadata.deletion_timestamp.is_none();
            system.then(|| (subject(&target_of(&pod)), pod.name_any(), pod_line(&pod.name_any(), &pod)))
        });
        let requests = requests.map(|request| {
            let name = request.name_any();
            let line = request_line(&request);
            (Subject::Cluster, name, line)
        });
        let mut lines = std::pin::pin!(futures::stream::select(pods, requests));
        let mut told: HashMap<String, String> = HashMap::new();
        while let Some((subject, name, text)) = lines.next().await {
            if told.len() < OBJECTS && told.insert(name, text.clone()).as_ref() != Some(&text) {
                recorder.record(EventKind::Note { subject, text });
            }
        }
    }))
}

fn subject(node: &str) -> Subject {
    NodeName::new(node).map_or(Subject::Cluster, Subject::Node)
}

fn request_line(request: &CertificateSigningRequest) -> String {
    let status = request.status.clone().unwrap_or_default();
    let conditions: Vec<_> = status.conditions.iter().flatten().map(|one| one.type_.to_lowercase()).collect();
    let issued = status.certificate.is_some_and(|certificate| !certificate.0.is_empty());
    let state = match (issued, conditions.first()) {
        (true, _) => "issued",
        (false, Some(condition)) => condition.as_str(),
        (false, None) => "pending",
    };
    let (of, signer) =
        (request.spec.username.as_deref().unwrap_or("an unknown user"), &request.spec.signer_name);
    format!("certificate request of {} for {}: {state}", short(of), short(signer))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The status of a static pod as `StaticPodStatuses.kubernetes.talos.dev` of Talos v1.13.9 has it.
    #[test]
    fn a_static_pod_tells_what_it_waits_for_and_why_it_was_restarted() {
        let line = |state: serde_json::Value, restarts: i32| {
            let status = json!({
                "phase": "Pending",
                "conditions": [{ "type": "Ready", "status": "False", "lastTransitionTime": null }],
                "containerStatuses": [{
                    "name": "kube-scheduler", "image": "registry.k8s.io/kube-scheduler:v1.36.3", "imageID": "",
                    "ready": false, "restartCount": restarts, "state": state,
                    "lastState": { "terminated": { "exitCode": 1, "reason": "Error" } },
                }],
            });
            static_pod_line("kube-system/kube-scheduler-cp-1", status).expect("status")
        };
        assert_eq!(
            line(json!({ "waiting": { "reason": "CrashLoopBackOff", "message": "back-off 10s" } }), 3),
            "pod kube-scheduler-cp-1 is in CrashLoopBackOff: back-off 10s; it last ended with exit code 1, Error \
             (restarted 3 times)"
        );
        let creating = line(json!({ "waiting": { "reason": "ContainerCreating" } }), 0);
        assert!(creating.contains("its images are pulled"), "{creating}");
        assert!(static_pod_line("x", json!({ "containerStatuses": 7 })).is_err());
    }

    #[test]
    fn only_a_static_pod_that_is_not_ready_is_told_as_that() {
        let unready = |ready: &str| {
            let status = json!({
                "phase": "Running",
                "conditions": [{ "type": "Ready", "status": ready, "lastTransitionTime": null }],
            });
            unready_static_pod("kube-system/kube-apiserver-cp-1", status).expect("status")
        };
        let line = unready("False").expect("not ready");
        assert_eq!(line, "pod kube-apiserver-cp-1 is Running and not ready");
        assert_eq!(unready("True"), None);
    }

    #[test]
    fn a_certificate_request_is_told_with_its_state() {
        let line = |status: serde_json::Value| {
            request_line(
                &serde_json::from_value(json!({
                    "metadata": { "name": "csr-1" },
                    "spec": { "request": "", "signerName": "kubernetes.io/kubelet-serving",
                        "username": "system:node:worker-1" },
                    "status": status,
                }))
                .expect("request"),
            )
        };
        let text = "certificate request of system:node:worker-1 for kubernetes.io/kubelet-serving: ";
        assert_eq!(line(json!({})), format!("{text}pending"));
        let approved = json!({ "conditions": [{ "type": "Approved", "status": "True" }] });
        assert_eq!(line(approved), format!("{text}approved"));
        assert_eq!(line(json!({ "certificate": "QQ==" })), format!("{text}issued"));
    }
}
