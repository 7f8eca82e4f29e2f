//! Calls of a running control server through headscale's command line.

use std::{process::Stdio, time::Duration};

use ipnet::IpNet;
use lab_plan::tailnet::AuthKey;
use serde::de::DeserializeOwned;

use super::{
    super::{
        KeyOptions, TailnetError, TailnetNode, User,
        control_api::{self, IssuedKey},
        daemon::redacted,
    },
    ControlServer,
};
use crate::wait::{PollError, Wait};

/// Time limit for a call. Headscale's command exits after 5 s without a response.
const CALL_PATIENCE: Duration = Duration::from_secs(30);
/// Polling interval for the list of nodes.
const LOOK_EVERY: Duration = Duration::from_millis(500);

impl ControlServer {
    /// Creates a user. The user of the run already exists.
    ///
    /// # Errors
    /// When the control server rejects the call or is down.
    pub async fn create_user(&self, name: &str) -> Result<User, TailnetError> {
        self.call(&format!("create the user {name}"), &["users", "create", name]).await
    }

    /// Creates a pre-auth key for the user of the run.
    ///
    /// # Errors
    /// When the control server rejects the call or is down.
    pub async fn create_key(&self, options: &KeyOptions) -> Result<AuthKey, TailnetError> {
        let user = self.user.to_string();
        let valid = format!("{}s", options.valid.as_secs());
        let tags = options.tags.join(",");
        let mut arguments = vec!["preauthkeys", "create", "--user", &user, "--expiration", &valid];
        if options.reusable {
            arguments.push("--reusable");
        }
        if options.ephemeral {
            arguments.push("--ephemeral");
        }
        if !tags.is_empty() {
            arguments.extend(["--tags", &tags]);
        }
        let issued: IssuedKey = self.call("create a pre-auth key", &arguments).await?;
        let key = AuthKey::new(&issued.key, "the control server")?;
        self.keep_secret(&key);
        Ok(key)
    }

    /// Lists all nodes that have logged in and were not deleted, with their routes.
    ///
    /// # Errors
    /// When the control server is down.
    pub async fn nodes(&self) -> Result<Vec<TailnetNode>, TailnetError> {
        let action = "list the nodes";
        let output = self.run(action, &["nodes", "list"]).await?;
        control_api::nodes(&output).map_err(|problem| answer(action, &problem))
    }

    /// Waits until the list of nodes meets `condition`.
    ///
    /// # Errors
    /// When the time limit expires, with the last list of nodes, or when a call fails.
    pub async fn wait_for_nodes(
        &self,
        awaited: &str,
        patience: Duration,
        condition: impl Fn(&[TailnetNode]) -> bool,
    ) -> Result<Vec<TailnetNode>, TailnetError> {
        let wanted =
            |nodes: &Vec<TailnetNode>| if condition(nodes) { Ok(()) } else { Err(format!("{nodes:?}")) };
        // Headscale has no call that waits for a change.
        match Wait::up_to(patience).every(LOOK_EVERY).poll(|| self.nodes(), wanted).await {
            Ok(nodes) => Ok(nodes),
            Err(PollError::Probe(error)) => Err(error),
            Err(PollError::Expired(expired)) => Err(TailnetError::Late {
                program: "headscale".to_owned(),
                awaited: awaited.to_owned(),
                seconds: patience.as_secs(),
                seen: expired.last,
                log: self.last_words(),
            }),
        }
    }

    /// Approves exactly these routes of a node, including routes that it advertises later. Revokes all
    /// other approvals. An empty list revokes all.
    ///
    /// # Errors
    /// When the node does not exist or the control server is down.
    pub async fn approve(&self, node: u64, routes: &[IpNet]) -> Result<(), TailnetError> {
        let list = routes.iter().map(IpNet::to_string).collect::<Vec<_>>().join(",");
        let action = format!("approve the routes [{list}] of node {node}");
        self.run(&action, &["nodes", "approve-routes", "--identifier", &node.to_string(), "--routes", &list])
            .await
            .map(drop)
    }

    /// Expires the login of a node. The node must log in again.
    ///
    /// # Errors
    /// When the node does not exist or the control server is down.
    pub async fn expire(&self, node: u64) -> Result<(), TailnetError> {
        let id = node.to_string();
        self.run(&format!("expire node {node}"), &["nodes", "expire", "--identifier", &id]).await.map(drop)
    }

    /// Deletes a node.
    ///
    /// # Errors
    /// When the node does not exist or the control server is down.
    pub async fn delete(&self, node: u64) -> Result<(), TailnetError> {
        let id = node.to_string();
        self.run(&format!("delete node {node}"), &["nodes", "delete", "--force", "--identifier", &id])
            .await
            .map(drop)
    }

    async fn call<T: DeserializeOwned>(&self, action: &str, arguments: &[&str]) -> Result<T, TailnetError> {
        let output = self.run(action, arguments).await?;
        serde_json::from_str(&output).map_err(|problem| answer(action, &problem))
    }

    /// Runs headscale's command through the server's unix socket. Returns its output, which may contain
    /// keys.
    async fn run(&self, action: &str, arguments: &[&str]) -> Result<String, TailnetError> {
        let failed = |output: String| TailnetError::Call {
            action: action.to_owned(),
            output: redacted(output, &self.issued_keys()),
        };
        if !self.is_running() {
            return Err(failed("it is stopped; start it again first".to_owned()));
        }
        let mut command = self.headscale();
        command.args(["--output", "json"]).args(arguments).stdin(Stdio::null());
        // Does not use `Processes`, because the command always exits within seconds.
        let mut command = tokio::process::Command::from(command);
        let output = tokio::time::timeout(CALL_PATIENCE, command.kill_on_drop(true).output())
            .await
            .map_err(|_| failed(format!("no answer within {} s", CALL_PATIENCE.as_secs())))?
            .map_err(|error| failed(error.to_string()))?;
        if !output.status.success() {
            return Err(failed(control_api::error_text(&String::from_utf8_lossy(&output.stderr))));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

fn answer(action: &str, problem: &serde_json::Error) -> TailnetError {
    // Does not quote the response, because it may contain keys.
    TailnetError::Answer { program: "headscale", action: action.to_owned(), problem: problem.to_string() }
}
