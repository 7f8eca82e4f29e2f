//! Installs the user's network plugin (CNI). The machine configs contain `cni: none`, so nodes register but
//! do not become Ready. Formation applies the manifests when the plugin is the only thing that a node lacks.

use lab_model::events::{EventKind, Step, Subject};
use lab_plan::cluster::NetworkPlugin;

use super::{
    cluster::Cluster,
    diagnosis::lacks_network_plugin,
    failure::{Cause, Failure},
    formation::Signals,
    steps::retry,
};
use crate::kubernetes::KubernetesError;

impl Cluster {
    /// Waits until a node lacks only the network plugin, then applies the user's manifests. Does nothing if
    /// the plan has no manifests.
    pub(super) async fn install_network_plugin(&self, signals: &Signals) -> Result<(), Failure> {
        let NetworkPlugin::Manifests(manifests) = &self.plan.spec.network_plugin else {
            return Ok(());
        };
        let access = signals.kubernetes.wait().await;
        let mut table = access.nodes.clone();
        self.step(&Subject::Cluster, Step::NetworkPlugin, |seen| async move {
            seen.set("no node yet that lacks only a network plugin");
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
            self.host.recorder.record(EventKind::Note {
                subject: Subject::Cluster,
                text: format!(
                    "node {} lacks only its network plugin; the {} objects of the plugin are applied",
                    first.name,
                    manifests.len()
                ),
            });
            for manifest in manifests {
                // The API server serves a new CustomResourceDefinition only after a delay.
                let passes = |error: &KubernetesError| !error.is_refusal();
                retry(&seen, passes, || access.api.apply(manifest)).await?;
            }
            Ok(())
        })
        .await
    }
}
