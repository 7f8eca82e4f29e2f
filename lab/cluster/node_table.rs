//! What Kubernetes says of a cluster's nodes, watched.

use std::{collections::BTreeMap, sync::Arc};

use futures::StreamExt;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    kubernetes::{KubernetesApi, NodeChange, NodeFacts, node_changes},
    node::NodeName,
};

/// What Kubernetes says of all nodes, kept up to date by one watch that clones share.
#[derive(Clone)]
pub struct NodeTable {
    api: KubernetesApi,
    table: watch::Receiver<BTreeMap<String, NodeFacts>>,
    _watcher: Arc<AbortOnDropHandle<()>>,
}

impl NodeTable {
    /// Begins to watch; the table is empty until the API server has answered.
    pub fn watch(api: &KubernetesApi) -> Self {
        let (sender, table) = watch::channel(BTreeMap::new());
        let mut changes = node_changes(api).boxed();
        let watcher = tokio::spawn(async move {
            while let Some(change) = changes.next().await {
                match change {
                    NodeChange::Seen(facts) => sender.send_modify(|table| {
                        table.insert(facts.name.clone(), *facts);
                    }),
                    NodeChange::Deleted(name) => sender.send_modify(|table| {
                        table.remove(&name);
                    }),
                    NodeChange::Interrupted(reason) => tracing::debug!(reason, "the watch over nodes broke"),
                }
            }
        });
        Self { api: api.clone(), table, _watcher: Arc::new(AbortOnDropHandle::new(watcher)) }
    }

    /// The API server that is watched.
    pub(super) fn api(&self) -> &KubernetesApi {
        &self.api
    }

    /// What was said of a node last; nothing when it has not registered.
    pub fn get(&self, node: &NodeName) -> Option<NodeFacts> {
        self.table.borrow().get(node.as_str()).cloned()
    }

    /// What was said of a node last, so that [`NodeTable::changed`] waits for what is said after that.
    pub(super) fn look(&mut self, node: &NodeName) -> Option<NodeFacts> {
        self.table.borrow_and_update().get(node.as_str()).cloned()
    }

    /// Waits for the next change of any node.
    pub(super) async fn changed(&mut self) {
        if self.table.changed().await.is_err() {
            // The watch lives as long as its table; only the end of the run drops it.
            std::future::pending::<()>().await;
        }
    }

    /// Waits until Kubernetes calls a node Ready.
    pub(super) async fn ready(&mut self, node: &NodeName) {
        self.first(|facts| facts.name == node.as_str() && facts.readiness.ready).await;
    }

    /// Waits for the first node that is `wanted`.
    pub async fn first(&mut self, mut wanted: impl FnMut(&NodeFacts) -> bool) -> NodeFacts {
        loop {
            let found = self.table.borrow_and_update().values().find(|facts| wanted(facts)).cloned();
            if let Some(facts) = found {
                return facts;
            }
            self.changed().await;
        }
    }

    /// Waits until a node has registered.
    pub(super) async fn registered(&mut self, node: &NodeName) {
        self.first(|facts| facts.name == node.as_str()).await;
    }
}
