//! The login of the outside client with the official `tailscale up`, and hints for failed logins.

use std::{fs, path::Path, process::Stdio, sync::PoisonError, time::Duration};

use ipnet::IpNet;
use lab_plan::tailnet::AuthKey;

use super::{
    super::{
        ClientStatus, TailnetError,
        daemon::{command, redacted, tail},
    },
    OutsideClient, PATIENCE,
};

/// Additional time for `tailscale up` to exit after its own time limit.
const GRACE: Duration = Duration::from_secs(15);

impl OutsideClient {
    /// Logs in with `key` and waits until the client runs. If the control server is down, the client
    /// retries until `patience` expires.
    ///
    /// After a rejected key, the daemon continues to try that key, and its errors would be attributed to
    /// the next key. Start another client for another key.
    ///
    /// # Errors
    /// When the key is rejected or the control server does not respond in time. The error distinguishes the
    /// two cases.
    pub async fn log_in(&self, key: &AuthKey, patience: Duration) -> Result<ClientStatus, TailnetError> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).push(key.clone());
        let key_file = self.private.path().join("auth.key");
        let _ = fs::remove_file(&key_file);
        key.write_new(&key_file)?;
        let keys = self.keys();
        let outcome = tokio::select! {
            outcome = self.up(&key_file, patience) => outcome,
            ended = self.daemon.ended(&keys) => return Err(ended),
        };
        let _ = fs::remove_file(&key_file);
        match outcome {
            Ok(()) => self.wait_for("a running state", PATIENCE, ClientStatus::is_running).await,
            Err(reason) => {
                let reason = redacted(reason, &keys);
                let hint = login_hint(&reason);
                let client = self.spec.hostname.clone();
                Err(TailnetError::Login { client, server: self.access.url.clone(), reason, hint })
            }
        }
    }

    /// Runs `tailscale up`. The error contains its output and the health warnings of the daemon.
    async fn up(&self, key_file: &Path, patience: Duration) -> Result<(), String> {
        let mut command = command(&self.programs.tailscale(), self.private.path());
        command
            .arg(format!("--socket={}", self.private.path().join("tailscaled.sock").display()))
            .args(["up", "--reset", "--accept-dns=false"])
            .arg(format!("--login-server={}", self.access.url))
            .arg(format!("--hostname={}", self.spec.hostname))
            .arg(format!("--auth-key=file:{}", key_file.display()))
            .arg(format!("--timeout={}ms", patience.as_millis()))
            .arg(format!("--accept-routes={}", self.spec.accept_routes))
            // In user-space mode, tailscaled passes connections from the tailnet on to this host's loopback, whose ports
            // are not for guests: a gateway node is in the tailnet.
            .arg(format!("--shields-up={}", self.spec.advertise_routes.is_empty()))
            .stdin(Stdio::null());
        if !self.spec.advertise_routes.is_empty() {
            let routes: Vec<_> = self.spec.advertise_routes.iter().map(IpNet::to_string).collect();
            command.arg(format!("--advertise-routes={}", routes.join(",")));
        }
        // Does not use `Processes`, because the command has its own time limit and exits with the daemon.
        let mut command = tokio::process::Command::from(command);
        let output = tokio::time::timeout(patience + GRACE, command.kill_on_drop(true).output()).await;
        let output = output
            .map_err(|_| "tailscale up exceeded its time limit".to_owned())?
            .map_err(|error| format!("tailscale cannot be run: {error}"))?;
        if output.status.success() {
            return Ok(());
        }
        let said = tail(&String::from_utf8_lossy(&output.stderr));
        let status = self.api.status().await.unwrap_or_default();
        let health = status.health.join(" / ");
        let health = if health.is_empty() { "nothing amiss" } else { &health };
        Err(format!("{said} (state {}, health: {health})", status.backend_state))
    }
}

/// Reports whether the login failed because the control server rejected the key.
fn refused_key(reason: &str) -> bool {
    // Messages of headscale v0.27 (hscontrol/auth.go, types/preauth_key.go) and of Tailscale's own control
    // server.
    const REFUSALS: [&str; 7] = [
        "invalid pre auth key",
        "invalid authkey",
        "authkey expired",
        "authkey already used",
        "authkey not found",
        "invalid key",
        "AuthKey not found",
    ];
    REFUSALS.iter().any(|text| reason.contains(text))
}

fn login_hint(reason: &str) -> &'static str {
    if reason.contains("expired") {
        "the key has expired: create a new one"
    } else if reason.contains("already used") {
        "the key was for one node and is used up: create a new one, or a reusable one"
    } else if refused_key(reason) {
        "the control server does not know this key: check that it was created there and copied completely"
    } else if ["connection refused", "timeout", "no such host", "i/o"].iter().any(|t| reason.contains(t)) {
        "the control server did not answer: check that it runs and that its address is right from here"
    } else {
        "see the client's log and the control server's"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hint_names_the_cause() {
        assert!(login_hint("register request: http 401: authkey expired").contains("new one"));
        assert!(login_hint("http 401: invalid pre auth key").contains("does not know"));
        assert!(login_hint("dial tcp 127.0.0.1:1: connect: connection refused").contains("did not answer"));
    }
}
