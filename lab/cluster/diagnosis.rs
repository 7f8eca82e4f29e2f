//! Why a node did not make it in time: what its own API and logs say, put into one sentence.

use std::time::Duration;

use super::{cluster::Cluster, plan::NodePlan};
use crate::{
    node::NodeName,
    talos::{MaintenanceClient, NodeClient, Stage},
};

/// How long each question may take; the node may be unwell.
const PATIENCE: Duration = Duration::from_secs(10);

/// A line in a service's log and what it means.
struct Symptom {
    service: &'static str,
    all_of: &'static [&'static str],
    finding: &'static str,
}

const SYMPTOMS: &[Symptom] = &[
    Symptom {
        service: "kubelet",
        all_of: &["bootstrap", "Unauthorized"],
        finding: "the API server does not accept the node's bootstrap token: cluster.token of its machine \
                  config is not this cluster's",
    },
    Symptom {
        service: "kubelet",
        all_of: &["Unauthorized"],
        finding: "the API server does not accept kubelet's credentials: cluster.token or cluster.ca of its \
                  machine config is not this cluster's",
    },
    Symptom {
        service: "kubelet",
        all_of: &["certificate signed by unknown authority"],
        finding: "kubelet does not trust the API server: cluster.ca of the node's machine config is another \
                  cluster's",
    },
    Symptom {
        service: "apid",
        all_of: &["trustd", "nauthenticated"],
        finding: "the control plane's trustd does not accept the node's token: machine.token of its config \
                  is not this cluster's",
    },
];

impl Cluster {
    /// What can be found out about a node that is late.
    pub(super) async fn diagnose(&self, name: &NodeName) -> Vec<String> {
        let Some(node) = self.plan.node(name) else {
            return Vec::new();
        };
        match tokio::time::timeout(PATIENCE, self.connect(node)).await {
            Ok(Ok(client)) => ask_configured(&client).await,
            _ => self.ask_maintenance(node).await,
        }
    }

    async fn ask_maintenance(&self, node: &NodePlan) -> Vec<String> {
        let Some(via) = self.machine_api(&node.spec.name) else {
            return Vec::new();
        };
        let ask = async {
            let client = MaintenanceClient::connect(via, node.address.into()).await.ok()?;
            client.machine_status(PATIENCE).await.ok()
        };
        match tokio::time::timeout(PATIENCE, ask).await {
            Ok(Some(status)) if status.stage == Stage::Maintenance => {
                vec!["the node is still in maintenance mode: it has never got a machine config".into()]
            }
            _ => Vec::new(),
        }
    }
}

async fn ask_configured(client: &NodeClient) -> Vec<String> {
    let mut findings = Vec::new();
    for service in ["kubelet", "apid"] {
        let Ok(log) = client.logs(service, 200, PATIENCE).await else {
            continue;
        };
        findings.extend(finding(service, &log).map(str::to_owned));
    }
    if let Ok(services) = client.services(PATIENCE).await {
        findings.extend(
            services
                .iter()
                .filter(|service| !service.is_up())
                .map(|service| format!("service {} is {}: {}", service.id, service.state, service.message)),
        );
    }
    findings
}

/// The meaning of the first symptom in a log.
fn finding(service: &str, log: &str) -> Option<&'static str> {
    SYMPTOMS
        .iter()
        .filter(|symptom| symptom.service == service)
        .find(|symptom| log.lines().any(|line| symptom.all_of.iter().all(|word| line.contains(word))))
        .map(|symptom| symptom.finding)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_bootstrap_token_is_recognised() {
        let log = "I1 start\nE1 \"Failed to run kubelet\" err=\"failed to run Kubelet: cannot create certificate signing request: Unauthorized\"\n";
        assert!(finding("kubelet", log).expect("finding").contains("cluster.token"));
        assert_eq!(finding("apid", log), None);
        assert_eq!(finding("kubelet", "all is well"), None);
    }
}
