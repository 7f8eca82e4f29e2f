//! How long each step may take.

use std::time::Duration;

use lab_model::events::Step;
use serde::{Deserialize, Serialize};

/// Time limits per step on the reference host: 2 cores, arm64 emulated, whose bare kernel reaches
/// its first user process in 1.4 s. They are multiplied by how much slower this host is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Budgets {
    /// Until the first user process.
    pub boot: Duration,
    /// Until the maintenance service answers.
    pub maintenance: Duration,
    /// For one machine API call.
    pub call: Duration,
    /// Until the authenticated API answers after the config was applied.
    pub secure_api: Duration,
    /// Until the API server is ready after the bootstrap call.
    pub kubernetes_api: Duration,
    /// Until a node is green on all layers, once the API server is ready.
    pub ready: Duration,
    /// Until a question of what a formed cluster comes to by itself is answered right, as whether a
    /// service is reached.
    pub answer: Duration,
    /// How many times slower than the reference host this one is; at least 1.
    pub speed_factor: f64,
}

impl Default for Budgets {
    /// About four times what the reference node takes: wide enough for a busy host, short enough
    /// that a person does not wait for a dead node.
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
    /// The limit of a step on this host.
    pub fn limit(&self, step: Step) -> Duration {
        let base = match step {
            Step::Boot => self.boot,
            // Bytes to read, and a kubelet that goes on: as long as a boot.
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

    /// How long a question to a formed cluster is asked again on this host.
    pub fn patience(&self) -> Duration {
        self.on_this_host(self.answer)
    }

    /// A time on the reference host, stretched to what this host needs for the same.
    pub fn on_this_host(&self, time: Duration) -> Duration {
        time.mul_f64(self.speed_factor.max(1.0))
    }
}
