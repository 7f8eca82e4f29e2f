//! Time limits of each step.

use std::time::Duration;

use lab_model::events::Step;
use serde::{Deserialize, Serialize};

/// Time limits per step on the reference host: 2 cores, arm64 emulated. Its bare kernel reaches the first
/// user process in 1.4 s. The lab multiplies the limits by the slowdown of the host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Budgets {
    /// Until the first user process.
    pub boot: Duration,
    /// Until the maintenance service answers.
    pub maintenance: Duration,
    /// For one machine API call.
    pub call: Duration,
    /// From the config upload until the authenticated API answers.
    pub secure_api: Duration,
    /// From the bootstrap call until the API server is ready.
    pub kubernetes_api: Duration,
    /// From a ready API server until a node is green on all layers.
    pub ready: Duration,
    /// Until a formed cluster reaches an expected state without intervention, e.g. until a service is
    /// reachable.
    pub answer: Duration,
    /// Slowdown relative to the reference host; at least 1.
    pub speed_factor: f64,
}

impl Default for Budgets {
    /// About four times the duration on the reference node: long enough for a busy host, and short enough
    /// to avoid a long wait for a dead node.
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            boot: seconds(40),
            maintenance: seconds(60),
            call: seconds(30),
            secure_api: seconds(90),
            kubernetes_api: seconds(150),
            ready: seconds(180),
            answer: seconds(60),
            speed_factor: 1.0,
        }
    }
}

impl Budgets {
    /// Returns the limit of a step on this host.
    pub fn limit(&self, step: Step) -> Duration {
        let base = match step {
            Step::Boot => self.boot,
            // The node reads bytes and kubelet resumes. This takes as long as a boot.
            Step::Restore => self.boot,
            Step::Maintenance => self.maintenance,
            Step::SecureApi => self.secure_api,
            Step::KubernetesApi => self.kubernetes_api,
            Step::NetworkPlugin | Step::Ready => self.ready,
            Step::Prepare | Step::ApplyConfig | Step::Bootstrap | Step::Kubeconfig | Step::Teardown => {
                self.call
            }
        };
        self.on_this_host(base)
    }

    /// Returns the retry time for queries to a formed cluster on this host.
    pub fn patience(&self) -> Duration {
        self.on_this_host(self.answer)
    }

    /// Scales a duration on the reference host to this host.
    pub fn on_this_host(&self, time: Duration) -> Duration {
        time.mul_f64(self.speed_factor.max(1.0))
    }
}
