//! Questions that pods of the cluster ask for a check, as often as a formed cluster may need.

use std::time::Duration;

use lab_cluster::kubernetes::{EchoPod, KubernetesApi, ProbeReply, Prober};
use lab_plan::cluster::Budgets;

use super::{Observation, QUESTION, attempts::Attempts};

/// Has pods ask.
pub(super) struct Asker {
    prober: Prober,
    patience: Duration,
}

impl Asker {
    /// Of a cluster with these budgets.
    pub(super) fn new(api: &KubernetesApi, budgets: &Budgets) -> Self {
        Self { prober: Prober::new(api, QUESTION), patience: budgets.patience() }
    }

    /// The node whose pod answered, when it is one that `right` accepts; `before` is what was seen
    /// from the same pod until now. Once a question of a pod had no right answer its verdict stands,
    /// and what it is asked after that is asked once.
    pub(super) async fn ask(
        &self,
        from: &EchoPod,
        url: &str,
        before: &Observation,
        right: impl Fn(&str) -> bool,
    ) -> Result<String, String> {
        let mut last = String::new();
        let stands = before.cause().is_some();
        let mut tries = if stands { Attempts::single() } else { Attempts::patient(self.patience) };
        while tries.another().await {
            match self.ask_once(from, url, &right).await {
                Ok(node) => return Ok(node),
                Err(problem) => last = problem,
            }
        }
        Err(format!("{last} ({tries})"))
    }

    /// The same, asked a single time.
    pub(super) async fn ask_once(
        &self,
        from: &EchoPod,
        url: &str,
        right: impl Fn(&str) -> bool,
    ) -> Result<String, String> {
        match self.prober.get(from, url).await {
            Ok(reply) => answer(&reply, right),
            Err(error) => Err(format!("the pod on {} could not be asked: {error}", from.node)),
        }
    }
}

fn answer(reply: &ProbeReply, right: impl Fn(&str) -> bool) -> Result<String, String> {
    if !reply.error.is_empty() {
        return Err(reply.error.clone());
    }
    match reply.answering_node() {
        Some(node) if right(&node) => Ok(node),
        Some(node) => Err(format!("the pod on {node} answered, which is the wrong one")),
        None => Err(format!("status {} and no echo server's answer", reply.status)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, body: &str, error: &str) -> ProbeReply {
        ProbeReply { status, body: body.into(), error: error.into() }
    }

    #[test]
    fn only_an_answer_of_the_right_node_counts() {
        let right = |node: &str| node == "worker-1";
        assert_eq!(answer(&reply(200, r#"{"node":"worker-1"}"#, ""), right), Ok("worker-1".into()));
        assert!(answer(&reply(200, r#"{"node":"worker-2"}"#, ""), right).is_err());
        assert!(answer(&reply(200, "<html>", ""), right).is_err());
        assert!(answer(&reply(0, "", "no route to host"), right).is_err());
    }
}
