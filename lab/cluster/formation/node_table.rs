//! A table of a cluster's Node objects, updated by a watch.

use std::{collections::BTreeMap, sync::Arc};

use futures::{Stream, StreamExt};
use lab_model::{
    events::{EventKind, Recorder, Subject},
    node::NodeName,
};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::kubernetes::{KubernetesApi, NodeChange, NodeFacts, node_changes};

/// The Node objects of a cluster. One watch updates the table; clones share the watch.
#[derive(Clone)]
pub struct NodeTable {
    api: KubernetesApi,
    table: watch::Receiver<BTreeMap<String, NodeFacts>>,
    _watcher: Arc<AbortOnDropHandle<()>>,
}

impl NodeTable {
    /// Starts the watch. The table is empty until the API server responds.
    pub fn watch(api: &KubernetesApi, recorder: &Recorder) -> Self {
        let (sender, table) = watch::channel(BTreeMap::new());
        let watcher = tokio::spawn(keep_up(sender, node_changes(api), recorder.clone()));
        Self { api: api.clone(), table, _watcher: Arc::new(AbortOnDropHandle::new(watcher)) }
    }

    pub(super) fn api(&self) -> &KubernetesApi {
        &self.api
    }

    /// Returns the last known facts of a node, or `None` if it has not registered.
    pub fn get(&self, node: &NodeName) -> Option<NodeFacts> {
        self.table.borrow().get(node.as_str()).cloned()
    }

    /// Like [`NodeTable::get`], and marks the table as seen: [`NodeTable::changed`] then waits for a later
    /// change.
    pub(super) fn look(&mut self, node: &NodeName) -> Option<NodeFacts> {
        self.table.borrow_and_update().get(node.as_str()).cloned()
    }

    /// Waits for the next change of any node.
    pub(super) async fn changed(&mut self) {
        if self.table.changed().await.is_err() {
            // The sender is dropped only at the end of the run.
            std::future::pending::<()>().await;
        }
    }

    /// Waits until a node is Ready.
    pub(super) async fn ready(&mut self, node: &NodeName) {
        self.first(|facts| facts.name == node.as_str() && facts.readiness.ready).await;
    }

    /// Waits until `wanted` returns true for a node, and returns its facts.
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

/// Applies changes to the table. While the API server is unreachable, every retry of the watch fails with the
/// same error; only the first is recorded.
async fn keep_up(
    table: watch::Sender<BTreeMap<String, NodeFacts>>,
    changes: impl Stream<Item = NodeChange>,
    recorder: Recorder,
) {
    let mut changes = std::pin::pin!(changes);
    let mut broke = None;
    while let Some(change) = changes.next().await {
        match change {
            NodeChange::Interrupted(reason) => {
                if broke.as_ref() != Some(&reason) {
                    let text = format!("the watch of the nodes broke and is restarted: {reason}");
                    recorder.record(EventKind::Note { subject: Subject::Cluster, text });
                    broke = Some(reason);
                }
                continue;
            }
            NodeChange::Seen(facts) => table.send_modify(|table| {
                table.insert(facts.name.clone(), *facts);
            }),
            NodeChange::Deleted(name) => table.send_modify(|table| {
                table.remove(&name);
            }),
        }
        broke = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_watch_that_broke_is_told_once_until_it_stands_again() {
        let broke = |reason: &str| NodeChange::Interrupted(reason.to_owned());
        let stands = || NodeChange::Deleted("worker-1".to_owned());
        let changes =
            [broke("reset"), broke("reset"), broke("refused"), stands(), broke("refused"), broke("refused")];
        let recorder = Recorder::new();
        let mut events = recorder.subscribe();
        keep_up(watch::Sender::default(), futures::stream::iter(changes), recorder).await;
        let mut told = Vec::new();
        while let Ok(event) = events.try_recv() {
            if let EventKind::Note { text, .. } = event.kind {
                told.push(
                    text.trim_start_matches("the watch of the nodes broke and is restarted: ").to_owned(),
                );
            }
        }
        assert_eq!(told, ["reset", "refused", "refused"]);
    }
}
