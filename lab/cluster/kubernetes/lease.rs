//! The leases of the scheduler and the controller manager, which elect a leader: a component that renews its lease
//! works. Each renews it every two seconds by default.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;

use super::{
    access::{KubernetesApi, KubernetesError, answered},
    system::CONTROLLERS,
};

const NAMESPACE: &str = "kube-system";
/// The time of the last renewal of each lease, as text, by the name of the component.
pub type Renewals = BTreeMap<&'static str, String>;

impl KubernetesApi {
    /// Returns the renewals of the components that elect a leader. Components without an election are absent.
    ///
    /// # Errors
    /// When the API server does not answer within `limit`.
    pub async fn renewals(&self, limit: Duration) -> Result<Renewals, KubernetesError> {
        let leases: Api<Lease> = Api::namespaced(self.client(), NAMESPACE);
        let mut found = Renewals::new();
        for name in CONTROLLERS {
            let action = format!("get lease {NAMESPACE}/{name}");
            let lease = answered(action, limit, leases.get_opt(name)).await?;
            let renewed = lease.and_then(|lease| lease.spec?.renew_time);
            found.extend(renewed.map(|time| (name, format!("{:?}", time.0))));
        }
        Ok(found)
    }
}

/// Names the components that have not renewed their lease since the first look.
pub fn not_renewed(first: &Renewals, now: &Renewals) -> Vec<&'static str> {
    first.iter().filter(|(name, time)| now.get(*name) == Some(*time)).map(|(name, _)| *name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_works_when_it_renews_its_lease() {
        let at = |scheduler: &str, manager: &str| {
            Renewals::from([(CONTROLLERS[0], scheduler.to_owned()), (CONTROLLERS[1], manager.to_owned())])
        };
        let first = at("1", "1");
        assert_eq!(not_renewed(&first, &at("1", "2")), ["kube-scheduler"]);
        assert_eq!(not_renewed(&first, &at("2", "2")), [""; 0]);
        assert_eq!(
            not_renewed(&Renewals::new(), &at("1", "1")),
            [""; 0],
            "without an election nothing is renewed"
        );
    }
}
