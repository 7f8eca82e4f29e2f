//! Requests that pods of the cluster make for a check.

use lab_cluster::{
    kubernetes::{EchoPod, KubernetesApi, ProbeReply, Prober},
    wait::Wait,
};
use lab_model::visible;

use super::{QUESTION, asked::AskError};

/// Makes requests from pods.
pub(super) struct Asker {
    prober: Prober,
}

impl Asker {
    /// Sends the requests through the pod proxy of the API server.
    pub(super) fn new(api: &KubernetesApi) -> Self {
        Self { prober: Prober::new(api, QUESTION) }
    }

    /// Returns the node of the responding pod if `right` accepts it. Retries for up to `patience`.
    pub(super) async fn ask(
        &self,
        from: &EchoPod,
        url: &str,
        patience: &Wait,
        right: impl Fn(&str) -> bool,
    ) -> Result<String, AskError> {
        self.judged(from, url, patience, |reply| answer(&reply, &right)).await
    }

    /// Returns the response body if `right` accepts it. Retries for up to `patience`.
    pub(super) async fn ask_body(
        &self,
        from: &EchoPod,
        url: &str,
        patience: &Wait,
        right: impl Fn(&str) -> bool,
    ) -> Result<String, AskError> {
        self.judged(from, url, patience, |reply| body(reply, &right)).await
    }

    /// Repeats the request until `judge` accepts the reply, for up to `patience`.
    pub(super) async fn judged(
        &self,
        from: &EchoPod,
        url: &str,
        patience: &Wait,
        judge: impl Fn(ProbeReply) -> Result<String, AskError>,
    ) -> Result<String, AskError> {
        let judge = &judge;
        let attempt = || async move {
            let reply = self.prober.get(from, url).await;
            judge(reply.map_err(|source| AskError::NoPodProxy { node: from.node.clone(), source })?)
        };
        Ok(patience.retry(attempt).await?)
    }
}

/// The maximum length of a response in a message.
const QUOTED: usize = 200;

fn body(reply: ProbeReply, right: impl Fn(&str) -> bool) -> Result<String, AskError> {
    if !reply.error.is_empty() {
        return Err(AskError::Request(reply.error));
    }
    if reply.status == 200 && right(&reply.body) {
        return Ok(reply.body);
    }
    Err(AskError::OtherAnswer { status: reply.status, body: visible(&reply.body, QUOTED) })
}

fn answer(reply: &ProbeReply, right: impl Fn(&str) -> bool) -> Result<String, AskError> {
    if !reply.error.is_empty() {
        return Err(AskError::Request(reply.error.clone()));
    }
    match reply.answering_node() {
        Some(node) if right(&node) => Ok(node),
        Some(node) => Err(AskError::WrongPod { node }),
        None => Err(AskError::NoEcho { status: reply.status }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, body: &str, error: &str) -> ProbeReply {
        ProbeReply { status, body: body.into(), error: error.into() }
    }

    #[test]
    fn a_body_counts_with_its_status() {
        let right = |body: &str| body.contains("hello");
        assert_eq!(body(reply(200, "hello there", ""), right).ok().as_deref(), Some("hello there"));
        let other = body(reply(500, "hello\n", ""), right).expect_err("500").to_string();
        assert_eq!(other, "status 500 and not the expected answer: \"hello\"");
        assert!(body(reply(200, "bye", ""), right).is_err());
        assert!(body(reply(0, "", "no route to host"), right).is_err());
    }

    #[test]
    fn only_an_answer_of_the_right_node_counts() {
        let right = |node: &str| node == "worker-1";
        assert!(
            answer(&reply(200, r#"{"node":"worker-1"}"#, ""), right).is_ok_and(|node| node == "worker-1")
        );
        assert!(answer(&reply(200, r#"{"node":"worker-2"}"#, ""), right).is_err());
        assert!(answer(&reply(200, "<html>", ""), right).is_err());
        assert!(answer(&reply(0, "", "no route to host"), right).is_err());
    }
}
