//! Services of a node that do not recover by themselves.

use std::{
    fmt,
    time::{Duration, Instant},
};

use lab_model::{redact, visible};

use crate::machine_api::{NodeClient, ServiceState};

/// The state of a service that Talos does not start again by itself.
const FAILED: &str = "Failed";
/// A service can be in this state for a moment while its controller replaces it.
const LASTS: Duration = Duration::from_secs(5);
/// Number of restarts after which a service that ends again and again counts as failed.
const RESTARTS: usize = 10;
/// Number of lines from the end of the service's log.
const LINES: usize = 6;
/// Maximum length of a line.
const LINE: usize = 300;
/// Time limit for the log.
const PATIENCE: Duration = Duration::from_secs(10);

/// A service in its final state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinalService {
    /// Service ID, e.g. `kubelet` or `ext-tailscale`.
    pub service: String,
    /// What the node says about its end.
    pub end: String,
    /// The last lines of its log. Empty if the node has no log of this service.
    pub log: Vec<String>,
}

/// Finds a service in its final state, over several looks at the same node.
#[derive(Debug, Default)]
pub(super) struct FinalServices {
    /// The failed service that was seen first, its message, and when.
    failed: Option<(String, String, Instant)>,
}

impl FinalServices {
    /// Returns a service that does not recover.
    pub(super) fn look(&mut self, services: &[ServiceState], now: Instant) -> Option<FinalService> {
        let of = |service: &ServiceState, end: String| FinalService {
            service: service.id.clone(),
            end,
            log: Vec::new(),
        };
        if let Some(service) =
            services.iter().find(|service| service.keeps_restarting && service.restarts >= RESTARTS)
        {
            let end = format!("ended and was restarted {} times; {}", service.restarts, service.last_end);
            return Some(of(service, end));
        }
        let Some(service) = services.iter().find(|service| service.state == FAILED) else {
            self.failed = None;
            return None;
        };
        match &self.failed {
            Some((id, message, since)) if *id == service.id && *message == service.message => {
                (now.duration_since(*since) >= LASTS)
                    .then(|| of(service, format!("has failed: {}", service.message)))
            }
            _ => {
                self.failed = Some((service.id.clone(), service.message.clone(), now));
                None
            }
        }
    }
}

impl FinalService {
    /// Adds the end of the service's log.
    pub(super) async fn with_log(mut self, client: &NodeClient) -> Self {
        let lines = i32::try_from(LINES * 4).unwrap_or(i32::MAX);
        let log = client.logs(&self.service, lines, PATIENCE).await.unwrap_or_default();
        self.log = last_lines(&log);
        self
    }
}

/// The last lines of a log that are not empty, without keys and control characters.
fn last_lines(log: &str) -> Vec<String> {
    let lines: Vec<_> = log.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(LINES)..];
    let clean = |line: &&str| {
        let short: String = redact(line).chars().take(LINE).collect();
        visible(&short, usize::MAX)
    };
    last.iter().map(clean).collect()
}

impl fmt::Display for FinalService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "service {} {}", self.service, self.end)?;
        if self.log.is_empty() {
            return f.write_str("; the node has no log of this service");
        }
        write!(f, "; its log ends with: {}", self.log.join(" / "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine_api::ServiceHealth;

    fn service(id: &str, state: &str, restarts: usize) -> ServiceState {
        ServiceState {
            id: id.into(),
            state: state.into(),
            health: ServiceHealth::Unknown,
            message: "mkdir tmpfs: read-only file system".into(),
            restarts,
            last_end: "Error running Process: exit status 1, going to restart forever".into(),
            keeps_restarting: restarts > 1,
        }
    }

    #[test]
    fn a_failed_service_is_final_when_it_stays_so() {
        let (mut looks, began) = (FinalServices::default(), Instant::now());
        let failed = [service("kubelet", "Running", 0), service("ext-tailscale", "Failed", 0)];
        assert_eq!(looks.look(&failed, began), None);
        let found = looks.look(&failed, began + LASTS).expect("final");
        assert_eq!(found.service, "ext-tailscale");
        assert!(found.to_string().contains("mkdir tmpfs: read-only file system"), "{found}");
    }

    #[test]
    fn a_service_that_recovers_is_not_final() {
        let (mut looks, began) = (FinalServices::default(), Instant::now());
        let failed = [service("ext-tailscale", "Failed", 0)];
        assert_eq!(looks.look(&failed, began), None);
        assert_eq!(looks.look(&[service("ext-tailscale", "Running", 0)], began + LASTS / 2), None);
        assert_eq!(looks.look(&failed, began + LASTS), None, "it failed again");
    }

    #[test]
    fn a_program_that_ends_again_and_again_is_final_beyond_a_bound() {
        let mut looks = FinalServices::default();
        assert_eq!(looks.look(&[service("kubelet", "Running", RESTARTS - 1)], Instant::now()), None);
        let found = looks.look(&[service("kubelet", "Running", RESTARTS)], Instant::now()).expect("final");
        assert!(found.end.starts_with("ended and was restarted 10 times"), "{found}");
        let settled = ServiceState { keeps_restarting: false, ..service("kubelet", "Running", 23) };
        assert_eq!(looks.look(&[settled], Instant::now()), None);
    }

    #[test]
    fn the_end_of_a_log_is_short_and_has_no_control_characters() {
        let log: String = (0..40).map(|n| format!("line {n} \u{1b}[31mred\n\n")).collect();
        let last = last_lines(&log);
        assert_eq!(last.len(), LINES);
        assert!(last[LINES - 1].starts_with("line 39 \\u{1b}[31m"), "{last:?}");
        let long = last_lines(&"x".repeat(10_000));
        assert_eq!(long[0].len(), LINE);
    }
}
