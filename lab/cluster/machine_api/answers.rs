//! Replies of the machine API.

use std::{fmt, net::IpAddr, time::Duration};

use jiff::{SignedDuration, Timestamp};
use tonic::transport::Channel;

use super::{
    api_error::{ApiError, limited},
    wire::machine::machine_service_client::MachineServiceClient,
};

/// The software version of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionInfo {
    /// Version tag, e.g. `v1.13.9`.
    pub tag: String,
    /// CPU architecture, e.g. `arm64`.
    pub architecture: String,
    /// Platform, e.g. `metal`.
    pub platform: String,
}

impl VersionInfo {
    pub(super) async fn ask(channel: Channel, node: IpAddr, limit: Duration) -> Result<Self, ApiError> {
        let mut client = MachineServiceClient::new(channel);
        let reply = limited(node, "report its version", limit, client.version(())).await?;
        let message = reply.messages.into_iter().next().unwrap_or_default();
        let version = message.version.unwrap_or_default();
        Ok(Self {
            tag: version.tag,
            architecture: version.arch,
            platform: message.platform.unwrap_or_default().name,
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceState {
    /// Identifier, e.g. `kubelet` or `ext-tailscale`.
    pub id: String,
    /// State in Talos terms: `Waiting`, `Preparing`, `Running`, `Finished`, `Failed`, …
    pub state: String,
    pub health: ServiceHealth,
    /// Message of the latest event: the condition that the service waits for, or the cause of its failure.
    pub message: String,
    /// Number of restarts in the event history of the node.
    pub restarts: usize,
    /// Message of the end before the last restart. Empty without a restart.
    pub last_end: String,
    /// Whether the program ends repeatedly, even if it runs now.
    pub keeps_restarting: bool,
}

/// Whether a text is the id of a service: 1 to 63 of a-z, 0-9, '.' and '-', and not only dots. Ids become parts of file
/// names and of requests.
pub(super) fn is_service_id(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte))
        && text.bytes().any(|byte| byte.is_ascii_alphanumeric())
}

/// Message of Talos's service runner when a program ended and will restart
/// (internal/app/machined/pkg/system/runner/restart).
pub(super) const RESTART: &str = "going to restart";

/// Result of a service's health check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceHealth {
    /// The service has no health check or has not run yet.
    Unknown,
    Healthy,
    Unhealthy,
}

/// One line, as in the list of `talosctl services`.
impl fmt::Display for ServiceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let health = match self.health {
            ServiceHealth::Unknown => "?",
            ServiceHealth::Healthy => "OK",
            ServiceHealth::Unhealthy => "Fail",
        };
        write!(f, "{:<24} {:<10} {health:<5} {}", self.id, self.state, self.message)?;
        if self.restarts > 0 {
            write!(f, "; restarts: {}, the last after: {}", self.restarts, self.last_end)?;
        }
        Ok(())
    }
}

impl ServiceState {
    /// Reports whether the boot sequence counts the service as up: running and not unhealthy, or finished.
    pub fn is_up(&self) -> bool {
        match self.state.as_str() {
            "Running" => self.health != ServiceHealth::Unhealthy,
            "Finished" | "Skipped" => true,
            _ => false,
        }
    }
}

/// The minimum time after an end before a service counts as settled.
const UNSETTLED: SignedDuration = SignedDuration::from_secs(30);

/// Reports whether a program is expected to end again. `ends` is sorted, oldest first. One end is ignored.
/// More ends are ignored after the program has run three times as long as between the last two ends,
/// because a service may start before its dependencies (kube-controller-manager exits when the API server
/// is not healthy within ten seconds).
pub(super) fn keeps_restarting(ends: &[Timestamp], now: Timestamp) -> bool {
    let [.., before, last] = ends else { return false };
    now.duration_since(*last) < (last.duration_since(*before) * 3).max(UNSETTLED)
}

#[derive(Clone, Debug, PartialEq)]
pub struct ProcessInfo {
    pub pid: i32,
    /// The short name of the program.
    pub command: String,
    /// The full command line.
    pub arguments: String,
    /// CPU time in seconds.
    pub cpu_seconds: f64,
    /// Resident memory in bytes.
    pub resident: u64,
}

/// The reason for a reboot. It selects the reboot mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootReason {
    /// The default path of Talos. It needs a boot loader.
    Default,
    /// A reboot through the firmware, for a node without a boot loader.
    PowerCycle,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_of_a_service_is_no_path_and_has_no_escapes() {
        assert!(["kubelet", "ext-tailscale", "cri", "a.b-1"].into_iter().all(is_service_id));
        let long = "a".repeat(64);
        for id in ["", "..", ".", "ext-../../x", "/etc/passwd", "a/b", "A", "a\n", "a\x1b[2J", "a b", &long] {
            assert!(!is_service_id(id), "{id:?}");
        }
    }

    #[test]
    fn a_service_is_one_line_with_its_last_end() {
        let service = ServiceState {
            id: "ext-tailscale".into(),
            state: "Running".into(),
            health: ServiceHealth::Unhealthy,
            message: "Started task".into(),
            restarts: 2,
            last_end: "exit status 1".into(),
            keeps_restarting: true,
        };
        let line = "ext-tailscale            Running    Fail  Started task; restarts: 2, the last after: exit status 1";
        assert_eq!(service.to_string(), line);
    }

    #[test]
    fn a_service_that_has_run_for_long_has_settled() {
        let at = |second| Timestamp::UNIX_EPOCH + SignedDuration::from_secs(second);
        let seen =
            |ends: &[i64], now| keeps_restarting(&ends.iter().copied().map(at).collect::<Vec<_>>(), at(now));
        assert!(!seen(&[], 100) && !seen(&[100], 100), "one end is forgiven");
        assert!(seen(&[95, 100], 101) && seen(&[95, 100], 129));
        assert!(!seen(&[95, 100], 130), "long enough after ends that came quickly");
        assert!(
            seen(&[60, 80, 100], 159) && !seen(&[60, 80, 100], 160),
            "thrice the time between the last two"
        );
        assert!(seen(&[95, 100], 40), "the clock was set back since");
    }
}
