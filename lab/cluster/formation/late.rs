//! Late documents: a held boot waits for them after the cluster is up; the tailnet's document is an example.

use std::time::{Duration, Instant};

use futures::future::try_join_all;
use lab_model::events::{Step, Subject};
use lab_plan::{
    cluster::{NodePlan, Patch},
    config::ConfigError,
};

use super::{
    cluster::Cluster,
    failure::{Cause, Failure},
    formed::FormedCluster,
    hold::Hold,
    readiness::Readiness,
    steps::LastSeen,
};
use crate::{
    formation::NodeTable,
    machine_api::{ApplyMode, NodeClient},
};

/// Time limit for a node to process an applied document. A service that still waits after that counts as
/// waiting for another document.
const DOCUMENT_SEEN: Duration = Duration::from_secs(30);

impl FormedCluster {
    /// Applies the documents for a held node, and waits until it is green.
    async fn released(
        &self,
        node: &NodePlan,
        client: NodeClient,
        table: NodeTable,
        documents: &[Patch],
        hold: &Hold,
        seen: &LastSeen,
    ) -> Result<(), Cause> {
        let cluster = self.cluster();
        cluster.apply_late(node, &client, documents).await?;
        let released = Instant::now();
        match cluster.three_layers(node, client, table, DOCUMENT_SEEN, seen).await? {
            Readiness::Green => {
                let text = format!(
                    "{} is configured: green {:.1} s after its document was applied, without a reboot",
                    hold.service,
                    released.elapsed().as_secs_f64()
                );
                cluster.note(node, text);
                Ok(())
            }
            // The document was for another service.
            Readiness::Held(hold) => Err(Cause::Held(hold)),
        }
    }

    /// Applies late documents, including the tailnet's, to the nodes that wait for them. This is the last
    /// step: a cluster that was saved before it works with every document.
    pub(super) async fn configure_late(&self) -> Result<(), Failure> {
        let (cluster, plan) = (self.cluster(), self.plan());
        let waiting = |node: &&NodePlan| !plan.late_documents(node).is_empty() || cluster.joins_tailnet(node);
        let nodes = plan.nodes.iter().filter(waiting);
        try_join_all(nodes.map(|node| self.configure_node_late(node))).await.map(drop)
    }

    async fn configure_node_late(&self, node: &NodePlan) -> Result<(), Failure> {
        let (cluster, table) = (self.cluster(), self.nodes().clone());
        let subject = Subject::Node(node.spec.name.clone());
        let client = cluster.secure_api(node, &subject).await?;
        cluster
            .step(&subject, Step::Ready, |seen| async move {
                // A held node may briefly not be held while another of its services starts.
                let now =
                    cluster.three_layers(node, client.clone(), table.clone(), Duration::ZERO, &seen).await?;
                let Readiness::Held(hold) = now else { return Ok(()) };
                let mut documents = self.plan().late_documents(node).to_vec();
                if let Some(tailnet) = cluster.tailnet().filter(|_| cluster.joins_tailnet(node)) {
                    let (document, added) = tailnet.gateway_document().await?;
                    documents.push(document);
                    added.into_iter().for_each(|added| cluster.note(node, added));
                }
                self.released(node, client, table, &documents, &hold, &seen).await
            })
            .await
    }
}

impl Cluster {
    /// Whether a node gets the tailnet's document after the cluster is up.
    pub(super) fn joins_tailnet(&self, node: &NodePlan) -> bool {
        self.tailnet().is_some() && node.spec.role.is_gateway() && !node.spec.may_be_held
    }

    /// Applies documents to a running node, in addition to its config.
    ///
    /// # Errors
    /// When the node rejects them or does not respond.
    pub async fn apply_late(
        &self,
        node: &NodePlan,
        client: &NodeClient,
        documents: &[Patch],
    ) -> Result<(), Cause> {
        let whole = |error: ConfigError| Cause::File {
            action: "add the document to the machine config".into(),
            source: std::io::Error::other(error),
        };
        let config = node.config.clone().patch(documents.iter().map(|patch| patch.text.as_str()));
        let yaml = config.and_then(|config| config.to_yaml()).map_err(whole)?;
        client.apply_configuration(&yaml, ApplyMode::NoReboot, self.plan.budgets.call).await?;
        Ok(())
    }
}
