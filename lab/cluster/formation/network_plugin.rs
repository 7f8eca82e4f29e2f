//! A network plugin (CNI) of the user's: the machine configs say `cni: none`, nodes register without
//! being Ready, and the plugin's manifests are applied as soon as nothing else is missing.

use lab_model::events::{Happening, Step, Subject};
use lab_plan::cluster::NetworkPlugin;

use super::{
    cluster::Cluster,
    failure::{Cause, Failure},
    formation::Signals,
    steps::retry,
};
use crate::kubernetes::{KubernetesError, NodeReadiness};

/// How kubelet begins what it says when containerd has found no CNI configuration; other problems
/// would stand before it in a list (pkg/kubelet/nodestatus/setters.go, `ReadyCondition`).
const NOT_READY: &str =
    "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady";

/// Whether a network plugin is all that a node lacks.
pub(super) fn lacks_network_plugin(readiness: &NodeReadiness) -> bool {
    !readiness.ready && readiness.message.starts_with(NOT_READY)
}

impl Cluster {
    /// Applies the user's plugin, if the configs leave it to the user, once a node lacks nothing else.
    pub(super) async fn install_network_plugin(&self, signals: &Signals) -> Result<(), Failure> {
        let NetworkPlugin::Manifests(manifests) = &self.plan.spec.network_plugin else {
            return Ok(());
        };
        let access = signals.kubernetes.wait().await;
        let mut table = access.nodes.clone();
        self.step(&Subject::Cluster, Step::NetworkPlugin, |seen| async move {
            seen.set("no node that lacks a network plugin and nothing else");
            let first = table
                .first(|node| {
                    if !node.readiness.ready {
                        seen.set(format!("node {}: {}", node.name, node.readiness.message));
                    }
                    node.readiness.ready || lacks_network_plugin(&node.readiness)
                })
                .await;
            if first.readiness.ready {
                return Err(Cause::NetworkPluginThere { node: first.name });
            }
            self.host.recorder.record(Happening::Note {
                subject: Subject::Cluster,
                text: format!(
                    "node {} lacks its network plugin and nothing else; {} objects of it are applied",
                    first.name,
                    manifests.len()
                ),
            });
            for manifest in manifests {
                // A kind that a manifest before it has just defined is not served at once.
                let passes = |error: &KubernetesError| !error.is_refusal();
                retry(&seen, passes, || access.api.apply(manifest)).await?;
            }
            Ok(())
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
