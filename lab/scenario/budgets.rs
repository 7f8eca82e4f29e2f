//! How long each step may take.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::events::Step;
use crate::host::SpeedFactor;

/// Deadlines of steps, for the reference host; every use multiplies them by the speed factor of
/// the host at hand.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Budgets {
    seconds: BTreeMap<Step, f64>,
}

impl Budgets {
    /// The longest budget that a scenario may give.
    pub const LONGEST: Duration = Duration::from_secs(24 * 3600);

    /// Sets the budget of a step. Returns whether it is one: a positive time up to
    /// [`Budgets::LONGEST`].
    pub fn set(&mut self, step: Step, seconds: f64) -> bool {
        let sane = seconds > 0.0 && seconds <= Self::LONGEST.as_secs_f64();
        if sane {
            self.seconds.insert(step, seconds);
        }
        sane
    }

    /// The budget of a step on the reference host.
    pub fn reference(&self, step: Step) -> Duration {
        self.seconds.get(&step).map_or_else(|| default(step), |s| Duration::from_secs_f64(*s))
    }

    /// The budget of a step on a host of this speed.
    pub fn on(&self, host: SpeedFactor, step: Step) -> Duration {
        host.budget(self.reference(step))
    }
}

/// Budgets of a step that a scenario does not mention: about three times what a cluster of three
/// reference nodes takes on the reference host (45 s from power-on to all Ready), so that a slow
/// moment is not a failure and a hang is found in minutes.
const fn default(step: Step) -> Duration {
    Duration::from_secs(match step {
        Step::Prepare => 60,
        Step::Boot => 30,
        Step::Maintenance => 45,
        Step::ApplyConfig => 30,
        Step::SecureApi => 60,
        Step::Bootstrap => 60,
        Step::Kubeconfig => 30,
        Step::KubernetesApi => 120,
        Step::Ready => 180,
        Step::Teardown => 30,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_the_scenarios_or_the_default_times_the_hosts_factor() {
        let mut budgets = Budgets::default();
        assert!(budgets.set(Step::Boot, 5.0));
        for nonsense in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e12] {
            assert!(!budgets.set(Step::Ready, nonsense));
        }
        assert_eq!(budgets.on(SpeedFactor::new(2.0), Step::Boot), Duration::from_secs(10));
        assert_eq!(budgets.reference(Step::Ready), Duration::from_secs(180));
    }
}
