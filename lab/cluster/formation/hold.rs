//! A boot sequence that waits for the configuration of an extension service.
//!
//! According to the source of Talos v1.11.5 and v1.13.9, the boot sequence waits for such a service, but
//! kubelet does not. Kubernetes reports the node as Ready, and the machine stays in stage `booting`. The
//! node reboots each time `startAllServices` has waited 70 minutes.

use std::{fmt, time::Duration};

use serde::Serialize;

use crate::machine_api::{MachineStatus, ServiceState, Stage};

/// Message of a service that waits for its ExtensionServiceConfig document (machinery, resources/runtime,
/// `ExtensionServiceConfigStatusCondition`).
const UNCONFIGURED: &str = "extension service config";

/// The cause of a boot that is held up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hold {
    /// Service ID, `ext-NAME`.
    pub service: String,
    /// The wait message of the service.
    pub message: String,
    /// Whether Kubernetes reports the node as Ready.
    pub kubernetes_ready: bool,
    /// Total wait time of the boot sequence before the node reboots.
    pub boot_timeout: Duration,
}

impl Hold {
    /// Finds the service that holds up the boot: the machine is booting, only extension services are not
    /// up, and one of them waits for its document.
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

    /// Returns the name of the ExtensionServiceConfig document that releases the boot.
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
