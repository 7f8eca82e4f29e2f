//! Files of a node: the logs of its pods.

use std::time::Duration;

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

/// The log of one run of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodLog {
    /// `POD/CONTAINER.RUN.log`.
    pub name: String,
    pub text: String,
}

impl NodeClient {
    /// Returns the logs of the system's pods on the node, also of static pods without an API server.
    ///
    /// # Errors
    /// When the list cannot be read. A log that cannot be read contains the error.
    pub async fn system_pod_logs(&self, limit: Duration) -> Result<Vec<PodLog>, ApiError> {
        let request = ListRequest {
            root: POD_LOGS.into(),
            recurse: true,
            recursion_depth: DEPTH,
            types: vec![list_request::Type::Regular.into()],
        };
        let mut client = self.machine();
        let call = client.list(request);
        let files = self.collect("list the logs of pods", limit, call, |file| file.metadata.as_ref()).await?;
        let mut logs = Vec::new();
        let named = files.into_iter().filter_map(|file| Some((log_name(&file.relative_name)?, file)));
        for (name, file) in named.take(LOGS) {
            let text = match file.size {
                size if size > LOG_LIMIT => format!("left out: {size} bytes"),
                _ => {
                    let path = format!("{POD_LOGS}/{}", file.relative_name);
                    self.read_file(&path, limit).await.unwrap_or_else(|error| error.to_string())
                }
            };
            logs.push(PodLog { name, text });
        }
        Ok(logs)
    }
}

/// Returns the name of a log of a system namespace without the pod's UID, and `None` for other files. The node
/// chooses the path, so only plain words are accepted.
fn log_name(relative: &str) -> Option<String> {
    let [pod, container, run] = relative.split('/').collect::<Vec<_>>()[..] else { return None };
    let (namespace, rest) = pod.split_once('_')?;
    let (name, _) = rest.rsplit_once('_')?;
    let plain = |word: &str| {
        !word.is_empty()
            && !word.starts_with('.')
            && word.chars().all(|one| one.is_ascii_alphanumeric() || "-._".contains(one))
    };
    (is_system_namespace(namespace) && [name, container, run].into_iter().all(plain) && run.ends_with(".log"))
        .then(|| format!("{name}/{container}.{run}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_logs_of_the_system_have_a_name_and_no_path_leaves_the_bundle() {
        let uid = "0f2c1a";
        let own = format!("kube-system_kube-scheduler-cp-1_{uid}/kube-scheduler/7.log");
        assert_eq!(log_name(&own).as_deref(), Some("kube-scheduler-cp-1/kube-scheduler.7.log"));
        for other in [
            format!("default_app_{uid}/app/0.log"),
            format!("kube-system_x_{uid}/../0.log"),
            format!("kube-system_x_{uid}/y/.log"),
            format!("kube-system_x_{uid}/y/0.log.gz"),
            format!("kube-system_x_{uid}/y/z/0.log"),
            "kube-system".to_owned(),
        ] {
            assert_eq!(log_name(&other), None, "{other}");
        }
    }
}
