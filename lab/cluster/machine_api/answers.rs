//! What nodes tell of themselves.

use std::{net::IpAddr, time::Duration};

use jiff::{SignedDuration, Timestamp};
use tonic::transport::Channel;

use super::{
    api_error::{ApiError, limited},
    wire::machine::machine_service_client::MachineServiceClient,
};

/// What a node says of its software.
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
        let reply = limited(node, "tell its version", limit, client.version(())).await?;
        let message = reply.messages.into_iter().next().unwrap_or_default();
        let version = message.version.unwrap_or_default();
        Ok(Self {
            tag: version.tag,
            architecture: version.arch,
            platform: message.platform.unwrap_or_default().name,
        })
    }
}

/// A service of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceState {
    /// Identifier, e.g. `kubelet` or `ext-tailscale`.
    pub id: String,
    /// State as Talos names it: `Waiting`, `Preparing`, `Running`, `Finished`, `Failed`, …
    pub state: String,
    /// Outcome of its health check.
    pub health: ServiceHealth,
    /// The message of its latest event: what it waits for, or how it failed.
    pub message: String,
    /// How often it ended and was started again, as far back as the node remembers.
    pub restarts: usize,
    /// How it ended before the last restart; empty without one.
    pub last_end: String,
    /// Whether its program ends again and again, though it may be up at this moment.
    pub keeps_restarting: bool,
}

/// The words of Talos's service runner when a program ended and will be started again
/// (internal/app/machined/pkg/system/runner/restart).
pub(super) const RESTART: &str = "going to restart";

/// Outcome of a service's health check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceHealth {
    /// It has none, or it has not run yet.
    Unknown,
    /// It passes.
    Healthy,
    /// It fails.
    Unhealthy,
}

impl ServiceState {
    /// Whether the boot sequence counts it as up: running and not unhealthy, or finished its work.
    pub fn is_up(&self) -> bool {
        match self.state.as_str() {
            "Running" => self.health != ServiceHealth::Unhealthy,
            "Finished" | "Skipped" => true,
            _ => false,
        }
    }
}

/// The shortest time for which a service counts as not yet settled after an end.
const UNSETTLED: SignedDuration = SignedDuration::from_secs(30);

/// Whether a program that ended at these moments, the oldest first, is expected to end again. One end is forgiven, and so
/// are more of them once it has run for much longer than between the last two: a service may start before what it needs
/// (kube-controller-manager gives up when the API server is not healthy within ten seconds).
pub(super) fn keeps_restarting(ends: &[Timestamp], now: Timestamp) -> bool {
    let [.., before, last] = ends else { return false };
    now.duration_since(*last) < (last.duration_since(*before) * 3).max(UNSETTLED)
}

/// A process of a node.
#[derive(Clone, Debug, PartialEq)]
pub struct ProcessInfo {
    /// Process id.
    pub pid: i32,
    /// The program's short name.
    pub command: String,
    /// The whole command line.
    pub arguments: String,
    /// CPU time used, seconds.
    pub cpu_seconds: f64,
    /// Resident memory, bytes.
    pub resident: u64,
}

/// Why a node is told to boot again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootReason {
    /// Talos's default path, which needs a boot loader.
    Default,
    /// Through the firmware: what a node without a boot loader needs.
    PowerCycle,
}

#[cfg(test)]
mod tests {
    use super::*;

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
