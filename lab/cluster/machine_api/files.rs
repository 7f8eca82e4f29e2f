//! Files of a node: the logs of its pods.

use std::time::Duration;

use lab_model::{redact, visible};

use super::{
    api_error::ApiError,
    client::NodeClient,
    wire::machine::{ListRequest, list_request},
};
use crate::kubernetes::is_system_namespace;

/// The directory of the pods' logs, `NAMESPACE_POD_UID/CONTAINER/RUN.log` (Kubernetes, pkg/kubelet/kuberuntime).
const POD_LOGS: &str = "/var/log/pods";
/// Directory levels below it.
const DEPTH: i32 = 3;
/// Larger logs are left out: the log of a pod on a throw-away cluster is small.
const LOG_LIMIT: i64 = 2 << 20;
/// Maximum number of logs.
const LOGS: usize = 60;
/// Maximum length of a line that is told.
const LINE: usize = 300;

/// The name of the log of one run of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodRun {
    pub pod: String,
    pub container: String,
    /// The run of the container, counted from 0.
    pub run: u32,
    /// The path below [`POD_LOGS`], and the size in bytes.
    path: String,
    size: i64,
}

/// The log of one run of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodLog {
    /// `POD/CONTAINER.RUN.log`.
    pub name: String,
    pub text: String,
}

impl NodeClient {
    /// Returns the runs of the containers of the system's pods that have a log on the node, also of static pods without
    /// an API server.
    ///
    /// # Errors
    /// When the list cannot be read.
    pub async fn system_pod_runs(&self, limit: Duration) -> Result<Vec<PodRun>, ApiError> {
        let request = ListRequest {
            root: POD_LOGS.into(),
            recurse: true,
            recursion_depth: DEPTH,
            types: vec![list_request::Type::Regular.into()],
        };
        let mut client = self.machine();
        let call = client.list(request);
        let files = self.collect("list the logs of pods", limit, call, |file| file.metadata.as_ref()).await?;
        Ok(files
            .into_iter()
            .filter_map(|file| PodRun::of(&file.relative_name, file.size))
            .take(LOGS)
            .collect())
    }

    /// Returns the log of a run.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub async fn pod_log(&self, run: &PodRun, limit: Duration) -> Result<String, ApiError> {
        match run.size {
            size if size > LOG_LIMIT => Ok(format!("left out: {size} bytes")),
            _ => self.read_file(&format!("{POD_LOGS}/{}", run.path), limit).await,
        }
    }

    /// Returns the logs of the system's pods on the node.
    ///
    /// # Errors
    /// When the list cannot be read. A log that cannot be read contains the error.
    pub async fn system_pod_logs(&self, limit: Duration) -> Result<Vec<PodLog>, ApiError> {
        let mut logs = Vec::new();
        for run in self.system_pod_runs(limit).await? {
            let text = self.pod_log(&run, limit).await.unwrap_or_else(|error| error.to_string());
            logs.push(PodLog { name: run.file(), text });
        }
        Ok(logs)
    }

    /// Returns the last line that a run logged. Returns `None` if it logged nothing, or its log cannot be read.
    pub async fn last_message(&self, run: &PodRun, limit: Duration) -> Option<String> {
        last_line(&self.pod_log(run, limit).await.ok()?)
    }
}

impl PodRun {
    /// Reads the path of a log of a system namespace. The node chooses the path, so only plain words are accepted.
    pub(crate) fn of(path: &str, size: i64) -> Option<Self> {
        let [pod, container, file] = path.split('/').collect::<Vec<_>>()[..] else { return None };
        let (namespace, rest) = pod.split_once('_')?;
        let (name, _) = rest.rsplit_once('_')?;
        let plain = |word: &str| {
            !word.is_empty()
                && !word.starts_with('.')
                && word.chars().all(|one| one.is_ascii_alphanumeric() || "-._".contains(one))
        };
        let known = is_system_namespace(namespace) && [name, container].into_iter().all(plain);
        // Kubernetes, pkg/kubelet/kuberuntime, `buildContainerLogsPath`. A rotated log has another ending.
        let run = file.strip_suffix(".log")?.parse().ok()?;
        known.then(|| Self { pod: name.into(), container: container.into(), run, path: path.into(), size })
    }

    /// The name of the log without the namespace and the UID of the pod.
    fn file(&self) -> String {
        format!("{}/{}.{}.log", self.pod, self.container, self.run)
    }
}

/// The line of a log that says why its program ended, or else the last line that is not empty; without keys, control
/// characters, and the time and stream that the container runtime writes before the text of a line (`TIME STREAM TAG TEXT`).
fn last_line(log: &str) -> Option<String> {
    let text = |line| str::splitn(line, 4, ' ').nth(3).map(str::trim).filter(|text| !text.is_empty());
    let lines = || log.lines().rev().filter_map(text);
    let said = lines().find(|text| is_end(text)).or_else(|| lines().next())?;
    Some(visible(&redact(said), LINE))
}

/// Whether a program says why it ends: klog's level F (k8s.io/klog, `fatalLog`), the Go runtime, or the commands of
/// Kubernetes (k8s.io/component-base, `cli.RunNoErrOutput`). Other goroutines may write more lines after it.
fn is_end(text: &str) -> bool {
    let is_fatal = match text.as_bytes() {
        // The month and the day.
        [b'F', m, n, d, e, b' ', ..] => [m, n, d, e].into_iter().all(u8::is_ascii_digit),
        _ => false,
    };
    is_fatal
        || ["panic: ", "fatal error: "].iter().any(|start| text.starts_with(start))
        || text.contains("\"command failed\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_logs_of_the_system_have_a_name_and_no_path_leaves_the_bundle() {
        let uid = "0f2c1a";
        let own = format!("kube-system_kube-scheduler-cp-1_{uid}/kube-scheduler/7.log");
        let run = PodRun::of(&own, 9).expect("a log of the system");
        assert_eq!(run.file(), "kube-scheduler-cp-1/kube-scheduler.7.log");
        assert_eq!(
            (run.pod.as_str(), run.container.as_str(), run.run),
            ("kube-scheduler-cp-1", "kube-scheduler", 7)
        );
        for other in [
            format!("default_app_{uid}/app/0.log"),
            format!("kube-system_x_{uid}/../0.log"),
            format!("kube-system_x_{uid}/y/.log"),
            format!("kube-system_x_{uid}/y/0.log.gz"),
            format!("kube-system_x_{uid}/y/0.log.20261130-164500"),
            format!("kube-system_x_{uid}/y/z/0.log"),
            "kube-system".to_owned(),
        ] {
            assert_eq!(PodRun::of(&other, 9), None, "{other}");
        }
    }

    #[test]
    fn the_last_message_is_the_text_of_the_last_line_that_has_one() {
        let log = "2026-11-30T10:00:05Z stderr F I1130 start\n2026-11-30T10:00:06Z stderr F W1130 etcd is \u{1b}late\n2026 stderr F \n";
        assert_eq!(last_line(log).as_deref(), Some("W1130 etcd is \\u{1b}late"));
        assert_eq!(last_line(""), None);
        assert_eq!(last_line("2026 stderr F F113é is no date").as_deref(), Some("F113é is no date"));
    }

    #[test]
    fn the_recorded_programs_say_why_they_ended() {
        let api_server = include_str!("../../../tests/recorded/talos-v1.13.9/kube-apiserver.0.log");
        let said = last_line(api_server).expect("a line");
        assert!(said.contains("PostStartHook \"start-service-ip-repair-controllers\" failed"), "{said}");
        let scheduler = include_str!("../../../tests/recorded/talos-v1.13.9/kube-scheduler.4.log");
        let said = last_line(scheduler).expect("a line");
        assert!(said.contains("\"command failed\" err=\"unable to load configmap"), "{said}");
    }
}
