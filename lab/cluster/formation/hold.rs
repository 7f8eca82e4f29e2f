//! A boot sequence that is held up by an extension service without its configuration.
//!
//! By the source of Talos v1.11.5 and v1.13.9 it is the boot sequence that waits for such a service, not
//! kubelet: Kubernetes calls the node Ready all the same, the machine stays in stage `booting`, and
//! when `startAllServices` has waited 70 minutes the node reboots, for ever.

use std::{fmt, time::Duration};

use serde::Serialize;

use crate::machine_api::{MachineStatus, ServiceState, Stage};

/// The words of a service that waits for its ExtensionServiceConfig document (machinery,
/// resources/runtime, `ExtensionServiceConfigStatusCondition`).
const UNCONFIGURED: &str = "extension service config";

/// What holds a node's boot up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hold {
    /// The service, `ext-NAME`.
    pub service: String,
    /// What it says that it waits for.
    pub message: String,
    /// Kubernetes calls the node Ready nevertheless.
    pub kubernetes_ready: bool,
    /// How long the boot sequence waits in all before the node reboots.
    pub boot_timeout: Duration,
}

impl Hold {
    /// The service that holds the boot up: the machine boots, and of all services only extension
    /// services are not up, one of them for want of its document.
    pub(super) fn find(
        machine: &MachineStatus,
        services: &[ServiceState],
        kubernetes_ready: bool,
        boot_timeout: Duration,
    ) -> Option<Self> {
        let mut down = services.iter().filter(|service| !service.is_up()).peekable();
        down.peek()?;
        if machine.stage != Stage::Booting || !down.clone().all(|service| service.id.starts_with("ext-")) {
            return None;
        }
        let service = down.find(|service| {
            service.state == "Waiting"
                && service.message.strip_prefix("Waiting for ").is_some_and(|rest| rest == UNCONFIGURED)
        })?;
        Some(Self {
            service: service.id.clone(),
            message: service.message.clone(),
            kubernetes_ready,
            boot_timeout,
        })
    }

    /// The name of the ExtensionServiceConfig document that releases the boot.
    pub fn document_name(&self) -> &str {
        self.service.strip_prefix("ext-").unwrap_or(&self.service)
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the boot sequence is held up: {} says \"{}\"; Kubernetes calls the node {}, and it will reboot when \
             the boot sequence has waited {} s; apply a document `kind: ExtensionServiceConfig` with `name: {}` \
             to release it",
            self.service,
            self.message,
            if self.kubernetes_ready { "Ready all the same" } else { "not Ready" },
            self.boot_timeout.as_secs(),
            self.document_name(),
        )
    }
}

#[cfg(test)]
mod tests {
    use lab_plan::cluster::BOOT_TIMEOUT;

    use super::*;
    use crate::machine_api::ServiceHealth;

    fn machine(stage: &str) -> MachineStatus {
        serde_json::from_value(serde_json::json!({ "stage": stage, "status": { "ready": true } }))
            .expect("status")
    }

    fn service(id: &str, state: &str, message: &str) -> ServiceState {
        ServiceState {
            id: id.into(),
            state: state.into(),
            health: ServiceHealth::Unknown,
            message: message.into(),
            restarts: 0,
            keeps_restarting: false,
            last_end: String::new(),
        }
    }

    fn waiting() -> [ServiceState; 2] {
        [
            service("kubelet", "Running", "Health check successful"),
            service("ext-tailscale", "Waiting", "Waiting for extension service config"),
        ]
    }

    #[test]
    fn an_unconfigured_extension_is_named_with_what_releases_it() {
        let hold = Hold::find(&machine("booting"), &waiting(), true, BOOT_TIMEOUT).expect("held");
        insta::assert_snapshot!(hold, @r#"the boot sequence is held up: ext-tailscale says "Waiting for extension service config"; Kubernetes calls the node Ready all the same, and it will reboot when the boot sequence has waited 4200 s; apply a document `kind: ExtensionServiceConfig` with `name: tailscale` to release it"#);
    }

    #[test]
    fn a_boot_that_is_still_under_way_is_not_held_up() {
        let find =
            |stage, services: &[ServiceState]| Hold::find(&machine(stage), services, true, BOOT_TIMEOUT);
        assert_eq!(find("running", &waiting()), None);
        assert_eq!(find("booting", &waiting()[..1]), None);
        assert_eq!(find("booting", &[]), None);
        let mut services = waiting();
        services[0].state = "Preparing".into();
        assert_eq!(find("booting", &services), None);
        let other = service(
            "ext-tailscale",
            "Waiting",
            "Waiting for service \"cri\" to be \"up\", extension service config",
        );
        assert_eq!(find("booting", &[other]), None);
    }
}
